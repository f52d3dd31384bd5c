"""Results of another study in the same folder: they are kept apart, because they would pass for this one's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

EARLIER, DESIGN = "earlier", "study.json"
REPORT = ("report.html", "report.md", "rows.csv")
RESULTS = ("comparison.json", "cost.json", *REPORT)


def keys_of(study: Mapping[str, Any]) -> set[Any]:
    """The keys of a study's runs, as ``study.json`` has them.

    Example:
        >>> keys_of({"runs": [{"key": "a"}, {"key": "b"}]}) == {"a", "b"}
        True
    """
    return {run.get("key") for run in study.get("runs", [])}


def keep_apart(folder: Path) -> Path | None:
    """Move the results of a comparison, and its design, into a numbered folder of their own.

    It can be killed anywhere and called again: the design goes last, and until then everything that was moved waits for
    the rest.

    Args:
        folder: Where they are.

    Returns:
        Where they are now, ``earlier/1`` and so on; ``None`` if nothing had come out.

    Raises:
        OSError: If one cannot be moved.
    """
    half = folder / EARLIER / ".half"
    if (half / DESIGN).exists():  # cut off behind its last file
        half.rename(_next(folder))
    there = [folder / name for name in (*RESULTS, DESIGN) if (folder / name).exists()]
    if not (folder / RESULTS[0]).exists() and not half.exists():
        return None
    half.mkdir(parents=True, exist_ok=True)
    for file in there:
        file.replace(half / file.name)
    apart = _next(folder)
    half.rename(apart)
    return apart


def _next(folder: Path) -> Path:
    before = [int(one.name) for one in (folder / EARLIER).iterdir() if one.name.isdecimal()]
    return folder / EARLIER / str(1 + max(before, default=0))
