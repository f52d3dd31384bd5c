"""DICOM: single slices, and a series of them as one volume."""

from __future__ import annotations

import stat
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from foveate.data.decode import UnusableImageError, digest_of
from foveate.data.medical.scans import Scan, check_voxels, imported, joint_digest, scan_of
from foveate.data.report import shown

if TYPE_CHECKING:
    import numpy as np

SLICE_LIMIT = 4096
UNEVEN = 0.05  # how much the gaps between slices may differ, as a share of the usual one
NOBODY = {"", "0", "anon", "anonymous", "anonymized", "anonymised", "none", "n/a", "unknown", "removed", "patient"}
MAGIC = b"DICM"


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM files do, whatever its name."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False
        with path.open("rb") as file:
            return file.read(132)[128:] == MAGIC
    except OSError:
        return False


@contextmanager
def _quietly() -> Generator[None]:
    """Without pydicom's warnings: what matters of a damaged file becomes a reason."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@_quietly()
def read_dicom(path: Path) -> Scan:
    """Read a file with one slice, as a flat image ``(c, h, w)``.

    Rescale slope and intercept are applied, and MONOCHROME1 is inverted, so that more is brighter.

    Raises:
        UnusableImageError: If it cannot be read.
        MissingExtraError: If pydicom is not installed.
    """
    header = _header(path)
    values, changes = _values(header)
    spacing = _numbers(header, "PixelSpacing", 2) or _numbers(header, "ImagerPixelSpacing", 2)
    pixels = torch.from_numpy(values)
    pixels = pixels.movedim(-1, 0).contiguous() if pixels.ndim == 3 else pixels[None]
    sides = None if spacing is None or min(spacing) <= 0 else tuple(spacing)
    return Scan(pixels, sides, None, patient_of(header), digest_of(path)[0], changes)


@_quietly()
def read_series(folder: Path) -> Scan:
    """Read the DICOM files of a folder as one volume, ordered by where the slices lie.

    Raises:
        UnusableImageError: If they are not one series of parallel slices with equal gaps, or one cannot be read.
        MissingExtraError: If pydicom or nibabel is not installed.
    """
    import numpy as np

    files = dicom_files(folder)
    if not files:
        raise UnusableImageError("holds no DICOM files")
    if len(files) > SLICE_LIMIT:
        raise UnusableImageError(f"holds {len(files):,} files, more than the {SLICE_LIMIT:,} slices that are read")
    if len(files) == 1:
        return read_dicom(files[0])
    headers = [_of_slice(path) for path in files]
    first = headers[0]
    check_voxels(int(first.Rows) * int(first.Columns) * len(headers))
    for name in ("SeriesInstanceUID", "Rows", "Columns", "ImageOrientationPatient", "PixelSpacing", "PatientID"):
        found = {str(header.get(name)) for header in headers}
        if len(found) > 1:
            raise UnusableImageError(f"holds slices of different {name} ({len(found)}): give each series a folder")
    across, down = np.reshape(_required(first, "ImageOrientationPatient", 6), (2, 3))
    normal = np.cross(across, down)
    places = np.array([_required(header, "ImagePositionPatient", 3) for header in headers])
    order = np.argsort(places @ normal, kind="stable")
    gaps = np.diff((places @ normal)[order])
    usual = float(np.median(gaps))
    if usual <= 0 or gaps.min() <= 0:
        raise UnusableImageError("holds several slices at one place: give each series a folder")
    if (abs(gaps - usual) > UNEVEN * usual).any():
        raise UnusableImageError(
            f"has slices {gaps.min():.3g} to {gaps.max():.3g} mm apart: some are missing, or belong elsewhere"
        )
    read = [_values(headers[number]) for number in order]
    planes = [values.swapaxes(0, 1) for values, _ in read]
    rows, columns = _required(first, "PixelSpacing", 2)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = across * columns, down * rows
    affine[:3, 2] = (places[order[-1]] - places[order[0]]) / (len(order) - 1)
    affine[:3, 3] = places[order[0]]
    affine[:2] *= -1  # DICOM's axes point to the left and the back
    digest = joint_digest([digest_of(path)[0] for path in files])
    changes = tuple(sorted({change for _, ones in read for change in ones}))
    return scan_of(np.stack(planes, axis=2), affine, patient_of(first), digest, changes)


def dicom_files(folder: Path) -> list[Path]:
    """The DICOM files of a folder, by name."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and is_dicom(path))


