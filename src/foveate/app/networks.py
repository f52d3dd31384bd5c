"""The networks of the page: chosen by name, built once, kept while there is room."""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from threading import RLock
from typing import Any

import torch
from torch import nn

from foveate import hosts
from foveate.errors import OptionError
from foveate.hosts.at_hand import at_hand
from foveate.registry import parse
from foveate.surgery import plan
from foveate.surgery.attached import find_attention
from foveate.surgery.planned import Plan, size_in_words
from foveate.surgery.put import put, usual_place
from foveate.train.assembly import DESCRIPTION, load_model
from foveate.train.kinds import Kind, kind_of

HOSTS = (
    "foveate/resnet8",
    "foveate/resnet20",
    "torchvision/resnet18",
    "torchvision/resnet50",
    "torchvision/mobilenet_v2",
    "torchvision/mobilenet_v3_small",
    "torchvision/efficientnet_b0",
    "timm/resnet18",
    "timm/seresnet50",
    "timm/lcnet_100",
    "timm/mobilenetv3_large_100",
)
WORKS = ("classification", "segmentation", "detection")  # scans are no pictures that a page could take
PARAMETERS = 150_000_000
PAIRS = 2**30  # bytes of all matrices of pairs of positions, if they were built: what grows with them is time
KEPT = 2**30  # bytes of all networks that are kept
DEPTH = 4  # of folders in which runs are looked for
RANDOM = (
    "The weights of this network are random: published ones are not on this machine, and none are downloaded. What it "
    "says of a picture means nothing; places and costs are those of any weights."
)
UNTRAINED = (
    "The attention was put in just now and has learned nothing: its maps show how it begins, not what it would learn."
)


@dataclass(frozen=True)
class Choice:
    """What somebody chose: a host with or without a mechanism, or the run of a training.

    Attributes:
        host: A network's name; empty where a checkpoint is meant.
        attention: A mechanism with its options; empty for none.
        checkpoint: The name of a run in the folder of checkpoints.
    """

    host: str = ""
    attention: str = ""
    checkpoint: str = ""

    def __str__(self) -> str:
        """As it is called on the page."""
        return self.checkpoint or (f"{self.host} with {self.attention}" if self.attention else self.host)


@dataclass(frozen=True)
class Chosen:
    """A network that can be asked.

    Attributes:
        name: As it is called on the page.
        network: In evaluation mode.
        kind: The kind of work that it does.
        classes: What it tells apart.
        channels: Of the images that it takes.
        size: The side of the square that it is shown; ``None`` where it takes images as they are.
        options: Of the kind of work.
        notes: What a person must know before they believe it.
        plan: Where attention was put and what it adds, where it was put in here.
        bare: Makes the same host without attention, of random weights; ``None`` where there is none.
    """

    name: str
    network: nn.Module
    kind: Kind[Any]
    classes: tuple[str, ...]
    channels: int
    size: int | None
    options: Any
    notes: tuple[str, ...] = ()
    plan: Plan | None = None
    bare: Callable[[], nn.Module] | None = None

    @property
    def attended(self) -> bool:
        """Whether it has attention of any kind."""
        return any(True for _ in find_attention(self.network))


