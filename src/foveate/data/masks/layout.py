"""Which mask belongs to which image: folders of images and masks, alone or in splits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from foveate.data.layout import CLUTTER, SPLITS, check_folder
from foveate.data.reading import MEANT_AS_IMAGE
from foveate.data.report import LeftOut, enumerated, shown
from foveate.errors import DataError

IMAGES, MASKS = ("images",), ("masks", "labels", "annotations")
EXAMPLE = "give images/1.jpg with masks/1.png, or these two folders in train, val and test"


@dataclass(frozen=True)
class MaskLayout:
    """The files of a data set, not opened yet.

    Attributes:
        masks: By split, the path of each image's mask by the image's path, relative to the root, sorted. Without
            folders for splits there is one split, ``"all"``.
        skipped: Images without a mask, masks without an image, and those of which more than one have a name.
        ignored: What was never meant as either.
    """

    masks: dict[str, dict[str, str]]
    skipped: tuple[LeftOut, ...]
    ignored: tuple[LeftOut, ...]


def read_mask_layout(root: Path) -> MaskLayout:
    """Find the images and masks of a folder that have the same name but for its ending.

    Both ``train/images/1.jpg`` and ``images/train/1.jpg`` are understood.

    Raises:
        DataError: If it is no folder or has no such folders, with what to do.
    """
    check_folder(root, f"images and masks: {EXAMPLE}")
    skipped: list[LeftOut] = []
    ignored: list[LeftOut] = []
    masks = {
        split: _pairs(root, *folders, skipped, ignored) for split, folders in _splits(root).items()
    }  # fmt: skip
    if not any(masks.values()):
        reasons = f" ({enumerated(map(str, skipped), 2)})" if skipped else ""
        raise DataError(f"{shown(str(root))} has no image with a mask of the same name{reasons}: {EXAMPLE}")
    empty = [split for split, found in masks.items() if not found]
    if empty:
        raise DataError(f"{enumerated(empty)} in {shown(str(root))} has no image with a mask: fill it, or take it away")
    return MaskLayout(masks, tuple(skipped), tuple(ignored))


def _splits(root: Path) -> dict[str, tuple[Path, Path]]:
    """The folder of images and the folder of masks of each split."""
    images, masks = _named(root, IMAGES), _named(root, MASKS)
    if images is not None and masks is not None:
        inside = {split: (folder, _named(masks, (folder.name,))) for split, folder in _split_folders(images).items()}
        if not inside:
            return {"all": (images, masks)}
        found = {split: (folder, other) for split, (folder, other) in inside.items() if other is not None}
        lacking = sorted(inside.keys() - found.keys())
        where = shown(masks.name)
    elif images is None and masks is None:
        inside = _split_folders(root)
        pairs = {split: (_named(folder, IMAGES), _named(folder, MASKS)) for split, folder in inside.items()}
        found = {split: (a, b) for split, (a, b) in pairs.items() if a is not None and b is not None}
        lacking = sorted(inside.keys() - found.keys())
        where = shown(str(root))
    else:
        there = images or masks
        raise DataError(f"{shown(str(root))} has {shown(there.name if there else '')} alone: {EXAMPLE}")
    if lacking:
        raise DataError(f"{enumerated(lacking)} in {where} lacks images or masks: {EXAMPLE}")
    if "train" not in found:
        what = f"has {enumerated(found)} and no train" if found else "has neither images and masks nor splits of them"
        raise DataError(f"{shown(str(root))} {what}: {EXAMPLE}")
    return found


def _named(folder: Path, names: tuple[str, ...]) -> Path | None:
    """The folder in a folder that has one of some names, in any case of letters."""
    found = [one for one in _folders(folder) if one.name.lower() in [name.lower() for name in names]]
    if len(found) > 1:
        raise DataError(
            f"{shown(str(folder))} has {enumerated(shown(one.name) for one in found)}: keep the one that is meant"
        )
    return found[0] if found else None


def _split_folders(folder: Path) -> dict[str, Path]:
    """The folders for splits in a folder."""
    found: dict[str, Path] = {}
    for one in _folders(folder):
        split = SPLITS.get(one.name.lower())
        if split in found:
            raise DataError(
                f"{shown(str(folder))} has {split} twice, as {shown(found[split].name)} and {shown(one.name)}"
            )
        if split is not None:
            found[split] = one
    return found


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(one for one in folder.iterdir() if one.is_dir())
    except OSError as error:
        raise DataError(f"{shown(str(folder))} cannot be listed: {error.strerror}") from error


def _pairs(
    root: Path, images: Path, masks: Path, skipped: list[LeftOut], ignored: list[LeftOut]
) -> dict[str, str]:  # fmt: skip
    by_key = _by_key(root, images, skipped, ignored)
    of_key = _by_key(root, masks, skipped, ignored)
    found = {path: of_key[key] for key, path in by_key.items() if key in of_key}
    for these, others, word in ((by_key, of_key, "mask"), (of_key, by_key, "image")):
        folder = masks if word == "mask" else images
        for key, path in these.items():
            if key in others:
                continue
            if MEANT_AS_IMAGE.search(path):
                where = shown((folder / key).relative_to(root).as_posix())
                skipped.append(LeftOut(shown(path), f"has no {word}: there is no {where}.*"))
            else:
                ignored.append(LeftOut(shown(path), "is no image"))
    return dict(sorted(found.items()))


def _by_key(root: Path, folder: Path, skipped: list[LeftOut], ignored: list[LeftOut]) -> dict[str, str]:
    """The files in a folder, by their path in it without ending; those that share one are left out."""
    found: dict[str, list[str]] = {}
    for path in _walk(folder):
        name = path.relative_to(root).as_posix()
        if path.name.startswith(".") or path.name.lower() in CLUTTER:
            ignored.append(LeftOut(shown(name), "is hidden or left by a system"))
        else:
            found.setdefault(path.relative_to(folder).with_suffix("").as_posix(), []).append(name)
    for names in found.values():
        if len(names) > 1:
            meant = [name for name in names if MEANT_AS_IMAGE.search(name)]
            others = [name for name in names if name not in meant]
            ignored += [LeftOut(shown(name), "is no image") for name in others]
            names[:] = meant
        if len(names) > 1:
            skipped += [
                LeftOut(shown(name), f"has the same name as {shown(next(other for other in names if other != name))}")
                for name in names
            ]
            names.clear()
    return {key: names[0] for key, names in found.items() if names}


def _walk(top: Path) -> Iterator[Path]:
    """Every file below a folder, sorted; links to folders are not followed, so none can lead in a circle."""
    for folder, inner, names in os.walk(top):
        inner.sort()
        yield from (Path(folder, name) for name in sorted(names))
