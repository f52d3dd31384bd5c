"""Passes of a network: which of its runs a module is in, and what is taken back when a pass fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack
from threading import local
from typing import Any

from torch import nn


class _Pass:
    """One forward pass that has begun."""

    def __init__(self) -> None:
        self.runs: Counter[Hashable] = Counter()
        self.undo = ExitStack()


class Runs(local):
    """Which of its runs a module is in: counted within one pass of the network, and always the first outside of one.

    A network may call itself; then the call within is a pass of its own. Each thread has its own passes, as of
    :class:`torch.nn.DataParallel`.

    Example:
        >>> runs, kept = Runs(), [1]
        >>> handles = list(runs.following(network := nn.Linear(2, 2)))
        >>> runs.next("a map"), runs.next("a map")
        (0, 0)
    """

    def __init__(self) -> None:
        self._passes: list[_Pass] = []

    def following(self, network: nn.Module) -> Iterator[Any]:
        """The handles of hooks on the network."""
        yield network.register_forward_pre_hook(lambda *_: self._passes.append(_Pass()), prepend=True)
        yield network.register_forward_hook(lambda *_: self._returned())  # not called where the network raised
        yield network.register_forward_hook(lambda *_: self._over(), always_call=True)

    def next(self, key: Hashable) -> int:
        """The number of a run that begins, from 0."""
        if not self._passes:
            return 0
        runs = self._passes[-1].runs
        runs[key] += 1
        return runs[key] - 1

    def unless_returned(self, undo: Callable[[], object]) -> None:
        """What takes back a thing that was kept, should the network not return from this pass; the last goes first."""
        if self._passes:
            self._passes[-1].undo.callback(undo)

    def close(self) -> None:
        """No more is heard: passes that nobody saw end, as of an interrupted program, have failed."""
        while self._passes:
            self._over()

    def _returned(self) -> None:
        if self._passes:
            self._passes[-1].undo.pop_all()

    def _over(self) -> None:
        if self._passes:
            self._passes.pop().undo.close()
