"""The charts of a study's report: inline SVG in the page's own colours, the same text for the same numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from foveate.study.drawing import CARD, FAINT, INK, MUTED, PAGE, canvas, short, svg
from foveate.study.wording import points, points_interval, short_count, times

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette, made to be told apart by colour-blind readers; its yellow is too pale for white paper
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = ("o", "s", "^", "D", "v", "P")


@dataclass(frozen=True)
class Look:
    """How one arm is drawn, the same in every chart."""

    colour: str
    marker: str

    @property
    def css(self) -> str:
        """The colour as a page writes it, light or dark."""
        return PAGE.get(self.colour, self.colour)


def looks(arms: Sequence[str]) -> dict[str, Look]:
    """A colour and a marker for every arm; the first, the baseline, has the colour of the text.

    Example:
        >>> looks(["baseline", "eca"])["eca"].colour
        '#0072b2'
    """
    found = {arm: Look(INK, "o") for arm in arms[:1]}
    for index, arm in enumerate(arms[1:]):
        turn = index + index // len(PALETTE)
        found[arm] = Look(PALETTE[index % len(PALETTE)], MARKERS[turn % len(MARKERS)])
    return found


def difference_chart(rows: Sequence[Mapping[str, Any]], look: Mapping[str, Look], *, name: str, width: int) -> str:
    """Paired differences to the baseline: mean, 95 % t-interval and every seed, around a line at zero.

    Args:
        rows: The rows of a comparison, the baseline first.
        look: The look of every arm.
        name: Begins every id in the drawing, so that several can share a page.
        width: In pixels; from 560 the names stand beside the lines, below that above them.

    Raises:
        MissingExtraError: If matplotlib is not installed.

    Example:
        >>> none = {"arm": "baseline", "difference": None}
        >>> eca = {"arm": "eca", "difference": 0.01, "difference_interval": (-0.02, 0.04), "differences": [0.0, 0.02]}
        >>> difference_chart([none, eca], looks(["baseline", "eca"]), name="d", width=340)[:4]
        '<svg'
    """
    shown = [row for row in rows if row["difference"] is not None]
    beside = width >= 560
    left, right, step = (190, 190, 40) if beside else (12, 12, 54)
    height = step * len(shown) + 56
    with canvas(width, height, left=left, right=right, bottom=46, top=10) as (figure, axes):
        axes.set_ylim(len(shown) - 0.5, -0.5)
        ends = [end for row in shown for end in [*row["differences"], *(row["difference_interval"] or ())]]
        axes.set_xlim(*_around([0.0, *(100 * end for end in ends)]))
        axes.axvline(0, color=MUTED, linewidth=1)
        words: list[str] = []
        for place, row in enumerate(shown):
            style, interval = look[row["arm"]], row["difference_interval"]
            line = place if beside else place + 0.12
            if interval:
                axes.plot([100 * end for end in interval], [line, line], color=style.colour, linewidth=2.5)
            seeds = [100 * value for value in row["differences"]]
            under = [line + 0.24] * len(seeds)
            axes.plot(seeds, under, "o", markersize=4.5, markerfacecolor="none", markeredgecolor=style.colour)
            axes.plot([100 * row["difference"]], [line], style.marker, markersize=8, color=style.colour)
            numbers = f"{points(row['difference'])}  ({points_interval(interval)})"
            text = place if beside else place - 0.24
            sides = ("right", "left") if beside else ("left", "right")
            for edge, (side, content) in enumerate(zip(sides, (short(row["arm"], 25), numbers), strict=True)):
                shift = (-12, 12)[edge] if beside else 0
                axes.annotate(
                    content,
                    (edge, text),
                    xycoords=("axes fraction", "data"),
                    xytext=(shift, 0),
                    textcoords="offset points",
                    horizontalalignment=side,
                    verticalalignment="center",
                    bbox={"facecolor": CARD, "edgecolor": "none", "pad": 1},
                    parse_math=False,
                )
            words.append(f"{row['arm']} {points(row['difference'])} ({points_interval(interval)})")
        axes.set_yticks([])
        axes.set_xlabel("difference to the baseline, percentage points")
        return svg(figure, name, "Paired difference to the baseline in percentage points: " + "; ".join(words))


def latency_chart(rows: Sequence[Mapping[str, Any]], look: Mapping[str, Look], *, name: str) -> str:
    """Difference in accuracy, with its 95 % t-interval, against latency as a multiple of the baseline's.

    Args:
        rows: The rows of a comparison, the baseline first.
        look: The look of every arm.
        name: Begins every id in the drawing.

    Raises:
        MissingExtraError: If matplotlib is not installed.

    Example:
        >>> none = {"arm": "baseline", "difference": None, "difference_interval": None, "latency_ratio": 1}
        >>> eca = {"arm": "eca", "difference": 0.01, "difference_interval": (-0.02, 0.04), "latency_ratio": 2}
        >>> latency_chart([none, eca], looks(["baseline", "eca"]), name="l")[:4]
        '<svg'
    """

    def axis(axes: Axes, costs: Sequence[float]) -> None:
        if max(costs) < 4 * min(costs):
            axes.set_xlim(*_around(costs))
            axes.locator_params(axis="x", nbins=4)
            return
        low, high = min(costs), max(costs)
        axes.set_xscale("log")
        axes.set_xlim(low / 1.2, high * 1.2)
        axes.set_xticks([float(f"{low * (high / low) ** (step / 3):.1g}") for step in range(4)])
        axes.minorticks_off()

    costs = {row["arm"]: row["latency_ratio"] for row in rows if row["latency_ratio"] is not None}
    return _cost_chart(rows, costs, look, name, "latency, times the baseline's", times, lambda cost: f"{cost:g}×", axis)


def parameters_chart(rows: Sequence[Mapping[str, Any]], look: Mapping[str, Look], *, name: str) -> str:
    """Difference in accuracy, with its 95 % t-interval, against the parameters that an arm adds to the baseline.

    Args:
        rows: The rows of a comparison, the baseline first.
        look: The look of every arm.
        name: Begins every id in the drawing.

    Raises:
        MissingExtraError: If matplotlib is not installed.

    Example:
        >>> none = {"arm": "baseline", "difference": None, "difference_interval": None, "parameters": 1}
        >>> eca = {"arm": "eca", "difference": 0.01, "difference_interval": (-0.02, 0.04), "parameters": 2}
        >>> parameters_chart([none, eca], looks(["baseline", "eca"]), name="p")[:4]
        '<svg'
    """

    def axis(axes: Axes, costs: Sequence[float]) -> None:
        # mechanisms add from none to more than the host has: logarithmic, but with a place for zero
        added = [cost for cost in costs if cost > 0] or [1.0]
        first, last = math.floor(math.log10(min(added))), math.ceil(math.log10(max(added)))
        axes.set_xscale("symlog", linthresh=10**first, linscale=0.6)
        axes.set_xlim(-(10**first) * 0.25, max(added) * 2)
        decades = range(first, last + 1, max(1, round((last - first) / 3)))
        axes.set_xticks([0, *(10**decade for decade in decades if 10**decade <= max(added) * 2)])
        axes.minorticks_off()

    costs = {row["arm"]: row["parameters"] - rows[0]["parameters"] for row in rows}
    return _cost_chart(rows, costs, look, name, "parameters added", short_count, short_count, axis)


def _cost_chart(
    rows: Sequence[Mapping[str, Any]],
    costs: Mapping[str, float],
    look: Mapping[str, Look],
    name: str,
    label: str,
    written: Callable[[float], str],
    tick: Callable[[float], str],
    scale: Callable[[Axes, Sequence[float]], None],
) -> str:
    from matplotlib.ticker import FuncFormatter

    shown = [row for row in rows if row["arm"] in costs]
    width, height, bottom, top, names = 366, 300, 46, 30, 234
    with canvas(width, height, left=48, right=width - names + 12, bottom=bottom, top=top) as (figure, axes):
        ends = [100 * end for row in shown for end in row["difference_interval"] or [row["difference"] or 0.0]]
        axes.set_ylim(*_around([0.0, *ends]))
        scale(axes, list(costs.values()))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
        axes.axhline(0, color=MUTED, linewidth=1)
        words: list[str] = []
        # names in a column of their own, in the order of the points: the points often lie on one another
        order = sorted(shown, key=lambda row: -(row["difference"] or 0.0))
        for place, row in enumerate(order):
            style, x, y = look[row["arm"]], costs[row["arm"]], 100 * (row["difference"] or 0.0)
            if row["difference_interval"]:
                axes.plot([x, x], [100 * end for end in row["difference_interval"]], color=style.colour)
            axes.plot([x], [y], style.marker, markersize=7.5, color=style.colour, clip_on=False)
            line = (bottom + (1 - (place + 0.5) / len(order)) * (height - bottom - top)) / height
            (key,) = axes.plot([names / width], [line], style.marker, markersize=7.5, color=style.colour)
            key.set(transform=figure.transFigure, clip_on=False)
            figure.text((names + 10) / width, line, short(row["arm"], 16), verticalalignment="center", parse_math=False)
            words.append(f"{row['arm']} {written(x)}, {points(y / 100)}")
        axes.set_xlabel(label)
        axes.set_title("difference, percentage points", loc="left", pad=12)
        axes.grid(axis="y", color=FAINT, linewidth=0.8)
        title = f"Difference to the baseline in percentage points against {label}: " + "; ".join(words)
        return svg(figure, name, title)


def _around(values: Sequence[float]) -> tuple[float, float]:
    """Limits with some air about the values."""
    low, high = min(values), max(values)
    air = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
    return low - air, high + air
