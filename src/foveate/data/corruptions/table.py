"""What each corruption is called, what it does and how strong its five strengths are.

The strengths were set once, by ``tools/calibrate_corruptions.py``, and are not tuned to any study: strength 1 to 5 of
each corruption leaves about 90, 80, 70, 55 and 40 % of the accuracy of a network that never saw it. At 32 pixels that
was a published ResNet-20 on 1,000 test images of CIFAR-10, at 224 pixels torchvision's MobileNetV2 on 250 photographs
of ImageNet's classes. Between the two sizes amounts grow by a power of the shorter side, the straight line through both
on logarithmic scales; above 224 pixels and up to 1024 all strengths go on by the power of the middle one, so that they
stay in order. Below 32 pixels amounts are those of 32: a blur of less than a pixel does nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from foveate.data.corruptions.blur import defocus_blur, gaussian_blur, motion_blur, zoom_blur
from foveate.data.corruptions.digital import contrast, jpeg, pixelate, quantise
from foveate.data.corruptions.noise import gaussian_noise, impulse_noise, shot_noise, speckle_noise
from foveate.data.corruptions.weather import brightness, fog, snow, spatter

STRENGTHS = (1, 2, 3, 4, 5)
SMALL, LARGE = 32, 224
MOST = 1024
SPAN = math.log(LARGE / SMALL)

Five = tuple[float, float, float, float, float]


@dataclass(frozen=True)
class Corruption:
    """A corruption and its strengths.

    Attributes:
        name: What it is called.
        family: ``"noise"``, ``"blur"``, ``"weather"`` or ``"digital"``.
        change: From an image, values from 0 to 1, an amount and a random stream to what it becomes; what lies outside
            0 to 1 is cut off.
        unit: What the amount is.
        small: The amount for each strength where the shorter side has 32 pixels.
        large: The same for 224 pixels.
    """

    name: str
    family: str
    change: Callable[[Tensor, float, torch.Generator], Tensor]
    unit: str
    small: Five
    large: Five

    def amount(self, strength: int, side: int) -> float:
        """How much of it, for an image whose shorter side has so many pixels.

        Example:
            >>> blur = CORRUPTIONS["gaussian_blur"]
            >>> blur.amount(3, 32) == blur.small[2], blur.amount(3, 32) < blur.amount(3, 96) < blur.amount(3, 224)
            (True, True)
        """
        small, large = self.small[strength - 1], self.large[strength - 1]
        if side > LARGE:
            return large * (self.large[2] / self.small[2]) ** (math.log(min(side, MOST) / LARGE) / SPAN)
        return small * (large / small) ** (math.log(max(side, SMALL) / SMALL) / SPAN)


_ALL = (
    Corruption(
        "gaussian_noise",
        "noise",
        gaussian_noise,
        "deviation",
        (0.021, 0.032, 0.039, 0.05, 0.064),
        (0.044, 0.063, 0.079, 0.11, 0.14),
    ),
    Corruption(
        "shot_noise",
        "noise",
        shot_noise,
        "deviation at white",
        (0.029, 0.045, 0.057, 0.077, 0.11),
        (0.064, 0.091, 0.12, 0.15, 0.2),
    ),
    Corruption(
        "impulse_noise",
        "noise",
        impulse_noise,
        "share of values",
        (0.0065, 0.011, 0.018, 0.028, 0.041),
        (0.0028, 0.0074, 0.011, 0.022, 0.042),
    ),
    Corruption(
        "speckle_noise",
        "noise",
        speckle_noise,
        "relative deviation",
        (0.039, 0.06, 0.081, 0.12, 0.17),
        (0.083, 0.1, 0.13, 0.2, 0.26),
    ),
    Corruption(
        "gaussian_blur",
        "blur",
        gaussian_blur,
        "deviation in pixels",
        (0.63, 0.69, 0.75, 0.86, 1),
        (0.89, 1.4, 1.8, 2.3, 3),
    ),
    Corruption(
        "defocus_blur", "blur", defocus_blur, "radius in pixels", (0.92, 1, 1.1, 1.4, 1.8), (1.6, 2.6, 3.5, 4.4, 5.5)
    ),
    Corruption(
        "motion_blur", "blur", motion_blur, "length in pixels", (1.7, 2.2, 2.8, 3.6, 4.8), (3.7, 5.2, 7.3, 10, 14)
    ),
    Corruption(
        "zoom_blur",
        "blur",
        zoom_blur,
        "share of the size",
        (0.085, 0.11, 0.13, 0.19, 0.3),
        (0.021, 0.031, 0.041, 0.056, 0.074),
    ),
    Corruption("fog", "weather", fog, "optical depth", (0.34, 0.51, 0.66, 0.94, 1.3), (0.51, 0.8, 0.98, 1.3, 1.6)),
    Corruption(
        "snow", "weather", snow, "share covered", (0.011, 0.019, 0.03, 0.054, 0.1), (0.024, 0.05, 0.091, 0.13, 0.18)
    ),
    Corruption(
        "brightness", "weather", brightness, "added", (0.31, 0.4, 0.47, 0.55, 0.64), (0.29, 0.41, 0.47, 0.56, 0.63)
    ),
    Corruption(
        "spatter",
        "weather",
        spatter,
        "share covered",
        (0.038, 0.072, 0.12, 0.22, 0.36),
        (0.082, 0.14, 0.19, 0.26, 0.34),
    ),
    Corruption(
        "contrast", "digital", contrast, "share kept", (0.56, 0.43, 0.35, 0.26, 0.19), (0.45, 0.3, 0.21, 0.16, 0.12)
    ),
    Corruption("jpeg", "digital", jpeg, "factor of the tables", (0.77, 1.7, 2.4, 4.3, 6.9), (1.8, 2.9, 5, 6.7, 8.6)),
    Corruption(
        "pixelate",
        "digital",
        pixelate,
        "share of the side",
        (0.93, 0.87, 0.81, 0.72, 0.62),
        (0.79, 0.7, 0.53, 0.45, 0.38),
    ),
    Corruption("quantise", "digital", quantise, "levels", (13, 9, 6, 4, 2), (11, 9, 8, 6, 5)),
)
CORRUPTIONS: Mapping[str, Corruption] = {one.name: one for one in _ALL}
FAMILIES: Mapping[str, tuple[str, ...]] = {
    family: tuple(one.name for one in _ALL if one.family == family)
    for family in ("noise", "blur", "weather", "digital")
}
