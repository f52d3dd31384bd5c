"""The rows of the table: what the runs of each arm come to, and what to know before believing it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from foveate.study.design import BASELINE, Study, counted
from foveate.study.reading import FORMAT
from foveate.study.run import Material
from foveate.study.statistics import estimate, paired_difference

# after so many steps running statistics hold less than 0.9¹⁰⁰ = 3·10⁻⁵ of what they began with
SETTLED = 100
_NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five"}


@dataclass(frozen=True)
class Row:
    """What is known of one arm; accuracies are fractions, intervals 95 %.

    Attributes:
        arm: Its name.
        title: Its mechanism's name in the paper.
        kind: Its mechanism's kind.
        seeds: The seeds of its runs.
        accuracies: Test accuracy, one a seed.
        accuracy: Their mean.
        accuracy_interval: The t-interval of the mean; ``None`` with one seed.
        differences: To the baseline with the same seed, one a seed; ``None`` for the baseline.
        difference: Their mean.
        difference_interval: The t-interval of the mean.
        parameters: Of the network.
        macs: Multiply-accumulates for one image.
        latency_ms: For one image, median, in milliseconds.
        latency_ratio: How many times as long as the baseline.
        seconds: What its runs took.
    """

    arm: str
    title: str
    kind: str | None
    seeds: tuple[int, ...]
    accuracies: tuple[float, ...]
    accuracy: float
    accuracy_interval: tuple[float, float] | None
    differences: tuple[float, ...] | None
    difference: float | None
    difference_interval: tuple[float, float] | None
    parameters: int
    macs: int
    latency_ms: float
    latency_ratio: float
    seconds: float


@dataclass(frozen=True)
class Comparison:
    """What came out.

    Attributes:
        rows: One an arm, the baseline first.
        notes: What to know before believing the rows, in sentences.
        interrupted: What was cut off or damaged before, and run again, in sentences.
        conditions: Under which conditions the cost was measured.
        quick: Whether this was a quick look.
        results: The folder with all of it as files.
        report: The page to look at.
    """

    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    interrupted: tuple[str, ...]
    conditions: dict[str, Any]
    quick: bool
    results: Path
    report: Path

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {
            "format": FORMAT,
            "kind": "foveate comparison",
            **asdict(self),
            "results": str(self.results),
            "report": str(self.report),
        }


def rows_of(study: Study, records: list[dict[str, Any]], cost: dict[str, Any]) -> tuple[Row, ...]:
    """One row an arm, from its runs and what it costs.

    Raises:
        FoveateError: If the runs do not pair.
        MissingExtraError: If scipy is not installed.
    """
    runs = {arm.name: [record for record in records if record["arm"] == arm.name] for arm in study.arms}
    accuracies = {name: tuple(float(run["test"]["accuracy"]) for run in of_arm) for name, of_arm in runs.items()}
    rows: list[Row] = []
    for arm in study.arms:
        own, described, spent = accuracies[arm.name], arm.as_dict(), cost["arms"][arm.name]
        mean = estimate(own)
        pairs = list(zip(own, accuracies[BASELINE], strict=True))
        difference = None if arm.spec is None else paired_difference(own, accuracies[BASELINE])
        rows.append(
            Row(
                arm=arm.name,
                title=described["title"],
                kind=described["kind"],
                seeds=study.seeds,
                accuracies=own,
                accuracy=mean.mean,
                accuracy_interval=mean.interval,
                differences=None if arm.spec is None else tuple(a - b for a, b in pairs),
                difference=None if difference is None else difference.mean,
                difference_interval=None if difference is None else difference.interval,
                parameters=spent["parameters"],
                macs=spent["macs"],
                latency_ms=spent["latency_ms"],
                latency_ratio=spent["latency_ratio"],
                seconds=sum(run["seconds"]["total"] for run in runs[arm.name]),
            )
        )
    return tuple(rows)


def _falls_apart(run: dict[str, Any]) -> bool:
    """Whether the network that was trained is hardly the one that was tested."""
    learned = run["curves"]["train_accuracy"][-1:]
    return bool(learned) and learned[0] is not None and learned[0] - run["test"]["accuracy"] > 0.3


def notes_on(study: Study, material: Material, records: list[dict[str, Any]], quick: bool) -> list[str]:
    """What to know before believing the rows, in sentences."""
    notes: list[str] = []
    base, count, report = study.base, len(study.seeds), material.data.report
    diverged = [f"{run['arm']} with seed {run['seed']}" for run in records if run["test"]["loss"] is None]
    if diverged:
        notes.append(
            f"The loss stopped being a number in: {', '.join(diverged)}. Such a run learned nothing, and its accuracy "
            "says nothing; a lower learning rate may help."
        )
    steps = base.epochs * (base.train_images // base.batch_size)
    apart = [f"{run['arm']} with seed {run['seed']}" for run in records if _falls_apart(run)]
    if apart and steps < SETTLED:
        notes.append(
            f"Much worse in evaluation after {steps} steps than while training: {', '.join(apart)}. In evaluation "
            "norms use running statistics, which may still hold part of what they began with; more epochs decide."
        )
    if quick:
        notes.append(
            f"A quick look: {counted(base.epochs, 'epoch')} of {counted(base.train_images, 'image')}, too few to "
            "learn what there is to learn."
        )
    if count == 1:
        notes.append("One seed decides nothing: it has no interval, and another seed may turn the order around.")
    elif 2 / 2**count > 0.05:  # the smallest p-value of a two-sided sign-flip test
        notes.append(
            f"{_NUMBERS.get(count, str(count)).capitalize()} seeds decide nothing: differences of the same sign in all "
            f"of them come about by chance in 1 of {2 ** (count - 1)} comparisons without any effect."
        )
    notes += [f"{arm}: {sentence}." for arm, sentences in material.said.items() for sentence in sentences]
    if report.skipped:
        first = report.skipped[0]
        more = f", and {len(report.skipped) - 1} more" if len(report.skipped) > 1 else ""
        notes.append(f"About the images: skipped {first.name}, which {first.reason}{more}; the report has all of them.")
    if report.conversions:
        changes = ", ".join(f"{count:,} × {what}" for what, count in report.conversions.items())
        notes.append(f"About the images: converted {changes}.")
    notes += [f"About the images: {warning}" for warning in report.warnings]
    return notes
