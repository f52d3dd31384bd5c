"""Every choice that a person left open is made here, by rule and in advance; what was chosen is checked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from foveate.data.corruptions.corrupted import unfit
from foveate.data.resplitting import resplit
from foveate.errors import (
    DataError,
    MissingExtraError,
    OptionError,
    check_at_least,
    check_choice,
    check_positive,
    nearest,
)
from foveate.hosts.weights import SUFFIXES
from foveate.study.asked import Asked
from foveate.study.budget import FINE_TUNING, QUICK_EPOCHS, QUICK_SAMPLES, SCRATCH, SHIFT
from foveate.study.design import Look
from foveate.study.elsewhere import STRENGTHS, fingerprint_of_published, fingerprint_of_shifted
from foveate.train.kinds import Data, Kind
from foveate.train.recipe import Recipe

# what our networks were designed for; networks made for 224 pixels halve their map five times: from 32 pixels nothing
# would be left to attend to
SMALL, SMALLEST_LARGE = 32, 96
# a batch of 32 images of this side takes 400 MB before the first layer
LARGEST = 1024
# data sets of fewer samples are dealt anew with every seed: one split of them decides much
SMALL_DATA = 3000


def weights_of(host: str, weights: str | Path | None) -> str | Path | None:
    """What the host is built with: a name, a file, or ``None`` for a random start.

    Example:
        >>> weights_of("foveate/resnet8", "auto"), weights_of("timm/resnet18", "auto")
        (None, 'pretrained')
    """
    if weights == "auto":
        return None if host.startswith(("foveate/", "monai/")) else "pretrained"
    if weights is None or weights == "none":
        return None
    return Path(weights) if str(weights).endswith(SUFFIXES) else weights


def start_of(start: str | None, source: str | Path | None) -> str:
    """How attention starts: as the paper has it in a random network, as the identity in a trained one."""
    if start is None:
        return "paper" if source is None else "identity"
    check_choice("start", start, ("identity", "paper"))
    return start


def samples_of(
    kind: Kind[Any], data: str | Path | Data | None, host: str, chosen: Mapping[str, Any]
) -> tuple[Data, Any]:
    """The samples, and the options of the work with everything settled."""
    known = [one.name for one in fields(kind.options)]
    for name in chosen:
        if name not in known:
            raise OptionError(f"{kind.name} has no option '{name}'; {nearest(name, [*known, *recipe_names()])}")
    if kind.name != "classification":
        options = kind.options(**chosen)
        samples = (
            data if data is not None and not isinstance(data, str | Path) else kind.data(_path(data), options, seed=0)
        )
        return samples, kind.settled(samples, options, host)
    chosen = {"shift": SHIFT, **chosen}
    size = chosen.get("size")
    if data is not None and not isinstance(data, str | Path):
        return data, kind.settled(data, kind.options(**chosen), host)
    if data is None:
        if size is not None:
            raise OptionError("image_size is for a folder of images; those of the embedded sample are 28×28")
    elif size is not None:
        check_at_least("image_size", size, 1)
        if size > LARGEST:
            raise OptionError(f"image_size is a side in pixels, {LARGEST:,} at most, not {size:,}")
    elif host.startswith("foveate/"):
        chosen["size"] = SMALL
    options = kind.options(**chosen)
    samples = kind.data(_path(data), options, seed=0)
    if data is not None and options.size is None and int(samples.train[0][0].shape[1]) < SMALLEST_LARGE:
        options = kind.options(**{**chosen, "size": SMALLEST_LARGE})
        samples = kind.data(_path(data), options, seed=0)
    return samples, kind.settled(samples, options, host)


def _path(data: Any) -> Path | None:
    return None if data is None else Path(data)


def recipe_names() -> list[str]:
    """The settings of training, by name."""
    return [one.name for one in fields(Recipe)]


def recipe_of(
    kind: Kind[Any], host: str, source: str | Path | None, count: int, chosen: Mapping[str, Any], *, quick: bool
) -> dict[str, Any]:
    """How all arms are trained."""
    if kind.name == "classification":
        budget = SCRATCH if source is None else FINE_TUNING
        return Recipe(**budget.recipe(count, chosen, quick=quick)).as_dict()
    usual = dict(kind.usual_of(host))
    if quick:
        usual["epochs"] = QUICK_EPOCHS
    return Recipe(**{**usual, **chosen}).as_dict()


def most_samples(work: str, source: str | Path | None) -> int:
    """How many samples a quick look learns from."""
    if work != "classification":
        return QUICK_SAMPLES
    return (SCRATCH if source is None else FINE_TUNING).quick_samples


def count_of(wanted: int | None, there: int, most: int | None) -> int:
    """How many samples are learned from.

    Raises:
        OptionError: If there are not so many.
    """
    if wanted is None:
        return there if most is None else min(there, most)
    check_at_least("train_samples", wanted, 1)
    if wanted > there:
        raise OptionError(f"train_samples is {wanted:,}, and there are {there:,} to learn from: ask for fewer")
    return wanted


def factor_of(factor: float) -> float:
    """A factor of the learning rate.

    Raises:
        OptionError: If it is not above zero.
    """
    check_positive("a factor of the grid", factor)
    return float(factor)


def part_of_training(share: float) -> float:
    """A part of the training samples.

    Raises:
        OptionError: If it does not lie between 0 and 1.
    """
    if not 0 < share < 1:
        raise OptionError(f"a fraction of the training samples lies between 0 and 1, not at {share!r}")
    return float(share)


def resplit_of(wanted: bool | None, samples: Any) -> bool:
    """Whether samples are dealt anew with every seed; tried here, so that what cannot be is said before anything runs.

    Raises:
        DataError: If it was asked for, and they cannot be.
    """
    official = getattr(samples, "official", ("train", "validation", "test"))
    total = sum(len(split) for split in (samples.train, samples.validation, samples.test))
    if wanted is False or (wanted is None and (official or total >= SMALL_DATA)):
        return False
    try:
        resplit(samples, 0)
    except DataError:
        if wanted:
            raise
        return False
    return True


def device_of(device: str | None) -> str:
    """The kind of device: a GPU if there is one, where none was chosen.

    Raises:
        OptionError: If there is none, and one was.
    """
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    check_choice("device", device, ("cpu", "cuda"))
    if device == "cuda" and not torch.cuda.is_available():
        raise OptionError("device=cuda, but PyTorch finds no GPU here: use device=cpu")
    return device


def library_of(host: str) -> str | None:
    """The package that a host comes from, with its version.

    Example:
        >>> library_of("foveate/resnet8") is None
        True
    """
    source = host.partition("/")[0]
    packages = {"smp": "segmentation-models-pytorch"}
    return None if source == "foveate" else f"{source} {metadata.version(packages.get(source, source))}"


def fingerprint_of(kind: Kind[Any], host: str, samples: Data, source: str | Path, options: Any) -> str:
    """A hash of the weights themselves: what "pretrained" means depends on what lies on the disk."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        channels = kind.channels(samples, source)
        network, _ = kind.network(host, samples.classes, channels, source, options)
    content = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        content.update(name.encode() + tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return content.hexdigest()[:16]


def look_of(asked: Asked, work: str, samples: Data) -> Look:
    """What is looked at after training; what cannot be, for this work or these samples, is refused.

    Raises:
        OptionError: If it was asked for and there is no such thing.
        DataError: If other test samples cannot be used.
        MissingExtraError: If a package for it is not installed.
    """
    for strength in asked.corruptions:
        check_choice("strength", strength, STRENGTHS)
    pixels: Any = samples.validation[0][0]  # the test samples are not looked at yet
    if asked.corruptions and (why := unfit(pixels)):
        raise OptionError(f"corruptions are for images, and a sample here {why}: leave them out")
    check_at_least("focus", asked.focus, 0)
    for what, wanted in (("focus", asked.focus), ("published", asked.published)):
        if wanted and work != "classification":
            raise OptionError(f"{what} is for classification, not for {work}: leave it out")
    if asked.focus and find_spec("pytorch_grad_cam") is None:
        raise MissingExtraError("grad-cam", "explain")
    return Look(
        corruptions=asked.corruptions,
        published=None if asked.published is None else fingerprint_of_published(asked.published, samples),
        shifted=None if asked.shifted is None else fingerprint_of_shifted(asked.shifted, samples),
        focus=asked.focus,
    )
