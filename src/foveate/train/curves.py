"""The curves of a training as a picture: what was learned, and where validation parted from it."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence

from foveate.errors import MissingExtraError

TRAINING, VALIDATION = "#0072B2", "#D55E00"  # Okabe and Ito's blue and vermilion


def picture(history: Sequence[Mapping[str, float]], watched: str, best: int) -> bytes:
    """The loss and the watched metric of every epoch, as a PNG.

    Args:
        history: A row an epoch, as :attr:`foveate.train.task.Task.history`.
        watched: The metric that chose the weights.
        best: The epoch that was chosen; a line marks it.

    Raises:
        MissingExtraError: If matplotlib is not installed.

    Example:
        >>> rows = [{"epoch": 1, "train_loss": 1.0, "validation_accuracy": 0.5}]
        >>> picture(rows, "accuracy", 1)[1:4]
        b'PNG'
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError as error:
        raise MissingExtraError("matplotlib", "train") from error
    figure = Figure(figsize=(9, 3.4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, name in zip(figure.subplots(1, 2), ("loss", watched), strict=True):
        for split, colour, style in (("train", TRAINING, "-"), ("validation", VALIDATION, "--")):
            points = [(row["epoch"], row[f"{split}_{name}"]) for row in history if f"{split}_{name}" in row]
            points = [point for point in points if math.isfinite(point[1])]
            if points:
                axes.plot(*zip(*points, strict=True), style, color=colour, marker=".", label=split)
        axes.axvline(best, color="0.7", linewidth=1, zorder=0)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title(name.replace("_", " "), loc="left", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=9)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()
