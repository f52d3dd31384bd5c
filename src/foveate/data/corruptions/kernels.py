"""Weighted means of neighbourhoods, and random fields of a grain that is a share of the image."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def filtered(image: Float[Tensor, "c h w"], kernel: Float[Tensor, "k k"]) -> Float[Tensor, "c h w"]:
    """Correlate every channel with a kernel of odd side that sums to 1; pixels at the edge go on outside.

    By Fourier transform, so that a kernel as large as the image costs no more than a small one.

    Example:
        >>> filtered(torch.ones(1, 8, 9), torch.full((3, 3), 1 / 9)).allclose(torch.ones(1, 8, 9))
        True
    """
    reach = kernel.shape[0] // 2
    padded = F.pad(image[None], (reach,) * 4, mode="replicate")[0]
    size = (padded.shape[1], padded.shape[2])
    spectrum = torch.fft.rfft2(padded) * torch.fft.rfft2(kernel, size).conj()
    return torch.fft.irfft2(spectrum, size)[:, : image.shape[1], : image.shape[2]]


def bell(deviation: float) -> Float[Tensor, "k k"]:
    """A Gaussian, cut off beyond four deviations."""
    reach = math.ceil(4 * deviation)
    line = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / deviation) ** 2)
    plane = line[:, None] * line
    return plane / plane.sum()


def disc(radius: float) -> Float[Tensor, "k k"]:
    """A disc with an edge one pixel wide: each pixel counts by how far it lies inside."""
    reach = math.ceil(radius + 0.5)
    steps = torch.arange(-reach, reach + 1)
    distance = torch.hypot(steps[:, None].float(), steps[None].float())
    plane = (radius + 0.5 - distance).clamp(0, 1)
    return plane / plane.sum()


def streak(length: float, angle: float) -> Float[Tensor, "k k"]:
    """A line through the centre, so that nothing moves on average: points shared among the pixels next to them."""
    reach = math.ceil(length / 2)
    count = 8 * reach + 1  # several points a pixel
    along = torch.linspace(-length / 2, length / 2, count)
    rows, columns = reach + along * math.sin(angle), reach + along * math.cos(angle)
    steps = torch.arange(2 * reach + 1)
    near_row = (1 - (rows[:, None] - steps).abs()).clamp(min=0)
    near_column = (1 - (columns[:, None] - steps).abs()).clamp(min=0)
    return near_row.T @ near_column / count


def blotches(
    height: int, width: int, grain: float, draw: torch.Generator, *, stretch: Float[Tensor, "k k"] | None = None
) -> Float[Tensor, "h w"]:
    """A random field of mean 0 and deviation 1 whose spots have about this size in pixels, at least half of one.

    Args:
        height: Of the field.
        width: Of the field.
        grain: Deviation of the Gaussian that noise is smoothed with.
        draw: What it depends on.
        stretch: A kernel that draws the spots out.
    """
    field = filtered(torch.randn(1, height, width, generator=draw), bell(max(grain, 0.5)))
    if stretch is not None:
        field = filtered(field, stretch)
    return ((field - field.mean()) / field.std())[0]
