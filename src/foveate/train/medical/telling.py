"""What was counted of medical predictions, in tables to read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Counted = Mapping[str, Any]


def told(classes: Mapping[str, Mapping[str, Counted]], focus: Mapping[str, Counted], unit: str) -> list[str]:
    """A table of the classes, and one of where attention lay."""
    named = {
        name: {key.replace("hd95", f"hd95 ({unit})"): one for key, one in ones.items()}
        for name, ones in classes.items()
    }
    lines = table(
        named,
        "Of the test, 95 %: means over patients, intervals by resampling patients; shares of connected areas and of "
        "cases, Wilson's intervals, which take them as independent",
    )
    if focus:
        lines += [
            "",
            "Lesion focus, the share of the attention inside the foreground beyond the foreground's share of the image "
            "(0 is chance), a mean over patients:",
            "",
            "| place | focus |",
            "|---|---|",
            *(f"| {place} | {cell(one)} |" for place, one in focus.items()),
        ]
    return lines


def table(classes: Mapping[str, Mapping[str, Counted]], title: str) -> list[str]:
    """A row a class, a column a quantity.

    Example:
        >>> table({"lesion": {"dice": {"value": 0.5, "low": 0.25, "high": 0.75}}}, "Test")[-1]
        '| lesion | 0.5 (0.25 to 0.75) |'
    """
    columns = list(dict.fromkeys(key for ones in classes.values() for key in ones))
    rows = (" | ".join(cell(ones[key]) for key in columns) for ones in classes.values())
    return [
        f"{title}:",
        "",
        "| class | " + " | ".join(column.replace("_", " ") for column in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
        *(f"| {name} | {row} |" for name, row in zip(classes, rows, strict=True)),
    ]


def cell(one: Counted) -> str:
    """A number and its interval, and the count where it is one.

    Example:
        >>> cell({"value": 0.5, "low": 0.1, "high": 0.9, "hits": 1, "of": 2})
        '1 of 2: 0.5 (0.1 to 0.9)'
        >>> cell({"value": None, "low": None, "high": None})
        'none'
    """
    if one["value"] is None:
        return "none"
    count = f"{one['hits']} of {one['of']}: " if "of" in one else ""
    interval = "" if one["low"] is None else f" ({one['low']:.3g} to {one['high']:.3g})"
    return f"{count}{one['value']:.3g}{interval}"
