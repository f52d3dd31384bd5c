"""Object detection: where on an image things of several classes are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.detection import MeanAveragePrecision

from foveate.data.boxes.detection import Boxes
from foveate.data.chance import between, chosen
from foveate.data.samples import Samples
from foveate.errors import OptionError
from foveate.train.box_changes import cropped, mirrored, zoomed
from foveate.train.pixels import jitter_colours
from foveate.train.recipe import Recipe
from foveate.train.task import VALIDATION, Row, Task

Batch = tuple[list[Tensor], list[Boxes]]
READ = ("map", "map_50", "map_75", "mar_100")


class ObjectDetection(Task):
    """A network that learns to find things, as torchvision's detectors do.

    In training it is given images and boxes and returns losses by name, which are added up; in evaluation it returns
    boxes, scores and labels, which are measured by COCO's average precision. Crowds and difficult things are not
    learned, and neither counted for nor against the network.

    Args:
        network: From a list of images of values from 0 to 1; it calls the classes 1 upwards.
        train: To learn from: pairs of a byte image and :class:`~foveate.data.detection.Boxes`.
        validation: To choose by.
        recipe: How.
        classes: What the numbers stand for.
        seed: Of everything random.
        new: See :class:`~foveate.train.task.Task`.
        zoom: By which share an image is enlarged or made smaller at most, the size of the picture being kept.
        colours: How far brightness, contrast and saturation are changed, as shares; 0 for not at all.
        crop: Whether half of the images lose a part of their edge on which nothing is marked.

    Raises:
        OptionError: If a number is out of its range.
    """

    kind: ClassVar[str] = "detection"
    watched: ClassVar[str] = "map"

    def __init__(
        self,
        network: nn.Module,
        train: Samples,
        validation: Samples,
        recipe: Recipe,
        *,
        classes: Sequence[str],
        seed: int = 0,
        new: tuple[str, ...] = (),
        zoom: float = 0.2,
        colours: float = 0.2,
        crop: bool = False,
    ) -> None:
        super().__init__(network, train, validation, recipe, seed=seed, new=new)
        for name, value in (("zoom", zoom), ("colours", colours)):
            if not 0 <= value < 1:
                raise OptionError(f"{name} must be from 0 to below 1, not {value}")
        self.classes = tuple(classes)
        self.zoom, self.colours, self.crop = zoom, colours, crop

    def forward(self, pixels: list[UInt8[Tensor, "3 h w"]]) -> list[dict[str, Tensor]]:
        """Boxes, scores and labels, from 1, of each image."""
        return self.network([one.float() / 255 for one in pixels])

    def prepare(self, sample: tuple[Tensor, Boxes], draw: torch.Generator | None) -> tuple[Tensor, Boxes]:
        """The image with its boxes, mirrored, zoomed and coloured by chance."""
        if draw is None:
            return sample
        if self.colours:
            sample = jitter_colours(sample[0], self.colours, draw), sample[1]
        if self.crop and chosen(0.5, draw):
            sample = cropped(sample, draw)
        if self.zoom:
            sample = zoomed(sample, between(1 - self.zoom, 1 + self.zoom, draw), draw)
        return mirrored(sample) if chosen(0.5, draw) else sample

    def collate(self, samples: list[tuple[Tensor, Boxes]]) -> Batch:
        """Images of any sizes, and what is on each."""
        return [pixels for pixels, _ in samples], [boxes for _, boxes in samples]

    def step(self, batch: Batch) -> tuple[Tensor | None, Any]:
        """The sum of the losses in training; what is found in evaluation."""
        pixels, boxes = batch
        if not self.network.training:
            return None, self(pixels)
        images = [one.float() / 255 for one in pixels]
        losses = self.network(images, [_wanted(one) for one in boxes])
        return torch.stack([loss.float() for loss in losses.values()]).sum(), None

    def new_metrics(self, split: str) -> Mapping[str, Metric]:
        """Average precision, of validation alone: nothing is found in training."""
        if split != VALIDATION:
            return {}
        # COCO's own thresholds: those that torchmetrics makes are single-precision, and miss a recall of just 0.2
        overlaps, recalls = np.linspace(0.5, 0.95, 10).tolist(), np.linspace(0, 1, 101).tolist()
        metric = MeanAveragePrecision("xyxy", "bbox", overlaps, recalls, class_metrics=True, backend="pycocotools")
        metric.warn_on_many_detections = False
        return {"precision": metric}

    def count(self, metrics: Mapping[str, Metric], said: Any, batch: Batch) -> None:
        """Count what was found."""
        for metric in metrics.values():
            metric.update([found(one) for one in said], [_there(one) for one in batch[1]])

    def read(self, metrics: Mapping[str, Metric]) -> Row:
        """COCO's numbers: ``map`` is the mean over overlaps from 0.5 to 0.95; those of classes are kept apart."""
        if not metrics:
            return {}
        numbers = metrics["precision"].compute()
        by_class = zip(numbers["classes"].reshape(-1).tolist(), _each(numbers["map_per_class"]), strict=True)
        self.by_class = {self.classes[int(label)]: value for label, value in by_class}
        return {name: _known(numbers[name]) for name in READ}

    def details(self) -> dict[str, Any]:
        """The average precision of each class that was there."""
        return {"classes": {name: {"map": self.by_class.get(name, float("nan"))} for name in self.classes}}

    def prepared_example(self) -> tuple[Any, ...]:
        """One image, in a list."""
        return ([self.prepare(self.samples[1][0], None)[0].float() / 255],)


def found(said: Mapping[str, Tensor], least: float = 0.0) -> dict[str, Tensor]:
    """What a detector says of one image, with labels from 0, and boxes in full precision.

    Args:
        said: Boxes, scores and labels from 1; 0, which some detectors know, is nothing.
        least: The smallest score that is kept.
    """
    kept = (said["labels"] > 0) & (said["scores"] >= least)
    return {
        "boxes": said["boxes"][kept].detach().float(),
        "scores": said["scores"][kept].detach().float(),
        "labels": said["labels"][kept] - 1,
    }


def _wanted(boxes: Boxes) -> dict[str, Tensor]:
    learned = ~boxes.crowd
    return {"boxes": boxes.boxes[learned], "labels": boxes.labels[learned] + 1}


def _there(boxes: Boxes) -> dict[str, Tensor]:
    return {"boxes": boxes.boxes, "labels": boxes.labels, "iscrowd": boxes.crowd.long()}


def _known(value: Tensor) -> float:
    """A number; COCO says -1 where nothing was to be found."""
    number = float(value)
    return number if number >= 0 else float("nan")


def _each(values: Tensor) -> list[float]:
    return [_known(value) for value in values.reshape(-1)]
