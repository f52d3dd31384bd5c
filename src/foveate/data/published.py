"""Published corrupted test sets, by path: CIFAR-10-C and CIFAR-100-C as arrays, ImageNet-C as folders.

Hendrycks and Dietterich, Benchmarking neural network robustness to common corruptions and perturbations, 2019,
arXiv:1903.12261. Nothing is downloaded; the files come from https://zenodo.org/records/2535967, /3555552 and /2235448.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from foveate.data.classification import Images
from foveate.data.corruptions.table import STRENGTHS
from foveate.data.layout import check_folder
from foveate.data.published_names import CIFAR10, CIFAR100
from foveate.data.report import enumerated, shown
from foveate.data.shift.classes import placed
from foveate.data.shift.images import shifted_images
from foveate.errors import DataError, MissingExtraError, OptionError, check_choice, nearest

LABELS = "labels.npy"


@dataclass(frozen=True)
class Published:
    """A published set of corruptions, in five strengths each.

    Attributes:
        name: Of the folder, for people.
        classes: Those that labels stand for: the network's.
        corruptions: Their names.
        read: What reads one at a strength.
    """

    name: str
    classes: tuple[str, ...]
    corruptions: tuple[str, ...]
    read: Callable[[str, int], Images]

    def split(self, corruption: str, strength: int) -> Images:
        """The test images with a corruption at a strength from 1 to 5.

        Raises:
            DataError: If its files cannot be used.
            OptionError: If there is no such corruption or strength.
        """
        if corruption not in self.corruptions:
            raise OptionError(f"{self.name} has no corruption '{corruption}'; {nearest(corruption, self.corruptions)}")
        check_choice("strength", strength, STRENGTHS)
        return self.read(corruption, strength)


def cifar_c(path: str | os.PathLike[str], classes: Sequence[str]) -> Published:
    """CIFAR-10-C or CIFAR-100-C: ``labels.npy``, and an array of images for each corruption.

    An array holds five times the test images, uint8 ``(5·n, 32, 32, 3)``, from strength 1 to 5; published ones have
    n = 10,000. It stays on disk, and nothing in it is unpickled.

    Args:
        path: The folder.
        classes: The network's, each by its name in CIFAR-10 (as ``airplane``) or CIFAR-100 (as ``aquarium_fish``), in
            the order of its outputs.

    Raises:
        DataError: If the folder has no such files, or their classes are not among the network's.
        MissingExtraError: If NumPy is not installed.

    Example:
        >>> import numpy as np
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     np.save(Path(folder, "labels.npy"), np.tile([3, 5], 5))
        ...     np.save(Path(folder, "fog.npy"), np.zeros((10, 32, 32, 3), np.uint8))
        ...     found = cifar_c(folder, tuple(reversed(CIFAR10)))
        ...     images = found.split("fog", 5)
        ...     [(image.shape, found.classes[label]) for image, label in images]
        [(torch.Size([3, 32, 32]), 'cat'), (torch.Size([3, 32, 32]), 'dog')]
    """
    root = Path(path)
    check_folder(root, "CIFAR-10-C's or CIFAR-100-C's files, labels.npy and one for each corruption")
    names = tuple(sorted(one.stem for one in root.glob("*.npy") if one.name != LABELS))
    if not (root / LABELS).is_file() or not names:
        lacks = f"no {LABELS}" if names else "no array of a corruption"
        raise DataError(f"{shown(str(root))} has {lacks}: give the unpacked folder of CIFAR-10-C or CIFAR-100-C")
    labels = _labels(root, classes)

    def read(corruption: str, strength: int) -> Images:
        array = _array(root / f"{corruption}.npy")
        where = shown(str(root / f"{corruption}.npy"))
        if str(array.dtype) != "uint8" or array.shape != (5 * len(labels), 32, 32, 3):
            raise DataError(
                f"{where} has {array.dtype} of shape {tuple(array.shape)}, and uint8 of {(5 * len(labels), 32, 32, 3)} "
                f"belongs to the {5 * len(labels):,} labels"
            )
        first = (strength - 1) * len(labels)
        return Images(
            ArrayPixels(root / f"{corruption}.npy"),
            range(first, first + len(labels)),
            labels,
            [f"{corruption}/{strength}/{number}" for number in range(len(labels))],
        )

    return Published(shown(root.resolve().name), tuple(classes), names, read)


def imagenet_c(path: str | os.PathLike[str], classes: Sequence[str], *, size: int = 224) -> Published:
    """ImageNet-C, or what is laid out like it: ``corruption/strength/class/image``.

    Folders of groups (``noise/gaussian_noise/1``) are gone into; of classes some may be missing, none may be unknown.

    Args:
        path: The folder.
        classes: The network's, named as the folders of classes are, such as ``n01440764``, in the order of its outputs.
        size: Height and width of the images as the network gets them.

    Raises:
        DataError: If the folder has no such layout; when one is read, if it has unknown classes or no usable image.
    """
    root = Path(path)
    check_folder(root, "folders as corruption/strength/class")
    found = {folder.name: folder for folder in _with_strengths(root)}
    found |= {folder.name: folder for group in _folders(root) for folder in _with_strengths(group)}
    if not found:
        raise DataError(
            f"{shown(str(root))} has no folder of a corruption with the strengths 1 to 5 in it, as in "
            "fog/3/n01440764/1.JPEG"
        )
    lacking = {
        name: [str(one) for one in STRENGTHS if not (folder / str(one)).is_dir()] for name, folder in found.items()
    }
    if some := [f"{shown(name)} ({', '.join(ones)})" for name, ones in sorted(lacking.items()) if ones]:
        raise DataError(f"{shown(str(root))} lacks strengths of {enumerated(some)}: unpack all of it")

    def read(corruption: str, strength: int) -> Images:
        return shifted_images(found[corruption] / str(strength), classes, (3, size, size))[0]

    return Published(shown(root.resolve().name), tuple(classes), tuple(sorted(found)), read)


class ArrayPixels:
    """Images in a NumPy file by number, mapped into memory when the first is asked for, in each process by itself."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._array: Any = None

    def __getitem__(self, index: int, /) -> UInt8[Tensor, "3 h w"]:
        """One image."""
        if self._array is None:
            self._array = _array(self.path)
        return torch.from_numpy(self._array[index].copy()).movedim(-1, 0)

    def __getstate__(self) -> dict[str, Any]:
        """Without the map: another process makes its own."""
        return {"path": self.path, "_array": None}


