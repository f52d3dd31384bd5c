"""The page of the reference studies, from the files of their results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foveate.study.wording import points
from studies.frozen import STUDIES

HEAD = """<!-- written by `uv run python -m studies`; edit studies/page.py instead -->
# Reference studies

Questions that were frozen in [`studies/frozen.py`](../studies/frozen.py) before their first run, with whatever came
out. What the words mean: [statistics](statistics.md); how arms and controls are made: [comparing](comparing.md). Every
run's numbers are in `studies/results`. `uv run python -m studies NAME --source FOLDER` repeats one.
"""


def write_page(results: Path, target: Path) -> None:
    """Write the page; studies that have not run are not on it."""
    parts = [HEAD]
    for name in STUDIES:
        path = results / f"{name}.json"
        if path.exists():
            parts.append(section(name, json.loads(path.read_text(encoding="utf-8"))))
    target.write_text("\n".join(parts).rstrip() + "\n", encoding="utf-8")


def section(name: str, found: Mapping[str, Any]) -> str:
    """One study."""
    frozen, comparison, study = STUDIES[name], found["comparison"], found["study"]
    metric = comparison["metric"]["name"]
    lines = [
        f"## {name}",
        "",
        f"**{frozen.question}**",
        "",
        f"{comparison['headline']}",
        "",
        f"{study['data']['name']}: {study['data']['train']:,} training, {study['data']['validation']:,} validation, "
        f"{study['data']['test']:,} test samples; {len(study['seeds'])} seeds; {frozen.limits}",
        "",
        f"| arm | {metric} | difference | 95 % interval | verdict | p after Holm | parameters | latency |",
        "|---|---|---|---|---|---|---|---|",
    ]
    base = comparison["rows"][0]
    for row in comparison["rows"]:
        verdict = row["verdict"] or {}
        interval = row["difference_interval"]
        lines.append(
            f"| {row['arm']} | {_percent(row['score'])} | {_points(row['difference'])} | "
            f"{'' if interval is None else f'{_points(interval[0])} to {_points(interval[1])}'} | "
            f"{verdict.get('word', '')} | {'' if not verdict else format(verdict['p_adjusted'], '.2g')} | "
            f"{_parameters(row, base)} | {_times(row['latency_ratio'])} |"
        )
    if comparison["contrasts"]:
        lines += ["", "Beside their controls:", ""]
        lines += [f"- {one['sentence']}" for one in comparison["contrasts"]]
    if comparison["curves"]:
        lines += ["", "With parts of the training samples, mean difference to the baseline:", ""]
        shares = list(comparison["curves"])
        lines += ["| arm | " + " | ".join(f"{float(share):.0%}" for share in shares) + " |"]
        lines += ["|---" * (len(shares) + 1) + "|"]
        for row in comparison["rows"][1:]:
            cells = [
                _with_interval(comparison["curves"][share].get(row["arm"], {}).get("difference")) for share in shares
            ]
            lines.append(f"| {row['arm']} | " + " | ".join(cells) + " |")
    corrupted = comparison["robustness"].get("corruptions")
    if corrupted:
        lines += ["", "On corrupted test samples (foveate-C), mean difference to the baseline:", ""]
        lines += ["| arm | " + " | ".join(corrupted) + " |", "|---" * (len(corrupted) + 1) + "|"]
        for row in comparison["rows"][1:]:
            cells = [_with_interval(table.get(row["arm"], {}).get("difference")) for table in corrupted.values()]
            lines.append(f"| {row['arm']} | " + " | ".join(cells) + " |")
    here = comparison["conditions"]
    lines += ["", f"{here['cpu']}, {here['threads']} threads, torch {here['torch']}.", ""]
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def _points(value: float | None) -> str:
    return "" if value is None else points(value)


def _with_interval(found: Mapping[str, Any] | None) -> str:
    if not found:
        return ""
    interval = found["interval"]
    ends = "" if interval is None else f" ({_points(interval[0])} to {_points(interval[1])})"
    return f"{_points(found['mean'])}{ends}"


def _parameters(row: Mapping[str, Any], base: Mapping[str, Any]) -> str:
    """All of the baseline's, and what the others have more."""
    own, there = row["parameters"], base["parameters"]
    return "" if own is None or there is None else f"{own:,}" if row is base else f"{own - there:+,}"


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}×"
