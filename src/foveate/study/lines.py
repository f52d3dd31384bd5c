"""How the score of every arm goes along a scale: with more training samples, or with stronger corruption."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from foveate.explain.pictures.svg import FAINT, svg
from foveate.study.figures import Look, around, keyed, mark
from foveate.study.wording import metric_name, percent


def lines_chart(
    table: Mapping[str, Mapping[str, Any]],
    look: Mapping[str, Look],
    *,
    metric: str,
    along: str,
    times: float = 1.0,
    name: str,
) -> str:
    """Mean scores along a scale, one line an arm, dotted for controls.

    Args:
        table: By place on the scale, a number as text, and by arm: the mean score.
        look: The look of every arm.
        metric: The name of the score.
        along: What the scale is.
        times: By what the numbers of the scale are multiplied, such as 100 for percent.
        name: Begins every id in the drawing.

    Raises:
        MissingExtraError: If matplotlib is not installed.

    Example:
        >>> from foveate.study.figures import looks
        >>> table = {"0.5": {"baseline": {"mean": {"mean": 0.4}}}, "1": {"baseline": {"mean": {"mean": 0.5}}}}
        >>> look = looks([{"name": "baseline", "role": "baseline"}])
        >>> lines_chart(table, look, metric="accuracy", along="training samples, %", times=100, name="l")[:4]
        '<svg'
    """
    series = {
        arm: [(times * float(at), 100 * arms[arm]["mean"]["mean"]) for at, arms in table.items() if arm in arms]
        for arm in look
    }
    series = {arm: own for arm, own in series.items() if own}
    order = sorted(series, key=lambda arm: -series[arm][-1][1])
    with keyed(order, look) as (figure, axes):
        axes.set_ylim(*around([y for own in series.values() for _, y in own]))
        places = sorted({x for own in series.values() for x, _ in own})
        axes.set_xlim(*around(places))
        axes.set_xticks(places, [f"{place:g}" for place in places])
        axes.grid(axis="y", color=FAINT, linewidth=0.8)
        words: list[str] = []
        for arm in order:
            style, own = look[arm], series[arm]
            dashes = ":" if style.hollow else "-"
            axes.plot([x for x, _ in own], [y for _, y in own], dashes, color=style.colour, linewidth=1.6)
            for x, y in own:
                mark(axes, x, y, style, size=6)
            words.append(f"{arm} from {percent(own[0][1] / 100)} to {percent(own[-1][1] / 100)}")
        axes.set_xlabel(along)
        axes.set_title(f"{metric_name(metric)}, %", loc="left", pad=12)
        return svg(figure, name, f"Test {metric_name(metric)} against {along}: " + "; ".join(words))
