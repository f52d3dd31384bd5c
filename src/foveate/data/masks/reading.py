"""Reading images with their masks: every pair is decoded once, so that what cannot be used is known before training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int32, UInt8
from torch import Tensor

from foveate.data.decode import ORIENTATION, UnusableImageError, decode, decode_ids, digest_of
from foveate.data.masks.ids import Meaning, meaning_of
from foveate.data.masks.segmentation import Pair
from foveate.data.reading import MEMORY_LIMIT, Reader, collected_remarks
from foveate.data.report import LeftOut, enumerated, shown
from foveate.errors import DataError

TURNED = "mask turned with its image, as EXIF says"
UNSURE = "turned as EXIF says, its mask taken as it is"
JPEG = b"\xff\xd8"


@dataclass(frozen=True)
class Opened:
    """An image and the numbers of its mask, as they are in the files."""

    pixels: UInt8[Tensor, "3 h w"]
    ids: Int32[Tensor, "h w"]
    digests: tuple[str, str]
    changes: tuple[str, ...]


def open_pair(image: Path, mask: Path) -> Opened:
    """Decode both and see that they belong together.

    Raises:
        UnusableImageError: If one cannot be read, or they differ in size.
    """
    decoded = decode(image, None)
    try:
        ids, digest = decode_ids(mask), digest_of(mask)[0]
        with mask.open("rb") as file:
            if file.read(2) == JPEG:
                raise UnusableImageError("is JPEG, which changes numbers: save masks as PNG")
    except UnusableImageError as error:
        raise UnusableImageError(f"has a mask, {shown(mask.name)}, that {error}") from error
    changes = list(decoded.changes)
    size = tuple(decoded.pixels.shape[1:])
    if "turned as EXIF says" in changes:
        if tuple(ids.shape) == size[::-1] != size:
            ids = _turned(ids, image)
            changes.append(TURNED)
        else:
            changes.append(UNSURE)
    if tuple(ids.shape) != size:
        raise UnusableImageError(
            f"has {size[0]}×{size[1]} pixels, and its mask {shown(mask.name)} {ids.shape[0]}×{ids.shape[1]}: "
            "draw masks at the size of their image"
        )
    return Opened(decoded.pixels, ids, (decoded.digest, digest), tuple(changes))


def _turned(ids: Tensor, image: Path) -> Tensor:
    """A mask turned by a quarter, and mirrored or not, as the EXIF data of its image says."""
    from PIL import Image

    with Image.open(image) as file:
        orientation = file.getexif().get(ORIENTATION)
    match orientation:
        case 5:
            return ids.T.contiguous()
        case 6:
            return torch.rot90(ids, -1).contiguous()
        case 7:
            return ids.T.flip(0, 1).contiguous()
        case _:
            return torch.rot90(ids, 1).contiguous()


@dataclass(frozen=True)
class PairFiles:
    """Images and masks that stay on disk, decoded each time one is asked for."""

    root: Path
    names: tuple[tuple[str, str], ...]
    digests: tuple[tuple[str, str], ...]
    meaning: Meaning

    def __getitem__(self, index: int, /) -> Pair:
        """Decode one.

        Raises:
            DataError: If a file is no longer what it was when the folder was read.
        """
        image, mask = (self.root / name for name in self.names[index])
        try:
            opened = open_pair(image, mask)
        except UnusableImageError as error:
            raise DataError(f"{shown(str(image))} could be read before and now {error}") from error
        if opened.digests != self.digests[index]:
            raise DataError(f"{shown(str(image))} or its mask has changed since the folder was read: read it again")
        return opened.pixels, self.meaning.classes_of(opened.ids)


@dataclass(frozen=True)
class MaskReading:
    """The usable pairs among many, and what happened to the others.

    Attributes:
        names: Of the images that can be used, in the order given.
        digests: SHA-256 of each image and its mask.
        sizes: Height and width of each.
        counts: Pixels of each by class; those of no class are in none.
        pairs: The images and masks themselves, by their place in ``names``.
        meaning: What the numbers were taken for.
        skipped: Images that should be used and cannot be.
        ignored: Files that were never meant as images.
        changes: How often each conversion was needed.
        remarks: What the decoder warned about.
    """

    names: tuple[str, ...]
    digests: tuple[tuple[str, str], ...]
    sizes: tuple[tuple[int, int], ...]
    counts: tuple[Mapping[int, int], ...]
    pairs: list[Pair] | PairFiles
    meaning: Meaning
    skipped: tuple[LeftOut, ...]
    ignored: tuple[LeftOut, ...]
    changes: Counter[str]
    remarks: tuple[str, ...]


def read_pairs(
    root: Path,
    masks: Mapping[str, str],
    mean: Callable[[list[Mapping[int, int]]], Meaning],
    *,
    stop: bool,
    progress: Callable[[int, int], None] | None,
) -> MaskReading:
    """Decode all images and masks, settle what the numbers mean, and leave out masks with others.

    They are kept in memory if all of them together fit into ``MEMORY_LIMIT`` bytes.

    Args:
        root: What paths are relative to.
        masks: Each image's mask.
        mean: What decides what the numbers mean, given the count of each in each mask; :func:`meaning_of` with a
            person's choices.
        stop: Whether the first image that cannot be used stops everything.
        progress: Called after each image with the count of those done and of all.

    Raises:
        DataError: If ``stop`` and something cannot be used, or the numbers can mean nothing.
    """
    reader = Reader(root, stop)
    reader.identified = masks.keys()  # whatever has a mask is meant as an image
    kept: dict[str, tuple[Tensor, Tensor]] | None = {}
    held = 0
    seen: dict[str, tuple[tuple[str, str], tuple[int, int], dict[int, int], tuple[str, ...]]] = {}

    def both(path: Path) -> Opened:
        return open_pair(path, root / masks[path.relative_to(root).as_posix()])

    with collected_remarks() as remarks, closing(reader.each(both, list(masks), progress)) as pairs:
        for name, opened in pairs:
            numbers, times = opened.ids.unique(return_counts=True)
            counts = dict(zip(numbers.tolist(), times.tolist(), strict=True))
            height, width = opened.ids.shape
            seen[name] = (opened.digests, (height, width), counts, opened.changes)
            held += opened.pixels.numel() + opened.ids.numel()
            if held > MEMORY_LIMIT:
                kept = None
            if kept is not None:
                small = max(counts) <= 255 and min(counts) >= 0
                kept[name] = opened.pixels, opened.ids.to(torch.uint8) if small else opened.ids
    meaning = mean([counts for _, _, counts, _ in seen.values()])
    for name, (_, _, counts, _) in list(seen.items()):
        if unknown := meaning.unknown(counts):
            reader.leave_out(name, UnusableImageError(_strangers(unknown, meaning)))
            del seen[name]
    digests = tuple(digests for digests, _, _, _ in seen.values())
    return MaskReading(
        names=tuple(seen),
        digests=digests,
        sizes=tuple(size for _, size, _, _ in seen.values()),
        counts=tuple(_by_class(counts, meaning) for _, _, counts, _ in seen.values()),
        pairs=PairFiles(root, tuple((name, masks[name]) for name in seen), digests, meaning)
        if kept is None
        else [(kept[name][0], meaning.classes_of(kept[name][1].int())) for name in seen],
        meaning=meaning,
        skipped=tuple(reader.skipped),
        ignored=tuple(reader.ignored),
        changes=Counter(change for *_, changes in seen.values() for change in changes),
        remarks=tuple(sorted(remarks)),
    )


def _strangers(unknown: list[int], meaning: Meaning) -> str:
    numbers = enumerated(map(str, unknown), 5)
    if meaning.way == "instances":
        return f"has a mask with numbers below 0 ({numbers})"
    return f"has a mask with numbers that no class has ({numbers}): there are {len(meaning.classes)} classes, from 0"


def _by_class(counts: Mapping[int, int], meaning: Meaning) -> dict[int, int]:
    found: dict[int, int] = {}
    for number, count in counts.items():
        of = int(meaning.classes_of(torch.tensor([[number]], dtype=torch.int32)))
        if of < len(meaning.classes):
            found[of] = found.get(of, 0) + count
    return found


__all__ = ["MaskReading", "Opened", "PairFiles", "meaning_of", "open_pair", "read_pairs"]
