"""Mechanisms: a card and the class it describes, and what its code says: the protocol, the options, the kind."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import torch

from foveate.attention import Attention, Update, maps_of
from foveate.errors import OptionError, nearest
from foveate.fusion import GuidedGate, Pair
from foveate.registry.cards import Card
from foveate.replacement import ConvShape, Replacement

PROTOCOLS = ("attention", "fusion", "replacement")
KINDS = ("channel", "spatial", "hybrid", "pixel-pair", "branch", "kernel")
# kinds that one axis decides; the rest is told by which of channels and positions the weights vary over
_KINDS = {"kernel": {"kernel", "tap"}, "branch": {"branch"}, "pixel-pair": {"hw->hw", "slot"}}
_USUAL = 64  # channels that every mechanism can be had for, as it is by itself
_MOST = 256  # up to which others are tried for options that do not go with these
# what a constructor takes by keyword and a place knows by itself
FROM_PLACE = ("size", "partner_channels")


@dataclass(frozen=True)
class Option:
    """One keyword parameter of a mechanism.

    Attributes:
        name: Its name.
        default: Its value unless another is given.
        annotation: Its type, as the constructor's signature has it.
        description: What the mechanism's docstring says about it.
    """

    name: str
    default: Any
    annotation: str
    description: str


@dataclass(frozen=True)
class Mechanism:
    """A card and the class it describes."""

    card: Card
    build: type[Attention | Pair | Replacement]

    @property
    def protocol(self) -> Literal["attention", "fusion", "replacement"]:
        """Whether it takes one map and keeps its shape, takes two, or stands in a convolution's place."""
        if issubclass(self.build, Replacement):
            return "replacement"
        return "fusion" if issubclass(self.build, Pair) else "attention"

    @property
    def options(self) -> dict[str, Option]:
        """What its constructor accepts by keyword, without what a place knows: the map's size, its partner's width."""
        parameters = inspect.signature(self.build).parameters.values()
        descriptions = _documented(self.build)
        return {
            p.name: Option(p.name, p.default, str(p.annotation), descriptions.get(p.name, ""))
            for p in parameters
            if p.kind is p.KEYWORD_ONLY and p.name not in FROM_PLACE
        }

    @property
    def usage(self) -> str:
        """The line of Python that puts it into ``model``.

        Example:
            >>> import foveate
            >>> foveate.get("attention_gate").usage
            'foveate.attach(model, "attention_gate", at="skip")'
        """
        return self.used_as(self.card.name)

    def used_as(self, written: str, **options: Any) -> str:
        """The same for a form of it: as it is written with its options, and these."""
        into = "replace" if self.protocol == "replacement" else "attach"
        more = ', at="skip"' if issubclass(self.build, GuidedGate) else ""
        if self.usual(**options).fixed_size is not None:
            more += ", example=torch.zeros(1, 3, 224, 224)"
        return f'foveate.{into}(model, "{written}"{more})'

    @property
    def wants_size(self) -> bool:
        """Whether the constructor takes the height and width of the feature map."""
        return "size" in inspect.signature(self.build).parameters

    @property
    def wants_partner(self) -> bool:
        """Whether the constructor takes the channels of a second map: elsewhere it has as many as the first."""
        return "partner_channels" in inspect.signature(self.build).parameters

    def check(self, options: Iterable[str]) -> None:
        """Refuse an option that its constructor does not have.

        Raises:
            OptionError: With the nearest that it has.
        """
        known = self.options
        for option in options:
            if option not in known:
                raise OptionError(f"{self.card.name} has no option '{option}'; {nearest(option, known)}")

    def usual(self, **options: Any) -> Attention | Pair | Replacement:
        """The module for a usual map, without memory behind it: to ask it what it is.

        Options may ask for other channels than the usual, such as groups that do not divide these: it is then made for
        the most that work.

        Raises:
            OptionError: If the options work with no number of channels, as for the usual one.
        """
        for channels in (_USUAL, *range(_MOST, 0, -1)):
            with suppress(OptionError):
                return self._without_memory(channels, options)
        return self._without_memory(_USUAL, options)

    def _without_memory(self, channels: int, options: Mapping[str, Any]) -> Attention | Pair | Replacement:
        given: Any = ConvShape.same(channels) if self.protocol == "replacement" else channels
        size = {"size": (8, 8)} if self.wants_size else {}
        with torch.device("meta"):
            return self.build(given, **options, **size)  # type: ignore[call-arg]

    def kind(self, **options: Any) -> str:
        """The kind, computed from the axes of the maps: channel, spatial, hybrid, pixel-pair, branch or kernel.

        Example:
            >>> import foveate
            >>> foveate.get("cbam").kind(), foveate.get("cbam").kind(parts="spatial")
            ('hybrid', 'spatial')
        """
        self.check(options)
        module = self.usual(**options)
        axes = {axis for point in maps_of(module).values() for axis in point.axes}
        for kind, its_axes in _KINDS.items():
            if axes & its_axes:
                return kind
        channels, positions = bool(axes & {"c", "c->c"}), bool(axes - {"c", "c->c"})
        # what adds to the features, unless it mixes channels, brings them from all over the map
        if (positions or not channels) and "c->c" not in axes and any(isinstance(m, Update) for m in module.modules()):
            return "pixel-pair"
        return "hybrid" if channels and positions else "channel" if channels else "spatial"


def _documented(build: type[Attention | Pair | Replacement]) -> dict[str, str]:
    """The lines under ``Args:`` of a docstring, by parameter."""
    _, _, rest = (inspect.getdoc(build) or "").partition("\nArgs:\n")
    described: dict[str, str] = {}
    name = ""
    for line in rest.splitlines():
        if not line.startswith("    "):
            break
        head = re.match(r"    (\w+): (.*)", line)
        if head:
            name = head[1]
            described[name] = head[2]
        elif name:
            described[name] += " " + line.strip()
    return described
