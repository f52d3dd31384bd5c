"""How far a study is: every run is in one place, and what is said adds up."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from foveate.cli.studying import study as commands
from foveate.errors import FoveateError
from foveate.study.execution.where import this_process
from foveate.study.folder import Folder
from foveate.study.status import status
from tests.study.test_merging import JOBS, made


def begun(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


def note(number: int, driver: dict[str, Any], **said: Any) -> dict[str, Any]:
    return {"label": JOBS[number].label, "driver": driver, "started": begun(600), "told": begun(300), "note": said}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """One run finished in 4 s, one under way here, one elsewhere, one cut off, one failed, one left."""
    made(tmp_path, [4])
    folder = Folder(tmp_path)
    ended = subprocess.Popen(["true"])
    ended.wait()
    folder.begin(JOBS[0].key, note(0, this_process(), epoch=3, epochs=8))
    folder.begin(JOBS[1].key, note(1, {**this_process(), "host": "elsewhere"}))
    folder.begin(JOBS[2].key, note(2, {**this_process(), "pid": ended.pid}))
    folder.fail(JOBS[3].key, {"sentence": "no data"})
    return folder


def test_every_run_is_in_one_place(folder: Folder) -> None:
    before = sorted(folder.path.rglob("*"))
    found = status(folder.path)
    assert sorted(folder.path.rglob("*")) == before
    assert (found.runs, found.finished, len(found.under_way), found.left) == (6, 1, 2, 1)
    assert [run.lives for run in found.under_way] == [True, None]
    assert found.cut_off == ("plain, seed 2",) and found.failed == (("cbam, seed 3", "no data"),)
    assert found.seconds == 4
    # 4 s a run; both under way are overdue, and the two of them carry out three more
    assert found.seconds_left == 8
    assert found.lines() == [
        "1 of 6 runs are finished, in 4.0 s of training",
        "under way: plain, seed 0: for 10 min, epoch 3 of 8, last heard of 5 min ago",
        "under way: cbam, seed 1: for 10 min, last heard of 5 min ago, by another machine, which may be gone",
        "cut off: plain, seed 2; it begins again",
        "failed: cbam, seed 3: no data",
        "1 run not begun",
        "time left: about 8.0 s, 2 at once",
    ]


def test_nobody_works_on_it(tmp_path: Path) -> None:
    made(tmp_path, [])
    assert status(tmp_path).lines() == [
        "0 of 6 runs are finished, in 0.0 s of training",
        "6 runs not begun",
        "time left: nobody knows how long, one at a time; nobody works on it",
    ]
    assert status(made(tmp_path, range(6))).lines() == ["6 of 6 runs are finished, in 15 s of training"]
    with pytest.raises(FoveateError, match="holds no study"):
        status(tmp_path / "runs")


def test_what_is_damaged_is_said_and_counts_as_left(folder: Folder) -> None:
    (folder.path / "runs" / f"{JOBS[4].key}.json").write_text("{")
    (folder.path / "running" / f"{JOBS[0].key}.json").write_text("{")
    found = status(folder.path)
    assert (found.finished, found.left, found.seconds_left) == (0, 2, None)
    assert "is damaged" in found.notes[0] and "set aside and run again" in found.notes[0]
    assert found.under_way[0].seconds == 0 and found.under_way[0].lives is None


def test_the_commands_print_it(folder: Folder, tmp_path: Path) -> None:
    ran = CliRunner().invoke(commands, ["status", str(folder.path)])
    assert ran.exit_code == 0 and ran.stdout.splitlines() == status(folder.path).lines()
    told = json.loads(CliRunner().invoke(commands, ["status", str(folder.path), "--json"]).stdout)
    assert told["finished"] == 1 and told["failed"] == [{"run": "cbam, seed 3", "why": "no data"}]
    into = str(tmp_path / "into")
    ran = CliRunner().invoke(commands, ["merge", str(folder.path), "--into", into])
    assert ran.stdout == f"1 run came into '{into}', where 1 of 6 runs are finished now\n"
    ran = CliRunner().invoke(commands, ["merge", str(folder.path), "--into", into, "--json"])
    assert json.loads(ran.stdout) == {"into": into, "runs": 6, "finished": 1, "added": 0, "differences": []}
