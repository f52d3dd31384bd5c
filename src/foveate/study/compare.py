"""The comparison: design, runs, cost, statistics, table and report, joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from foveate.errors import FoveateError, OptionError, check_choice
from foveate.registry import Spec
from foveate.study.design import BASELINE, DEFAULT_ATTENTION, Arm, RunConfig, Study, digest
from foveate.study.execution import Job, UnfinishedError, carry_out, part_of
from foveate.study.folder import Folder
from foveate.study.needs import check_packages
from foveate.study.plan import Asked, Prepared, prepare, rules
from foveate.study.progress import Reporter, Silent
from foveate.study.reading import FORMAT, read_json
from foveate.study.rows import Comparison, Row, scores_of
from foveate.study.work import WORK, job_of
from foveate.train.kinds import Data

Records = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Means:
    """With what a study is carried out; it changes no number.

    Attributes:
        on: As :func:`foveate.study.execution.carry_out` takes it: ``"here"``, ``"3 processes"``, ``"ray"``, ….
        part: This machine's share of the runs, as ``"2/3"``; the folders are merged afterwards. No table is made.
        costs: ``"quick"``: counts and one latency; ``"full"``: batches, layouts, training, memory, energy, export.
        compiled: Whether networks are timed compiled as well.
    """

    on: str = "here"
    part: str | None = None
    costs: str = "quick"
    compiled: bool = False


def compare(
    data: str | Path | Data | None = None,
    host: str | None = None,
    weights: str | Path | None = "auto",
    attention: Sequence[str | Spec] = DEFAULT_ATTENTION,
    seeds: int = 3,
    *,
    work: str = "classification",
    asked: Asked | None = None,
    means: Means | None = None,
    out: str | Path = "foveate-compare",
    progress: Reporter | None = None,
) -> Comparison:
    """Compare attention mechanisms with the network as it is, honestly.

    Every arm is trained with the same budget and the same seeds. Each run is a file in ``out``, named by its
    configuration: kill it at any moment and call it again, and no finished run is lost or repeated.

    Args:
        data: Where the samples are, or samples already read; ``None`` for the embedded ones.
        host: The network; the usual one for the work, if ``None``.
        weights: ``"auto"`` starts networks of ours at random and all others from published weights; ``None`` starts
            at random; anything else as in :func:`foveate.hosts.build`.
        attention: The mechanisms, each perhaps with options.
        seeds: Runs of each arm; with ``asked.sequential`` at most.
        work: ``"classification"``, ``"segmentation"``, ``"detection"`` or ``"medical"``.
        asked: What else was asked for: controls, learning rates, fractions, corruptions, ….
        means: With what it is carried out.
        out: The folder for the results.
        progress: Who wants to know how far it is.

    Returns:
        The verdicts and the rows of the table, with the path of the report.

    Raises:
        OptionError: If something that was asked for does not exist or cannot work.
        DataError: If the samples cannot be used.
        FoveateError: If another process works on the folder, it cannot be written to, or runs of the baseline could
            not be finished.
        MissingExtraError: If a package of the extra ``compare`` is not installed.
        KeyboardInterrupt: If a person interrupts it, with a sentence that says how to go on.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> little = Asked(settings={"epochs": 1}, train_samples=64)
        >>> with TemporaryDirectory() as folder:
        ...     comparison = compare(attention=("se",), seeds=1, asked=little, out=folder)
        >>> [row.arm for row in comparison.rows], comparison.rows[1].verdict["word"]
        (['baseline', 'squeeze_excite'], 'underpowered')
    """
    check_packages()
    reporter, means = progress or Silent(), means or Means()
    _check(means, asked or Asked(), data)
    prepared = prepare(data, host, weights, tuple(attention), seeds, work=work, asked=asked)
    request = {
        "data": str(data) if isinstance(data, str | Path) else None,
        "given": data is not None and not isinstance(data, str | Path),
        "host": host,
        "weights": None if weights is None else str(weights),
        "attention": [str(one) for one in attention],
        "seeds": seeds,
        "work": work,
        "asked": (asked or Asked()).as_dict(),
        "means": asdict(means),
    }
    folder = Folder(Path(out))
    with folder.alone():
        return _Course(prepared, request, folder, reporter, means).follow()


def resume(out: str | Path, *, means: Means | None = None, progress: Reporter | None = None) -> Comparison:
    """Go on with the study of a folder, as it was asked for, or make its table and report again.

    Args:
        out: The folder.
        means: With what it is carried out; as before, if ``None``.
        progress: Who wants to know how far it is.

    Raises:
        FoveateError: If there is no study in the folder, or its samples were given as they were.
    """
    path = Path(out)
    study = read_json(path / "study.json")
    if study is None or "request" not in study:
        raise FoveateError(f"'{path}' holds no study that can be resumed: run `foveate compare` into it first")
    request = study["request"]
    if request["given"]:
        raise FoveateError(f"the samples of '{path}' were given from Python: call `compare` again with the same ones")
    if means is None:
        before: dict[str, Any] = {**request["means"], "part": None}
        means = Means(**before)
    return compare(
        request["data"],
        request["host"],
        request["weights"],
        tuple(request["attention"]),
        request["seeds"],
        work=request["work"],
        asked=Asked.of(request["asked"]),
        means=means,
        out=path,
        progress=progress,
    )


class _Course:
    """A study from its first run to its report."""

    def __init__(
        self, prepared: Prepared, request: Mapping[str, Any], folder: Folder, reporter: Reporter, means: Means
    ) -> None:
        self.prepared, self.request = prepared, request
        self.folder, self.reporter, self.means = folder, reporter, means
        self.study = prepared.study
        self.notes: list[str] = []
        self.failed: dict[str, str] = {}
        self.tuned: dict[str, Any] = {}

    def follow(self) -> Comparison:
        """Run whatever is not finished yet, and say what it comes to."""
        if self.study.rates:
            self._tune()
        self._write_down()
        if self.study.sequential:
            records, judged = self._seed_by_seed()
        else:
            records, judged = self._carry(self._jobs(self.study.runs(), "main", maps=True)), None
        curve = [(arm, config) for arm, _, config in self.study.curve()]
        if self.study.sequential:  # no arm has more seeds with fewer samples than with all of them
            had = {(run["arm"], run["seed"]) for run in records.values()}
            curve = [(arm, config) for arm, config in curve if (arm.name, config.seed) in had]
        parts = self._parts(self._jobs(curve, "fraction"))
        return self._conclude([*records.values()], [*parts.values()], judged)

    # runs

    def _jobs(self, runs: Any, stage: str, *, maps: bool = False) -> list[Job]:
        first, places = self.study.seeds[0], self.prepared.places
        return [
            job_of(config, arm.name, stage=stage, places=places, maps=maps and config.seed == first)
            for arm, config in runs
        ]

    def _attempt(self, jobs: Sequence[Job]) -> tuple[Records, UnfinishedError | None]:
        """The finished runs by key, and why others could not be finished."""
        if self.means.part is not None:
            jobs = part_of(jobs, self.means.part)
        if not jobs:
            return {}, None
        try:
            carried = carry_out(jobs, self.folder, work=WORK, reporter=self.reporter, on=self.means.on)
        except UnfinishedError as error:
            self.notes += self.folder.interruptions(job.key for job in jobs)
            return {job.key: error.finished[job.key] for job in jobs if job.key in error.finished}, error
        self.notes += carried.notes
        return {job.key: record for job, record in zip(jobs, carried.records, strict=True)}, None

    def _carry(self, jobs: Sequence[Job]) -> Records:
        """The finished runs by key; an arm of which one could not be finished is left out, but not the baseline."""
        found, error = self._attempt(jobs)
        if error is not None:
            arms = {job.key: job.payload["arm"] for job in jobs}
            if not found or BASELINE in {arms[key] for key in error.failed}:
                raise error
            for key, why in error.failed.items():
                self.failed.setdefault(arms[key], why)
        return found

    def _parts(self, jobs: Sequence[Job]) -> Records:
        """The same with part of the samples: a run that cannot be finished there says nothing against its arm."""
        found, error = self._attempt(jobs)
        if error is not None:
            self.notes += [f"left out of the learning curves: {why}" for why in error.failed.values()]
        return found

    def _tune(self) -> None:
        from foveate.study.tuning import chosen_rates

        jobs = self._jobs(((arm, config) for arm, _, config in self.study.tuning()), "tuning")
        if not self.folder.begins_with(job.key for job in jobs):
            self._write_down(only=jobs)
        found, _ = self._attempt(jobs)  # a rate at which an arm cannot be trained is not the one that is chosen
        records = [*found.values()]
        chosen, self.tuned = chosen_rates(self.study, records, self.prepared.metric[1])
        missing = [arm.name for arm in self.study.arms if arm.name not in chosen]
        if BASELINE in missing:
            raise FoveateError("the baseline could not be trained at any of the learning rates: choose smaller ones")
        self.failed |= dict.fromkeys(missing, "it could not be trained at any of the learning rates")
        arms = tuple(arm for arm in self.study.arms if arm.name not in missing)
        self.study = replace(self.study, chosen=chosen, arms=arms)

    def _seed_by_seed(self) -> tuple[Records, Mapping[str, Any]]:
        """Seeds are added until every arm is decided or the budget is spent."""
        from foveate.study.statistics.sequential import GroupSequential

        metric, better = self.prepared.metric
        names = [arm.name for arm in self.study.compared]
        looking = GroupSequential(names, len(self.study.seeds), alpha=self.study.alpha, better=_way(better))
        records: Records = {}
        for seed in self.study.seeds:
            still = looking.open
            if not still:
                break
            arms = [arm for arm in self.study.arms if arm.role in ("baseline", "larger") or _of(arm) in still]
            arms = [arm for arm in arms if arm.name not in self.failed]
            runs = ((arm, self.study.config(arm, seed)) for arm in arms)
            found = self._carry(self._jobs(runs, "main", maps=True))
            records |= found
            scores = {run["arm"]: scores_of([run], metric)[0] for run in found.values()}
            looking.tell({name: scores[name] - scores[BASELINE] for name in still if name in scores})
            for name in still:
                if name in self.failed:
                    looking.leave_out(name)
        finished = [name for name in names if name not in self.failed]
        return records, looking.verdicts(relevant=self.study.relevant) if finished else {}

    # files

    def _write_down(self, only: Sequence[Job] | None = None) -> None:
        study = self.study
        jobs = [
            *self._jobs(((arm, config) for arm, _, config in study.tuning()), "tuning"),
            *self._jobs(study.runs(), "main"),
            *self._jobs(((arm, config) for arm, _, config in study.curve()), "fraction"),
        ]
        self.folder.open_study({**described(self.prepared, study, only or jobs), "request": dict(self.request)})

    def _conclude(self, records: list[Any], parts: list[Any], judged: Mapping[str, Any] | None) -> Comparison:
        from foveate.study import report
        from foveate.study.conclusion import conclude

        if self.means.part is not None:
            raise PartFinished(len(records) + len(parts), self.folder.path)
        costs = self._costs()
        comparison = conclude(
            replace(self.prepared, study=self.study), records, parts, costs,
            judged=judged, failed=self.failed, tuned=self.tuned, interrupted=self.notes, out=self.folder.path,
        )  # fmt: skip
        self.folder.write("comparison.json", comparison.as_dict())
        self.reporter.stage("writing the report")
        report.write(self.folder.path)
        return comparison

    def _costs(self) -> dict[str, Any]:
        """Measured once for the same arms: timing takes minutes where all of it is asked for."""
        from foveate.study.pricing import price

        wanted = {
            "arms": [arm.name for arm in self.study.arms],
            "costs": self.means.costs,
            "compiled": self.means.compiled,
            "base": digest(self.study.shared()),
        }
        try:
            before = read_json(self.folder.path / "cost.json")
        except FoveateError:  # damaged: it is measured again
            before = None
        if before is not None and before.get("of") == wanted:
            return before
        self.reporter.stage("measuring cost")
        quick = self.means.costs == "quick"
        costs = price(self.prepared, self.study, quick=quick, compiled=self.means.compiled, reporter=self.reporter)
        costs = {"of": wanted, **costs}
        self.folder.write("cost.json", costs)
        return read_json(self.folder.path / "cost.json") or costs


class PartFinished(FoveateError):  # noqa: N818 (what it says is no error)
    """This machine's share of the runs is finished, and there is no table yet."""

    def __init__(self, runs: int, path: Path) -> None:
        super().__init__(
            f"this machine's share, {runs} runs, is finished in '{path}': merge the folders with `foveate study "
            "merge`, and `foveate study resume` makes the table"
        )


