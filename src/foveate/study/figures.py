"""The charts of a study's report: inline SVG in the page's own colours, the same text for the same numbers."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from foveate.explain.pictures.svg import CARD, FAINT, INK, MUTED, PAGE, canvas, short, svg
from foveate.study.wording import points, points_interval, short_count

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

# Okabe and Ito's palette, made to be told apart by colour-blind readers; its yellow is too pale for white paper
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = ("o", "s", "^", "D", "v", "P")
CONTROLS = {"capacity": "s", "placebo": "D"}


@dataclass(frozen=True)
class Look:
    """How one arm is drawn, the same in every chart: controls are hollow, in the colour of their mechanism."""

    colour: str
    marker: str
    hollow: bool = False

    @property
    def css(self) -> str:
        """The colour as a page writes it, light or dark."""
        return PAGE.get(self.colour, self.colour)


def looks(arms: Sequence[Mapping[str, Any]]) -> dict[str, Look]:
    """A colour and a marker for every arm: the baseline has the colour of the text, larger networks are grey.

    Args:
        arms: The arms of a study, with ``"name"``, ``"role"`` and ``"attention"``.

    Example:
        >>> arms = [{"name": "baseline", "role": "baseline"}, {"name": "eca", "role": "attention", "attention": "eca"}]
        >>> looks(arms)["eca"].colour
        '#0072b2'
    """
    found: dict[str, Look] = {}
    mechanisms = larger = 0
    for arm in arms:
        name, role = arm["name"], arm["role"]
        if role == "baseline":
            found[name] = Look(INK, "o")
        elif role == "larger":
            found[name] = Look(MUTED, MARKERS[::-1][larger % len(MARKERS)])
            larger += 1
        elif role in CONTROLS:
            own = found.get(arm["attention"])
            found[name] = Look(MUTED if own is None else own.colour, CONTROLS[role], hollow=True)
        else:
            turn = mechanisms + mechanisms // len(PALETTE)
            found[name] = Look(PALETTE[mechanisms % len(PALETTE)], MARKERS[turn % len(MARKERS)])
            mechanisms += 1
    return found


def mark(axes: Axes, x: float, y: float, look: Look, *, size: float = 7.5) -> Line2D:
    """One arm's marker at a point."""
    face = CARD if look.hollow else look.colour
    (drawn,) = axes.plot([x], [y], look.marker, markersize=size, markerfacecolor=face, markeredgecolor=look.colour)
    drawn.set(markeredgewidth=1.6, clip_on=False, zorder=3)
    return drawn


def difference_chart(rows: Sequence[Mapping[str, Any]], look: Mapping[str, Look], *, name: str, width: int) -> str:
    """Paired differences to the baseline: mean, 95 % interval and every seed, around a line at zero.

    Mechanisms come first; controls and larger networks stand apart, below a line.

    Args:
        rows: The rows of a comparison, the baseline first.
        look: The look of every arm.
        name: Begins every id in the drawing, so that several can share a page.
        width: In pixels; from 560 the names stand beside the lines, below that above them.

    Raises:
        MissingExtraError: If matplotlib is not installed.

    Example:
        >>> eca = {"arm": "eca", "role": "attention", "difference": 0.01, "difference_interval": (-0.02, 0.04)}
        >>> look = looks([{"name": "eca", "role": "attention"}])
        >>> difference_chart([eca | {"differences": [0.0, 0.02]}], look, name="d", width=340)[:4]
        '<svg'
    """
    compared = [row for row in rows if row["difference"] is not None]
    shown = [row for row in compared if row["role"] == "attention"]
    apart = [row for row in compared if row["role"] != "attention"]
    beside = width >= 560
    left, right, step = (200, 190, 40) if beside else (12, 12, 54)
    gap = 0.7 if shown and apart else 0.0
    places = [*range(len(shown)), *(len(shown) + gap + index for index in range(len(apart)))]
    last = len(compared) + gap - 0.5
    with canvas(width, round(step * (last + 0.5)) + 56, left=left, right=right, bottom=46, top=10) as (figure, axes):
        axes.set_ylim(last, -0.5)
        ends = [end for row in compared for end in [*row["differences"], *(row["difference_interval"] or ())]]
        axes.set_xlim(*around([0.0, *(100 * end for end in ends)]))
        axes.axvline(0, color=MUTED, linewidth=1)
        if gap:
            _apart(axes, len(shown) - 0.5 + gap / 2, beside=beside)
        words: list[str] = []
        for place, row in zip(places, [*shown, *apart], strict=True):
            style, interval = look[row["arm"]], row["difference_interval"]
            line = place if beside else place + 0.12
            if interval:
                axes.plot([100 * end for end in interval], [line, line], color=style.colour, linewidth=2.5)
            seeds = [100 * value for value in row["differences"]]
            under = [line + 0.24] * len(seeds)
            axes.plot(seeds, under, "o", markersize=4.5, markerfacecolor="none", markeredgecolor=style.colour)
            mark(axes, 100 * row["difference"], line, style, size=8)
            numbers = f"{points(row['difference'])}  ({points_interval(interval)})"
            text = place if beside else place - 0.24
            sides = ("right", "left") if beside else ("left", "right")
            letters = 27 if beside else 25
            for edge, (side, content) in enumerate(zip(sides, (short(row["arm"], letters), numbers), strict=True)):
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


