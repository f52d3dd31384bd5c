"""Learning curves: one drawing an arm, small enough to stand beside the others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from foveate.explain.pictures.svg import FAINT, MUTED, canvas, svg


@dataclass(frozen=True)
class Curve:
    """One score over the epochs: one list a seed, all of one length."""

    epochs: Sequence[int]
    seeds: Sequence[Sequence[float]]

    def mean(self) -> list[float]:
        """The mean over seeds at every epoch.

        Example:
            >>> Curve([1, 2], [[0.25, 0.5], [0.75, 0.5]]).mean()
            [0.5, 0.5]
        """
        return [sum(values) / len(values) for values in zip(*self.seeds, strict=True)]


def curves_chart(
    validation: Curve,
    training: Curve | None,
    baseline: Curve | None,
    *,
    name: str,
    title: str,
    colour: str,
    span: tuple[float, float],
    label: str = "accuracy",
) -> str:
    """Learning curves of one arm: validation with a band over the seeds, training dashed, the baseline grey.

    Args:
        validation: Score on the validation samples.
        training: Score on the training samples, as they were seen while learning; ``None`` where nobody kept it.
        baseline: The baseline's validation score, drawn behind, if this is not the baseline itself.
        name: Begins every id in the drawing.
        title: What the drawing shows, in words.
        colour: The arm's colour.
        span: The lowest and highest score of the axis, one for all arms of a page.
        label: The name of the score.

    Raises:
        MissingExtraError: If matplotlib is not installed.

    Example:
        >>> curve = Curve([1, 2], [[0.5, 0.75]])
        >>> curves_chart(curve, curve, None, name="c", title="eca", colour="#0072b2", span=(0.4, 0.8))[:4]
        '<svg'
    """
    from matplotlib.ticker import MaxNLocator

    with canvas(340, 230, left=34, right=98, bottom=42, top=28) as (figure, axes):
        axes.set_ylim(100 * span[0], 100 * span[1])
        epochs = list(validation.epochs)
        low, high = ([100 * pick(values) for values in zip(*validation.seeds, strict=True)] for pick in (min, max))
        axes.fill_between(epochs, low, high, color=colour, alpha=0.22, linewidth=0)
        lines = [("validation", validation, colour, "-", 2.0)]
        if training is not None:
            lines.insert(0, ("training", training, colour, "--", 1.2))
        if baseline is not None:
            lines.insert(0, ("baseline", baseline, MUTED, "-", 1.2))
        for _, curve, paint, dashes, thickness in lines:
            mean = [100 * value for value in curve.mean()]
            dot = "o" if len(mean) == 1 else ""
            axes.plot(list(curve.epochs), mean, dashes, marker=dot, color=paint, linewidth=thickness)
        ends = {which: 100 * curve.mean()[-1] for which, curve, *_ in lines}
        heights = _apart(ends, 100 * (span[1] - span[0]) * 0.085)  # a line of text, in units of the axis
        for which, _, paint, dashes, thickness in lines:
            key = ([1.03, 1.1], [heights[which]] * 2)
            axes.plot(
                *key, dashes, color=paint, linewidth=thickness, transform=axes.get_yaxis_transform(), clip_on=False
            )
            axes.annotate(
                which,
                (1.13, heights[which]),
                xycoords=axes.get_yaxis_transform(),
                verticalalignment="center",
                annotation_clip=False,
            )
        axes.set_xlim(epochs[0] - 0.2, epochs[-1] + 0.2)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
        axes.locator_params(axis="y", nbins=5)
        axes.set_xlabel("epoch")
        axes.set_title(f"{label}, %", loc="left", pad=10)
        axes.grid(axis="y", color=FAINT, linewidth=0.8)
        return svg(figure, name, title)


def _apart(heights: Mapping[str, float], gap: float) -> dict[str, float]:
    """Labels at these heights, pushed upwards until none lies on another."""
    placed: dict[str, float] = {}
    lowest = -math.inf
    for label in sorted(heights, key=lambda label: heights[label]):
        placed[label] = max(heights[label], lowest)
        lowest = placed[label] + gap
    return placed
