"""One run after another, in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from foveate.study.execution import UnfinishedError, carry_out
from foveate.study.execution.where import Versions
from foveate.study.folder import Folder
from foveate.study.progress import Silent
from tests.support import toy


class Impatient(Silent):
    """Presses Ctrl-C when so many words were heard."""

    def __init__(self, words: int) -> None:
        self.words = words

    def tell(self, *_: Any) -> None:
        self.words -= 1
        if self.words == 0:
            raise KeyboardInterrupt


def carried(path: Path, jobs: Any, reporter: Any = None, **options: Any) -> Any:
    folder = Folder(path / "out")
    with folder.alone():
        return carry_out(jobs, folder, work=toy.WORK, reporter=reporter or Silent(), **options)


def begun(path: Path) -> list[str]:
    lines = (path / "ledger").read_text().splitlines()
    return [line.split()[1] for line in lines if line.startswith("begin")]


def test_every_run_is_carried_out_once_and_says_where(tmp_path: Path) -> None:
    jobs = toy.study(tmp_path / "ledger", 3, maps=True)
    first = carried(tmp_path, jobs)
    assert [record["square"] for record in first.records] == [0, 1, 4]
    again = carried(tmp_path, [*jobs, *toy.study(tmp_path / "ledger", 4, maps=True)[3:]])
    assert again.records[:3] == first.records and begun(tmp_path) == ["0", "1", "2", "3"]
    here = Versions.here()
    for record in again.records:
        where = record["where"]
        assert (where["foveate"], where["code"], where["torch"]) == (here.foveate, here.code, here.torch)
        assert where["threads"] == torch.get_num_threads() and where["seconds"] > 0
        assert record["maps"] is not None


def test_threads_are_as_asked_and_afterwards_as_before(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    record = carried(tmp_path, [toy.job(0)], threads=before + 1).records[0]
    assert record["where"]["threads"] == before + 1 and torch.get_num_threads() == before


def test_what_cannot_be_done_fails_and_the_rest_goes_on(tmp_path: Path) -> None:
    jobs = [toy.job(0, refuses=True), toy.job(1, breaks=True), toy.job(2, allocates=True), toy.job(3)]
    with pytest.raises(UnfinishedError) as raised:
        carried(tmp_path, jobs)
    assert [record["square"] for record in raised.value.finished.values()] == [9]
    refused, broken, large = (raised.value.failed[job.key] for job in jobs[:3])
    assert refused == "plain, seed 0: the data of run 0 is not here: copy it to this machine"
    assert broken.startswith("plain, seed 1: ZeroDivisionError: by design, in toy.py, line ")
    assert large.startswith("plain, seed 2: there was not enough memory for it")
    assert str(tmp_path) not in (tmp_path / "out" / "failed" / f"{jobs[1].key}.json").read_text(), "no folder is named"


def test_ctrl_c_keeps_what_is_finished(tmp_path: Path) -> None:
    jobs = toy.study(tmp_path / "ledger", 4)
    with pytest.raises(KeyboardInterrupt) as raised:
        carried(tmp_path, jobs, Impatient(3))
    assert str(raised.value) == (
        f"interrupted: 2 of 4 runs are finished and kept in '{tmp_path / 'out'}'; the same command goes on from there"
    )
    assert [path.parent.name for path in (tmp_path / "out").rglob(f"{jobs[2].key}*")] == ["interrupted"]
    result = carried(tmp_path, jobs)
    assert begun(tmp_path) == ["0", "1", "2", "2", "3"]
    assert result.notes == ["plain, seed 2: cut off after 1 of 2 epochs, and run again from its beginning"]
