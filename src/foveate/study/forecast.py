"""How long a study takes, told before it begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import torch

from foveate.data.chance import generator
from foveate.study.counting import counted
from foveate.study.design import Arm, Study
from foveate.study.execution import Job, estimate
from foveate.study.material import data_of, network_of
from foveate.study.plan import Prepared
from foveate.study.progress import duration
from foveate.study.work import job_of
from foveate.train.kinds import kind_of
from foveate.train.recipe import Recipe

STEPS = 3
BESIDES = 1.15  # what a run takes besides steps and looks: checkpoints, metrics, samples


@dataclass(frozen=True)
class Forecast:
    """What is to be done, and how long it takes about.

    Attributes:
        stages: How many runs each stage has.
        seconds_of: A run of each arm, with all training samples.
        seconds: All runs, so many at once as there are workers.
        workers: How many at once.
        most: Whether fewer runs may do, because seeds are added until the question is decided.
    """

    stages: Mapping[str, int]
    seconds_of: Mapping[str, float]
    seconds: float
    workers: int
    most: bool = False

    def lines(self) -> list[str]:
        """The same in words."""
        parts = ", ".join(f"{count:,} for {stage}" for stage, count in self.stages.items() if count)
        total = sum(self.stages.values())
        at_once = "one at a time" if self.workers == 1 else f"{self.workers} at once"
        slowest = max(self.seconds_of, key=lambda arm: self.seconds_of[arm])
        quickest = min(self.seconds_of, key=lambda arm: self.seconds_of[arm])
        return [
            f"{'at most ' if self.most else ''}{counted(total, 'run')}: {parts}",
            f"a run takes about {duration(self.seconds_of[quickest])} ({quickest}) to "
            f"{duration(self.seconds_of[slowest])} ({slowest})",
            f"all of them take {'at most ' if self.most else ''}about {duration(self.seconds)}, {at_once}, without the "
            "cost and the report",
        ]


def forecast(prepared: Prepared, workers: int = 1) -> Forecast:
    """Time a few steps of every arm, and add up what a study would take.

    Args:
        prepared: The study.
        workers: How many runs are carried out at once.
    """
    study = prepared.study
    seconds_of = {arm.name: _seconds(prepared, arm) for arm in study.arms}
    jobs = {stage: list(_jobs(prepared, stage)) for stage in ("tuning", "main", "fraction")}
    known = dict(seconds_of)
    for share in study.fractions:
        known |= {f"{arm.name} {share:g}": share * seconds_of[arm.name] for arm in study.arms}
    everything = [job for some in jobs.values() for job in some]
    named = {"tuning": "learning rates", "main": "the comparison", "fraction": "fewer samples"}
    return Forecast(
        {named[stage]: len(some) for stage, some in jobs.items()},
        seconds_of,
        estimate(everything, known, workers),
        workers,
        study.sequential,
    )


def _jobs(prepared: Prepared, stage: str) -> Sequence[Job]:
    study: Study = prepared.study
    runs: dict[str, Any] = {
        "tuning": ((arm, config) for arm, _, config in study.tuning()),
        "main": study.runs(),
        "fraction": ((arm, config) for arm, _, config in study.curve()),
    }
    return [job_of(config, arm.name, stage=stage, places=prepared.places) for arm, config in runs[stage]]


def _seconds(prepared: Prepared, arm: Arm) -> float:
    """A run of an arm: its steps, and its looks at validation and test."""
    config = prepared.study.config(arm, prepared.study.seeds[0])
    data, kind = data_of(config, prepared.places["data"]), kind_of(config.work)
    network, new, assembly = network_of(config, data, prepared.places["weights"])
    recipe = Recipe(**config.recipe)
    task = kind.task(network, data, recipe, assembly.chosen(), seed=0, new=new)
    count = min(recipe.batch_size, len(data.train))
    parameters = [one for one in network.parameters() if one.requires_grad]

    def batch(samples: Any, draw: str | None) -> Any:
        chance = [None if draw is None else generator(draw, index) for index in range(count)]
        return task.collate([task.prepare(samples[index % len(samples)], chance[index]) for index in range(count)])

    def learn() -> None:
        loss, _ = task.step(batch(data.train, "forecast"))
        if loss is not None:
            torch.autograd.grad(loss, parameters, allow_unused=True)

    def see() -> None:
        with torch.no_grad():
            task.step(batch(data.validation, None))

    with torch.random.fork_rng(devices=[]):
        step = _timed(learn, task.train())
        look = _timed(see, task.eval())
    looks = recipe.epochs * len(data.validation) + len(data.validation) + len(data.test)
    corrupted = min(config.look.corrupted, len(data.test)) * 16 * len(config.look.corruptions)
    steps = recipe.epochs * max(1, len(data.train) // count)
    return BESIDES * (steps * step + (looks + corrupted) / count * look)


def _timed(call: Any, _mode: Any) -> float:
    call()
    seen: list[float] = []
    for _ in range(STEPS):
        begun = perf_counter()
        call()
        seen.append(perf_counter() - begun)
    return median(seen)
