"""Where things stand in a picture: rectangles of an empty drawing, in pixels from its left upper corner."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from foveate.explain.pictures.svg import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# one width for all pictures: shown 400 pixels wide, on a phone, the smallest letters still have 10
WIDTH, MARGIN, GAP = 440, 12, 10
INSIDE = WIDTH - 2 * MARGIN
SMALL, LARGE, LINE = 11, 13, 16
_LETTER = 0.55  # mean width of a letter of DejaVu Sans, in its heights; it is wider than what browsers take


@dataclass(frozen=True)
class Area:
    """A rectangle of a drawing.

    Attributes:
        figure: The drawing.
        left: From its left edge, in pixels.
        top: From its upper edge.
        width: To the right.
        height: Downwards.
    """

    figure: Figure
    left: float
    top: float
    width: float
    height: float

    def part(self, left: float, top: float, width: float, height: float) -> Area:
        """A rectangle in this one, from its own corner."""
        return replace(self, left=self.left + left, top=self.top + top, width=width, height=height)

    def axes(self) -> Axes:
        """Axes that fill it."""
        across, down = (float(side) * 72 for side in self.figure.get_size_inches())
        bottom = 1 - (self.top + self.height) / down
        return self.figure.add_axes((self.left / across, bottom, self.width / across, self.height / down))

    def text(self, words: str, *, left: float = 0, top: float = 0, **style: Any) -> None:
        """A line of text, hung by its left upper corner."""
        across, down = (float(side) * 72 for side in self.figure.get_size_inches())
        style = {"va": "top", "ha": "left", "fontsize": SMALL, "color": INK, **style}
        self.figure.text((self.left + left) / across, 1 - (self.top + top) / down, words, **style)


class Panel(Protocol):
    """One part of a picture, which knows how high it is and how it is drawn."""

    @property
    def height(self) -> int:
        """In pixels."""
        ...

    def draw(self, area: Area) -> None:
        """Draw it into a rectangle of its height and of the width that it was made for."""
        ...


@dataclass(frozen=True)
class Placed:
    """A panel and where it stands, from the left upper corner of all panels."""

    panel: Panel
    left: int
    top: int
    width: int


def tiles(panels: Sequence[Panel], columns: int, *, top: int = 0) -> tuple[Placed, ...]:
    """Panels of one width beside each other, row below row.

    Example:
        >>> from foveate.explain.pictures.panels import Words
        >>> [(one.left, one.top, one.width) for one in tiles([Words("a"), Words("b"), Words("c")], 2)]
        [(0, 0, 203), (213, 0, 203), (0, 26, 203)]
    """
    placed: list[Placed] = []
    for start in range(0, len(panels), columns):
        row = panels[start : start + columns]
        wide = tile_width(columns)
        placed += [Placed(panel, index * (wide + GAP), top, wide) for index, panel in enumerate(row)]
        top += max(panel.height for panel in row) + GAP
    return tuple(placed)


def tile_width(columns: int) -> int:
    """How wide each of so many panels beside each other is."""
    return (INSIDE - (columns - 1) * GAP) // columns


def below(*groups: Sequence[Placed]) -> tuple[Placed, ...]:
    """Groups of panels, each below the one before.

    Example:
        >>> from foveate.explain.pictures.panels import Words
        >>> [one.top for one in below(tiles([Words("a")], 1), tiles([Words("b")], 1))]
        [0, 26]
    """
    placed: list[Placed] = []
    top = 0
    for group in groups:
        placed += [replace(one, top=one.top + top) for one in group]
        top = bottom(placed) + GAP if placed else 0
    return tuple(placed)


def bottom(placed: Sequence[Placed]) -> int:
    """Where the lowest panel ends."""
    return max((one.top + one.panel.height for one in placed), default=0)


def wrapped(words: str, width: float = INSIDE, size: float = SMALL) -> list[str]:
    """Text in lines of so many pixels; a word that is longer than a line is cut.

    Example:
        >>> wrapped("what the features were multiplied by", 120)
        ['what the features', 'were multiplied by']
    """
    return textwrap.wrap(words, max(8, int(width / (size * _LETTER))), break_on_hyphens=False) if words else []
