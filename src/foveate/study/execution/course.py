"""How the runs of a study go: what is heard of them becomes files, and what a person is told."""

from __future__ import annotations

from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from foveate.errors import FoveateError
from foveate.study.counting import counted
from foveate.study.execution.crew import Crew
from foveate.study.execution.estimating import Pace
from foveate.study.execution.job import Job, Word
from foveate.study.execution.where import this_process
from foveate.study.folder import Folder
from foveate.study.progress import Reporter, duration


class UnfinishedError(FoveateError):
    """Runs that could not be carried out, after all others were.

    Attributes:
        finished: The runs that were, by key.
        failed: Why the others were not, by key.
    """

    def __init__(self, sentence: str, finished: dict[str, dict[str, Any]], failed: dict[str, str]) -> None:
        super().__init__(sentence)
        self.finished = finished
        self.failed = failed


@dataclass
class Course:
    """How the runs of a study go: what is heard of them becomes files, and what a person is told."""

    folder: Folder
    reporter: Reporter
    again: int
    stop: bool
    finished: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    failed: dict[str, str] = field(default_factory=dict[str, str])
    aside: list[str] = field(default_factory=list[str])
    waiting: deque[Job] = field(default_factory=deque[Job])

    def __post_init__(self) -> None:
        self._given: dict[str, Job] = {}
        self._begun: dict[str, tuple[float, dict[str, Any]]] = {}
        self._lost: Counter[str] = Counter()
        self._pace = Pace()
        self._crew: Crew | None = None
        self._me = this_process()

    def take(self, job: Job) -> None:
        """Take a job on, or its result where it is finished."""
        record, note = self.folder.finished(job.key, maps=job.maps)
        self.aside += [note] if note else []
        if record is None:
            self.waiting.append(job)
        else:
            self.finished[job.key] = record
            seconds = record.get("where", {}).get("seconds")
            if seconds:
                self._pace.took(job.arm, seconds)

    def follow(self, crew: Crew) -> None:
        """Have what waits carried out."""
        self._crew = crew
        crew.work_off(self._next, self.hear)

    def hear(self, word: Word) -> None:
        """Write down what was said of a run, and pass it on."""
        job = self._given[word.key]
        match word.kind:
            case "begun" | "noted":
                self._under_way(job, word)
            case "done":
                self._finish(job, word)
            case "died":
                self._lose(job, word.value["sentence"])
            case "failed":
                self._fail(job, word.value["sentence"], word.value["trace"])
            case "refused":
                raise FoveateError(word.value["sentence"])
        if self._crew is not None and word.kind != "noted":
            self.reporter.left(self._left(self._crew))

    def kept(self) -> str:
        """What is finished, in words."""
        count = len(self.finished)
        return f"{counted(count, 'finished run')} {'is' if count == 1 else 'are'} kept"

    def cut_off(self) -> None:
        """Keep the notes of runs under way apart from those that count."""
        for key in self._given:
            with suppress(FoveateError):  # where even a note cannot be moved, the next start finds it
                self.folder.interrupt(key)

    def _next(self) -> Job | None:
        if not self.waiting:
            return None
        job = self.waiting.popleft()
        self._given[job.key] = job
        return job

    def _under_way(self, job: Job, word: Word) -> None:
        if word.kind == "begun":
            about = {"format": 1, "kind": "foveate run under way", "key": job.key, "label": job.label, "arm": job.arm}
            known = {**about, "driver": self._me, "where": word.value["where"], "started": _now(), "note": {}}
            self._begun[job.key] = (monotonic(), known)
        elif job.key not in self._begun:  # a late word of a run that was lost with its machine
            return
        else:
            self._begun[job.key][1]["note"] = word.value
        self.folder.begin(job.key, {**self._begun[job.key][1], "told": _now()})
        if word.kind == "begun":
            self.reporter.start(job.key, job.label)
        else:
            self.reporter.tell(job.key, word.value)

    def _finish(self, job: Job, word: Word) -> None:
        record = self.folder.finish(job.key, word.value, word.maps)
        self._over(job)
        self.finished[job.key] = record
        self._pace.took(job.arm, record["where"]["seconds"])
        self.reporter.end(job.key, f"{job.label}: finished in {duration(record['where']['seconds'])}", done=True)

    def _lose(self, job: Job, sentence: str) -> None:
        if job.key not in self._begun:  # on a cluster, word of a beginning may be lost with its machine
            self._under_way(job, Word("begun", job.key, {"where": {}}))
        self._over(job)
        self.folder.interrupt(job.key)
        self._lost[job.key] += 1
        count = self._lost[job.key]
        if count > self.again:
            times = "" if count == 1 else f" ({count} times)"
            self._fail(job, f"{sentence}{times}", [])
        else:
            self.waiting.append(job)
            self.reporter.end(job.key, f"{job.label}: {sentence}; the run begins again", done=False)

    def _fail(self, job: Job, sentence: str, trace: list[str]) -> None:
        self._over(job)
        about = {"kind": "foveate run that failed", "key": job.key, "label": job.label, "arm": job.arm}
        self.folder.fail(job.key, {"format": 1, **about, "sentence": sentence, "trace": trace, "when": _now()})
        self.failed[job.key] = f"{job.label}: {sentence}"
        self.reporter.end(job.key, f"{job.label}: failed: {sentence}", done=False)
        if self.stop:
            sentence = f"{self.failed[job.key]}; it was to stop at the first failure, and {self.kept()}"
            raise UnfinishedError(sentence, self.finished, self.failed)

    def _over(self, job: Job) -> None:
        self._given.pop(job.key, None)
        self._begun.pop(job.key, None)

    def _left(self, crew: Crew) -> float | None:
        now = monotonic()
        running = [(self._given[key], now - since) for key, (since, _) in self._begun.items()]
        queued = [job for key, job in self._given.items() if key not in self._begun]
        return self._pace.left([*queued, *self.waiting], running, crew.size())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
