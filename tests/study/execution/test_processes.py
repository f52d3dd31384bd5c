"""Several processes of this machine; they are really killed, and so is the one that started them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from foveate.errors import FoveateError
from foveate.study.execution import UnfinishedError, carry_out, processes
from foveate.study.execution.where import Versions, lives, this_process
from foveate.study.folder import Folder
from foveate.study.progress import Silent
from tests.study.execution.test_here import Impatient, carried
from tests.support import toy


def ledger(path: Path) -> list[tuple[str, int, int]]:
    """What runs began and ended, and in which process."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [(what, int(number), int(pid)) for what, number, pid in (line.split() for line in lines)]


def wait_for(what: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def all_gone(pids: set[int]) -> bool:
    return not any(lives({**this_process(), "pid": pid, "began": began(pid)}) for pid in pids)


def began(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return "gone"


def test_processes_die_are_interrupted_and_nothing_is_lost_or_repeated(tmp_path: Path) -> None:
    """One test for what one start of processes can show: each takes seconds to import PyTorch."""
    book = tmp_path / "ledger"
    jobs = toy.study(book, 4, maps=True)
    jobs += [toy.job(10, dies=str(tmp_path / "mark"), ledger=str(book)), toy.job(11, refuses=True)]
    with pytest.raises(KeyboardInterrupt, match=r"interrupted: \d of 6 runs are finished and kept in"):
        carried(tmp_path, jobs, Impatient(3), on="1 process")
    wait_for(lambda: all_gone({pid for _, _, pid in ledger(book)}), 5)
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out" / "runs").iterdir()}
    assert kept
    with pytest.raises(UnfinishedError, match=r"1 of 6 runs could not be finished: plain, seed 11: the data of run 11"):
        carried(tmp_path, jobs, processes=2)
    files = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out" / "runs").iterdir()}
    assert files.keys() == {f"{job.key}.json" for job in jobs[:5]} and kept.items() <= files.items()
    ends = Counter(number for what, number, _ in ledger(book) if what == "end")
    assert ends[10] == 1 and set(ends) == {0, 1, 2, 3, 10}
    folder = Folder(tmp_path / "out")
    records = [folder.finished(job.key, maps=job.maps)[0] or {} for job in jobs[:5]]
    assert [record["square"] for record in records] == [0, 1, 4, 9, 100]
    cores = len(os.sched_getaffinity(0))
    for record in records:
        share = cores if f"{record['key']}.json" in kept else max(1, cores // 2)
        assert record["where"]["threads"] == share
    assert "plain, seed 10: cut off after 1 of 2 epochs" in str(folder.interruptions([jobs[4].key]))


def driver(out: Path, runs: int, seconds: float, on: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "tests.support.toy", str(out), str(runs), str(seconds), on])


def check_finished_here(out: Path, book: Path, runs: int, seconds: float) -> None:
    """Go on where it was cut off: what was finished stays, what was not is carried out, and nothing twice."""
    before = {path.name: path.read_bytes() for path in (out / "runs").glob("*.json")}
    for name in before:
        assert not name.startswith(".")
    count = Counter(number for what, number, _ in ledger(book) if what == "begin")
    folder = Folder(out)
    jobs = toy.first_at_once(book, runs, seconds)
    with folder.alone(), pytest.MonkeyPatch.context() as patch:
        patch.setenv(toy.HASTE, "1")
        result = carry_out(jobs, folder, work=toy.WORK, reporter=Silent())
    after = Counter(number for what, number, _ in ledger(book) if what == "begin")
    assert [record["square"] for record in result.records] == [number**2 for number in range(runs)]
    assert {path.name: path.read_bytes() for path in (out / "runs").iterdir()}.items() >= before.items()
    assert sum((after - count).values()) == runs - len(before), "only what was not finished was carried out"
    assert len(list((out / "runs").iterdir())) == runs and not list((out / "running").iterdir())


def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    out, book = tmp_path / "out", tmp_path / "out.ledger"
    process = driver(out, 4, 20.0, "1 process")
    wait_for(lambda: len(ledger(book)) == 3 and bool(list((out / "runs").glob("*.json"))))
    workers = {pid for _, _, pid in ledger(book)}
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: all_gone(workers), 5)  # in the middle of a run of 20 s
    assert process.pid not in workers
    check_finished_here(out, book, 4, 20.0)


@pytest.mark.slow
def test_killed_at_any_moment_nothing_is_lost_or_counted_twice(tmp_path: Path) -> None:
    out, book, chance = tmp_path / "out", tmp_path / "out.ledger", random.Random(0)
    for _ in range(6):
        process = driver(out, 12, 0.3, "2 processes")
        time.sleep(chance.uniform(1.5, 6.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
        wait_for(lambda: all_gone({pid for _, _, pid in ledger(book)}), 5)
    check_finished_here(out, book, 12, 0.3)


@pytest.mark.slow
def test_a_run_that_always_kills_its_process_fails_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(UnfinishedError) as raised:
        carried(tmp_path, [toy.job(0, always_dies=True), toy.job(1)], on="1 process", again=1)
    assert list(raised.value.failed.values()) == [
        "plain, seed 0: its process was killed (SIGKILL), as happens when memory runs out; its last words: the last "
        "thing it said (2 times)"
    ]
    assert len(raised.value.finished) == 1


@pytest.mark.slow
def test_a_process_of_other_versions_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Versions.here()
    other = Versions(here.foveate, here.code, "1.0.0")
    monkeypatch.setattr(processes, "Versions", type("Other", (), {"here": staticmethod(lambda: other)}))
    with pytest.raises(FoveateError, match=f"has torch {here.torch.split('+')[0]}.* in place of 1.0.0"):
        carried(tmp_path, [toy.job(0)], on="1 process")
    assert not list((tmp_path / "out").rglob("*.json"))