class Networks:
    """Networks by choice; those asked for least recently make room, and one person at a time computes.

    Args:
        hosts: The names that may be chosen.
        checkpoints: A folder of runs that may be chosen, by their path in it.
        kept: How many bytes of networks stay.
    """

    def __init__(self, hosts: tuple[str, ...] = HOSTS, checkpoints: Path | None = None, kept: int = KEPT) -> None:
        self.hosts, self.kept = hosts, kept
        self.checkpoints = None if checkpoints is None else checkpoints.resolve()
        self.work = RLock()  # hooks are put on shared networks while one is asked
        self._there: OrderedDict[Choice, tuple[Chosen, int]] = OrderedDict()

    def runs(self) -> dict[str, Path]:
        """The runs that may be chosen, by their paths in the folder of checkpoints."""
        if self.checkpoints is None:
            return {}
        found = {
            _run_of(path.parent)
            for depth in range(DEPTH)
            for path in self.checkpoints.glob("*/" * depth + DESCRIPTION)
            if path.resolve().is_relative_to(self.checkpoints) and _work_of(path) in WORKS
        }
        names = {
            path: path.name if path == self.checkpoints else str(path.relative_to(self.checkpoints)) for path in found
        }
        return {name: path for path, name in sorted(names.items(), key=lambda pair: pair[1])}

    def get(self, choice: Choice) -> Chosen:
        """The network, built or kept from before.

        Raises:
            OptionError: If the choice is not one of those offered, or would be too large.
            DataError: If the run is damaged.
        """
        with self.work:
            if choice not in self._there:
                made = self._run(choice.checkpoint) if choice.checkpoint else self._built(choice)
                self._there[choice] = made, _bytes_of(made.network)
            self._there.move_to_end(choice)
            while len(self._there) > 1 and sum(size for _, size in self._there.values()) > self.kept:
                self._there.popitem(last=False)
            return self._there[choice][0]

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._there)

    def _run(self, name: str) -> Chosen:
        folder = self.runs().get(name)
        if folder is None:
            raise OptionError("this run is not one of those offered: choose one of the list")
        network, assembly = load_model(folder)
        options = assembly.chosen()
        bare = None
        if assembly.attention is not None:
            bare = lambda: replace(assembly, attention=None, at=None).build()[0]  # noqa: E731
        side = {"classification": "size", "segmentation": "crop"}.get(assembly.work)  # detectors take whole pictures
        size = None if side is None else getattr(options, side)
        return Chosen(name, network, assembly.kind, assembly.classes, assembly.channels, size, options, bare=bare)

    def _built(self, choice: Choice) -> Chosen:
        if choice.host not in self.hosts:
            raise OptionError("this network is not one of those offered: choose one of the list")
        trained = at_hand(choice.host)
        ours = choice.host.startswith("foveate/")
        classes = 10 if ours else 1000

        def bare() -> nn.Module:
            return hosts.build(choice.host, classes=classes, weights="pretrained" if trained else None)

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = bare()
            channels, *sides = hosts.input_shape(network)
            planned, notes = None, () if trained else (RANDOM,)
            if choice.attention:
                spec = parse(choice.attention)
                example = torch.zeros(1, channels, *sides)
                planned = plan(network, spec, at=usual_place(spec), example=example)
                _check_size(planned)
                put(network, spec, start="identity" if trained else "paper", example=example)
                notes = (*notes, UNTRAINED)
        kind = kind_of("classification")
        return Chosen(
            str(choice),
            network.eval(),
            kind,
            _names_of(classes),
            channels,
            sides[0],
            kind.options(size=sides[0]),
            notes,
            planned,
            bare if choice.attention else None,
        )


def offered(names: tuple[str, ...]) -> list[tuple[str, str]]:
    """Names of hosts with what is known of their weights, as a list to choose from shows them.

    Example:
        >>> offered(("foveate/resnet8",))
        [('foveate/resnet8 (random weights)', 'foveate/resnet8')]
    """
    return [(f"{name} ({'published weights' if at_hand(name) else 'random weights'})", name) for name in names]


def _check_size(planned: Plan) -> None:
    """Refuse before anything is built what would take this machine's memory.

    Raises:
        OptionError: With what it would take.
    """
    total = planned.host_parameters + planned.parameters
    if total > PARAMETERS:
        raise OptionError(f"{planned.attention} would make this a network of {total:,} parameters; the page's limit is "
                          f"{PARAMETERS:,}")  # fmt: skip
    pairs = sum(place.pairs for place in planned.places)
    if pairs > PAIRS:
        raise OptionError(
            f"{planned.attention} relates all pairs of positions here, {size_in_words(pairs)} for one image; the page "
            f"takes up to {size_in_words(PAIRS)}: choose a smaller network, or use foveate.record at chosen places"
        )


def _names_of(classes: int) -> tuple[str, ...]:
    """ImageNet's names, as torchvision has them, for as many classes; numbers otherwise."""
    if classes == 1000:
        from torchvision.models import ResNet18_Weights

        return tuple(ResNet18_Weights.DEFAULT.meta["categories"])
    return tuple(f"class {number}" for number in range(classes))


def _work_of(path: Path) -> str:
    try:
        about: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(about.get("work", "")) if isinstance(about, Mapping) else ""  # pyright: ignore[reportUnknownMemberType]


def _run_of(folder: Path) -> Path:
    """The folder of a run, whose network may lie in a folder of its own."""
    return folder.parent if folder.name == "model" else folder


def _bytes_of(network: nn.Module) -> int:
    tensors = (*network.parameters(), *network.buffers())
    return sum(math.prod(tensor.shape) * tensor.element_size() for tensor in tensors)
