"""Child processes that examine networks: one that hangs, crashes or eats the memory costs one result, not the sweep."""

from __future__ import annotations

import multiprocessing
import resource
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from .networks import Network, networks
from .one import examine

Report = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """What a child is asked for: a network, and how to examine it (:func:`benchmarks.coverage.one.examine`)."""

    name: str
    thorough: bool = False
    hybrids: bool = False
    without: tuple[str, ...] = ()


_FRESH_AFTER = 40  # networks, after which a worker is replaced: compilers keep what they saw
_BYTES = 14 * 2**30


class _Worker:
    """A child process and what it is doing."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.here, there = context.Pipe()
        self.process = context.Process(target=_serve, args=(there,), daemon=True)
        self.process.start()
        there.close()
        self.done = 0
        self.job: Job | None = None
        self.since = 0.0
        self.so_far: Report = {}

    def begin(self, job: Job) -> None:
        """Send it a job."""
        self.job, self.since, self.so_far = job, time.monotonic(), {}
        self.here.send(job)

    def stop(self) -> None:
        """End the process."""
        self.here.close()  # which an idle child takes for the end
        self.process.join(1 if self.job else 5)
        self.process.kill()
        self.process.join()


def run(jobs: Iterable[Job], *, processes: int, seconds: float, finished: Callable[[Job, Report, float], None]) -> None:
    """Examine networks in child processes.

    Args:
        jobs: What to do, in this order.
        processes: How many children work at once.
        seconds: How long one network may take.
        finished: Called with each job, its report and the seconds that passed.
    """
    waiting = deque(jobs)
    workers: list[_Worker] = []
    try:
        while waiting or any(worker.job for worker in workers):
            while waiting and len(workers) < processes:
                workers.append(_Worker())
            for worker in workers:
                if worker.job is None and waiting:
                    worker.begin(waiting.popleft())
            wait([worker.here for worker in workers], timeout=1.0)
            for worker in list(workers):
                if worker.job is not None and not _listen(worker, seconds, finished):
                    worker.stop()
                    workers.remove(worker)
    finally:
        for worker in workers:
            worker.stop()


def _listen(worker: _Worker, seconds: float, finished: Callable[[Job, Report, float], None]) -> bool:
    """Take what a worker says; False if it is to be replaced."""
    job, took = worker.job, time.monotonic() - worker.since
    assert job is not None
    fault = ""
    try:
        while worker.here.poll():
            final, worker.so_far = worker.here.recv()
            if final:
                worker.job = None
                worker.done += 1
                finished(job, worker.so_far, took)
                return worker.done < _FRESH_AFTER
    except (EOFError, OSError):
        worker.process.join(5)
        fault = f"the process ended with code {worker.process.exitcode}"
    if took > seconds:
        fault = f"not done in {seconds:.0f} seconds"
    if not fault:
        return True
    doing = worker.so_far.pop("doing", "preparing it")
    finished(
        job, {"name": job.name, "family": "", "bonus": False, **worker.so_far, "error": f"{fault}, at {doing}"}, took
    )
    return False


def _serve(pipe: Connection) -> None:
    """What a child does: examine one network after another."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # the libraries', about themselves; foveate's are recorded
    resource.setrlimit(resource.RLIMIT_AS, (_BYTES, resource.RLIM_INFINITY))
    known: dict[str, Network] = {}
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        if job.name not in known:
            known |= {network.name: network for network in networks(job.name.partition("/")[0])}
        pipe.send((True, _report(known[job.name], job, pipe)))


def _report(network: Network, job: Job, pipe: Connection) -> Report:
    how = {"thorough": job.thorough, "hybrids": job.hybrids, "without": job.without}
    try:
        return examine(network, **how, tell=lambda so_far: pipe.send((False, so_far)))
    except Exception as error:
        fault = f"{type(error).__name__}: {error}"[:400]
        return {"name": network.name, "family": network.family, "bonus": network.bonus, "error": fault}
