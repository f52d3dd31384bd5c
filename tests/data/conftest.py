"""Folders of small images, made as they are needed."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image


def picture(number: int, size: int = 40) -> Image.Image:
    """A plain image whose colour is its number, so that any two differ."""
    return Image.new("RGB", (size, size), (number % 256, number // 256, 7))


class Folder:
    """A folder to put images and other files into."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, name: str | bytes, content: Image.Image | bytes, **options: object) -> Path:
        """Write an image, in the format of the name's ending, or plain bytes."""
        path = self.root / (name if isinstance(name, str) else name.decode("utf-8", "surrogateescape"))
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            content.save(path, **options)
        return path

    def fill(self, **counts: int) -> Folder:
        """So many different images for each class; ``train__cat=3`` goes to ``train/cat``."""
        for number, (name, count) in enumerate(counts.items()):
            for index in range(count):
                self.put(f"{name.replace('__', '/')}/{index:03}.png", picture(1000 * number + index))
        return self


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "images")


@pytest.fixture(name="picture")
def picture_fixture():
    return picture


@pytest.fixture(name="encoded")
def encoded_fixture():
    return encoded
