"""Saying how far a study is."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)


class Reporter(Protocol):
    """Whoever wants to know how far a study is."""

    def begin(self, runs: int, finished: int) -> None:
        """The study has so many runs, and so many of them were finished before."""
        ...

    def start(self, key: str, label: str) -> None:
        """A run begins; others may be under way."""
        ...

    def tell(self, key: str, note: Mapping[str, Any]) -> None:
        """A run says how far it is: ``epoch`` of ``epochs``, and what was reached (``said``)."""
        ...

    def end(self, key: str, sentence: str, *, done: bool) -> None:
        """A run is finished, or else failed or lost; the sentence says which."""
        ...

    def left(self, seconds: float | None) -> None:
        """So many seconds are left for all runs; ``None`` while nobody knows."""
        ...

    def stage(self, what: str) -> None:
        """Something other than a run begins."""
        ...


class Silent:
    """Says nothing."""

    def begin(self, runs: int, finished: int) -> None:
        """Nothing."""

    def start(self, key: str, label: str) -> None:
        """Nothing."""

    def tell(self, key: str, note: Mapping[str, Any]) -> None:
        """Nothing."""

    def end(self, key: str, sentence: str, *, done: bool) -> None:
        """Nothing."""

    def left(self, seconds: float | None) -> None:
        """Nothing."""

    def stage(self, what: str) -> None:
        """Nothing."""


class Bars:
    """All runs and those under way: how far each is, what it reached, and how long it all still takes."""

    SHOWN = 8  # runs under way that have a line of their own

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._runs = bars.add_task("reading the images", total=None, note="")
        self._stage = bars.add_task("", total=None, visible=False, note="")
        self._lines: dict[str, TaskID] = {}

    def begin(self, runs: int, finished: int) -> None:
        """Show all runs, the finished ones as done."""
        note = f"{finished} finished before" if finished else ""
        self._bars.update(self._runs, description="runs", total=runs, completed=finished, note=note)

    def start(self, key: str, label: str) -> None:
        """Show a run more that is under way."""
        if key in self._lines:
            self._bars.remove_task(self._lines.pop(key))
        visible = len(self._lines) < self.SHOWN
        self._lines[key] = self._bars.add_task(escape(label), total=None, visible=visible, note="")

    def tell(self, key: str, note: Mapping[str, Any]) -> None:
        """Show how far a run is."""
        if key in self._lines:
            far, total, said = note.get("epoch", 0), note.get("epochs"), str(note.get("said", ""))
            self._bars.update(self._lines[key], completed=far, total=total, note=escape(said))

    def end(self, key: str, sentence: str, *, done: bool) -> None:
        """Show a run less that is under way; print what became of it if that was not what it should."""
        if key in self._lines:
            self._bars.remove_task(self._lines.pop(key))
        for line in list(self._lines.values())[: self.SHOWN]:
            self._bars.update(line, visible=True)
        if done:
            self._bars.advance(self._runs)
        else:
            self._bars.console.print(sentence, markup=False, highlight=False)

    def left(self, seconds: float | None) -> None:
        """Show how long it all still takes."""
        if seconds is not None:
            self._bars.update(self._runs, note=f"about {duration(seconds)} left" if seconds and seconds >= 1 else "")

    def stage(self, what: str) -> None:
        """Show what is done instead of runs."""
        self._bars.reset(self._stage, description=what, total=None, visible=True, note="")


class Lines:
    """A line for every run that ends, for files and logs.

    Args:
        write: Is given each line.

    Example:
        >>> lines = Lines(print)
        >>> lines.begin(runs=3, finished=1)
        3 runs, of which 1 was finished before
        >>> lines.end("0" * 16, "cbam, seed 1: finished in 41 s", done=True)
        >>> lines.left(40.0)
        2 of 3: cbam, seed 1: finished in 41 s; about 40 s left
    """

    def __init__(self, write: Callable[[str], Any]) -> None:
        self._write = write
        self._all = self._done = 0
        self._said = ""

    def begin(self, runs: int, finished: int) -> None:
        """Say how many runs there are."""
        self._all, self._done = runs, finished
        before = f", of which {finished} {'was' if finished == 1 else 'were'} finished before" if finished else ""
        self._write(f"{runs} run{'' if runs == 1 else 's'}{before}")

    def start(self, key: str, label: str) -> None:
        """Nothing: its end is said."""

    def tell(self, key: str, note: Mapping[str, Any]) -> None:
        """Nothing: its end is said."""

    def end(self, key: str, sentence: str, *, done: bool) -> None:  # noqa: ARG002 - as all reporters have it
        """Keep what became of a run until it is known how long the others take."""
        self._done += done
        self._said = sentence

    def left(self, seconds: float | None) -> None:
        """Say what became of the last run, and how long the others take."""
        if self._said:
            rest = f"; about {duration(seconds)} left" if seconds and seconds >= 1 else ""
            self._write(f"{self._done} of {self._all}: {self._said}{rest}")
        self._said = ""

    def stage(self, what: str) -> None:
        """Say it."""
        self._write(what)


def duration(seconds: float) -> str:
    """Seconds as a person says them.

    Example:
        >>> duration(0.4), duration(41), duration(200), duration(7500)
        ('0.4 s', '41 s', '3 min', '2 h 5 min')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


@contextmanager
def reporting(console: Console) -> Generator[Reporter]:
    """Bars on a terminal, gone when the ``with`` ends; elsewhere a line for every run that ends.

    Example:
        >>> import io
        >>> with reporting(Console(file=io.StringIO())) as reporter:
        ...     type(reporter).__name__
        'Lines'
    """
    if console.is_terminal:
        with bars(console) as shown:
            yield shown
    else:
        yield Lines(lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True))


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
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield Bars(progress)