def _array(path: Path) -> Any:
    """A NumPy file, mapped into memory and never unpickled."""
    try:
        import numpy as np
    except ImportError as error:
        raise MissingExtraError("numpy", "train") from error
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{shown(str(path))} is no array of numbers that NumPy can read ({error})") from error


def _labels(root: Path, classes: Sequence[str]) -> list[int]:
    """The label of each test image, as the network numbers it."""
    array = _array(root / LABELS)
    where = shown(str(root / LABELS))
    if array.ndim != 1 or array.dtype.kind not in "iu" or not len(array) or len(array) % 5:
        raise DataError(f"{where} has {array.dtype} of shape {tuple(array.shape)}: five times the labels are needed")
    blocks = array.reshape(5, -1)
    if (blocks != blocks[0]).any():
        raise DataError(f"{where} has other labels for one strength than for another: it is not in CIFAR-C's order")
    numbers: list[int] = blocks[0].tolist()
    # a network of CIFAR-100's classes is tested with CIFAR-100-C; labels of a hundred classes need not all be there
    names = CIFAR100 if max(numbers) >= len(CIFAR10) or set(classes) <= set(CIFAR100) else CIFAR10
    if min(numbers) < 0 or max(numbers) >= len(names):
        raise DataError(
            f"{where} has labels from {min(numbers)} to {max(numbers)}, and CIFAR-100 has 100 classes from 0"
        )
    used = sorted(set(numbers))
    places = placed([names[number] for number in used], classes, where)
    return [places[names[number]] for number in numbers]


def _with_strengths(root: Path) -> list[Path]:
    return [folder for folder in _folders(root) if any((folder / str(one)).is_dir() for one in STRENGTHS)]


def _folders(root: Path) -> list[Path]:
    try:
        return sorted(one for one in root.iterdir() if one.is_dir() and one.name[:1] != ".")
    except OSError as error:
        raise DataError(f"{shown(str(root))} cannot be listed: {error.strerror}") from error
