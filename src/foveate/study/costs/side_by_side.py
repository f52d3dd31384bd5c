"""Arms timed in turn, each beside the baseline, and the baseline beside itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

import torch

from foveate.measure import Latency, measure_latency
from foveate.study.costs.attempt import attempt
from foveate.study.costs.ratios import FEWEST, NOISE, noise, ratio

# A call finds its weights in the caches if its like ran just before. Filling 32 MiB from memory takes about 3 ms:
# below 100 ms that is more than 3 %, so a visit repeats its call, and for 10 ms if that takes no more than 15; its
# sample is the median, a call that found them.
_SHORT, _VISIT, _LEAST, _MOST = 0.1, 0.01, 3, 15

Row = dict[str, Any]


def side_by_side(
    calls: Mapping[str, Callable[[], object]],
    *,
    baseline: str,
    rounds: int,
    seconds: float,
    device: torch.device,
) -> tuple[dict[str, Row], dict[str, Any]]:
    """Time calls in turn, with the ratio of each to the baseline within rounds.

    The baseline runs twice a round. Were nothing else running, the two would not differ; by how much they do is the
    noise of the run.

    Args:
        calls: By the arm's name.
        baseline: Whose duration is 1.
        rounds: How many rounds at most.
        seconds: How long all of it may take, about; it is never fewer than six rounds.
        device: Where the calls run.

    Returns:
        A row for each call: ``"median_ms"`` of the visits, ``"p95_ms"`` of the single calls, ``"ratio"``,
        ``"interval"``, ``"noisy"`` and ``"reason"`` (why a number is missing); and of the run its ``"rounds"``, its
        ``"noise"`` as a share and whether it is ``"noisy"``: more than 5 %. The interval is of this run: another day
        may differ by more.

    Example:
        >>> rows, run = side_by_side(
        ...     {"one": lambda: sum(range(10**4)), "two": lambda: sum(range(2 * 10**4))},
        ...     baseline="one", rounds=8, seconds=1.0, device=torch.device("cpu"),
        ... )
        >>> sorted(rows), rows["one"]["ratio"], run["rounds"]
        (['one', 'two'], 1.0, 8)
    """
    trials = {name: attempt(lambda call=call: _trial(call, device)) for name, call in calls.items()}
    works: dict[str, Callable[[], object]] = {name: calls[name] for name, (_, why) in trials.items() if why is None}
    rows: dict[str, Row] = {name: no_time(why) for name, (_, why) in trials.items() if why is not None}
    run: dict[str, Any] = {"rounds": 0, "noise": None, "noisy": None}
    if works:
        again = f"{baseline} again"
        while again in works:
            again += "'"
        timed = {name: _Watched(call, device) for name, call in works.items()}
        if baseline in works:
            timed[again] = _Watched(works[baseline], device)
        taken = {name: seconds_of for name, (seconds_of, _) in trials.items() if seconds_of is not None}
        repeats = _repeats(max(taken.values()))
        lasting = repeats * (sum(taken.values()) + taken.get(baseline, 0.0))
        run["rounds"] = min(rounds, max(FEWEST, int(seconds / lasting)))
        found, reason = attempt(
            lambda: measure_latency(timed, rounds=run["rounds"], warmup=2, repeats=repeats, device=device)
        )
        if found is None:
            return rows | {name: no_time(reason) for name in works}, {**run, "rounds": 0}
        if baseline in works:
            itself = noise(ratio(found[again].samples, found[baseline].samples))
            run |= {"noise": itself if math.isfinite(itself) else None, "noisy": itself > NOISE}
        for name in works:
            latency = found[name]
            p95 = timed[name].warm(run["rounds"], repeats).p95
            row = _row(median_ms=latency.median * 1e3, p95_ms=p95 * 1e3, noisy=run["noisy"])
            if baseline not in works:
                row["reason"] = f"no ratio: the baseline '{baseline}' could not be run ({trials[baseline][1]})"
            else:
                row |= ratio(latency.samples, found[baseline].samples)
                if row["interval"] is None:
                    row["reason"] = f"no interval: it needs {FEWEST} rounds, and there were {run['rounds']}"
            rows[name] = row
    return {name: rows[name] for name in calls}, run


def no_time(why: str | None) -> Row:
    """The row of a call that could not be timed."""
    return _row(reason=why)


def _row(**known: Any) -> Row:
    return dict.fromkeys(("median_ms", "p95_ms", "ratio", "interval", "noisy", "reason")) | known


def _repeats(slowest: float) -> int:
    return 1 if slowest >= _SHORT else min(_MOST, max(_LEAST, math.ceil(_VISIT / slowest)))


class _Watched:
    """A call that remembers how long it took each time."""

    def __init__(self, call: Callable[[], object], device: torch.device) -> None:
        self.call, self.device = call, device
        self.taken: list[float] = []

    def __call__(self) -> None:
        start = perf_counter()
        self.call()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.taken.append(perf_counter() - start)

    def warm(self, rounds: int, repeats: int) -> Latency:
        """All calls of the last rounds but the first of each visit, whose caches are as another call left them."""
        calls = self.taken[-rounds * repeats :]
        return Latency(tuple(one for number, one in enumerate(calls) if repeats == 1 or number % repeats))


def _trial(call: Callable[[], object], device: torch.device) -> float:
    """The seconds of a second call; the first may compile, load or allocate."""
    watched = _Watched(call, device)
    watched()
    watched()
    return watched.taken[-1]
