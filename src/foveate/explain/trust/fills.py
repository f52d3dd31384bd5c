"""What takes the place of pixels that are removed."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from foveate.data.chance import generator
from foveate.errors import MissingExtraError, check_choice

Baseline = Literal["blur", "mean"]
Fill = Callable[[Float[Tensor, "c h w"], Bool[Tensor, "h w"]], Float[Tensor, "c h w"]]
# of the Gaussian, as a share of the shorter side
DEVIATION = 0.1
# of the noise that keeps a network from reading the imputation's smoothness, as ROAD's authors have it
NOISE = 0.01


def replaced_by(baseline: Baseline) -> Fill:
    """Removed pixels show another image: ``"blur"``, the same out of focus; ``"mean"``, its mean colour.

    The blur is a Gaussian whose deviation is a tenth of the shorter side, mirrored at the edges.

    Raises:
        OptionError: If there is no such baseline.

    Example:
        >>> replaced_by("mean")(torch.tensor([[[1.0, 3.0]]]), torch.tensor([[True, False]]))
        tensor([[[2., 3.]]])
    """
    check_choice("a baseline", baseline, ("blur", "mean"))
    make = blurred if baseline == "blur" else _mean
    seen: list[tuple[Tensor, Tensor]] = []  # the last image and what replaces it: all steps of an image follow

    def fill(image: Tensor, removed: Tensor) -> Tensor:
        if not seen or seen[0][0] is not image:
            seen[:] = [(image, make(image))]
        return torch.where(removed, seen[0][1], image)

    return fill


def imputed(seed: int = 0) -> Fill:
    """Removed pixels are what their neighbours say, and a little noise: ROAD's noisy linear imputation.

    The operator is that of ROAD's authors, as the package `grad-cam` has it: each missing pixel is the weighted mean
    of its eight neighbours, all of them at once (Rong et al., ICML 2022).

    Raises:
        MissingExtraError: If grad-cam is not installed.
    """
    try:
        from pytorch_grad_cam.metrics.road import NoisyLinearImputer
    except ImportError as error:
        raise MissingExtraError("grad-cam", "explain") from error
    solve = NoisyLinearImputer(noise=0.0)

    def fill(image: Tensor, removed: Tensor) -> Tensor:
        if not bool(removed.any()):
            return image
        known = (~removed).cpu().float()
        with warnings.catch_warnings():  # of NumPy, about how grad-cam asks a tensor for its zeros
            warnings.simplefilter("ignore", DeprecationWarning)
            filled = solve(image.detach().cpu().float(), known).to(image)
        noise = torch.randn(image.shape, generator=generator("noise", seed, int(removed.sum()))).to(image)
        return torch.where(removed, filled + NOISE * noise, image)

    return fill


def blurred(image: Float[Tensor, "c h w"]) -> Float[Tensor, "c h w"]:
    """An image out of focus.

    Example:
        >>> blurred(torch.full((1, 3, 3), 2.0))[0, 1]
        tensor([2.0000, 2.0000, 2.0000])
    """
    deviation = DEVIATION * min(image.shape[1:])
    for axis in (1, 2):
        reach = min(math.ceil(3 * deviation), image.shape[axis] - 1)
        steps = torch.arange(-reach, reach + 1, device=image.device, dtype=image.dtype)
        weights = torch.exp(-((steps / deviation) ** 2) / 2)
        lines = image.movedim(axis, 2)  # (c, others, along)
        padded = F.pad(lines, (reach, reach), mode="reflect") if reach else lines
        kernel = (weights / weights.sum()).reshape(1, 1, -1)
        mixed = F.conv1d(padded.reshape(-1, 1, padded.shape[2]), kernel)
        image = mixed.reshape(lines.shape).movedim(2, axis)
    return image


def _mean(image: Tensor) -> Tensor:
    return image.mean((1, 2), keepdim=True).expand_as(image)
