"""One run: a network is built, trained and looked at, in whatever process, from its configuration alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

from foveate.errors import FoveateError
from foveate.measure import Conditions
from foveate.study.design import RunConfig
from foveate.study.elsewhere import other_samples
from foveate.study.execution.job import Finished, Job
from foveate.study.material import data_of, network_of
from foveate.study.outcome import finite, outcome_of
from foveate.study.reading import FORMAT, RUN
from foveate.train.kinds import kind_of
from foveate.train.recipe import Recipe
from foveate.train.task import Row

WORK = "foveate.study.work:carry_out"


def job_of(
    config: RunConfig,
    arm: str,
    *,
    stage: str,
    places: Mapping[str, str | None],
    maps: bool = False,
) -> Job:
    """A run as something that any process can carry out.

    Args:
        config: Of the run.
        arm: What its arm is called.
        stage: What it is for: ``"tuning"``, ``"main"`` or ``"fraction"``.
        places: Where samples (``"data"``), weights (``"weights"``) and other test samples are.
        maps: Whether what it attended to is kept.
    """
    told = {
        "tuning": f", learning rate {config.recipe['learning_rate']:g}",
        "fraction": f", {config.share:.0%} of the training samples",
    }
    payload = {"config": config.as_dict(), "arm": arm, "stage": stage, "places": dict(places), "maps": maps}
    label = f"{arm}, seed {config.seed}{told.get(stage, '')}"
    return Job(config.key, label, payload, arm=arm if config.share == 1 else f"{arm} {config.share:g}", maps=maps)


def carry_out(payload: Mapping[str, Any], note: Callable[[dict[str, Any]], None], /) -> Finished:
    """Carry a run out.

    Args:
        payload: As :func:`job_of` wrote it.
        note: Told after every epoch.

    Raises:
        FoveateError: If the samples are not those of the study, or the run cannot be trained.
    """
    from foveate.study.maps import capture
    from foveate.train.fitting import fit

    config, places = RunConfig.of(payload["config"]), payload["places"]
    begun, start = _now(), perf_counter()
    data = data_of(config, places.get("data"))
    network, new, assembly = network_of(config, data, places.get("weights"))
    recipe = Recipe(**config.recipe)
    kind = kind_of(config.work)
    task = kind.task(network, data, recipe, assembly.chosen(), seed=config.seed, new=new)
    watched = f"validation_{task.watched}"

    def tell(history: list[Row]) -> None:
        reached = history[-1].get(watched)
        said = "" if reached is None else f"{task.watched} {reached:.3g} in validation"
        note({"epoch": len(history), "epochs": recipe.epochs, "said": said})

    note({"epoch": 0, "epochs": recipe.epochs})
    fitted = fit(task, device="cuda" if config.device == "cuda" else "cpu", on_epoch=tell)
    trained = perf_counter()
    outcome: dict[str, Any] = {}
    if config.tested:
        outcome = outcome_of(task, data, fitted.best, config.look, other_samples(config.look, places, data))
        if not math.isfinite(outcome["test"].get(task.watched, math.nan)):
            raise FoveateError(
                f"{payload['arm']}, seed {config.seed}: the test {task.watched} is no number, because training "
                f"diverged: choose a lower learning rate than {recipe.learning_rate:g}"
            )
    tested = perf_counter()
    content = None
    if payload["maps"]:
        content = capture(task, data, key=config.key, arm=payload["arm"], config=config)
    record = {
        "format": FORMAT,
        "kind": RUN,
        "key": config.key,
        "arm": payload["arm"],
        "stage": payload["stage"],
        "seed": config.seed,
        "config": config.as_dict(),
        "metric": {"name": task.watched, "better": task.better},
        "history": curves_of(fitted.history),
        "best": dict(fitted.best),
        "validation": fitted.best.get(watched),
        **outcome,
        "seconds": {"train": trained - start, "test": tested - trained, "total": perf_counter() - start},
        "started": begun,
        "finished": _now(),
        "conditions": Conditions.here(config.device).as_dict(),
    }
    return Finished(finite(record), content)


def curves_of(history: Sequence[Row]) -> dict[str, list[float | None]]:
    """What was seen at the end of each epoch, a list a number.

    Example:
        >>> curves_of([{"epoch": 1, "train_loss": 2.0}, {"epoch": 2, "train_loss": 1.0}])
        {'epoch': [1, 2], 'train_loss': [2.0, 1.0]}
    """
    names = dict.fromkeys(name for row in history for name in row)
    return {name: [row.get(name) for row in history] for name in names}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
