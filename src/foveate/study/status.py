"""How far a study is, read from its folder while somebody works on it, or nobody."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from foveate.errors import FoveateError
from foveate.study.counting import counted
from foveate.study.execution.estimating import Pace
from foveate.study.execution.job import Job
from foveate.study.execution.where import lives
from foveate.study.merging import label_of
from foveate.study.progress import duration
from foveate.study.reading import read_json, read_run


@dataclass(frozen=True)
class UnderWay:
    """A run under way.

    Attributes:
        label: What it is called.
        seconds: Since it began.
        silent: Seconds since it was last heard of.
        lives: Whether the process that had it carried out is there; ``None`` if it is on another machine.
        note: How far it said it is.
    """

    label: str
    seconds: float
    silent: float
    lives: bool | None
    note: dict[str, Any]

    def line(self) -> str:
        """The same in words."""
        far = f", epoch {self.note['epoch']} of {self.note['epochs']}" if {"epoch", "epochs"} <= set(self.note) else ""
        whose = "" if self.lives else ", by another machine, which may be gone"
        return f"{self.label}: for {duration(self.seconds)}{far}, last heard of {duration(self.silent)} ago{whose}"


@dataclass(frozen=True)
class Status:
    """How far a study is; every run is in one place.

    Attributes:
        folder: Where it is.
        runs: How many runs it has.
        finished: How many are finished.
        under_way: Those under way.
        cut_off: Those whose process is gone, and which begin again.
        failed: Those that could not be carried out, and why.
        left: How many have not begun.
        seconds: That the finished runs took, one after another.
        seconds_left: That the others take, as many at once as now; ``None`` if no run is finished.
        notes: Files that cannot be believed.
    """

    folder: Path
    runs: int
    finished: int
    under_way: tuple[UnderWay, ...]
    cut_off: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]
    left: int
    seconds: float
    seconds_left: float | None
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        failed = [{"run": label, "why": why} for label, why in self.failed]
        return {**asdict(self), "folder": str(self.folder), "failed": failed}

    def lines(self) -> list[str]:
        """The same in sentences."""
        said = [f"{self.finished} of {counted(self.runs, 'run')} are finished, in {duration(self.seconds)} of training"]
        said += [f"under way: {run.line()}" for run in self.under_way]
        said += [f"cut off: {label}; it begins again" for label in self.cut_off]
        said += [f"failed: {label}: {why}" for label, why in self.failed]
        if self.left:
            said.append(f"{counted(self.left, 'run')} not begun")
        if self.finished < self.runs:
            left = f"about {duration(self.seconds_left)}" if self.seconds_left is not None else "nobody knows how long"
            at_once = len(self.under_way)
            how = f"{at_once} at once" if at_once > 1 else "one at a time"
            said.append(
                f"time left: {left}, {how}" if self.under_way else f"time left: {left}, {how}; nobody works on it"
            )
        return [*said, *self.notes]


def status(folder: str | Path) -> Status:
    """How far a study is. Nothing is changed, and nobody who works on it is disturbed.

    Raises:
        FoveateError: If there is no study in the folder.
    """
    path = Path(folder)
    study = read_json(path / "study.json")
    if study is None:
        raise FoveateError(f"'{path}' holds no study: run `foveate compare` into it first")
    pace, seconds, finished = Pace(), 0.0, 0
    under_way: list[tuple[Job, UnderWay]] = []
    cut_off: list[Job] = []
    failed: list[tuple[Job, str]] = []
    left: list[Job] = []
    notes: list[str] = []
    for entry in study["runs"]:
        job = Job(entry["key"], label_of(entry), arm=str(entry.get("arm") or ""))
        try:
            took = _seconds(read_run(path, job.key))
            finished += 1
            seconds += took
            pace.took(job.arm, took)
            continue
        except FileNotFoundError:
            pass
        except FoveateError as error:
            notes.append(f"{error}; it is set aside and run again")
        running, broken = _note(path, "running", job.key), _note(path, "failed", job.key)
        if running is not None and (there := lives(running.get("driver") or {})) is not False:
            under_way.append((job, _under_way(job, running, there)))
        elif running is not None:
            cut_off.append(job)
        elif broken is not None:
            failed.append((job, str(broken.get("sentence", ""))))
        else:
            left.append(job)
    rest = [*cut_off, *(job for job, _ in failed), *left]
    time_left = pace.left(rest, [(job, run.seconds) for job, run in under_way], max(1, len(under_way)))
    return Status(
        path,
        len(study["runs"]),
        finished,
        tuple(run for _, run in under_way),
        tuple(job.label for job in cut_off),
        tuple((job.label, why) for job, why in failed),
        len(left),
        seconds,
        time_left,
        tuple(notes),
    )


def _under_way(job: Job, running: dict[str, Any], there: bool | None) -> UnderWay:
    started, told = _ago(running.get("started")), _ago(running.get("told"))
    return UnderWay(job.label, started, min(started, told), there, dict(running.get("note") or {}))


def _note(path: Path, kind: str, key: str) -> dict[str, Any] | None:
    """A note, which may be taken away at any moment; one that cannot be read says nothing more."""
    try:
        return read_json(path / kind / f"{key}.json")
    except FoveateError:
        return {}


def _seconds(record: dict[str, Any]) -> float:
    return float(record.get("where", {}).get("seconds") or record.get("seconds", {}).get("total") or 0.0)


def _ago(when: Any) -> float:
    try:
        return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(when)).total_seconds())
    except (TypeError, ValueError):
        return 0.0
