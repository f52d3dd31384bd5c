"""Boxes of an annotation onto the image as a network will see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from foveate.data.boxes.annotations import Box, Edges, Marked, Notes, said

SLACK = 0.01  # pixels over the edge that rounding explains


@dataclass(frozen=True)
class Frame:
    """An image file as it is stored.

    Attributes:
        height: Stored.
        width: Stored.
        turn: EXIF's number of how to turn it, 1 for not at all.
        digest: SHA-256 of the file.
        length: Bytes of the file.
        changes: What was done to make 8-bit RGB of it.
    """

    height: int
    width: int
    turn: int
    digest: str
    length: int
    changes: tuple[str, ...]

    @property
    def upright(self) -> tuple[int, int]:
        """Height and width as one sees it."""
        return (self.width, self.height) if self.turn >= 5 else (self.height, self.width)


def fit_to_image(image: Marked, frames: Mapping[str, Frame], notes: Notes) -> list[Box] | None:
    """The boxes of an image that can be used; ``None`` if the image cannot be.

    Raises:
        DataError: If what cannot be used is to stop everything.
    """
    frame = frames.get(image.name)
    if frame is None:
        return None  # it could not be decoded, and that was said
    stored = (frame.height, frame.width)
    if image.size is not None and image.size not in (frame.upright, stored):
        height, width = frame.upright
        notes.skip(
            image.name,
            f"has {width}×{height} pixels, and its annotation says {image.size[1]}×{image.size[0]}: its boxes may be "
            "another image's",
        )
        return None
    unturned = image.size == stored != frame.upright
    if frame.turn != 1:
        how = "their boxes with them" if unturned else "their boxes taken as drawn on what one sees"
        notes.changed[f"images turned as EXIF says, {how}"] += 1
    found: list[Box] = []
    seen: set[tuple[object, ...]] = set()
    lost = image.lost
    for box in image.boxes:
        edges = turned(box.edges, frame) if unturned else box.edges
        kept = clipped(edges, frame.upright)
        if kept is None:
            notes.drop(image.name, f"has a box that lies outside of it ({said(edges)}, {box.label})")
        elif (key := (box.label, *(round(edge, 2) for edge in kept))) in seen:
            notes.drop(image.name, f"has a box twice ({said(edges)}, {box.label})")
            continue
        else:
            if max(abs(a - b) for a, b in zip(kept, edges, strict=True)) > SLACK:
                notes.changed["boxes cut off at the edge of their image"] += 1
            if box.crowd:
                notes.changed["boxes of crowds or difficult things, neither learned nor counted"] += 1
            found.append(Box(kept, box.label, box.crowd))
            seen.add(key)
            continue
        lost = True
    if lost and not found:
        notes.skip(image.name, "has boxes, and none of them can be used")
        return None
    return found


def clipped(edges: Edges, size: tuple[int, int]) -> Edges | None:
    """A box cut off at the edge of an image of some height and width; ``None`` if nothing of it is left.

    Example:
        >>> clipped((-2.0, 1.0, 3.0, 9.0), (5, 10)), clipped((11.0, 0.0, 12.0, 5.0), (5, 10))
        ((0.0, 1.0, 3.0, 5.0), None)
    """
    height, width = size
    left, right = (min(max(edge, 0.0), float(width)) for edge in edges[::2])
    top, bottom = (min(max(edge, 0.0), float(height)) for edge in edges[1::2])
    return (left, top, right, bottom) if right > left and bottom > top else None


def turned(edges: Edges, frame: Frame) -> Edges:
    """A box on the stored image, on the image as one sees it."""
    left, top, right, bottom = edges
    height, width = frame.height, frame.width
    if frame.turn in (2, 3, 7, 8):
        left, right = width - right, width - left
    if frame.turn in (3, 4, 6, 7):
        top, bottom = height - bottom, height - top
    return (top, left, bottom, right) if frame.turn >= 5 else (left, top, right, bottom)
