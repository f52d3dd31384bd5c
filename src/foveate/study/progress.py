"""Saying how far a study is."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Reporter(Protocol):
    """Whoever wants to know how far a study is."""

    def begin(self, runs: int, finished: int) -> None:
        """The study has so many runs, and so many of them were finished before."""
        ...

    def run(self, arm: str, seed: int, epochs: int) -> None:
        """A run begins."""
        ...

    def epoch(self, epoch: int, accuracy: float) -> None:
        """An epoch ended, with this validation accuracy."""
        ...

    def finished(self) -> None:
        """The run ended."""
        ...

    def stage(self, what: str) -> None:
        """Something other than a run begins."""
        ...


class Silent:
    """Says nothing."""

    def begin(self, runs: int, finished: int) -> None:
        """Nothing."""

    def run(self, arm: str, seed: int, epochs: int) -> None:
        """Nothing."""

    def epoch(self, epoch: int, accuracy: float) -> None:
        """Nothing."""

    def finished(self) -> None:
        """Nothing."""

    def stage(self, what: str) -> None:
        """Nothing."""


class Bars:
    """Two bars: runs of the study and epochs of the run, with the validation accuracy reached."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._runs = bars.add_task("reading the images", total=None, note="")
        self._epochs = bars.add_task("", total=1, visible=False, note="")

    def begin(self, runs: int, finished: int) -> None:
        """Show all runs, the finished ones as done."""
        note = f"{finished} finished before" if finished else ""
        self._bars.update(self._runs, description="runs", total=runs, completed=finished, note=note)

    def run(self, arm: str, seed: int, epochs: int) -> None:
        """Show a run of no epochs yet."""
        self._bars.reset(self._epochs, description=f"{arm}, seed {seed}", total=epochs, visible=True, note="")

    def epoch(self, epoch: int, accuracy: float) -> None:
        """Show one epoch more."""
        self._bars.update(self._epochs, completed=epoch, note=f"validation accuracy {accuracy:.1%}")

    def finished(self) -> None:
        """Show one run more."""
        self._bars.advance(self._runs)

    def stage(self, what: str) -> None:
        """Show what is done instead of runs."""
        self._bars.reset(self._epochs, description=what, total=None, visible=True, note="")


@contextmanager
def bars(console: Console) -> Generator[Bars]:
    """Bars on a terminal, gone when the ``with`` ends; where the console is no terminal nothing is printed.

    Example:
        >>> with bars(Console(quiet=True)) as reporter:
        ...     reporter.begin(runs=18, finished=0)
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield Bars(progress)
