"""How long a call takes, so that two calls can be compared."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch

from foveate.errors import OptionError, check_at_least, nearest


@dataclass(frozen=True)
class Latency:
    """The durations of one call over several rounds, in seconds.

    Attributes:
        samples: One duration a round, in the order of the rounds.

    Example:
        >>> Latency((0.3, 0.1, 0.2)).median
        0.2
    """

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle duration, in seconds."""
        return statistics.median(self.samples)

    @property
    def p95(self) -> float:
        """The duration, in seconds, that 95 of 100 rounds stay below, interpolated between samples."""
        ordered = sorted(self.samples)
        position = 0.95 * (len(ordered) - 1)
        below = int(position)
        above = min(below + 1, len(ordered) - 1)
        return ordered[below] + (position - below) * (ordered[above] - ordered[below])

    def as_dict(self) -> dict[str, Any]:
        """Median, p95 and samples, ready for JSON."""
        return {"median": self.median, "p95": self.p95, "samples": list(self.samples)}


def measure_latency(
    calls: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 20,
    warmup: int = 3,
    repeats: int = 1,
    device: torch.device | str = "cpu",
) -> dict[str, Latency]:
    """Time several calls side by side.

    Every round visits each call once, and every other round in the reverse order. A machine that slows down or
    is shared then slows all of them, and the samples of one round can be compared: see :func:`latency_ratio`.

    Args:
        calls: What to time, by name. Evaluation mode and gradients are the caller's choice
            (:func:`~foveate.measure.inference` sets both).
        rounds: How many samples of each.
        warmup: How many rounds to run before the clock counts.
        repeats: How often a visit runs its call; the sample is the median. One call of one sort between calls of
            another finds the caches as those left them, which matters where a call takes microseconds.
        device: Where the calls run; a CUDA device is synchronised before and after each.

    Raises:
        OptionError: If there is nothing to time, or the numbers of rounds cannot work.

    Example:
        >>> times = measure_latency({"sum": lambda: sum(range(100)), "nothing": lambda: None}, rounds=5)
        >>> len(times["sum"].samples), times["sum"].p95 >= times["sum"].median
        (5, True)
    """
    if not calls:
        raise OptionError("there is nothing to time: give at least one call by name")
    check_at_least("rounds", rounds, 1)
    check_at_least("warmup", warmup, 0)
    check_at_least("repeats", repeats, 1)
    place = torch.device(device)

    def settle() -> None:
        if place.type == "cuda":
            torch.cuda.synchronize(place)

    samples: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    collecting = gc.isenabled()
    try:
        gc.collect()
        gc.disable()  # a collection would fall on whichever call happens to run
        for number in range(warmup + rounds):
            for name in order if number % 2 == 0 else reversed(order):
                durations: list[float] = []
                for _ in range(repeats):
                    settle()
                    start = perf_counter()
                    calls[name]()
                    settle()
                    durations.append(perf_counter() - start)
                if number >= warmup:
                    samples[name].append(statistics.median(durations))
    finally:
        if collecting:
            gc.enable()
    return {name: Latency(tuple(durations)) for name, durations in samples.items()}


def latency_ratio(latencies: Mapping[str, Latency], name: str, *, to: str) -> float:
    """How many times as long one call takes as another: the median of the ratios within each round.

    Args:
        latencies: What :func:`measure_latency` returned.
        name: The call in the numerator.
        to: The call in the denominator, the baseline.

    Raises:
        OptionError: If a name is not among the latencies, or the two were not measured in the same rounds.

    Example:
        >>> latency_ratio({"a": Latency((2.0, 4.0)), "b": Latency((1.0, 2.0))}, "a", to="b")
        2.0
    """
    for wanted in (name, to):
        if wanted not in latencies:
            raise OptionError(f"no latency was measured for '{wanted}'; {nearest(wanted, latencies)}")
    over, under = latencies[name].samples, latencies[to].samples
    if len(over) != len(under):
        raise OptionError(
            f"'{name}' has {len(over)} samples and '{to}' has {len(under)}: ratios need the same rounds, "
            "so time both in one call of measure_latency"
        )
    return statistics.median(a / b for a, b in zip(over, under, strict=True))
