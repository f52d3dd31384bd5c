"""Carrying runs out: finished ones are kept, lost ones come again, and this process alone writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from foveate.errors import OptionError, check_at_least, check_choice
from foveate.study.counting import counted
from foveate.study.execution.course import Course, UnfinishedError
from foveate.study.execution.crew import crew_at, place_of
from foveate.study.execution.job import Job
from foveate.study.folder import Folder
from foveate.study.progress import Reporter

AGAIN = 2


@dataclass(frozen=True)
class Carried:
    """What was carried out.

    Attributes:
        records: All runs, in the order of the jobs.
        notes: What was cut off, lost or set aside, in sentences.
    """

    records: list[dict[str, Any]]
    notes: list[str]


def carry_out(
    jobs: Sequence[Job],
    folder: Folder,
    *,
    work: str,
    reporter: Reporter,
    on: str = "here",
    processes: int | None = None,
    threads: int | None = None,
    gpus: float = 0,
    again: int = AGAIN,
    on_failure: str = "go on",
) -> Carried:
    """Carry out whatever is not finished yet.

    Args:
        jobs: The runs, in the order in which they begin.
        folder: Where results go; this process must have it alone (:meth:`Folder.alone`), and nobody else writes to it.
        work: What carries a run out: a :class:`~foveate.study.execution.job.Work`, as ``module:function``.
        reporter: Who wants to know.
        on: ``"here"``, ``"3 processes"``, ``"ray"`` or ``"ray://host:10001"``.
        processes: The same as so many processes in ``on``.
        threads: Of each run. By default what PyTorch takes here, a fair share of the cores for each of several
            processes, and one on a cluster.
        gpus: Of each run, on a cluster.
        again: How often a run that was lost with its process or machine begins again.
        on_failure: ``"go on"`` with the other runs where one cannot be done, or ``"stop"`` at the first.

    Raises:
        OptionError: If something that was asked for does not exist, or two jobs have one key.
        UnfinishedError: If runs failed; what is finished is kept, and the next call tries the others again.
        FoveateError: If a result cannot be written, or a machine cannot be used.
        KeyboardInterrupt: If a person interrupts it, with a sentence that says how to go on.
    """
    place = place_of(on, processes)
    check_choice("on_failure", on_failure, ("go on", "stop"))
    check_at_least("again", again, 0)
    if threads is not None:
        check_at_least("threads", threads, 1)
    twice = [key for key, count in Counter(job.key for job in jobs).items() if count > 1]
    if twice:
        raise OptionError(f"run {twice[0]} is asked for twice: once is enough")
    for key in folder.under_way():
        folder.interrupt(key)
    course = Course(folder, reporter, again, on_failure == "stop")
    for job in jobs:
        course.take(job)
    reporter.begin(len(jobs), len(course.finished))
    try:
        if course.waiting:
            with crew_at(place, work, threads, gpus) as crew:
                course.follow(crew)
    except KeyboardInterrupt:
        course.cut_off()
        done = sum(folder.finished(job.key, maps=job.maps)[0] is not None for job in jobs)
        raise KeyboardInterrupt(
            f"interrupted: {done} of {counted(len(jobs), 'run')} are finished and kept in '{folder.path}'; the same "
            "command goes on from there"
        ) from None
    except BaseException:
        course.cut_off()
        raise
    if course.failed:
        raise UnfinishedError(_sentence(jobs, course, folder), course.finished, course.failed)
    return Carried([course.finished[job.key] for job in jobs], folder.interruptions(j.key for j in jobs) + course.aside)


def _sentence(jobs: Sequence[Job], course: Course, folder: Folder) -> str:
    failed = list(course.failed.values())
    shown = "; ".join(failed[:3]) + (f"; and {len(failed) - 3} more, told in 'failed/'" if len(failed) > 3 else "")
    others = f"{course.kept()} in '{folder.path}'"
    return (
        f"{len(failed)} of {counted(len(jobs), 'run')} could not be finished: {shown}; {others}, and the same command "
        "tries again what failed and repeats nothing else"
    )
