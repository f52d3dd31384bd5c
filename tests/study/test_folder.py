"""Only files that are what their names say are believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from foveate.errors import FoveateError
from foveate.study.folder import Folder, load, maps_bytes
from foveate.study.plain import digest
from foveate.study.reading import FORMAT, read_run

CONFIG = {"seed": 0, "epochs": 3, "learning_rate": 0.1}
KEY = digest(CONFIG)[:16]
RUN = {
    "format": FORMAT,
    "kind": "foveate run",
    "key": KEY,
    "arm": "cbam",
    "seed": 0,
    "config": CONFIG,
    "curves": {"epoch": [1]},
    "test": {"accuracy": 1 / 3, "loss": None},
}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def maps() -> bytes:
    return maps_bytes({"gate/a//": torch.arange(3.0)}, {"maps": "[]", "key": KEY})


def file_of(folder: Folder) -> Path:
    return folder.path / "runs" / f"{KEY}.json"


def test_a_run_comes_back_as_it_was(folder: Folder) -> None:
    written = folder.finish(KEY, RUN, None)
    assert folder.finished(KEY, maps=False) == (written, None)
    assert {name: written[name] for name in RUN} == RUN


def test_maps_come_back_as_they_were(folder: Folder) -> None:
    folder.finish(KEY, RUN, maps())
    folder.write("study.json", {"runs": [{"key": KEY}]})
    tensors, entries, metadata = load(folder.path).maps(KEY)
    assert tensors["gate/a//"].tolist() == [0, 1, 2] and entries == [] and metadata["key"] == KEY


def test_there_is_no_run_before_it_is_finished(folder: Folder) -> None:
    folder.begin(KEY, RUN)
    assert folder.finished(KEY, maps=False) == (None, None)
    assert folder.under_way() == [KEY]
    folder.finish(KEY, RUN, None)
    assert folder.under_way() == []


def edited(text: str) -> str:
    return text.replace("0.3333333333333333", "0.9333333333333333")


def renamed(text: str) -> str:
    run = json.loads(text)
    run["config"]["epochs"] = 4
    run["digest"] = digest({name: value for name, value in run.items() if name != "digest"})
    return json.dumps(run)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda text: text[: len(text) // 2], "is damaged"),
        (lambda _: "", "is damaged"),
        (lambda text: "\0" * len(text), "is damaged"),
        (lambda _: "[]", "holds no table of values"),
        (lambda _: '{"kind": "something else"}', "is not a run of this version"),
        (lambda text: text.replace(f'"format": {FORMAT}', '"format": 1'), "is not a run of this version"),
        (lambda text: text.replace('"loss": null', '"loss": NaN'), "is damaged"),
        (edited, "was changed after it was written"),
        (renamed, "holds another run than its name says"),
    ],
)
def test_damaged_and_foreign_files_are_set_aside(damage: Any, why: str, folder: Folder) -> None:
    folder.finish(KEY, RUN, None)
    text = file_of(folder).read_text()
    file_of(folder).write_text(damage(text))
    assert file_of(folder).read_text() != text
    record, note = folder.finished(KEY, maps=False)
    assert record is None and note is not None
    assert note.startswith(f"runs/{KEY}.json was set aside and is run again: ") and why in note
    assert not file_of(folder).exists()
    assert [path.name for path in (folder.path / "aside").iterdir()] == [f"{KEY}-1.json"]


def test_what_was_set_aside_is_kept_however_often(folder: Folder) -> None:
    for _ in range(3):
        file_of(folder).parent.mkdir(exist_ok=True)
        file_of(folder).write_text("{")
        folder.finished(KEY, maps=False)
    assert len(list((folder.path / "aside").iterdir())) == 3


@pytest.mark.parametrize("damage", ["missing", "cut", "changed", "never there"])
def test_a_run_whose_maps_are_damaged_is_run_again(damage: str, folder: Folder) -> None:
    folder.finish(KEY, RUN, None if damage == "never there" else maps())
    file = folder.path / "maps" / f"{KEY}.safetensors"
    if damage == "missing":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:-4])
    elif damage == "changed":
        file.write_bytes(file.read_bytes()[:-4] + b"\1\2\3\4")
    record, note = folder.finished(KEY, maps=True)
    assert record is None and note is not None and "maps" in note
    # the same run is good enough where nobody needs its maps
    if damage == "never there":
        folder.finish(KEY, RUN, None)
        assert folder.finished(KEY, maps=False)[0] is not None


def test_an_interrupted_run_is_kept_apart(folder: Folder) -> None:
    for count in (1, 2):
        folder.begin(KEY, {**RUN, "curves": {"epoch": [1, 2]}})
        folder.interrupt(KEY)
        assert folder.under_way() == []
        sentence = "cbam, seed 0: cut off after 2 of 3 epochs, and run again from its beginning"
        assert folder.interruptions([KEY]) == [sentence] * count
    folder.interrupt(KEY)
    assert len(list((folder.path / "interrupted").iterdir())) == 2
    assert folder.interruptions(["0" * 16]) == [], "another study's"


def test_a_run_that_was_finished_just_before_is_not_interrupted(folder: Folder) -> None:
    folder.begin(KEY, RUN)
    folder.finish(KEY, RUN, None)
    folder.begin(KEY, RUN)  # killed between the last two steps of finishing
    folder.interrupt(KEY)
    assert folder.under_way() == [] and not (folder.path / "interrupted").exists()


def test_a_damaged_note_is_kept_apart_too(folder: Folder) -> None:
    folder.begin(KEY, RUN)
    (folder.path / "running" / f"{KEY}.json").write_text("{")
    folder.interrupt(KEY)
    (sentence,) = folder.interruptions([KEY])
    assert sentence.endswith(f"interrupted/{KEY}-1.json cannot be read")


def test_half_written_files_of_a_killed_process_are_removed(folder: Folder) -> None:
    rest = folder.path / "runs" / f".{KEY}.json.123.tmp"
    rest.parent.mkdir()
    rest.write_text("{")
    own = [folder.path / name for name in ("notes.tmp", ".notes.json.tmp", "deep/.a.json.1.tmp", ".a.docx.1.tmp")]
    for path in own:
        path.parent.mkdir(exist_ok=True)
        path.write_text("a person's own")
    with folder.alone():
        assert not rest.exists() and all(path.exists() for path in own)


def test_reading_skips_what_is_not_finished_and_refuses_what_is_damaged(folder: Folder) -> None:
    with pytest.raises(FoveateError, match="holds no study"):
        load(folder.path)
    folder.write("study.json", {"runs": [{"key": KEY}, {"key": "0" * 16}]})
    folder.finish(KEY, RUN, None)
    results = load(folder.path)
    assert [run["key"] for run in results.runs] == [KEY] and results.cost is None
    with pytest.raises(FoveateError, match="has no maps"):
        results.maps(KEY)
    file_of(folder).write_text(edited(file_of(folder).read_text()))
    with pytest.raises(FoveateError, match="was changed"):
        load(folder.path)


def test_a_missing_run_is_a_missing_file(folder: Folder) -> None:
    with pytest.raises(FileNotFoundError):
        read_run(folder.path, KEY)


def test_another_study_takes_away_results_that_are_not_its_own(folder: Folder) -> None:
    results = ("comparison.json", "cost.json", "report.html", "report.md", "rows.csv")

    def there() -> list[str]:
        return [name for name in results if (folder.path / name).exists()]

    folder.open_study({"runs": [{"key": KEY}], "quick": False})
    for name in results:
        folder.write(name, {})
    folder.open_study({"runs": [{"key": KEY}], "quick": True})
    assert there() == list(results)
    folder.finish(KEY, RUN, None)
    folder.open_study({"runs": [{"key": KEY}, {"key": "0" * 16}]})
    assert there() == [] and folder.finished(KEY, maps=False)[0] is not None
    folder.write("report.html", {})
    (folder.path / "study.json").write_text("{")
    folder.open_study({"runs": []})
    assert there() == []


def test_the_results_of_another_question_are_kept_apart(folder: Folder) -> None:
    assert folder.open_study({"runs": [{"key": "a"}], "n": 1}) is None
    folder.write("comparison.json", {"n": 1})
    folder.write("report.html", {})
    assert folder.open_study({"runs": [{"key": "a"}, {"key": "b"}]}) is None, "it goes on: what was there is its own"
    folder.write("comparison.json", {"n": 2})
    assert folder.open_study({"runs": [{"key": "c"}]}) == folder.path / "earlier" / "1"
    assert folder.open_study({"runs": [{"key": "d"}]}) is None, "nothing had come out"
    folder.write("comparison.json", {"n": 3})
    second = folder.open_study({"runs": [{"key": "a"}]})
    assert second == folder.path / "earlier" / "2"
    assert sorted(one.name for one in (folder.path / "earlier" / "1").iterdir()) == ["comparison.json", "study.json"]
    assert [run["key"] for run in json.loads((second / "study.json").read_text())["runs"]] == ["d"]
    assert json.loads((second / "comparison.json").read_text()) == {"n": 3}
    assert not (folder.path / "comparison.json").exists()


@pytest.mark.parametrize("moved", [0, 1, 2, 3])
def test_keeping_apart_goes_on_where_it_was_killed(moved: int, folder: Folder, monkeypatch: Any) -> None:
    folder.open_study({"runs": [{"key": "a"}]})
    for name in ("comparison.json", "report.html"):
        folder.write(name, {"of": "a"})
    replace, rename, count = Path.replace, Path.rename, []

    def killed(act: Any) -> Any:
        def step(self: Path, target: Path) -> Path:
            if ".half" in (self.name, target.parent.name):
                count.append(self)
                if len(count) > moved:
                    raise OSError("killed")
            return act(self, target)

        return step

    with monkeypatch.context() as patch, pytest.raises(FoveateError):
        patch.setattr(Path, "replace", killed(replace))
        patch.setattr(Path, "rename", killed(rename))
        folder.open_study({"runs": [{"key": "b"}]})
    folder.open_study({"runs": [{"key": "b"}]})
    folder.write("comparison.json", {"of": "b"})
    folder.open_study({"runs": [{"key": "c"}]})
    kept = [one for one in sorted((folder.path / "earlier").iterdir()) if (one / "comparison.json").exists()]
    assert [json.loads((one / "comparison.json").read_text())["of"] for one in kept] == ["a", "b"]
    assert [one.name for one in kept] == ["1", "2"] and (kept[0] / "report.html").exists()
