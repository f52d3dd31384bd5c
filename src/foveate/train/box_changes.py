"""Changes of an image by chance that move its boxes with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from foveate.data.boxes.detection import Boxes
from foveate.data.chance import between, whole

LEFT = 0.25  # share of a thing that must be left of it, or it is no longer one
Sample = tuple[UInt8[Tensor, "3 h w"], Boxes]


def mirrored(sample: Sample) -> Sample:
    """Left for right.

    Example:
        >>> boxes = Boxes(torch.tensor([[1.0, 2.0, 4.0, 5.0]]), torch.tensor([0]), torch.tensor([False]))
        >>> mirrored((torch.zeros(3, 8, 10, dtype=torch.uint8), boxes))[1].boxes
        tensor([[6., 2., 9., 5.]])
    """
    from torchvision.transforms.v2 import functional as tv

    return _both(sample, tv.horizontal_flip)


def zoomed(sample: Sample, factor: float, draw: torch.Generator) -> Sample:
    """Enlarged or made smaller, the size of the picture being kept: a part of it, or it on its own mean colour.

    A thing of which less than a quarter is left is no longer marked.
    """
    from torchvision.transforms.v2 import functional as tv

    pixels = sample[0]
    height, width = pixels.shape[1:]
    tall, wide = max(1, round(height * factor)), max(1, round(width * factor))
    sample = _both(sample, lambda it: tv.resize(it, [tall, wide], antialias=True))
    top, left = whole(abs(tall - height) + 1, draw), whole(abs(wide - width) + 1, draw)
    if factor >= 1:
        return _both(sample, lambda it: tv.crop(it, top, left, height, width))
    mean = pixels.float().mean((1, 2)).tolist()
    around = [left, top, width - wide - left, height - tall - top]
    return _both(sample, lambda it: tv.pad(it, around, fill=mean))


def cropped(sample: Sample, draw: torch.Generator) -> Sample:
    """A part of the picture with everything on it that is marked: nothing is cut through."""
    from torchvision.transforms.v2 import functional as tv

    pixels, boxes = sample
    height, width = pixels.shape[1:]
    if not len(boxes.boxes):
        return sample
    first, last = boxes.boxes[:, :2].min(0).values.tolist(), boxes.boxes[:, 2:].max(0).values.tolist()
    left, top = int(between(0, first[0], draw)), int(between(0, first[1], draw))
    right, bottom = -int(-between(last[0], width, draw) // 1), -int(-between(last[1], height, draw) // 1)
    return _both(sample, lambda it: tv.crop(it, top, left, min(bottom, height) - top, min(right, width) - left))


def _both(sample: Sample, change: Callable[[Any], Any]) -> Sample:
    """Change an image, and its boxes by torchvision's rules for them; what is hardly there any more goes."""
    from torchvision.transforms.v2 import functional as tv
    from torchvision.tv_tensors import BoundingBoxes, BoundingBoxFormat

    pixels, boxes = sample
    size: Any = tuple(pixels.shape[1:])
    # boxes that go over the edge are cut off below, where it can be told how much is left
    edges = BoundingBoxes(boxes.boxes, format=BoundingBoxFormat.XYXY, canvas_size=size, clamping_mode=None)  # type: ignore[call-overload]
    moved: Any = change(edges)
    kept: Any = tv.clamp_bounding_boxes(moved, clamping_mode="hard")
    there = _area(kept) >= LEFT * _area(moved)
    chosen = Boxes(kept.as_subclass(Tensor)[there], boxes.labels[there], boxes.crowd[there])
    return change(pixels), chosen


def _area(boxes: Tensor) -> Tensor:
    return ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).as_subclass(Tensor)
