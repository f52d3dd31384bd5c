"""A small comparison in a process of its own, which says how far it is and ends when the page does.

One line of JSON comes in and says what is asked for; lines of JSON go out. The end of the input means that nobody
waits any more, whatever became of the page, and ends the process at once.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from threading import Thread
from typing import Any, NoReturn, TextIO

from foveate.errors import FoveateError

NICENESS = 10  # the page goes first


class Told:
    """A reporter of a study that writes every word as a line of JSON.

    Args:
        out: Where lines go.

    Example:
        >>> Told(sys.stdout).begin(6, 0)
        {"is": "begin", "runs": 6, "finished": 0}
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def say(self, word: str, **content: Any) -> None:
        """Write one line."""
        print(json.dumps({"is": word, **content}), file=self._out, flush=True)

    def begin(self, runs: int, finished: int) -> None:
        """How many runs there are."""
        self.say("begin", runs=runs, finished=finished)

    def start(self, key: str, label: str) -> None:
        """A run begins."""
        self.say("start", key=key, label=label)

    def tell(self, key: str, note: Mapping[str, Any]) -> None:
        """How far a run is."""
        self.say("tell", key=key, epoch=note.get("epoch", 0), epochs=note.get("epochs"), said=str(note.get("said", "")))

    def end(self, key: str, sentence: str, *, done: bool) -> None:
        """What became of a run."""
        self.say("end", key=key, sentence=sentence, done=done)

    def left(self, seconds: float | None) -> None:
        """How long it all still takes."""
        self.say("left", seconds=seconds)

    def stage(self, what: str) -> None:
        """What is done besides runs."""
        self.say("stage", what=what)


def main() -> None:
    """Compare what is asked for."""
    lines, out = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what a run prints must not come between the words
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    asked = json.loads(lines.readline())
    Thread(target=_end_with, args=(lines,), daemon=True).start()
    told = Told(out)
    try:
        from foveate.study.compare import compare
        from foveate.study.plan import Asked

        settings = {"epochs": asked["epochs"]}
        comparison = compare(
            attention=tuple(asked["attention"]),
            seeds=asked["seeds"],
            asked=Asked(settings=settings, train_samples=asked["samples"]),
            out=asked["out"],
            progress=told,
        )
    except FoveateError as error:
        told.say("failed", sentence=str(error))
        sys.exit(1)
    told.say("finished", headline=comparison.headline, report=str(comparison.report))


def _end_with(lines: TextIO) -> NoReturn:
    while lines.readline():
        pass
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)  # with whatever its runs have started
    os._exit(0)


if __name__ == "__main__":
    main()
