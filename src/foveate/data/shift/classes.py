"""The classes of one folder, seen with the names of another's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from foveate.data.layout import SPLITS
from foveate.data.report import shown
from foveate.errors import DataError, nearest

MOST = 5


def placed(found: Iterable[str], classes: Sequence[str], where: str) -> dict[str, int]:
    """The number of each class in the classes of the training data.

    Args:
        found: What a folder calls its classes.
        classes: What the training data calls them.
        where: The folder, for people.

    Raises:
        DataError: If one is unknown, with the nearest that are known.

    Example:
        >>> placed(["dog"], ["cat", "dog"], "photos")
        {'dog': 1}
    """
    places = {name: number for number, name in enumerate(classes)}
    names = list(found)
    unknown = [name for name in names if name not in places]
    if unknown:
        hints = "; ".join(f"{shown(name)} ({nearest(name, classes)})" for name in unknown[:MOST])
        more = f" and {len(unknown) - MOST} more" if len(unknown) > MOST else ""
        raise DataError(
            f"{where} has classes that the training data does not have: {hints}{more}; name them as there, or "
            "take them away"
        )
    return {name: places[name] for name in names}


def missing(counts: Iterable[tuple[str, int]], noun: str) -> list[str]:
    """A sentence on the classes that nothing is of; none, if there are none.

    Example:
        >>> missing([("cat", 0), ("dog", 2)], "an image")
        ['classes without an image, of which nothing is tested: cat']
    """
    without = [name for name, count in counts if not count]
    if not without:
        return []
    more = f" and {len(without) - 20} more" if len(without) > 20 else ""
    return [f"classes without {noun}, of which nothing is tested: {', '.join(without[:20])}{more}"]


def tested_part(root: Path) -> Path:
    """The folder ``test`` in a folder that holds splits and nothing else, or the folder itself.

    Raises:
        DataError: If there are splits and no test.
    """
    try:
        folders = {path.name.lower(): path for path in root.iterdir() if path.is_dir() and path.name[:1] != "."}
    except OSError:  # whoever reads it says what is wrong
        return root
    if not folders or not set(folders) <= set(SPLITS):
        return root
    if "test" not in folders:
        raise DataError(
            f"{shown(str(root))} has {' and '.join(sorted(folders))} and no test: give the folder to test with"
        )
    return folders["test"]
