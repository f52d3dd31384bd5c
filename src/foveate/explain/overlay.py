"""A map drawn over its image, in colours whose meaning is stated."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from foveate.errors import FoveateError, MissingExtraError, OptionError

MAGNITUDE = "viridis"
DIVERGING = "RdBu_r"

# luma of ITU-R BT.601: the image under a map is grey, so that colour means the map and nothing else
LUMA = (0.299, 0.587, 0.114)
# black becomes this grey: on black, the dark ends of both colour maps could not be told from the image
FLOOR = 60


@dataclass(frozen=True)
class Scale:
    """Which values the two ends of a colour map stand for.

    Attributes:
        low: The value of the first colour; smaller ones get it too.
        high: The value of the last colour; larger ones get it too.
        diverging: Whether the colours part at zero, which is then in the middle: ``low`` is ``-high``.

    Raises:
        OptionError: If the limits are not finite numbers in order, or a diverging scale is not symmetric.

    Example:
        >>> Scale(0.0, 1.0).position(torch.tensor([0.0, 0.25, 2.0]))
        tensor([0.0000, 0.2500, 1.0000])
    """

    low: float
    high: float
    diverging: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise OptionError(f"a scale runs from a finite number up to another, not from {self.low} to {self.high}")
        if self.diverging and self.low != -self.high:
            raise OptionError(
                f"a diverging scale has zero in its middle: {-self.high} to {self.high}, not {self.low} to {self.high}"
            )

    @property
    def constant(self) -> bool:
        """Whether the two limits are one value, so that every position has the same colour."""
        return self.low == self.high

    @property
    def colormap(self) -> str:
        """The name of matplotlib's colour map for it."""
        return DIVERGING if self.diverging else MAGNITUDE

    def note(self) -> str:
        """The scale in words, for a caption.

        Example:
            >>> Scale(0.5, 0.5).note()
            'the same value everywhere, 0.5'
            >>> Scale(-0.2, 0.2, diverging=True).note()
            'from -0.2 (blue) through 0 (white) to 0.2 (red)'
        """
        if self.constant:
            return f"the same value everywhere, {self.low:.3g}"
        if self.diverging:
            return f"from {self.low:.3g} (blue) through 0 (white) to {self.high:.3g} (red)"
        return f"from {self.low:.3g} (dark violet) to {self.high:.3g} (yellow)"

    def position(self, values: Float[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
        """Where values stand between the limits, from 0 to 1; 0.5 if the limits are one value.

        Example:
            >>> Scale(2.0, 4.0).position(torch.tensor([1.0, 2.5]))
            tensor([0.0000, 0.2500])
        """
        if self.constant:
            return torch.full_like(values, 0.5)
        return ((values - self.low) / (self.high - self.low)).clamp(0, 1)

    def colours(self, values: Float[Tensor, "*axes"]) -> UInt8[Tensor, "*axes 3"]:
        """The colour of every value, from a table of 256.

        Raises:
            MissingExtraError: If matplotlib is not installed.

        Example:
            >>> Scale(0.0, 1.0).colours(torch.tensor([0.0, 1.0])).tolist()
            [[68, 1, 84], [253, 231, 36]]
        """
        return _table(self.colormap)[(self.position(values) * 255).round().long()]


def scale_of(*heats: Float[Tensor, "*axes"], diverging: bool = False) -> Scale:
    """One scale for several maps, so that their pictures can be compared.

    Args:
        *heats: The maps, of any shapes.
        diverging: Whether zero is to be in the middle.

    Raises:
        OptionError: If there is no map, or an empty one.
        FoveateError: If a value is not a finite number.

    Example:
        >>> scale_of(torch.tensor([[-3.0, 1.0]]), torch.tensor([2.0]), diverging=True)
        Scale(low=-3.0, high=3.0, diverging=True)
    """
    if not heats or any(heat.numel() == 0 for heat in heats):
        raise OptionError("a scale needs at least one value")
    for heat in heats:
        _check_finite(heat)
    low = min(float(heat.min()) for heat in heats)
    high = max(float(heat.max()) for heat in heats)
    if diverging:
        high = max(abs(low), abs(high))
        low = -high
    return Scale(low, high, diverging)


def overlay(
    image: UInt8[Tensor, "channels h w"],
    heat: Float[Tensor, "rows columns"],
    *,
    diverging: bool = False,
    alpha: float = 0.65,
    scale: Scale | None = None,
) -> UInt8[Tensor, "3 h w"]:
    """Draw a map over its image.

    The map is brought to the image's size bilinearly, each cell over the part of the image that it covers.
    The image below becomes grey, its black a lighter grey, so that colour means the map alone.

    Args:
        image: One image, grey or RGB.
        heat: One value a position, at any resolution.
        diverging: Whether the colours part at zero (blue, white, red) or run from dark violet to yellow.
        alpha: The map's share of every pixel, from 0 (the image alone) to 1 (the map alone).
        scale: Which values the colours stand for; the map's own range by default. :meth:`Scale.note` says it.

    Raises:
        OptionError: If the image is neither grey nor RGB bytes, the map is not one value a position, or
            ``alpha`` or ``scale`` cannot work.
        FoveateError: If the map has values that are not finite numbers.
        MissingExtraError: If matplotlib is not installed.

    Example:
        >>> black = torch.zeros(3, 2, 2, dtype=torch.uint8)
        >>> overlay(black, torch.tensor([[0.0, 1.0], [1.0, 1.0]]), alpha=1.0)[:, 0, 0]
        tensor([68,  1, 84], dtype=torch.uint8)
    """
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] not in (1, 3) or image.numel() == 0:
        raise OptionError(
            "an image to draw on is uint8 of shape (1 or 3, height, width), "
            f"not {image.dtype} of shape {tuple(image.shape)}"
        )
    if heat.ndim != 2 or heat.numel() == 0:
        raise OptionError(f"a map to draw is one value a position, (height, width), not {tuple(heat.shape)}")
    if not 0 <= alpha <= 1:
        raise OptionError(f"alpha must be between 0 (the image alone) and 1 (the map alone), not {alpha!r}")
    if scale is not None and scale.diverging != diverging:
        raise OptionError(f"diverging={diverging} contradicts the scale, whose diverging is {scale.diverging}")
    heat = heat.detach().cpu().float()
    _check_finite(heat)
    chosen = scale or scale_of(heat, diverging=diverging)
    # half-pixel centres (align_corners=False): a cell lies over the image region it summarises
    height, width = image.shape[1:]
    spread = F.interpolate(heat[None, None], size=(height, width), mode="bilinear", align_corners=False)[0, 0]
    colour = chosen.colours(spread).permute(2, 0, 1).float()
    return (alpha * colour + (1 - alpha) * _grey(image)).round().to(torch.uint8)


def _grey(image: Tensor) -> Tensor:
    pixels = image.detach().cpu().float()
    if pixels.shape[0] == 3:
        pixels = (pixels * torch.tensor(LUMA)[:, None, None]).sum(0, keepdim=True)
    return FLOOR + pixels * (255 - FLOOR) / 255


def _check_finite(heat: Tensor) -> None:
    bad = int((~torch.isfinite(heat)).sum())
    if bad:
        raise FoveateError(
            f"{bad} of this map's {heat.numel()} values are not finite numbers, and have no colour: look at "
            " the network's weights and inputs before its maps"
        )


def _table(name: str) -> Tensor:
    try:
        from matplotlib import colormaps
    except ImportError as error:
        raise MissingExtraError("matplotlib", "explain") from error
    grid = [index / 255 for index in range(256)]
    return torch.tensor(colormaps[name](grid, bytes=True)[:, :3].copy())
