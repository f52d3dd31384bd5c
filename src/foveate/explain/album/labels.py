"""What a person says is on images: names of folders, a table, or a folder of masks; all of it from outside."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foveate.data.decode import UnusableImageError, decode_ids
from foveate.data.report import shown
from foveate.errors import DataError, nearest
from foveate.explain.album.seen import Thing, Truth

LARGEST = 2**26  # bytes of a table of labels
IGNORED = 255  # in masks: pixels that belong to no class


class Labels:
    """What is known of files, by their names.

    Args:
        classes: What the network tells apart, as it numbers them.
        table: By a file's name, or by its path: a class by name or number, or things in boxes.
        masks: A folder of masks that are called like the images.
        folders: Whether the folder that an image is in names its class.
    """

    def __init__(
        self,
        classes: Sequence[str],
        table: Mapping[str, Any] | None = None,
        masks: Path | None = None,
        *,
        folders: bool = False,
    ) -> None:
        self.classes, self.table, self.masks, self.folders = tuple(classes), table, masks, folders

    @classmethod
    def read(cls, path: Path | None, classes: Sequence[str]) -> Labels:
        """From a file (.csv, .json) or a folder of masks; without one, folders name classes.

        Raises:
            DataError: If it cannot be read.
        """
        if path is None:
            return cls(classes, folders=True)
        if path.is_dir():
            return cls(classes, masks=path)
        return cls(classes, read_table(path))

    def truth(self, name: str, folder: str) -> Truth | None:
        """What is known of one image; ``None`` where nothing is.

        Args:
            name: Its path, relative to what was given.
            folder: The name of the folder that it is in.

        Raises:
            DataError: If what is said of it cannot be.
        """
        if self.masks is not None:
            return self._mask(name)
        if self.table is not None:
            said = self.table.get(name, self.table.get(Path(name).name))
            return None if said is None else self._said(said, name)
        return self.classes.index(folder) if self.folders and folder in self.classes else None

    def _said(self, said: Any, name: str) -> Truth:
        if isinstance(said, Mapping):
            said = said.get("class", said.get("label", said.get("things")))
        if isinstance(said, list):
            return tuple(self._thing(one, name) for one in said)
        return self._number(said, name)

    def _thing(self, said: Any, name: str) -> Thing:
        box = said.get("box") if isinstance(said, Mapping) else None
        try:
            edges = torch.tensor([float(edge) for edge in box or ()])
        except (TypeError, ValueError):
            edges = torch.zeros(0)
        if edges.shape != (4,) or not bool(edges.isfinite().all()) or not bool((edges[2:] > edges[:2]).all()):
            raise DataError(
                f"the labels have a box for '{shown(name)}' that is none: write "
                '{"box": [left, top, right, bottom], "class": "name"}'
            )
        return Thing(edges, self._number(said.get("class"), name))

    def _number(self, said: Any, name: str) -> int:
        """A class by name, or by its number."""
        text = str(said).strip()
        if text in self.classes:
            return self.classes.index(text)
        if text.isascii() and text.isdigit() and (not self.classes or int(text) < len(self.classes)):
            return int(text)
        known = nearest(text, self.classes) if self.classes else "the network's classes have no names, only numbers"
        raise DataError(f"the labels say '{shown(text)}' of '{shown(name)}', which is no class of the network; {known}")

    def _mask(self, name: str) -> Tensor | None:
        assert self.masks is not None  # noqa: S101
        plain = Path(name)
        for path in (self.masks / plain.with_suffix(".png"), self.masks / f"{plain.stem}.png", self.masks / plain.name):
            if path.is_file():
                try:
                    mask = decode_ids(path).long()
                except UnusableImageError as error:
                    raise DataError(f"the mask '{shown(str(path))}' {error}") from error
                mask[mask == IGNORED] = 0
                if self.classes and int(mask.max()) >= len(self.classes):
                    raise DataError(
                        f"the mask '{shown(str(path))}' has the number {int(mask.max())}, and the network's classes "
                        f"end at {len(self.classes) - 1}"
                    )
                return mask
        return None


def read_table(path: Path) -> dict[str, Any]:
    r"""A table of labels: CSV with a file and a class in each line, or JSON with either by a file's name.

    Raises:
        DataError: If it cannot be read as one.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "labels.csv").write_text("file,class\na.png,cat\nb.png,dog\n")
        ...     read_table(Path(folder, "labels.csv"))
        {'a.png': 'cat', 'b.png': 'dog'}
    """
    where = shown(str(path))
    try:
        if path.stat().st_size > LARGEST:
            raise DataError(f"'{where}' has more than the {LARGEST:,} bytes that are read as labels")
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"there are no labels at '{where}'") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"'{where}' cannot be read as labels, which are UTF-8 text ({error})") from error
    if path.suffix.lower() == ".json":
        return _from_json(text, where)
    if path.suffix.lower() in (".csv", ".tsv"):
        return _from_csv(text, where, "\t" if path.suffix.lower() == ".tsv" else ",")
    raise DataError(f"'{where}' is neither .csv nor .json, nor a folder of masks")


def _from_json(text: str, where: str) -> dict[str, Any]:
    try:
        content: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"'{where}' is no JSON ({error})") from error
    if isinstance(content, dict) and isinstance(content.get("images"), dict):
        content = content["images"]  # what `foveate predict` writes
    if not isinstance(content, dict):
        raise DataError(f"'{where}' should hold one object, files by name and what is on each")
    return {str(name): said for name, said in content.items()}


def _from_csv(text: str, where: str, comma: str) -> dict[str, Any]:
    try:
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=comma) if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise DataError(f"'{where}' is no table ({error})") from error
    wrong = next((number for number, row in enumerate(rows, 1) if len(row) < 2), None)
    if wrong is not None:
        raise DataError(f"'{where}' has no class in line {wrong}: write a file and its class, as a.jpg,cat")
    if rows and rows[0][0].strip().lower() in ("file", "filename", "image", "name", "path"):
        rows = rows[1:]
    return {row[0].strip(): row[1].strip() for row in rows}
