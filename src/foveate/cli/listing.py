"""Listing the catalogue."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.measure import Measurement
from rich.table import Table

from foveate.cli.showing import described
from foveate.cli.words import ELEMENTWISE, MAP, Json, console, count_of, instead_of, print_json, shape_of
from foveate.errors import OptionError, check_choice
from foveate.registry import KINDS, PROTOCOLS, get, names


def list_(
    kind: Annotated[str | None, typer.Option(help="Only of this kind: `channel`, `spatial`, `hybrid`, ...")] = None,
    protocol: Annotated[
        str | None, typer.Option(help="Only of this protocol: `attention`, `fusion` or `replacement`.")
    ] = None,
    since: Annotated[int | None, typer.Option(help="Only published in this year or later.")] = None,
    until: Annotated[int | None, typer.Option(help="Only published in this year or earlier.")] = None,
    shape: Annotated[str, typer.Option(help="The feature map to count the cost at.")] = MAP,
    max_parameters: Annotated[
        str | None, typer.Option(help="Only with at most so many parameters there, as `10000` or `10k`.")
    ] = None,
    max_macs: Annotated[
        str | None, typer.Option(help="Only with at most so many multiply-accumulates there, as `1M` or `1e6`.")
    ] = None,
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

    An `attention` stands beside a layer and keeps the shape of its map, a `fusion` takes two maps, a `replacement`
    stands in a convolution's place.

    Examples: `foveate list` · `foveate list --kind hybrid --since 2021` · `foveate list --max-parameters 1000`
    """
    from foveate.measure.survey import survey

    if kind is not None:
        kind = kind.lower()
        check_choice("--kind", kind, KINDS)
    if protocol is not None:
        protocol = protocol.lower()
        check_choice("--protocol", protocol, PROTOCOLS)
    if exports is not None:
        exports = exports.lower()
        check_choice("--exports", exports, ("onnx", "torch"))
    if since is not None and until is not None and since > until:
        raise OptionError(f"no year is {since} or later and {until} or earlier: --since is after --until")
    most, most_macs = count_of("--max-parameters", max_parameters), count_of("--max-macs", max_macs)
    channels, *size = shape_of(shape)
    found: list[dict[str, Any]] = []
    for name in names():
        entry = survey(name, channels, (size[0], size[1]))
        card = get(name).card
        if (
            (kind is not None and entry.kind != kind)
            or (protocol is not None and get(name).protocol != protocol)
            or (since is not None and card.paper.year < since)
            or (until is not None and card.paper.year > until)
            or (most is not None and (entry.parameters is None or entry.parameters > most))
            or (most_macs is not None and (entry.macs is None or entry.macs > most_macs))
            or (any_size and entry.tied)
            or (any_channels and entry.needs_channels)
            or (exports is not None and exports not in entry.exports)
        ):
            continue
        found.append({**described(get(name)), "year": card.paper.year, **entry.as_dict()})
    found.sort(key=lambda row: (KINDS.index(row["kind"]), row["name"]))
    if as_json:
        print_json(found)
        return
    out = console(whole=True)
    if not found:
        out.print(f"none of {len(names())} mechanisms is left by these options", highlight=False)
        return
    columns = ["kind", "protocol", "name", "aliases", "title", "paper", "parameters", "MACs", "needs"]
    dropped: list[str] = []
    table = _table(found, columns)
    for column in ("title", "paper", "aliases", "needs"):  # what a narrow terminal leaves out first
        if Measurement.get(out, out.options.update(max_width=10_000), table).maximum <= out.width:
            break
        dropped.append(column)
        table = _table(found, [one for one in columns if one not in dropped])
    out.print(table)
    sides = (size[0], size[1])
    of = f"{len(found)} of {len(names())} mechanisms; cost on {channels}×{size[0]}×{size[1]}. {ELEMENTWISE}."
    if any(row["protocol"] == "replacement" for row in found):
        of += f" A replacement stands {instead_of(channels, sides)}."
    if dropped:
        of += f" A wider terminal, or a pipe, shows {', '.join(dropped)} too."
    out.print(of, highlight=False, markup=False)


def _table(rows: list[dict[str, Any]], columns: list[str]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=True, justify="right" if column in ("parameters", "MACs") else "left")
    for row in rows:
        cells = {
            **{key: row[key] for key in ("kind", "protocol", "name", "title", "needs")},
            "aliases": ", ".join(row["aliases"]),
            "paper": row["paper"]["venue"],
            "parameters": "–" if row["parameters"] is None else f"{row['parameters']:,}",
            "MACs": "–" if row["macs"] is None else f"{row['macs']:,}",
        }
        table.add_row(*(cells[column] for column in columns))
    return table
