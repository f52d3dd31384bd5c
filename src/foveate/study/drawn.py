"""The drawings of a report by section; what has no numbers is not drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from foveate.study.curves import Curve, curves_chart
from foveate.study.figures import Look, difference_chart, parameters_chart
from foveate.study.front import front_chart
from foveate.study.lines import lines_chart
from foveate.study.wording import metric_name, percent

if TYPE_CHECKING:
    from markupsafe import Markup

NARROW, WIDE = 340, 760


def drawn(
    comparison: Mapping[str, Any], runs: Sequence[Mapping[str, Any]], look: Mapping[str, Look], metric: str
) -> dict[str, Any]:
    """The drawings by name, ready for a page.

    Args:
        comparison: As ``comparison.json`` has it.
        runs: All finished runs.
        look: The look of every arm.
        metric: The name of the score.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    rows = comparison["rows"]
    found: dict[str, Any] = {"curves": _curves(runs, rows, look, metric)}
    plain: dict[str, str] = {}
    if all(row["parameters"] is not None for row in rows):
        plain["parameters"] = parameters_chart(rows, look, name="parameters")
    if any(row["difference"] is not None for row in rows):
        plain["wide"] = difference_chart(rows, look, name="difference-wide", width=WIDE)
        plain["narrow"] = difference_chart(rows, look, name="difference-narrow", width=NARROW)
    if any(row["latency_ratio"] is not None for row in rows):
        plain["front"] = front_chart(rows, look, comparison["front"], metric=metric, name="front")
    if len(comparison["curves"]) > 1:
        plain["fractions"] = lines_chart(
            comparison["curves"], look, metric=metric, along="training samples, %", times=100, name="fractions"
        )
    if len(comparison["robustness"].get("strengths") or {}) > 1:
        strengths = comparison["robustness"]["strengths"]
        plain["strengths"] = lines_chart(
            strengths, look, metric=metric, along="strength of corruption", name="strengths"
        )
    return found | {name: _safe(drawing) for name, drawing in plain.items()}


def _safe(drawing: str) -> Markup:
    from markupsafe import Markup

    return Markup(drawing)  # noqa: S704 (our own drawings, in which matplotlib and ElementTree have escaped every name)


def _curves(
    runs: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], look: Mapping[str, Look], metric: str
) -> list[tuple[str, Markup]]:
    """One drawing an arm, all on the same axes."""
    found: dict[str, tuple[Curve, Curve | None]] = {}
    for row in rows:
        own = [run for run in runs if run["arm"] == row["arm"] and run["stage"] == "main"]
        validation = _curve([run["history"] for run in own], f"validation_{metric}")
        if validation is not None:
            found[row["arm"]] = validation, _curve([run["history"] for run in own], f"train_{metric}")
    curves = [curve for pair in found.values() for curve in pair if curve is not None]
    seen = [value for curve in curves for seed in curve.seeds for value in seed]
    if not seen:
        return []
    span = (max(0.0, min(seen) - 0.02), min(1.02, max(seen) + 0.02))
    named, first = metric_name(metric), rows[0]["arm"]
    drawings: list[tuple[str, Markup]] = []
    for number, (arm, (validation, training)) in enumerate(found.items()):
        behind = found[first][0] if arm != first and first in found else None
        mean = validation.mean()
        title = f"{arm}: mean validation {named} from {percent(mean[0])} to {percent(mean[-1])}"
        drawing = curves_chart(
            validation, training, behind,
            name=f"curve-{number}", title=title, colour=look[arm].colour, span=span, label=named,
        )  # fmt: skip
        drawings.append((arm, _safe(drawing)))
    return drawings


def _curve(histories: Sequence[Mapping[str, Any]], name: str) -> Curve | None:
    """One number over the epochs that all seeds have reached and know it at; training may stop early."""
    known = [dict(zip(own["epoch"], own[name], strict=True)) for own in histories if own.get(name)]
    if not known:
        return None
    epochs = [epoch for epoch in known[0] if all(own.get(epoch) is not None for own in known)]
    return Curve(epochs, [[own[epoch] for epoch in epochs] for own in known]) if epochs else None
