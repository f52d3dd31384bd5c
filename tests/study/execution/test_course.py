"""What is heard of runs becomes files, whoever carries them out; here nobody does, and a test says what is heard."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from foveate.errors import FoveateError, OptionError
from foveate.study.execution import Carried, Job, UnfinishedError, carry_out, driver
from foveate.study.execution.crew import Hear, Next
from foveate.study.execution.job import Word
from foveate.study.folder import Folder
from foveate.study.progress import Lines, Reporter, Silent, bars
from foveate.study.reading import FORMAT
from tests.support import toy


def done(job: Job) -> Word:
    record = {"format": FORMAT, "kind": "foveate run", "key": job.key, "config": job.payload, "where": {"seconds": 1.0}}
    return Word("done", job.key, record, toy.tensors() if job.maps else None)


def begun(job: Job) -> Word:
    return Word("begun", job.key, {"where": {"host": "0" * 8}})


def died(job: Job) -> Word:
    return Word("died", job.key, {"sentence": "its process was killed"})


class Scripted:
    """Says of each job what a test wants to be heard."""

    def __init__(self, script: Callable[[Job], Iterator[Word]]) -> None:
        self.script, self.given = script, list[str]()

    def size(self) -> int:
        return 2

    def work_off(self, next_job: Next, hear: Hear) -> None:
        while (job := next_job()) is not None:
            self.given.append(job.label)
            for word in self.script(job):
                hear(word)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    found = Folder(tmp_path / "out")
    with found.alone():
        yield found


@pytest.fixture
def carried(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Scripted, Carried]]:
    def carry(script: Any, jobs: list[Job], reporter: Reporter | None = None, **options: Any):
        crew = Scripted(script)

        @contextmanager
        def at(*_: Any) -> Iterator[Scripted]:
            yield crew

        monkeypatch.setattr(driver, "crew_at", at)
        return crew, carry_out(jobs, folder, work=toy.WORK, reporter=reporter or Silent(), **options)

    return carry


def names(folder: Folder, kind: str) -> list[str]:
    return sorted(path.name for path in (folder.path / kind).glob("*"))


def test_a_lost_run_begins_again_and_counts_once(folder: Folder, carried: Any) -> None:
    lost = iter([True, False, False])

    def script(job: Job) -> Iterator[Word]:
        yield begun(job)
        yield Word("noted", job.key, {"epoch": 2, "epochs": 5})
        yield died(job) if next(lost) else done(job)

    jobs = [toy.job(0), toy.job(1)]
    crew, result = carried(script, jobs)
    assert crew.given == ["plain, seed 0", "plain, seed 1", "plain, seed 0"]
    assert [record["key"] for record in result.records] == [job.key for job in jobs]
    assert names(folder, "runs") == sorted(f"{job.key}.json" for job in jobs)
    assert names(folder, "running") == [] and names(folder, "interrupted") == [f"{jobs[0].key}-1.json"]
    assert result.notes == ["plain, seed 0: cut off after 2 of 5 epochs, and run again from its beginning"]


@pytest.mark.parametrize("again", [0, 1, 2])
def test_a_run_that_is_lost_too_often_fails_and_the_others_go_on(again: int, folder: Folder, carried: Any) -> None:
    bad, good = toy.job(0), toy.job(1)
    with pytest.raises(UnfinishedError) as raised:
        carried(lambda job: iter([died(job) if job == bad else done(job)]), [bad, good], again=again)
    time = {0: "", 1: " (2 times)", 2: " (3 times)"}[again]
    assert str(raised.value) == (
        f"1 of 2 runs could not be finished: plain, seed 0: its process was killed{time}; 1 finished run is kept in "
        f"'{folder.path}', and the same command tries again what failed and repeats nothing else"
    )
    assert raised.value.failed.keys() == {bad.key} and raised.value.finished.keys() == {good.key}
    assert len(names(folder, "interrupted")) == again + 1, "each is told, also where no word of its beginning arrived"
    assert names(folder, "failed") == [f"{bad.key}.json"] and names(folder, "running") == []
    crew, result = carried(lambda job: iter([done(job)]), [bad, good])
    assert crew.given == ["plain, seed 0"] and len(result.records) == 2
    assert names(folder, "failed") == [], "it is finished now"


def test_a_failure_is_written_down_or_stops_everything(folder: Folder, carried: Any) -> None:
    jobs = [toy.job(number) for number in range(3)]

    def script(job: Job) -> Iterator[Word]:
        yield begun(job)
        failed = Word("failed", job.key, {"sentence": "no data", "trace": ["run.py, line 3, fit"]})
        yield failed if job == jobs[1] else done(job)

    with pytest.raises(UnfinishedError, match=r"plain, seed 1: no data; it was to stop .*, and 1 finished run is kept"):
        carried(script, jobs, on_failure="stop")
    assert len(names(folder, "runs")) == 1
    with pytest.raises(UnfinishedError, match="1 of 3 runs"):
        carried(script, jobs)
    note = json.loads((folder.path / "failed" / f"{jobs[1].key}.json").read_text())
    assert note["sentence"] == "no data" and note["trace"] == ["run.py, line 3, fit"] and note["label"] == jobs[1].label
    with pytest.raises(OptionError, match="on_failure must be one of"):
        carried(script, jobs, on_failure="ignore")


def test_a_machine_that_is_refused_ends_it_all(folder: Folder, carried: Any) -> None:
    def script(job: Job) -> Iterator[Word]:
        yield begun(job)
        yield Word("refused", job.key, {"sentence": "it has torch 1"})

    with pytest.raises(FoveateError, match="it has torch 1"):
        carried(script, [toy.job(0)])
    assert names(folder, "running") == [] and names(folder, "failed") == []


def test_maps_are_asked_for_and_damaged_runs_come_again(folder: Folder, carried: Any) -> None:
    job = toy.job(0, maps=True)
    carried(lambda job: iter([done(job)]), [job])
    assert carried(lambda _: iter([]), [job])[0].given == []
    (folder.path / "maps" / f"{job.key}.safetensors").write_bytes(b"cut")
    crew, result = carried(lambda job: iter([done(job)]), [job])
    assert crew.given == [job.label] and "was set aside and is run again" in result.notes[0]


def test_notes_of_a_killed_process_are_kept_apart(folder: Folder, carried: Any) -> None:
    job = toy.job(0)
    folder.begin(job.key, {"label": job.label, "note": {}})
    _, result = carried(lambda job: iter([done(job)]), [job])
    assert result.notes == ["plain, seed 0: cut off, and run again from its beginning"]


def test_late_words_of_a_lost_run_do_no_harm(folder: Folder, carried: Any) -> None:
    def script(job: Job) -> Iterator[Word]:
        yield Word("noted", job.key, {"epoch": 1, "epochs": 2})  # before its beginning is known
        yield begun(job)
        yield begun(job)
        yield done(job)

    assert len(carried(script, [toy.job(0)])[1].records) == 1 and names(folder, "running") == []


def test_lines_say_what_ended_and_how_long_is_left(carried: Any) -> None:
    lost = iter([True, *[False] * 9])
    said: list[str] = []

    def script(job: Job) -> Iterator[Word]:
        yield begun(job)
        yield died(job) if next(lost) else done(job)

    carried(script, [toy.job(number) for number in range(4)], Lines(said.append))
    assert said == [
        "4 runs",
        "0 of 4: plain, seed 0: its process was killed; the run begins again",
        "1 of 4: plain, seed 1: finished in 1.0 s; about 2.0 s left",  # three are left, for two at once
        "2 of 4: plain, seed 2: finished in 1.0 s; about 1.0 s left",
        "3 of 4: plain, seed 3: finished in 1.0 s; about 1.0 s left",
        "4 of 4: plain, seed 0: finished in 1.0 s",
    ]


def test_bars_show_every_run_under_way() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120, _environ={})
    with bars(console) as reporter:
        reporter.begin(runs=4, finished=1)
        for number in range(10):
            reporter.start(str(number), f"cbam[{number}], seed 0")
        reporter.tell("0", {"epoch": 3, "epochs": 5, "said": "validation accuracy 50.0%"})
        reporter.tell("gone", {"epoch": 1, "epochs": 1})
        reporter.left(200.0)
        shown = [task for task in reporter._bars.tasks if task.visible]
        assert [task.description for task in shown[1:]] == [f"cbam[{number}], seed 0" for number in range(8)]
        assert (shown[0].completed, shown[0].fields["note"]) == (1, "about 3 min left")
        assert (shown[1].completed, shown[1].total, shown[1].fields["note"]) == (3, 5, "validation accuracy 50.0%")
        reporter.end("0", "finished", done=True)
        reporter.end("1", "cbam[1] was lost", done=False)
        visible = [task.description for task in reporter._bars.tasks if task.visible]
        assert visible[0] == "runs" and len(visible) == 9 and visible[-1].startswith("cbam[9]")
        assert reporter._bars.tasks[0].completed == 2
    assert "cbam[1] was lost" in console.file.getvalue()
