"""The comparison as a table for a terminal."""

from __future__ import annotations

from rich.table import Table

from foveate.study.rows import Comparison, Row
from foveate.study.wording import metric_name, short_count


def table(comparison: Comparison) -> Table:
    """Verdict, difference to the baseline, score and cost of each arm, narrow enough for 80 columns.

    Scores are in percent and differences in percentage points with the ends of their 95 % intervals; controls and
    larger networks follow the mechanisms, apart.

    Example:
        >>> from pathlib import Path
        >>> row = Row("baseline", "baseline", None, "baseline", None, 0.1, (0,), (0.8,), 0.8, None, None, None, None,
        ...           None, None, None, 75002, 9145216, 0.5, 1.0, (1.0, 1.0), 60.0)
        >>> comparison = Comparison("", {"name": "accuracy", "better": "max"}, (row,), (), {}, {}, {}, {}, (), {}, {},
        ...                         (), (), {}, {}, False, Path("out"), Path("out/report.html"))
        >>> table(comparison).row_count
        1
    """
    first = comparison.rows[0]
    drawn = Table(
        box=None,
        pad_edge=False,
        padding=(0, 1),
        collapse_padding=True,
        caption_justify="left",
        caption=_caption(comparison),
    )
    drawn.add_column("", overflow="fold")
    drawn.add_column("verdict", overflow="fold")
    for title in ("difference", "score %", "parameters", "MACs", "latency"):
        drawn.add_column(title, justify="right", overflow="fold")
    judged = [row for row in comparison.rows if row.role in ("baseline", "attention")]
    apart = [row for row in comparison.rows if row.role not in ("baseline", "attention")]
    for row in judged:
        drawn.add_row(*_cells(row, first), end_section=bool(apart) and row is judged[-1])
    for row in apart:
        drawn.add_row(*_cells(row, first))
    return drawn


def _caption(comparison: Comparison) -> str:
    counts = {len(row.seeds) for row in comparison.rows}
    score = f"score: test {metric_name(comparison.metric['name'])}; differences in points"
    if counts == {1}:
        return f"{score}; one seed: no intervals"
    over = f"{counts.pop()} seeds" if len(counts) == 1 else "the seeds of each arm"
    return f"{score}, paired by seed, 95 % intervals over {over}"


def _cells(row: Row, baseline: Row) -> list[str]:
    word = row.verdict["word"] if row.verdict else "" if row.role in ("baseline", "attention") else row.role
    return [
        row.arm,
        word,
        "" if row.difference is None else _with_ends(row.difference, row.difference_interval),
        f"{100 * row.score:.1f}",
        *_cost(row, baseline),
    ]


def _cost(row: Row, baseline: Row) -> list[str]:
    parameters, macs, latency = "", "", ""
    own = row is not baseline
    if row.parameters is not None:
        added = own and baseline.parameters is not None
        parameters = f"{row.parameters - (baseline.parameters or 0):+,}" if added else f"{row.parameters:,}"
    if row.macs is not None:
        macs = f"{row.macs / baseline.macs - 1:+.1%}" if own and baseline.macs else short_count(row.macs)
    if own and row.latency_ratio is not None:
        latency = f"×{row.latency_ratio:.2f}"
    elif row.latency_ms is not None:
        latency = f"{row.latency_ms:.2f} ms"
    return [parameters, macs, latency]


def _with_ends(mean: float, interval: tuple[float, float] | None) -> str:
    ends = "" if interval is None else f" [{_points(interval[0])}, {_points(interval[1])}]"
    return f"{_points(mean)}{ends}"


def _points(difference: float) -> str:
    return f"{round(100 * difference, 1) + 0.0:+.1f}"
