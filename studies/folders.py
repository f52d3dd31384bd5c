"""Published files of small images as folders that `foveate compare` reads: a split, a class, an image."""

from __future__ import annotations

import gzip
import io
import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FASHION = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")


def cifar10(source: Path, target: Path) -> Path:
    """CIFAR-10 as JPEG bytes in ``train.npz`` and ``test.npz``: the bytes go into files as they are."""
    for split in ("train", "test"):
        with np.load(source / f"{split}.npz") as found:
            content, offset, labels = found["jpeg"], found["offset"], found["label"]
        for number, label in enumerate(labels):
            folder = target / split / CIFAR10[int(label)]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number:05}.jpg").write_bytes(content[offset[number] : offset[number + 1]].tobytes())
    return target


def fashion_mnist(source: Path, target: Path) -> Path:
    """Fashion-MNIST as the four gzip files of its authors."""
    for split, name in (("train", "train"), ("test", "t10k")):
        with gzip.open(source / f"{name}-images-idx3-ubyte.gz") as file:
            _, count, height, width = struct.unpack(">4i", file.read(16))
            images = np.frombuffer(file.read(), np.uint8).reshape(count, height, width)
        with gzip.open(source / f"{name}-labels-idx1-ubyte.gz") as file:
            file.read(8)
            labels = np.frombuffer(file.read(), np.uint8)
        _write(target / split, zip(images, (FASHION[label] for label in labels), strict=True))
    return target


def faces(target: Path) -> Path:
    """scikit-image's 100 faces and 100 pieces without one, of Labeled Faces in the Wild, 25×25, grey."""
    from skimage.data import lfw_subset

    images = (lfw_subset() * 255).round().astype(np.uint8)
    names = ["face"] * 100 + ["no face"] * 100
    _write(target, zip(images, names, strict=True))
    return target


def few(source: Path, target: Path, each: int) -> Path:
    """The first so many training images of each class, and all test images, of a folder with splits."""
    for split in ("train", "test"):
        for folder in sorted((source / split).iterdir()):
            there = target / split / folder.name
            there.mkdir(parents=True, exist_ok=True)
            for file in sorted(folder.iterdir())[: each if split == "train" else None]:
                (there / file.name).write_bytes(file.read_bytes())
    return target


def _write(target: Path, images: Iterable[tuple[np.ndarray, str]]) -> None:
    for number, (image, name) in enumerate(images):
        folder = target / name
        folder.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        Image.fromarray(image).save(content, "png")
        (folder / f"{number:05}.png").write_bytes(content.getvalue())
