"""Hosts from torchvision, by name."""

from __future__ import annotations

import contextlib
import sys
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torch import nn

from foveate.errors import FoveateError, MissingExtraError, OptionError, nearest

# they return auxiliary logits too while they train, where a classifier's one tensor is expected
_AUXILIARY = {"googlenet", "inception_v3"}


def check(name: str) -> None:
    """Refuse what is not a classification model of torchvision.

    Raises:
        OptionError: With the nearest names.
        MissingExtraError: If torchvision is not installed.

    Example:
        >>> check("mobilenet_v2")
    """
    models = _models()
    known: list[str] = models.list_models(module=models)
    if name not in known:
        raise OptionError(f"torchvision has no classification model '{name}'; {nearest(name, known)}")


def fresh(name: str, classes: int, in_channels: int) -> nn.Module:
    """A random network. If the images do not have 3 channels, its first convolution is replaced.

    Example:
        >>> fresh("mobilenet_v2", 10, 1).features[0][0].in_channels
        1
    """
    options = {"aux_logits": False, "init_weights": True} if name in _AUXILIARY else {}
    model: nn.Module = _models().get_model(name, weights=None, num_classes=classes, **options)
    if in_channels != 3:
        _replace_first_convolution(model, in_channels)
    return model


def published(name: str, weights: str, in_channels: int) -> nn.Module:
    """A network with weights that torchvision publishes.

    Args:
        name: The model.
        weights: ``"pretrained"``, or the name of one of its weights.
        in_channels: Must be 3.

    Raises:
        OptionError: If the model has no such weights, with those it has.
        FoveateError: If the channels are not 3, or the weights can be neither found nor downloaded.

    Example:
        >>> try:
        ...     published("mobilenet_v2", "IMAGENET1K_V3", 3)
        ... except OptionError as error:
        ...     print(error)
        torchvision/mobilenet_v2 has no weights 'IMAGENET1K_V3': IMAGENET1K_V1, IMAGENET1K_V2, 'pretrained' or a file
    """
    if in_channels != 3:
        raise FoveateError(
            f"the published weights of torchvision/{name} are for 3 channels, not {in_channels}: repeat a "
            "grey image three times and use in_channels=3, or use weights=none"
        )
    entries = _models().get_model_weights(name)
    chosen = _choose(name, entries, weights)
    options = {"aux_logits": False} if name in _AUXILIARY else {}
    try:
        with contextlib.redirect_stdout(sys.stderr):  # torch.hub announces downloads where results belong
            # torchvision unpickles whatever lies in the folder: first make sure that it holds nothing but tensors
            chosen.get_state_dict(check_hash=True, map_location="cpu", weights_only=True)
            return _models().get_model(name, weights=chosen, **options)
    except Exception as error:
        raise FoveateError(
            f"the weights {chosen.name} of torchvision/{name} could be neither read from {_file(chosen).parent} "
            f"nor downloaded ({error}): use weights=none for a random network, put {_file(chosen).name} into that "
            "folder, or give a file"
        ) from error


def _choose(name: str, entries: Any, weights: str) -> Any:
    known = list(entries)
    if weights == "pretrained":
        newest_first = [entries.DEFAULT, *reversed(known)]
        return next((entry for entry in newest_first if _file(entry).is_file()), entries.DEFAULT)
    if weights not in entries.__members__:
        names = ", ".join(entry.name for entry in known)
        raise OptionError(f"torchvision/{name} has no weights '{weights}': {names}, 'pretrained' or a file")
    return entries[weights]


def _file(entry: Any) -> Path:
    return Path(torch.hub.get_dir(), "checkpoints", Path(urlparse(entry.url).path).name)


def _replace_first_convolution(model: nn.Module, in_channels: int) -> None:
    path, old = next((p, module) for p, module in model.named_modules() if isinstance(module, nn.Conv2d))
    new = nn.Conv2d(
        in_channels,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]
        stride=old.stride,  # type: ignore[arg-type]
        padding=old.padding,  # type: ignore[arg-type]
        bias=old.bias is not None,
    )
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")  # as torchvision starts its own
    if new.bias is not None:
        nn.init.zeros_(new.bias)
    model.set_submodule(path, new)


def _models() -> Any:
    try:
        return import_module("torchvision.models")
    except ImportError as error:
        raise MissingExtraError("torchvision", "hosts") from error
