"""Listing the catalogue."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from foveate.cli.showing import described
from foveate.cli.words import Json, console, print_json, shape_of
from foveate.errors import check_choice
from foveate.registry import KINDS, get, names


def list_(
    kind: Annotated[str | None, typer.Option(help="Only of this kind: `channel`, `spatial`, `hybrid`, ...")] = None,
    since: Annotated[int | None, typer.Option(help="Only published in this year or later.")] = None,
    until: Annotated[int | None, typer.Option(help="Only published in this year or earlier.")] = None,
    shape: Annotated[str, typer.Option(help="The feature map to count the cost at.")] = "256x14x14",
    max_parameters: Annotated[int | None, typer.Option(help="Only with at most so many parameters there.")] = None,
    max_macs: Annotated[int | None, typer.Option(help="Only with at most so many multiply-accumulates there.")] = None,
    any_size: Annotated[
        bool, typer.Option("--any-size", help="Only what is not tied to the height and width it was made for.")
    ] = False,
    any_channels: Annotated[
        bool, typer.Option("--any-channels", help="Only what works with every number of channels.")
    ] = False,
    exports: Annotated[str | None, typer.Option(help="Only what can be exported so: `onnx`, `torch`.")] = None,
    as_json: Json = False,
) -> None:
    """List the catalogue, by kind; all of it, or what options leave of it. `foveate show NAME` says more of one.

    Examples: `foveate list` · `foveate list --kind spatial --since 2021` · `foveate list --max-parameters 1000`
    """
    from foveate.measure.survey import survey

    if kind is not None:
        check_choice("--kind", kind, KINDS)
    if exports is not None:
        check_choice("--exports", exports, ("onnx", "torch"))
    channels, *size = shape_of(shape)
    found: list[dict[str, Any]] = []
    for name in names():
        entry = survey(name, channels, (size[0], size[1]))
        card = get(name).card
        if (
            (kind is not None and entry.kind != kind)
            or (since is not None and card.paper.year < since)
            or (until is not None and card.paper.year > until)
            or (max_parameters is not None and (entry.parameters is None or entry.parameters > max_parameters))
            or (max_macs is not None and (entry.macs is None or entry.macs > max_macs))
            or (any_size and entry.tied)
            or (any_channels and entry.fewest != 1)
            or (exports is not None and exports not in entry.exports)
        ):
            continue
        found.append({**described(get(name)), "year": card.paper.year, **entry.as_dict()})
    found.sort(key=lambda row: (KINDS.index(row["kind"]), row["name"]))
    if as_json:
        print_json(found)
        return
    table = Table(box=None, pad_edge=False)
    for column in ("kind", "name", "title", "paper"):
        table.add_column(column, overflow="fold")
    for column in ("parameters", "MACs"):
        table.add_column(column, justify="right")
    table.add_column("needs", overflow="fold")
    for row in found:
        known_as = row["name"] + "".join(f" ({alias})" for alias in row["aliases"])
        numbers = ("–" if row[key] is None else f"{row[key]:,}" for key in ("parameters", "macs"))
        table.add_row(row["kind"], known_as, row["title"], row["paper"]["venue"], *numbers, row["needs"])
    console().print(table)
    console().print(f"{len(found)} of {len(names())} mechanisms; cost on {shape.replace('x', '×')}", highlight=False)
