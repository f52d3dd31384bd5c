"""Semantic segmentation: folders of images and masks, networks of foveate, torchvision and others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor, nn

from foveate.data.masks.folder import mask_folder
from foveate.data.masks.scenes import scene_masks
from foveate.data.masks.segmentation import Segmentation
from foveate.hosts.segmenters import build_segmenter, usual_crop
from foveate.registry import Spec, get
from foveate.surgery.put import usual_place
from foveate.train.drawing import with_mask
from foveate.train.kinds.kind import Data, Kind, Said
from foveate.train.pixels import Normalise
from foveate.train.recipe import Recipe
from foveate.train.segmentation import SemanticSegmentation, shares_of
from foveate.train.sliding import Windows

WINDOWS = 4  # at once, where nothing is learned
# the authors' recipe; they take 16 images a step
PSANET: Mapping[str, Any] = {
    "optimizer": "sgd",
    "learning_rate": 0.01,
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "power": 0.9,
    "warmup": 0.0,
    "new_rate": 10.0,
}


@dataclass(frozen=True)
class SegmentationOptions:
    """What can be chosen; see :class:`~foveate.train.segmentation.SemanticSegmentation`.

    Attributes:
        crop: Height and width of what a network trains on and looks through; by the images and the network, if
            ``None``.
        width: Channels of the first level of one of our networks; as :func:`~foveate.hosts.segmenters.build_segmenter`.
        psa: Options of PSANet's attention; ``None`` leaves it out.
        instances: Whether each number above 0 in a mask is an object, and all of them are one class.
        ignore: The number in masks of pixels that belong to no class.
        on_error: Whether images that cannot be used are left out (``"skip"``) or stop everything (``"stop"``).
        balance: Whether the pixels of rare classes count more in cross-entropy: by the median frequency over that of
            the class (Eigen and Fergus 2015).
    """

    crop: int | None = None
    width: int | None = None
    psa: str | None = "psanet"
    instances: bool = False
    ignore: int | None = 255
    on_error: Literal["skip", "stop"] = "skip"
    scale: float = 2.0
    colours: float = 0.0
    dice: float = 0.0
    auxiliary: float = 0.4
    balance: bool = False


class _Segmentation(Kind[SegmentationOptions]):
    name: ClassVar[str] = "segmentation"
    host: ClassVar[str] = "foveate/unet"
    options: ClassVar[type[Any]] = SegmentationOptions
    usual: ClassVar[Mapping[str, Any]] = {
        "epochs": 12,
        "batch_size": 8,
        "optimizer": "adamw",
        "learning_rate": 0.003,
        "schedule": "poly",
    }

    def usual_of(self, host: str) -> Mapping[str, Any]:
        return {**self.usual, **PSANET} if host.startswith("foveate/psanet") else self.usual

    def usual_place(self, host: str, attention: Spec) -> str | None:
        """On the skips of our U-Net: it has no residual joins."""
        acts = get(attention.name).protocol == "attention" and usual_place(attention) == "residual"
        return "skip" if acts and host == "foveate/unet" else None

    def data(self, path: Path | None, options: SegmentationOptions, *, seed: int) -> Segmentation:
        if path is None:
            return scene_masks(seed)
        return mask_folder(
            path, ignore=options.ignore, instances=options.instances, on_error=options.on_error, seed=seed
        )

    def settled(self, data: Data, options: SegmentationOptions, host: str) -> SegmentationOptions:
        assert isinstance(data, Segmentation)  # noqa: S101 (it is what `data` returns)
        return options if options.crop is not None else replace(options, crop=usual_crop(host, data.side))

    def network(
        self,
        name: str,
        classes: Sequence[str],
        channels: int,
        weights: str | Path | None,
        options: SegmentationOptions,
    ) -> tuple[nn.Module, tuple[str, ...]]:
        return build_segmenter(
            name,
            classes=len(classes),
            in_channels=channels,
            weights=weights,
            crop=_crop(options),
            width=options.width,
            psa=options.psa,
        )

    def channels(self, data: Data, weights: str | Path | None) -> int:  # noqa: ARG002
        """Three: images are read as RGB."""
        return 3

    def example(self, channels: int, options: SegmentationOptions) -> Tensor:
        return torch.zeros(1, channels, _crop(options), _crop(options))

    def task(
        self,
        network: nn.Module,
        data: Data,
        recipe: Recipe,
        options: SegmentationOptions,
        *,
        seed: int,
        new: tuple[str, ...],
    ) -> SemanticSegmentation:
        assert isinstance(data, Segmentation)  # noqa: S101 (it is what `data` returns)
        return SemanticSegmentation(
            network,
            data.train,
            data.validation,
            recipe,
            classes=data.classes,
            crop=_crop(options),
            seed=seed,
            new=new,
            scale=options.scale,
            colours=options.colours,
            dice=options.dice,
            auxiliary=options.auxiliary,
            class_weights=balanced(data.report.pixels["train"]) if options.balance else None,
        )

    def say(
        self,
        network: nn.Module,
        pixels: UInt8[Tensor, "c h w"],
        classes: Sequence[str],
        options: SegmentationOptions,
    ) -> Said:
        crop = _crop(options)
        windows = Windows.over(pixels.shape[1], pixels.shape[2], crop)
        with torch.no_grad():
            mask = shares_of(network, Normalise.usual(3), pixels, crop, WINDOWS).argmax(0)
        counts = mask.flatten().bincount(minlength=len(classes)).tolist()
        shares = {name: count / mask.numel() for name, count in zip(classes, counts, strict=True) if count}

        def merge(heats: Tensor) -> Tensor:
            return windows.merge(F.interpolate(heats, (crop, crop), mode="bilinear", align_corners=False))

        return Said({"shares": shares}, with_mask(pixels, mask), mask.to(torch.uint8), merge)


def balanced(pixels: Mapping[str, int]) -> list[float]:
    """What the pixels of each class count: the median of their numbers over each; 1 where there are none.

    Example:
        >>> balanced({"ground": 900, "leaf": 90, "stem": 10, "none": 0})
        [0.1, 1.0, 9.0, 1.0]
    """
    there = sorted(count for count in pixels.values() if count)
    median = there[len(there) // 2] if len(there) % 2 else sum(there[len(there) // 2 - 1 :][:2]) / 2
    return [median / count if count else 1.0 for count in pixels.values()]


def _crop(options: SegmentationOptions) -> int:
    assert options.crop is not None  # noqa: S101 (settled)
    return options.crop


KIND = _Segmentation()
