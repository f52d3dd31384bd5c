"""What annotations say of images, before an image was opened; and a notebook for what is wrong with them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

from foveate.data.report import LeftOut, shown
from foveate.errors import DataError

Edges = tuple[float, float, float, float]
TRAIN, VALIDATION, TEST, ALL = "train", "validation", "test", "all"


class Box(NamedTuple):
    """A box as it was annotated.

    Attributes:
        edges: Left, top, right, bottom in pixels; right and bottom lie outside.
        label: Its class by name.
        crowd: See :class:`~foveate.data.detection.Boxes`.
    """

    edges: Edges
    label: str
    crowd: bool


@dataclass
class Marked:
    """An image as its annotation describes it.

    Attributes:
        name: Its path relative to the data's folder.
        size: Height and width that the annotation says it has; ``None`` if it says nothing.
        boxes: What is on it.
        lost: Whether a box that was on it could not be used.
    """

    name: str
    size: tuple[int, int] | None
    boxes: list[Box] = field(default_factory=list[Box])
    lost: bool = False


@dataclass
class Annotations:
    """What a reader found.

    Attributes:
        splits: Images by split; all under ``"all"`` where nothing says which belongs to which.
        classes: In the order of their labels.
        conventions: How the numbers were understood, as sentences.
    """

    splits: dict[str, list[Marked]]
    classes: tuple[str, ...]
    conventions: tuple[str, ...]


@dataclass
class Notes:
    """What is wrong with data, written down; or the first of it raised.

    Attributes:
        root: The data's folder.
        stop: Whether what cannot be used raises.
    """

    root: Path
    stop: bool
    skipped: list[LeftOut] = field(default_factory=list[LeftOut])
    ignored: list[LeftOut] = field(default_factory=list[LeftOut])
    dropped: list[LeftOut] = field(default_factory=list[LeftOut])
    changed: Counter[str] = field(default_factory=Counter[str])
    warnings: list[str] = field(default_factory=list[str])

    def skip(self, name: str, reason: str) -> None:
        """An image or an annotation that cannot be used.

        Raises:
            DataError: If that is to stop everything.
        """
        self._leave(self.skipped, name, reason)

    def drop(self, name: str, reason: str) -> None:
        """A box that cannot be used, by its image or annotation.

        Raises:
            DataError: If that is to stop everything.
        """
        self._leave(self.dropped, name, reason)

    def ignore(self, name: str, reason: str) -> None:
        """A file that was not meant."""
        self.ignored.append(LeftOut(shown(name), reason))

    def _leave(self, kept: list[LeftOut], name: str, reason: str) -> None:
        if self.stop:
            raise DataError(f"{shown(str(self.root / name))} {reason}")
        kept.append(LeftOut(shown(name), reason))


def within(name: str) -> str | None:
    r"""A path from an annotation that stays in the folder it is relative to, with plain slashes; ``None`` if it leaves.

    What links inside the folder point to is its owner's affair.

    Example:
        >>> within("a\\b.jpg"), within("../b.jpg"), within("/etc/passwd"), within("C:\\b.jpg")
        ('a/b.jpg', None, None, None)
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if not path.parts or path.is_absolute() or PureWindowsPath(name).drive or ".." in path.parts or "\0" in name:
        return None
    return path.as_posix()


def number(value: object) -> float | None:
    """A finite number, from JSON or text; ``None`` if it is none.

    Example:
        >>> number("3.5"), number(True), number(float("nan")), number("wide")
        (3.5, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def said(edges: Sequence[float]) -> str:
    """The edges of a box in few characters."""
    return ", ".join(f"{edge:g}" for edge in edges)
