"""Everything that was measured of each arm's cost as tables; what is not known says why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from foveate.study import wording as words
from foveate.study.grids import NOTHING, Cell, Grid

Known = tuple[Cell, str | None]
Read = Callable[[Mapping[str, Any]], Known]


def cost_grids(cost: Mapping[str, Any] | None) -> list[Grid]:
    """The tables of all costs; none where only counts and one latency were measured, which other tables have.

    Args:
        cost: As :func:`foveate.study.costs.measure_costs` found it.

    Example:
        >>> cost_grids({"quick": True, "arms": {}})
        []
    """
    if cost is None or cost.get("quick", True) or not cost["arms"]:
        return []
    arms = cost["arms"]
    settings = [_setting(one) for one in next(iter(arms.values())).get("latency") or []]
    timed: dict[str, Read] = {setting: _latency(place) for place, setting in enumerate(settings)}
    found = [
        _grid(
            "Latency: median of one pass, and how many times the baseline’s with its 95\N{NO-BREAK SPACE}% interval; "
            "arms took turns, so that their ratios compare.",
            timed,
            arms,
        ),
        _grid(_said(arms), _SPENT, arms),
        _grid("Whether the network can be exported, and then says the same.", _exported(arms), arms),
    ]
    return [grid for grid in found if grid.columns or grid.notes]


def _grid(caption: str, columns: Mapping[str, Read], arms: Mapping[str, Any]) -> Grid:
    """A column that no arm knows becomes a sentence, and so does every reason."""
    read = {title: [how(arm) for arm in arms.values()] for title, how in columns.items()}
    kept = [title for title, cells in read.items() if any(cell.main != NOTHING for cell, _ in cells)]
    reasons = list(dict.fromkeys(why for title in kept for cell, why in read[title] if why and cell.main == NOTHING))

    def shown(cell: Cell, why: str | None) -> Cell:
        return Cell("not known", f"note {reasons.index(why) + 1}") if cell.main == NOTHING and why else cell

    rows = tuple((arm, tuple(shown(*read[title][place]) for title in kept)) for place, arm in enumerate(arms))
    notes = [f"Note {number}: {why}" for number, why in enumerate(reasons, 1)]
    for title, cells in read.items():
        if title not in kept:
            told = "; ".join(dict.fromkeys(why for _, why in cells if why)) or "no reason was told"
            notes.append(f"{title}: not known; {told}")
    return Grid(caption, tuple(kept), rows if kept else (), notes=tuple(notes))


def _setting(one: Mapping[str, Any]) -> str:
    layout = "" if one["layout"] == "contiguous" else f", {one['layout'].replace('_', ' ')}"
    return f"batch{words.SPACE}{one['batch']}, {one['mode']}{layout}"


def _latency(place: int) -> Read:
    def read(arm: Mapping[str, Any]) -> Known:
        rows: Sequence[Mapping[str, Any]] = arm.get("latency") or []
        return _time(rows[place]) if place < len(rows) else (Cell(NOTHING), None)

    return read


def _time(row: Mapping[str, Any] | None) -> Known:
    if not row or row.get("median_ms") is None:
        return Cell(NOTHING), (row or {}).get("reason")
    said = [_ratio(row), "noisy" if row.get("noisy") else ""]
    return Cell(f"{row['median_ms']:.3g}\N{NO-BREAK SPACE}ms", ", ".join(filter(None, said))), None


def _ratio(row: Mapping[str, Any]) -> str:
    if row.get("ratio") is None:
        return ""
    interval = row.get("interval")
    if row["ratio"] == 1 and interval and interval[0] == interval[1]:
        return ""  # the baseline beside itself
    return words.times(row["ratio"]) + (f" ({words.times_interval(interval)})" if interval else "")


def _said(arms: Mapping[str, Any]) -> str:
    batch = (next(iter(arms.values())).get("training") or {}).get("batch")
    of = "" if batch is None else f" Memory, a training step and energy are of batch{words.SPACE}{batch}."
    return (
        f"Bytes that must move in a pass of one sample.{of} Memory: of all tensors at one moment, at most; process: by "
        "how much a process of its own grew."
    )


def _bytes(arm: Mapping[str, Any]) -> Known:
    own = arm.get("bytes") or {}
    return _size(own.get("count")), own.get("reason")


def _memory(which: str, how: str) -> Read:
    def read(arm: Mapping[str, Any]) -> Known:
        own = (arm.get("memory") or {}).get(which) or {}
        return _size(own.get(how)), own.get("reason")

    return read


def _size(count: int | None) -> Cell:
    return Cell(NOTHING if count is None else words.size(count))


def _energy(arm: Mapping[str, Any]) -> Known:
    own = arm.get("energy") or {}
    joules = own.get("joules")
    return Cell(NOTHING) if joules is None else Cell(f"{joules:.3g} J", _ratio(own)), own.get("reason")


_SPENT: Mapping[str, Read] = {
    "Bytes": _bytes,
    "Training step": lambda arm: _time(arm.get("training")),
    "Memory, inference": _memory("inference", "tensor_bytes"),
    "Memory, training": _memory("training", "tensor_bytes"),
    "Process, inference": _memory("inference", "process_bytes"),
    "Process, training": _memory("training", "process_bytes"),
    "Energy": _energy,
}


def _exported(arms: Mapping[str, Any]) -> dict[str, Read]:
    def read(way: str) -> Read:
        def status(arm: Mapping[str, Any]) -> Known:
            own = (arm.get("export") or {}).get(way) or {}
            said = own.get("status", "unknown")
            shape = {"works": "✓ ", "fails": "✗ ", "differs": "≠ "}.get(said, "")
            why = own.get("reason")
            return Cell(NOTHING) if said == "unknown" else Cell(f"{shape}{said}", why or ""), why

        return status

    return {way: read(way) for way in next(iter(arms.values())).get("export") or {}}
