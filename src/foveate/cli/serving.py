"""Serving the page on which attention can be seen."""

from __future__ import annotations

import signal
from pathlib import Path
from threading import Event
from typing import Annotated

import typer

from foveate.cli.words import INTERRUPTED, stop


def app(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where it is served.")] = 7860,
    host_address: Annotated[
        str, typer.Option(help="To whom: `127.0.0.1` is this machine alone, `0.0.0.0` everybody who reaches it.")
    ] = "127.0.0.1",
    checkpoints: Annotated[
        Path | None, typer.Option(help="A folder of runs of `foveate train` that may be chosen.")
    ] = None,
    studies: Annotated[
        Path | None, typer.Option(help="A folder of studies of `foveate compare` whose reports may be opened.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="A folder of pictures that may be picked.")] = None,
    hosts: Annotated[
        str | None, typer.Option(help="The networks that may be chosen, between commas, instead of the usual ones.")
    ] = None,
) -> None:
    """Open a page in the browser: a picture, a network, its attention's maps, what they cost, how far to trust them.

    Nothing is downloaded and nothing is told to anybody. Ctrl-C ends it, and removes what was sent to it.

    Example: `foveate app --checkpoints runs --studies foveate-compare`
    """
    typer.echo("starting the page takes some seconds", err=True)
    from foveate.app.serving import serving, warning_of

    warning = warning_of(host_address)
    if warning is not None:
        typer.echo(f"warning: {warning}", err=True)
    names = None if hosts is None else tuple(one.strip() for one in hosts.split(",") if one.strip())
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was sent is removed then, too
    with serving(
        port=port, address=host_address, checkpoints=checkpoints, studies=studies, images=images, hosts=names
    ) as site:
        typer.echo(f"open {site.url} in a browser; Ctrl-C ends it")
        try:
            Event().wait()
        except KeyboardInterrupt:
            stop("the page was closed, and what was sent to it removed", INTERRUPTED)