def _apart(axes: Axes, place: float, *, beside: bool) -> None:
    """A line between mechanisms and what they are held against."""
    start = -0.3 if beside else 0.0
    axes.plot([start, 1], [place, place], color=FAINT, transform=axes.get_yaxis_transform(), clip_on=False)
    axes.annotate(
        "not judged",
        (1, place),
        xycoords=("axes fraction", "data"),
        xytext=(12 if beside else 0, 0),
        textcoords="offset points",
        horizontalalignment="left" if beside else "right",
        verticalalignment="center",
        color=MUTED,
        fontsize=10,
        bbox={"facecolor": CARD, "edgecolor": "none", "pad": 1},
        annotation_clip=False,
    )


def parameters_chart(rows: Sequence[Mapping[str, Any]], look: Mapping[str, Look], *, name: str) -> str:
    """Difference to the baseline, with its 95 % interval, against the parameters that an arm adds to it.

    Args:
        rows: The rows of a comparison, the baseline first.
        look: The look of every arm.
        name: Begins every id in the drawing.

    Raises:
        MissingExtraError: If matplotlib is not installed.

    Example:
        >>> none = {"arm": "baseline", "difference": None, "difference_interval": None, "parameters": 1}
        >>> parameters_chart([none], looks([{"name": "baseline", "role": "baseline"}]), name="p")[:4]
        '<svg'
    """
    from matplotlib.ticker import FuncFormatter

    added = {row["arm"]: row["parameters"] - rows[0]["parameters"] for row in rows}
    order = sorted(rows, key=lambda row: -(row["difference"] or 0.0))
    label = "parameters added"
    with keyed([row["arm"] for row in order], look) as (figure, axes):
        ends = [100 * end for row in rows for end in row["difference_interval"] or [row["difference"] or 0.0]]
        axes.set_ylim(*around([0.0, *ends]))
        _none_and_decades(axes, list(added.values()))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
        axes.axhline(0, color=MUTED, linewidth=1)
        words: list[str] = []
        for row in order:
            style, x, y = look[row["arm"]], added[row["arm"]], 100 * (row["difference"] or 0.0)
            if row["difference_interval"]:
                axes.plot([x, x], [100 * end for end in row["difference_interval"]], color=style.colour)
            mark(axes, x, y, style)
            words.append(f"{row['arm']} {short_count(x)}, {points(y / 100)}")
        axes.set_xlabel(label)
        axes.set_title("difference, percentage points", loc="left", pad=12)
        axes.grid(axis="y", color=FAINT, linewidth=0.8)
        return svg(figure, name, f"Difference to the baseline in points against {label}: " + "; ".join(words))


def _none_and_decades(axes: Axes, costs: Sequence[float]) -> None:
    """Mechanisms add from none to more than the host has, and some take away: logarithmic, with a place for zero."""
    sizes = [abs(cost) for cost in costs if cost] or [1.0]
    first, last = math.floor(math.log10(min(sizes))), math.ceil(math.log10(max(sizes)))
    least, most = min(costs), max(*costs, 10**first)
    axes.set_xscale("symlog", linthresh=10**first, linscale=0.6)
    axes.set_xlim(2 * least if least < 0 else -(10**first) * 0.25, most * 2)
    decades = [10**decade for decade in range(first, last + 1, max(1, round((last - first) / 3)))]
    below = [-decade for decade in decades[-1:] if decade <= -2 * least]
    axes.set_xticks([*below, 0, *(decade for decade in decades if decade <= most * 2)])
    axes.minorticks_off()


@contextmanager
def keyed(arms: Sequence[str], look: Mapping[str, Look]) -> Generator[tuple[Figure, Axes]]:
    """A drawing with the names of arms in a column of their own: points often lie on one another."""
    width, bottom, top, names = 366, 46, 30, 234
    height = max(300, bottom + top + 20 * len(arms))
    with canvas(width, height, left=48, right=width - names + 12, bottom=bottom, top=top) as (figure, axes):
        for place, arm in enumerate(arms):
            line = (bottom + (1 - (place + 0.5) / len(arms)) * (height - bottom - top)) / height
            mark(axes, names / width, line, look[arm]).set_transform(figure.transFigure)
            figure.text((names + 10) / width, line, short(arm, 17), verticalalignment="center", parse_math=False)
        axes.relim()
        yield figure, axes


def around(values: Sequence[float]) -> tuple[float, float]:
    """Limits with some air about the values.

    Example:
        >>> around([0.0, 1.0])
        (-0.08, 1.08)
    """
    low, high = min(values), max(values)
    air = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
    return low - air, high + air
