"""What is done to medical images by chance, with MONAI's transforms: functions of a random stream alone."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from foveate.data.medical.scans import imported

MOST = 2**31


def normalised(image: Float[Tensor, "c ..."]) -> Float[Tensor, "c ..."]:
    """Each channel with mean 0 and deviation 1, as scanners' and microscopes' scales differ from image to image.

    Example:
        >>> normalised(torch.tensor([[1.0, 3.0]]))
        tensor([[-1.,  1.]])
    """
    # the transform writes into what it is given
    transform: Any = _transforms().NormalizeIntensity(channel_wise=True)
    return _plain(transform(image.clone()))


class Crops:
    """Windows of training images: where they are, and, if asked for, how they are changed.

    Args:
        size: Sides of the window.
        foreground: Share of the windows with foreground in their middle: small lesions are seen as often as the rest.
        change: Whether windows are mirrored, turned, scaled and lit differently.
        mirror: Whether to mirror, where the sides of a patient do not matter.
    """

    def __init__(self, size: tuple[int, ...], *, foreground: float, change: bool, mirror: bool) -> None:
        monai, keys = _transforms(), ("image", "mask")
        around = monai.RandCropByPosNegLabeld(keys, "mask", size, pos=foreground, neg=1 - foreground, num_samples=1)
        steps = [monai.SpatialPadd(keys, size), around]
        if change:
            steps += _bent(keys, len(size), mirror, ("bilinear", "nearest")) + _lit()
        self.steps: Any = monai.Compose(steps)

    def __call__(
        self, image: Float[Tensor, "c ..."], mask: Int64[Tensor, ...], draw: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """One window of an image and its mask."""
        seeded(self.steps, draw)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Num foregrounds")  # a mask without foreground is cut anywhere
            found: Any = self.steps({"image": image, "mask": mask[None].float()})[0]
        return _plain(found["image"]), _plain(found["mask"])[0].round().long()


class Whole:
    """Training images as a whole, at one size, changed by chance.

    Args:
        size: Their sides.
        mirror: Whether to mirror them.
    """

    def __init__(self, size: tuple[int, ...], *, mirror: bool) -> None:
        self.steps: Any = _transforms().Compose(_bent(("image",), len(size), mirror, ("bilinear",)) + _lit())

    def __call__(self, image: Float[Tensor, "c ..."], draw: torch.Generator) -> Float[Tensor, "c ..."]:
        """One image."""
        seeded(self.steps, draw)
        return _plain(self.steps({"image": image})["image"])


def resized(image: Float[Tensor, "c ..."], size: tuple[int, ...]) -> Float[Tensor, "c ..."]:
    """An image at another size."""
    mode = "bilinear" if len(size) == 2 else "trilinear"
    return _plain(_transforms().Resize(size, mode=mode, anti_aliasing=True)(image))


def seeded(steps: Any, draw: torch.Generator) -> None:
    """Give MONAI's transforms a random stream of their own from one of ours."""
    steps.set_random_state(seed=int(torch.randint(MOST, (), generator=draw)))


def _bent(keys: tuple[str, ...], axes: int, mirror: bool, modes: tuple[str, ...]) -> list[Any]:
    monai = _transforms()
    flips = [monai.RandFlipd(keys, 0.5, axis) for axis in range(axes)] if mirror else []
    affine = monai.RandAffined(
        keys, prob=0.5, rotate_range=(0.25,) * (1 if axes == 2 else 3), scale_range=(0.1,) * axes,
        mode=modes, padding_mode="reflection",
    )  # fmt: skip
    return [*flips, affine]


def _lit() -> list[Any]:
    monai = _transforms()
    return [
        monai.RandAdjustContrastd("image", prob=0.3, gamma=(0.7, 1.5)),
        monai.RandScaleIntensityd("image", 0.2, prob=0.3),
        monai.RandShiftIntensityd("image", 0.2, prob=0.3),
        monai.RandGaussianNoised("image", prob=0.3, std=0.1),
    ]


def _transforms() -> Any:
    return imported("monai.transforms")


def _plain(tensor: Any) -> Tensor:
    """A tensor without what MONAI notes about it."""
    return tensor.as_tensor() if hasattr(tensor, "as_tensor") else torch.as_tensor(tensor)
