"""The comparison as a table for a terminal."""

from __future__ import annotations

from rich.table import Table

from foveate.study.rows import Comparison, Row


def table(comparison: Comparison) -> Table:
    """Accuracy, difference to the baseline and cost of each arm, narrow enough for 80 columns.

    Accuracies are in percent and differences in percentage points, each with half the width of its 95 % interval.

    Example:
        >>> from pathlib import Path
        >>> row = Row("baseline", "baseline", None, (0,), (0.8,), 0.8, None, None, None, None, 75002, 9e6, 0.5, 1, 60)
        >>> table(Comparison((row,), (), (), {}, False, Path("out"), Path("out/report.html"))).row_count
        1
    """
    first = comparison.rows[0]
    count = len(first.seeds)
    drawn = Table(
        box=None, pad_edge=False, padding=(0, 1), collapse_padding=True, caption_justify="left", caption=_caption(count)
    )
    for title in ("", "kind"):
        drawn.add_column(title, overflow="fold")
    for title in ("accuracy %", "difference", "parameters", "MACs", "latency"):
        drawn.add_column(title, justify="right", no_wrap=True)
    for row in comparison.rows:
        drawn.add_row(*_cells(row, first))
    return drawn


def _caption(count: int) -> str:
    if count == 1:
        return "one seed: no intervals; differences in points"
    return f"± 95 % t-interval over {count} seeds; differences in points, paired by seed"


def _cells(row: Row, baseline: Row) -> list[str]:
    if row is baseline:
        cost = [f"{row.parameters:,}", _short(row.macs), f"{row.latency_ms:.2f} ms"]
    else:
        cost = [
            f"{row.parameters - baseline.parameters:+,}",
            f"{row.macs / baseline.macs - 1:+.1%}",
            f"×{row.latency_ratio:.2f}",
        ]
    return [
        row.arm,
        row.kind or "",
        _estimate(row.accuracy, row.accuracy_interval, "{:.1f}"),
        "" if row.difference is None else _estimate(row.difference, row.difference_interval, "{:+.1f}"),
        *cost,
    ]


def _estimate(mean: float, interval: tuple[float, float] | None, form: str) -> str:
    text = form.format(100 * mean)
    if interval is None:
        return text
    return f"{text} ± {50 * (interval[1] - interval[0]):.1f}"


def _short(count: int) -> str:
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.3g} {letter}"
    return str(count)
