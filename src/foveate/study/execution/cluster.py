"""A Ray cluster: every run is a task, and whatever becomes of a machine, its runs come back as lost."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout, suppress
from dataclasses import asdict
from types import TracebackType
from typing import Any

from foveate.errors import FoveateError, MissingExtraError, OptionError
from foveate.study.execution.crew import Hear, Next
from foveate.study.execution.job import Job, Word, work_named
from foveate.study.execution.where import Versions, usable_cores

LISTEN = 0.5  # seconds between two looks at what runs say
LONG = 120.0  # seconds for a machine to say which versions it has
STORE = 128 * 2**20  # bytes of shared memory of a cluster of this machine: results pass through it, and are small


class Cluster:
    """A cluster: the one at an address, one that is found (``RAY_ADDRESS``, this machine), or one started here.

    Runs need no shared folder: results come back to this process, which alone writes.

    Args:
        work: The function, as ``module:function``.
        address: As ``ray://host:10001``; ``None`` looks for one.
        threads: Processors of each run.
        gpus: GPUs of each run.
    """

    def __init__(self, work: str, address: str | None, threads: int, gpus: float) -> None:
        work_named(work)
        try:
            import ray
        except ImportError as error:
            raise MissingExtraError("ray", "ray") from error
        self._ray: Any = ray
        self._order: dict[str, Any] = {"work": work, "threads": threads, "versions": asdict(Versions.here())}
        self._address, self._threads, self._gpus = address, threads, gpus
        self._own = False
        self._under_way: dict[Any, Job] = {}
        self._asked: Any = None

    def __enter__(self) -> Cluster:
        self._own = not self._ray.is_initialized()
        self._told = redirect_stdout(sys.stderr)  # Ray tells of lost processes on standard output, where results go
        self._told.__enter__()
        try:
            if self._own:
                self._connect()
            self._check()
            board = self._ray.remote(Board)
            self._board = board.options(num_cpus=0, max_restarts=-1).remote()
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for ref in self._under_way:
            with suppress(Exception):  # the cluster may be gone
                self._ray.cancel(ref, force=True)
        self._under_way.clear()
        with suppress(Exception):
            self._ray.kill(self._board)
        self._leave()

    def size(self) -> int:
        """As many runs at once as it has processors, or GPUs, for."""
        there = self._ray.cluster_resources()
        sizes = [there.get("CPU", 0) // self._threads]
        if self._gpus:
            sizes.append(there.get("GPU", 0) // self._gpus)
        return max(1, int(min(sizes)))

    def work_off(self, next_job: Next, hear: Hear) -> None:
        """Carry runs out until there are no more: all are handed to Ray, which starts one wherever there is room."""
        task = self._ray.remote(carry_out_there).options(num_cpus=self._threads, num_gpus=self._gpus, max_retries=0)
        while True:
            while (job := next_job()) is not None:
                ref = task.remote(self._order, job.key, json.dumps(dict(job.payload)), self._board)
                self._under_way[ref] = job
            if not self._under_way:
                return
            self._listen(hear)

    def _listen(self, hear: Hear) -> None:
        try:
            ready, _ = self._ray.wait(list(self._under_way), timeout=LISTEN)
        except (ConnectionError, self._ray.exceptions.RaySystemError) as error:
            raise FoveateError(f"the Ray cluster is gone ({_first(error)}): finished runs are kept") from error
        keys = {job.key for job in self._under_way.values()}
        for word in self._spoken():
            if word.key in keys:  # not of a run that was given up with its machine
                hear(word)
        for ref in ready:
            hear(self._last_word(ref))

    def _spoken(self) -> list[Word]:
        """What was left on the board; what is asked for is waited for, however long, because it is taken only once."""
        words: list[Word] = []
        if self._asked is not None:
            ready, _ = self._ray.wait([self._asked], timeout=0)
            if not ready:
                return []
            with suppress(self._ray.exceptions.RayError):  # its machine is gone: Ray starts it again on another
                words = self._ray.get(self._asked)
        self._asked = self._board.take.remote()
        return words

    def _last_word(self, ref: Any) -> Word:
        job = self._under_way.pop(ref)
        errors = self._ray.exceptions
        try:
            return self._ray.get(ref)
        except errors.RayTaskError as error:
            sentence = f"a machine of the cluster cannot carry runs out: {_first(error)}"
            return Word("refused", job.key, {"sentence": sentence})
        except errors.OutOfMemoryError:
            return Word("died", job.key, {"sentence": "Ray ended it because its machine ran out of memory"})
        except errors.RayError as error:
            return Word("died", job.key, {"sentence": f"its machine or its process is gone ({type(error).__name__})"})

    def _connect(self) -> None:
        """Connect to a cluster, or start one of this machine that needs nothing from outside."""
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            try:
                self._ray.init(self._address or "auto", **quiet)
            except ConnectionError:
                if self._address is not None or os.environ.get("RAY_ADDRESS"):
                    raise
                cores = max(usable_cores(), self._threads)
                self._ray.init("local", num_cpus=cores, include_dashboard=False, object_store_memory=STORE, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            where = self._address or os.environ.get("RAY_ADDRESS") or "this machine"
            raise FoveateError(f"the Ray cluster at {where} cannot be used: {_first(error)}") from error

    def _check(self) -> None:
        """Refuse a cluster on which runs would come out otherwise, or not at all, before any of them starts."""
        nodes = [node for node in self._ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
        most = max((node["Resources"]["CPU"] for node in nodes), default=0)
        if most < self._threads:
            raise OptionError(f"no machine of the cluster has {self._threads} processors for a run, at most {most:g}")
        if self._gpus > max((node["Resources"].get("GPU", 0) for node in nodes), default=0):
            raise OptionError(f"no machine of the cluster has {self._gpus:g} GPUs for a run")
        asked = {node["NodeID"]: self._ask(node["NodeID"]) for node in nodes}
        expected = Versions(**self._order["versions"])
        refused: list[str] = []
        for number, node in enumerate(nodes, start=1):
            name = f"machine {number} of {len(nodes)} of the cluster ({node['NodeManagerAddress']})"
            try:
                refusal = expected.refusal(Versions(**self._ray.get(asked[node["NodeID"]], timeout=LONG)), name)
            except self._ray.exceptions.RayError as error:
                refusal = f"{name} does not have foveate as it is here, and cannot carry runs out: {_first(error)}"
            refused += [refusal] if refusal else []
        if refused:
            raise FoveateError("; ".join(refused))

    def _ask(self, node: str) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        there = NodeAffinitySchedulingStrategy(node, soft=False)
        return self._ray.remote(versions_there).options(num_cpus=0, scheduling_strategy=there, max_retries=0).remote()

    def _leave(self) -> None:
        if self._own:
            self._ray.shutdown()
        self._told.__exit__(None, None, None)


class Board:
    """A process of the cluster with which runs leave word of how far they are; losing it loses no result."""

    def __init__(self) -> None:
        self._words: list[Word] = []

    def leave(self, word: Word) -> None:
        """Leave a word."""
        self._words.append(word)

    def take(self) -> list[Word]:
        """Take all words that were left."""
        words, self._words = self._words, []
        return words


def versions_there() -> dict[str, str]:
    """The versions of a machine of the cluster."""
    return asdict(Versions.here())


def carry_out_there(order: Mapping[str, Any], key: str, payload: str, board: Any) -> Word:
    """Carry a run out on a machine of the cluster: the task of a job."""
    import torch

    from foveate.study.execution.attempt import attempt

    torch.set_num_threads(order["threads"])
    # a machine may have joined after the others were asked
    refusal = Versions(**order["versions"]).refusal(Versions.here(), "a machine that joined the cluster")
    try:
        work = work_named(order["work"])
    except FoveateError as error:
        refusal = f"a machine of the cluster does not have what carries runs out: {error}"
    else:
        if refusal is None:
            return attempt(work, key, json.loads(payload), board.leave.remote)
    return Word("refused", key, {"sentence": refusal})


def _first(error: BaseException) -> str:
    """The line of an error that says what it is; Ray's begin with a traceback of theirs."""
    cause = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(cause).strip().splitlines() if line.strip()]
    return f"{type(cause).__name__}: {lines[0][:300]}" if lines else type(cause).__name__
