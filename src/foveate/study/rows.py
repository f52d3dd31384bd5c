"""The rows of the table: what the runs of each arm come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from foveate.study.design import BASELINE, Arm, Study
from foveate.study.reading import FORMAT
from foveate.study.statistics import estimate, paired_difference
from foveate.study.statistics.judge import Better, Paired, judge
from foveate.study.statistics.sequential import GroupSequential
from foveate.study.statistics.sign_flip import fewest_seeds
from foveate.study.statistics.verdict import Verdict

Runs = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True)
class Row:
    """What is known of one arm; scores are of the metric that is compared, intervals 95 %.

    Attributes:
        arm: Its name.
        role: What it is there for.
        against: Of a control, the arm of its mechanism.
        title: Its mechanism's name in the paper.
        kind: Its mechanism's kind.
        rate: The learning rate it was trained with.
        seeds: The seeds of its runs.
        scores: On test samples, one a seed.
        score: Their mean.
        score_interval: The t-interval of the mean; ``None`` with one seed.
        differences: To the baseline with the same seed, one a seed; ``None`` for the baseline.
        difference: Their mean.
        difference_interval: Of the mean; as the verdict has it, where there is one.
        verdict: What is said of a mechanism; ``None`` of the other arms.
        sentence: The same in words.
        gap: How far training samples are ahead of test samples, the mean over seeds.
        parameters: Of the network.
        macs: Multiply-accumulates for one sample.
        latency_ms: For one sample, median, in milliseconds.
        latency_ratio: How many times as long as the baseline.
        latency_interval: Of that ratio, in this run of timing.
        seconds: What its runs took.
    """

    arm: str
    role: str
    against: str | None
    title: str
    kind: str | None
    rate: float
    seeds: tuple[int, ...]
    scores: tuple[float, ...]
    score: float
    score_interval: tuple[float, float] | None
    differences: tuple[float, ...] | None
    difference: float | None
    difference_interval: tuple[float, float] | None
    verdict: dict[str, Any] | None
    sentence: str | None
    gap: float | None
    parameters: int | None
    macs: int | None
    latency_ms: float | None
    latency_ratio: float | None
    latency_interval: tuple[float, float] | None
    seconds: float


@dataclass(frozen=True)
class Contrast:
    """A mechanism beside one of its controls.

    Attributes:
        arm: The mechanism.
        control: The control.
        verdict: What is said of the difference, of all such differences together.
        sentence: The same in words.
    """

    arm: str
    control: str
    verdict: dict[str, Any]
    sentence: str


@dataclass(frozen=True)
class Comparison:
    """What came out.

    Attributes:
        headline: The verdict in one sentence.
        metric: What was compared: ``"name"``, and whether more (``"max"``) or less (``"min"``) is better.
        rows: One an arm, the baseline first.
        contrasts: Mechanisms beside their controls.
        curves: With parts of the training samples: by share and arm, the mean score, its interval, and the difference.
        robustness: On corrupted and other test samples, by name: see :mod:`foveate.study.generalising`.
        calibration: By arm and measure, the mean, and the difference to the baseline with its interval.
        focus: By arm, map and measure, likewise.
        front: The arms on the Pareto front of score against latency, quickest first.
        dominated: The arms that another is certainly better and quicker than, by that one's name.
        tuned: By arm, the validation score at each learning rate that was tried.
        notes: What to know before believing the rows, in sentences.
        interrupted: What was cut off or damaged before, and run again, in sentences.
        failed: Arms that are left out because a run of theirs could not be finished, and why.
        conditions: Under which conditions the cost was measured.
        quick: Whether this was a quick look.
        results: The folder with all of it as files.
        report: The page to look at.
    """

    headline: str
    metric: dict[str, str]
    rows: tuple[Row, ...]
    contrasts: tuple[Contrast, ...]
    curves: dict[str, Any]
    robustness: dict[str, Any]
    calibration: dict[str, Any]
    focus: dict[str, Any]
    front: tuple[str, ...]
    dominated: dict[str, str]
    tuned: dict[str, Any]
    notes: tuple[str, ...]
    interrupted: tuple[str, ...]
    failed: dict[str, str]
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


def points(difference: float) -> str:
    """A difference of shares in percentage points.

    Example:
        >>> points(0.0123)
        '+1.2 points'
    """
    return f"{100 * difference:+.1f} points"


def scores_of(runs: Sequence[Mapping[str, Any]], metric: str) -> tuple[float, ...]:
    """The test score of each run.

    Example:
        >>> scores_of([{"test": {"accuracy": 0.5}}], "accuracy")
        (0.5,)
    """
    return tuple(float(run["test"][metric]) for run in runs)


def paired(own: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]], metric: str) -> Paired:
    """An arm minus another, seed by seed, and example by example where runs tell and test on the same ones."""
    by_seed = {run["seed"]: run for run in other}
    pairs = [(run, by_seed[run["seed"]]) for run in own]
    differences = tuple(a["test"][metric] - b["test"][metric] for a, b in pairs)
    tables: list[tuple[Any, Any]] = [(a.get("scores"), b.get("scores")) for a, b in pairs]
    same = not any(a["config"]["resplit"] for a, _ in pairs)
    if same and len(pairs) > 1 and _one_length(tables):
        examples = np.array([np.subtract(a, b) for a, b in tables])
        means = examples.mean(1)
        # a float32 metric and a float64 mean of the same answers differ by rounding: the mean is the exact one
        if np.allclose(means, differences, rtol=0, atol=1e-6):
            return Paired.over(examples)
    return Paired(differences)


def _one_length(tables: Sequence[tuple[Any, Any]]) -> bool:
    lengths = {len(own) if own else 0 for table in tables for own in table}
    return len(lengths) == 1 and 0 not in lengths


def rows_of(
    study: Study,
    runs: Runs,
    costs: Mapping[str, Any],
    metric: str,
    better: str,
    judged: Mapping[str, Verdict] | None = None,
) -> tuple[Row, ...]:
    """One row an arm, from its runs and what it costs.

    Args:
        study: What is compared.
        runs: The finished runs of each arm that is not left out.
        costs: As :func:`foveate.study.costs.measure_costs` found them.
        metric: What is compared.
        better: ``"max"`` or ``"min"``.
        judged: Verdicts, where they were found seed by seed.
    """
    arms = [arm for arm in study.arms if arm.name in runs]
    pairs = {arm.name: paired(runs[arm.name], runs[BASELINE], metric) for arm in arms if arm.role == "attention"}
    if judged is None and pairs:
        judged = judge(pairs, alpha=study.alpha, relevant=study.relevant, better="max" if better == "max" else "min")
    return tuple(_row(arm, runs, costs, metric, (judged or {}).get(arm.name)) for arm in arms)


def _row(arm: Arm, runs: Runs, costs: Mapping[str, Any], metric: str, verdict: Verdict | None) -> Row:
    own, described = runs[arm.name], arm.as_dict()
    scores = scores_of(own, metric)
    mean = estimate(scores)
    by_seed = {run["seed"]: run["test"][metric] for run in runs[BASELINE]}
    others = [by_seed[run["seed"]] for run in own]
    difference = None if arm.role == "baseline" else paired_difference(scores, others)
    gaps = [run["gap"][metric] for run in own if run.get("gap", {}).get(metric) is not None]
    spent = costs["arms"].get(arm.name, {})
    timed = next(iter(spent.get("latency") or []), {})
    interval = None if difference is None else difference.interval
    return Row(
        arm=arm.name,
        role=arm.role,
        against=arm.against,
        title=described["title"],
        kind=described["kind"],
        rate=float(own[0]["config"]["recipe"]["learning_rate"]),
        seeds=tuple(run["seed"] for run in own),
        scores=scores,
        score=mean.mean,
        score_interval=mean.interval,
        differences=None if difference is None else tuple(a - b for a, b in zip(scores, others, strict=True)),
        difference=None if difference is None else difference.mean,
        difference_interval=interval if verdict is None else verdict.interval,
        verdict=None if verdict is None else asdict(verdict),
        sentence=None if verdict is None else verdict.sentence(points),
        gap=sum(gaps) / len(gaps) if gaps else None,
        parameters=(spent.get("parameters") or {}).get("total"),
        macs=(spent.get("macs") or {}).get("count"),
        latency_ms=timed.get("median_ms"),
        latency_ratio=timed.get("ratio"),
        latency_interval=timed.get("interval"),
        seconds=sum(run["seconds"]["total"] for run in own),
    )


def _judged(study: Study, pairs: Mapping[str, Paired], better: Better) -> Mapping[str, Verdict]:
    """Where it depended on results how many seeds there are, only a test that was planned for looking holds its level.

    A budget that is too small to decide among so many is left to :func:`judge`, which then says that nothing could be.
    """
    if not study.sequential or len(study.seeds) < fewest_seeds(study.alpha / len(pairs)):
        return judge(pairs, alpha=study.alpha, relevant=study.relevant, better=better)
    looking = GroupSequential(list(pairs), len(study.seeds), alpha=study.alpha, better=better)
    for name, pair in pairs.items():
        for difference in pair.differences:
            looking.tell({name: difference})
    return looking.verdicts(relevant=study.relevant)


def contrasts_of(study: Study, runs: Runs, metric: str, better: str) -> tuple[Contrast, ...]:
    """Every mechanism beside its controls; Holm over all of these differences, apart from those to the baseline."""
    pairs: dict[str, Paired] = {}
    whose: dict[str, tuple[str, str]] = {}
    for arm in study.arms:
        if arm.against is not None and arm.name in runs and arm.against in runs:
            seeds = {run["seed"] for run in runs[arm.name]}
            own = [run for run in runs[arm.against] if run["seed"] in seeds]
            label = f"{arm.against} beside {arm.name}"
            pairs[label], whose[label] = paired(own, runs[arm.name], metric), (arm.against, arm.name)
    if not pairs:
        return ()
    found = _judged(study, pairs, "max" if better == "max" else "min")
    return tuple(Contrast(*whose[label], asdict(verdict), verdict.sentence(points)) for label, verdict in found.items())
