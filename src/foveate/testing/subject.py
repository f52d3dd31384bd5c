"""What is checked: a way to build a mechanism, and inputs to try it with."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.errors import OptionError
from foveate.fusion import Pair
from foveate.registry import FROM_PLACE, Card, Spec, get, names, parse
from foveate.replacement import ConvShape, Replacement
from foveate.testing.paired import Paired

Size = tuple[int, int]


@dataclass(frozen=True)
class Subject:
    """A mechanism on trial.

    Attributes:
        name: How results call it.
        factory: Builds it from a channel count (or, in a convolution's place, from that convolution's shape) and, by
            keyword, its options and perhaps ``size``.
        card: Its card, if it is registered.
        given: Options that every module is built with.
        values: For an option whose type does not say what else it could be, values to try.
        exemptions: Checks that do not apply, each with its reason.
        channels: The channel count to check at.
        size: The height and width to check at, different so that a transposition shows.

    Example:
        >>> subject = Subject.of("cbam:reduction=8")
        >>> subject.build()(subject.input(2)).shape
        torch.Size([2, 16, 6, 7])
    """

    name: str
    factory: Callable[..., nn.Module]
    card: Card | None = None
    given: Mapping[str, Any] = field(default_factory=dict[str, Any])
    values: Mapping[str, Sequence[Any]] = field(default_factory=dict[str, Sequence[Any]])
    exemptions: Mapping[str, str] = field(default_factory=dict[str, str])
    channels: int = 16
    size: Size = (6, 7)

    @classmethod
    def of(cls, what: Subject | Spec | str | Callable[..., nn.Module]) -> Subject:
        """A subject from a registered name, a spec, a registered class, or any factory ``channels -> module``.

        Raises:
            OptionError: If it is none of them, or a name that does not exist.

        Example:
            >>> Subject.of(lambda channels: nn.Conv2d(channels, channels, 1)).build().kernel_size
            (1, 1)
        """
        if isinstance(what, Subject):
            return what
        if isinstance(what, str):
            what = parse(what)
        if isinstance(what, Spec):
            found = get(what.name)
            return cls._carded(str(what), found.build, found.card, dict(what.options))
        if not callable(what):
            raise OptionError(f"a mechanism's name or a factory (channels -> module) is checked, not {what!r}")
        for entry in map(get, names()):
            if entry.build is what:
                return cls._carded(entry.card.name, entry.build, entry.card, {})
        return cls(getattr(what, "__name__", type(what).__name__), what)

    @classmethod
    def _carded(cls, name: str, factory: Callable[..., nn.Module], card: Card, given: Mapping[str, Any]) -> Subject:
        return cls(name, factory, card, given, exemptions=card.exemptions)

    @property
    def options(self) -> dict[str, inspect.Parameter]:
        """What the factory accepts by keyword, without what a place knows; with types, where they can be resolved."""
        try:
            signature = inspect.signature(self.factory, eval_str=True)
        except NameError:  # a type that exists only for the type checker
            signature = inspect.signature(self.factory)
        parameters = signature.parameters.values()
        return {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in FROM_PLACE}

    @property
    def replaces(self) -> bool:
        """Whether it stands in a convolution's place: then a channel count means one of 3×3 that keeps a map's shape.

        Example:
            >>> Subject.of("eca").replaces
            False
        """
        return isinstance(self.factory, type) and issubclass(self.factory, Replacement)

    def build(
        self, channels: int | ConvShape | None = None, size: Size | None = None, *, seed: int = 0, **options: Any
    ) -> nn.Module:
        """The module as its author initialises it; the global random stream stays where it was."""
        chosen: dict[str, Any] = {**self.given, **options}
        parameters = inspect.signature(self.factory).parameters
        channels = self.channels if channels is None else channels
        shape = ConvShape.same(channels) if self.replaces and isinstance(channels, int) else channels
        wider = "partner_channels" in parameters
        if "size" in parameters:
            chosen["size"] = size or self.size
        if wider and isinstance(channels, int):
            chosen["partner_channels"] = channels + 1
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = self.factory(shape, **chosen)
        return Paired(module, wider=wider) if isinstance(module, Pair) else module

    def awake(
        self,
        channels: int | None = None,
        size: Size | None = None,
        *,
        seed: int = 0,
        dtype: torch.dtype = torch.float64,
    ) -> nn.Module:
        """The module in evaluation mode, moved off its initialisation, whose zeros would hide a path."""
        return wake(self.build(channels, size, seed=seed)).to(dtype).eval()

    def input(
        self,
        batch: int = 3,
        channels: int | None = None,
        size: Size | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
    ) -> Float[Tensor, "b c h w"]:
        """Features whose means differ between samples and channels, as they do behind a convolution."""
        generator = torch.Generator().manual_seed(seed)
        shape = (batch, self.channels if channels is None else channels)
        sides = size or self.size
        offset = torch.randn(*shape, *(1 for _ in sides), generator=generator, dtype=torch.float64)
        noise = torch.randn(*shape, *sides, generator=generator, dtype=torch.float64)
        return (offset + noise).to(dtype)


def wake(module: nn.Module) -> nn.Module:
    """Move parameters and running statistics off their initial values, the same way every time.

    A fresh module hides much: behind a weight of zero nothing has a gradient, and a gate of 0.5 everywhere looks
    the same however it was computed.

    Example:
        >>> bool(wake(nn.BatchNorm2d(2)).weight.eq(1).any())
        False
    """
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * _noise(parameter, generator))
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.add_(0.2 * _noise(buffer, generator))
            elif name.endswith("running_var"):
                buffer.mul_(torch.exp(0.2 * _noise(buffer, generator)))
    return module


def fixed_size(module: nn.Module) -> Size | None:
    """The one size that a module can run at, or ``None`` if any will do.

    Example:
        >>> import foveate
        >>> fixed_size(foveate.create("ge:extent=global", 8, size=(7, 7)))
        (7, 7)
    """
    return getattr(module, "fixed_size", None)


def smallest(module: nn.Module) -> int:
    """The smallest height and width that an exported graph of the module accepts, as the module says.

    Example:
        >>> import foveate
        >>> smallest(foveate.create("ge:extent=4", 8))
        5
    """
    return getattr(module, "smallest", 1)


def _noise(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like.dtype)
