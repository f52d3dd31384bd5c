"""What finished runs come to: verdicts, rows, controls, and how arms generalise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foveate.study.costs import Point, certainly_dominated, pareto
from foveate.study.design import BASELINE
from foveate.study.generalising import calibration_of_arms, curves_of, focus_of_arms, robustness_of_arms
from foveate.study.headline import headline
from foveate.study.notes import notes_on
from foveate.study.plan import Prepared
from foveate.study.rows import Comparison, Row, contrasts_of, rows_of


def conclude(
    prepared: Prepared,
    records: Sequence[Mapping[str, Any]],
    parts: Sequence[Mapping[str, Any]],
    costs: Mapping[str, Any],
    *,
    judged: Mapping[str, Any] | None,
    failed: Mapping[str, str],
    tuned: Mapping[str, Any],
    interrupted: Sequence[str],
    out: Path,
) -> Comparison:
    """Say what came out.

    Args:
        prepared: What was compared, as it was carried out.
        records: The finished runs with all training samples.
        parts: Those with parts of them.
        costs: Of the arms.
        judged: Verdicts, where they were found seed by seed; by the runs where they are empty.
        failed: Arms of which a run could not be finished, and why.
        tuned: What the learning rates came to.
        interrupted: What was cut off before.
        out: Where the results are.
    """
    study, (metric, better) = prepared.study, prepared.metric
    runs = by_arm(records, [arm.name for arm in study.arms if arm.name not in failed])
    shares = {share: [run for run in parts if run["config"]["share"] == share] for share in study.fractions}
    rows = rows_of(study, runs, costs, metric, better, judged or None)
    points = {row.arm: point for row in rows if (point := _point(row, better)) is not None}
    return Comparison(
        headline=headline(rows, metric),
        metric={"name": metric, "better": better},
        rows=rows,
        contrasts=contrasts_of(study, runs, metric, better),
        curves=curves_of(runs, {share: by_arm(own, list(runs)) for share, own in shares.items() if own}, metric),
        robustness=robustness_of_arms(runs, metric),
        calibration=calibration_of_arms(runs),
        focus=focus_of_arms(runs),
        front=pareto({name: (point.benefit, point.latency) for name, point in points.items()}),
        dominated=dict(certainly_dominated(points)) if points else {},
        tuned=dict(tuned),
        notes=tuple(notes_on(prepared, runs, rows, failed)),
        interrupted=tuple(interrupted),
        failed=dict(failed),
        conditions=dict(costs["conditions"]),
        quick=prepared.quick,
        results=out,
        report=out / "report.html",
    )


def by_arm(records: Sequence[Mapping[str, Any]], arms: Sequence[str]) -> dict[str, list[Mapping[str, Any]]]:
    """Runs by arm, the baseline first, each in the order of seeds; arms without a run are left out.

    Example:
        >>> list(by_arm([{"arm": "se", "seed": 0}, {"arm": "baseline", "seed": 0}], ["baseline", "se", "eca"]))
        ['baseline', 'se']
    """
    found = {
        arm: sorted((run for run in records if run["arm"] == arm), key=lambda run: run["seed"])
        for arm in (BASELINE, *(arm for arm in arms if arm != BASELINE))
    }
    return {arm: own for arm, own in found.items() if own}


def _point(row: Row, better: str) -> Point | None:
    if row.latency_ms is None or row.latency_ratio is None:
        return None
    sign = 1 if better == "max" else -1
    ends = None if row.score_interval is None else tuple(sorted(sign * end for end in row.score_interval))
    return Point(sign * row.score, row.latency_ratio, ends, row.latency_interval)  # type: ignore[arg-type]
