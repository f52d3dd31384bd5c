"""One run after another, in this process."""

from __future__ import annotations

from types import TracebackType

import torch

from foveate.study.execution.attempt import attempt
from foveate.study.execution.crew import Hear, Next
from foveate.study.execution.job import work_named


class Sequential:
    """This process.

    Args:
        work: The function, as ``module:function``.
        threads: Of each run; as many as PyTorch takes, if ``None``.
    """

    def __init__(self, work: str, threads: int | None) -> None:
        self._work, self._threads = work_named(work), threads
        self._before = torch.get_num_threads()

    def __enter__(self) -> Sequential:
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        torch.set_num_threads(self._before)

    def size(self) -> int:
        """One run at once."""
        return 1

    def work_off(self, next_job: Next, hear: Hear) -> None:
        """Carry runs out until there are no more."""
        while (job := next_job()) is not None:
            hear(attempt(self._work, job.key, job.payload, hear))
