"""What a person says is on images: names of folders, a table, or a folder of masks; all of it from outside."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from foveate.data.decode import UnusableImageError, decode_ids
from foveate.data.masks.ids import BINARY, WHITE
from foveate.data.report import enumerated, shown
from foveate.errors import DataError, nearest
from foveate.explain.album.seen import Thing, Truth

LARGEST = 2**26  # bytes of a table of labels


class Labels:
    """What is known of files, by their names.

    Args:
        classes: What the network tells apart, as it numbers them.
        table: By a file's path, or by its bare name where no other is called so: a class by name or number, or things
            in boxes.
        masks: A folder of masks that are called like the images.
        folders: Whether the folder that an image is in names its class.

    Raises:
        DataError: If the table says two different things of one file.
    """

    def __init__(
        self,
        classes: Sequence[str],
        table: Mapping[str, Any] | None = None,
        masks: Path | None = None,
        *,
        folders: bool = False,
    ) -> None:
        self.classes, self.masks, self.folders = tuple(classes), masks, folders
        self.table = None if table is None else _by_path(table.items())
        self._claimed: set[str] = set()
        self._white: bool | None = None

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

    def pair(self, names: Sequence[str]) -> tuple[str, ...]:
        """Make sure that each label is of one image.

        Args:
            names: The paths of all images that were found, as for :meth:`truth`.

        Returns:
            What a person should know of labels without an image, as sentences.

        Raises:
            DataError: If a label could be of several images, or none is of any.
        """
        if self.table is None and self.masks is None:
            return ()
        # a label that is of an image by its path is of no other by its bare name
        self._claimed = {key for name in names for key in self._keys(name)[0] if self._there(key)}
        keys = {name: self._key(name) for name in names}
        self._check_one_each(names, set(keys.values()))
        if not any(keys.values()):
            there = (
                "no mask there"
                if self.table is None
                else f"the first label is of '{shown(next(iter(self.table), ''))}', and none"
            )
            raise DataError(
                f"none of the labels is of a picture that was found: {there} is called like one of them, such as "
                f"'{shown(names[0])}'"
            )
        if self.table is None:
            return ()
        lost = len(self.table.keys() - set(keys.values()))
        return (f"{lost:,} of the {len(self.table):,} labels are of no picture that was found.",) if lost else ()

    def _check_one_each(self, names: Sequence[str], used: set[str | None]) -> None:
        """Refuse a label that two images could take: also where one of them has another label of its own."""
        takers: dict[str, list[str]] = {}
        for name in names:
            exact, bare = self._keys(name)
            for key in dict.fromkeys([*exact, *(one for one in bare if one not in self._claimed)]):
                if key in used:
                    takers.setdefault(key, []).append(name)
        for key, several in takers.items():
            if len(several) > 1:
                what, which = ("the mask", "masks") if self.table is None else ("the label of", "labels")
                raise DataError(
                    f"{what} '{shown(key)}' could be that of {enumerated(map(shown, several))}: name {which} "
                    "by the pictures' paths within the folder that is given"
                )

    def _key(self, name: str) -> str | None:
        """By what a label finds an image: in a table its path or its bare name, of a mask the path."""
        exact, bare = self._keys(name)
        found = next(filter(self._there, exact), None)
        if found is not None:
            return found
        return next((key for key in bare if self._there(key) and key not in self._claimed), None)

    def _keys(self, name: str) -> tuple[list[str], list[str]]:
        plain = PurePosixPath(name)
        if self.masks is None:
            return [name], [plain.name]
        return [str(plain.with_suffix(".png"))], [f"{plain.stem}.png", plain.name]

    def _there(self, key: str) -> bool:
        if self.masks is not None:
            return (self.masks / key).is_file()
        return self.table is not None and key in self.table

    def truth(self, name: str, folder: str) -> Truth | None:
        """What is known of one image; ``None`` where nothing is.

        Args:
            name: Its path, relative to what was given.
            folder: The name of the folder that it is in.

        Raises:
            DataError: If what is said of it cannot be.
        """
        key = self._key(name)
        if self.table is not None:
            return None if key is None else self._said(self.table[key], name)
        if self.masks is not None:
            return None if key is None else self._classes_of(self.masks, key)
        return self._number(folder, name) if self.folders and folder in self.classes else None

    def _classes_of(self, masks: Path, key: str) -> Tensor:
        """The class of each pixel; as in training, 255 is the second of two where no mask has another number."""
        ids = _mask(masks / key)
        if len(self.classes) != len(BINARY):
            return ids
        if self._white is None:
            numbers: set[int] = set()
            for one in sorted(self._claimed | {key}):
                numbers |= set(_mask(masks / one).unique().tolist())
                if not numbers <= {0, WHITE}:
                    break
            self._white = WHITE in numbers and numbers <= {0, WHITE}
        return ids.clamp(max=1) if self._white else ids

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
        numbers = [number for number, one in enumerate(self.classes) if one == text]
        if len(numbers) > 1:
            raise DataError(
                f"several classes are called '{shown(text)}', which the labels say of '{shown(name)}': write the "
                f"number, {' or '.join(map(str, numbers))}"
            )
        if numbers:
            return numbers[0]
        if text.isascii() and text.isdigit() and (not self.classes or int(text) < len(self.classes)):
            return int(text)
        known = nearest(text, self.classes) if self.classes else "the network's classes have no names, only numbers"
        raise DataError(f"the labels say '{shown(text)}' of '{shown(name)}', which is no class of the network; {known}")


def _mask(path: Path) -> Tensor:
    try:
        return decode_ids(path).long()
    except UnusableImageError as error:
        raise DataError(f"the mask '{shown(str(path))}' {error}") from error


def _by_path(rows: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """A table by the paths of files, however these are written: ``./a.png`` is ``a.png``."""
    table: dict[str, Any] = {}
    for name, said in rows:
        path = str(PurePosixPath(name))
        if path in table and table[path] != said:
            raise DataError(f"the labels say two different things of '{shown(path)}'")
        table[path] = said
    return table


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
    return _by_path((row[0].strip(), row[1].strip()) for row in rows)
