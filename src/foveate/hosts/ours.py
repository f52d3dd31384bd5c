"""Hosts of our own, by name."""

from __future__ import annotations

import re
from typing import Never

from torch import nn

from foveate.errors import FoveateError, OptionError
from foveate.hosts.resnet import ResNet, blocks_of


def check(name: str) -> None:
    """Refuse any name but ``resnet`` and a depth that exists.

    Raises:
        OptionError: With what there is.

    Example:
        >>> check("resnet20")
    """
    if not re.fullmatch(r"resnet[1-9]\d*", name):
        raise OptionError(f"'foveate/{name}' is not one of ours: resnet8, resnet14, resnet20, ..., resnet110")
    blocks_of(int(name.removeprefix("resnet")))


def fresh(name: str, classes: int, in_channels: int) -> nn.Module:
    """A random network.

    Example:
        >>> fresh("resnet8", 10, 3).linear.out_features
        10
    """
    return ResNet(int(name.removeprefix("resnet")), classes=classes, in_channels=in_channels)


def published(name: str, weights: str, in_channels: int) -> Never:  # noqa: ARG001 (a family's signature)
    """There are no published weights of ours.

    Raises:
        FoveateError: Always, with what to do.

    Example:
        >>> try:
        ...     published("resnet20", "pretrained", 3)
        ... except FoveateError as error:
        ...     print(error)
        foveate/resnet20 has no published weights 'pretrained': use weights=none, or a .safetensors file
    """
    raise FoveateError(f"foveate/{name} has no published weights '{weights}': use weights=none, or a .safetensors file")
