"""Medical images of any kind as one thing: values, spacing, and where they lie in the patient."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from foveate.data.decode import UnusableImageError, decode, decode_ids, digest_of
from foveate.errors import MissingExtraError

if TYPE_CHECKING:
    import numpy as np

EXTRA = "medical"
VOLUMES = (".nii", ".nii.gz")
PICTURES = (".bmp", ".jpg", ".jpeg", ".png", ".pgm", ".ppm", ".tif", ".tiff", ".webp")
VOXEL_LIMIT = 2**28  # as many as 1,024 slices of 512×512: 1 GiB of float32
CHANNEL_LIMIT = 16


@dataclass(frozen=True)
class Scan:
    """A medical image.

    Attributes:
        values: As the file means them (Hounsfield units, say), float32: ``(c, h, w)``, or ``(c, x, y, z)`` with axes
            that point to the patient's right, front and top.
        spacing: Distance of neighbours along each axis, in mm; ``None`` where the file does not say.
        affine: From indices of a volume to mm, 4×4; ``None`` for what is flat.
        patient: Whom the file names; ``None`` where it names nobody.
        digest: SHA-256 of the file, or of a series of files.
        changes: What had to be done to it, in words that a report can count.
    """

    values: Float[Tensor, "c ..."]
    spacing: tuple[float, ...] | None
    affine: Float[Tensor, "4 4"] | None
    patient: str | None
    digest: str
    changes: tuple[str, ...] = ()

    @property
    def dimensions(self) -> int:
        """2 or 3."""
        return self.values.ndim - 1


def read_scan(path: Path) -> Scan:
    """Read a NIfTI file, a DICOM file, a folder with one DICOM series, or a picture.

    Raises:
        UnusableImageError: If it cannot be read; the message is the end of a sentence about the file.
        MissingExtraError: If the package that reads it is not installed.
    """
    from foveate.data.medical.dicom import is_dicom, read_dicom, read_series
    from foveate.data.medical.nifti import read_nifti

    if path.is_dir():
        return read_series(path)
    if path.name.lower().endswith(VOLUMES):
        return read_nifti(path)
    if is_dicom(path):
        return read_dicom(path)
    if path.suffix.lower() in PICTURES:
        return _read_picture(path)
    raise UnusableImageError("is neither NIfTI nor DICOM nor a picture")


def read_mask(path: Path) -> tuple[Int64[Tensor, " *axes"], Scan]:
    """Read the whole numbers of a mask, from a NIfTI file or a picture, and what the file says besides.

    Raises:
        UnusableImageError: If it is not a mask.
    """
    from foveate.data.medical.nifti import read_nifti

    if path.name.lower().endswith(VOLUMES):
        scan = read_nifti(path)
        if scan.values.shape[0] != 1:
            raise UnusableImageError(f"has {scan.values.shape[0]} channels, and a mask has one number a voxel")
        ids = scan.values[0].round()
        if bool((ids - scan.values[0]).abs().max() > 1e-3) or bool(ids.min() < 0):
            raise UnusableImageError("holds other numbers than 0, 1, 2, …, and a mask has the number of a class")
        return ids.long(), scan
    if path.suffix.lower() in PICTURES:
        ids = decode_ids(path).long()
        return ids, Scan(ids[None].float(), None, None, None, digest_of(path)[0])
    raise UnusableImageError("is neither NIfTI nor a picture, and masks are read from these: convert it to NIfTI")


def as_picture(plane: Tensor) -> Tensor:
    """A plane of a volume, ``(..., x, y)``, as people look at it: the patient's front up, their right on the right.

    Example:
        >>> as_picture(torch.tensor([[1, 2], [3, 4]]))
        tensor([[2, 4],
                [1, 3]])
    """
    return plane.transpose(-2, -1).flip(-2)


def as_plane(picture: Tensor) -> Tensor:
    """What :func:`as_picture` was made from.

    Example:
        >>> as_plane(as_picture(torch.tensor([[1, 2], [3, 4]]))).tolist()
        [[1, 2], [3, 4]]
    """
    return picture.flip(-2).transpose(-2, -1)


def scan_of(
    array: np.ndarray[Any, Any], affine: Any, patient: str | None, digest: str, changes: tuple[str, ...]
) -> Scan:
    """A scan from an array of ``(x, y, z)`` or ``(x, y, z, c)`` and where its voxels are; flat where z is one.

    Raises:
        UnusableImageError: If the places of the voxels make no sense.
    """
    nibabel = imported("nibabel")
    import numpy as np

    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise UnusableImageError("says nothing usable about the size of its voxels (its affine is singular)")
    if not np.isfinite(array).all():
        array, changes = np.nan_to_num(array, nan=0.0, posinf=0.0, neginf=0.0), (*changes, "NaN or ∞ set to 0")
    orientation = nibabel.io_orientation(affine)
    if (orientation != [[0, 1], [1, 1], [2, 1]]).any():
        affine = affine @ nibabel.orientations.inv_ornt_aff(orientation, array.shape[:3])
        array, changes = nibabel.apply_orientation(array, orientation), (*changes, "axes turned to RAS")
    values = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
    values = values.movedim(-1, 0).contiguous() if values.ndim == 4 else values[None]
    spacing = tuple(float(side) for side in nibabel.affines.voxel_sizes(affine))
    if values.shape[-1] == 1:
        return Scan(as_picture(values[..., 0]).contiguous(), (spacing[1], spacing[0]), None, patient, digest, changes)
    return Scan(values, spacing, torch.from_numpy(np.asarray(affine, dtype=np.float32)), patient, digest, changes)


def check_voxels(count: int) -> None:
    """Refuse what would fill the memory.

    Raises:
        UnusableImageError: With the limit.
    """
    if count > VOXEL_LIMIT:
        raise UnusableImageError(f"claims {count:,} voxels, more than the {VOXEL_LIMIT:,} that are read: cut it")
    if count < 1:
        raise UnusableImageError("has no voxels")


def imported(package: str) -> Any:
    """A package of the extra.

    Raises:
        MissingExtraError: If it is not installed.
    """
    from importlib import import_module

    try:
        return import_module(package)
    except ImportError as error:
        raise MissingExtraError(package, EXTRA) from error


def joint_digest(digests: list[str]) -> str:
    """One digest of several files, in any order.

    Example:
        >>> joint_digest(["a", "b"]) == joint_digest(["b", "a"])
        True
    """
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()


def _read_picture(path: Path) -> Scan:
    decoded = decode(path, None)
    pixels = decoded.pixels
    grey = bool((pixels[0] == pixels[1]).all() and (pixels[0] == pixels[2]).all())
    return Scan(pixels[: 1 if grey else 3].float(), None, None, None, decoded.digest, decoded.changes)
