"""Score against latency: what each arm brings for its time, and which arms nothing else beats in both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from foveate.explain.pictures.svg import FAINT, MUTED, svg
from foveate.study.figures import Look, around, keyed, mark
from foveate.study.wording import metric_name, percent, times

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def front_chart(
    rows: Sequence[Mapping[str, Any]], look: Mapping[str, Look], front: Sequence[str], *, metric: str, name: str
) -> str:
    """The test score against latency as a multiple of the baseline's, both with 95 % intervals, and the Pareto front.

    Args:
        rows: The rows of a comparison, the baseline first.
        look: The look of every arm.
        front: The arms that no other is both quicker and better than.
        metric: The name of the score.
        name: Begins every id in the drawing.

    Raises:
        MissingExtraError: If matplotlib is not installed.

    Example:
        >>> from foveate.study.figures import looks
        >>> row = {"arm": "baseline", "score": 0.5, "score_interval": None}
        >>> row |= {"latency_ratio": 1, "latency_interval": None}
        >>> look = looks([{"name": "baseline", "role": "baseline"}])
        >>> front_chart([row], look, ["baseline"], metric="accuracy", name="f")[:4]
        '<svg'
    """
    from matplotlib.ticker import FuncFormatter

    shown = sorted((row for row in rows if row["latency_ratio"] is not None), key=lambda row: -row["score"])
    with keyed([row["arm"] for row in shown], look) as (figure, axes):
        heights = [end for row in shown for end in row["score_interval"] or [row["score"]]]
        low, high = around([100 * min(max(end, 0.0), 1.0) for end in heights])
        axes.set_ylim(low, high)
        _times(axes, [end for row in shown for end in row["latency_interval"] or [row["latency_ratio"]]])
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
        axes.grid(axis="y", color=FAINT, linewidth=0.8)
        by_arm = {row["arm"]: row for row in shown}
        steps = sorted((by_arm[arm]["latency_ratio"], 100 * by_arm[arm]["score"]) for arm in front if arm in by_arm)
        if steps:
            across = [*(x for x, _ in steps), axes.get_xlim()[1]]
            up = [*(y for _, y in steps), steps[-1][1]]
            axes.step(across, up, where="post", color=MUTED, linewidth=1.2, linestyle="--")
        words: list[str] = []
        for row in shown:
            style, x, y = look[row["arm"]], row["latency_ratio"], 100 * row["score"]
            if row["score_interval"]:
                axes.plot([x, x], [100 * end for end in row["score_interval"]], color=style.colour, linewidth=1.2)
            if row["latency_interval"]:
                axes.plot(row["latency_interval"], [y, y], color=style.colour, linewidth=1.2)
            mark(axes, x, y, style)
            on = ", on the front" if row["arm"] in front else ""
            words.append(f"{row['arm']} {times(x)}, {percent(row['score'])}{on}")
        axes.set_xlabel("latency, times the baseline's")
        axes.set_title(f"{metric_name(metric)}, %", loc="left", pad=12)
        return svg(figure, name, f"Test {metric_name(metric)} against latency: " + "; ".join(words))


def _times(axes: Axes, costs: Sequence[float]) -> None:
    low, high = min(costs), max(costs)
    if high < 4 * low:
        axes.set_xlim(*around(costs))
        axes.locator_params(axis="x", nbins=4)
        return
    axes.set_xscale("log")
    axes.set_xlim(low / 1.2, high * 1.2)
    axes.set_xticks([float(f"{low * (high / low) ** (step / 3):.1g}") for step in range(4)])
    axes.minorticks_off()
