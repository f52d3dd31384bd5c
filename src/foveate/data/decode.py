"""From a file that nobody vouches for to 8-bit RGB pixels, or to the reason why not.

The format is judged by content. Only formats that Pillow decodes by itself are tried: no PostScript, which would
start another program. Colour profiles are not applied.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import UInt8
from torch import Tensor

from foveate.data.report import shown
from foveate.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
PIXEL_LIMIT = 100_000_000
DEEP, FULL = 65535, 255
NEARLY_BLACK = "16-bit grey scaled to 8 bits, using less than a sixteenth of the range"
ORIENTATION = 0x0112


class UnusableImageError(DataError):
    """An image file that cannot be used; the message is the reason, the end of a sentence about the file."""


@dataclass(frozen=True)
class Decoded:
    """An image as a network takes it, what it was made from and what was changed.

    Attributes:
        pixels: RGB, uint8.
        digest: SHA-256 of the file.
        length: Bytes of the file.
        changes: What had to be done besides resizing, in words that a report can count.
    """

    pixels: UInt8[Tensor, "3 h w"]
    digest: str
    length: int
    changes: tuple[str, ...]


def require_pillow() -> None:
    """Refuse to start without Pillow.

    Raises:
        MissingExtraError: With the extra that brings it.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError("pillow", "data") from error
    Image.init()  # once and before there are threads


def shorter_side(path: Path) -> int:
    """The shorter side in pixels, from the header alone.

    Raises:
        UnusableImageError: If it is not an image that can be read here, or one with too many pixels.
    """
    return min(frame(path))


def frame(path: Path) -> tuple[int, int]:
    """Height and width as they are stored, from the header alone: not a pixel is decoded.

    Raises:
        UnusableImageError: If it is not an image that can be read here, or one with too many pixels.
    """
    with _opened(path) as image:
        return image.height, image.width


def stored_frame(path: Path) -> tuple[int, int, int]:
    """Height and width as they are stored, and the number by which EXIF says how to turn it: 1 for not at all.

    Raises:
        UnusableImageError: If it is not an image that can be read here, or one with too many pixels.
    """
    with _opened(path) as image:
        turn = image.getexif().get(ORIENTATION, 1)
        return image.height, image.width, turn if turn in range(2, 9) else 1


def decode(path: Path, size: int | None) -> Decoded:
    """Decode a file, turn it as its EXIF data says, make it RGB, and cut out the centre square at ``size``.

    Args:
        path: The file.
        size: Height and width of the square; the whole image at its own size, if ``None``.

    Raises:
        UnusableImageError: If any of it fails.
    """
    from PIL import Image, ImageOps

    with _opened(path) as image:
        changes = _first_frame(image)
        if image.getexif().get(ORIENTATION, 1) in range(2, 9):
            changes.append("turned as EXIF says")
        if size is not None:
            # a JPEG can be decoded at 1/2, 1/4 or 1/8: never less than twice what is needed, so the filter decides
            image.draft(None, (2 * size, 2 * size))
        upright = ImageOps.exif_transpose(image)
        rgb, conversions = to_rgb(upright)
        changes += conversions
        if size is not None:
            side = min(rgb.size)
            left, top = (rgb.width - side) / 2, (rgb.height - side) / 2
            # the pixels of resizing first and cropping then, without making an image of 1 × 1,000,000 larger still
            rgb = rgb.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
            if side < size:
                changes.append(f"enlarged to {size}×{size}")
        else:
            rgb.load()
    digest, length = digest_of(path)
    pixels = torch.frombuffer(bytearray(rgb.tobytes()), dtype=torch.uint8).reshape(rgb.height, rgb.width, 3)
    return Decoded(pixels.permute(2, 0, 1).contiguous(), digest, length, tuple(changes))


