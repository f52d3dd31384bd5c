"""Object detection: images with boxes as COCO or Pascal VOC annotate them, detectors of torchvision."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from foveate.data.boxes.detection import Detection
from foveate.data.boxes.folder import box_folder, scene_boxes
from foveate.hosts.detectors import build_detector
from foveate.train.detection import ObjectDetection, found
from foveate.train.drawing import enlarged, rgb, with_boxes
from foveate.train.kinds.kind import Data, Kind, Said
from foveate.train.recipe import Recipe

LARGEST_DEFAULT = 800


@dataclass(frozen=True)
class DetectionOptions:
    """What can be chosen; see :class:`~foveate.train.detection.ObjectDetection`.

    Attributes:
        size: To which the shorter side of an image is resized; by default the median of what they are, at most 800.
        largest: What the longer side may then have; 1333/800 of ``size``, if ``None``.
        frozen_norms: See :func:`~foveate.hosts.detectors.build_detector`.
        on_error: Whether what cannot be used is left out (``"skip"``) or stops everything (``"stop"``).
        score: The smallest score of a box that is drawn and written down.
    """

    size: int | None = None
    largest: int | None = None
    frozen_norms: bool = False
    on_error: Literal["skip", "stop"] = "skip"
    score: float = 0.5
    zoom: float = 0.2
    colours: float = 0.2
    crop: bool = False


class _Detection(Kind[DetectionOptions]):
    name: ClassVar[str] = "detection"
    host: ClassVar[str] = "foveate/fcos_resnet18_fpn"
    options: ClassVar[type[Any]] = DetectionOptions
    usual: ClassVar[Mapping[str, Any]] = {
        "epochs": 12,
        "batch_size": 8,
        "learning_rate": 0.01,
        "clip": 10.0,
    }

    def data(self, path: Path | None, options: DetectionOptions, *, seed: int) -> Detection:
        return scene_boxes(seed) if path is None else box_folder(path, on_error=options.on_error, seed=seed)

    def settled(self, data: Data, options: DetectionOptions, host: str) -> DetectionOptions:  # noqa: ARG002
        if options.size is not None:
            return options
        sizes: Sequence[tuple[int, int]] = getattr(data.train, "sizes", ())
        usual = int(statistics.median(min(size) for size in sizes)) if sizes else LARGEST_DEFAULT
        return replace(options, size=max(32, min(LARGEST_DEFAULT, usual)))

    def network(
        self,
        name: str,
        classes: Sequence[str],
        channels: int,  # noqa: ARG002  # images are RGB
        weights: str | Path | None,
        options: DetectionOptions,
    ) -> tuple[nn.Module, tuple[str, ...]]:
        return build_detector(
            name,
            classes=len(classes),
            weights=weights,
            size=LARGEST_DEFAULT if options.size is None else options.size,
            largest=options.largest,
            frozen_norms=options.frozen_norms,
        )

    def channels(self, data: Data, weights: str | Path | None) -> int:  # noqa: ARG002
        """Three: images are RGB."""
        return 3

    def example(self, channels: int, options: DetectionOptions) -> list[Tensor]:
        """A list of one image, as torchvision's detectors take it."""
        side = LARGEST_DEFAULT if options.size is None else options.size
        return [torch.zeros(channels, side, side)]

    def task(
        self,
        network: nn.Module,
        data: Data,
        recipe: Recipe,
        options: DetectionOptions,
        *,
        seed: int,
        new: tuple[str, ...],
    ) -> ObjectDetection:
        return ObjectDetection(
            network,
            data.train,
            data.validation,
            recipe,
            classes=data.classes,
            seed=seed,
            new=new,
            zoom=options.zoom,
            colours=options.colours,
            crop=options.crop,
        )

    def say(
        self,
        network: nn.Module,
        pixels: UInt8[Tensor, "c h w"],
        classes: Sequence[str],
        options: DetectionOptions,
    ) -> Said:
        with torch.no_grad():
            things = found(network([rgb(pixels).float() / 255])[0], options.score)
        labels = things["labels"].tolist()
        names = [classes[label] for label in labels]
        scores: list[float] = things["scores"].tolist()
        texts = [f"{name} {score:.0%}" for name, score in zip(names, scores, strict=True)]
        large = enlarged(pixels)
        times = large.shape[1] / pixels.shape[1]
        content = {
            "found": ", ".join(f"{count} {name}" for name, count in Counter(names).most_common()) or "nothing",
            "things": [
                {"class": name, "score": score, "box": box}
                for name, score, box in zip(names, scores, things["boxes"].tolist(), strict=True)
            ],
        }
        picture = with_boxes(large, things["boxes"] * times, things["labels"], texts)
        return Said(content, picture, merge=lambda heats: unpadded(heats, network, rgb(pixels)))

    def shown_place(self, heats: Mapping[str, Float[Tensor, "_ _"]]) -> str:
        """The finest map, of the neck if something is attended there: the last one of a pyramid is the coarsest."""
        neck = [name for name in heats if ".fpn." in name]
        return max(neck or heats, key=lambda name: heats[name].numel())


def unpadded(heats: Tensor, network: nn.Module, pixels: UInt8[Tensor, "3 h w"]) -> Float[Tensor, "1 h w"]:
    """A map of positions without the padding on the right and below that detectors add to make batches."""
    (height, width), sides = sides_in(network, (pixels.shape[1], pixels.shape[2]))
    whole = F.interpolate(heats[:1].float(), sides, mode="bilinear", align_corners=False)[0]
    return whole[:, :height, :width]


def sides_in(network: nn.Module, size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Height and width that a detector makes of an image, and those with what it adds on the right and below."""
    transform: Any = network.transform
    with torch.no_grad():
        images, _ = transform([torch.zeros(3, *size)])
    return tuple(images.image_sizes[0]), tuple(images.tensors.shape[-2:])


KIND = _Detection()
