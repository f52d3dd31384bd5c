"""Running a study: one run, one file; finished runs are kept, interrupted ones start again."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import nn

from foveate import hosts
from foveate.data import ImageClassification
from foveate.data.chance import generator
from foveate.errors import FoveateError, FoveateWarning
from foveate.measure import Conditions
from foveate.registry import parse
from foveate.study.design import Arm, RunConfig, Study
from foveate.study.folder import Folder
from foveate.study.progress import Reporter
from foveate.study.reading import FORMAT, RUN
from foveate.study.training.batches import Labelled, Part
from foveate.surgery.put import put


@dataclass(frozen=True)
class Material:
    """What all runs of a study share besides their configuration.

    Attributes:
        data: The images.
        weights: What to build the host with.
        mean: Of each channel that the host takes, of values from 0 to 1.
        std: Standard deviation of each.
        said: What was said of each arm when it was built: what is left out, what does not start as the host.
    """

    data: ImageClassification
    weights: str | Path | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    said: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])

    def train(self, count: int) -> Labelled:
        """So many training images, spread evenly over all of them."""
        all_of_them = len(self.data.train)
        if count == all_of_them:
            return self.data.train
        return Part(self.data.train, tuple(index * all_of_them // count for index in range(count)))


def build_network(
    config: RunConfig, classes: int, weights: str | Path | None, said: list[str] | None = None
) -> nn.Module:
    """The network of a run: the same host for the same seed, whatever is attached to it.

    Host and attention are initialised from two random streams, each of its own for every seed; the global stream is
    left as it was.

    Args:
        config: Of the run.
        classes: How many the host tells apart.
        weights: What to build the host with.
        said: A list for what foveate warns of, in sentences: every arm is built many times, and says it once.

    Example:
        >>> from foveate.study.plan import prepare
        >>> study, material = prepare(attention=("se",), seeds=1)
        >>> plain, attended = (build_network(config, 10, None) for _, config in study.runs())
        >>> torch.equal(plain.linear.weight, attended.linear.weight)
        True
    """
    said = [] if said is None else said
    channels = channels_of(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator("host", config.seed).initial_seed())
        network = hosts.build(config.host, classes=classes, in_channels=channels, weights=weights)
        if config.attention is not None and config.at is not None:
            torch.manual_seed(generator("attention", config.seed).initial_seed())
            example = torch.zeros(1, channels, *config.image_shape[1:])
            start = "paper" if config.start == "paper" else "identity"
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                put(network, parse(config.attention), at=config.at, start=start, example=example)
            for one in caught:
                if issubclass(one.category, FoveateWarning):
                    said.append(str(one.message))
                else:
                    warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    return network


def channels_of(config: RunConfig) -> int:
    """How many channels the host takes: those of the images, and three where it has weights."""
    return config.image_shape[0] if config.weights is None else 3


def run_all(
    study: Study, material: Material, folder: Folder, reporter: Reporter
) -> tuple[list[dict[str, Any]], list[str]]:
    """Run whatever is not finished yet.

    Args:
        study: What to run.
        material: What all runs share.
        folder: Where results go; this process must have it alone.
        reporter: Who wants to know.

    Returns:
        All runs in the order of the study, and sentences about what was interrupted or set aside before.

    Raises:
        FoveateError: If a result cannot be written, or a run cannot be trained.
        KeyboardInterrupt: If a person interrupts it; the run under way is then kept apart.
    """
    for key in folder.under_way():
        folder.interrupt(key)
    planned = list(study.runs())
    notes = folder.interruptions(config.key for _, config in planned)
    records: list[dict[str, Any] | None] = []
    for _, config in planned:
        record, note = folder.finished(config.key, maps=config.seed == study.seeds[0])
        records.append(record)
        notes += [note] if note else []
    reporter.begin(len(planned), sum(record is not None for record in records))
    results: list[dict[str, Any]] = []
    for (arm, config), record in zip(planned, records, strict=True):
        if record is None:
            try:
                record = _run(arm, config, material, folder, reporter, maps=config.seed == study.seeds[0])
            except BaseException:
                with suppress(FoveateError):  # where even a note cannot be moved, the next start finds it
                    folder.interrupt(config.key)
                raise
            reporter.finished()
        results.append(record)
    return results, notes


def _run(
    arm: Arm, config: RunConfig, material: Material, folder: Folder, reporter: Reporter, *, maps: bool
) -> dict[str, Any]:
    from foveate.study.maps import capture
    from foveate.study.training.classification import Curves, Pixels, Recipe
    from foveate.study.training.fit import evaluate, fit

    begun, start = _now(), perf_counter()
    key, data = config.key, material.data
    about = {"format": FORMAT, "key": key, "arm": arm.name, "seed": config.seed, "config": config.as_dict()}

    def note(curves: Curves) -> None:
        under_way = {"kind": "foveate run under way", "started": begun, "curves": _finite(asdict(curves))}
        folder.begin(key, {**about, **under_way})
        if curves.epoch:
            reporter.epoch(curves.epoch[-1], curves.validation_accuracy[-1])

    reporter.run(arm.name, config.seed, config.epochs)
    note(Curves())
    network = build_network(config, len(data.classes), material.weights)
    pixels = Pixels(material.mean, material.std)
    shared = {name: getattr(config, name) for name in Recipe.__dataclass_fields__}
    train = material.train(config.train_images)
    curves = fit(
        network,
        pixels,
        train,
        data.validation,
        Recipe(**shared),
        seed=config.seed,
        device=config.device,
        on_epoch=note,
    )
    trained = perf_counter()
    outcome = evaluate(network, pixels, data.test, device=config.device, batch_size=config.batch_size)
    tested = perf_counter()
    content = None
    if maps:
        attended = arm.spec is not None
        content = capture(network, pixels, data.test, key=key, arm=arm.name, seed=config.seed, attended=attended)
    record = {
        **about,
        "kind": RUN,
        "curves": asdict(curves),
        "test": {
            "loss": outcome.loss,
            "accuracy": outcome.accuracy,
            "count": len(data.test),
            "labels": data.test.labels.tolist(),
            "predictions": outcome.predictions.tolist(),
        },
        "seconds": {"train": trained - start, "test": tested - trained, "total": perf_counter() - start},
        "started": begun,
        "finished": _now(),
        "conditions": Conditions.here(config.device).as_dict(),
    }
    return folder.finish(key, _finite(record), content)


def _finite(value: Any) -> Any:
    """JSON has no word for what a diverged loss is; null says that there is no number."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
