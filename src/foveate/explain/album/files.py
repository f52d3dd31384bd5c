"""Pictures from files: which there are, which are taken, and what was wrong with the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from jaxtyping import UInt8
from torch import Tensor

from foveate.data.decode import UnusableImageError, decode, require_pillow
from foveate.data.reading import MEANT_AS_IMAGE
from foveate.data.report import shown
from foveate.errors import DataError, check_at_least
from foveate.explain.album.labels import Labels
from foveate.explain.album.seen import Left, Seen, Truth, affordable, evenly


class Prepare(Protocol):
    """How a network is given a picture: what a person sees of that, what it takes, and the truth moved along."""

    def __call__(self, name: str, pixels: UInt8[Tensor, "3 h w"], truth: Truth | None, /) -> Seen:
        """One picture."""
        ...


@dataclass(frozen=True)
class Images:
    """What an album can show.

    Attributes:
        seen: As the network is given them: those to show first, then the others that are measured.
        shown: How many of them are shown.
        there: How many there were to choose from.
        left: What could not be used.
        source: Where they are from, in words.
        notes: What else a person should know of them, as sentences.
    """

    seen: tuple[Seen, ...]
    shown: int
    there: int
    left: tuple[Left, ...] = ()
    source: str = ""
    notes: tuple[str, ...] = ()


def find(paths: Iterable[str | Path]) -> list[tuple[str, str, Path]]:
    """The files in what was given, in the order of their names: name, the folder's name, path.

    A file that was named is taken whatever it is called; in folders, those that are called like pictures are.
    One that is reached in two ways is there once.

    Raises:
        DataError: If something is not there, or there is no picture.
    """
    found: dict[Path, tuple[str, str, Path]] = {}
    for given in paths:
        path = Path(given)
        if path.is_dir():
            inside = (one for one in path.rglob("*") if MEANT_AS_IMAGE.search(one.name) and not _hidden(one, path))
            for one in sorted(inside):
                found.setdefault(_place(one), (one.relative_to(path).as_posix(), one.absolute().parent.name, one))
        elif path.exists():
            found.setdefault(_place(path), (path.name, path.absolute().parent.name, path))
        else:
            raise DataError(f"there is no picture or folder '{shown(str(path))}'")
    if not found:
        raise DataError("there are no pictures in what was given")
    return sorted(found.values(), key=lambda one: (one[0], str(one[2])))


def read(
    paths: Iterable[str | Path],
    prepare: Prepare,
    labels: Labels,
    *,
    most: int,
    measured: int,
    on_image: Callable[[int, int], None] | None = None,
) -> Images:
    """Decode as many of the pictures as are wanted; one that cannot be used is named, and the next takes its place.

    Args:
        paths: Files and folders.
        prepare: How the network is given a picture.
        labels: What is known of them.
        most: How many are shown.
        measured: How many are measured, those shown among them.
        on_image: Called after each with how many were read, and how many will be.

    Raises:
        DataError: If none can be used, or labels are not of one picture each.
        OptionError: If fewer than one is to be shown or measured.
        MissingExtraError: If Pillow is not installed.
    """
    require_pillow()
    check_at_least("measured", measured, 1)
    files = find(paths)
    notes = labels.pair([name for name, *_ in files])
    wanted = min(max(most, measured), len(files))
    left: dict[Path, Left] = {}
    seen: dict[Path, Seen] = {}

    def take(name: str, folder: str, path: Path) -> bool:
        if path in seen or path in left:
            return path in seen
        try:
            pixels = decode(path, None).pixels
        except UnusableImageError as error:
            left[path] = Left(shown(name), str(error))
            return False
        seen[path] = prepare(shown(name), pixels, labels.truth(name, folder))
        return True

    first = next((one for one in files if take(*one)), None)  # how large the images are
    if first is not None:
        wanted = max(most, affordable(seen.pop(first[2]), wanted))
    order = evenly(files, wanted)
    taken = {path for *_, path in order}
    order += [one for one in files if one[2] not in taken]  # who stands in for those that cannot be used
    for one in order:
        if len(seen) == wanted:
            break
        if not take(*one):
            continue
        if on_image is not None:
            on_image(len(seen), wanted)
    if not seen:
        reasons = "; ".join(map(str, list(left.values())[:3]))
        raise DataError(f"none of the {len(files)} pictures can be used: {reasons}")
    sorted_ = [seen[path] for *_, path in files if path in seen]
    return replace(arranged(sorted_, most, there=len(files) - len(left), left=list(left.values())), notes=notes)


def arranged(seen: Sequence[Seen], most: int, *, there: int, left: Sequence[Left] = (), source: str = "") -> Images:
    """Those to show before the others."""
    first = evenly(range(len(seen)), most)
    rest = [number for number in range(len(seen)) if number not in set(first)]
    return Images(tuple(seen[number] for number in [*first, *rest]), len(first), there, tuple(left), source)


def _place(path: Path) -> Path:
    """Where a file lies, however its folder is spelt; a link is a file of its own."""
    return path.parent.resolve() / path.name


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)
