"""Networks that segment, by name, and what they answer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from foveate.errors import OptionError, check_at_least
from foveate.hosts import smp_models, torchvision_segmenters
from foveate.hosts.build import Family, build_with_head, find
from foveate.hosts.our_segmenters import OurSegmenters, as_ours
from foveate.hosts.weights import SUFFIXES, load_weights, read_weights

CLASSIFIERS = ("fc.", "classifier.", "head.")
LARGEST_USUAL = 256


class Segmenters(Family, Protocol):
    """A source of networks that segment: what begins the keys of their backbones, and one with published weights."""

    @property
    def BACKBONE(self) -> str:  # noqa: N802 (a constant of the modules)
        """What their keys begin with."""
        ...

    def with_backbone(self, name: str, classes: int, in_channels: int) -> nn.Module:
        """The network, random but for its backbone."""
        ...


def build_segmenter(
    name: str,
    *,
    classes: int,
    in_channels: int = 3,
    weights: str | Path | None = None,
    crop: int = 97,
    width: int | None = None,
    psa: str | None = "psanet",
) -> tuple[nn.Module, tuple[str, ...]]:
    """Build a network that segments images, to attach attention to.

    Args:
        name: ``foveate/unet``, ``foveate/psanet50`` or ``foveate/psanet101``; ``torchvision/`` and the name of a
            segmentation model there; ``smp/`` and an architecture and an encoder of segmentation-models-pytorch, as
            ``smp/unet-resnet18``.
        classes: Logits for every pixel. If the weights have another number, the head is random.
        in_channels: Channels of the images; 3 but for U-Nets and segmentation-models-pytorch.
        weights: ``None`` for a random network; ``"backbone"`` for published weights of its backbone; ``"pretrained"``
            or the name of one of torchvision's weights; or a file of the whole network, or of its backbone alone.
        crop: Height and width of the images that it trains on.
        width: Channels of the first level of one of our networks; as published, and 16 for the U-Net, if ``None``.
        psa: Options of PSANet's attention, as ``"psanet:branches=collect"``; ``None`` leaves it out.

    Returns:
        The network, in training mode, on the CPU, and the keys that its weights did not have: these are random.

    Raises:
        OptionError: If there is no such network or weights, or it cannot train on such images, with the nearest that
            it can.
        MissingExtraError: If the package of the network is not installed.
        FoveateError: If the weights cannot be loaded, or do not fit.

    Example:
        >>> build_segmenter("foveate/psanet50", classes=2, crop=100)
        Traceback (most recent call last):
        foveate.errors.OptionError: the height of an image here must be one more than a multiple of 8: 100 is not, ...
    """
    check_at_least("classes", classes, 1)
    check_at_least("in_channels", in_channels, 1)
    ours = OurSegmenters(crop, width, psa)
    families: dict[str, Segmenters] = {"foveate": ours, "smp": smp_models, "torchvision": torchvision_segmenters}
    family, model = find(name, families)
    if width is not None and family is not ours:
        raise OptionError(f"{name} has no width that can be chosen: leave it out")
    check_crop(name, crop)
    if weights == "backbone":
        network = family.with_backbone(model, classes, in_channels)
        return network, _outside(network, family.BACKBONE)
    if weights is not None and str(weights).endswith(SUFFIXES):
        network, offered = family.fresh(model, classes, in_channels), read_weights(weights)
        rest = _outside(network, family.BACKBONE)
        if rest and not any(key in offered for key in rest):
            own = network.state_dict()
            named = as_ours(offered) if family is ours else {family.BACKBONE + key: offered[key] for key in offered}
            kept = {key: value for key, value in named.items() if not _classifies(key, family.BACKBONE)}
            load_weights(network, {**kept, **{key: own[key] for key in rest}}, source=f"the weights of '{weights}'")
            return network, rest
    return build_with_head(name, classes=classes, in_channels=in_channels, weights=weights, families=families)


def answers(output: Any) -> tuple[Tensor, Tensor | None]:
    """The logits and the auxiliary logits, of whatever a network that segments returns.

    torchvision's give a dictionary, PSANet two tensors while it trains, others one tensor.

    Example:
        >>> import torch
        >>> [None if one is None else one.item() for one in answers({"out": torch.tensor(1), "aux": torch.tensor(2)})]
        [1, 2]
        >>> answers(torch.tensor(1))
        (tensor(1), None)
    """
    if isinstance(output, Mapping):
        return output["out"], output.get("aux")  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    if isinstance(output, tuple | list):
        return output[0], output[1] if len(output) > 1 else None  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return output, None


def crops(name: str) -> tuple[int, int]:
    """What the side of an image must be: a multiple of the first, and the second more.

    Example:
        >>> crops("foveate/psanet50"), crops("smp/unet-resnet18"), crops("foveate/unet")
        ((8, 1), (32, 0), (1, 0))
    """
    if name.startswith("foveate/psanet"):
        return 8, 1
    return (32, 0) if name.startswith("smp/") else (1, 0)


def usual_crop(name: str, side: int) -> int:
    """The crop for images of some shorter side: the nearest that the network can take, of at most about 256 pixels.

    Example:
        >>> usual_crop("foveate/psanet50", 96), usual_crop("smp/unet-resnet18", 500), usual_crop("foveate/unet", 75)
        (97, 256, 75)
    """
    times, more = crops(name)
    return max(1, round((min(side, LARGEST_USUAL) - more) / times)) * times + more


def check_crop(name: str, crop: int) -> None:
    """Refuse a crop that a network cannot take, with the nearest that it can.

    PSANet says so itself.

    Raises:
        OptionError: With the nearest.

    Example:
        >>> check_crop("smp/unet-resnet18", 100)
        Traceback (most recent call last):
        foveate.errors.OptionError: smp/unet-resnet18 takes crops of a multiple of 32: 100 is none, 96 and 128 are
    """
    check_at_least("crop", crop, 1)
    times, more = crops(name)
    if more == 0 and crop % times:
        below = max(times, crop // times * times)
        near = f"{below} and {below + times} are" if crop > times else f"{times} is the smallest that is"
        raise OptionError(f"{name} takes crops of a multiple of {times}: {crop} is none, {near}")


def _outside(network: nn.Module, backbone: str) -> tuple[str, ...]:
    return tuple(sorted(key for key in network.state_dict() if not key.startswith(backbone)))


def _classifies(key: str, backbone: str) -> bool:
    return key.removeprefix(backbone).startswith(CLASSIFIERS)
