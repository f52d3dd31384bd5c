"""What a trained network comes to: on test samples, on training samples, and where images are not what they were."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from foveate.attention import maps_of
from foveate.data.corruptions import CORRUPTIONS, Corrupted
from foveate.data.corruptions.corrupted import unfit
from foveate.data.samples import Samples
from foveate.study.calibration import scaled_calibration
from foveate.study.design import Look
from foveate.train.counting import alone
from foveate.train.kinds import Data
from foveate.train.loader import in_order
from foveate.train.report import Spread, gaps
from foveate.train.task import Task


def outcome_of(
    task: Task, data: Data, best: Mapping[str, float], look: Look, shifted: Mapping[str, Samples]
) -> dict[str, Any]:
    """Everything that is compared of a run, as plain values.

    Args:
        task: With the weights that validation chose.
        data: The samples.
        best: What validation said of these weights.
        look: What is looked at besides the test samples.
        shifted: Other test samples, by name.
    """
    learned, _, _ = looked(task, Spread(data.train, len(data.validation)))
    test, scores, said = looked(task, data.test)
    found: dict[str, Any] = {
        "test": test,
        "details": task.details(),
        "learned": learned,
        "gap": {name: learned[name] - test[name] for name in learned if name in test},
        "validation_gap": gaps(learned, best),
        "scores": scores,
        "answers": answers_of(said),
    }
    if said and isinstance(said[0], Tensor) and said[0].ndim == 2 and task.kind == "classification":
        _, _, chosen_by = looked(task, data.validation)
        pairs = [
            (torch.cat(list(logits)).float().softmax(1), labels_of(samples))
            for logits, samples in ((chosen_by, data.validation), (said, data.test))
        ]
        if all(bool(torch.isfinite(probabilities).all()) for probabilities, _ in pairs):
            found["calibration"] = asdict(scaled_calibration(pairs[0], pairs[1]))
    if look.corruptions:
        found["corruptions"] = corrupted_of(task, Spread(data.test, look.corrupted), look.corruptions)
    if look.focus and task.kind == "classification":
        found["focus"] = focus_of(task, data, look.focus)
    found["shifted"] = {name: looked(task, samples)[0] for name, samples in shifted.items()}
    return found


def looked(task: Task, samples: Any) -> tuple[dict[str, float], list[float] | None, list[Any]]:
    """What the metrics of validation say of samples, the score of each, and what was said of each batch."""
    task.setup("test")
    task.eval()
    scores: list[float] | None = []
    answers: list[Any] = []
    recipe = task.recipe
    with torch.no_grad(), alone(task.metrics):
        for batch in in_order(samples, recipe.batch_size, task.prepare, task.collate, workers=recipe.workers):
            said = task.look(batch)
            each = task.scores(said, batch)
            scores = None if scores is None or each is None else [*scores, *map(float, each)]
            if task.kind == "classification":
                answers.append(said)
        numbers = task.read_validation()
    return {name: float(value) for name, value in numbers.items()}, scores, answers


def corrupted_of(task: Task, samples: Any, strengths: Sequence[int]) -> dict[str, dict[str, float | None]]:
    """What is watched, on samples that were corrupted in every way at several strengths; nothing for what cannot be."""
    if unfit(samples[0][0]):
        return {}
    return {
        name: {
            str(strength): looked(task, Corrupted(samples, name, strength))[0].get(task.watched)
            for strength in strengths
        }
        for name in CORRUPTIONS
    }


def focus_of(task: Any, data: Data, count: int) -> dict[str, dict[str, float | None]]:
    """Whether the answer hangs on what maps mark: areas of insertion and deletion curves, means over some test images.

    Attention's own map is measured where there is attention, and Grad-CAM's of the same network beside it; the image's
    middle and no order at all are what every map has to beat.
    """
    from foveate.explain import record
    from foveate.explain.activation import class_activation
    from foveate.explain.heat import heat
    from foveate.explain.trust.faithful import faithful

    some = Spread(data.test, count)
    pairs = [some[index] for index in range(len(some))]
    images = task.normalise(torch.stack([pixels for pixels, _ in pairs]))
    targets = [int(label) for _, label in pairs]
    network = task.network.eval()
    maps: dict[str, Tensor] = {"Grad-CAM": class_activation(network, images, targets)}
    if maps_of(network):
        with torch.no_grad(), record(network) as recording:
            network(images)
        if recording.emphasis:
            maps["attention"] = heat(recording)
    found = faithful(network, images, targets, maps, steps=10, with_road=False)
    return {
        which: {measure: found.mean(which, measure).mean for measure in measures}
        for which, measures in found.values.items()
    }


def answers_of(said: Sequence[Any]) -> list[int] | None:
    """The class that is said of each sample, where one is."""
    if not said or not isinstance(said[0], Tensor) or said[0].ndim != 2:
        return None
    return torch.cat(list(said)).argmax(1).tolist()


def labels_of(samples: Any) -> Tensor:
    """The class of each sample."""
    return torch.tensor([int(samples[index][1]) for index in range(len(samples))])


def finite(value: Any) -> Any:
    """JSON has no word for what a diverged loss is; null says that there is no number."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): finite(inner) for name, inner in value.items()}
    if isinstance(value, Tensor):
        return finite(value.tolist())
    return [finite(inner) for inner in value] if isinstance(value, list | tuple) else value
