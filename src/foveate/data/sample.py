"""The embedded sample: real images that need no download."""

from __future__ import annotations

import gzip
import hashlib
import struct
import zlib
from pathlib import Path

import torch
from torch import Tensor

from foveate.data.classification import ImageClassification, Images
from foveate.data.report import DataReport
from foveate.data.split import deal
from foveate.errors import DataError, check_at_least

FOLDER = Path(__file__).parent / "fashion_mnist"
VALIDATION_PERCENT = 10
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def fashion_mnist(seed: int = 0) -> ImageClassification:
    """A sample of Fashion-MNIST: 28×28 grey photographs of clothes in ten classes.

    The first 200 training and the first 50 test images of each class, in the order of the original files
    (``tools/build_fashion_mnist.py``). 20 of each class's 200 are split off for validation by ``seed``, which leaves
    1,800 to train on, 200 to choose by and 500 to test with.

    Source: Xiao, Rasul, Vollgraf, Fashion-MNIST, 2017, arXiv:1708.07747; MIT licence, kept beside the files.

    Args:
        seed: Which images are split off for validation.

    Raises:
        DataError: If the files of the installed package are damaged.
        OptionError: If the seed is not a whole number of at least 0.

    Example:
        >>> data = fashion_mnist()
        >>> len(data.train), len(data.validation), len(data.test), data.shape
        (1800, 200, 500, (1, 28, 28))
        >>> image, label = data.test[0]
        >>> image.dtype, data.classes[label]
        (torch.uint8, 'Ankle boot')
    """
    check_at_least("seed", seed, 0)
    images = torch.cat([_read_idx(FOLDER / f"{part}-images.idx.gz") for part in ("train", "test")])[:, None]
    train_labels, test_labels = (_read_idx(FOLDER / f"{part}-labels.idx.gz").tolist() for part in ("train", "test"))
    labels: list[int] = train_labels + test_labels
    digests = [hashlib.sha256(bytes(image.flatten().tolist())).hexdigest() for image in images]

    members: dict[str, list[int]] = {"train": [], "validation": []}
    for label in range(len(CLASSES)):
        positions = [position for position, its in enumerate(train_labels) if its == label]
        dealt = deal([digests[position] for position in positions], {"validation": VALIDATION_PERCENT}, seed)
        for name, chosen in dealt.items():
            members[name] += [positions[index] for index in chosen]
    members = {name: sorted(positions) for name, positions in members.items()}
    members["test"] = list(range(len(train_labels), len(labels)))

    names = [f"train/{i}" for i in range(len(train_labels))] + [f"test/{i}" for i in range(len(test_labels))]
    splits = {
        name: Images(images, positions, [labels[i] for i in positions], [names[i] for i in positions])
        for name, positions in members.items()
    }
    shape = (images.shape[1], images.shape[2], images.shape[3])
    content = "\n".join(f"{digest} {label}" for digest, label in zip(digests, labels, strict=True))
    report = DataReport(
        name="Fashion-MNIST sample",
        shape=shape,
        counts={
            name: {word: int((split.labels == label).sum()) for label, word in enumerate(CLASSES)}
            for name, split in splits.items()
        },
        split=f"test as published, {VALIDATION_PERCENT} % validation split off every class of train, by seed {seed}",
    )
    return ImageClassification(
        name="Fashion-MNIST sample",
        classes=CLASSES,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        shape=shape,
        fingerprint=hashlib.sha256(f"fashion_mnist seed={seed}\n{content}".encode()).hexdigest(),
        report=report,
        official=("test",),
    )


def _read_idx(path: Path) -> Tensor:
    """A gzip IDX file of bytes: magic number with the count of axes, their lengths, the content in rows."""
    try:
        content = gzip.decompress(path.read_bytes())
        axes = content[3]
        shape = struct.unpack_from(f">{axes}I", content, 4)
        return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=4 * (1 + axes)).reshape(shape)
    except (OSError, EOFError, zlib.error, struct.error, IndexError, ValueError, RuntimeError) as error:
        raise DataError(
            f"the embedded sample is damaged ({path.name}: {error}); install foveate again, or give a folder of images"
        ) from error
