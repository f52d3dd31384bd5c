"""What an album is about: a network, where it is from, and how it is given pictures; here, hosts by name."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from foveate import hosts
from foveate.data.report import shown
from foveate.errors import DataError, FoveateError, MissingExtraError, OptionError
from foveate.explain.album.about import Origin
from foveate.explain.album.files import Prepare
from foveate.explain.album.prepare import Square
from foveate.hosts.build import as_trained
from foveate.hosts.weights import SUFFIXES, load_weights, read_weights
from foveate.registry import parse
from foveate.surgery.attended import ATTENTION
from foveate.surgery.put import put

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
GREY = ((0.5,), (0.25,))


@dataclass(frozen=True)
class Subject:
    """A network to look at.

    Attributes:
        network: In evaluation mode.
        origin: Where it is from.
        classes: What it tells apart, by its own numbers; empty where nobody named them.
        prepare: How it is given a picture.
    """

    network: nn.Module
    origin: Origin
    classes: tuple[str, ...]
    prepare: Prepare


def hosted(
    name: str,
    *,
    weights: str | Path | None = None,
    attention: str | None = None,
    at: str | None = None,
    start: str | None = None,
    classes: Sequence[str] = (),
    seed: int = 0,
) -> Subject:
    """A network that classifies, by name; with attention attached, if asked for.

    Args:
        name: As :func:`foveate.hosts.build` takes it.
        weights: As there; a file may hold the attention's too, under the keys that an attended network has.
        attention: What is attached, as ``"cbam:reduction=8"``.
        at: Where, several places with commas between them; where it usually acts, if ``None``.
        start: ``"identity"`` or ``"paper"``; by default the first where the host has weights.
        classes: Names of the classes, in the order of the network's outputs.
        seed: Of what is random: weights without a file.

    Raises:
        OptionError: If a name does not exist.
        FoveateError: If weights do not fit, or there are more or fewer names than classes.

    Example:
        >>> subject = hosted("foveate/resnet8", attention="se", classes=("cat", "dog"))
        >>> subject.origin.weights, subject.classes, subject.prepare.size
        ('random: none were asked for', ('cat', 'dog'), (32, 32))
    """
    file = weights if isinstance(weights, Path) or (weights is not None and weights.endswith(SUFFIXES)) else None
    offered = None if file is None else read_weights(file)
    trained_attention = offered is not None and any(f".{ATTENTION}." in f".{key}." for key in offered)
    if trained_attention and attention is None:
        raise OptionError(f"'{file}' holds attention that was attached: name it with --attention, as it was attached")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if weights is None:
            network = hosts.build(name, classes=len(classes) or 1000)
        else:
            held = None if offered is None else {key: offered[key] for key in offered if not _ours(key)}
            network = as_trained(name, str(weights), held)
        shape = hosts.input_shape(network)
        if len(shape) != 3 or shape[0] not in (1, 3):
            raise OptionError(f"{name} takes {shape[0]} channels of {shape[1:]}, and pictures have 1 or 3 and are flat")
        if attention is not None:
            way: Any = start or ("paper" if weights is None or trained_attention else "identity")
            where = None if at is None else [one.strip() for one in at.split(",")]
            put(network, parse(attention), at=where, start=way, example=torch.zeros(1, *shape))
            if trained_attention and offered is not None:
                load_weights(network, offered, source=f"the weights of '{file}'")
    network.eval()
    names = tuple(classes) or _published_names(network, shape, named=weights is not None and file is None)
    _check_names(network, shape, names)
    origin = Origin(
        name,
        _whence(name, weights),
        trained=weights is not None,
        attention_trained=attention is None or trained_attention,
    )
    return Subject(network, origin, names, Square((shape[1], shape[2]), _normaliser(network, shape[0]), shape[0]))


def read_classes(text: str | None) -> tuple[str, ...]:
    """Names of classes as a person gives them: a file with one in each line, names between commas, or ``imagenet``.

    Raises:
        DataError: If there is no such file, it is no text, or a name is empty.

    Example:
        >>> read_classes("0°,90°,180°,270°"), len(read_classes("imagenet"))
        (('0°', '90°', '180°', '270°'), 1000)
    """
    if text is None:
        return ()
    if text == "imagenet":
        return _imagenet()
    if "," in text:
        names = [name.strip() for name in text.split(",")]
        named = names[: None if names[-1] else -1]  # a comma may stand at the end
        if "" in named:
            raise DataError(
                f"of the classes '{shown(text)}', number {named.index('')} has no name: write one between the commas"
            )
        return tuple(named)
    try:
        lines = Path(text).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"'{shown(text)}' is no file with a class in each line, and no names between commas ({error})"
        ) from error
    return tuple(line.strip() for line in lines if line.strip())


def normaliser(mean: Sequence[float], std: Sequence[float]) -> Callable[[Tensor], Tensor]:
    """From bytes to numbers around 0; grey is repeated for a network of three channels.

    Example:
        >>> normaliser((0.5,), (0.25,))(torch.full((1, 1, 1, 1), 255, dtype=torch.uint8)).item()
        2.0
    """
    centre, spread = (torch.tensor(list(values)).reshape(1, -1, 1, 1) for values in (mean, std))
    return lambda pixels: (pixels.float() / 255 - centre) / spread


def _ours(key: str) -> bool:
    return f".{ATTENTION}." in f".{key}."


def _normaliser(network: nn.Module, channels: int) -> Callable[[Tensor], Tensor]:
    """Timm says how its networks want it; ImageNet's statistics for others of three channels."""
    config: Any = getattr(network, "pretrained_cfg", None)
    if channels == 3 and isinstance(config, dict) and config.get("mean") and config.get("std"):
        return normaliser(config["mean"], config["std"])
    return normaliser(*(IMAGENET if channels == 3 else GREY))


def _published_names(network: nn.Module, shape: tuple[int, ...], *, named: bool) -> tuple[str, ...]:
    """ImageNet's, where weights were published for its 1,000 classes."""
    return _imagenet() if named and _outputs(network, shape) == 1000 else ()


def _imagenet() -> tuple[str, ...]:
    try:
        from torchvision.models import ResNet18_Weights
    except ImportError as error:
        raise MissingExtraError("torchvision", "hosts") from error
    return tuple(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])


def _outputs(network: nn.Module, shape: tuple[int, ...]) -> int:
    with torch.no_grad():
        said = network(torch.zeros(1, *shape))
    return int(said.shape[-1]) if isinstance(said, Tensor) and said.ndim == 2 else 0


def _check_names(network: nn.Module, shape: tuple[int, ...], names: Sequence[str]) -> None:
    outputs = _outputs(network, shape)
    if names and outputs != len(names):
        raise FoveateError(f"the network tells {outputs} classes apart, and {len(names)} names were given")


def _whence(name: str, weights: str | Path | None) -> str:
    if weights is None:
        return "random: none were asked for"
    if str(weights).endswith(SUFFIXES):
        with Path(weights).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return f"the file {Path(weights).name} (SHA-256 {digest[:12]}…)"
    tag = "" if weights == "pretrained" else f" as {weights}"
    return f"published by {name.partition('/')[0]}{tag}"