def decode_ids(path: Path) -> Tensor:
    """Decode a mask: the whole numbers that its pixels hold, ``(h, w)`` int32; a palette's numbers, not its colours.

    Raises:
        UnusableImageError: If it is not an image of one number a pixel.
    """
    with _opened(path) as image:
        if getattr(image, "is_animated", False):
            raise UnusableImageError("has several frames, and a mask has one")
        if image.getexif().get(ORIENTATION, 1) in range(2, 9):
            raise UnusableImageError("is to be turned as its EXIF data says, which masks are not: save it upright")
        bands = len(image.getbands())
        if image.mode == "1":
            ids = image.convert("L").point([value // FULL for value in range(FULL + 1)])
        elif image.mode in ("L", "P") or image.mode == "I" or image.mode.startswith("I;16"):
            ids = image
        else:
            raise UnusableImageError(
                f"is {image.mode} with {bands} channels, and a mask has one number a pixel: save it as 8-bit or 16-bit "
                "grey, or with a palette"
            )
        width, height = ids.size
        wide = ids.convert("I") if ids.mode not in ("L", "P") else ids
        content = bytearray(wide.tobytes())
    kind = torch.uint8 if wide.mode in ("L", "P") else torch.int32
    return torch.frombuffer(content, dtype=kind).reshape(height, width).to(torch.int32)


def digest_of(path: Path) -> tuple[str, int]:
    """SHA-256 of a file, and its length."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), file.tell()


def to_rgb(image: Image) -> tuple[Image, list[str]]:
    """Make 8-bit RGB of any mode, and say what was done.

    Grey of 16 bits or floats is scaled, never clipped; colour of 16 bits comes scaled from Pillow. What is
    transparent shows white.

    Raises:
        UnusableImageError: If the values have no agreed meaning as brightness.
    """
    from PIL import Image

    changes: list[str] = []
    if image.mode == "I" or image.mode.startswith("I;16"):
        image, change = _from_integers(image)
        changes.append(change)
    elif image.mode == "F":
        image, change = _from_floats(image)
        changes.append(change)
    mode = image.mode
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if _extrema(image.getchannel("A"))[0] < FULL:
            white = Image.new("RGBA", image.size, "white")
            return Image.alpha_composite(white, image).convert("RGB"), [*changes, "transparency laid on white"]
    if mode not in ("RGB", "L"):
        changes.append({"1": "1-bit", "P": "palette"}.get(mode, mode) + " to RGB")
    return image.convert("RGB"), changes


def _from_integers(image: Image) -> tuple[Image, str]:
    image = image.convert("I")
    low, high = _extrema(image)
    if low < 0 or high > DEEP:
        raise UnusableImageError(
            f"has grey values from {low:.0f} to {high:.0f}, and only 0 to {DEEP} (16 bits) have a known scale: "
            "save it as 8 or 16 bits"
        )
    table = [(value * FULL + DEEP // 2) // DEEP for value in range(DEEP + 1)]
    change = NEARLY_BLACK if high < DEEP / 16 else "16-bit grey scaled to 8 bits"
    return image.point(table, "L"), change


def _from_floats(image: Image) -> tuple[Image, str]:
    values = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.float32)
    low, high = _extrema(image)
    if not values.isfinite().all() or low < 0 or high > FULL:
        raise UnusableImageError(
            "has float values that are not all within 0 to 1 or 0 to 255: scale it, or save it as 8 or 16 bits"
        )
    scale = FULL if high <= 1 else 1
    # `convert` cuts decimals off: with a half added it rounds
    return image.point(lambda value: value * scale + 0.5).convert("L"), f"floats of 0 to {FULL // scale} to 8 bits"


def _extrema(image: Image) -> tuple[float, float]:
    low, high = image.getextrema()
    return float(low), float(high)  # pyright: ignore[reportArgumentType]  # pairs of pairs are for several bands


def _first_frame(image: Image) -> list[str]:
    if not getattr(image, "is_animated", False):
        return []
    image.seek(0)
    return ["first of several frames taken"]


@contextmanager
def _opened(path: Path) -> Generator[Image]:
    """Open an image, and turn whatever goes wrong until it is closed into a reason."""
    from PIL import Image, UnidentifiedImageError

    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]
    try:
        _check_file(path)
        with Image.open(path, formats=formats) as image:
            if image.width * image.height > PIXEL_LIMIT:
                raise UnusableImageError(
                    f"has {image.width:,}×{image.height:,} pixels, more than the {PIXEL_LIMIT:,} that are read: "
                    "make it smaller"
                )
            yield image
    except UnusableImageError:
        raise
    # ultralytics replaces Pillow's open by one that asks for a package for HEIF when nothing else can read a file
    except (UnidentifiedImageError, ModuleNotFoundError) as error:
        raise UnusableImageError(f"is not an image that can be read here ({', '.join(formats)})") from error
    except Image.DecompressionBombError as error:
        raise UnusableImageError(
            f"claims more than the {PIXEL_LIMIT:,} pixels that are read: it may be a decompression bomb"
        ) from error
    except PermissionError as error:
        raise UnusableImageError("may not be read: check its permissions") from error
    except Exception as error:  # Pillow's decoders raise whatever a damaged file drives them to
        raise UnusableImageError(f"is truncated or damaged ({shown(str(error)) or type(error).__name__})") from error


def _check_file(path: Path) -> None:
    """Refuse what is no file with content; opening a named pipe would wait forever."""
    try:
        status = path.stat()
    except OSError as error:
        raise UnusableImageError("is a link that leads nowhere" if path.is_symlink() else "cannot be found") from error
    if not stat.S_ISREG(status.st_mode):
        raise UnusableImageError("is not a regular file")
    if status.st_size == 0:
        raise UnusableImageError("is empty (0 bytes)")
