"""An image with what a network says of it, and beside it what a person says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from foveate.data.masks.segmentation import IGNORE
from foveate.explain.album.answers import Masks, Things
from foveate.explain.album.kind import Kind
from foveate.explain.album.seen import Seen, Thing, mask_at
from foveate.explain.pictures import Picture
from foveate.explain.pictures.page import LINE, Area, below, tile_width, tiles
from foveate.explain.pictures.panels import Pixels, fitted
from foveate.explain.pictures.picture import said

# Okabe and Ito's, told apart by colour-blind people; by class from 1, and again after seven
COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
OPEN = "#808080"  # pixels of no class
ONE = 280  # pixels of a picture that stands alone
STRENGTH = 0.55  # the colour's share of a pixel


def colour(label: int) -> str:
    """The colour of a class; 0, which is nothing, has none, and 255, which is no class, is grey.

    Example:
        >>> colour(1), colour(8) == colour(1)
        ('#e69f00', True)
    """
    return OPEN if label == IGNORE else COLOURS[(label - 1) % len(COLOURS)]


@dataclass(frozen=True, eq=False)
class Boxed:
    """An image with boxes in the colours of their classes.

    Attributes:
        image: The image, below the boxes.
        size: Height and width that the boxes are in.
        things: The boxes; of each class, too, how it is drawn.
        numbered: Whether each has its number.
    """

    image: Pixels
    size: tuple[int, int]
    things: tuple[Thing, ...]
    numbered: bool = True

    @property
    def height(self) -> int:
        """In pixels."""
        return self.image.height

    def draw(self, area: Area) -> None:
        """Draw it."""
        from matplotlib.patches import Rectangle

        self.image.draw(area)
        top = self.image.lines * LINE
        axes = area.part(0, top, self.image.width, self.image.picture_height).axes()
        axes.set_axis_off()
        axes.set(xlim=(0, self.size[1]), ylim=(self.size[0], 0))
        for number, thing in enumerate(self.things, 1):
            left, high, right, low = thing.box.tolist()
            for edge, width in (("black", 3.5), (colour(thing.label), 2.0)):
                axes.add_patch(Rectangle((left, high), right - left, low - high, fill=False, ec=edge, lw=width))
            style: dict[str, Any] = {"facecolor": "black", "edgecolor": "none", "pad": 1.5}
            if self.numbered:  # in its box, where it covers no heading
                axes.text(left, high, f" {number} ", color="white", fontsize=8, va="top", bbox=style, clip_on=True)


@dataclass(frozen=True)
class Legend:
    """What the colours of classes mean.

    Attributes:
        entries: A colour and what it stands for, in lines.
    """

    entries: tuple[tuple[str, str], ...]

    @property
    def height(self) -> int:
        """In pixels."""
        return LINE * len(self.entries)

    def draw(self, area: Area) -> None:
        """Draw it."""
        for index, (paint, words) in enumerate(self.entries):
            axes = area.part(0, index * LINE + 3, 10, 10).axes()
            axes.set_axis_off()
            axes.axvspan(0, 1, facecolor=paint, edgecolor="black", lw=1)
            axes.set(xlim=(0, 1), ylim=(0, 1))
            area.text(words, left=18, top=index * LINE)


def answered(one: Seen, answer: Any, kind: Kind) -> Picture:
    """The picture: the image, what was said, and what is true where somebody knows.

    Example:
        >>> from foveate.explain.album.answers import Classes
        >>> image = torch.zeros(3, 8, 8, dtype=torch.uint8)
        >>> answered(Seen("a.png", image, image.float()), torch.zeros(2), Classes(["cat", "dog"])).title
        'a.png'
    """
    words = said(kind.says(answer), None if one.truth is None else kind.true_words(one.truth))
    caption = "What the network was given: the picture, cut and resized as it takes it."
    if isinstance(kind, Things):
        found = kind.found(answer)
        rows = [
            (colour(thing.label), f"{number}: {kind.name(thing.label)} {score:.0%}")
            for number, (thing, score) in enumerate(found, 1)
        ]
        if isinstance(one.truth, tuple):
            known = sorted({thing.label for thing in one.truth} - {thing.label for thing, _ in found})
            rows += [(colour(label), f"{kind.name(label)}: marked, not found") for label in known]
        panels = _boxed(one, [thing for thing, _ in found], rows)
        caption = (
            "What the network was given: the whole picture, made smaller where it is too large. An even edge on the "
            "right or below is no part of it: it fills the frame that the network's layers need."
        )
    elif isinstance(kind, Masks):
        panels = _masked(one, kind.found(answer), kind)
    else:
        panels = (*tiles([_plain(one, ONE)], 1),)
    return Picture(one.name, caption, f"{one.name}. {words}", words, panels)


def _plain(one: Seen, width: int, name: str = "", pixels: Tensor | None = None) -> Pixels:
    shown = one.pixels if pixels is None else pixels
    high = max(1, round(2 * width * one.size[0] / one.size[1]))
    return Pixels(fitted(shown, 2 * width, high), width, name, lines=1 if name else 0)


def _boxed(one: Seen, found: Sequence[Thing], rows: Sequence[tuple[str, str]]) -> Any:
    known = isinstance(one.truth, tuple)
    width = tile_width(2) if known else ONE
    sides: list[Any] = [Boxed(_plain(one, width, "found"), one.size, tuple(found))]
    if isinstance(one.truth, tuple):
        sides.append(Boxed(_plain(one, width, "marked by a person"), one.size, one.truth, numbered=False))
    return below(tiles(sides, 2 if known else 1), tiles([Legend(tuple(rows))], 1) if rows else ())


def _masked(one: Seen, found: Tensor, kind: Kind) -> Any:
    known = isinstance(one.truth, Tensor)
    width = tile_width(3 if known else 2)
    mask = mask_at(found, one.size)
    sides: list[Any] = [_plain(one, width, "the picture"), _plain(one, width, "found", painted(one.pixels, mask))]
    there = mask.unique().tolist()
    if isinstance(one.truth, Tensor):
        sides.append(_plain(one, width, "marked by a person", painted(one.pixels, one.truth)))
        there += one.truth.unique().tolist()
    names = {IGNORE: "no class: left out of the numbers"}
    rows = [(colour(number), names.get(number, kind.name(number))) for number in sorted(set(there)) if number > 0]
    return below(tiles(sides, len(sides)), tiles([Legend(tuple(rows))], 1) if rows else ())


def painted(pixels: UInt8[Tensor, "3 h w"], mask: Tensor) -> UInt8[Tensor, "3 h w"]:
    """An image whose pixels have the colours of their classes; those of class 0 stay as they are.

    Example:
        >>> painted(torch.zeros(3, 1, 2, dtype=torch.uint8), torch.tensor([[0, 1]]))[:, 0].tolist()
        [[0, 126], [0, 87], [0, 0]]
    """
    out = pixels.float()
    for number in mask.unique().tolist():
        if number > 0:
            tint = torch.tensor([float(int(colour(int(number))[at : at + 2], 16)) for at in (1, 3, 5)])[:, None, None]
            out = torch.where(mask == number, out * (1 - STRENGTH) + tint * STRENGTH, out)
    return out.to(torch.uint8)
