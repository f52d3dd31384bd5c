"""Reading medical images and their masks: each once, so that what cannot be used is known before training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foveate.data.decode import UnusableImageError
from foveate.data.medical.scans import Scan, as_picture, joint_digest, read_mask, read_scan
from foveate.data.medical.subjects import Listed
from foveate.data.report import shown
from foveate.errors import DataError

MEMORY_LIMIT = 2 * 2**30
MOST_CLASSES = 64


@dataclass(frozen=True)
class Case:
    """An image, or a slice of one, and what is known of it.

    Attributes:
        name: For people.
        file: Of the image, relative to the data's folder.
        image: Where it is.
        mask: Where its mask is.
        plane: Which axial slice of the volume it is; ``None`` for all of it.
        subject: Whom folders or tables say it is of.
        patient: Whom the file names.
        content: Digest of the image's file.
        digest: Digest of image and mask.
        shape: Channels and sides.
        spacing: Along each axis in mm, where known.
        split: Which side it was put on.
        foreground: Whether its mask is anything but background.
        label: The class of its patient.
        numbers: What the numbers in the mask become: the place of each here.
        binary: Whether all numbers above 0 become 1.
    """

    name: str
    file: str
    image: Path
    mask: Path | None
    plane: int | None
    subject: str | None
    patient: str | None
    content: str
    digest: str
    shape: tuple[int, ...]
    spacing: tuple[float, ...] | None
    split: str | None
    foreground: bool = False
    label: int | None = None
    numbers: tuple[int, ...] = ()
    binary: bool = False


@dataclass
class Shelf:
    """Images that were read, kept while they fit into memory; the others are read again each time."""

    kept: dict[Path, tuple[Tensor, Tensor | None]] = field(default_factory=dict[Path, tuple[Tensor, Tensor | None]])
    size: int = 0

    def keep(self, path: Path, image: Tensor, mask: Tensor | None) -> None:
        """Keep one, if there is room."""
        taken = image.nbytes + (0 if mask is None else mask.nbytes)
        if self.size + taken <= MEMORY_LIMIT:
            self.kept[path] = image, mask
            self.size += taken

    def get(self, case: Case) -> tuple[Tensor, Tensor]:
        """The image of a case, and its mask or label.

        Raises:
            DataError: If the file is no longer what it was.
        """
        if case.image in self.kept:
            image, mask = self.kept[case.image]
        else:
            try:
                scan, mask = _read(case.image, case.mask, case.binary)
            except UnusableImageError as error:
                raise DataError(f"{shown(case.name)} could be read before and now {error}") from error
            if scan.digest != case.content:
                raise DataError(f"{shown(case.name)} has changed since the folder was read: read the folder again")
            image = scan.values
        if case.plane is not None:
            image = as_picture(image[..., case.plane])
            mask = None if mask is None else as_picture(mask[..., case.plane])
        image = image.expand(case.shape[0], *image.shape[1:])  # of a grey image among coloured ones
        if mask is None:
            return image.clone(), torch.tensor(-1 if case.label is None else case.label)
        if case.numbers and case.numbers != tuple(range(len(case.numbers))):
            table = torch.zeros(max(case.numbers) + 1, dtype=torch.int64)
            table[list(case.numbers)] = torch.arange(len(case.numbers))
            return image.clone(), table[mask.long()]
        return image.clone(), mask.to(torch.int64)


@dataclass(frozen=True)
class Read:
    """What was read.

    Attributes:
        cases: In order.
        shelf: Where their images are.
        dimensions: 2 or 3.
        ids: The numbers that masks have, ascending.
        changes: What was done to how many images.
    """

    cases: list[Case]
    shelf: Shelf
    dimensions: int
    ids: tuple[int, ...]
    changes: Counter[str]


def read_cases(
    found: Sequence[Listed],
    *,
    masks: bool,
    dimensions: int | None,
    binary: bool,
    known: frozenset[int] | None,
    leave_out: Callable[[str, str], None],
    progress: Callable[[int, int], None] | None = None,
) -> Read:
    """Read all images, and their masks where these are wanted.

    Args:
        found: What was found.
        masks: Whether an image without a mask is of no use.
        dimensions: See :func:`~foveate.data.medical.subject_folder`.
        binary: See there.
        known: The numbers that masks may have; ``None`` for any.
        leave_out: Told of each that cannot be used, and why.
        progress: Called after each.

    Raises:
        DataError: If volumes and flat images are mixed, channels differ, or masks have too many numbers.
    """
    shelf, changes, ids = Shelf(), Counter[str](), {0}
    read: list[tuple[Case, Scan]] = []
    for done, one in enumerate(found, 1):
        try:
            case, scan, numbers = _case(one, masks, binary, known, shelf)
        except UnusableImageError as error:
            leave_out(one.name, str(error))
        else:
            read.append((case, scan))
            ids |= numbers
            changes.update(scan.changes)
        if progress is not None:
            progress(done, len(found))
    axes = {len(case.shape) - 1 for case, _ in read}
    if dimensions is None and len(axes) > 1:
        raise DataError("volumes and flat images are mixed: choose dimensions=2 to cut volumes into slices")
    if dimensions == 3 and 2 in axes:
        raise DataError("dimensions=3 needs volumes, and some images are flat")
    channels = {case.shape[0] for case, _ in read}
    if channels == {1, 3}:
        grey = [case for case, _ in read if case.shape[0] == 1]
        changes["grey repeated to three channels"] = len(grey)
        read = [(replace(case, shape=(3, *case.shape[1:])), scan) for case, scan in read]
    elif len(channels) > 1:
        raise DataError(f"images have different numbers of channels, {sorted(channels)}: make them alike")
    if masks and len(ids) > MOST_CLASSES:
        raise DataError(
            f"masks have {len(ids):,} different numbers, more than {MOST_CLASSES} classes: if they number instances, "
            "choose binary=true"
        )
    sides = dimensions or next(iter(axes), 2)
    cases = [slice_ for case, _ in read for slice_ in (_slices(case, shelf) if len(case.shape) - 1 > sides else [case])]
    return Read(cases, shelf, sides, tuple(sorted(ids)), changes)


def _case(
    one: Listed, masks: bool, binary: bool, known: frozenset[int] | None, shelf: Shelf
) -> tuple[Case, Any, set[int]]:
    if masks and one.mask is None:
        raise UnusableImageError("has no mask")
    scan, mask = _read(one.image, one.mask if masks else None, binary)
    numbers = set[int]() if mask is None else set(mask.unique().tolist())
    if known is not None and (unknown := sorted(numbers - known)):
        raise UnusableImageError(f"has a mask with numbers that classes.csv does not name: {unknown[:5]}")
    shelf.keep(one.image, scan.values, mask)
    if float(scan.values.min()) == float(scan.values.max()):
        scan = replace(scan, changes=(*scan.changes, "image of one value everywhere, kept"))
    digest = scan.digest if one.mask is None or not masks else joint_digest([scan.digest, str(mask_digest(mask))])
    case = Case(
        name=one.name, file=one.name, image=one.image, mask=one.mask if masks else None, plane=None,
        subject=one.subject, patient=scan.patient, content=scan.digest, digest=digest,
        shape=tuple(scan.values.shape), spacing=scan.spacing, split=one.split,
        foreground=bool(numbers - {0}), binary=binary,
    )  # fmt: skip
    return case, replace(scan, values=scan.values[:0]), numbers


def mask_digest(mask: Tensor | None) -> str:
    """SHA-256 of the numbers of a mask."""
    import hashlib

    return "" if mask is None else hashlib.sha256(mask.to(torch.int32).contiguous().numpy().tobytes()).hexdigest()


def _read(image: Path, mask: Path | None, binary: bool) -> tuple[Scan, Tensor | None]:
    """An image and its mask, which must lie over it."""
    scan = read_scan(image)
    if mask is None:
        return scan, None
    try:
        ids, place = read_mask(mask)
    except UnusableImageError as error:
        raise UnusableImageError(f"has a mask that {error}") from error
    if ids.shape != scan.values.shape[1:]:
        sizes = ("×".join(map(str, shape)) for shape in (ids.shape, scan.values.shape[1:]))
        raise UnusableImageError(f"has a mask of another size: {' instead of '.join(sizes)}")
    if scan.affine is not None and place.affine is not None:
        corner = torch.tensor([*(side - 1.0 for side in ids.shape), 1.0])
        apart = max(
            float((scan.affine - place.affine)[:3, 3].norm()),
            float(((scan.affine - place.affine) @ corner)[:3].norm()),
        )
        if apart > min(scan.spacing or (1.0,)):
            raise UnusableImageError(f"has a mask that lies elsewhere, by up to {apart:.1f} mm")
    ids = (ids > 0).long() if binary else ids
    return scan, ids.to(torch.uint8) if int(ids.max()) < 256 else ids.to(torch.int32)


def _slices(case: Case, shelf: Shelf) -> list[Case]:
    """The axial slices of a volume in which there is anything."""
    image, truth = shelf.get(case)
    spacing = None if case.spacing is None else (case.spacing[1], case.spacing[0])
    planes = image.movedim(-1, 0)
    found: list[Case] = []
    for plane in range(len(planes)):
        if float(planes[plane].min()) == float(planes[plane].max()):
            continue
        inside = truth.ndim > 0 and bool((truth[..., plane] > 0).any())
        shape = (case.shape[0], case.shape[2], case.shape[1])
        found.append(
            replace(case, name=f"{case.name}#{plane}", plane=plane, spacing=spacing, shape=shape, foreground=inside)
        )
    return found
