"""Timing calls side by side, with what disturbs the clock: page faults, and how far the samples spread."""

from __future__ import annotations

import json
import math
import os
import resource
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from foveate.measure import Conditions, Latency, latency_ratio, measure_latency

Call = Callable[[], object]

# glibc gives memory above a threshold back to the system at every free, and the next call finds every page of it
# missing; these settings keep it. They must be set before the process starts: see __main__.py.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(4 << 30)}
# the share of a median by which half of its samples may differ from each other before a row is called noisy
QUIET = 0.15


def side_by_side(calls: Mapping[str, Call], *, to: str, seconds: float = 0.5, rounds: int = 11) -> dict[str, Any]:
    """Time calls in one interleaved run: medians with quartiles, ratios within rounds, page faults a call.

    Args:
        calls: What to time, by name.
        to: The call that the others are compared with: a ratio above 1 means faster than it.
        seconds: How long one round may take over all calls together; short calls are repeated within a visit.
        rounds: How many samples of each.
    """
    once = {name: _duration(call) for name, call in calls.items()}
    repeats = max(1, min(50, int(seconds / rounds / sum(once.values()))))
    times = measure_latency(calls, rounds=rounds, warmup=2, repeats=repeats)
    rows: dict[str, Any] = {}
    for name, latency in times.items():
        low, high = _quartiles(latency)
        rows[name] = {
            "median_us": _round(latency.median * 1e6),
            "quartiles_us": [_round(low * 1e6), _round(high * 1e6)],
            "speed": _round(1 / latency_ratio(times, name, to=to)),
            "faults": _faults(calls[name]),
            "noisy": (high - low) / latency.median > QUIET,
        }
    return {"to": to, "rounds": rounds, "repeats": repeats, "calls": rows}


def streaming_limit(reads: int, writes: int, like: torch.Tensor) -> Call:
    """A call that moves as many bytes as must move, as fast as PyTorch moves them: copies into memory that is there.

    Args:
        reads: How often an element of the map must be read.
        writes: How often it must be written.
        like: The map. A copy reads once and writes once; what is left of the reads is done by sums.
    """
    source, target = torch.empty_like(like).copy_(like), torch.empty_like(like)

    def move() -> None:
        for _ in range(writes):
            target.copy_(source)
        for _ in range(reads - writes):
            source.sum()

    return move


def geometric_mean(values: Iterable[float]) -> float:
    """The mean of ratios."""
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs))


def write(path: Path, question: str, rows: Sequence[Mapping[str, Any]], **also: Any) -> None:
    """Rows with their conditions, under their final name only when whole."""
    settings = {name: os.environ.get(name, "") for name in ALLOCATOR}
    result = {
        "question": question,
        "rows": list(rows),
        **also,
        "allocator": settings,
        "load_before": _round(os.getloadavg()[0]),
        "conditions": Conditions.here().as_dict(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)


def _duration(call: Call) -> float:
    call()
    return measure_latency({"it": call}, rounds=3, warmup=1)["it"].median


def _faults(call: Call) -> int:
    """Pages that a call found missing, on average over a few."""
    calls = 5
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(calls):
        call()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // calls


def _quartiles(latency: Latency) -> tuple[float, float]:
    low, _, high = statistics.quantiles(latency.samples, n=4)
    return low, high


def _round(value: float) -> float:
    return float(f"{value:.4g}")
