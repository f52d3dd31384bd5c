"""Choosing by cost."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from foveate.cli.words import ELEMENTWISE, Json, check_map, console, instead_of, print_json
from foveate.errors import OptionError
from foveate.registry import get, parse_list

if TYPE_CHECKING:
    from foveate.measure.choose import Candidate, Choice

_SHOWN = 10  # of those beyond the budget
_QUANTITIES = ("parameters", "macs", "bytes", "latency", "memory")


def choose(
    channels: Annotated[int, typer.Option(help="Channels of the feature map.")],
    size: Annotated[str, typer.Option(help="Its height and width, as `14` or `14x20`.")],
    budget: Annotated[str, typer.Option(help="The largest share of a residual block's cost, as `1%` or `0.01`.")],
    by: Annotated[
        str, typer.Option(help="What is limited: `latency`, `parameters`, `macs`, `bytes` or `memory`.")
    ] = "latency",
    mechanisms: Annotated[
        str | None, typer.Option(help="What to choose from, between commas; by default all of the catalogue.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Choose by cost: which mechanisms stay within a budget on a feature map, measured here and now.

    The budget is a share of what a residual bottleneck block of as many channels costs on the same map. What attention
    would bring is not promised: `foveate compare` measures that.

    Example: `foveate choose --channels 256 --size 14 --budget 5% --by parameters`
    """
    from foveate.measure.choose import choose as run_choice

    sides, share = _sides(size), _share(budget)
    check_map(f"{channels}x{size}", channels, *sides)
    errors = Console(stderr=True)
    with errors.status("measuring") as status:
        chosen = run_choice(
            channels,
            sides,
            share,
            by=by,  # type: ignore[arg-type]
            mechanisms=None if mechanisms is None else parse_list(mechanisms),
            tell=lambda name: status.update(f"measuring {name}"),
        )
    if as_json:
        print_json(chosen.as_dict())
        return
    out = console(whole=True)
    where = f"{channels}×{chosen.size[0]}×{chosen.size[1]}"
    if chosen.fitting:
        out.print(_table(f"within the budget: {len(chosen.fitting)}", chosen.fitting))
    else:
        out.print(f"within the budget: none{_smallest(chosen)}", highlight=False, markup=False)
    if chosen.dearer:
        shown = chosen.dearer[:_SHOWN]
        of = f" of {len(chosen.dearer)}" if len(chosen.dearer) > len(shown) else ""
        out.print(_table(f"beyond it, the cheapest: {len(shown)}{of}", shown))
    for spec, reason in chosen.refused.items():
        out.print(f"not for this map: {spec}: {reason}", highlight=False, markup=False)
    here = chosen.conditions
    if any(get(row.spec.name).protocol == "replacement" for row in (*chosen.fitting, *chosen.dearer)):
        out.print(f"(replacement: {instead_of(channels, chosen.size)})", highlight=False, markup=False)
    out.print(
        f"(shares of {chosen.block} on {where}; budget {chosen.budget:.2%} of its {chosen.by}; one image, "
        f"{here.dtype}, {here.cpu}, {here.threads} threads. {ELEMENTWISE}. Cost only: whether attention helps, "
        "`foveate compare` measures.)",
        highlight=False,
        markup=False,
    )


def _table(title: str, rows: Iterable[Candidate]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("mechanism", no_wrap=True)
    table.add_column("protocol")
    table.add_column("kind")
    for column in ("parameters", "MACs", "bytes", "latency", "memory"):
        table.add_column(column, justify="right")
    for row in rows:
        shares = (f"{row.shares[key]:.1%}" for key in _QUANTITIES)
        table.add_row(str(row.spec), get(row.spec.name).protocol, row.kind, *shares)
    return table


def _smallest(chosen: Choice) -> str:
    """The smallest budget that something fits, rounded up as it would be written."""
    if not chosen.dearer:
        return ""
    first = chosen.dearer[0]
    least = math.ceil(first.shares[chosen.by] * 1000) / 10
    again = ", and a little more, for times vary" if chosen.by == "latency" else ""
    return f"; the smallest that anything fits is {least:g}%{again}: {first.spec}"


def _sides(text: str) -> tuple[int, int]:
    try:
        sides = [int(part) for part in text.lower().replace("×", "x").split("x")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise OptionError(f"'{text}' is not a height and width; write 14 or 14x20")
    return sides[0], sides[-1]


def _share(text: str) -> float:
    number, percent = text.strip().removesuffix("%"), text.strip().endswith("%")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise OptionError(f"'{text}' is not a share; write 1% or 0.01")
    if value > 1 and not percent:
        raise OptionError(f"'{text}' is {value * 100:g}% of a block: did you mean {number.strip()}%?")
    return value / (100 if percent else 1)
