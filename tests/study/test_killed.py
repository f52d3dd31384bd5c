"""Studies that are interrupted, killed, damaged or out of disk: no finished run is lost, repeated or changed."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from foveate.errors import FoveateError
from foveate.study.asked import Asked
from foveate.study.compare import compare
from foveate.study.folder import Folder, load
from foveate.study.progress import Silent
from tests.study import small_study, tiny

# what depends on when and where a run was
TIMES = ("seconds", "started", "finished", "conditions", "where", "digest", "maps")


def numbers(run: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in run.items() if name not in TIMES}


def stamps(out: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (out / "runs").glob("*.json")}


def study(out: Path, **more: Any) -> Any:
    return compare(**{"data": tiny.data(), "attention": ("se",), "seeds": 2, "asked": tiny.EPOCH, **more}, out=out)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.unseen(monkeypatch)


def test_a_second_call_trains_nothing_and_more_seeds_go_on(tmp_path: Path) -> None:
    class Counting(Silent):
        told: list[tuple[int, int]] = []  # noqa: RUF012

        def begin(self, runs: int, finished: int) -> None:
            self.told.append((runs, finished))

        def start(self, key: str, label: str) -> None:
            raise AssertionError(f"{label} ran again ({key})")

    first = study(tmp_path)
    before, cost = stamps(tmp_path), (tmp_path / "cost.json").stat().st_mtime_ns
    again = study(tmp_path, progress=Counting())
    assert Counting.told == [(4, 4)] and stamps(tmp_path) == before
    assert again.as_dict() == first.as_dict() and again.interrupted == ()
    assert (tmp_path / "cost.json").stat().st_mtime_ns == cost, "cost was measured again"
    assert json.loads((tmp_path / "comparison.json").read_text()) == json.loads(json.dumps(again.as_dict()))
    study(tmp_path, seeds=3)
    assert len(stamps(tmp_path)) == 6 and stamps(tmp_path).items() >= before.items()
    (tmp_path / "cost.json").write_text("{")
    assert study(tmp_path).rows == first.rows, "a damaged cost is measured again"


def test_a_study_gives_the_same_numbers_twice_wherever_it_runs(tmp_path: Path) -> None:
    for name in ("a", "b"):
        study(tmp_path / name, seeds=1, attention=("cbam",))
    one, other = (load(tmp_path / name) for name in ("a", "b"))
    assert [numbers(run) for run in one.runs] == [numbers(run) for run in other.runs]
    maps = [results.maps(one.runs[1]["key"])[0] for results in (one, other)]
    assert maps[0].keys() == maps[1].keys() and all(maps[0][name].equal(maps[1][name]) for name in maps[0])


def test_a_damaged_run_is_set_aside_and_run_again(tmp_path: Path) -> None:
    study(tmp_path)
    before, first = stamps(tmp_path), load(tmp_path).runs
    victim = tmp_path / "runs" / f"{first[2]['key']}.json"
    victim.write_text(victim.read_text().replace('"accuracy": 0.', '"accuracy": 0.9', 1))
    again = study(tmp_path)
    assert len(again.interrupted) == 1 and "was set aside and is run again" in again.interrupted[0]
    assert [numbers(run) for run in load(tmp_path).runs] == [numbers(run) for run in first]
    assert {path for path, stamp in stamps(tmp_path).items() if before[path] != stamp} == {victim}
    assert len(list((tmp_path / "aside").iterdir())) == 1


def test_an_interrupted_run_is_kept_apart_and_the_sentence_says_how_to_go_on(tmp_path: Path) -> None:
    class Impatient(Silent):
        runs = 0

        def start(self, *_: object) -> None:
            self.runs += 1

        def tell(self, key: str, note: Any) -> None:
            if self.runs == 2 and note["epoch"] == 1:
                raise KeyboardInterrupt

    asked = Asked(settings={"epochs": 2}, train_samples=64)
    with pytest.raises(KeyboardInterrupt, match=r"interrupted: 1 of 2 runs are finished .* the same command goes on"):
        study(tmp_path, seeds=1, asked=asked, progress=Impatient())
    assert len(stamps(tmp_path)) == 1 and list((tmp_path / "running").iterdir()) == []
    [note] = (tmp_path / "interrupted").iterdir()
    assert json.loads(note.read_text())["note"] | {"said": ""} == {"epoch": 1, "epochs": 2, "said": ""}
    sentence = "squeeze_excite, seed 0: cut off after 1 of 2 epochs, and run again from its beginning"
    assert study(tmp_path, seeds=1, asked=asked).interrupted == (sentence,)


def test_a_disk_that_fills_keeps_finished_runs_and_nothing_half(tmp_path: Path, monkeypatch: Any) -> None:
    finish = Folder.finish

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def filling(self: Folder, key: str, *rest: Any) -> Any:
        if stamps(tmp_path):
            patch.setattr(os, "fsync", full)
        return finish(self, key, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "finish", filling)
        with pytest.raises(FoveateError, match="the disk is full"):
            study(tmp_path, seeds=1)
    assert len(stamps(tmp_path)) == 1 and not list(tmp_path.rglob("*.tmp"))
    before = stamps(tmp_path)
    study(tmp_path, seeds=1)
    assert len(stamps(tmp_path)) == 2 and stamps(tmp_path).items() >= before.items()


def test_a_folder_that_cannot_be_is_said_before_training(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(FoveateError, match="is a file: choose another"):
        study(file / "results")


def killed_after(out: Path, runs: int, seconds: float) -> None:
    """Kill the program so many seconds after so many runs are finished."""
    with subprocess.Popen([sys.executable, small_study.__file__, str(out)], start_new_session=True) as program:
        deadline = time.monotonic() + 180
        while len(stamps(out)) < runs or not list((out / "running").glob("*.json")):
            assert program.poll() is None and time.monotonic() < deadline, "it ended before it could be killed"
            time.sleep(0.005)
        time.sleep(seconds)
        program.send_signal(signal.SIGKILL)
        assert program.wait() == -signal.SIGKILL


def check_resumed(out: Path, undisturbed: list[dict[str, Any]]) -> None:
    finished = stamps(out)
    noted = [path for path in (out / "running").glob("*.json") if not (out / "runs" / path.name).exists()]
    before = len(list((out / "interrupted").glob("*.json")))
    comparison = small_study.carry_out(out)
    assert stamps(out).items() >= finished.items(), "a finished run was repeated"
    assert len(list((out / "interrupted").glob("*.json"))) == before + len(noted) == len(comparison.interrupted)
    keys = [run["key"] for run in undisturbed]
    assert sorted(path.stem for path in stamps(out)) == sorted(keys) and len(set(keys)) == len(keys)
    assert list((out / "running").iterdir()) == [] and not list(out.rglob("*.tmp"))
    assert [numbers(run) for run in load(out).runs] == [numbers(run) for run in undisturbed]


@pytest.mark.slow
def test_killed_while_rates_are_chosen_and_started_again(tmp_path: Path) -> None:
    small_study.carry_out(tmp_path / "calm")
    undisturbed = load(tmp_path / "calm").runs
    assert [run["stage"] for run in undisturbed] == ["tuning"] * 4 + ["main"] * 4
    killed_after(tmp_path / "killed", 2, 0.0)
    assert 2 <= len(stamps(tmp_path / "killed")) < 8
    check_resumed(tmp_path / "killed", undisturbed)


@pytest.mark.slow
def test_killed_at_random_moments_and_started_again(tmp_path: Path) -> None:
    small_study.carry_out(tmp_path / "calm")
    undisturbed = load(tmp_path / "calm").runs
    chance = random.Random(7)
    for number in range(6):
        out = tmp_path / str(number)
        for least in sorted(chance.sample(range(7), 2)):
            killed_after(out, least, chance.uniform(0, 1))
        check_resumed(out, undisturbed)
