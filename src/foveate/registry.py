"""The catalogue's index: what each mechanism says about itself, and how it is found by name.

A mechanism registers itself with ``@mechanism(Card(...))``. Its options are the keyword parameters of its
constructor; nothing lists them a second time.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import torch

from foveate.attention import Attention, Update, maps_of
from foveate.errors import OptionError, check_at_least, check_size, nearest
from foveate.fusion import Pair
from foveate.replacement import ConvShape, Replacement


@dataclass(frozen=True)
class Paper:
    """Where a mechanism was published."""

    title: str
    authors: str
    venue: str
    arxiv: str | None = None

    @property
    def year(self) -> int:
        """The year of its first venue.

        Example:
            >>> get("se").card.paper.year
            2018
        """
        found = re.search(r"(?:19|20)\d\d", self.venue) or re.match(r"(\d\d)", self.arxiv or "")
        if found is None:
            raise OptionError(f"the venue '{self.venue}' names no year")
        return int(found[0]) if len(found[0]) == 4 else 2000 + int(found[0])

    @property
    def url(self) -> str | None:
        """The paper's page, if it has one that everybody can read."""
        return f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else None


@dataclass(frozen=True)
class Card:
    """What a mechanism says about itself beyond what its code says.

    Attributes:
        name: An unambiguous word; also the name of its file, its oracle and its page.
        title: The name in the paper.
        paper: Where it was published.
        equation: The mechanism in one or a few lines.
        aliases: Shorter names that mean only this mechanism.
        reference: The authors' code that this one was compared with, or why there is none.
        differences: How it differs from its paper or its authors' code, and why.
        exemptions: Checks of the contract that do not apply, each with its reason.
        evidence: What its paper reports: where it helped, by how much, and at what cost; numbers are the paper's.
    """

    name: str
    title: str
    paper: Paper
    equation: str
    aliases: tuple[str, ...] = ()
    reference: str = ""
    differences: tuple[str, ...] = ()
    exemptions: Mapping[str, str] = field(default_factory=dict[str, str])
    evidence: str = ""


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
    def wants_size(self) -> bool:
        """Whether the constructor takes the height and width of the feature map."""
        return "size" in inspect.signature(self.build).parameters

    @property
    def wants_partner(self) -> bool:
        """Whether the constructor takes the channels of a second map: elsewhere it has as many as the first."""
        return "partner_channels" in inspect.signature(self.build).parameters

    def kind(self, **options: Any) -> str:
        """The kind, computed from the axes of the maps: channel, spatial, hybrid, pixel-pair, branch or kernel.

        Example:
            >>> get("cbam").kind(), get("cbam").kind(parts="spatial")
            ('hybrid', 'spatial')
        """
        with torch.device("meta"):
            module = Spec(self.card.name, tuple(options.items())).create(_USUAL, size=(8, 8))
        axes = {axis for point in maps_of(module).values() for axis in point.axes}
        for kind, its_axes in _KINDS.items():
            if axes & its_axes:
                return kind
        channels, positions = bool(axes & {"c", "c->c"}), bool(axes - {"c", "c->c"})
        # what adds to the features, unless it mixes channels, brings them from all over the map
        if (positions or not channels) and "c->c" not in axes and any(isinstance(m, Update) for m in module.modules()):
            return "pixel-pair"
        return "hybrid" if channels and positions else "channel" if channels else "spatial"


