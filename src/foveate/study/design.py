"""What is compared, written down before anything runs: arms, seeds, and one configuration for each run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import foveate
from foveate.errors import OptionError
from foveate.registry import Spec, get, parse
from foveate.surgery.put import usual_place

BASELINE = "baseline"
DEFAULT_ATTENTION = ("squeeze_excite", "eca", "gather_excite", "cbam", "psanet")
# whatever of the package shapes the numbers of a run; how they are measured, counted and shown does not
SOURCES = (
    *("attention.py", "fusion.py", "replacement.py", "registry", "ops", "catalogue", "hosts", "surgery", "data"),
    *("study/training", "study/run.py"),
)


@dataclass(frozen=True)
class RunConfig:
    """Everything that a run's numbers depend on, besides the machine.

    Attributes:
        host: The network.
        weights: Where its weights come from; ``None`` if it is random.
        weights_fingerprint: A hash of them.
        attention: The mechanism with its options; ``None`` for the network as it is.
        start: How the mechanism starts: ``"paper"`` or ``"identity"``.
        at: Where it acts: as was asked for, or where a mechanism of its protocol usually does.
        data: Name of the data.
        fingerprint: A hash of the data and its splits.
        image_shape: Channels, height and width of the images.
        train_images: How many are learned from.
        test_images: How many are tested on.
        seed: Of initialisation, order and augmentation.
        epochs: Passes over the training images.
        batch_size: Images a step.
        learning_rate: The highest learning rate.
        momentum: Of SGD.
        weight_decay: Of parameters with two axes or more.
        warmup: Share of the steps in which the learning rate rises.
        augment: Whether training images are mirrored and shifted.
        device: Kind of device.
        foveate: Version.
        code: A hash of the parts of foveate that shape the numbers.
        torch: Version.
        library: The package that the host comes from, with its version.
    """

    host: str
    weights: str | None
    weights_fingerprint: str | None
    attention: str | None
    start: str | None
    at: str | None
    data: str
    fingerprint: str
    image_shape: tuple[int, int, int]
    train_images: int
    test_images: int
    seed: int
    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float
    weight_decay: float
    warmup: float
    augment: bool
    device: str
    foveate: str
    code: str
    torch: str
    library: str | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as JSON gives them back."""
        return {**asdict(self), "image_shape": list(self.image_shape)}

    @property
    def key(self) -> str:
        """A short name that another configuration does not have."""
        return digest(self.as_dict())[:16]


@dataclass(frozen=True)
class Arm:
    """One of the things compared: the network as it is, or with one mechanism.

    Attributes:
        spec: The mechanism; ``None`` for the baseline.
    """

    spec: Spec | None = None

    @property
    def name(self) -> str:
        """What the arm is called everywhere.

        Example:
            >>> Arm().name, Arm(parse("se:reduction=4")).name
            ('baseline', 'squeeze_excite:reduction=4')
        """
        return BASELINE if self.spec is None else str(self.spec)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, with the mechanism's title and kind."""
        if self.spec is None:
            return {"name": BASELINE, "attention": None, "title": BASELINE, "kind": None}
        found = get(self.spec.name)
        kind = found.kind(**dict(self.spec.options))
        return {"name": self.name, "attention": self.name, "title": found.card.title, "kind": kind}


@dataclass(frozen=True)
class Study:
    """Arms times seeds.

    Attributes:
        base: The configuration that all runs share; its attention and seed are replaced.
        arms: What is compared; the first is the baseline.
        seeds: Every arm runs once with each.
    """

    base: RunConfig
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]

    def runs(self) -> Iterator[tuple[Arm, RunConfig]]:
        """Every run, seed by seed, so that what is finished early can be compared already."""
        for seed in self.seeds:
            for arm in self.arms:
                config = replace(self.base, seed=seed)
                if arm.spec is None:
                    yield arm, replace(config, attention=None, start=None, at=None)
                else:
                    at = usual_place(arm.spec) if config.at is None else config.at
                    yield arm, replace(config, attention=arm.name, at=at)

    def shared(self) -> dict[str, Any]:
        """What is the same in every run."""
        own = {"attention", "seed", "start", "at"}
        return {name: value for name, value in self.base.as_dict().items() if name not in own} | {
            "start": self.base.start,
            "at": self.base.at,
        }


def arms_of(attention: tuple[str | Spec, ...]) -> tuple[Arm, ...]:
    """The baseline and one arm for each mechanism.

    Raises:
        OptionError: If a mechanism does not exist, comes twice, or there is none.

    Example:
        >>> [arm.name for arm in arms_of(("se", "cbam"))]
        ['baseline', 'squeeze_excite', 'cbam']
    """
    specs = [parse(chosen) if isinstance(chosen, str) else chosen for chosen in attention]
    if not specs:
        raise OptionError("there is nothing to compare with the baseline: name at least one mechanism")
    arms = [Arm(), *(Arm(spec) for spec in specs)]
    names = [arm.name for arm in arms]
    for name in names:
        if names.count(name) > 1:
            raise OptionError(f"'{name}' is named twice: once is enough")
    return tuple(arms)


def counted(number: int, what: str) -> str:
    """A number of things.

    Example:
        >>> counted(1, "epoch"), counted(1800, "image")
        ('1 epoch', '1,800 images')
    """
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def canonical(value: Any) -> bytes:
    """The one way to write plain values as JSON, so that equal values have equal bytes.

    Example:
        >>> canonical({"b": [1.0, None], "a": "θ"}).decode()
        '{"a":"θ","b":[1.0,null]}'
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def digest(value: Any) -> str:
    """A hash of plain values: SHA-256 of their canonical JSON."""
    return hashlib.sha256(canonical(value)).hexdigest()


@cache
def code_fingerprint() -> str:
    """A hash of the sources that shape a run's numbers: a run of other code is another run.

    Example:
        >>> len(code_fingerprint())
        16
    """
    package = Path(foveate.__file__).parent
    content = hashlib.sha256()
    for source in SOURCES:
        path = package / source
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            content.update(file.relative_to(package).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return content.hexdigest()[:16]
