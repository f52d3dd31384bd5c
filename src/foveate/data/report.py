"""What happened to the data on the way in, so that nothing happens to it silently."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

# so that a report fits a screen; `as_dict` has everything
SHOWN_CLASSES = 20
SHOWN_FILES = 10


@dataclass(frozen=True)
class LeftOut:
    """A file or folder that is not among the images, and why.

    Attributes:
        name: Where it is, relative to the data's folder, with unprintable characters escaped.
        reason: Why it was left out, as the end of a sentence that begins with the name.
    """

    name: str
    reason: str

    def __str__(self) -> str:
        """The sentence."""
        return f"{self.name} {self.reason}"


@dataclass(frozen=True)
class DataReport:
    r"""What was read, what was left out and what was changed.

    Attributes:
        name: Of the data.
        shape: Channels, height and width of every image.
        counts: Images by split, then by class.
        split: How the splits came to be, as a sentence.
        skipped: Files that should be images and cannot be used.
        ignored: Files and folders that were never meant as images of a class.
        conversions: What was done to how many images to make 8-bit RGB of them.
        warnings: What a person should know before believing a result.

    Example:
        >>> counts = {"train": {"cat": 8, "dog": 7}, "validation": {"cat": 1, "dog": 1}, "test": {"cat": 1, "dog": 1}}
        >>> report = DataReport("pets", (3, 64, 64), counts, "as given", skipped=(LeftOut("cat/1.jpg", "is empty"),))
        >>> print("\n".join(report.lines()))
        pets: 19 images of 2 classes, each 3×64×64
        split: as given
                  train  validation        test
        cat           8           1           1
        dog           7           1           1
        skipped: 1 file
          cat/1.jpg is empty
    """

    name: str
    shape: tuple[int, int, int]
    counts: Mapping[str, Mapping[str, int]]
    split: str
    skipped: tuple[LeftOut, ...] = ()
    ignored: tuple[LeftOut, ...] = ()
    conversions: Mapping[str, int] = field(default_factory=dict[str, int])
    warnings: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, in the order of their labels."""
        return tuple(next(iter(self.counts.values())))

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON.

        Example:
            >>> DataReport("pets", (3, 8, 8), {"train": {"cat": 1}}, "as given").as_dict()["counts"]
            {'train': {'cat': 1}}
        """
        return asdict(self)

    def lines(self) -> list[str]:
        """The report as lines to print: long lists are shortened, and say by how much."""
        images = sum(sum(of_class.values()) for of_class in self.counts.values())
        size = "×".join(map(str, self.shape))
        lines = [f"{self.name}: {images:,} images of {len(self.classes)} classes, each {size}", f"split: {self.split}"]
        lines += self._table()
        lines += left_out("skipped", self.skipped)
        lines += left_out("ignored", self.ignored)
        lines += [f"converted: {count:,} × {change}" for change, count in self.conversions.items()]
        lines += [f"warning: {warning}" for warning in self.warnings]
        return lines

    def _table(self) -> list[str]:
        listed, rest = self.classes[:SHOWN_CLASSES], self.classes[SHOWN_CLASSES:]
        width = max(len(name) for name in listed)
        rows = [" " * width + "".join(f"{split:>12}" for split in self.counts)]
        rows += [
            f"{name:<{width}}" + "".join(f"{of_class[name]:>12,}" for of_class in self.counts.values())
            for name in listed
        ]
        if rest:
            ranges = ", ".join(
                f"{split} {min(of_class[name] for name in rest)} to {max(of_class[name] for name in rest)}"
                for split, of_class in self.counts.items()
            )
            rows.append(f"and {len(rest)} more classes: {ranges}")
        return rows


def shown(name: str) -> str:
    r"""A file's name as it can be printed: what is not UTF-8, or would steer a terminal, is escaped.

    Example:
        >>> print(shown("k\udcf6ter\x1b[2J"))
        k\xf6ter\x1b[2J
    """
    try:
        raw = name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a character, as JSON may have it
        raw = name.encode("utf-8", "surrogatepass")
    decoded = raw.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in decoded)


def enumerated(names: Iterable[str], most: int = 3) -> str:
    """The first few names and how many more there are.

    Example:
        >>> enumerated(["cat", "cow", "dog", "emu", "fox"])
        'cat, cow, dog and 2 more'
    """
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def left_out(title: str, files: Sequence[LeftOut], noun: tuple[str, str] = ("file", "files")) -> list[str]:
    """Lines about what was left out, the first few of it by name.

    Example:
        >>> left_out("skipped", (LeftOut("1.jpg", "is empty"),))
        ['skipped: 1 file', '  1.jpg is empty']
    """
    if not files:
        return []
    lines = [f"{title}: {len(files):,} {noun[len(files) > 1]}"]
    lines += [f"  {file}" for file in files[:SHOWN_FILES]]
    if len(files) > SHOWN_FILES:
        lines.append(f"  and {len(files) - SHOWN_FILES:,} more")
    return lines
