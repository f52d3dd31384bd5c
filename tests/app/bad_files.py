"""Files that somebody may send who means no good, or does not know better, by what is wrong with them."""

import io
import struct
import zlib
from pathlib import Path

from PIL import Image


def png_header(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG that claims a size, whatever its data holds; the checksums are right."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", data or zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def bomb() -> bytes:
    """A PNG of 9,000×9,000 pixels that is whole, in 250 kB or so: 243 MB of zeros, pressed."""
    packer = zlib.compressobj(9)
    line = b"\0" * (1 + 9000 * 3)
    data = b"".join([*(packer.compress(line) for _ in range(9000)), packer.flush()])
    return png_header(9000, 9000, data)


def animated() -> bytes:
    """A GIF of two frames, red and then blue."""
    content = io.BytesIO()
    red, blue = (Image.new("RGB", (40, 30), colour) for colour in ("red", "blue"))
    red.save(content, format="GIF", save_all=True, append_images=[blue], duration=100)
    return content.getvalue()


SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><script>document.title='owned'</script></svg>"
# what is wrong, the name it is sent under, the content, and what the refusal says
BAD = {
    "text": ("holiday.png", b"this is not a picture\n" * 40, "begins as text"),
    "nothing": ("empty.png", b"", "empty (0 bytes)"),
    "huge": ("wide.png", png_header(20_000, 20_000), "decompression bomb"),
    "bomb": ("bomb.png", bomb(), "9,000×9,000"),
    "svg": ("drawing.svg", SVG, "SVG or XML"),
    "svg as png": ("drawing.png", SVG, "SVG or XML"),
    "cut off": ("half.png", png_header(64, 64), "truncated or damaged"),
    "a page": ("x.jpg", b"<!DOCTYPE html><script>alert(1)</script>", "web page"),
    "a program": ("x.bmp", b"\x7fELF\x02\x01\x01" + b"\0" * 64, "none of theirs"),
}


def written(folder: Path, what: str) -> Path:
    """One of them as a file."""
    name, content, _ = BAD[what]
    path = folder / name
    path.write_bytes(content)
    return path
