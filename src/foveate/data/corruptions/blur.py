"""Blur: means over neighbours, centred, so that masks and boxes stay true."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from foveate.data.chance import between
from foveate.data.corruptions.kernels import bell, disc, filtered, streak

ZOOMS = 16  # at least; as many as the corner moves by half pixels, if those are more


def gaussian_blur(image: Float[Tensor, "c h w"], deviation: float, draw: torch.Generator) -> Float[Tensor, "c h w"]:  # noqa: ARG001
    """A Gaussian of this deviation in pixels."""
    return filtered(image, bell(deviation))


def defocus_blur(image: Float[Tensor, "c h w"], radius: float, draw: torch.Generator) -> Float[Tensor, "c h w"]:  # noqa: ARG001
    """A lens out of focus: a disc of this radius in pixels."""
    return filtered(image, disc(radius))


def motion_blur(image: Float[Tensor, "c h w"], length: float, draw: torch.Generator) -> Float[Tensor, "c h w"]:
    """A camera that moves by this many pixels, in any direction."""
    return filtered(image, streak(length, between(0, math.pi, draw)))


def zoom_blur(image: Float[Tensor, "c h w"], share: float, draw: torch.Generator) -> Float[Tensor, "c h w"]:  # noqa: ARG001
    """A lens that zooms while the shutter is open, out by this share and in by as much: the mean of all views."""
    count = max(ZOOMS, math.ceil(share * max(image.shape[1:])))
    total, size = torch.zeros_like(image), [1, *image.shape]
    for zoom in torch.linspace(-math.log1p(share), math.log1p(share), count).exp().tolist():
        matrix = torch.tensor([[[zoom, 0, 0], [0, zoom, 0]]])
        view = F.affine_grid(matrix, size, align_corners=False)
        total += F.grid_sample(image[None], view, padding_mode="border", align_corners=False)[0]
    return total / count
