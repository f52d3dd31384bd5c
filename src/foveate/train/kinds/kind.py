"""What a kind of work has to say, and finding it by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from jaxtyping import Float, UInt8
from torch import Tensor, nn

from foveate.data.decode import decode
from foveate.data.samples import Samples
from foveate.errors import OptionError, nearest
from foveate.registry import Spec
from foveate.train.drawing import grey
from foveate.train.looking import Look
from foveate.train.recipe import Recipe
from foveate.train.task import Task

PICTURES = (".avif", ".bmp", ".gif", ".jpg", ".jpeg", ".jp2", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
KINDS = ("classification", "segmentation", "detection", "medical")
Options = TypeVar("Options")


class Report(Protocol):
    """What happened to data on the way in."""

    def lines(self) -> list[str]:
        """To print."""
        ...

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        ...


class Data(Protocol):
    """Samples in three splits."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """What each number of the targets stands for."""
        ...

    @property
    def train(self) -> Samples:
        """To learn from."""
        ...

    @property
    def validation(self) -> Samples:
        """To choose by."""
        ...

    @property
    def test(self) -> Samples:
        """To look at once."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes with the samples, the splits and whatever else changes a pixel."""
        ...

    @property
    def report(self) -> Report:
        """What was left out or changed on the way in."""
        ...


@dataclass(frozen=True)
class Said:
    """What a trained network says of one image.

    Attributes:
        content: Ready for JSON.
        picture: The image with what was said drawn on it, RGB.
        mask: The class of each pixel, where the work is one of masks; a file of its own.
        merge: What makes one map of what was recorded of the passes through the network, ``(passes, 1, h, w)`` of any
            size, where that is not of one pass over the whole image.
        seen: What attention is drawn over; the image itself, if ``None``.
        look: What attention did to its positions, where the kind of work tells by itself.
        files: What is written besides, by the end of the file's name.
    """

    content: Mapping[str, Any]
    picture: UInt8[Tensor, "3 h w"]
    mask: UInt8[Tensor, "h w"] | None = None
    merge: Callable[[Tensor], Tensor] | None = None
    seen: UInt8[Tensor, "c h w"] | None = None
    look: Look | None = None
    files: Mapping[str, bytes] = field(default_factory=dict[str, bytes])


class Kind(ABC, Generic[Options]):
    """A kind of work.

    Attributes:
        name: What it is called.
        host: The network that is trained unless another is named.
        options: A frozen dataclass of what can be chosen besides the recipe, each with its usual value.
        usual: What of the recipe differs from its usual values, such as epochs for the embedded sample.
        suffixes: Ends of the names of files that it reads.
    """

    name: ClassVar[str]
    host: ClassVar[str]
    options: ClassVar[type[Any]]
    usual: ClassVar[Mapping[str, Any]]
    suffixes: ClassVar[tuple[str, ...]] = PICTURES

    def usual_host(self, options: Options) -> str:  # noqa: ARG002
        """The network that is trained unless another is named."""
        return self.host

    def usual_of(self, host: str) -> Mapping[str, Any]:  # noqa: ARG002
        """What of the recipe differs from its usual values, for a network."""
        return self.usual

    def usual_place(self, host: str, attention: Spec) -> str | None:  # noqa: ARG002
        """Where attention acts in a network unless another place is named; ``None`` for where it usually does."""
        return None

    @abstractmethod
    def data(self, path: Path | None, options: Options, *, seed: int) -> Data:
        """Read a person's data, or the embedded sample."""

    def settled(self, data: Data, options: Options, host: str) -> Options:  # noqa: ARG002
        """The options, with what was left open taken from the data and the network's name."""
        return options

    @abstractmethod
    def network(
        self, name: str, classes: Sequence[str], channels: int, weights: str | Path | None, options: Options
    ) -> tuple[nn.Module, tuple[str, ...]]:
        """A network by name, and which of its parameters are new: not among its weights."""

    @abstractmethod
    def example(self, channels: int, options: Options) -> Any:
        """An input to watch one forward pass with, to find places for attention."""

    @abstractmethod
    def task(
        self, network: nn.Module, data: Data, recipe: Recipe, options: Options, *, seed: int, new: tuple[str, ...]
    ) -> Task:
        """What is learned from the data."""

    @abstractmethod
    def channels(self, data: Data, weights: str | Path | None) -> int:
        """How many channels the network takes."""

    def read(self, path: Path, channels: int) -> Any:
        """A new image, for a network of so many channels.

        Raises:
            UnusableImageError: If it cannot be used.
        """
        pixels = decode(path, None).pixels
        return grey(pixels) if channels == 1 else pixels

    def scanned(self, sample: Any) -> Any:
        """The image of a sample, as :meth:`read` would give it."""
        return sample[0]

    @abstractmethod
    def say(self, network: nn.Module, pixels: Any, classes: Sequence[str], options: Options) -> Said:
        """What a trained network says of one image, as :meth:`read` gives it."""

    def shown_place(self, heats: Mapping[str, Float[Tensor, "_ _"]]) -> str:
        """Which of the attended places a picture of attention shows, of their maps in the order they ran: the last."""
        return list(heats)[-1]


def kind_of(name: str) -> Kind[Any]:
    """A kind of work by its name.

    Raises:
        OptionError: If there is no such kind.
        MissingExtraError: If what it needs is not installed.

    Example:
        >>> kind_of("classification").host
        'foveate/resnet8'
    """
    if name not in KINDS:
        raise OptionError(f"there is no kind of work '{name}'; {nearest(name, KINDS)}")
    return import_module(f"foveate.train.kinds.{name}").KIND
