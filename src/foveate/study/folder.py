"""A folder of results: which file is where, and which of them may be believed.

==========================  =====================================================================
``study.json``              what is compared, and the keys of its runs in order
``cost.json``               parameters, MACs and latency of each arm
``comparison.json``         the table
``report.html``             the page to look at
``report.md``               the same as text
``rows.csv``                the rows of the table for a program
``runs/KEY.json``           one finished run, named by its configuration
``maps/KEY.safetensors``    what the first seed of each arm attended to
``running/KEY.json``        a run under way
``interrupted/KEY-N.json``  a run that was cut off
``failed/KEY.json``         a run that could not be carried out, and why
``aside/``                  files that were damaged or not what their name says
==========================  =====================================================================
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save as save_tensors
from torch import Tensor

from foveate.errors import FoveateError
from foveate.files import HALF_WRITTEN, locked, write_atomically, writing
from foveate.study.counting import counted
from foveate.study.earlier import RESULTS, keep_apart, keys_of
from foveate.study.plain import digest
from foveate.study.reading import read_json, read_maps, read_run


@dataclass(frozen=True)
class Folder:
    """A folder of results, to write to.

    Attributes:
        path: Where it is.
    """

    path: Path

    @contextmanager
    def alone(self) -> Generator[None]:
        """Work on it alone, without what a killed process left half written.

        Raises:
            FoveateError: If another process works on it, or it cannot be written to.
        """
        with locked(self.path, self.path / ".lock"):
            with writing(self.path):
                for place in (self.path, *(self.path / name for name in ("runs", "maps", "running", "failed"))):
                    for rest in place.glob(".*.tmp"):
                        if HALF_WRITTEN.fullmatch(rest.name):
                            rest.unlink(missing_ok=True)
            yield

    def write(self, name: str, value: Mapping[str, Any]) -> None:
        """Write plain values as JSON.

        Raises:
            FoveateError: If they cannot be written.
        """
        write_atomically(self.path / name, _text(value))

    def open_study(self, value: Mapping[str, Any]) -> Path | None:
        """Write down what is compared, and take away the results of another study: they would pass for this one's.

        Results of a study that this one does not go on with are kept, with its design, in a folder of their own; its
        runs stay where they are.

        Returns:
            Where they are kept; ``None`` if there were none.

        Raises:
            FoveateError: If it cannot be written.
        """
        try:
            before = read_json(self.path / "study.json")
        except FoveateError:
            before = None
        kept = None
        if before is None or before.get("runs") != value["runs"]:
            with writing(self.path):
                if before is not None and not keys_of(before) <= keys_of(value):
                    kept = keep_apart(self.path)
                for name in RESULTS:
                    (self.path / name).unlink(missing_ok=True)
        self.write("study.json", value)
        return kept

    def begins_with(self, keys: Iterable[str]) -> bool:
        """Whether the study that is written down begins with these runs."""
        try:
            before = read_json(self.path / "study.json") or {}
        except FoveateError:
            return False
        wanted = list(keys)
        return [run.get("key") for run in before.get("runs", [])[: len(wanted)]] == wanted

    def begin(self, key: str, value: Mapping[str, Any]) -> None:
        """Note that a run is under way, and how far it is."""
        write_atomically(self._running(key), _text(value), durable=False)

    def finish(self, key: str, value: Mapping[str, Any], maps: bytes | None) -> dict[str, Any]:
        """Write a finished run, its maps first, and take its note away.

        Returns:
            The run as it stands in its file.

        Raises:
            FoveateError: If it cannot be written.
        """
        record = dict(value)
        record["maps"] = None
        if maps is not None:
            name = f"maps/{key}.safetensors"
            write_atomically(self.path / name, maps)
            record["maps"] = {"file": name, "sha256": hashlib.sha256(maps).hexdigest()}
        record["digest"] = digest(record)
        self.write(f"runs/{key}.json", record)
        with writing(self.path):
            self._running(key).unlink(missing_ok=True)
            self._failed(key).unlink(missing_ok=True)
        return record

    def fail(self, key: str, value: Mapping[str, Any]) -> None:
        """Write down why a run could not be carried out, and take its note away.

        Raises:
            FoveateError: If it cannot be written.
        """
        write_atomically(self._failed(key), _text(value))
        with writing(self.path):
            self._running(key).unlink(missing_ok=True)

    def interrupt(self, key: str) -> None:
        """Keep the note of a run that was cut off apart from those that count, if there is one.

        Raises:
            FoveateError: If the note cannot be moved.
        """
        note = self._running(key)
        with writing(self.path):
            if not note.exists():
                return
            if (self.path / "runs" / note.name).exists():  # cut off after its last step
                note.unlink()
            else:
                note.replace(free_name(self.path / "interrupted", f"{key}-{{}}.json"))

    def interruptions(self, keys: Iterable[str]) -> list[str]:
        """What was cut off of these runs, whenever that was, in sentences."""
        kept = self.path / "interrupted"
        return [_cut_off(note) for key in keys for note in sorted(kept.glob(f"{key}-*.json"), key=_number)]

    def under_way(self) -> list[str]:
        """The keys of runs that are noted as under way: with the folder to oneself, those that were cut off."""
        return sorted(note.stem for note in (self.path / "running").glob("*.json"))

    def finished(self, key: str, *, maps: bool) -> tuple[dict[str, Any] | None, str | None]:
        """A finished run that can be believed.

        Args:
            key: Which.
            maps: Whether it must have maps.

        Returns:
            The run, if there is one, and a sentence, if there was one that had to be set aside.

        Raises:
            FoveateError: If a damaged file cannot be moved.
        """
        path = self.path / "runs" / f"{key}.json"
        try:
            record = read_run(self.path, key)
            if maps and record["maps"] is None:
                raise FoveateError("it has no maps")
            if record["maps"] is not None:
                read_maps(self.path, record)
        except FileNotFoundError:
            return None, None
        except FoveateError as error:
            with writing(self.path):
                path.replace(free_name(self.path / "aside", f"{key}-{{}}.json"))
            return None, f"runs/{path.name} was set aside and is run again: {error}"
        return record, None

    def _running(self, key: str) -> Path:
        return self.path / "running" / f"{key}.json"

    def _failed(self, key: str) -> Path:
        return self.path / "failed" / f"{key}.json"


@dataclass(frozen=True)
class Results:
    """A folder of results, to read.

    Attributes:
        path: Where it is.
        study: What is compared.
        cost: What each arm costs; ``None`` until it was measured.
        comparison: The table; ``None`` until all runs are finished.
        runs: The finished runs of this study, in its order.
    """

    path: Path
    study: dict[str, Any]
    cost: dict[str, Any] | None
    comparison: dict[str, Any] | None
    runs: list[dict[str, Any]]

    def maps(self, key: str) -> tuple[dict[str, Tensor], list[dict[str, Any]], dict[str, str]]:
        """What a run attended to: tensors by name, what each of them is, and all metadata.

        Raises:
            FoveateError: If the run has no maps, or they are damaged.
        """
        record = next((run for run in self.runs if run["key"] == key), None)
        if record is None or record["maps"] is None:
            raise FoveateError(f"run {key} has no maps: the first seed of each arm has")
        tensors, metadata = read_maps(self.path, record)
        return tensors, json.loads(metadata["maps"]), metadata


def load(out: Path) -> Results:
    """Read a folder of results.

    Raises:
        FoveateError: If there is no study in it, or a file of it is damaged.
    """
    study = read_json(out / "study.json")
    if study is None:
        raise FoveateError(f"'{out}' holds no study: run `foveate compare` into it first")
    runs: list[dict[str, Any]] = []
    for entry in study["runs"]:
        try:
            runs.append(read_run(out, entry["key"]))
        except FileNotFoundError:
            continue
    return Results(out, study, read_json(out / "cost.json"), read_json(out / "comparison.json"), runs)


def maps_bytes(tensors: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    """Tensors and metadata as the content of a safetensors file."""
    # the format refuses tensors that share memory, such as a picture that is also what was seen
    return save_tensors({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, metadata)


def _text(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False).encode()


def _cut_off(note: Path) -> str:
    try:
        begun = json.loads(note.read_bytes())
        if "label" in begun:
            return f"{begun['label']}: cut off{_after(begun['note'])}, and run again from its beginning"
        who = f"{begun['arm']}, seed {begun['seed']}"
        done, all_of_them = len(begun["curves"]["epoch"]), begun["config"]["epochs"]
    except (OSError, ValueError, KeyError, TypeError):
        return f"a run was cut off, and run again from its beginning; interrupted/{note.name} cannot be read"
    return f"{who}: cut off after {done} of {counted(all_of_them, 'epoch')}, and run again from its beginning"


def _after(said: Mapping[str, Any]) -> str:
    if "epoch" not in said or "epochs" not in said:
        return ""
    return f" after {said['epoch']} of {counted(said['epochs'], 'epoch')}"


def _number(note: Path) -> int:
    return int(note.stem.rpartition("-")[2])


def free_name(folder: Path, pattern: str) -> Path:
    """The first name of a pattern that is not taken."""
    folder.mkdir(parents=True, exist_ok=True)
    number = 1
    while (path := folder / pattern.format(number)).exists():
        number += 1
    return path
