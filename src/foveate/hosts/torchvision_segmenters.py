"""Networks of torchvision that segment, by name."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from torch import nn

from foveate.errors import FoveateError, MissingExtraError, OptionError, nearest
from foveate.hosts.torchvision_models import published

BACKBONE = "backbone."


def check(name: str) -> None:
    """Refuse what is not a segmentation model of torchvision.

    Raises:
        OptionError: With the nearest names.
        MissingExtraError: If torchvision is not installed.

    Example:
        >>> check("fcn_resnet50")
    """
    models = _models()
    known: list[str] = models.list_models(module=models.segmentation)
    if name not in known:
        raise OptionError(f"torchvision has no segmentation model '{name}'; {nearest(name, known)}")


def fresh(name: str, classes: int, in_channels: int, *, backbone: str | None = None) -> nn.Module:
    """A network with random weights; where it can have an auxiliary head, it has one.

    Args:
        name: The model.
        classes: Logits for every pixel.
        in_channels: Must be 3.
        backbone: The name of the backbone's published weights; ``"DEFAULT"`` for torchvision's usual ones.

    Raises:
        OptionError: If the channels are not 3.
        FoveateError: If the backbone's weights cannot be had.

    Example:
        >>> sorted(fresh("lraspp_mobilenet_v3_large", 5, 3)._modules)
        ['backbone', 'classifier']
    """
    if in_channels != 3:
        raise OptionError(f"torchvision/{name} takes images of 3 channels, not {in_channels}: repeat a grey image")
    auxiliary = {} if name.startswith("lraspp") else {"aux_loss": True}
    try:
        return _models().get_model(name, weights=None, weights_backbone=backbone, num_classes=classes, **auxiliary)
    except Exception as error:
        if backbone is None:
            raise
        raise FoveateError(
            f"the weights of torchvision/{name}'s backbone can be neither read nor downloaded ({error}): use "
            "weights=none, or give a file"
        ) from error


def with_backbone(name: str, classes: int, in_channels: int) -> nn.Module:
    """A network whose backbone has published weights.

    Raises:
        FoveateError: If they cannot be had.
    """
    return fresh(name, classes, in_channels, backbone="DEFAULT")


def _models() -> Any:
    try:
        return import_module("torchvision.models")
    except ImportError as error:
        raise MissingExtraError("torchvision", "hosts") from error


__all__ = ["BACKBONE", "check", "fresh", "published", "with_backbone"]
