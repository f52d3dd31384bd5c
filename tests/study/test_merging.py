"""Runs of one study that several machines carried out come together, and runs that cannot be compared do not."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foveate.errors import FoveateError, OptionError
from foveate.files import write_atomically
from foveate.study import merging
from foveate.study.folder import Folder, load
from foveate.study.merging import merge
from foveate.study.reading import FORMAT
from tests.support import toy

JOBS = [toy.job(number, ("plain", "cbam")[number % 2], maps=number < 2) for number in range(6)]
WHERE = {"foveate": "0.1.0", "code": "a" * 16, "torch": "2.15.0", "host": "11111111", "cpu": "A", "threads": 2}


def made(path: Path, numbers: Any, where: dict[str, Any] | None = None, **study: Any) -> Path:
    """A folder in which these of the study's runs are finished."""
    folder = Folder(path)
    with folder.alone():
        runs = [{"arm": job.arm, "seed": job.payload["number"], "key": job.key} for job in JOBS]
        described = {
            "shared": {"torch": "2.15.0", "fingerprint": "f" * 16},
            "data": {"report": str(path)},
            "places": {"data": str(path / "pictures")},  # each machine has them somewhere else
            "seeds": [0],
        }
        folder.open_study({"kind": "foveate study", "written": str(path), **described, "runs": runs, **study})
        for number in numbers:
            job = JOBS[number]
            record = {
                "format": FORMAT,
                "kind": "foveate run",
                "key": job.key,
                "config": job.payload,
                "square": number**2,
            }
            seconds = {**WHERE, **(where or {}), "seconds": number}
            folder.finish(job.key, {**record, "where": seconds}, toy.tensors() if job.maps else None)
    return path


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    return made(tmp_path / "a", [0, 2, 4]), made(tmp_path / "b", [1, 3], {"host": "22222222", "cpu": "B", "threads": 2})


