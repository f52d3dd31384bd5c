"""Scenes composed of the embedded sample: several clothes on one picture, with masks and boxes, no download needed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from foveate.data.chance import between, generator, whole
from foveate.data.sample import CLASSES, fashion_mnist

THINGS = ("T-shirt/top", "Trouser", "Bag", "Ankle boot")  # four that a small network tells apart
SIDE = 96
COUNTS = {"train": 240, "validation": 40, "test": 80}
MOST, SMALLEST, LARGEST = 4, 22, 44  # things a scene, and how large one is in pixels
SEEN = 0.6  # share of a thing that another may not cover
DARK = 24  # brightness from which a pixel of the sample belongs to its thing


@dataclass(frozen=True)
class Scene:
    """A picture with things on it.

    Attributes:
        pixels: RGB.
        mask: 0 for the ground, 1 upwards for the things of :data:`THINGS`.
        boxes: Left, top, right and bottom of what is seen of each thing, in pixels; right and bottom lie outside.
        labels: What each box holds, as numbers of :data:`THINGS` from 0.
    """

    pixels: UInt8[Tensor, "3 96 96"]
    mask: UInt8[Tensor, "96 96"]
    boxes: Float[Tensor, "n 4"]
    labels: Int64[Tensor, " n"]


@cache
def scenes(split: str, seed: int = 0) -> tuple[Scene, ...]:
    """The scenes of a split: of training, validation or test images of the sample, so that no thing is in two splits.

    Args:
        split: ``"train"``, ``"validation"`` or ``"test"``.
        seed: Other scenes; and other images for training and validation, as in :func:`foveate.data.fashion_mnist`.

    Example:
        >>> scene = scenes("test")[0]
        >>> scene.pixels.shape, int(scene.mask.max()) <= len(THINGS), len(scene.boxes) == len(scene.labels)
        (torch.Size([3, 96, 96]), True, True)
    """
    images = getattr(fashion_mnist(seed), split)
    by_thing = [(images.labels == CLASSES.index(thing)).nonzero().flatten().tolist() for thing in THINGS]
    return tuple(_scene(images, by_thing, generator("scene", seed, *split.encode(), n)) for n in range(COUNTS[split]))


def _scene(images: Any, by_thing: list[list[int]], draw: torch.Generator) -> Scene:
    pixels = _ground(draw)
    owner = torch.zeros(SIDE, SIDE, dtype=torch.int64)  # 0 for the ground, else the number of the thing from 1
    things: list[int] = []
    areas: list[int] = []
    for _ in range(1 + whole(MOST, draw)):
        thing = whole(len(THINGS), draw)
        image = images[by_thing[thing][whole(len(by_thing[thing]), draw)]][0]
        side = SMALLEST + whole(LARGEST - SMALLEST + 1, draw)
        grey = F.interpolate(image[None].float(), (side, side), mode="bilinear", align_corners=False)[0, 0]
        if whole(2, draw):
            grey = grey.flip(1)
        top, left = whole(SIDE - side + 1, draw), whole(SIDE - side + 1, draw)
        tint = 0.5 + 0.5 * torch.rand(3, 1, 1, generator=draw)
        shape = grey >= DARK
        there = owner[top : top + side, left : left + side]
        covered = [int(((there == number + 1) & ~shape).sum()) for number in range(len(things))]
        hidden = [int((owner == number + 1).sum()) - int((there == number + 1).sum()) for number in range(len(things))]
        if any(a + b < SEEN * area for a, b, area in zip(covered, hidden, areas, strict=True)):
            continue  # it would hide too much of another
        there[shape] = len(things) + 1
        pixels[:, top : top + side, left : left + side][:, shape] = (grey * tint)[:, shape]
        things.append(thing)
        areas.append(int(shape.sum()))
    boxes = [_box(owner == number + 1) for number in range(len(things))]
    numbers = torch.tensor([0, *(thing + 1 for thing in things)])
    return Scene(
        pixels.round().clamp(0, 255).to(torch.uint8),
        numbers[owner].to(torch.uint8),
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(things, dtype=torch.int64),
    )


def _ground(draw: torch.Generator) -> Tensor:
    """Blotches of dim colours, and noise."""
    coarse = torch.rand(1, 3, 5, 5, generator=draw) * between(20, 70, draw)
    blotches = F.interpolate(coarse, (SIDE, SIDE), mode="bicubic", align_corners=False)[0]
    return (blotches + 6 * torch.randn(3, SIDE, SIDE, generator=draw)).clamp(0, 255)


def _box(seen: Tensor) -> tuple[int, int, int, int]:
    rows, columns = seen.any(1).nonzero().flatten(), seen.any(0).nonzero().flatten()
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
