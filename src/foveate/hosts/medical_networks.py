"""Networks of MONAI by name, for flat images and for volumes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from foveate.errors import MissingExtraError, OptionError, check_at_least, check_choice, nearest
from foveate.hosts.weights import load_weights, read_weights

Make = Callable[[Any, int, int, int], nn.Module]


@dataclass(frozen=True)
class Network:
    """One of MONAI's networks.

    Attributes:
        task: What it is for.
        make: It, from MONAI's networks, dimensions, channels and classes.
        step: What sides of its images must be divisible by.
    """

    task: str
    make: Make
    step: int


def _unet(nets: Any, dimensions: int, channels: int, classes: int) -> nn.Module:
    widths = (16, 32, 64, 128) if dimensions == 2 else (8, 16, 32, 64)
    return nets.UNet(dimensions, channels, classes, channels=widths, strides=(2, 2, 2), num_res_units=2)


def _segresnet(nets: Any, dimensions: int, channels: int, classes: int) -> nn.Module:
    return nets.SegResNet(spatial_dims=dimensions, init_filters=8, in_channels=channels, out_channels=classes)


def _densenet121(nets: Any, dimensions: int, channels: int, classes: int) -> nn.Module:
    return nets.DenseNet121(spatial_dims=dimensions, in_channels=channels, out_channels=classes)


NETWORKS = {
    "unet": Network("segmentation", _unet, 8),
    "segresnet": Network("segmentation", _segresnet, 8),
    "densenet121": Network("classification", _densenet121, 32),
}


def build_medical(
    name: str, *, task: str, classes: int, channels: int = 1, dimensions: int = 2, weights: str | Path | None = None
) -> tuple[nn.Module, tuple[str, ...]]:
    """A network of MONAI: ``monai/unet``, ``monai/segresnet`` or ``monai/densenet121``.

    ``-2d`` or ``-3d`` behind a name says that it must be for these; without it, the images decide.

    Attention at MONAI's U-Net acts at its residual units, which :func:`foveate.plan` lists: the last of them makes
    the logits; ``at="**.adn.A"`` names what every activation returns instead.

    Args:
        name: Of the network.
        task: ``"segmentation"`` or ``"classification"``.
        classes: Outputs.
        channels: Of the images.
        dimensions: 2 or 3.
        weights: A file; ``None`` for a random network.

    Returns:
        The network, and the keys of what the file did not have.

    Raises:
        OptionError: If there is no such network, or it is for something else.
        MissingExtraError: If MONAI is not installed.
        FoveateError: If the weights do not fit.

    Example:
        >>> build_medical("monai/classifier", task="classification", classes=2)
        Traceback (most recent call last):
        foveate.errors.OptionError: there is no network 'monai/classifier'; known: monai/densenet121, monai/segresnet, \
monai/unet
    """
    check_choice("dimensions", dimensions, (2, 3))
    check_at_least("classes", classes, 1)
    check_at_least("channels", channels, 1)
    found = known(name)
    if found.task != task:
        fit = ", ".join(f"monai/{one}" for one, network in NETWORKS.items() if network.task == task)
        raise OptionError(f"{name} is for {found.task}; for {task} there is {fit}")
    if name.endswith(("-2d", "-3d")) and int(name[-2]) != dimensions:
        raise OptionError(f"{name} is not for images of {dimensions} dimensions: leave '{name[-3:]}' away")
    try:
        from monai.networks import nets
    except ImportError as error:
        raise MissingExtraError("monai", "medical") from error
    network = found.make(nets, dimensions, channels, classes)
    if weights is None:
        return network, ()
    if weights == "pretrained":
        raise OptionError(f"{name} has no published weights here: give a file")
    return network, load_weights(network, read_weights(weights), source=f"the weights of '{weights}'")


def known(name: str) -> Network:
    """A network by its name.

    Raises:
        OptionError: If there is none.

    Example:
        >>> known("monai/unet-3d").task
        'segmentation'
    """
    source, _, model = name.partition("/")
    plain = model.removesuffix("-2d").removesuffix("-3d")
    if source != "monai" or plain not in NETWORKS:
        raise OptionError(f"there is no network '{name}'; {nearest(name, [f'monai/{one}' for one in NETWORKS])}")
    return NETWORKS[plain]
