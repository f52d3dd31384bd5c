"""Classification: image folders, networks of foveate, torchvision and timm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from foveate import hosts
from foveate.data import ImageClassification, fashion_mnist, image_folder
from foveate.train.classification import Classification
from foveate.train.drawing import captioned, centre_square
from foveate.train.kinds.kind import Data, Kind, Said
from foveate.train.pixels import Normalise
from foveate.train.recipe import Recipe


@dataclass(frozen=True)
class ClassificationOptions:
    """What can be chosen; see :class:`~foveate.train.classification.Classification`.

    Attributes:
        size: Height and width of the images; by what they are, if ``None``.
        on_error: Whether files that cannot be used are left out (``"skip"``) or stop everything (``"stop"``).
    """

    size: int | None = None
    on_error: Literal["skip", "stop"] = "skip"
    smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    shift: float = 1 / 8
    colours: float = 0.0


class _Classification(Kind[ClassificationOptions]):
    name: ClassVar[str] = "classification"
    host: ClassVar[str] = "foveate/resnet8"
    options: ClassVar[type[Any]] = ClassificationOptions
    usual: ClassVar[Mapping[str, Any]] = {"epochs": 10, "batch_size": 64, "learning_rate": 0.05, "weight_decay": 5e-4}

    def data(self, path: Path | None, options: ClassificationOptions, *, seed: int) -> ImageClassification:
        return (
            fashion_mnist(seed)
            if path is None
            else image_folder(path, size=options.size, on_error=options.on_error, seed=seed)
        )

    def settled(self, data: Data, options: ClassificationOptions, host: str) -> ClassificationOptions:  # noqa: ARG002
        return replace(options, size=int(data.train[0][0].shape[1]))

    def network(
        self,
        name: str,
        classes: Sequence[str],
        channels: int,
        weights: str | Path | None,
        options: ClassificationOptions,  # noqa: ARG002
    ) -> tuple[nn.Module, tuple[str, ...]]:
        return hosts.build_with_head(name, classes=len(classes), in_channels=channels, weights=weights)

    def channels(self, data: Data, weights: str | Path | None) -> int:
        """Those of the images, and three where there are weights."""
        return 3 if weights is not None else int(data.train[0][0].shape[0])

    def example(self, channels: int, options: ClassificationOptions) -> Tensor | None:
        return None if options.size is None else torch.zeros(1, channels, options.size, options.size)

    def task(
        self,
        network: nn.Module,
        data: Data,
        recipe: Recipe,
        options: ClassificationOptions,
        *,
        seed: int,
        new: tuple[str, ...],
    ) -> Classification:
        return Classification(
            network,
            data.train,
            data.validation,
            recipe,
            classes=data.classes,
            normalise=Normalise.usual(_taken(network, int(data.train[0][0].shape[0]))),
            seed=seed,
            new=new,
            smoothing=options.smoothing,
            mixup=options.mixup,
            cutmix=options.cutmix,
            shift=options.shift,
            colours=options.colours,
        )

    def say(
        self,
        network: nn.Module,
        pixels: UInt8[Tensor, "c h w"],
        classes: Sequence[str],
        options: ClassificationOptions,
    ) -> Said:
        assert options.size is not None  # noqa: S101 (settled)
        pixels = centre_square(pixels, options.size)
        with torch.no_grad():
            shares = network(Normalise.usual(pixels.shape[0])(pixels[None])).float().softmax(1)[0]
        ranked = shares.argsort(descending=True)[:5].tolist()
        best = ranked[0]
        content = {
            "class": classes[best],
            "probability": float(shares[best]),
            "probabilities": {classes[index]: float(shares[index]) for index in ranked},
        }
        return Said(content, captioned(pixels, f"{classes[best]} {float(shares[best]):.0%}"))


def _taken(network: nn.Module, there: int) -> int:
    """How many channels a network takes of images of so many: grey ones fill the three that weights were made for."""
    convolutions = (
        one for path, one in network.named_modules() if isinstance(one, nn.Conv2d) and ".foveate." not in f".{path}."
    )
    first = next(convolutions, None)
    return 3 if there == 1 and first is not None and first.in_channels == 3 else there


KIND = _Classification()