def _check(means: Means, asked: Asked, data: Any) -> None:
    """Refuse what does not go together.

    Raises:
        OptionError: If the runs of a part are not known in advance, or samples are in this process alone.
    """
    if means.part is not None and (asked.grid or asked.sequential):
        what = "a grid of learning rates" if asked.grid else "seeds that are added until decided"
        raise OptionError(
            f"a part of the runs and {what} do not go together: which runs there are is known only when others are "
            "finished. Leave out one of the two, or let one machine give the runs to others with on='ray'"
        )
    check_choice("costs", means.costs, ("quick", "full"))
    if means.on.strip() != "here" and data is not None and not isinstance(data, str | Path):
        raise OptionError(
            f"samples that were read already are in this process alone, and runs were asked for on '{means.on}': "
            "give the folder instead, or on='here'"
        )


def described(prepared: Prepared, study: Study, jobs: Sequence[Job]) -> dict[str, Any]:
    """A study in plain values: what it asks, of what, by which rules, and the keys of its runs."""
    data, base = prepared.data, study.base
    return {
        "format": FORMAT,
        "kind": "foveate study",
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": prepared.quick,
        "work": base.work,
        "metric": {"name": prepared.metric[0], "better": prepared.metric[1]},
        "arms": [arm.as_dict() for arm in study.arms],
        "seeds": list(study.seeds),
        "rates": list(study.rates),
        "tuning_seeds": list(study.tuning_seeds),
        "fractions": list(study.fractions),
        "sequential": study.sequential,
        "relevant": study.relevant,
        "alpha": study.alpha,
        "shared": study.shared(),
        "places": dict(prepared.places),
        "data": {
            "name": data.name,
            "fingerprint": data.fingerprint,
            "classes": list(data.classes),
            "train": base.counts[0],
            "validation": base.counts[1],
            "test": base.counts[2],
            "report": "\n".join(data.report.lines()),
        },
        "rules": rules(study),
        "runs": [_entry(job) for job in jobs],
    }


def _entry(job: Job) -> dict[str, Any]:
    config = RunConfig.of(job.payload["config"])
    return {
        "arm": job.payload["arm"],
        "seed": config.seed,
        "stage": job.payload["stage"],
        "label": job.label,
        "key": job.key,
    }


def _of(arm: Arm) -> str:
    """The mechanism that an arm is about."""
    return arm.against or arm.name


def _way(better: str) -> Any:
    return "max" if better == "max" else "min"


__all__ = ["Comparison", "Means", "PartFinished", "Row", "compare", "resume"]
