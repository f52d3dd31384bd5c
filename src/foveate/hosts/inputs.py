"""Which input a network expects, as far as it can be told by looking at it."""

from __future__ import annotations

from typing import Any

from torch import nn

from foveate.errors import FoveateError


def input_shape(model: nn.Module) -> tuple[int, ...]:
    """Channels, height and width of an image to watch one forward pass with: a best guess.

    For a network of signals or volumes: channels and length, or channels, depth, height and width.

    In this order: the attribute ``input_shape`` that our networks have; the size in timm's configuration of
    the model; torchvision's ``image_size``; 299 for Inception, which cannot run at 224; otherwise 224, for
    signals 1024 and for volumes 64. The channels are those of the first convolution.

    Args:
        model: Any network of images.

    Raises:
        FoveateError: If it has no convolution.

    Example:
        >>> from foveate.hosts import ResNet
        >>> input_shape(ResNet(8, in_channels=1))
        (1, 32, 32)
        >>> input_shape(nn.Sequential(nn.Conv2d(4, 8, 3)))
        (4, 224, 224)
    """
    stated: Any = getattr(model, "input_shape", None)
    if isinstance(stated, tuple) and len(stated) >= 2 and all(isinstance(side, int) for side in stated):
        return stated
    first = next((module for module in model.modules() if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)), None)
    if first is None:
        raise FoveateError(
            f"{type(model).__name__} has no convolution that tells the channels of its input: give an example input"
        )
    if not isinstance(first, nn.Conv2d):
        return (first.in_channels, 1024) if isinstance(first, nn.Conv1d) else (first.in_channels, 64, 64, 64)
    return (first.in_channels, *_size(model))


def _size(model: nn.Module) -> tuple[int, int]:
    config: Any = getattr(model, "pretrained_cfg", None)
    if isinstance(config, dict) and config.get("input_size"):
        _, height, width = config["input_size"]
        return height, width
    side: Any = getattr(model, "image_size", None)
    if isinstance(side, int):
        return side, side
    return (299, 299) if type(model).__name__ == "Inception3" else (224, 224)
