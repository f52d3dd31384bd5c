"""What a page says about growth: measured exponents, and those of what is counted."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[2] / "benchmarks" / "results" / "speed" / "growth.json"
_AXES = ("positions", "channels", "batch")
_STRAIGHT = 0.05  # a residual that need not be told where nothing disturbs
_COSTS = {"seconds": "time", "memory": "peak memory", "macs": "MACs", "bytes": "bytes moved"}


def growth(name: str) -> list[str]:
    """A table of exponents, as they stand in the committed file; nothing where it was not measured."""
    found = {row["axis"]: row for row in _measured()["rows"] if row["work"] == name}
    if not any(row["powers"] for row in found.values()):
        return []
    here = _measured()["conditions"]
    lines = [
        "",
        "## Measured growth",
        "",
        "Exponents of the powers that fit best: 1 is in proportion, 2 with the square. In brackets how far the points "
        "lie from the power on average: much where caches, threads or another form take over on the way. "
        "MACs and bytes are counted.",
        "",
        f"| cost | {' | '.join(f'{axis}, {_range(found[axis])}' for axis in _AXES if axis in found)} |",
        "|---|" + "---:|" * len(found),
    ]
    for cost, words in _COSTS.items():
        cells = [_cell(found[axis]["powers"].get(cost), cost) for axis in _AXES if axis in found]
        lines.append(f"| {words} | {' | '.join(cells)} |")
    return [*lines, "", f"Inference, {here['dtype']}, {here['cpu']}, {here['threads']} threads, torch {here['torch']}."]


def _range(row: dict[str, Any]) -> str:
    """The sizes that were fitted, in words."""
    fitted = row["points"][-4:]
    if not fitted:
        return "–"
    first, last = ("×".join(map(str, point["shape"])) for point in (fitted[0], fitted[-1]))
    return f"{first} to {last}"


def _cell(fit: dict[str, float] | None, cost: str) -> str:
    if fit is None:
        return "–"
    exponent = f"**{fit['exponent']:.2f}**" if cost == "seconds" else f"{fit['exponent']:.2f}"
    return f"{exponent} (±{fit['residual']:.0%})" if cost == "seconds" or fit["residual"] > _STRAIGHT else exponent


@cache
def _measured() -> dict[str, Any]:
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {"rows": [], "conditions": {}}
