"""Ask one question, or all of them, each in a process of its own.

    uv run python -m benchmarks.speed [QUESTION ...] [--compiled] [--dtype bfloat16] [--only NAMES]
                                      [--default-allocator]

Results go to `benchmarks/results/speed/`, and what they say to `docs/speed.md`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed.page import write_page
from benchmarks.speed.timing import ALLOCATOR, write

QUESTIONS = ("gates", "pairs", "epilogue", "networks", "prediction")
RESULTS = Path(__file__).parents[1] / "results" / "speed"
PAGE = Path(__file__).parents[2] / "docs" / "speed.md"


def main() -> None:
    """Start a process for each question, with the allocator's settings; or be that process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions", nargs="*", choices=[*QUESTIONS, []], help=", ".join(QUESTIONS))
    parser.add_argument("--compiled", action="store_true", help="time compiled modules too")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"], help="of gates")
    parser.add_argument("--default-allocator", action="store_true", help="leave the allocator as the system has it")
    parser.add_argument("--only", default="", help="some of the works, joined by commas")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        ask(arguments)
        return
    environment = dict(os.environ) if arguments.default_allocator else {**os.environ, **ALLOCATOR}
    for question in arguments.questions or QUESTIONS:
        command = [sys.executable, "-m", "benchmarks.speed", question, "--here", *sys.argv[1:]]
        command = [part for part in command if part not in QUESTIONS or part == question]
        subprocess.run(list(dict.fromkeys(command)), env=environment, check=True)  # noqa: S603 (ourselves)
    write_page(arguments.out, PAGE if arguments.out == RESULTS else arguments.out / "speed.md")


def ask(arguments: argparse.Namespace) -> None:
    """One question, in this process."""
    (question,) = arguments.questions
    module = importlib.import_module(f"benchmarks.speed.{question}")
    options: dict[str, Any] = {"names": tuple(arguments.only.split(","))} if arguments.only else {}
    name = question
    if arguments.dtype != "float32":
        options["dtype"], name = getattr(torch, arguments.dtype), f"{question}_{arguments.dtype}"
    name += "_compiled" if arguments.compiled else ""
    found = []
    for row in module.rows(compiled=arguments.compiled, **options):
        found.append(row)
        speeds = "  ".join(
            f"{name} {call['median_us']:.0f} µs ×{call['speed']:.2f}{' noisy' if call['noisy'] else ''}"
            for name, call in row["calls"].items()
        )
        print(row["work"], row["phase"], "×".join(map(str, row["shape"])), row.get("layout", ""), speeds, flush=True)
    write(arguments.out / f"{name}.json", module.__doc__.splitlines()[0], found)


if __name__ == "__main__":
    main()
