"""Hosts from timm, by name."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from torch import nn

from foveate.errors import FoveateError, MissingExtraError, OptionError, nearest


def check(name: str) -> None:
    """Refuse what is not a model of timm, perhaps with the tag of its weights.

    Raises:
        OptionError: With the nearest names.
        MissingExtraError: If timm is not installed.

    Example:
        >>> check("resnet18")
        >>> check("resnet18.a1_in1k")
    """
    timm = _timm()
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise OptionError(f"timm has no model '{architecture}'; {nearest(architecture, timm.list_models())}")
    known = [full.partition(".")[2] for full in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in known:
        raise OptionError(f"timm/{architecture} has no weights tagged '{tag}'; {nearest(tag, known)}")


def fresh(name: str, classes: int, in_channels: int) -> nn.Module:
    """A random network.

    Example:
        >>> fresh("resnet18", 10, 1).conv1.in_channels
        1
    """
    return _timm().create_model(name, pretrained=False, num_classes=classes, in_chans=in_channels)


def published(name: str, weights: str, in_channels: int) -> nn.Module:
    """A network with weights that timm publishes: the default ones, or those that the name's tag says.

    Raises:
        OptionError: If the weights are called anything but ``"pretrained"``.
        FoveateError: If the weights cannot be loaded.

    Example:
        >>> try:
        ...     published("resnet18", "a1_in1k", 3)
        ... except OptionError as error:
        ...     print(error)
        timm's weights are chosen by the name: 'timm/resnet18.a1_in1k' with weights=pretrained
    """
    if weights != "pretrained":
        architecture = name.partition(".")[0]
        raise OptionError(
            f"timm's weights are chosen by the name: 'timm/{architecture}.{weights}' with weights=pretrained"
        )
    try:
        return _timm().create_model(name, pretrained=True, in_chans=in_channels)
    except Exception as error:
        raise FoveateError(
            f"the published weights of timm/{name} could not be loaded ({error}): use weights=none for a "
            "random network, or a file"
        ) from error


def _timm() -> Any:
    try:
        return import_module("timm")
    except ImportError as error:
        raise MissingExtraError("timm", "hosts") from error
