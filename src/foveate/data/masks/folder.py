"""A person's own folder of images and masks."""

from __future__ import annotations

import hashlib
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from foveate.data.checks import leaks
from foveate.data.decode import require_pillow
from foveate.data.masks.ids import MANY, Meaning, meaning_of, read_classes
from foveate.data.masks.layout import read_mask_layout
from foveate.data.masks.reading import UNSURE, MaskReading, read_pairs
from foveate.data.masks.report import MaskReport
from foveate.data.masks.segmentation import MaskedImages, Segmentation
from foveate.data.report import enumerated, shown
from foveate.data.split import deal
from foveate.errors import DataError, check_at_least, check_choice

PERCENT = 15
SPLITS = ("train", "validation", "test")


def mask_folder(
    path: str | os.PathLike[str],
    *,
    classes: Sequence[str] | None = None,
    ignore: int | None = 255,
    instances: bool = False,
    on_error: Literal["skip", "stop"] = "skip",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Segmentation:
    """Read a folder that holds ``images`` and ``masks``, or such folders inside ``train``, ``val`` and ``test``.

    A mask has the name of its image, with any ending, and one number for each pixel: 8-bit or 16-bit grey, or a
    palette. ``labels`` and ``annotations`` are read as ``masks`` are. Images are judged by content, turned as their
    EXIF data says and made 8-bit RGB; their sizes stay. Pairs that fit into 2 GiB together stay in memory, more are
    decoded each time one is asked for. Nothing is left out or changed without standing in the report.

    Without ``train`` and ``test`` folders the images are dealt by ``seed`` and content: 15 % to validation, 15 % to
    test, the rest to train. Where only ``val`` or ``test`` is missing, 15 % of ``train`` take its place.

    Args:
        path: The folder.
        classes: What the numbers 0, 1, … stand for; by default the lines of ``classes.txt`` in the folder, or the
            numbers themselves. Masks of 0 and 255 alone are background and object.
        ignore: The number of pixels that belong to no class; ``None`` if there are none.
        instances: Whether every number above 0 is an object of its own: they are all of one class then.
        on_error: Whether to ``"skip"`` images that cannot be used, or to ``"stop"`` at the first.
        seed: Which images go to which split.
        progress: Called after each image with the count of those done and of all.

    Raises:
        DataError: If the folder has neither layout, there are too few images, the numbers can mean nothing, or an
            image is to stop it.
        OptionError: If an option's value cannot work.
        MissingExtraError: If Pillow is not installed.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from PIL import Image
        >>> with TemporaryDirectory() as folder:
        ...     for name in ("images", "masks"):
        ...         Path(folder, name).mkdir()
        ...     for shade in range(10):
        ...         Image.new("RGB", (40, 30), (shade, 0, 0)).save(Path(folder, "images", f"{shade}.png"))
        ...         Image.new("L", (40, 30), 255 * (shade % 2)).save(Path(folder, "masks", f"{shade}.png"))
        ...     data = mask_folder(folder)
        >>> data.classes, len(data.train), len(data.validation), len(data.test), data.side
        (('background', 'object'), 6, 2, 2, 30)
    """
    check_choice("on_error", on_error, ("skip", "stop"))
    check_at_least("seed", seed, 0)
    require_pillow()
    root = Path(path)
    layout = read_mask_layout(root)
    stop = on_error == "stop"
    if stop and layout.skipped:
        raise DataError(f"{shown(str(root))}: {layout.skipped[0]}")
    if classes is None and (named := root / "classes.txt").is_file():
        classes = read_classes(named)
    masks = {image: mask for pairs in layout.masks.values() for image, mask in pairs.items()}
    mean = partial(meaning_of, classes=classes, ignore=ignore, instances=instances)
    reading = read_pairs(root, masks, mean, stop=stop, progress=progress)
    shares = {split: PERCENT for split in ("validation", "test") if split not in layout.masks}
    owner = {image: split for split, pairs in layout.masks.items() for image in pairs}
    members = _members(root, reading, owner, shares, seed)

    names = [shown(name) for name in reading.names]
    splits = {
        split: MaskedImages(reading.pairs, members[split], [names[one] for one in members[split]]) for split in SPLITS
    }
    title = shown(Path(os.path.abspath(root)).name)  # noqa: PTH100  # "." has a name, and a link keeps its own
    report = MaskReport(
        name=title,
        counts={split: len(members[split]) for split in SPLITS},
        pixels={
            split: {
                name: sum(reading.counts[one].get(number, 0) for one in members[split])
                for number, name in enumerate(reading.meaning.classes)
            }
            for split in SPLITS
        },
        sizes=(
            (min(height for height, _ in reading.sizes), min(width for _, width in reading.sizes)),
            (max(height for height, _ in reading.sizes), max(width for _, width in reading.sizes)),
        ),
        split=_how(layout.masks, shares, seed),
        meaning=str(reading.meaning),
        skipped=layout.skipped + reading.skipped,
        ignored=layout.ignored + reading.ignored,
        conversions=dict(sorted(reading.changes.items())),
        warnings=tuple(_warnings(names, reading, members, named=classes is not None)),
    )
    return Segmentation(
        name=title,
        classes=reading.meaning.classes,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        side=int(statistics.median(min(size) for size in reading.sizes)),
        fingerprint=_fingerprint(reading, seed if shares else None),
        report=report,
        official=tuple(split for split in SPLITS[1:] if split in layout.masks),
    )


def _members(
    root: Path, reading: MaskReading, owner: Mapping[str, str], shares: Mapping[str, int], seed: int
) -> dict[str, list[int]]:
    """The positions in the reading that each split has."""
    members: dict[str, list[int]] = {split: [] for split in SPLITS}
    for split in dict.fromkeys(owner.values()):
        positions = [place for place, name in enumerate(reading.names) if owner[name] == split]
        digests = [reading.digests[place][0] for place in positions]
        dealt = split in ("all", "train")
        needed = 1 + len(shares) if dealt else 1
        if (different := len(set(digests))) < needed:
            where = "" if split == "all" else f"{split} in "
            reasons = f" ({len(reading.skipped)} unusable, such as {reading.skipped[0]})" if reading.skipped else ""
            raise DataError(
                f"{where}{shown(str(root))} has {different} different images with a mask that can be used, and needs "
                f"{needed}{reasons}"
            )
        parts = deal(digests, shares, seed) if dealt else {split: list(range(len(digests)))}
        for part, chosen in parts.items():
            members[part] = [positions[index] for index in chosen]
    return members


def _how(masks: Mapping[str, object], shares: Mapping[str, int], seed: int) -> str:
    rest = ", ".join(f"{percent} % {split}" for split, percent in shares.items())
    if "all" in masks:
        return f"{rest}, the rest train, by seed {seed}"
    return f"as the folders say, and {rest} split off train, by seed {seed}" if shares else "as the folders say"


def _warnings(
    names: Sequence[str], reading: MaskReading, members: Mapping[str, Sequence[int]], *, named: bool
) -> list[str]:
    meaning = reading.meaning
    found = leaks(names, [image for image, _ in reading.digests], members)
    for words, least in (("nothing but class 0", 1), ("no class at all", 0)):
        without = [name for name, counts in zip(names, reading.counts, strict=True) if _highest(counts) == least - 1]
        if without:
            found.append(f"masks with {words}: {len(without)}, such as {without[0]}")
    for split, ones in members.items():
        missing = [name for number, name in enumerate(meaning.classes) if not _count(reading, ones, number)]
        if missing:
            found.append(f"classes that {split} has no pixel of: {enumerated(missing, 5)}")
    if meaning.way == "numbers" and not named and len(meaning.classes) > MANY:
        found.append(
            f"masks have {len(meaning.classes)} numbers without names: if every number is an object of its own, set "
            "instances=true"
        )
    if unsure := reading.changes[UNSURE]:
        found.append(
            f"images turned as EXIF says whose masks may have been drawn before or after: {unsure}; they are taken as "
            "drawn on the upright image"
        )
    return [*found, *reading.remarks]


def _highest(counts: Mapping[int, int]) -> int:
    return max(counts, default=-1)


def _count(reading: MaskReading, members: Sequence[int], number: int) -> int:
    return sum(reading.counts[one].get(number, 0) for one in members)


def _fingerprint(reading: MaskReading, seed: int | None) -> str:
    """A hash of every file's relative name and content, and of what decides pixels, classes and splits."""
    meaning: Meaning = reading.meaning
    settings = f"mask_folder classes={meaning.classes} ignore={meaning.ignore} way={meaning.way} seed={seed}".encode()
    lines = [
        b"\0".join((os.fsencode(name), image.encode(), mask.encode()))
        for name, (image, mask) in zip(reading.names, reading.digests, strict=True)
    ]
    return hashlib.sha256(b"\n".join((settings, *lines))).hexdigest()
