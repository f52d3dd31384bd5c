"""Weather, roughly: what lies between the camera and the things, of the same shape whatever the image's size."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from foveate.data.chance import between
from foveate.data.corruptions.kernels import blotches, streak

HAZE, WHITE = 0.85, 1.0
MUD = (0.30, 0.22, 0.13)
LUMA = (0.299, 0.587, 0.114)
# sizes as shares of the shorter side
CLOUD, DROP, FLAKE, FALL = 1 / 5, 1 / 24, 1 / 90, 1 / 12
EDGE = 0.5  # deviations of a field from where something begins to where it covers


def fog(image: Float[Tensor, "c h w"], depth: float, draw: torch.Generator) -> Float[Tensor, "c h w"]:
    """Haze: light is lost on its way and replaced by that of the air (Koschmieder 1924).

    Args:
        image: What is seen.
        depth: The optical depth in the middle; it varies in clouds, by a factor of about two up and down.
        draw: Where the clouds are.
    """
    height, width = image.shape[1:]
    side = min(height, width)
    clouds = (
        2 * blotches(height, width, CLOUD * side, draw) + blotches(height, width, CLOUD / 4 * side, draw)
    ) / 5**0.5
    through = torch.exp(-depth * torch.exp(0.5 * clouds.clamp(-2, 2)))
    return image * through + HAZE * (1 - through)


def snow(image: Float[Tensor, "c h w"], share: float, draw: torch.Generator) -> Float[Tensor, "c h w"]:
    """Falling flakes, drawn out by their fall, that cover about this share of the image."""
    height, width = image.shape[1:]
    side = min(height, width)
    fall = streak(FALL * side, math.pi / 2 + between(-0.5, 0.5, draw))
    cover = covered(blotches(height, width, FLAKE * side, draw, stretch=fall), share)
    return image * (1 - cover) + WHITE * cover


def brightness(image: Float[Tensor, "c h w"], amount: float, draw: torch.Generator) -> Float[Tensor, "c h w"]:  # noqa: ARG001
    """Too much light: every value raised by this amount, and cut off at white."""
    return image + amount


def spatter(image: Float[Tensor, "c h w"], share: float, draw: torch.Generator) -> Float[Tensor, "c h w"]:
    """Mud on the lens that covers about this share of the image; on one channel it is dark grey."""
    height, width = image.shape[1:]
    cover = covered(blotches(height, width, DROP * min(height, width), draw), share)
    grey = sum(part * weight for part, weight in zip(MUD, LUMA, strict=True))
    colour = torch.tensor(MUD if image.shape[0] == 3 else (grey,))[:, None, None]
    return image * (1 - cover) + colour * cover


def covered(field: Float[Tensor, "h w"], share: float) -> Float[Tensor, "h w"]:
    """How much of each pixel is covered where a share of a field, its highest values, covers half of it or more."""
    edge = torch.quantile(field.flatten()[:: max(1, field.numel() // 100_000)], 1 - share)
    return ((field - edge) / EDGE + 0.5).clamp(0, 1)
