"""Looking at a study that is under way, and bringing together what several machines did of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from foveate.cli.words import Json, console, print_json

study = typer.Typer(
    no_args_is_help=True, rich_markup_mode="markdown", help="A study's folder: how far it is, going on, merging."
)


@study.command()
def status(
    folder: Annotated[Path, typer.Argument(help="The study's folder, as `--out` named it.")] = Path("foveate-compare"),
    as_json: Json = False,
) -> None:
    """Say how far a study is: what is finished, under way, cut off, failed and left, and for how long.

    Nothing is changed, and whoever works on it is not disturbed.

    Example: `foveate study status foveate-compare`
    """
    from foveate.study.status import status as status_of

    _print(status_of(folder), as_json)


@study.command()
def resume(
    folder: Annotated[Path, typer.Argument(help="The study's folder, as `--out` named it.")] = Path("foveate-compare"),
    on: Annotated[
        str | None, typer.Option(help="Where runs are carried out: `here`, `3 processes`, `ray`; as before by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Go on with a study as it was asked for; where all runs are finished, make its table and report again.

    Example: `foveate study resume foveate-compare`
    """
    from foveate.cli.comparing import shown
    from foveate.study.compare import Means
    from foveate.study.compare import resume as go_on

    means = None if on is None else Means(on=on)
    shown(lambda progress: go_on(folder, means=means, progress=progress), as_json=as_json)


@study.command()
def merge(
    folders: Annotated[list[Path], typer.Argument(help="Folders with runs of one study.")],
    into: Annotated[Path, typer.Option("--into", help="Where they come together: a new folder, or one of the same.")],
    as_json: Json = False,
) -> None:
    """Bring together the runs of one study that several machines carried out.

    The folders must hold the same study: the same arms, seeds, data, settings, versions and sources. The machines
    themselves may differ, which is said. A run with two results is refused. Nothing is written before all was compared.

    Example: `foveate study merge from-here from-there --into together`
    """
    from foveate.study.merging import merge as merge_all

    _print(merge_all(folders, into), as_json)


def _print(result: Any, as_json: bool) -> None:
    if as_json:
        print_json(result.as_dict())
        return
    told = console()
    for line in result.lines():
        told.print(line, highlight=False, markup=False, soft_wrap=True)
