"""A study from its first run to its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from foveate.errors import FoveateError
from foveate.study.description import described
from foveate.study.design import BASELINE, Arm
from foveate.study.execution import Job, UnfinishedError, carry_out, part_of
from foveate.study.folder import Folder
from foveate.study.means import Means
from foveate.study.plain import digest
from foveate.study.plan import Prepared
from foveate.study.progress import Reporter
from foveate.study.reading import read_json
from foveate.study.rows import Comparison, scores_of
from foveate.study.work import WORK, job_of

Records = dict[str, dict[str, Any]]


class Course:
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
        looking = GroupSequential(names, len(self.study.seeds), alpha=self.study.alpha, better=better)
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
        kept = self.folder.open_study({**described(self.prepared, study, only or jobs), "request": dict(self.request)})
        if kept is not None:
            self.notes.append(f"this folder held another comparison: its table and report are in '{kept}' now")

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


def _of(arm: Arm) -> str:
    """The mechanism that an arm is about."""
    return arm.against or arm.name
