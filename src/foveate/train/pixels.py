"""From bytes to what a network expects, and changes of colour by chance."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from foveate.data.chance import between

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
GREY = ((0.5,), (0.25,))


class Normalise(nn.Module):
    """Bytes to numbers of mean 0 and deviation 1, in as many channels as a network takes.

    Args:
        mean: Mean of each channel that the network takes, of values from 0 to 1.
        std: Standard deviation of each.

    Example:
        >>> Normalise((0.5,), (0.25,))(torch.tensor([255], dtype=torch.uint8).reshape(1, 1, 1, 1)).item()
        2.0
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Iterable[float], std: Iterable[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(list(mean)).reshape(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(list(std)).reshape(1, -1, 1, 1), persistent=False)

    @classmethod
    def usual(cls, channels: int) -> Normalise:
        """ImageNet's statistics for three channels; 0.5 and 0.25 for others."""
        return cls(*IMAGENET) if channels == 3 else cls(*(values * channels for values in GREY))

    def forward(self, pixels: UInt8[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """Normalise; a grey image is repeated for a network of three channels."""
        x = (pixels.to(self.mean.dtype) / 255 - self.mean) / self.std
        return x.contiguous(memory_format=torch.channels_last)


def jitter_colours(pixels: UInt8[Tensor, "c h w"], strength: float, draw: torch.Generator) -> UInt8[Tensor, "c h w"]:
    """Brightness, contrast and, where there are three channels, saturation changed by up to a share.

    Example:
        >>> from foveate.data.chance import generator
        >>> grey = torch.full((1, 2, 2), 100, dtype=torch.uint8)
        >>> bool((jitter_colours(grey, 0.5, generator("colours", 1)) == grey).all())
        False
    """
    from torchvision.transforms.v2 import functional as tv

    factors = [between(1 - strength, 1 + strength, draw) for _ in range(3)]
    pixels = tv.adjust_contrast(tv.adjust_brightness(pixels, factors[0]), factors[1])
    return tv.adjust_saturation(pixels, factors[2]) if pixels.shape[0] == 3 else pixels
