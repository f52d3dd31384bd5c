"""Training, validation and test drawn anew from the same samples, for data so small that one split decides much."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from foveate.data.boxes.detection import BoxImages, Detection, counted
from foveate.data.classification import ImageClassification, Images
from foveate.data.masks.segmentation import MaskedImages, Segmentation
from foveate.data.medical.data import Cases, Medical
from foveate.data.report import enumerated
from foveate.data.split import deal
from foveate.errors import DataError, check_at_least, check_bool

SPLITS = ("train", "validation", "test")
Data = TypeVar("Data", ImageClassification, Segmentation, Detection, Medical)


def resplit(data: Data, seed: int, *, official: bool = False) -> Data:
    """Pool the splits of some data and deal them anew by seed, in the sizes that they had.

    What belongs together stays together: the images of a patient, and copies of an image, known by their pixels.
    Images are dealt class by class, patients too where they have classes. Splits that the data came with stay as they
    are, and nothing is dealt into them, unless ``official`` says otherwise.

    Readers deal by a seed of their own in the same way; this needs no second reading, though every image is decoded
    once if it is not in memory.

    Args:
        data: What a reader returned.
        seed: Another seed is another split.
        official: Whether splits that the data came with are dealt anew, too.

    Raises:
        DataError: If there is nothing to deal: all splits came with the data, or a class has too few images; also for
            the embedded scenes, whose samples share clothes: another seed of :func:`~foveate.data.scene_masks` makes
            others.
        OptionError: If there is no such seed.

    Example:
        >>> from foveate.data import fashion_mnist
        >>> data = fashion_mnist()
        >>> again, all_of_it = resplit(data, 1), resplit(data, 1, official=True)
        >>> len(again.train), len(again.validation), again.test is data.test, again.train.names == data.train.names
        (1800, 200, True, False)
        >>> len(all_of_it.test), all_of_it.report.split
        (500, 'pooled and dealt anew by seed 1: train, validation, test')
    """
    check_at_least("seed", seed, 0)
    check_bool("official", official)
    if "train" in data.official:
        raise DataError(
            f"the samples of {data.name} share parts with others of their split, so they cannot be dealt anew: make "
            "others by another seed"
        )
    dealt = [split for split in SPLITS if official or split not in data.official]
    if dealt == ["train"]:
        raise DataError(
            f"validation and test of {data.name} came with the data: official=True deals them anew, and results are "
            "then not comparable with published ones"
        )
    pool, groups, strata = _pooled([getattr(data, split) for split in dealt])
    sizes = {split: len(getattr(data, split)) for split in dealt}
    members = _sides(data.name, groups, strata, sizes, seed)
    splits = {split: pool.take(members[split]) if split in members else getattr(data, split) for split in SPLITS}
    how = f"pooled and dealt anew by seed {seed}: {', '.join(dealt)}"
    if kept := [split for split in SPLITS if split not in dealt]:
        how += f"; {' and '.join(kept)} as it was"
    fingerprint = hashlib.sha256(f"resplit seed={seed} {dealt} {data.fingerprint}".encode()).hexdigest()
    report: Any = replace(
        data.report,  # type: ignore[type-var]
        **_counts(data, splits),
        split=how,
        warnings=tuple(f"of the split as it was read: {one}" for one in data.report.warnings),
    )
    return replace(data, **splits, fingerprint=fingerprint, report=report)


def _sides(
    name: str, groups: Sequence[str], strata: Sequence[int], sizes: Mapping[str, int], seed: int
) -> dict[str, list[int]]:
    """The positions in the pool that each split gets: groups whole, and of each stratum its share."""
    first: dict[str, int] = {}
    for group, stratum in zip(groups, strata, strict=True):
        first.setdefault(group, stratum)
    shares = {split: round(100 * count / sum(sizes.values())) for split, count in sizes.items() if split != "train"}
    members: dict[str, list[int]] = {split: [] for split in sizes}
    for stratum in sorted(set(first.values())):
        positions = [position for position, group in enumerate(groups) if first[group] == stratum]
        different = len({groups[position] for position in positions})
        if different < len(sizes):
            raise DataError(
                f"{name} cannot be dealt anew to {enumerated(sizes)}: there are {different} different images or "
                f"patients{'' if len(set(first.values())) == 1 else ' of a class'}"
            )
        for split, chosen in deal([groups[position] for position in positions], shares, seed).items():
            members[split] += [positions[one] for one in chosen]
    return {split: sorted(positions) for split, positions in members.items()}


def _pooled(splits: Sequence[Any]) -> tuple[Any, list[str], list[int]]:
    """All samples of some splits as one, what belongs together, and the stratum of each."""
    first = splits[0]
    if isinstance(first, Cases):
        pool = first.with_those_of(*splits[1:])
        return pool, [str(number) for number in pool.patients], [-1 if one is None else one for one in pool.labels]
    source = _Pool(splits)
    names = [name for one in splits for name in one.names]
    groups = [_digest(pixels) for pixels in source]
    places = range(len(names))
    if isinstance(first, Images):
        labels: list[int] = torch.cat([one.labels for one in splits]).tolist()
        return Images(source, places, labels, names), groups, labels
    if isinstance(first, BoxImages):
        boxes, sizes = ([part for one in splits for part in getattr(one, kind)] for kind in ("boxes", "sizes"))
        return BoxImages(source, places, boxes, names, sizes), groups, [0] * len(names)
    return MaskedImages(_Pairs(splits), places, names), groups, [0] * len(names)


class _Pairs:
    """The samples of several splits, one after the other."""

    def __init__(self, splits: Sequence[Any]) -> None:
        self.places = [(split, index) for split in splits for index in range(len(split))]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int, /) -> Any:
        split, its = self.places[index]
        return split[its]


class _Pool(_Pairs):
    """Their images alone."""

    def __getitem__(self, index: int, /) -> Tensor:
        return super().__getitem__(index)[0]


def _digest(pixels: Tensor) -> str:
    content = pixels.contiguous().numpy().tobytes()
    return hashlib.sha256(f"{tuple(pixels.shape)}".encode() + content).hexdigest()


def _counts(data: Any, splits: Mapping[str, Any]) -> dict[str, Any]:
    """What a report says of how much is in each split."""
    if isinstance(data, Detection):
        return {
            "images": {split: len(images) for split, images in splits.items()},
            "empty": {split: sum(not len(one.boxes) for one in images.boxes) for split, images in splits.items()},
            "counts": counted(splits, data.classes),
        }
    if isinstance(data, Segmentation):
        tables = {split: _pixels(images, len(data.classes)) for split, images in splits.items()}
        return {
            "counts": {split: len(images) for split, images in splits.items()},
            "pixels": {split: dict(zip(data.classes, table, strict=True)) for split, table in tables.items()},
        }
    if isinstance(data, Medical):
        return {"counts": {split: _of_patients(cases, data.classes) for split, cases in splits.items()}}
    tables = {split: images.labels.bincount(minlength=len(data.classes)).tolist() for split, images in splits.items()}
    return {"counts": {split: dict(zip(data.classes, table, strict=True)) for split, table in tables.items()}}


def _pixels(images: MaskedImages, classes: int) -> list[int]:
    total = torch.zeros(256, dtype=torch.int64)
    for number in range(len(images)):
        total += images[number][1].flatten().int().bincount(minlength=256)
    return total[:classes].tolist()


def _of_patients(cases: Cases, classes: Sequence[str]) -> dict[str, int]:
    found = {"cases": len(cases), "patients": len(set(cases.patients))}
    if None in cases.labels:
        return found | {"without": sum(not there for there in cases.foreground)}
    pairs = set(zip(cases.patients, cases.labels, strict=True))
    return found | {name: sum(label == number for _, label in pairs) for number, name in enumerate(classes)}
