"""An album: what a network says of images, what its attention does there, and how far that can be trusted."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from foveate import __version__
from foveate.data.report import shown as printable
from foveate.errors import FoveateError, OptionError, check_at_least
from foveate.explain.album.about import About, Origin, about
from foveate.explain.album.answers import kind_of, targets
from foveate.explain.album.cost import Cost, cost_of
from foveate.explain.album.files import Images
from foveate.explain.album.seen import Left, rule
from foveate.explain.album.sheets import Sheet, sheet
from foveate.explain.album.telling import telling_place
from foveate.explain.album.trusting import Trust, trust_in
from foveate.explain.at_rest import at_rest
from foveate.explain.scores import answers
from foveate.files import write_atomically

PAGE, NUMBERS, PICTURES = "album.html", "album.json", "pictures"
_OURS = re.compile(r"[\w-]+\.(svg|png)")


@dataclass(frozen=True)
class Album:
    """Everything that was found, as plain data and pictures.

    Attributes:
        about: The network.
        sheets: What is shown of each image.
        rule: Which images these are, as a sentence.
        left: What could not be used.
        source: Where the images are from.
        place: Which place is shown large and measured; ``None`` where no map of positions was recorded.
        trust: How far its map can be trusted.
        cost: Of the attention; ``None`` without any, or where it was not asked for.
        made: Date and time, UTC.
        command: How to make it again; empty where it was made from Python.
        notes: What else a person should know of it, as sentences.
        settings: What was asked for: ``place`` (``None`` where it was chosen), ``examples``, ``steps``; how many images
            were ``measured``, and whether the truth of all of them was ``known``.
    """

    about: About
    sheets: tuple[Sheet, ...]
    rule: str
    left: tuple[Left, ...]
    source: str
    place: str | None
    trust: Trust
    cost: Cost | None
    made: str
    command: str = ""
    notes: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def html(self) -> str:
        """One page that needs nothing else.

        Raises:
            MissingExtraError: If Jinja2 is not installed.
        """
        from foveate.explain.album.page import page

        return page(self)

    def as_dict(self) -> dict[str, Any]:
        """All numbers and sentences, ready for JSON; pictures aside."""
        found = {
            "kind": "foveate album",
            "foveate": __version__,
            "made": self.made,
            "network": self.about.as_dict(),
            "rule": self.rule,
            "source": self.source,
            "notes": list(self.notes),
            "left_out": [{"name": one.name, "reason": one.reason} for one in self.left],
            "place": self.place,
            "images": [one.as_dict() for one in self.sheets],
            "trust": self.trust.as_dict(),
            "sentences": self.trust.sentences(),
            "cost": None if self.cost is None else self.cost.as_dict(),
            "settings": dict(self.settings),
        }
        return _plain(found)

    def write(self, folder: str | Path, *, pictures: str | None = None, overwrite: bool = False) -> Path:
        """Write the page, the numbers beside it and, if asked for, every picture as a file; each whole or not at all.

        Args:
            folder: Where to.
            pictures: ``"svg"`` or ``"png"``; no files of pictures if ``None``.
            overwrite: Whether an album that is there may go; its pictures go with it.

        Returns:
            Where the page is.

        Raises:
            FoveateError: If there is an album already, or nothing can be written.
            OptionError: If there is no such kind of picture.
        """
        folder = Path(folder)
        check_free(folder, pictures, overwrite=overwrite)
        content, numbers = self.html(), self.as_dict()
        before = _pictures_of(folder)
        written: list[str] = []
        for number, one in enumerate(self.sheets, 1) if pictures else ():
            for name, picture in one.pictures():
                file = f"{number:02d}-{name}.{pictures}"
                picture.write(folder / PICTURES / file)
                written.append(file)
        for old in before - set(written):
            (folder / PICTURES / old).unlink(missing_ok=True)
        numbers["pictures"] = written
        write_atomically(folder / NUMBERS, _encoded(json.dumps(numbers, indent=1, ensure_ascii=False) + "\n"))
        write_atomically(folder / PAGE, _encoded(content))
        return folder / PAGE


def look(
    network: nn.Module,
    images: Images,
    *,
    origin: Origin,
    classes: Sequence[str] = (),
    place: str | None = None,
    examples: int = 8,
    steps: int = 10,
    cost: bool = True,
    command: str = "",
    progress: Callable[[str], None] | None = None,
) -> Album:
    """Look at what a network attends to on some images, and measure how far that can be trusted.

    Args:
        network: Any that answers with classes, masks or boxes; with attention of any library, or without.
        images: As the network is given them, all of one size; :func:`~foveate.explain.album.read` reads files.
        origin: Where the network is from.
        classes: Names of the classes, as the network numbers them.
        place: Which place is shown large and measured; the most telling if ``None``.
        examples: On how many images what takes many passes is measured; 0 for no numbers about trust.
        steps: Of the curves of deletion and insertion.
        cost: Whether the cost of the attention is measured.
        command: How to make the album again, to stand on its page.
        progress: Called with what is done next, in words.

    Raises:
        OptionError: If there is no image, or they differ in size.
        FoveateError: If the network's answers cannot be read, what is known of the images does not fit them, or a place
            does not exist.
        MissingExtraError: If matplotlib, scipy, torchmetrics or grad-cam is not installed.
    """
    seen = images.seen
    check_at_least("examples", examples, 0)
    if not seen or images.shown < 1:
        raise OptionError("there is no image to look at")
    if len({tuple(one.given.shape) for one in seen}) > 1:
        raise OptionError("the images of an album have one size: prepare them alike")
    say = progress or (lambda _: None)
    shown = seen[: images.shown]
    with at_rest(network) as quiet:
        say("asking the network")
        said = answers(quiet, seen[0].given[None])
        kind = kind_of(said[0], classes)
        kind.check(seen)  # before the work
        said += [answers(quiet, one.given[None])[0] for one in seen[1:]]
        found = about(quiet, origin, shown)
        where = telling_place(quiet, shown, place) if found.visible else None
        known = all(one.truth is not None for one in seen)
        sheets: list[Sheet] = []
        asked = targets(kind, shown, said[: images.shown], known=False)
        for number, (one, target) in enumerate(zip(shown, asked, strict=True)):
            say(f"drawing images: {number + 1} of {len(shown)}")
            sheets.append(sheet(quiet, one, said[number], kind, target=target, place=where, about=found))
        say("measuring how far the maps can be trusted")
        trust = trust_in(quiet, seen, said, kind, place=where, examples=examples, steps=steps)
        say("measuring what the attention costs")
        spent, notes = None, list(images.notes)
        try:
            spent = cost_of(quiet, seen[0].given[None]) if cost else None
        except FoveateError as error:
            notes.append(f"What the attention costs could not be measured: {error}.")
    return Album(
        about=found,
        sheets=tuple(sheets),
        rule=rule(images.shown, len(seen), images.there),
        left=images.left,
        source=images.source,
        place=where,
        trust=trust,
        cost=spent,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        command=command,
        notes=tuple(notes),
        settings={"place": place, "examples": examples, "steps": steps, "measured": len(seen), "known": known},
    )


def check_free(folder: Path, pictures: str | None, *, overwrite: bool) -> None:
    """Refuse what would be refused after the work, before it.

    Raises:
        FoveateError: If there is an album already, another file would be written over, or this can be no folder.
        OptionError: If there is no such kind of picture.
    """
    if pictures not in (None, "svg", "png"):
        raise OptionError(f"pictures are written as svg or png, not as {pictures!r}")
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise FoveateError(
            f"'{printable(str(there))}' is a file, and no album can lie in it: choose a folder with --out"
        )
    found = [] if overwrite else [name for name in (PAGE, NUMBERS) if (folder / name).exists()]
    if pictures and not overwrite:
        found += [f"{PICTURES}/{name.name}" for name in (folder / PICTURES).glob(f"[0-9][0-9]-*.{pictures}")]
    if found:
        what = "an album" if PAGE in found else f"'{found[0]}'"
        raise FoveateError(
            f"'{printable(str(folder))}' holds {what} already: choose another folder with --out, or write over it with "
            "--overwrite"
        )


def _pictures_of(folder: Path) -> set[str]:
    """The pictures that an album in a folder wrote, by its own list: nothing else is ever taken away."""
    try:
        listed = json.loads((folder / NUMBERS).read_text(encoding="utf-8")).get("pictures", [])
    except (OSError, ValueError, AttributeError):
        return set()
    return {name for name in listed if isinstance(name, str) and _OURS.fullmatch(name)}


def _encoded(text: str) -> bytes:
    """In UTF-8; what names of files have in it that is no text is escaped."""
    return text.encode(errors="backslashreplace")


def _plain(value: Any) -> Any:
    """Without what JSON does not have: numbers that are none, tuples, tensors."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, torch.Tensor):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
