"""One number for each of several things, hundreds of channels or four kernels: bars from where nothing is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from foveate.explain.pictures.numbers import number
from foveate.explain.pictures.page import INSIDE, LINE, SMALL, Area
from foveate.explain.pictures.panels import BLUE, ORANGE
from foveate.explain.pictures.svg import FAINT, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEFT = 36  # room for the numbers beside the bars
NAMED = 3  # of the highest, and of the lowest


@dataclass(frozen=True, eq=False)
class Bars:
    """Bars in order of index, or the highest first.

    Attributes:
        values: One for each bar, in order of index.
        name: Above.
        noun: What a bar is, as ``"channel"``.
        several: More of it.
        ordered: Whether the highest comes first.
        base: Where bars begin: 0, or 1 for gates that are about one.
        lines: Lines across, by what they stand for.
        legend: Whether the lines are told below.
        rest: A number for each bar that it is to be compared with, and its name.
    """

    values: Float[Tensor, " n"]
    name: str
    noun: str = "channel"
    several: str = "channels"
    ordered: bool = False
    base: float = 0.0
    lines: tuple[tuple[str, float], ...] = ()
    rest: tuple[str, Float[Tensor, " n"]] | None = None
    legend: bool = True
    width: int = INSIDE

    @property
    def height(self) -> int:
        """In pixels."""
        return LINE + 118 + LINE + (LINE if self.legend else 0)

    @property
    def limits(self) -> tuple[float, float]:
        """The values at the lower and the upper edge."""
        shown = [*self.values.tolist(), self.base, *(value for _, value in self.lines)]
        shown += self.rest[1].tolist() if self.rest else []
        low, high = min(shown), max(shown)
        room = (high - low or max(abs(high), 1.0)) * 0.04
        return low - (room if low != self.base or low == high else 0.0), high + room

    def draw(self, area: Area) -> None:
        """Draw them."""
        from matplotlib.patches import PathPatch
        from matplotlib.ticker import MaxNLocator

        order = self.values.argsort(descending=True, stable=True) if self.ordered else torch.arange(len(self.values))
        heights, count = self.values[order].tolist(), len(self.values)
        area.text(self.name)
        axes = area.part(LEFT, LINE + 4, area.width - LEFT, 114).axes()
        axes.set(xlim=(-0.5 - 0.01 * count, count - 0.5 + 0.01 * count), ylim=self.limits)
        axes.grid(axis="y", color=FAINT, lw=0.6)
        highest = (
            set(self.values.argsort(descending=True, stable=True)[:NAMED].tolist()) if count > 2 * NAMED else set[int]()
        )
        for gid, colour, chosen in (("bars", BLUE, False), ("highest", ORANGE, True)):
            some = [(at, top) for at, top in enumerate(heights) if (int(order[at]) in highest) == chosen]
            if some:
                # a path of its own keeps each bar as it is: matplotlib would merge what is closer than a pixel
                axes.add_patch(PathPatch(_boxes(some, self.base, count), fc=colour, ec="none", lw=0, gid=gid))
        axes.axhline(self.base, color=INK, lw=0.8)
        self._lines(axes, order)
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        axes.tick_params(labelsize=SMALL - 1)

    def _lines(self, axes: Axes, order: Tensor) -> None:
        styles = ((INK, "--"), (INK, "-"), (INK, ":"))
        for (name, value), (colour, style) in zip(self.lines, styles, strict=False):
            axes.axhline(value, color=colour, ls=style, lw=1.0, label=f"{name} {number(value)}", gid=name)
        if self.rest is not None:
            name, values = self.rest
            own = values[order].tolist()
            axes.plot(
                range(len(own)), own, "_", color=INK, ms=max(3.0, 200 / len(own)), mew=1.2, label=name, gid="rest"
            )
        if self.legend:
            axes.legend(
                loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=4, frameon=False, fontsize=SMALL - 1,
                borderpad=0, handlelength=1.6, columnspacing=1.2,
            )  # fmt: skip


def _boxes(tops: list[tuple[int, float]], base: float, count: int):  # pyright: ignore[reportUnknownParameterType]
    from matplotlib.path import Path

    half = 0.4 if count <= 96 else 0.5  # where a bar has hardly a pixel, a gap would only make it paler
    corners = [
        corner
        for at, top in tops
        for corner in ((at - half, base), (at - half, top), (at + half, top), (at + half, base), (at - half, base))
    ]
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY] * len(tops)
    return Path(corners, codes)


def extremes(values: Float[Tensor, " n"], noun: str = "channel", several: str = "channels") -> str:
    """Which are highest and lowest, in words.

    Example:
        >>> extremes(torch.tensor([0.5, 0.9, 0.1, 0.7, 0.2, 0.3, 0.4]))
        'highest channels: 1 (0.9), 3 (0.7), 0 (0.5); lowest: 2 (0.1), 4 (0.2), 5 (0.3)'
        >>> extremes(torch.tensor([0.25, 0.75]), "branch", "branches")
        'branches: 0 (0.25), 1 (0.75)'
    """

    def listed(some: Tensor) -> str:
        return ", ".join(f"{index} ({number(float(values[index]))})" for index in some.tolist())

    if len(values) == 1:
        return f"the one {noun}: {number(float(values[0]))}"
    if len(values) <= 2 * NAMED:
        return f"{several}: {listed(torch.arange(len(values)))}"
    order = values.argsort(descending=True, stable=True)
    return f"highest {several}: {listed(order[:NAMED])}; lowest: {listed(order.flip(0)[:NAMED])}"
