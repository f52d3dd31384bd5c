"""What to know before believing a comparison, in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from foveate.study.counting import counted
from foveate.study.plan import Prepared
from foveate.study.rows import Row, Runs
from foveate.train.recipe import Recipe

# after so many steps running statistics hold less than 0.9¹⁰⁰ = 3·10⁻⁵ of what they began with
SETTLED = 100
APART = 0.3


def notes_on(prepared: Prepared, runs: Runs, rows: Sequence[Row], failed: Mapping[str, str]) -> list[str]:
    """What to know before believing the rows."""
    study, metric = prepared.study, prepared.metric[0]
    base, recipe = study.base, Recipe(**study.base.recipe)
    notes = [f"{arm} is left out: {why}." for arm, why in failed.items()]
    steps = recipe.epochs * max(1, base.counts[0] // recipe.batch_size)
    apart = [f"{run['arm']} with seed {run['seed']}" for own in runs.values() for run in own if _apart(run, metric)]
    if apart and steps < SETTLED:
        notes.append(
            f"Much worse in evaluation after {steps} steps than while training: {', '.join(apart)}. In evaluation "
            "norms use running statistics, which may still hold part of what they began with; more epochs decide."
        )
    if prepared.quick:
        notes.append(
            f"A quick look: {counted(recipe.epochs, 'epoch')} of {counted(base.counts[0], 'sample')}, too few to learn "
            "what there is to learn."
        )
    if not study.rates:
        notes.append(
            "One learning rate for all arms: what one of them would gain from another rate is not seen. "
            "`--full` tries several for every arm."
        )
    if not any(arm.role in ("capacity", "placebo") for arm in study.arms):
        notes.append(
            "Without a capacity control and a placebo, a gain could as well be owed to more parameters. "
            "`--full` has both."
        )
    smallest = min((row.parameters or 0) - (rows[0].parameters or 0) for row in rows)
    if smallest < 0:
        notes.append("Some mechanisms have fewer parameters than the network without them: they replace convolutions.")
    notes += [f"{arm}: {sentence}." for arm, sentences in prepared.said.items() for sentence in sentences]
    return [*notes, *_about_data(prepared.data.report)]


def _apart(run: Mapping[str, Any], metric: str) -> bool:
    """Whether the network that was trained is hardly the one that was tested."""
    while_training = [value for value in run["history"].get(f"train_{metric}", []) if value is not None]
    return bool(while_training) and while_training[-1] - run["test"][metric] > APART


def _about_data(report: Any) -> list[str]:
    notes: list[str] = []
    skipped = getattr(report, "skipped", ())
    if skipped:
        first = skipped[0]
        more = f", and {len(skipped) - 1} more" if len(skipped) > 1 else ""
        notes.append(
            f"About the samples: skipped {first.name}, which {first.reason}{more}; the report has all of them."
        )
    conversions = getattr(report, "conversions", {})
    if conversions:
        changes = ", ".join(f"{count:,} × {what}" for what, count in conversions.items())
        notes.append(f"About the samples: converted {changes}.")
    return notes + [f"About the samples: {warning}" for warning in getattr(report, "warnings", ())]
