"""Results of one study that were made in several folders, in one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foveate.errors import FoveateError, OptionError
from foveate.files import write_atomically, writing
from foveate.study.counting import counted
from foveate.study.earlier import REPORT
from foveate.study.folder import Folder, free_name
from foveate.study.reading import read_json, read_maps, read_run

# of `where` a run was carried out: what its numbers must not differ by, and what is only told
EQUAL = ("foveate", "code", "torch")
TOLD = ("host", "cpu", "cores", "threads", "os", "python")
# what a study's description says of how it was made, and not of what it is
ASIDE = ("written", "report", "places", "request")
DERIVED = ("comparison.json", *REPORT)  # made from the runs, so no longer true of them


@dataclass(frozen=True)
class Merged:
    """What a merge did.

    Attributes:
        into: The folder.
        runs: How many runs the study has.
        finished: How many of them are finished in the folder now.
        added: How many came in.
        differences: What the runs' machines differ by, and may, in words.
    """

    into: Path
    runs: int
    finished: int
    added: int
    differences: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        told = {name: getattr(self, name) for name in ("runs", "finished", "added")}
        return {"into": str(self.into), **told, "differences": list(self.differences)}

    def lines(self) -> list[str]:
        """The same in sentences."""
        came = f"{counted(self.added, 'run')} came into '{self.into}'"
        first = f"{came}, where {self.finished} of {counted(self.runs, 'run')} are finished now"
        return [first, *self.differences]


@dataclass
class _Source:
    """A folder that runs come from, all read and believed."""

    path: Path
    study: dict[str, Any]
    runs: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])


def merge(folders: Sequence[str | Path], into: str | Path) -> Merged:
    """Bring runs of one study together, which were carried out in several folders, on whatever machines.

    All is read and compared before anything is written, and every file is whole or not there: what was cut off is
    merged again, and what was merged already changes nothing. The folders are left as they are. What was derived from
    fewer runs (table and report) is taken away.

    Args:
        folders: Where runs are.
        into: Where they come together: a new folder, one of the same study, or one of these.

    Returns:
        What came together, and what the machines differed by.

    Raises:
        OptionError: If there are no folders.
        FoveateError: If a folder holds no study or a damaged run, if they are not of one study or not of one kind of
            machine as far as it matters, if a run has two results, or the folder cannot be written to.
    """
    if not folders:
        raise OptionError("there is nothing to merge: name the folders that hold the study's runs")
    target = Folder(Path(into))
    own = target.path.resolve()
    paths = {Path(folder).resolve(): Path(folder) for folder in folders}
    with target.alone():
        if (own / "study.json").exists() and own not in paths:
            paths = {own: target.path, **paths}
        sources = [_read(path) for path in paths.values()]
        for source in sources[1:]:
            _check_study(sources[0], source)
        found = _collect(sources)
        differences = _check_machines(found)
        here = {key for source in sources if source.path.resolve() == own for key in source.runs}
        if not (target.path / "study.json").exists():
            target.write("study.json", sources[0].study)
        for key, (path, record) in found.items():
            if key not in here:
                _copy(path, target.path, key, record)
        _copy_notes(sources, target, set(found))
        if found.keys() - here:
            with writing(target.path):
                for name in DERIVED:
                    (target.path / name).unlink(missing_ok=True)
    return Merged(target.path, len(sources[0].study["runs"]), len(found), len(found.keys() - here), tuple(differences))


def _read(path: Path) -> _Source:
    study = read_json(path / "study.json")
    if study is None or not isinstance(study.get("runs"), list):
        raise FoveateError(f"'{path}' holds no study: its runs cannot be merged")
    source = _Source(path, study)
    for entry in study["runs"]:
        key = entry["key"]
        try:
            record = read_run(path, key)
        except FileNotFoundError:
            continue
        if record["maps"] is not None:
            read_maps(path, record)
        source.runs[key] = record
    return source


def _check_study(first: _Source, other: _Source) -> None:
    """Refuse another study, by the first thing that is not the same."""
    between = f"'{first.path}' and '{other.path}' hold two studies, whose runs cannot be compared"
    first_design, other_design = _design(first.study), _design(other.study)
    for name in sorted({*first_design, *other_design}, key=lambda name: (name == "runs", "shared" not in name, name)):
        mine, theirs = first_design.get(name), other_design.get(name)
        if mine != theirs:
            what = f"{name.removeprefix('shared ')} is {_shown(mine)} in the first and {_shown(theirs)} in the second"
            raise FoveateError(f"{between}: {what}")


def _design(study: dict[str, Any]) -> dict[str, Any]:
    """What a study is, a table of values in it as its values."""
    flat: dict[str, Any] = {}
    for name, value in study.items():
        if name in ASIDE:
            continue
        inner = {f"{name} {key}": one for key, one in value.items() if key not in ASIDE} if _table(value) else {}
        flat |= inner if _table(value) else {name: value}
    return flat


def _table(value: Any) -> bool:
    return isinstance(value, dict)


def _collect(sources: Sequence[_Source]) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Every finished run and the folder that has it, in the order of the study."""
    found: dict[str, tuple[Path, dict[str, Any]]] = {}
    for entry in sources[0].study["runs"]:
        key = entry["key"]
        for source in sources:
            record = source.runs.get(key)
            if record is None:
                continue
            path, before = found.setdefault(key, (source.path, record))
            if before["digest"] != record["digest"]:
                raise FoveateError(
                    f"run {key} ({label_of(entry)}) has one result in '{path}' and another in '{source.path}': "
                    f"one counts; move runs/{key}.json out of one of them, and merge again"
                )
    return found


