"""Choosing by cost."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from foveate.cli.words import Json, console, print_json
from foveate.errors import OptionError
from foveate.registry import parse_list

_SHOWN = 10  # of those beyond the budget


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

    Example: `foveate choose --channels 256 --size 14 --budget 1% --by parameters`
    """
    from foveate.measure.choose import choose as run_choice

    errors = Console(stderr=True)
    with errors.status("measuring") as status:
        chosen = run_choice(
            channels,
            _sides(size),
            _share(budget),
            by=by,  # type: ignore[arg-type]
            mechanisms=None if mechanisms is None else parse_list(mechanisms),
            tell=lambda name: status.update(f"measuring {name}"),
        )
    if as_json:
        print_json(chosen.as_dict())
        return
    out = console()
    where = f"{channels}×{chosen.size[0]}×{chosen.size[1]}"
    for title, rows in (("within the budget", chosen.fitting), ("beyond it, the cheapest", chosen.dearer[:_SHOWN])):
        table = Table(title=f"{title}: {len(rows)}", title_justify="left", box=None, pad_edge=False)
        table.add_column("mechanism", overflow="fold")
        table.add_column("kind")
        for column in ("parameters", "MACs", "bytes", "latency", "memory"):
            table.add_column(column, justify="right")
        for row in rows:
            shares = (row.shares[key] for key in ("parameters", "macs", "bytes", "latency", "memory"))
            table.add_row(str(row.spec), row.kind, *(f"{share:.1%}" for share in shares))
        out.print(table)
    for spec, reason in chosen.refused.items():
        out.print(f"not for this map: {spec}: {reason}", highlight=False, markup=False)
    here = chosen.conditions
    out.print(
        f"(shares of {chosen.block} on {where}; budget {chosen.budget:.2%} of its {chosen.by}; one image, "
        f"{here.dtype}, {here.cpu}, {here.threads} threads. Cost only: whether attention helps, `foveate compare` "
        "measures.)",
        highlight=False,
        markup=False,
    )


def _sides(text: str) -> tuple[int, int]:
    try:
        sides = [int(part) for part in text.lower().replace("×", "x").split("x")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise OptionError(f"'{text}' is not a height and width; write 14 or 14x20")
    return sides[0], sides[-1]


def _share(text: str) -> float:
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise OptionError(f"'{text}' is not a share; write 1% or 0.01") from None
