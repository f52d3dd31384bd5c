"""Whether published weights of a network lie on this machine already, so that none would be downloaded."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch

from foveate.hosts import timm_models, torchvision_models

FILES = ("model.safetensors", "pytorch_model.bin")  # as the hub's repositories of timm call them


def at_hand(name: str) -> bool:
    """Whether ``weights="pretrained"`` of :func:`foveate.hosts.build` would find its file here.

    Args:
        name: A network as there. Ours have no published weights.

    Raises:
        OptionError: If torchvision or timm has no such network.
        MissingExtraError: If the package of the network is not installed.

    Example:
        >>> at_hand("foveate/resnet8")
        False
    """
    source, _, model = name.partition("/")
    if source == "torchvision":
        torchvision_models.check(model)
        entries: Any = import_module("torchvision.models").get_model_weights(model)
        return any(_downloaded(entry.url) for entry in entries)
    if source == "timm":
        timm_models.check(model)
        found: Any = import_module("timm.models").get_pretrained_cfg(model)
        return found is not None and (_of_hub(found.hf_hub_id) or bool(found.url and _downloaded(found.url)))
    return False


def _downloaded(url: str) -> bool:
    return Path(torch.hub.get_dir(), "checkpoints", Path(urlparse(url).path).name).is_file()


def _of_hub(repository: str | None) -> bool:
    if not repository:
        return False
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return False
    return any(isinstance(try_to_load_from_cache(repository, file), str) for file in FILES)