def _check_machines(found: dict[str, tuple[Path, dict[str, Any]]]) -> list[str]:
    """Refuse runs whose numbers cannot be compared; say what else differs."""
    values: dict[str, dict[str, Path]] = {}
    for path, record in found.values():
        for name in (*EQUAL, *TOLD):
            value = record.get("where", {}).get(name)
            if value is not None:
                values.setdefault(name, {}).setdefault(str(value), path)
    for name in EQUAL:
        if len(values.get(name, {})) > 1:
            (one, here), (two, there) = list(values[name].items())[:2]
            what = "the fingerprint of foveate's sources" if name == "code" else name
            raise FoveateError(
                f"runs of '{here}' and '{there}' cannot be compared: {what} was {one} in the first and {two} in the "
                "second; carry one of them out again with what the other had"
            )
    words = {"host": "machines"}
    return [f"{words.get(name, name)}: " + " and ".join(values[name]) for name in TOLD if len(values.get(name, {})) > 1]


def _copy(source: Path, target: Path, key: str, record: dict[str, Any]) -> None:
    """A run, its maps first, as the bytes that they are."""
    if record["maps"] is not None:
        name = f"maps/{key}.safetensors"
        write_atomically(target / name, (source / name).read_bytes())
    write_atomically(target / "runs" / f"{key}.json", (source / "runs" / f"{key}.json").read_bytes())


def _copy_notes(sources: Sequence[_Source], target: Folder, finished: set[str]) -> None:
    """What was cut off anywhere stays known, and so does what failed and is not finished."""
    keys = {entry["key"] for entry in sources[0].study["runs"]}
    kept = target.path / "interrupted"
    for source in sources:
        if source.path.resolve() == target.path.resolve():
            continue
        for note in sorted((source.path / "interrupted").glob("*-*.json")):
            key, content = note.stem.rpartition("-")[0], note.read_bytes()
            if key in keys and not any(other.read_bytes() == content for other in kept.glob(f"{key}-*.json")):
                write_atomically(free_name(kept, f"{key}-{{}}.json"), content)
        for note in sorted((source.path / "failed").glob("*.json")):
            if note.stem in keys - finished:
                write_atomically(target.path / "failed" / note.name, note.read_bytes())
    with writing(target.path):
        for key in finished:
            (target.path / "failed" / f"{key}.json").unlink(missing_ok=True)


def label_of(entry: dict[str, Any]) -> str:
    """What a person calls a run that a study names."""
    return entry.get("label") or f"{entry.get('arm')}, seed {entry.get('seed')}"


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
