"""Several processes of this machine, one run each at a time; one that dies takes nothing but its run with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic
from types import TracebackType
from typing import Any, NamedTuple

import torch

from foveate.errors import FoveateError
from foveate.study.execution.crew import Hear, Next
from foveate.study.execution.job import Job, Word, work_named
from foveate.study.execution.where import Versions
from foveate.study.execution.wire import receive

LOOK = 0.2  # seconds between two looks at whether processes live
LAST_WORDS = 2.0  # seconds for what a dead process had written already


class Heard(NamedTuple):
    """A word and the process that said it."""

    worker: Worker
    word: Word


class Worker:
    """One process, and the run that it carries out."""

    def __init__(self, order: Mapping[str, Any], number: int, heard: SimpleQueue[Heard]) -> None:
        self.job: Job | None = None
        self.number = number
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        # not through multiprocessing: that would import a person's script once more in each process
        self._process: subprocess.Popen[bytes] = subprocess.Popen(
            [sys.executable, "-P", "-m", "foveate.study.execution.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=_environment(order["threads"], number),
            start_new_session=True,  # Ctrl-C is for the process that a person started
        )
        self._reader = Thread(target=self._read, args=(heard,), daemon=True)
        self._reader.start()
        self._send(order)

    def give(self, job: Job) -> None:
        """Let it carry out a run."""
        self.job = job
        self._send({"key": job.key, "payload": job.payload})

    def gone(self) -> str | None:
        """What became of it, in words, if it is not there any more."""
        if self._process.poll() is None:
            return None
        self._reader.join(LAST_WORDS)
        code = self._process.returncode
        if code == -signal.SIGKILL:
            how = "was killed (SIGKILL), as happens when memory runs out"
        elif code < 0:
            how = f"was ended by {signal.Signals(-code).name}"
        else:
            how = f"ended with exit code {code}"
        return f"its process {how}" + self._last_line()

    def end(self) -> None:
        """End it, whatever it does, and wait until it is gone."""
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                if hasattr(os, "killpg"):
                    os.killpg(self._process.pid, signal.SIGKILL)  # with whatever its run has started
                else:
                    self._process.kill()
        self._process.wait()
        self._reader.join(LAST_WORDS)
        for stream in (self._process.stdin, self._process.stdout, self._said):
            if stream is not None:
                with suppress(OSError):
                    stream.close()

    def _send(self, order: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None  # noqa: S101 - it was asked for
        with suppress(OSError):  # it is gone, which is seen at the next look
            self._process.stdin.write(json.dumps(order, allow_nan=False).encode() + b"\n")
            self._process.stdin.flush()

    def _read(self, heard: SimpleQueue[Heard]) -> None:
        assert self._process.stdout is not None  # noqa: S101 - it was asked for
        with suppress(OSError, ValueError):
            while (word := receive(self._process.stdout)) is not None:
                heard.put(Heard(self, word))

    def _last_line(self) -> str:
        self._said.seek(0)
        lines = self._said.read()[-4096:].decode(errors="replace").strip().splitlines()
        return f"; its last words: {lines[-1].strip()[:200]}" if lines else ""


class Processes:
    """Processes of this machine.

    Args:
        work: The function, as ``module:function``.
        count: How many.
        threads: Of each.
    """

    def __init__(self, work: str, count: int, threads: int) -> None:
        work_named(work)
        self._order: dict[str, Any] = {"work": work, "threads": threads, "versions": asdict(Versions.here())}
        self._count = count
        self._workers: list[Worker] = []
        self._heard: SimpleQueue[Heard] = SimpleQueue()

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._workers:
            self._workers.pop().end()

    def size(self) -> int:
        """So many runs at once."""
        return self._count

    def work_off(self, next_job: Next, hear: Hear) -> None:
        """Carry runs out until there are no more."""
        looked = monotonic()
        while True:
            self._give(next_job)
            if not any(worker.job for worker in self._workers):
                return
            with suppress(Empty):
                self._pass_on(self._heard.get(timeout=LOOK), hear)
            if monotonic() - looked >= LOOK:
                self._bury(hear)
                looked = monotonic()

    def _give(self, next_job: Next) -> None:
        """Give work to whoever has none, and start processes while there is more work."""
        idle = [worker for worker in self._workers if worker.job is None]
        while idle or len(self._workers) < self._count:
            job = next_job()
            if job is None:
                return
            if idle:
                worker = idle.pop()
            else:
                free = set(range(self._count)) - {worker.number for worker in self._workers}
                worker = Worker(self._order, min(free), self._heard)
                self._workers.append(worker)
            worker.give(job)

    def _pass_on(self, heard: Heard, hear: Hear) -> None:
        worker, word = heard
        if worker.job is None or worker.job.key != word.key:
            raise FoveateError(f"a process spoke of run {word.key}, which it was not given")
        if word.kind not in ("begun", "noted"):
            worker.job = None
        hear(word)

    def _bury(self, hear: Hear) -> None:
        """Take out processes that are gone, after all that they said was heard."""
        for worker in list(self._workers):
            if (how := worker.gone()) is None:
                continue
            while not self._heard.empty():
                self._pass_on(self._heard.get(), hear)
            self._workers.remove(worker)
            worker.end()
            if worker.job is not None:
                hear(Word("died", worker.job.key, {"sentence": how}))


def _environment(threads: int, number: int) -> dict[str, str]:
    """Of a process: it finds the same modules, has its share of the threads, and a GPU of its own where there are."""
    own = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    path = os.pathsep.join(entry or str(os.getcwd()) for entry in sys.path)  # noqa: PTH109 - a string is wanted
    gpus = torch.cuda.device_count()
    if gpus > 1:
        listed = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = listed.split(",") if listed else [str(index) for index in range(gpus)]
        own["CUDA_VISIBLE_DEVICES"] = names[number % len(names)]
    return {**os.environ, **own, "PYTHONPATH": path}
