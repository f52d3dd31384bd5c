"""How long runs take, from how long runs of the same arm took."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from foveate.errors import OptionError, check_at_least
from foveate.study.execution.job import Job


def estimate(
    jobs: Sequence[Job], seconds_of: Mapping[str, float], workers: int = 1, under_way: Iterable[float] = ()
) -> float:
    """Seconds until all of these runs are finished, each given to the first who is free, in order.

    Args:
        jobs: The runs that have not begun.
        seconds_of: How long a run of each arm takes; an arm that is not there takes as long as the others on average.
        workers: How many runs are carried out at once.
        under_way: Seconds that runs under way still take.

    Raises:
        OptionError: If nothing is known of how long a run takes, or there are no workers.

    Example:
        >>> jobs = [Job(f"{number:016x}", str(number), arm="ab"[number % 2]) for number in range(4)]
        >>> estimate(jobs, {"a": 10.0, "b": 1.0}), estimate(jobs, {"a": 10.0, "b": 1.0}, workers=2)
        (22.0, 11.0)
    """
    check_at_least("workers", workers, 1)
    if jobs and not seconds_of:
        raise OptionError("nothing is known of how long a run takes: one must be timed first")
    usual = fmean(seconds_of.values()) if seconds_of else 0.0
    rest = sorted(under_way)
    free = rest[-workers:] + [0.0] * (workers - len(rest))  # when each of them is free
    heapq.heapify(free)
    for job in jobs:
        heapq.heappush(free, heapq.heappop(free) + seconds_of.get(job.arm, usual))
    return max(free)


class Pace:
    """How long the runs of each arm took, in this study so far.

    Example:
        >>> pace = Pace()
        >>> pace.took("cbam", 10.0)
        >>> pace.took("cbam", 20.0)
        >>> pace.seconds_of()
        {'cbam': 15.0}
    """

    def __init__(self) -> None:
        self._took: dict[str, list[float]] = {}

    def took(self, arm: str, seconds: float) -> None:
        """One run more."""
        self._took.setdefault(arm, []).append(seconds)

    def seconds_of(self) -> dict[str, float]:
        """The mean of each arm."""
        return {arm: fmean(seconds) for arm, seconds in self._took.items()}

    def left(self, jobs: Sequence[Job], under_way: Iterable[tuple[Job, float]], workers: int) -> float | None:
        """Seconds until all is done; ``None`` before a run is finished.

        Args:
            jobs: The runs that have not begun.
            under_way: The runs under way, and for how many seconds each has been running.
            workers: How many runs are carried out at once.
        """
        seconds = self.seconds_of()
        if not seconds:
            return None
        usual = fmean(seconds.values())
        rest = [max(0.0, seconds.get(job.arm, usual) - age) for job, age in under_way]
        return estimate(jobs, seconds, workers, rest)