@dataclass(frozen=True)
class Spec:
    """A mechanism and the options it is to have: what a person writes as ``cbam:reduction=8``."""

    name: str
    options: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        """The form that :func:`parse` reads."""
        if not self.options:
            return self.name
        return self.name + ":" + ",".join(f"{key}={_written(value)}" for key, value in self.options)

    def create(
        self,
        channels: int | ConvShape,
        *,
        size: tuple[int, ...] | None = None,
        partner_channels: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Attention | Pair | Replacement:
        """Build the module for feature maps of so many channels.

        Args:
            channels: Channels of the feature map, at least 1. For a mechanism in a convolution's place, that
                convolution's shape; channels alone mean one of 3×3 that keeps the shape of its map.
            size: Its height and width, for mechanisms whose parameters depend on them; the length of a signal or the
                depth, height and width of a volume, for mechanisms that take such.
            partner_channels: Channels of the second map, for mechanisms that take two.
            device: Where the parameters live.
            dtype: Their type.

        Raises:
            OptionError: If the channels or an option cannot work.
        """
        if not isinstance(channels, ConvShape):
            check_at_least("the number of channels", channels, 1)
        spec(self.name, **dict(self.options))  # a Spec can be written by hand
        found = get(self.name)
        given: Any = channels
        if found.protocol == "replacement":
            given = channels if isinstance(channels, ConvShape) else ConvShape.same(channels)
        elif isinstance(channels, ConvShape):
            raise OptionError(f"{self.name} acts on a map, and is made for its channels, not for a {channels}")
        extra: dict[str, Any] = {}
        if size is not None and len(size) != 2:
            extra = self._for_axes(len(size))
        else:
            if size is not None:
                check_size("size", size)
            if found.wants_size:
                extra = {"size": size}
        if partner_channels is not None:
            extra |= self._for_partner(partner_channels, given)
        module: Attention | Pair | Replacement = found.build(given, **dict(self.options), **extra)  # type: ignore[call-arg]
        return module.to(device=device, dtype=dtype)

    def _for_partner(self, partner: int, channels: int) -> dict[str, Any]:
        """What the constructor must be told so that the mechanism takes a second map of so many channels."""
        found = get(self.name)
        if found.protocol != "fusion":
            raise OptionError(f"{self.name} takes one map, and so no partner_channels")
        if found.wants_partner:
            return {"partner_channels": partner}
        if partner != channels:
            raise OptionError(f"{self.name} joins maps of equal channels, and these have {channels} and {partner}")
        return {}

    def _for_axes(self, count: int) -> dict[str, Any]:
        """What the constructor must be told so that the mechanism takes maps of so many axes of positions."""
        found = get(self.name)
        if "dimensions" in found.options:
            return {} if "dimensions" in dict(self.options) else {"dimensions": count}
        with torch.device("meta"):  # some treat positions as a set in one form, and not in another
            unordered = self.create(_USUAL, size=(8, 8)).unordered
        if not unordered:
            alike = [one for one in map(get, names()) if one.protocol == found.protocol]
            able = [one.card.name for one in alike if one.build.unordered or "dimensions" in one.options]
            what = {1: "signals, with a length", 3: "volumes, with depth, height and width"}.get(count, f"{count} axes")
            raise OptionError(
                f"{self.name} is defined on maps of height and width, and this size is that of {what}; "
                f"what works on them: {', '.join(able)}"
            )
        return {}


# kinds that one axis decides; the rest is told by which of channels and positions the weights vary over
KINDS = ("channel", "spatial", "hybrid", "pixel-pair", "branch", "kernel")
_KINDS = {"kernel": {"kernel", "tap"}, "branch": {"branch"}, "pixel-pair": {"hw->hw", "slot"}}
_USUAL = 64  # channels that every mechanism can be had for
# what a constructor takes by keyword and a place knows by itself
FROM_PLACE = ("size", "partner_channels")
T = TypeVar("T", bound=Attention | Pair | Replacement)
_mechanisms: dict[str, Mechanism] = {}


def mechanism(card: Card) -> Callable[[type[T]], type[T]]:
    """Register a mechanism under its card.

    Raises:
        OptionError: If another mechanism has the name already.
    """

    def register(build: type[T]) -> type[T]:
        known = _mechanisms.get(card.name)
        same = known is not None and (known.build.__module__, known.build.__qualname__) == (
            build.__module__,
            build.__qualname__,
        )
        if not same and (known is not None or card.name in aliases()):
            raise OptionError(f"there is a mechanism called '{card.name}' already: give yours another name")
        _mechanisms[card.name] = Mechanism(card, build)
        return build

    return register


def names() -> tuple[str, ...]:
    """Every mechanism's name, in alphabetical order.

    Example:
        >>> "cbam" in names()
        True
    """
    return tuple(sorted(_mechanisms))


def aliases() -> tuple[str, ...]:
    """Every alias, in alphabetical order.

    Example:
        >>> {"ge", "se"} <= set(aliases())
        True
    """
    return tuple(sorted({alias for entry in _mechanisms.values() for alias in entry.card.aliases}))


def get(name: str) -> Mechanism:
    """Find a mechanism by its name or by an alias that only it has.

    Raises:
        OptionError: If there is none, with the nearest names, or if several share the alias, with the choices.

    Example:
        >>> get("se").card.title
        'Squeeze-and-Excitation'
    """
    if name in _mechanisms:
        return _mechanisms[name]
    found = [entry for entry in _mechanisms.values() if name in entry.card.aliases]
    if len(found) == 1:
        return found[0]
    if found:
        choices = ", ".join(sorted(entry.card.name for entry in found))
        raise OptionError(f"'{name}' may mean {choices}: write which")
    if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise OptionError(f"a mechanism is called by a name, not by {name!r}")
    known = [*_mechanisms, *aliases()]
    raise OptionError(f"there is no mechanism called '{name}'; {nearest(name, known)}")


def spec(name: str, **options: Any) -> Spec:
    """A mechanism with options, checked.

    Raises:
        OptionError: If the mechanism or an option does not exist.

    Example:
        >>> str(spec("cbam", reduction=8))
        'cbam:reduction=8'
    """
    found = get(name)
    for option in options:
        if option not in found.options:
            raise OptionError(f"{found.card.name} has no option '{option}'; {nearest(option, found.options)}")
    # a list would make the spec unhashable
    plain = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    return Spec(found.card.name, tuple(sorted(plain.items())))


def parse(text: str) -> Spec:
    """Read a spec as a person writes it: a name, then perhaps a colon and options between commas.

    Values are numbers, ``true``, ``false``, ``none``, words, or several of them joined by ``+``.

    Raises:
        OptionError: If the text cannot be read, or names something that does not exist.

    Example:
        >>> parse("cbam:pools=avg+lse,reduction=8").options
        (('pools', ('avg', 'lse')), ('reduction', 8))
    """
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise OptionError(f"a mechanism is called by a name, not by {text!r}")
    name, _, rest = text.strip().partition(":")
    options: dict[str, Any] = {}
    for part in filter(None, (piece.strip() for piece in rest.split(","))):
        key, equals, value = part.partition("=")
        if not equals:
            raise OptionError(f"'{part}' in '{text}' is not option=value")
        values = tuple(_value(word) for word in value.split("+"))
        options[key.strip()] = values[0] if len(values) == 1 else values
    return spec(name, **options)


def create(
    name: str | Spec,
    channels: int | ConvShape,
    *,
    size: tuple[int, int] | None = None,
    partner_channels: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    **options: Any,
) -> Attention | Pair | Replacement:
    """Build a mechanism on its own.

    Args:
        name: A name, an alias, ``"name:option=value"`` or a :class:`Spec`.
        channels: Channels of the feature map; for a mechanism in a convolution's place, that convolution's shape, or
            channels for one of 3×3 that keeps the shape of its map.
        size: Its height and width, for mechanisms whose parameters depend on them.
        partner_channels: Channels of the second map, for mechanisms that take two and let them differ.
        device: Where the parameters live.
        dtype: Their type.
        **options: The mechanism's options.

    Raises:
        OptionError: If the mechanism or an option does not exist or cannot work.

    Example:
        >>> import torch
        >>> create("eca", 256)(torch.randn(2, 256, 14, 14)).shape
        torch.Size([2, 256, 14, 14])
    """
    chosen = name if isinstance(name, Spec) else parse(name)
    if options:
        chosen = spec(chosen.name, **{**dict(chosen.options), **options})
    return chosen.create(channels, size=size, partner_channels=partner_channels, device=device, dtype=dtype)


def parse_list(text: str) -> list[Spec]:
    """Read several specs between commas; a piece that is only ``option=value`` belongs to the spec before it.

    Raises:
        OptionError: As :func:`parse`, and if there is none.

    Example:
        >>> [str(s) for s in parse_list("se,cbam:reduction=8,pools=avg+max,eca")]
        ['squeeze_excite', 'cbam:pools=avg+max,reduction=8', 'eca']
    """
    pieces: list[str] = []
    for piece in filter(None, (piece.strip() for piece in text.split(","))):
        if "=" in piece and ":" not in piece and pieces:
            pieces[-1] += ("," if ":" in pieces[-1] else ":") + piece
        else:
            pieces.append(piece)
    if not pieces:
        raise OptionError(f"no mechanism is named; known: {', '.join(names())}")
    return [parse(piece) for piece in pieces]


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


def _value(word: str) -> Any:
    lowered = word.strip().lower()
    if lowered in {"true", "false", "none"}:
        return {"true": True, "false": False, "none": None}[lowered]
    try:
        return ast.literal_eval(lowered)
    except (ValueError, SyntaxError):
        return word.strip()


def _written(value: Any) -> str:
    if isinstance(value, tuple | list):
        return "+".join(_written(item) for item in value)
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)
