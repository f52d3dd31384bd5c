"""A picture that somebody sent: judged by its first bytes and its header before a pixel of it is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from threading import BoundedSemaphore

import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor

from foveate.data.decode import UnusableImageError, decode, frame
from foveate.errors import DataError

BYTES = 20 * 2**20
PIXELS = 25_000_000
SIDE = 640  # what is kept of a picture: no network here looks at more
BEGINNINGS = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
}
KNOWN = "PNG, JPEG, WebP, BMP or GIF"

# an image at the limit takes some 250 MB while it is decoded
_decoding = BoundedSemaphore(2)


@dataclass(frozen=True)
class Upload:
    """A picture as it is kept for a person.

    Attributes:
        pixels: RGB, the longer side at most :data:`SIDE`.
        said: What it was and what was done to it, in words.
    """

    pixels: UInt8[Tensor, "3 h w"]
    said: str


def read_upload(path: Path, inside: Path | None = None) -> Upload:
    """Read a picture that nobody vouches for.

    Args:
        path: The file.
        inside: The folder that it must lie in, links resolved; any, if ``None``.

    Raises:
        DataError: If it is not a picture of a kind that is read, damaged, or too large in bytes or in pixels.
    """
    path = path.resolve()
    if inside is not None and not path.is_relative_to(inside.resolve()):
        raise DataError("this file is not one that was sent to this page")
    try:
        length = path.stat().st_size if path.is_file() else -1
        with path.open("rb") as file:
            beginning = file.read(512)
    except OSError:
        length, beginning = -1, b""
    if length < 0:
        raise DataError("this picture is no longer here: send it again")
    if length == 0:
        raise DataError("this file is empty (0 bytes)")
    if length > BYTES:
        raise DataError(f"this file has {length / 2**20:.1f} MiB, and {BYTES // 2**20} MiB are read at most")
    kind = kind_of(beginning)
    if kind is None:
        raise DataError(f"this file is no {KNOWN} picture: {_seems(beginning)}, whatever it is called")
    try:
        with _decoding:
            height, width = frame(path)
            if height * width > PIXELS:
                raise DataError(
                    f"this picture claims {width:,}×{height:,} pixels, and {PIXELS:,} are decoded at most: make it "
                    "smaller"
                )
            decoded = decode(path, None)
    except UnusableImageError as error:
        raise DataError(f"this {kind} picture {error}") from error
    pixels = smaller(decoded.pixels, SIDE)
    changes = list(decoded.changes)
    if pixels.shape != decoded.pixels.shape:
        changes.append(f"made smaller, to {pixels.shape[2]}×{pixels.shape[1]}")
    told = f"; {', '.join(changes)}" if changes else ""
    return Upload(pixels, f"{kind}, {width}×{height} pixels, {length:,} bytes{told}")


def kind_of(beginning: bytes) -> str | None:
    """The kind of picture that a file's first bytes announce; ``None`` for anything else.

    Example:
        >>> kind_of(b"RIFF....WEBPVP8 "), kind_of(b"<svg xmlns='http://www.w3.org/2000/svg'>")
        ('WebP', None)
    """
    if beginning[:4] == b"RIFF" and beginning[8:12] == b"WEBP":
        return "WebP"
    return next((kind for mark, kind in BEGINNINGS.items() if beginning.startswith(mark)), None)


def smaller(pixels: UInt8[Tensor, "c h w"], side: int) -> UInt8[Tensor, "c _ _"]:
    """An image with its longer side at most so long, its shape kept.

    Example:
        >>> import torch
        >>> smaller(torch.zeros(3, 100, 50, dtype=torch.uint8), 20).shape
        torch.Size([3, 20, 10])
    """
    height, width = pixels.shape[1:]
    if max(height, width) <= side:
        return pixels
    size = [max(1, round(length * side / max(height, width))) for length in (height, width)]
    # bytes stay bytes: as floats, a picture at the limit would take 300 MB more
    return F.interpolate(pixels[None], size, mode="bilinear", antialias=True, align_corners=False)[0]


def _seems(beginning: bytes) -> str:
    """What it seems to be instead, as far as its first bytes tell."""
    text = beginning.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<svg", b"<?xml")) or b"<svg" in text:
        return "it begins as an SVG or XML document"
    if text.startswith((b"<!doctype", b"<html")):
        return "it begins as a web page"
    if b"\0" not in beginning and all(byte >= 9 for byte in beginning):
        return "it begins as text"
    return "its first bytes are none of theirs"
