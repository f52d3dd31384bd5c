"""A comparison as Markdown, for a person who reads text, and as CSV, for a program."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from foveate.study.command import command
from foveate.study.grids import Cell, Grid
from foveate.study.wording import metric_name

TITLES = {
    "table": "The table",
    "controls": "Mechanisms beside their controls",
    "cost": "What it costs",
    "fractions": "With fewer training samples",
    "tuned": "Learning rates",
    "corruptions": "On corrupted samples",
    "single": "Each corruption",
    "shifted": "On other samples",
    "calibration": "Calibration",
    "focus": "Focus",
}
COLUMNS = (
    "arm", "role", "against", "title", "kind", "rate", "seeds", "scores", "score", "score_interval", "differences",
    "difference", "difference_interval", "gap", "parameters", "macs", "latency_ms", "latency_ratio", "latency_interval",
    "seconds",
)  # fmt: skip
VERDICT = ("word", "p", "p_adjusted", "effect", "wins", "ties", "fewest", "detectable", "detectable_with", "method")


def markdown(study: Mapping[str, Any], comparison: Mapping[str, Any], tables: Mapping[str, Sequence[Grid]]) -> str:
    """The report as Markdown, without its drawings.

    Args:
        study: As ``study.json`` has it.
        comparison: As ``comparison.json`` has it.
        tables: By section.
    """
    shared, data = study["shared"], study["data"]
    seeds = ", ".join(map(str, study["seeds"]))
    lines = [
        f"# Does attention help {plain(shared['host'])} on {plain(data['name'])}, and what does it cost?",
        "",
        f"**{plain(comparison['headline'])}**",
        "",
        *(f"> {plain(note)}\n>" for note in comparison["notes"]),
        "",
        "## How it was compared",
        "",
        f"- Metric: {metric_name(comparison['metric']['name'])}; seeds {seeds}; alpha {study['alpha']:g}.",
        f"- Samples: {data['train']:,} to train, {data['validation']:,} to validate, {data['test']:,} to test.",
        f"- Arms: {', '.join(plain(arm['name']) for arm in study['arms'])}.",
        *(f"- {plain(rule)}" for rule in study["rules"]),
    ]
    for name, grids in tables.items():
        if grids:
            lines += ["", f"## {TITLES[name]}", ""]
            for grid in grids:
                lines += _table(grid)
    for title, sentences in (
        ("Verdicts in words", [row["sentence"] for row in comparison["rows"] if row["sentence"]]),
        ("Left out", [f"{arm}: {why}" for arm, why in comparison["failed"].items()]),
        ("Runs that were cut off", comparison["interrupted"]),
    ):
        if sentences:
            lines += ["", f"## {title}", "", *(f"- {plain(sentence)}" for sentence in sentences)]
    lines += ["", "## Repeat it", "", *(f"    {line}" for line in command(study).splitlines()), ""]
    return "\n".join(lines)


def rows_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows of a comparison as CSV, what is several numbers with spaces between them.

    Example:
        >>> row = dict.fromkeys(COLUMNS) | {"arm": "eca", "seeds": [0, 1], "verdict": None}
        >>> rows_csv([row]).splitlines()[1].rstrip(",")
        'eca,,,,,,0 1'
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*COLUMNS, *(f"verdict_{name}" for name in VERDICT)])
    for row in rows:
        verdict = row["verdict"] or {}
        table.writerow([_value(row[name]) for name in COLUMNS] + [_value(verdict.get(name)) for name in VERDICT])
    return text.getvalue()


def plain(text: object) -> str:
    """Text that Markdown takes for nothing but text.

    Example:
        >>> plain("a & <i>")
        'a &amp; &lt;i&gt;'
    """
    one_line = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#])", r"\\\1", one_line)


def _table(grid: Grid) -> list[str]:
    lines = [plain(grid.caption), ""]
    if grid.columns:
        lines.append("| " + " | ".join(map(plain, (grid.first, *grid.columns))) + " |")
        lines.append("|---" * (len(grid.columns) + 1) + "|")
        lines += ["| " + " | ".join((plain(name), *map(_cell, cells))) + " |" for name, cells in grid.rows]
        lines.append("")
    return [*lines, *(f"- {plain(note)}" for note in grid.notes), *([""] if grid.notes else [])]


def _cell(cell: Cell) -> str:
    return plain(f"{cell.main} ({cell.small})" if cell.small else cell.main)


def _value(value: Any) -> Any:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else value
