"""Maps without positions: weights of channels, kernels, branches and taps as bars, two axes of them as a matrix."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from foveate.errors import OptionError
from foveate.explain.overlay import Scale, scale_of
from foveate.explain.pictures.bars import NAMED, Bars, extremes
from foveate.explain.pictures.numbers import number
from foveate.explain.pictures.page import INSIDE, LINE, SMALL, Area, below, tiles
from foveate.explain.pictures.panels import ColourBar, Words
from foveate.explain.pictures.parts import Parts
from foveate.explain.pictures.svg import INK
from foveate.explain.pictures.telling import (
    NOUNS,
    constant,
    constant_note,
    meaning,
    multiplies,
    nouns,
    scale_note,
    spread_note,
)
from foveate.explain.record import AttentionMap

FEW = 32  # so many bars are read one by one; more are shown in order of height too
WRITTEN = 64  # cells of a matrix that have room for their numbers


def bars(found: AttentionMap, values: Float[Tensor, " n"], *, rest: float | Tensor | None = None) -> Parts:
    """One number for each channel, kernel, branch or tap."""
    axis = next((axis for axis in found.axes if axis not in "hw" or len(values) == 1), "c")
    noun, several = NOUNS.get(axis, axis), nouns(axis)
    gate = multiplies(found)
    base = 1.0 if gate and (float(values.min()) > 0.75 or float(values.max()) > 1) else 0.0
    lines = [("mean", float(values.mean()))]
    if gate:
        lines.append(("unchanged", 1.0))
    elif len(values) > 1 and abs(float(values.sum()) - 1) < 1e-3:
        lines.append(("even shares", 1 / len(values)))
    each = None
    if isinstance(rest, Tensor):
        if rest.numel() != len(values):
            raise OptionError(f"what {len(values)} {several} are compared with is as many numbers, not {rest.numel()}")
        each = ("at rest", rest.detach().cpu().float().flatten())
    elif rest is not None:
        lines.append(("at rest", float(rest)))

    def drawn(*, ordered: bool) -> Bars:
        name = "highest first" if ordered else f"in the order of the {several}"
        shown = f"{len(values)} {several}, {name}" if len(values) > 1 else ""
        return Bars(
            values, shown, noun, several, ordered=ordered, base=base, lines=tuple(lines), rest=each, legend=not ordered
        )

    told = extremes(values, noun, several)
    begins = "1, which leaves a channel as it is" if base else "0, which silences a channel" if gate else "0"
    sentences = (
        meaning(found),
        f"Bars begin at {begins}; the highest are orange." if len(values) > 2 * NAMED else f"Bars begin at {begins}.",
        constant_note(values, gate=gate),
        spread_note(found),
    )
    panels = [drawn(ordered=False)]
    if len(values) > FEW and not constant(values):
        panels.insert(0, drawn(ordered=True))
    alt = (
        f"Bars of {len(values)} {several}, from {number(float(values.min()))} to {number(float(values.max()))}. {told}"
    )
    return Parts(below(tiles(panels, 1), tiles([Words(told)], 1)), sentences, alt)


def matrix(found: AttentionMap, values: Float[Tensor, "rows columns"], *, scale: Scale | None = None) -> Parts:
    """One number for each pair, such as of branches and channels, or of channels and channels."""
    if found.size is not None:
        # the map counts what is looked at first; on paper what looks stands before it
        values, across, down = values.T, "channels that it takes from", "channels"
        what = "How much every channel takes from every other; each row is one channel that takes."
    else:
        what = meaning(found)
        down, across = (nouns(axis) for axis in found.axes)
        if values.shape[0] > values.shape[1]:
            values, down, across = values.T, across, down
    diverging = bool(values.min() < 0)
    chosen = scale or scale_of(values, diverging=diverging)
    cells = Cells(values, chosen, down, across)
    bar = ColourBar(chosen, "weight", alpha=1.0)
    sentences = (what, scale_note(chosen), constant_note(values, gate=False), spread_note(found))
    rows, columns = values.shape
    low, high = number(float(values.min())), number(float(values.max()))
    alt = f"A matrix of {rows} {down} and {columns} {across}, from {low} to {high}"
    return Parts(below(tiles([cells], 1), tiles([bar], 1)), sentences, alt)


@dataclass(frozen=True, eq=False)
class Cells:
    """A matrix in colours, its numbers written where there is room.

    Attributes:
        values: Rows from above.
        scale: Of the colours.
        down: What a row is.
        across: What a column is.
        most: How high it may be.
    """

    values: Float[Tensor, "rows columns"]
    scale: Scale
    down: str
    across: str
    width: int = INSIDE
    most: int = 376

    @property
    def height(self) -> int:
        """In pixels, with its axes."""
        rows, columns = self.values.shape
        side = (self.width - 40) * rows / columns
        return round(min(max(side, 62, 14 * min(rows, 12)), self.most)) + 2 * LINE + 6

    def draw(self, area: Area) -> None:
        """Draw it."""
        from matplotlib.ticker import MaxNLocator

        rows, columns = self.values.shape
        axes = area.part(40, 0, area.width - 40, self.height - 2 * LINE - 6).axes()
        colours = self.scale.colours(self.values)
        axes.imshow(colours.numpy(), aspect="auto", interpolation="none")
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
        axes.set_xlabel(self.across, fontsize=SMALL, labelpad=1)
        axes.set_ylabel(self.down, fontsize=SMALL, labelpad=1)
        axes.tick_params(labelsize=SMALL - 1)
        for one in (axes.xaxis, axes.yaxis):
            one.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
        if rows * columns <= WRITTEN and columns <= 9:
            light = colours.float() @ torch.tensor([0.299, 0.587, 0.114]) > 140
            for row in range(rows):
                for column in range(columns):
                    ink = INK if light[row, column] else "white"
                    text = number(float(self.values[row, column]))
                    axes.text(column, row, text, ha="center", va="center", fontsize=SMALL - 1, color=ink)
