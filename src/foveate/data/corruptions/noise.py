"""Noise: every value of every pixel on its own."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def gaussian_noise(image: Float[Tensor, "c h w"], deviation: float, draw: torch.Generator) -> Float[Tensor, "c h w"]:
    """What a sensor adds in the dark: normal noise of one deviation everywhere."""
    return image + deviation * torch.randn(image.shape, generator=draw)


def shot_noise(image: Float[Tensor, "c h w"], deviation: float, draw: torch.Generator) -> Float[Tensor, "c h w"]:
    """What few photons do: Poisson counts, whose deviation is the given one where the image is white."""
    photons = deviation**-2
    return torch.poisson(image * photons, generator=draw) / photons


def impulse_noise(image: Float[Tensor, "c h w"], share: float, draw: torch.Generator) -> Float[Tensor, "c h w"]:
    """What broken sensors and channels do: this share of the values is 0 or 1, each as likely."""
    chance = torch.rand(image.shape, generator=draw)
    return torch.where(chance < share, (chance < share / 2).to(image.dtype), image)


def speckle_noise(image: Float[Tensor, "c h w"], deviation: float, draw: torch.Generator) -> Float[Tensor, "c h w"]:
    """What coherent light does: normal noise in proportion to the brightness."""
    return image + image * deviation * torch.randn(image.shape, generator=draw)
