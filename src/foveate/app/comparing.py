"""Small comparisons that people start from the page: one each, few at once, watched, and stopped when they say so."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock, Thread, Timer
from typing import IO, Any

from foveate.errors import FoveateError, OptionError
from foveate.registry import get, parse

AT_ONCE = 2
SECONDS = 1800.0
MECHANISMS, SEEDS, EPOCHS, SAMPLES = 3, 5, 5, 1800  # at most
RUNNING, FINISHED, STOPPED, FAILED = "running", "finished", "stopped", "failed"


@dataclass(frozen=True)
class Request:
    """What is compared with the usual network on the embedded garments.

    Attributes:
        attention: Mechanisms, each perhaps with options.
        seeds: Runs of each.
        epochs: Passes over the training images.
        samples: How many of these there are.

    Raises:
        OptionError: If it is none, or more than the page does.
    """

    attention: tuple[str, ...]
    seeds: int = 2
    epochs: int = 1
    samples: int = 512

    def __post_init__(self) -> None:
        if not 1 <= len(self.attention) <= MECHANISMS:
            raise OptionError(f"choose one to {MECHANISMS} mechanisms; `foveate compare` takes as many as you like")
        for one in self.attention:
            get(parse(one).name)
        for what, value, least, most in (
            ("seeds", self.seeds, 1, SEEDS),
            ("epochs", self.epochs, 1, EPOCHS),
            ("images", self.samples, 64, SAMPLES),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:  # pyright: ignore[reportUnnecessaryIsInstance]
                raise OptionError(f"{what}: a whole number from {least} to {most}, not {value!r}")

    @property
    def command(self) -> str:
        """The same in a shell."""
        return (
            f"foveate compare --attention {','.join(self.attention)} --seeds {self.seeds} --epochs {self.epochs} "
            f"--train-samples {self.samples}"
        )


@dataclass
class Progress:
    """How far a comparison is.

    Attributes:
        state: ``"running"``, ``"finished"``, ``"stopped"`` or ``"failed"``.
        runs: How many there are; 0 until that is known.
        done: How many of them are finished.
        under_way: What each run that is under way says.
        stage: What is done besides runs.
        left: Seconds left, if that is known.
        sentence: What it came to, or why it failed.
        report: Where its report lies, if it has one.
    """

    state: str = RUNNING
    runs: int = 0
    done: int = 0
    under_way: dict[str, str] = field(default_factory=dict[str, str])
    stage: str = "reading the images"
    left: float | None = None
    sentence: str = ""
    report: Path | None = None

    def hear(self, word: dict[str, Any], labels: dict[str, str]) -> None:
        """Take in one line of the child."""
        match word.pop("is", None):
            case "begin":
                self.runs, self.done, self.stage = word["runs"], word["finished"], ""
            case "start":
                labels[word["key"]] = self.under_way[word["key"]] = word["label"]
            case "tell":
                far = f"epoch {word['epoch']} of {word['epochs']}" if word["epochs"] else ""
                parts = (labels.get(word["key"], ""), far, word["said"])
                self.under_way[word["key"]] = ", ".join(filter(None, parts))
            case "end":
                self.under_way.pop(word["key"], None)
                self.done += word["done"]
            case "left":
                self.left = word["seconds"]
            case "stage":
                self.stage = word["what"]
            case "finished":
                self.state, self.sentence, self.report = FINISHED, word["headline"], Path(word["report"])
            case "failed":
                self.state, self.sentence = FAILED, word["sentence"]
            case _:
                pass


class Comparison:
    """One comparison in a process of its own.

    Args:
        request: What is compared.
        folder: Where its results go; it is made.
        seconds: It is stopped after so many.
    """

    def __init__(self, request: Request, folder: Path, seconds: float = SECONDS) -> None:
        self.request, self.progress = request, Progress()
        temporary = folder / "temporary"  # what a killed process leaves behind goes with the folder
        temporary.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "foveate.app.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            env={**os.environ, "TMPDIR": str(temporary), "TMP": str(temporary), "TEMP": str(temporary)},
        )
        asked = {
            "attention": request.attention,
            "seeds": request.seeds,
            "epochs": request.epochs,
            "samples": request.samples,
            "out": str(folder),
        }
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101 (pipes)
        with contextlib.suppress(OSError):  # it ended already: `_listen` says so
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
        self._timer = Timer(seconds, self.stop, [f"stopped: the page lets a comparison run for {seconds / 60:.0f} min"])
        self._timer.daemon = True
        self._timer.start()
        Thread(target=self._listen, args=(self._process.stdout,), daemon=True).start()

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self._process.poll() is None

    def stop(self, why: str = "stopped: nothing of it was kept") -> None:
        """End it and whatever it has started, now."""
        self._timer.cancel()
        if self.progress.state == RUNNING:
            self.progress.state, self.progress.sentence = STOPPED, why
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError, ValueError):
                    pipe.close()

    def _listen(self, lines: IO[str]) -> None:
        labels: dict[str, str] = {}
        with contextlib.suppress(ValueError, OSError):  # the pipe was closed by `stop`
            for line in lines:
                self.progress.hear(json.loads(line), labels)
        code = self._process.wait()
        self._timer.cancel()
        if self.progress.state == RUNNING:
            self.progress.state = FAILED
            self.progress.sentence = f"the comparison's process ended by itself (exit code {code})"


class Comparisons:
    """All comparisons of the page.

    Args:
        most: How many may run at once.
    """

    def __init__(self, most: int = AT_ONCE) -> None:
        self.most = most
        self._lock = Lock()
        self._running: list[Comparison] = []

    def start(self, request: Request, folder: Callable[[], Path], before: Comparison | None) -> Comparison:
        """Start one for somebody, whose last one was ``before``; its folder is made once nothing speaks against it.

        Raises:
            FoveateError: If theirs still runs, or as many as may run do.
        """
        with self._lock:
            self._running = [one for one in self._running if one.running]
            if before is not None and before.running:
                raise FoveateError("your comparison is still running: stop it first, or wait for its report")
            if len(self._running) >= self.most:
                raise FoveateError(
                    f"busy: {self.most} comparisons of other people are running, and this machine takes no more; try "
                    "again in some minutes"
                )
            started = Comparison(request, folder())
            self._running.append(started)
        return started

    def close(self) -> None:
        """Stop all."""
        with self._lock:
            for one in self._running:
                one.stop("stopped: the page was closed")
            self._running = []


def checked(attention: Sequence[str] | None, seeds: float, epochs: float, samples: float) -> Request:
    """What the controls of the page say.

    Raises:
        OptionError: If they say what the page does not do.
    """
    return Request(tuple(attention or ()), *(int(value) for value in (seeds, epochs, samples)))
