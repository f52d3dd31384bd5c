"""A person's own folder of images."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from foveate.data.checks import warnings_about
from foveate.data.classification import ImageClassification, Images
from foveate.data.decode import require_pillow
from foveate.data.layout import Layout, read_layout
from foveate.data.reading import Reading, read_images
from foveate.data.report import DataReport, enumerated, shown
from foveate.data.split import deal
from foveate.errors import DataError, check_at_least, check_choice

PERCENT = 15
SPLITS = ("train", "validation", "test")


def image_folder(
    path: str | os.PathLike[str],
    *,
    size: int | None = None,
    on_error: Literal["skip", "stop"] = "skip",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> ImageClassification:
    """Read a folder that holds one folder of images a class, or such folders inside ``train``, ``val`` and ``test``.

    Images are judged by content, turned as their EXIF data says, made 8-bit RGB (what is transparent shows white,
    of several frames the first is taken), resized by the shorter side and cut to the centre square. Those that fit
    into 2 GiB together stay in memory, more are decoded each time one is asked for. Nothing is left out or changed
    without standing in the report.

    Without ``train`` and ``test`` folders each class is dealt by ``seed``: 15 % to validation, 15 % to test, the
    rest to train. Where only ``val`` or ``test`` is missing, 15 % of each class in ``train`` take its place. Copies
    of one image in a class are dealt as one.

    Args:
        path: The folder.
        size: Height and width of the images as a network gets them. By default 224, or where the median of the
            shorter sides is smaller, that rounded down to a multiple of 8, at least 32.
        on_error: Whether to ``"skip"`` files that should be images and cannot be used, or to ``"stop"`` at the
            first. Files that were never meant as images do not stop it.
        seed: Which images go to which split.
        progress: Called after each image with the count of those done and of all.

    Raises:
        DataError: If the folder has neither layout, a class has too few images, or a file is to stop it.
        OptionError: If an option's value cannot work.
        MissingExtraError: If Pillow is not installed.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from PIL import Image
        >>> with TemporaryDirectory() as folder:
        ...     for shade in range(10):
        ...         for name in ("dark", "light"):
        ...             Path(folder, name).mkdir(exist_ok=True)
        ...             level = shade if name == "dark" else 255 - shade
        ...             Image.new("L", (40, 50), level).save(Path(folder, name, f"{shade}.png"))
        ...     data = image_folder(folder)
        >>> data.classes, data.shape, len(data.train), len(data.validation), len(data.test)
        (('dark', 'light'), (3, 40, 40), 12, 4, 4)
    """
    check_choice("on_error", on_error, ("skip", "stop"))
    check_at_least("seed", seed, 0)
    if size is not None:
        check_at_least("size", size, 1)
    require_pillow()
    root = Path(path)
    layout = read_layout(root)
    owner = {
        name: (split, label)
        for split, by_class in layout.files.items()
        for label, names in enumerate(by_class.values())
        for name in names
    }
    reading = read_images(root, list(owner), size=size, stop=on_error == "stop", progress=progress)
    shares = {split: PERCENT for split in ("validation", "test") if split not in layout.files}
    members = _members(root, layout, reading, owner, shares, seed)

    classes = tuple(shown(name) for name in layout.classes)
    labels = [owner[name][1] for name in reading.names]
    names = [shown(name) for name in reading.names]
    splits = {
        split: Images(
            reading.pixels, members[split], [labels[i] for i in members[split]], [names[i] for i in members[split]]
        )
        for split in SPLITS
    }
    shape = (3, reading.size, reading.size)
    title = shown(Path(os.path.abspath(root)).name)  # noqa: PTH100  # "." has a name, and a link keeps its own
    counts = {
        split: {word: int((images.labels == label).sum()) for label, word in enumerate(classes)}
        for split, images in splits.items()
    }
    warnings = warnings_about(classes, labels, names, reading, members, counts)
    if layout.nested:
        folders = enumerated(map(shown, layout.nested))
        warnings.append(f"folders inside class folders were read as part of the class: {folders}")
    report = DataReport(
        name=title,
        shape=shape,
        counts=counts,
        split=_how(layout, shares, seed),
        skipped=reading.skipped,
        ignored=layout.ignored + reading.ignored,
        conversions=dict(sorted(reading.changes.items())),
        warnings=tuple(warnings),
    )
    return ImageClassification(
        name=title,
        classes=classes,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        shape=shape,
        fingerprint=_fingerprint(reading, seed if shares else None),
        report=report,
        official=tuple(split for split in SPLITS[1:] if split in layout.files),
    )


def _members(
    root: Path,
    layout: Layout,
    reading: Reading,
    owner: Mapping[str, tuple[str, int]],
    shares: Mapping[str, int],
    seed: int,
) -> dict[str, list[int]]:
    """The positions in the reading that each split has."""
    groups: dict[tuple[str, int], list[int]] = {}
    for position, name in enumerate(reading.names):
        groups.setdefault(owner[name], []).append(position)
    members: dict[str, list[int]] = {split: [] for split in SPLITS}
    too_few: list[str] = []
    for split, by_class in layout.files.items():
        is_dealt = split in ("all", "train")
        needed = 1 + len(shares) if is_dealt else 1
        for label, name in enumerate(by_class):
            positions = groups.get((split, label), [])
            digests = [reading.digests[position] for position in positions]
            if (different := len(set(digests))) < needed:
                where = "" if split == "all" else f" in {split}"
                too_few.append(f"{shown(name)}{where} has {different}, needs {needed}")
                continue
            dealt = deal(digests, shares, seed) if is_dealt else {split: list(range(len(digests)))}
            for part, chosen in dealt.items():
                members[part] += [positions[index] for index in chosen]
    if too_few:
        skipped = f" ({len(reading.skipped)} unusable, such as {reading.skipped[0]})" if reading.skipped else ""
        raise DataError(
            f"{shown(str(root))} has classes with too few different images: {enumerated(too_few, 5)}{skipped}; "
            "add images, or take these folders away"
        )
    return {split: sorted(positions) for split, positions in members.items()}


def _how(layout: Layout, shares: Mapping[str, int], seed: int) -> str:
    rest = ", ".join(f"{percent} % {split}" for split, percent in shares.items())
    if "all" in layout.files:
        return f"in every class {rest}, the rest train, by seed {seed}"
    if shares:
        return f"as the folders say, and {rest} split off every class of train, by seed {seed}"
    return "as the folders say"


def _fingerprint(reading: Reading, seed: int | None) -> str:
    """A hash of every file's relative name, length and content, and of what decides pixels and splits.

    The names come sorted: it does not depend on where the folder is, the order of listing, times, or files that
    are not used.
    """
    lines = [
        b"\0".join((os.fsencode(name), str(length).encode(), digest.encode()))
        for name, length, digest in zip(reading.names, reading.lengths, reading.digests, strict=True)
    ]
    settings = f"image_folder size={reading.size} seed={seed}".encode()
    return hashlib.sha256(b"\n".join((settings, *lines))).hexdigest()
