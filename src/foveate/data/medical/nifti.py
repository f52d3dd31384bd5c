"""NIfTI volumes, from files that nobody vouches for."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from foveate.data.decode import UnusableImageError, digest_of
from foveate.data.medical.scans import CHANNEL_LIMIT, Scan, as_plane, check_voxels, imported, scan_of
from foveate.data.report import shown


def read_nifti(path: Path) -> Scan:
    """Read a ``.nii`` or ``.nii.gz`` file, its axes turned to right, front and top.

    The header is judged before the voxels are read. A fourth axis is one of channels.

    Raises:
        UnusableImageError: If it is no such file, damaged, too large, or of another kind of number.
        MissingExtraError: If nibabel is not installed.
    """
    nibabel = imported("nibabel")
    import numpy as np

    try:
        if path.stat().st_size == 0:
            raise UnusableImageError("is empty (0 bytes)")
        image = nibabel.load(path)
        if not isinstance(image, nibabel.Nifti1Image):
            raise UnusableImageError("is not NIfTI")
        shape = tuple(int(side) for side in image.shape)
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        channels = math.prod(shape[3:])
        check_voxels(math.prod(shape))
        if len(shape) not in (2, 3, 4) or (len(shape) == 4 and channels > CHANNEL_LIMIT):
            raise UnusableImageError(
                f"has the shape {'×'.join(map(str, image.shape))}: two or three axes are read, and a fourth of at most "
                f"{CHANNEL_LIMIT} channels"
            )
        if image.get_data_dtype().kind not in "iuf":
            raise UnusableImageError(f"holds {image.get_data_dtype()}, and not whole numbers or floats")
        array = image.get_fdata(dtype=np.float32, caching="unchanged").reshape(shape)
    except UnusableImageError:
        raise
    except Exception as error:  # a damaged file makes nibabel, gzip and zlib raise anything
        raise UnusableImageError(f"is not NIfTI, or damaged ({shown(str(error)) or type(error).__name__})") from error
    if array.ndim == 2:
        array = array[:, :, None]
    known = int(image.header["qform_code"]) > 0 or int(image.header["sform_code"]) > 0
    changes = () if known else ("orientation not stored, taken to be RAS",)
    return scan_of(array, image.affine, None, digest_of(path)[0], changes)


def nifti_bytes(ids: Int64[Tensor, " *axes"], like: Scan) -> bytes:
    """A mask as the content of a ``.nii.gz`` file, in the place of the scan that it is of."""
    import gzip

    nibabel = imported("nibabel")
    import numpy as np

    affine: Any = np.eye(4) if like.affine is None else like.affine.double().numpy()
    if ids.ndim == 2:
        ids = as_plane(ids)[..., None]
        affine = np.diag([*reversed(like.spacing or (1.0, 1.0)), 1.0, 1.0])
    image = nibabel.Nifti1Image(ids.to(torch.uint8).numpy(), affine)
    image.header.set_xyzt_units("mm")
    return gzip.compress(image.to_bytes(), mtime=0)
