"""Who carries runs out: this process, several of this machine, or a cluster."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from foveate.errors import OptionError, check_at_least
from foveate.study.execution.job import Job, Word
from foveate.study.execution.where import usable_cores

Hear = Callable[[Word], None]
Next = Callable[[], Job | None]


class Crew(Protocol):
    """Whoever carries runs out. Leaving its ``with`` ends whatever is under way."""

    def size(self) -> int:
        """How many runs it carries out at once."""
        ...

    def work_off(self, next_job: Next, hear: Hear) -> None:
        """Carry runs out until there are no more.

        A run that was lost is said to be, by a word; whether it comes again is up to ``next_job``.

        Args:
            next_job: The next run; ``None`` if there is none for now. It is asked again after every last word.
            hear: Is given every word, in the calling thread. What it raises ends the work.
        """
        ...


@dataclass(frozen=True)
class Place:
    """Where runs are carried out.

    Attributes:
        kind: ``"here"``, ``"processes"`` or ``"ray"``.
        processes: How many of them.
        address: Of the cluster; ``None`` for one that is found, or else started.
    """

    kind: str
    processes: int = 1
    address: str | None = None


def place_of(on: str, processes: int | None = None) -> Place:
    """Where runs are carried out, from what a person writes.

    Args:
        on: ``"here"``, ``"3 processes"``, ``"ray"`` or ``"ray://host:10001"``.
        processes: The same as so many processes in ``on``.

    Raises:
        OptionError: If it is none of these.

    Example:
        >>> place_of("3 processes") == place_of("here", processes=3)
        True
        >>> place_of("ray://head:10001").address
        'ray://head:10001'
    """
    text = on.strip()
    several = re.fullmatch(r"([0-9]{1,6}) process(?:es)?", text)
    if processes is not None:
        check_at_least("processes", processes, 1)
        if text != "here":
            raise OptionError(f"processes are of this machine: say '{processes} processes' or '{on}', not both")
    if several or processes is not None:
        count = int(several[1]) if several else processes or 1
        check_at_least("the number of processes", count, 1)
        return Place("processes", count)
    if text == "here":
        return Place("here")
    if text == "ray" or re.fullmatch(r"ray://[^/\s]+:[0-9]+", text):
        return Place("ray", address=None if text == "ray" else text)
    raise OptionError(f"'{on}' is no place for runs: write 'here', '3 processes', 'ray' or 'ray://host:10001'")


def crew_at(place: Place, work: str, threads: int | None, gpus: float) -> AbstractContextManager[Crew]:
    """Whoever carries runs out there.

    Args:
        place: Where.
        work: The function, as ``module:function``.
        threads: Of each run. By default what PyTorch takes here, a fair share of the cores for each of several
            processes, and one on a cluster, which then carries out as many runs as it has cores.
        gpus: Of each run, on a cluster.
    """
    if place.kind == "here":
        from foveate.study.execution.sequential import Sequential

        return Sequential(work, threads)
    if place.kind == "processes":
        from foveate.study.execution.processes import Processes

        return Processes(work, place.processes, threads or max(1, usable_cores() // place.processes))
    from foveate.study.execution.cluster import Cluster

    return Cluster(work, place.address, threads or 1, gpus)
