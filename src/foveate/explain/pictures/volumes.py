"""Volumes: three planes through one point, on one scale, with the numbers of the planes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from foveate.errors import OptionError
from foveate.explain.pictures.heatmaps import heatmaps
from foveate.explain.pictures.numbers import number
from foveate.explain.pictures.page import Panel, below, tile_width, tiles
from foveate.explain.pictures.panels import ColourBar, Pixels, fitted
from foveate.explain.pictures.picture import SHARPNESS, Picture, said
from foveate.explain.pictures.positions import bar_alpha
from foveate.explain.pictures.sources import source_of
from foveate.explain.pictures.telling import NOT_WHY, constant, constant_note, joined, one_of, scale_note
from foveate.explain.record import AttentionMap, Recording

AXES = ("depth", "height", "width")


def slices(
    source: Recording | AttentionMap,
    volume: Shaped[Tensor, "d h w"] | None = None,
    sample: int = 0,
    *,
    place: str | None = None,
    focus: tuple[int, int, int] | None = None,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    prediction: object = None,
    label: object = None,
) -> Picture:
    """Three planes of a volume through one point, the volume's and the map's over it, all on one scale.

    Args:
        source: A recording of a network on volumes, or one map of it.
        volume: What the network was shown, one number a voxel, of any range: darkest and brightest become black and
            white. Without it the map is drawn alone, in its own positions.
        sample: Which volume of the recording.
        place: Which place of a recording; the last, if ``None``.
        focus: Depth, row and column of the point, in voxels of the volume; where the map is highest, if ``None``.
        spacing: How far voxels are apart along depth, height and width, in any unit.
        prediction: What the network said of it.
        label: What it is.

    Raises:
        OptionError: If the volume is none, or the point lies outside of it.
        FoveateError: If there is no map of a volume's positions.

    Example:
        >>> gate = AttentionMap("a", "", "spatial", ("d", "h", "w"), torch.rand(1, 1, 4, 5, 6))
        >>> slices(gate, torch.rand(8, 10, 12), focus=(1, 2, 3)).alt[:52]
        'a: spatial. Planes through depth 1, height 2, width '
    """
    drawn = source_of(source, place, dimensions=3)
    heat = one_of(drawn.values, drawn.title, sample)
    if volume is not None and (volume.ndim != 3 or volume.numel() == 0):
        raise OptionError(f"a volume to draw on is (depth, height, width), not {tuple(volume.shape)}")
    size = tuple(volume.shape if volume is not None else heat.shape)
    fine = F.interpolate(heat[None, None], size=size, mode="trilinear", align_corners=False)[0, 0]
    at = focus or _highest(fine)
    if len(at) != 3 or not all(0 <= one < side for one, side in zip(at, size, strict=True)):
        raise OptionError(f"the point {at} lies outside a volume of {'×'.join(map(str, size))} voxels")
    scale, bounded = drawn.scale()
    names = [f"{axis} {one} of {side}" for axis, one, side in zip(AXES, at, size, strict=True)]
    heats = [_plane(fine, axis, at[axis], spacing, smooth=True) for axis in range(3)]
    rings = [(_where(at, size, axis),) for axis in range(3)]
    panels: list[Panel] = []
    if volume is not None:
        images = [_plane(_grey(volume), axis, at[axis], spacing, smooth=False).byte()[None] for axis in range(3)]
        panels += [_shown(image, name) for image, name in zip(images, names, strict=True)]
        for image, one, ring in zip(images, heats, rings, strict=True):
            panels += heatmaps(image, [one], scale, names=[""], rings=[ring], columns=3, picture=False, lines=0)
    else:
        for one, name, ring in zip(heats, names, rings, strict=True):
            panels += heatmaps(None, [one], scale, names=[name], rings=[ring], columns=3)
    bar = ColourBar(scale, drawn.label, bar_alpha(None if volume is None else images[0]), bounded=bounded)
    through = ", ".join(f"{axis} {one}" for axis, one in zip(AXES, at, strict=True))
    caption = joined(
        drawn.what,
        f"Three planes through {through}, counted from 0" + (", where the map is highest." if focus is None else "."),
        constant_note(heat, gate=False) if not drawn.diverging else "",
        "Nothing is changed anywhere." if drawn.diverging and constant(heat) else "",
        scale_note(scale),
        f"The map has {'×'.join(map(str, heat.shape))} positions.",
        NOT_WHY,
    )
    answer = said(prediction, label)
    low, high = number(float(heat.min())), number(float(heat.max()))
    alt = ". ".join(part for part in (f"{drawn.title}. Planes through {through}, from {low} to {high}", answer) if part)
    return Picture(drawn.title, caption, alt, answer, below(tiles(panels, 3), tiles([bar], 1)))


def _highest(fine: Float[Tensor, "d h w"]) -> tuple[int, int, int]:
    """Where it is highest; the middle of a map that is the same everywhere."""
    if constant(fine):
        depth, height, width = (side // 2 for side in fine.shape)
        return depth, height, width
    depth, height, width = (int(one) for one in torch.unravel_index(fine.argmax(), fine.shape))
    return depth, height, width


def _plane(volume: Tensor, axis: int, number: int, spacing: tuple[float, ...], *, smooth: bool) -> Tensor:
    """One plane, its pixels square: the side whose voxels are farther apart has more of them."""
    plane = volume.select(axis, number)
    apart = [one for index, one in enumerate(spacing) if index != axis]
    size = [max(1, round(side * one / min(apart))) for side, one in zip(plane.shape, apart, strict=True)]
    if size == list(plane.shape):
        return plane
    mode = {"mode": "bilinear", "align_corners": False} if smooth else {"mode": "nearest-exact"}
    return F.interpolate(plane[None, None].float(), size=size, **mode)[0, 0]


def _grey(volume: Tensor) -> Float[Tensor, "d h w"]:
    values = volume.detach().cpu().float()
    low, high = float(values.min()), float(values.max())
    return ((values - low) / max(high - low, 1e-12) * 255).round()


def _shown(image: Tensor, name: str) -> Pixels:
    width = tile_width(3)
    height = max(1, round(width * image.shape[1] / image.shape[2]))
    return Pixels(fitted(image, SHARPNESS * width, SHARPNESS * height), width, name)


def _where(at: tuple[int, ...], size: tuple[int, ...], axis: int) -> tuple[float, float]:
    down, across = (index for index in range(3) if index != axis)
    return (at[across] + 0.5) / size[across], (at[down] + 0.5) / size[down]
