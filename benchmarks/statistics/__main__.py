"""Simulate studies whose truth is known, and write what the statistics say of them.

    uv run python -m benchmarks.statistics [QUESTION ...] [--studies 2000]

Results go to `benchmarks/results/statistics.json`, question by question, and what they say to `docs/statistics.md`. All
of it takes about twenty minutes of one processor.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.statistics.page import page
from foveate.measure import Conditions

QUESTIONS = ("level", "strength", "coverage", "sequence", "order")
RESULTS = Path(__file__).parents[1] / "results" / "statistics.json"
PAGE = Path(__file__).parents[2] / "docs" / "statistics.md"


def main() -> None:
    """Ask the questions, one after the other, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions", nargs="*", choices=[*QUESTIONS, "page", []], help="; by default all")
    parser.add_argument("--studies", type=int, default=2_000)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    for question in arguments.questions or QUESTIONS:
        if question == "page":
            continue
        module = importlib.import_module(f"benchmarks.statistics.{question}")
        started = time.perf_counter()
        rows = []
        for row in module.rows(arguments.studies):
            rows.append(row)
            print(question, *(f"{key} {value}" for key, value in row.items()), flush=True)
        store(arguments.out, question, module.__doc__, rows, time.perf_counter() - started)
    found = json.loads(arguments.out.read_text(encoding="utf-8"))
    if any(question not in found for question in QUESTIONS):
        return  # the page tells of all
    written = PAGE if arguments.out == RESULTS else arguments.out.with_suffix(".md")
    written.write_text(page(found), encoding="utf-8")


def store(path: Path, question: str, asked: str, rows: list[dict[str, Any]], seconds: float) -> None:
    """One question's rows with their conditions, beside what others came to; whole or not at all."""
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    known[question] = {
        "question": asked,
        "seconds": round(seconds),
        "scipy": metadata.version("scipy"),
        "conditions": Conditions.here().as_dict(),
        "rows": [{key: rounded(value) for key, value in row.items()} for row in rows],
    }
    known = {name: known[name] for name in QUESTIONS if name in known}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    lines = json.dumps(known, indent=1, ensure_ascii=False)
    temporary.write_text(lines + "\n", encoding="utf-8")
    temporary.replace(path)


def rounded(value: Any) -> Any:
    """Six digits, which is more than the simulations know."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
