"""The studies, as they were frozen before their first run: nothing here was chosen by looking at a result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from foveate.study.asked import Asked
from studies import folders

FIVE = ("squeeze_excite", "eca", "gather_excite", "cbam", "psanet")
# six others of three kinds, by how often they are used in the literature
SIX = ("coordinate", "simam", "global_context", "triplet", "style_recalibration", "gated_channel")


@dataclass(frozen=True)
class Frozen:
    """A question and how it is asked.

    Attributes:
        question: In words.
        seeds: Runs of each arm.
        host: The network.
        weights: Where its weights are, as an option of the command: a file, or none.
        attention: The mechanisms.
        asked: The rest.
        data: Makes a folder of the published files; ``None`` for the embedded sample.
        source: Which published files.
        limits: What it cannot say.
    """

    question: str
    seeds: int
    host: str
    attention: tuple[str, ...]
    asked: Asked
    weights: str | None = None
    data: Callable[[Path, Path], Path] | None = None
    source: str = ""
    limits: str = ""


def _some(make: Callable[[Path, Path], Path], each: int) -> Callable[[Path, Path], Path]:
    """The first so many training images of each class, and all test images."""

    def some(source: Path, target: Path) -> Path:
        with TemporaryDirectory(dir=target.parent) as whole:
            return folders.few(make(source, Path(whole)), target, each)

    return some


def _faces(_source: Path, target: Path) -> Path:
    return folders.faces(target)


STUDIES: dict[str, Frozen] = {
    "fashion-scratch": Frozen(
        question="Does attention help a ResNet-20 that learns Fashion-MNIST from nothing, in one epoch?",
        seeds=3,
        host="foveate/resnet20",
        attention=(*FIVE, *SIX),
        asked=Asked(
            settings={"epochs": 1, "batch_size": 64, "learning_rate": 0.1, "size": 28},
            capacity=("cbam",),
            placebo=("cbam",),
            relevant=0.01,
        ),
        data=folders.fashion_mnist,
        source="Fashion-MNIST, the four files of its authors",
        limits="All training images, but one epoch, because the machine has two cores; three seeds decide nothing "
        "about eleven mechanisms, and the study says so.",
    ),
    "cifar10-pretrained": Frozen(
        question="Does attention that starts as the identity help a trained ResNet-20 in a short further training?",
        seeds=10,
        host="foveate/resnet20",
        weights="the ResNet-20 of akamaster/pytorch_resnet_cifar10",
        attention=(*FIVE, *SIX),
        asked=Asked(
            settings={"epochs": 2, "batch_size": 64, "learning_rate": 0.01, "size": 32},
            capacity=("cbam",),
            placebo=("squeeze_excite", "cbam"),
            relevant=0.01,
        ),
        data=_some(folders.cifar10, 350),
        source="half of CIFAR-10, JPEG-compressed",
        limits="The first 350 training images of each class and two epochs, so that two cores carry out ten seeds; the "
        "host was trained on the uncompressed images.",
    ),
    "cifar10-few": Frozen(
        question="Does attention help a trained ResNet-20 that gets 10, 30 or 100 images of each class?",
        seeds=8,
        host="foveate/resnet20",
        weights="the ResNet-20 of akamaster/pytorch_resnet_cifar10",
        attention=("squeeze_excite", "eca", "cbam"),
        asked=Asked(
            settings={"epochs": 10, "batch_size": 32, "learning_rate": 0.01, "size": 32},
            capacity=("cbam",),
            placebo=("cbam",),
            fractions=(0.1, 0.3),
            relevant=0.01,
        ),
        data=_some(folders.cifar10, 120),
        source="half of CIFAR-10, JPEG-compressed",
        limits="The 120 images of a class, 102 to learn from, are the first of the file for all seeds; a tenth and "
        "three tenths of them are drawn by seed.",
    ),
    "faces": Frozen(
        question="Does attention help a small network to tell faces from other pieces of photographs, with few images?",
        seeds=10,
        host="foveate/resnet8",
        attention=("squeeze_excite", "eca", "cbam"),
        asked=Asked(
            settings={"epochs": 20, "batch_size": 16, "learning_rate": 0.05, "size": 25},
            capacity=("squeeze_excite", "cbam"),
            placebo=("squeeze_excite", "cbam"),
            resplit=True,
            relevant=0.02,
        ),
        data=_faces,
        source="scikit-image's subset of Labeled Faces in the Wild",
        limits="200 images; the test split of a seed has 30.",
    ),
    "embedded": Frozen(
        question="Does attention help a ResNet-8 on the embedded sample, with controls and seeds enough to decide?",
        seeds=10,
        host="foveate/resnet8",
        attention=FIVE,
        asked=Asked(
            capacity=("all",),
            placebo=("squeeze_excite", "eca", "gather_excite", "cbam"),
            corruptions=(1, 3, 5),
            relevant=0.01,
        ),
        limits="1,800 training images of 28×28 pixels, eight epochs.",
    ),
}
