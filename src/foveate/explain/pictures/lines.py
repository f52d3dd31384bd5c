"""Gates of rows and of columns, as coordinate attention has them: bands over the image, and their curve beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from foveate.errors import OptionError
from foveate.explain.overlay import Scale, scale_of
from foveate.explain.pictures.heatmaps import Image, check_image, heatmaps, over, widened
from foveate.explain.pictures.numbers import number
from foveate.explain.pictures.page import GAP, LINE, SMALL, Area, Placed, below, tiles
from foveate.explain.pictures.panels import BLUE, ColourBar, Pixels
from foveate.explain.pictures.parts import Parts
from foveate.explain.pictures.picture import Picture, said
from foveate.explain.pictures.positions import LEAST, bar_alpha, label_of
from foveate.explain.pictures.svg import FAINT, MUTED
from foveate.explain.pictures.telling import (
    NOT_WHY,
    constant,
    constant_note,
    joined,
    meaning,
    multiplies,
    nouns,
    one_of,
    scale_note,
    spread_note,
    title_of,
)
from foveate.explain.pictures.weights import Cells
from foveate.explain.record import AttentionMap

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIDE = 270  # of the image that curves stand beside
CURVE = 110  # of a curve, across
ROOM = 34  # for the numbers of a curve


@dataclass(frozen=True, eq=False)
class Curve:
    """The mean over channels along one side of the image, and the range of all channels about it.

    Attributes:
        values: Channels by positions along the side.
        upright: Whether it runs down beside the image, or across below it.
        length: Along the image, in pixels.
        top: How far down it begins, to stand level with an image that has a name.
    """

    values: Float[Tensor, "c n"]
    upright: bool
    length: int
    top: int = 0

    @property
    def width(self) -> int:
        """In pixels."""
        return CURVE if self.upright else self.length

    @property
    def height(self) -> int:
        """In pixels, with its numbers."""
        return self.top + (self.length + 2 * LINE if self.upright else 70 + LINE)

    def draw(self, area: Area) -> None:
        """Draw it."""
        mean, low, high = self.values.mean(0), self.values.amin(0), self.values.amax(0)
        edges = torch.arange(self.values.shape[1] + 1).tolist()
        if self.upright:
            axes = area.part(0, self.top, CURVE, self.length).axes()
            axes.set(ylim=(edges[-1], 0), xlim=_limits(low, high))
            axes.spines["bottom"].set_visible(False)
        else:
            axes = area.part(0, self.top, self.length, 70).axes()
            axes.set(xlim=(0, edges[-1]), ylim=_limits(low, high))
        self._fill(axes, edges, mean, low, high)
        axes.tick_params(labelsize=SMALL - 1)
        if self.upright:
            axes.set_yticks([])
            axes.set_xlabel("value", fontsize=SMALL - 1, labelpad=1, color=MUTED)
        else:
            axes.set_xticks([])
            axes.yaxis.tick_right()
        (axes.xaxis if self.upright else axes.yaxis).set_major_locator(_few())
        axes.grid(axis="x" if self.upright else "y", color=FAINT, lw=0.6)

    def _fill(self, axes: Axes, edges: list[int], mean: Tensor, low: Tensor, high: Tensor) -> None:
        if len(self.values) > 1:
            axes.stairs(
                high.tolist(), edges, baseline=low.tolist(), fill=True, color=BLUE, alpha=0.25, lw=0,
                orientation="horizontal" if self.upright else "vertical",
            )  # fmt: skip
        for at, value in enumerate(mean.tolist()):
            ends = ((value, value), (at, at + 1)) if self.upright else ((at, at + 1), (value, value))
            axes.plot(*ends, color=BLUE, lw=2, solid_capstyle="butt", gid=f"step{at}")


def lines(found: AttentionMap, values: Float[Tensor, "c h w"], image: Image | None, *, scale: Scale | None) -> Parts:
    """A gate of rows, or of columns; of a signal, of its moments."""
    upright = values.shape[2] == 1
    flat = values[:, :, 0] if upright else values[:, 0, :]
    mean = flat.mean(0)
    chosen = scale or scale_of(mean)
    wide = chosen if scale or chosen.constant or constant(mean) else widened(chosen, LEAST)
    heat = mean[:, None].expand(-1, max(2, len(mean))) if upright else mean[None].expand(max(2, len(mean)), -1)
    groups = [
        _beside(image, heat, flat, wide, upright=upright),
        tiles([ColourBar(wide, label_of(found), bar_alpha(image))], 1),
    ]
    noun = "rows" if upright else "columns"
    if len(flat) > 1:
        own = scale_of(flat)
        cells = (
            Cells(flat.T, own, noun, nouns("c"), most=120) if upright else Cells(flat, own, nouns("c"), noun, most=120)
        )
        groups.append(tiles([cells], 1))
        groups.append(tiles([ColourBar(own, f"every one of {len(flat)} channels", alpha=1.0)], 1))
    sentences = (
        meaning(found),
        f"The curve is the mean over {len(flat)} channels, its band their range." if len(flat) > 1 else "",
        constant_note(values, gate=multiplies(found)),
        scale_note(wide, widened=wide != chosen),
        f"The map has {len(mean)} {noun}.",
        spread_note(found),
    )
    low, high = number(float(values.min())), number(float(values.max()))
    alt = f"A gate of {len(mean)} {noun}, from {low} to {high}; highest on average in {noun[:-1]} {int(mean.argmax())}"
    return Parts(below(*groups), sentences, alt)


def crossed(
    rows: AttentionMap,
    columns: AttentionMap,
    image: Image | None = None,
    sample: int = 0,
    *,
    prediction: object = None,
    label: object = None,
) -> Picture:
    """The gates of rows and of columns of one mechanism together: their product over the image, a curve on each side.

    Args:
        rows: A map that varies over ``"h"`` and not over ``"w"``.
        columns: One that varies over ``"w"`` and not over ``"h"``.
        image: What the network was shown, in bytes.
        sample: Which image of the recording.
        prediction: What the network said of it.
        label: What it is.

    Raises:
        OptionError: If the maps are others, or there is no such sample.
        FoveateError: If values are not finite numbers.

    Example:
        >>> h = AttentionMap("a", "coordinate", "h", ("c", "h"), torch.rand(1, 8, 4, 1))
        >>> w = AttentionMap("a", "coordinate", "w", ("c", "w"), torch.rand(1, 8, 1, 5))
        >>> crossed(h, w).title
        'a: coordinate, h × w'
    """
    check_image(image)
    down, across = one_of(rows.values, rows.place, sample), one_of(columns.values, columns.place, sample)
    if down.ndim != 3 or down.shape[2] != 1 or across.ndim != 3 or across.shape[1] != 1:
        raise OptionError(
            f"a gate of rows and one of columns are (batch, channels, height, 1) and (batch, channels, 1, width), not "
            f"{tuple(rows.values.shape)} and {tuple(columns.values.shape)}"
        )
    product = (down * across).mean(0)
    own = scale_of(product)
    wide = own if own.constant else widened(own, LEAST)
    pixels = over(image, product, SIDE, wide)
    panel = Pixels(pixels, SIDE, "rows × columns, mean over channels" if len(down) > 1 else "rows × columns")
    high = panel.picture_height
    placed = (
        Placed(panel, 0, 0, SIDE),
        Placed(Curve(down[:, :, 0], upright=True, length=high, top=LINE), SIDE + GAP, 0, CURVE),
    )
    curve = (Placed(Curve(across[:, 0, :], upright=False, length=SIDE), 0, 0, SIDE),)
    bar = tiles([ColourBar(wide, label_of(rows), bar_alpha(image))], 1)
    title = f"{title_of(rows)} × {columns.step or 'columns'}"
    caption = joined(
        "What the features were multiplied by in every row (right) and in every column (below).",
        "Curves are means over channels, bands their range." if len(down) > 1 or len(across) > 1 else "",
        constant_note(product, gate=True),
        scale_note(wide, widened=wide != own),
        NOT_WHY,
    )
    low, top = number(float(product.min())), number(float(product.max()))
    answer = said(prediction, label)
    alt = f"{title}. Rows times columns over the image, from {low} to {top}. {answer}".rstrip(". ")
    return Picture(title, caption, alt, answer, below(placed, curve, bar))


def _beside(image: Image | None, heat: Tensor, flat: Tensor, scale: Scale, *, upright: bool) -> tuple[Placed, ...]:
    [panel] = heatmaps(
        image, [heat], scale, names=["rows" if upright else "columns"], picture=False, columns=1, width=SIDE
    )
    high = panel.height - LINE
    if upright:
        return (
            Placed(panel, 0, 0, SIDE),
            Placed(Curve(flat, upright=True, length=high, top=LINE), SIDE + GAP, 0, CURVE),
        )
    return below([Placed(panel, 0, 0, SIDE)], [Placed(Curve(flat, upright=False, length=SIDE), 0, 0, SIDE)])


def _limits(low: Tensor, high: Tensor) -> tuple[float, float]:
    least, most = float(low.min()), float(high.max())
    room = 0.05 * (most - least) or 0.05
    return least - room, most + room


def _few():  # pyright: ignore[reportUnknownParameterType]
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(3)