def files_of(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*.*") if file.name != ".lock"}


def test_runs_come_together_as_they_are(two: tuple[Path, Path], tmp_path: Path) -> None:
    before = [files_of(path) for path in two]
    merged = merge(two, tmp_path / "c")
    assert (merged.runs, merged.finished, merged.added) == (6, 5, 5)
    assert merged.lines() == [
        f"5 runs came into '{tmp_path / 'c'}', where 5 of 6 runs are finished now",
        "machines: 11111111 and 22222222",
        "cpu: A and B",
    ]
    runs = load(tmp_path / "c")
    assert [run["square"] for run in runs.runs] == [0, 1, 4, 9, 16]
    runs.maps(JOBS[0].key), runs.maps(JOBS[1].key)
    for path, there in zip(two, before, strict=True):
        assert files_of(path) == there, "the folders are left as they are"
        for name, content in there.items():
            if name.startswith(("runs", "maps")):
                assert (tmp_path / "c" / name).read_bytes() == content


def test_merging_again_changes_nothing(two: tuple[Path, Path], tmp_path: Path) -> None:
    into = tmp_path / "c"
    merge(two, into)
    times = {path: path.stat().st_mtime_ns for path in into.rglob("*.*") if path.name != ".lock"}
    (into / "report.html").write_text("made from these runs")
    assert merge([*two, *two, into, tmp_path / "a" / ".." / "c"], into).added == 0
    assert {path: path.stat().st_mtime_ns for path in times} == times and (into / "report.html").exists()
    other = made(tmp_path / "d", [5])
    assert merge([other], into).finished == 6, "what is in the folder counts"
    assert not (into / "report.html").exists(), "it is not made from these runs any more"


def test_one_of_the_folders_may_take_the_others_in(two: tuple[Path, Path]) -> None:
    merged = merge(two, two[0])
    assert (merged.added, merged.finished) == (2, 5)
    assert merge([two[1]], two[0]).added == 0


def refused(folders: Any, into: Path) -> str:
    before = files_of(into) if into.exists() else {}
    with pytest.raises(FoveateError) as raised:
        merge(folders, into)
    assert files_of(into) == before, "nothing was written"
    return str(raised.value)


def test_two_results_of_one_run_are_refused(two: tuple[Path, Path], tmp_path: Path) -> None:
    other = made(tmp_path / "d", [2], {"threads": 4})
    sentence = refused([*two, other], tmp_path / "c")
    assert f"run {JOBS[2].key} (plain, seed 2) has one result in '{two[0]}' and another in '{other}'" in sentence
    merge(two, tmp_path / "c")
    assert "another in" in refused([other], tmp_path / "c")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("torch", "2.14.0", "torch was 2.15.0 in the first and 2.14.0 in the second"),
        ("foveate", "0.2.0", "foveate was 0.1.0 in the first and 0.2.0 in the second"),
        (
            "code",
            "b" * 16,
            f"the fingerprint of foveate's sources was {'a' * 16} in the first and {'b' * 16} in the second",
        ),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(name: str, value: str, said: str, tmp_path: Path) -> None:
    one, other = made(tmp_path / "a", [0]), made(tmp_path / "b", [1], {name: value})
    sentence = refused([one, other], tmp_path / "c")
    assert sentence.startswith(f"runs of '{one}' and '{other}' cannot be compared: {said}")


@pytest.mark.parametrize(
    ("study", "said"),
    [
        ({"shared": {"torch": "2.15.0", "fingerprint": "0" * 16}}, f"fingerprint is {'f' * 16} in the first and 00"),
        (
            {"shared": {"torch": "2.14.0", "fingerprint": "f" * 16}, "runs": []},
            "torch is 2.15.0 in the first and 2.14.0",
        ),
        ({"seeds": [0, 1]}, r"seeds is [0] in the first and [0, 1] in the second"),
        ({"quick": True}, "quick is None in the first and True in the second"),
        ({"runs": []}, "runs is [{'arm'"),
    ],
)
def test_another_study_is_refused(study: dict[str, Any], said: str, tmp_path: Path) -> None:
    one, other = made(tmp_path / "a", [0]), made(tmp_path / "b", [], **study)
    sentence = refused([one, other], tmp_path / "c")
    assert sentence.startswith(f"'{one}' and '{other}' hold two studies, whose runs cannot be compared: ")
    assert said in sentence


def test_what_is_damaged_or_no_study_is_refused(two: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "'" + str(tmp_path / "empty") + "' holds no study" in refused([two[0], tmp_path / "empty"], tmp_path / "c")
    file = two[1] / "runs" / f"{JOBS[1].key}.json"
    file.write_text(file.read_text().replace('"square": 1', '"square": 2'))
    assert "was changed after it was written" in refused(two, tmp_path / "c")
    (two[0] / "maps" / f"{JOBS[0].key}.safetensors").write_bytes(b"")
    assert "safetensors' was changed after" in refused(two, tmp_path / "c")
    with pytest.raises(OptionError, match="nothing to merge"):
        merge([], tmp_path / "c")


def test_what_was_cut_off_or_failed_stays_known(two: tuple[Path, Path], tmp_path: Path) -> None:
    for path, number in ((two[0], 0), (two[1], 0), (two[1], 5)):
        folder = Folder(path)
        folder.begin(JOBS[number].key, {"label": JOBS[number].label, "note": {}, "started": str(path)})
        (path / "interrupted").mkdir(exist_ok=True)
        (path / "running" / f"{JOBS[number].key}.json").rename(path / "interrupted" / f"{JOBS[number].key}-1.json")
    Folder(two[1]).fail(JOBS[5].key, {"sentence": "no data"})
    Folder(two[1]).fail(JOBS[0].key, {"sentence": "no data"})
    for _ in range(2):
        merge(two, tmp_path / "c")
    into = Folder(tmp_path / "c")
    assert len(into.interruptions([JOBS[0].key])) == 2 and len(into.interruptions([JOBS[5].key])) == 1
    assert [path.stem for path in (tmp_path / "c" / "failed").iterdir()] == [JOBS[5].key], "the other is finished"


def killing(left: int) -> Callable[..., None]:
    """Writing that is killed in the middle of a file, after so many whole ones."""
    whole = iter(range(left))

    def write(path: Path, content: bytes, **options: Any) -> None:
        if next(whole, None) is None:
            path.with_name(f".{path.name}.1.tmp").write_bytes(content[: len(content) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        write_atomically(path, content, **options)

    return write


def test_killed_in_the_middle_it_goes_on(
    two: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "whole"
    merge(two, whole)
    into = tmp_path / "c"
    if (child := os.fork()) == 0:
        monkeypatch.setattr(merging, "write_atomically", killing(3))
        merge(two, into)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert 0 < len(load(into).runs) < 5, "what is there is whole"
    assert merge(two, into).finished == 5
    assert files_of(into) == files_of(whole)
