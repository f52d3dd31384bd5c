"""Studies that take moments: a few images of the embedded sample, and runs that only pretend."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from foveate.data import ImageClassification, fashion_mnist
from foveate.errors import FoveateError
from foveate.study import course, pricing, report
from foveate.study.asked import Asked
from foveate.study.design import RunConfig
from foveate.study.execution.job import Finished
from foveate.study.reading import FORMAT, RUN

PRETEND = "tests.study.tiny:pretend"
COUNTS = {"train": 4, "validation": 2, "test": 3}
EPOCH = Asked(settings={"epochs": 1}, train_samples=64)


@cache
def data(test: int = 40) -> ImageClassification:
    """Of the embedded sample 64 images to learn from, 32 to choose by and some to test on."""
    whole = fashion_mnist()
    return replace(
        whole,
        train=whole.train.take(range(0, 1800, 28)[:64]),
        validation=whole.validation.take(range(32)),
        test=whole.test.take(range(test)),
        fingerprint=f"a few of them, {test}",
    )


def few(work: str) -> Any:
    """Of the embedded sample of some work two batches' worth."""
    from foveate.train.kinds import kind_of

    kind = kind_of(work)
    whole: Any = kind.data(None, kind.options(), seed=0)
    splits = {name: getattr(whole, name).take(range(count)) for name, count in COUNTS.items()}
    return replace(whole, **splits, fingerprint=f"a few of {work}")


def unseen(patch: Any) -> None:
    """Neither time nor draw: both have tests of their own."""
    patch.setattr(report, "write", lambda *_: None)
    patch.setattr(pricing, "price", lambda *_, **__: {"arms": {}, "conditions": {"device": "cpu"}})


class Pretence:
    """Runs that have a score by arm and seed, and are written down in the order in which they were asked for.

    Attributes:
        score: Of a configuration and an arm's name; ``None`` if it cannot be trained.
        asked: Stage, arm, seed and configuration of each run.
    """

    def __init__(self, score: Callable[[RunConfig, str], float | None]) -> None:
        self.score = score
        self.asked: list[tuple[str, str, int, RunConfig]] = []

    def seeds(self, arm: str, stage: str = "main") -> list[int]:
        return [seed for kind, name, seed, _ in self.asked if (kind, name) == (stage, arm)]


PRETENCE: Pretence | None = None


def pretending(patch: Any, score: Callable[[RunConfig, str], float | None]) -> Pretence:
    """Have all runs of this test pretend."""
    unseen(patch)
    found = Pretence(score)
    patch.setattr(course, "WORK", PRETEND)
    patch.setattr("tests.study.tiny.PRETENCE", found)
    return found


def pretend(payload: Mapping[str, Any], note: Any) -> Finished:
    """A record like one of a real run."""
    assert PRETENCE is not None
    config, arm = RunConfig.of(payload["config"]), payload["arm"]
    PRETENCE.asked.append((payload["stage"], arm, config.seed, config))
    score = PRETENCE.score(config, arm)
    if score is None:
        raise FoveateError("the loss is nan in epoch 1, step 1: a smaller learning rate may help")
    content = b"" if payload["maps"] else None
    return Finished(record_of(config, arm, payload["stage"], score), maps_of() if content is not None else None)


def record_of(config: RunConfig, arm: str, stage: str, score: float, **more: Any) -> dict[str, Any]:
    tested = {"test": {"accuracy": score, "loss": 1.0}, "gap": {"accuracy": 0.1}, "scores": None}
    return {
        "format": FORMAT,
        "kind": RUN,
        "key": config.key,
        "arm": arm,
        "stage": stage,
        "seed": config.seed,
        "config": config.as_dict(),
        "history": {"epoch": [1]},
        "validation": score,
        **(tested if config.tested else {}),
        "seconds": {"train": 1.0, "test": 0.5, "total": 1.5},
        **more,
    }


def maps_of() -> bytes:
    import torch

    from foveate.study.folder import maps_bytes

    return maps_bytes({"labels": torch.zeros(1)}, {"maps": "[]"})
