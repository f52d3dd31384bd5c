"""Choosing each arm's learning rate, by validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from foveate.study.design import Study


def chosen_rates(
    study: Study, records: Sequence[Mapping[str, Any]], better: str
) -> tuple[dict[str, float], dict[str, dict[str, float | None]]]:
    """The learning rate at which each arm was best on validation, and what every rate came to.

    The mean over the seeds decides; of equal rates the one nearest to the recipe's, and a rate at which a run could not
    be finished is not chosen.

    Args:
        study: With its rates.
        records: The finished runs of tuning.
        better: ``"max"`` or ``"min"``.
    """
    usual = float(study.base.recipe["learning_rate"])
    sign = 1 if better == "max" else -1
    chosen: dict[str, float] = {}
    table: dict[str, dict[str, float | None]] = {}
    for arm in study.arms:
        own: dict[float, float | None] = {}
        for rate in study.rates:
            seen = [
                run["validation"]
                for run in records
                if run["arm"] == arm.name and run["config"]["recipe"]["learning_rate"] == rate
            ]
            whole = len(seen) == len(study.tuning_seeds) and None not in seen
            own[rate] = sum(seen) / len(seen) if whole else None
        known = {rate: value for rate, value in own.items() if value is not None}
        if known:
            chosen[arm.name] = max(known, key=lambda rate: (sign * known[rate], -abs(rate / usual - 1)))
        table[arm.name] = {f"{rate:.6g}": value for rate, value in own.items()}
    return chosen, table
