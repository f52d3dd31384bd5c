"""Build the embedded sample from the whole of Fashion-MNIST, as Debian packages it.

    apt install dataset-fashion-mnist
    uv run python tools/build_fashion_mnist.py

The rule, the same for every class and blind to the pixels: the first 200 training and the first 50 test images of
each class in the order of the original files, kept in that order. The output is gzip IDX like the original, without
time stamps, so that building again gives the same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import struct
from pathlib import Path

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
SAMPLE = Path(__file__).parents[1] / "src/foveate/data/fashion_mnist"
CLASSES = 10
PARTS = {"train": ("train", 200), "test": ("t10k", 50)}
IMAGES, LABELS = 0x0803, 0x0801


def first_of_each_class(labels: bytes, count: int) -> list[int]:
    """The positions of the first so many of every class, in the order of the file."""
    seen = [0] * CLASSES
    chosen: list[int] = []
    for position, label in enumerate(labels):
        if seen[label] < count:
            seen[label] += 1
            chosen.append(position)
    if min(seen) < count:
        raise SystemExit(f"a class has only {min(seen)} images, {count} are needed")
    return chosen


def read(path: Path, magic: int, axes: int) -> tuple[tuple[int, ...], bytes]:
    """The lengths of the axes and the bytes of a gzip IDX file."""
    if not path.is_file():
        raise SystemExit(f"{path} does not exist: apt install dataset-fashion-mnist, or name the folder that has it")
    content = gzip.decompress(path.read_bytes())
    found, *shape = struct.unpack_from(f">{1 + axes}I", content)
    if found != magic:
        raise SystemExit(f"{path} begins with {found:#x}, an IDX file of this kind with {magic:#x}")
    return tuple(shape), content[4 * (1 + axes) :]


def write(path: Path, magic: int, shape: tuple[int, ...], content: bytes) -> None:
    """Write a gzip IDX file whose bytes depend on nothing but its content."""
    header = struct.pack(f">{1 + len(shape)}I", magic, *shape)
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:
        packed.write(header + content)


def build(source: Path, target: Path) -> None:
    """Write the four files of the sample."""
    target.mkdir(parents=True, exist_ok=True)
    for part, (original, count) in PARTS.items():
        (_, height, width), images = read(source / f"{original}-images-idx3-ubyte.gz", IMAGES, 3)
        _, labels = read(source / f"{original}-labels-idx1-ubyte.gz", LABELS, 1)
        chosen = first_of_each_class(labels, count)
        area = height * width
        pixels = b"".join(images[area * position : area * (position + 1)] for position in chosen)
        write(target / f"{part}-images.idx.gz", IMAGES, (len(chosen), height, width), pixels)
        write(target / f"{part}-labels.idx.gz", LABELS, (len(chosen),), bytes(labels[p] for p in chosen))


def main() -> None:
    """Read the two folders from the command line and build."""
    parser = argparse.ArgumentParser(description="Build the embedded Fashion-MNIST sample.")
    parser.add_argument("source", type=Path, nargs="?", default=DEBIAN, help="folder of the four original files")
    parser.add_argument("target", type=Path, nargs="?", default=SAMPLE, help="where the sample goes")
    arguments = parser.parse_args()
    build(arguments.source, arguments.target)
    for path in sorted(arguments.target.glob("*.gz")):
        print(f"{path.stat().st_size:>9,} {path.name}")


if __name__ == "__main__":
    main()
