"""Reading many image files: every one is decoded once, so that what cannot be used is known before training."""

from __future__ import annotations

import os
import re
import statistics
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from jaxtyping import UInt8
from torch import Tensor

from foveate.data.classification import Pixels
from foveate.data.decode import UnusableImageError, decode, shorter_side
from foveate.data.report import LeftOut, enumerated, shown
from foveate.errors import DataError

MEMORY_LIMIT = 2 * 2**30
LARGEST_DEFAULT, SMALLEST_DEFAULT, STEP = 224, 32, 8
# each thread may hold an image at the pixel limit, about 400 MB
MOST_THREADS = 4
MEANT_AS_IMAGE = re.compile(
    r"\.(avif|bmp|cr2|dib|dng|eps|gif|hei[cf]|ico|j2k|jfif|jp2|jpe?g?|jxl|mpo|nef|p[bgnp]m|png|psd|raw|svg|tga|tiff?|webp)$",
    re.IGNORECASE,
)

T = TypeVar("T")


@dataclass(frozen=True)
class ImageFiles:
    """Images that stay on disk, decoded each time one is asked for."""

    root: Path
    names: tuple[str, ...]
    digests: tuple[str, ...]
    size: int | None  # of the centre square; the whole image at its own size if None

    def __getitem__(self, index: int, /) -> UInt8[Tensor, "3 h w"]:
        """Decode one.

        Raises:
            DataError: If the file is no longer what it was when the folder was read.
        """
        path = self.root / self.names[index]
        try:
            decoded = decode(path, self.size)
        except UnusableImageError as error:
            raise DataError(f"{shown(str(path))} could be read before and now {error}") from error
        if decoded.digest != self.digests[index]:
            raise DataError(f"{shown(str(path))} has changed since the folder was read: read the folder again")
        return decoded.pixels


@dataclass(frozen=True)
class Reading:
    """The usable images among many files, and what happened to the others.

    Attributes:
        names: The usable ones, in the order given.
        digests: SHA-256 of each of their files.
        lengths: Bytes of each of their files.
        pixels: The images themselves, by their place in ``names``.
        size: Their height and width.
        skipped: Files that should be images and cannot be used.
        ignored: Files that were never meant as images.
        changes: How often each conversion was needed.
        remarks: What the decoder warned about.
    """

    names: tuple[str, ...]
    digests: tuple[str, ...]
    lengths: tuple[int, ...]
    pixels: Pixels | Tensor
    size: int
    skipped: tuple[LeftOut, ...]
    ignored: tuple[LeftOut, ...]
    changes: Counter[str]
    remarks: tuple[str, ...]


def read_images(
    root: Path,
    names: Sequence[str],
    *,
    size: int | None,
    stop: bool,
    progress: Callable[[int, int], None] | None,
) -> Reading:
    """Read the headers of all files, settle the size, then decode all files.

    They are kept in memory if all of them together fit into ``MEMORY_LIMIT`` bytes.

    Raises:
        DataError: If ``stop`` and a file that should be an image cannot be used.
    """
    reader = Reader(root, stop)
    changes: Counter[str] = Counter()
    digests: dict[str, str] = {}
    lengths: list[int] = []
    with collected_remarks() as remarks:
        with closing(reader.each(shorter_side, names)) as headers:
            sides = dict(headers)
        if size is None:
            size = default_size(list(sides.values()))
        fits = len(sides) * 3 * size * size <= MEMORY_LIMIT
        kept = torch.empty((len(sides) if fits else 0, 3, size, size), dtype=torch.uint8)
        reader.identified = sides.keys()
        with closing(reader.each(partial(decode, size=size), list(sides), progress)) as images:
            for name, image in images:
                if fits:
                    kept[len(digests)] = image.pixels
                digests[name] = image.digest
                lengths.append(image.length)
                changes.update(image.changes)
    usable = tuple(digests)
    return Reading(
        names=usable,
        digests=tuple(digests.values()),
        lengths=tuple(lengths),
        pixels=kept[: len(usable)] if fits else ImageFiles(root, usable, tuple(digests.values()), size),
        size=size,
        skipped=tuple(reader.skipped),
        ignored=tuple(reader.ignored),
        changes=changes,
        remarks=tuple(sorted(remarks)),
    )


def default_size(sides: Sequence[int]) -> int:
    """The size for images whose shorter sides are these.

    224, unless the median is smaller: then the median rounded down to a multiple of 8, at least 32.

    Example:
        >>> default_size([500, 640, 480]), default_size([101, 90, 400]), default_size([8])
        (224, 96, 32)
    """
    if not sides:
        return SMALLEST_DEFAULT
    median = int(statistics.median(sides))
    return max(SMALLEST_DEFAULT, min(LARGEST_DEFAULT, median // STEP * STEP))


class Reader:
    """Does something with every file, and sets those apart where it cannot be done."""

    def __init__(self, root: Path, stop: bool) -> None:
        self.root, self.stop = root, stop
        self.identified: Set[str] = frozenset()  # meant as images, whatever they are called
        self.skipped: list[LeftOut] = []
        self.ignored: list[LeftOut] = []

    def each(
        self,
        function: Callable[[Path], T],
        names: Sequence[str],
        progress: Callable[[int, int], None] | None = None,
    ) -> Generator[tuple[str, T]]:
        """What the function makes of each file, in order; in threads, as Pillow lets go of the interpreter."""

        def attempt(name: str) -> T | UnusableImageError:
            try:
                return function(self.root / name)
            except UnusableImageError as error:
                return error

        pool = ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1))
        try:
            for done, (name, result) in enumerate(zip(names, pool.map(attempt, names), strict=True), 1):
                if isinstance(result, UnusableImageError):
                    self.leave_out(name, result)
                else:
                    yield name, result
                if progress is not None:
                    progress(done, len(names))
        finally:  # Ctrl-C, too, ends it after the images in hand
            pool.shutdown(cancel_futures=True)

    def leave_out(self, name: str, reason: UnusableImageError) -> None:
        """Set a file apart.

        Raises:
            DataError: If it should be an image, and that is to stop everything.
        """
        meant = name in self.identified or MEANT_AS_IMAGE.search(name) is not None
        if meant and self.stop:
            raise DataError(f"{shown(str(self.root / name))} {reason}") from reason
        (self.skipped if meant else self.ignored).append(LeftOut(shown(name), str(reason)))


@contextmanager
def collected_remarks() -> Generator[list[str]]:
    """Collect what Pillow warns about, the pixel limit excepted: there is one of our own."""
    from PIL import Image

    remarks: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield remarks
    different = sorted({shown(str(warning.message)) for warning in caught})
    if different:
        remarks.append(f"the decoder warned: {enumerated(different)}")