def patient_of(header: Any) -> str | None:
    """Whom a file is of; ``None`` where it names nobody, or somebody made nameless."""
    name = str(header.get("PatientID", "") or "").strip()
    return None if name.lower() in NOBODY else name


def _of_slice(path: Path) -> Any:
    try:
        return _header(path)
    except UnusableImageError as error:
        raise UnusableImageError(f"has a slice, {shown(path.name)}, that {error}") from error


def _header(path: Path) -> Any:
    pydicom = imported("pydicom")
    try:
        syntax = pydicom.filereader.read_file_meta_info(path).get("TransferSyntaxUID")
        if syntax == pydicom.uid.DeflatedExplicitVRLittleEndian:
            raise UnusableImageError("is deflated as a whole, and nobody knows how large it would become")
        header = pydicom.dcmread(path)
        if "PixelData" not in header or "Rows" not in header or "Columns" not in header:
            raise UnusableImageError("is DICOM without an image in it")
        frames, rows, columns = int(header.get("NumberOfFrames", 1) or 1), int(header.Rows), int(header.Columns)
    except UnusableImageError:
        raise
    except Exception as error:  # pydicom raises whatever a damaged file drives it to
        reason = shown(str(error).splitlines()[0]) if str(error) else type(error).__name__
        raise UnusableImageError(f"is not DICOM, or damaged ({reason})") from error
    if frames > 1:
        raise UnusableImageError(f"holds {frames} frames: single slices are read, and series of them")
    check_voxels(rows * columns)
    return header


def _values(header: Any) -> tuple[np.ndarray[Any, Any], tuple[str, ...]]:
    """The pixels in the modality's units, ``(h, w)`` or ``(h, w, 3)``, float32."""
    pixels = imported("pydicom.pixels")
    import numpy as np

    changes: list[str] = []
    kind = str(header.get("PhotometricInterpretation", "MONOCHROME2"))
    try:
        stored = pixels.pixel_array(header)  # colours come as RGB
        if kind == "MONOCHROME1":
            bits = int(header.BitsStored)
            ends = 2**bits - 1 if int(header.PixelRepresentation) == 0 else -1
            stored, _ = ends - stored.astype(np.int64), changes.append("MONOCHROME1 inverted")
        elif kind == "PALETTE COLOR":
            stored, _ = pixels.apply_color_lut(stored, header), changes.append("palette to RGB")
        values = pixels.apply_modality_lut(stored, header) if stored.ndim == 2 else stored
    except Exception as error:
        syntax = header.file_meta.get("TransferSyntaxUID") if hasattr(header, "file_meta") else None
        packed = f"is compressed as {syntax.name}, and " if syntax is not None and syntax.is_compressed else ""
        reason = shown(" ".join(str(error).split())[:160]) or type(error).__name__
        raise UnusableImageError(f"{packed}has pixels that cannot be decoded here ({reason})") from error
    slope, intercept = header.get("RescaleSlope", 1), header.get("RescaleIntercept", 0)
    if (slope, intercept) != (1, 0):
        changes.append("rescaled by slope and intercept")
    return np.ascontiguousarray(values, dtype=np.float32), tuple(changes)


def _numbers(header: Any, name: str, count: int) -> list[float] | None:
    try:
        found = [float(value) for value in header.get(name) or ()]
    except (TypeError, ValueError):
        return None
    return found if len(found) == count else None


def _required(header: Any, name: str, count: int) -> list[float]:
    found = _numbers(header, name, count)
    if found is None:
        raise UnusableImageError(f"has slices without {name}, so that nobody knows where they lie")
    return found
