"""Networks of segmentation-models-pytorch, by name: the architecture, a hyphen, the encoder."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Never

from torch import nn

from foveate.errors import FoveateError, MissingExtraError, OptionError, nearest

BACKBONE = "encoder."


def check(name: str) -> None:
    """Refuse what is no architecture and encoder of segmentation-models-pytorch.

    Raises:
        OptionError: With the nearest names.
        MissingExtraError: If segmentation-models-pytorch is not installed.

    Example:
        >>> check("unet-resnet18")
    """
    smp = _smp()
    architecture, _, encoder = name.partition("-")
    known = list(smp.MODEL_ARCHITECTURES_MAPPING)
    if architecture not in known:
        raise OptionError(f"segmentation-models-pytorch has no architecture '{architecture}'; "
                          f"{nearest(architecture, known)}")  # fmt: skip
    encoders: list[str] = smp.encoders.get_encoder_names()
    if encoder not in encoders and not encoder.startswith("tu-"):
        raise OptionError(
            f"segmentation-models-pytorch has no encoder '{encoder}' (smp/{architecture}-resnet18 names one); "
            f"{nearest(encoder, encoders)}; tu- and the name of a model of timm is one, too"
        )


def fresh(name: str, classes: int, in_channels: int, *, encoder_weights: str | None = None) -> nn.Module:
    """A network with random weights, or with published ones of its encoder.

    Raises:
        FoveateError: If it cannot be built of these parts, or the weights cannot be had.

    Example:
        >>> import torch
        >>> fresh("unet-resnet18", 5, 3).eval()(torch.zeros(1, 3, 64, 64)).shape
        torch.Size([1, 5, 64, 64])
    """
    architecture, _, encoder = name.partition("-")
    try:
        return _smp().create_model(architecture, encoder, encoder_weights, in_channels=in_channels, classes=classes)
    except Exception as error:
        weights = "" if encoder_weights is None else f" with the weights '{encoder_weights}'"
        raise FoveateError(f"segmentation-models-pytorch cannot make {name}{weights}: {error}") from error


def with_backbone(name: str, classes: int, in_channels: int) -> nn.Module:
    """A network whose encoder has weights of ImageNet.

    Raises:
        FoveateError: If they cannot be had.
    """
    return fresh(name, classes, in_channels, encoder_weights="imagenet")


def published(name: str, weights: str, in_channels: int) -> Never:  # noqa: ARG001 (a family's signature)
    """There are no published weights of whole networks.

    Raises:
        OptionError: Always, with what there is.
    """
    raise OptionError(f"smp/{name} has no weights '{weights}': 'backbone' for its encoder's, none, or a file")


def _smp() -> Any:
    try:
        return import_module("segmentation_models_pytorch")
    except ImportError as error:
        raise MissingExtraError("segmentation-models-pytorch", "train") from error
