"""Networks of our own that segment, by name: a U-Net, and PSANet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Never

from torch import Tensor, nn

from foveate.errors import OptionError, nearest
from foveate.hosts.psanet import PSANetHost
from foveate.hosts.unet import UNet

PSANETS = {"psanet50": 50, "psanet101": 101}
# how the authors' files of classifying networks name the layers of the stem
STEM = {"conv1": "0", "bn1": "1", "conv2": "3", "bn2": "4", "conv3": "6", "bn3": "7"}


@dataclass(frozen=True)
class OurSegmenters:
    """The family, with what can be chosen.

    Attributes:
        crop: Height and width of the images that a PSANet trains on.
        width: Channels of the first level of a network; its usual number, if ``None``.
        psa: Options of PSANet's attention, as ``"psanet:branches=collect"``; ``None`` leaves it out.
    """

    crop: int
    width: int | None = None
    psa: str | None = "psanet"

    BACKBONE = "layer"

    def check(self, name: str) -> None:
        """Refuse what is none of ours.

        Raises:
            OptionError: With those there are.
        """
        known = ("unet", *PSANETS)
        if name not in known:
            raise OptionError(f"'foveate/{name}' is none of our networks that segment; {nearest(name, known)}")

    def fresh(self, name: str, classes: int, in_channels: int) -> nn.Module:
        """A random network.

        Raises:
            OptionError: If it cannot have these channels, or a PSANet these images.

        Example:
            >>> OurSegmenters(97, width=4).fresh("psanet50", 5, 3).input_shape
            (3, 97, 97)
        """
        if name == "unet":
            return UNet(classes=classes, in_channels=in_channels, width=16 if self.width is None else self.width)
        if in_channels != 3:
            raise OptionError(f"foveate/{name} takes images of 3 channels, not {in_channels}: repeat a grey image")
        width = 64 if self.width is None else self.width
        return PSANetHost(PSANETS[name], classes=classes, size=self.crop, psa=self.psa, width=width)

    def with_backbone(self, name: str, classes: int, in_channels: int) -> Never:  # noqa: ARG002
        """There are no published weights of ours.

        Raises:
            OptionError: Always, with what to do.
        """
        return self.published(name, "backbone", in_channels)

    def published(self, name: str, weights: str, in_channels: int) -> Never:  # noqa: ARG002
        """There are no published weights of ours.

        Raises:
            OptionError: Always, with what to do.
        """
        raise OptionError(f"foveate/{name} has no published weights '{weights}': use weights=none, or give a file")


def as_ours(offered: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a classifying network with a deep stem, by the names that PSANet has for them.

    Example:
        >>> import torch
        >>> list(as_ours({"conv2.weight": torch.zeros(1), "layer1.0.conv2.weight": torch.zeros(1)}))
        ['layer0.3.weight', 'layer1.0.conv2.weight']
    """
    found: dict[str, Tensor] = {}
    for key, value in offered.items():
        first, _, rest = key.partition(".")
        found[f"layer0.{STEM[first]}.{rest}" if first in STEM else key] = value
    return found
