"""Specs: a mechanism and the options it is to have, as a person writes it, and the module that comes of it."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any

import torch

from foveate.attention import Attention
from foveate.errors import OptionError, check_at_least, check_size
from foveate.fusion import Pair
from foveate.registry.lookup import get, names
from foveate.replacement import ConvShape, Replacement


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
        if not found.usual(**dict(self.options)).unordered:  # some are in one form, and not in another
            alike = [one for one in map(get, names()) if one.protocol == found.protocol]
            able = [one.card.name for one in alike if one.build.unordered or "dimensions" in one.options]
            what = {1: "signals, with a length", 3: "volumes, with depth, height and width"}.get(count, f"{count} axes")
            raise OptionError(
                f"{self.name} is defined on maps of height and width, and this size is that of {what}; "
                f"what works on them: {', '.join(able)}"
            )
        return {}


def spec(name: str, /, **options: Any) -> Spec:
    """A mechanism with options, checked.

    Raises:
        OptionError: If the mechanism or an option does not exist.

    Example:
        >>> str(spec("cbam", reduction=8))
        'cbam:reduction=8'
    """
    found = get(name)
    found.check(options)
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
        if key.strip() in options:
            raise OptionError(f"'{key.strip()}' is given twice in '{text}': once is enough")
        values = tuple(_value(word) for word in value.split("+"))
        options[key.strip()] = values[0] if len(values) == 1 else values
    return spec(name, **options)


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
