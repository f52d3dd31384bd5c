"""Other test samples: a folder of a person's own, and published corruptions. They are only ever tested with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from foveate.data import cifar_c, imagenet_c, shifted
from foveate.data.published import LABELS, Published
from foveate.data.samples import Samples
from foveate.errors import DataError, OptionError
from foveate.study.design import Look
from foveate.train.kinds import Data

STRENGTHS = (1, 2, 3, 4, 5)


def fingerprint_of_shifted(path: str, data: Data) -> str:
    """Read a folder of other test samples, so that what is wrong with it is said before anything is trained.

    Raises:
        DataError: If it cannot be used with these classes.
    """
    return _shifted(path, data).fingerprint


def fingerprint_of_published(path: str, data: Data) -> str:
    """Look at a published set of corruptions: its layout, and the names and sizes of its files.

    What the files hold is not read: a set has 75 times as many images as its test samples.

    Raises:
        OptionError: If it is no folder.
        DataError: If it is laid out otherwise than it was published.
    """
    if not Path(path).is_dir():
        raise OptionError(f"'{path}' is no folder of published corruptions")
    _published(path, data)
    return _listing(path)


def other_samples(look: Look, places: Mapping[str, str | None], data: Data) -> dict[str, Samples]:
    """The other test samples of a run by name: ``"shifted"``, and ``"published/NAME/STRENGTH"``.

    Raises:
        DataError: If they are not the samples that the study was designed with.
    """
    found: dict[str, Samples] = {}
    if look.shifted is not None:
        path = _place(places, "shifted")
        other = _shifted(path, data)
        _same(path, other.fingerprint, look.shifted)
        found["shifted"] = other.test
    if look.published is not None:
        path = _place(places, "published")
        _same(path, _listing(path), look.published)
        many = _published(path, data)
        for name in many.corruptions:
            for strength in look.corruptions or STRENGTHS:
                found[f"published/{name}/{strength}"] = many.split(name, strength)
    return found


def _place(places: Mapping[str, str | None], what: str) -> str:
    path = places.get(what)
    if path is None:
        raise DataError(f"this study has {what} test samples, and where they are was not said")
    return path


def _same(path: str, there: str, wanted: str) -> None:
    if there != wanted:
        raise DataError(
            f"the test samples in '{path}' are not those that the study was designed with: their fingerprint is "
            f"{there[:12]}… and not {wanted[:12]}…"
        )


_READ: dict[tuple[str, str], Any] = {}


def _shifted(path: str, data: Data) -> Any:
    """Read once a process: every run of a study is tested with them."""
    key = (path, data.fingerprint)
    if key not in _READ:
        _READ.clear()
        _READ[key] = shifted(path, cast("Any", data))
    return _READ[key]


def _published(path: str, data: Data) -> Published:
    if (Path(path) / LABELS).is_file():
        return cifar_c(path, data.classes)
    pixels: Any = data.test[0][0]
    return imagenet_c(path, data.classes, size=int(pixels.shape[1]))


@lru_cache(maxsize=2)
def _listing(path: str) -> str:
    """A hash of the names and sizes in a folder."""
    folder = Path(path)
    content = hashlib.sha256()
    for file in sorted(one for one in folder.rglob("*") if one.is_file()):
        content.update(f"{file.relative_to(folder).as_posix()}\0{file.stat().st_size}\0".encode())
    return content.hexdigest()[:16]
