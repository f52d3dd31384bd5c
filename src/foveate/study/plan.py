"""From what a person asks for to a study: every choice that was left open is made here, by rule and in advance."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from foveate import __version__, hosts
from foveate.data import ImageClassification, fashion_mnist, image_folder
from foveate.errors import OptionError, PlaceError, check_at_least, check_choice
from foveate.hosts.weights import SUFFIXES
from foveate.registry import Spec
from foveate.study.design import DEFAULT_ATTENTION, RunConfig, Study, arms_of, code_fingerprint, counted
from foveate.study.run import Material, build_network
from foveate.study.training.batches import statistics_of

# the usual normalisation of networks trained on ImageNet
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# what our networks were designed for
SMALL = 32
MOST_EPOCHS = 50
# networks made for 224 pixels halve their map five times: from 32 pixels nothing would be left to attend to
SMALLEST_LARGE = 96
# a batch of 32 images of this side takes 400 MB before the first layer
LARGEST = 1024


@dataclass(frozen=True)
class Budget:
    """What is fixed in advance, for all arms alike, unless a person says otherwise.

    Attributes:
        epochs: Passes over the training images, at least.
        steps: Steps, at least: few images need more passes, up to 50.
        batch_size: Images a step.
        learning_rate: The highest learning rate.
        weight_decay: Of parameters with two axes or more.
        quick_epochs: Passes in a quick look.
        quick_images: Training images in a quick look, at most.
    """

    epochs: int
    steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    quick_epochs: int
    quick_images: int

    def passes(self, images: int, batch_size: int) -> int:
        """How many epochs so many images get.

        Example:
            >>> FINE_TUNING.passes(10_000, 32), FINE_TUNING.passes(320, 32), FINE_TUNING.passes(20, 32)
            (4, 20, 50)
        """
        each = max(1, images // batch_size)
        return max(self.epochs, min(MOST_EPOCHS, -(-self.steps // each)))


SCRATCH = Budget(8, 400, 32, 0.1, 5e-4, quick_epochs=3, quick_images=600)
# a tenth of the rate from scratch: the weights are good already, and the new head still has to be learned
FINE_TUNING = Budget(4, 200, 32, 0.01, 1e-4, quick_epochs=1, quick_images=300)


def prepare(
    data: str | Path | ImageClassification | None = None,
    host: str = "foveate/resnet8",
    weights: str | Path | None = "auto",
    attention: tuple[str | Spec, ...] = DEFAULT_ATTENTION,
    seeds: int = 3,
    *,
    at: str | None = None,
    start: str | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    image_size: int | None = None,
    train_images: int | None = None,
    quick: bool = False,
    device: str | None = None,
) -> tuple[Study, Material]:
    """Design a study, and find out whether all of it can run, before any of it does.

    Args:
        data: A folder of images, or images already read; ``None`` is the embedded sample.
        host: The network, as in :func:`foveate.hosts.build`.
        weights: ``"auto"`` starts networks of ours at random and all others from published weights; ``None`` or
            ``"none"`` starts at random; anything else as in :func:`foveate.hosts.build`.
        attention: The mechanisms to compare with the network as it is.
        seeds: Runs of each arm.
        at: Where, as in :func:`foveate.attach` and :func:`foveate.replace`; where a mechanism of its protocol usually
            acts, if ``None``.
        start: ``"paper"`` or ``"identity"``; by default the paper's initialisation in a random network, for which it
            is made, and the identity in a trained one, which it leaves as good as it was.
        epochs: Passes over the training images; by default by the rule of :class:`Budget`.
        batch_size: Images a step.
        learning_rate: The highest learning rate, the same for all.
        image_size: Height and width of a folder's images. By default 32 for networks of ours, and for others what
            the folder holds, at least 96 and at most 224.
        train_images: Learn from so many images only.
        quick: Fewer images and epochs.
        device: ``"cpu"`` or ``"cuda"``; by default a GPU if there is one.

    Raises:
        FoveateError: If any of it cannot work.

    Example:
        >>> study, _ = prepare(attention=("se", "eca"), seeds=2)
        >>> len(list(study.runs())), study.base.start
        (6, 'paper')
    """
    arms = arms_of(attention)
    check_at_least("seeds", seeds, 1)
    source = _weights(host, weights)
    budget = SCRATCH if source is None else FINE_TUNING
    hosts.build(host, classes=2)  # a name that does not exist is said before a large folder is read
    images = _images(data, host, image_size)
    count = _count(train_images, len(images.train), budget.quick_images if quick else None)
    size = _whole("batch_size", batch_size, budget.batch_size, least=2)
    base = RunConfig(
        host=host,
        weights=source.name if isinstance(source, Path) else source,
        weights_fingerprint=None if source is None else _fingerprint(host, source),
        attention=None,
        start=_start(start, source),
        at=at,
        data=images.name,
        fingerprint=images.fingerprint,
        image_shape=images.shape,
        train_images=count,
        test_images=len(images.test),
        seed=0,
        epochs=_whole("epochs", epochs, budget.quick_epochs if quick else budget.passes(count, size), least=1),
        batch_size=size,
        learning_rate=_rate(learning_rate, budget),
        momentum=0.9,
        weight_decay=budget.weight_decay,
        warmup=0.1,
        augment=True,
        device=_device(device),
        foveate=__version__,
        code=code_fingerprint(),
        torch=torch.__version__,
        library=_library(host),
    )
    study = Study(base, arms, tuple(range(seeds)))
    return study, _material(study, images, source)


def rules(study: Study) -> list[str]:
    """How the comparison is made, in sentences for whoever reads its results.

    Example:
        >>> study, _ = prepare(attention=("se",), seeds=2)
        >>> print(rules(study)[0])
        Every arm has the same budget: 8 epochs of 1,800 images, batches of 32, SGD with momentum 0.9.
    """
    base = study.base
    beginning = "trained from scratch" if base.weights is None else f"fine-tuned from the weights {base.weights}"
    initial = (
        "Attention starts as its paper initialises it."
        if base.start == "paper"
        else "Attention starts as the identity, so that it changes nothing until it has learned to."
    )
    return [
        f"Every arm has the same budget: {counted(base.epochs, 'epoch')} of {counted(base.train_images, 'image')}, "
        f"batches of {base.batch_size}, SGD with momentum {base.momentum:g}.",
        f"One learning rate, {base.learning_rate:g}, was fixed in advance for all arms; it rises linearly over the "
        f"first {base.warmup:.0%} of the steps and falls along a half cosine. Weight decay is "
        f"{base.weight_decay:g}, none for norms, biases and blends.",
        f"{base.host} is {beginning}. {initial}",
        "Runs with the same seed are paired: the same initial host, the same images in the same order, mirrored and "
        "shifted alike.",
        "Accuracy is that of the network after its last epoch on the test images, which were looked at once; "
        "validation chose nothing.",
        "Intervals are Student's t-intervals of 95 % over the seeds, each for itself: with several arms it is more "
        "likely than 5 % that one of them is wrong.",
    ]


def _weights(host: str, weights: str | Path | None) -> str | Path | None:
    if weights == "auto":
        return None if host.startswith("foveate/") else "pretrained"
    if weights is None or weights == "none":
        return None
    return Path(weights) if str(weights).endswith(SUFFIXES) else weights


def _start(start: str | None, source: str | Path | None) -> str:
    if start is None:
        return "paper" if source is None else "identity"
    check_choice("start", start, ("identity", "paper"))
    return start


def _images(data: str | Path | ImageClassification | None, host: str, image_size: int | None) -> ImageClassification:
    if isinstance(data, ImageClassification):
        return data
    if data is None:
        if image_size is not None:
            raise OptionError("image_size is for a folder of images; those of the embedded sample are 28×28")
        return fashion_mnist()
    if image_size is not None:
        check_at_least("image_size", image_size, 1)
        if image_size > LARGEST:
            raise OptionError(f"image_size is a side in pixels, {LARGEST:,} at most, not {image_size:,}")
    if image_size is None and host.startswith("foveate/"):
        image_size = SMALL
    images = image_folder(data, size=image_size)
    if image_size is None and images.shape[1] < SMALLEST_LARGE:
        images = image_folder(data, size=SMALLEST_LARGE)
    return images


def _whole(what: str, value: int | None, otherwise: int, *, least: int) -> int:
    chosen = otherwise if value is None else value
    check_at_least(what, chosen, least)
    return chosen


def _count(wanted: int | None, there: int, most: int | None) -> int:
    if wanted is None:
        return there if most is None else min(there, most)
    check_at_least("train_images", wanted, 1)
    if wanted > there:
        raise OptionError(f"train_images is {wanted:,}, and there are {there:,} images to learn from: ask for fewer")
    return wanted


def _rate(rate: float | None, budget: Budget) -> float:
    if rate is None:
        return budget.learning_rate
    if not 0 < rate < float("inf"):
        raise OptionError(f"learning_rate must be a positive number, not {rate!r}")
    return float(rate)


def _device(device: str | None) -> str:
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    check_choice("device", device, ("cpu", "cuda"))
    if device == "cuda" and not torch.cuda.is_available():
        raise OptionError("device=cuda, but PyTorch finds no GPU here: use device=cpu")
    return device


def _library(host: str) -> str | None:
    source = host.partition("/")[0]
    return None if source == "foveate" else f"{source} {metadata.version(source)}"


def _fingerprint(host: str, source: str | Path) -> str:
    """A hash of the weights themselves: what "pretrained" means depends on what lies on the disk."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = hosts.build(host, classes=2, weights=source).state_dict()
    content = hashlib.sha256()
    for name, tensor in state.items():
        content.update(name.encode() + tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return content.hexdigest()[:16]


def _material(study: Study, images: ImageClassification, source: str | Path | None) -> Material:
    """Everything that runs share; each arm is built once, so that what cannot work is said now."""
    base = study.base
    if source is None:
        mean, std = statistics_of(images.train)
    else:
        stated: Any = getattr(hosts.build(base.host, classes=2), "pretrained_cfg", None) or {}
        mean, std = tuple(stated.get("mean", IMAGENET_MEAN)), tuple(stated.get("std", IMAGENET_STD))
    said: dict[str, list[str]] = {}
    for arm, config in study.runs():
        if config.seed == study.seeds[0]:
            try:
                build_network(config, len(images.classes), source, said.setdefault(arm.name, []))
            except (OptionError, PlaceError) as error:
                raise type(error)(
                    f"{arm.name} cannot go into {base.host}: {error}; leave it out, or choose another host or place"
                ) from error
    return Material(images, source, mean, std, said)
