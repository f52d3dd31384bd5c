"""What a mechanism is, costs and needs, counted without computing anything."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import torch

from foveate.certificate import certificate_of
from foveate.errors import FoveateError, OptionError
from foveate.measure.macs import count_macs
from foveate.measure.parameters import count_parameters
from foveate.registry import Spec, get

_EXPORTS = {"exports_to_onnx": "onnx", "exports": "torch"}
_COUNTS = (*range(1, 13), 14, 16, 18, 20, 24, 30, 32, 48, 64, 96, 128, 256)  # channels that are tried


@dataclass(frozen=True)
class Entry:
    """One line of the catalogue.

    Attributes:
        kind: Its kind.
        parameters: Scalars in its parameters at the map that was asked for; ``None`` where it cannot be had for it.
        macs: Multiply-accumulates there.
        fewest: The fewest channels that work.
        multiple: What the channels must be a multiple of; 1 where any number from the fewest on works.
        tied: Whether it runs only at the height and width that it was made for.
        exports: How it can be exported, as its certificate says: ``"onnx"``, ``"torch"``.
    """

    kind: str
    parameters: int | None
    macs: int | None
    fewest: int
    multiple: int
    tied: bool
    exports: tuple[str, ...]

    @property
    def needs_channels(self) -> bool:
        """Whether there is a number of channels that it does not work with."""
        return max(self.fewest, self.multiple) > 1

    @property
    def needs(self) -> str:
        """What it needs, in words; empty if it takes every feature map."""
        needs = [f"a multiple of {self.multiple} channels"] if self.multiple > 1 else []
        needs += [f"{self.fewest} channels or more"] if self.fewest > self.multiple else []
        return ", ".join([*needs, *(["a fixed size"] if self.tied else [])])

    def as_dict(self) -> dict[str, Any]:
        """The same, ready for JSON."""
        return {**asdict(self), "needs": self.needs}


def survey(name: str, channels: int, size: tuple[int, int]) -> Entry:
    """Look one mechanism over, in its default form.

    Args:
        name: Its name.
        channels: Channels of the feature map to count at.
        size: Its height and width.

    Example:
        >>> entry = survey("eca", 256, (14, 14))
        >>> entry.kind, entry.parameters, entry.tied, entry.needs
        ('channel', 5, False, '')
        >>> survey("shuffle", 256, (14, 14)).needs
        'a multiple of 2 channels'
    """
    mechanism = get(name)
    parameters = macs = None
    tied = False
    with torch.device("meta"):
        try:
            module = Spec(mechanism.card.name).create(channels, size=size).eval()
            parameters = count_parameters(module)
            tied = getattr(module, "fixed_size", None) is not None
            maps = 2 if mechanism.protocol == "fusion" else 1
            macs = count_macs(module, *(torch.empty(1, channels, *size) for _ in range(maps)))
        except OptionError:
            pass
    fewest, multiple = _channels(mechanism.card.name, mechanism.build)
    return Entry(mechanism.kind(), parameters, macs, fewest, multiple, tied, _exports(name))


@cache
def _channels(name: str, _build: type) -> tuple[int, int]:
    """The fewest channels that work, and what all that work are multiples of; ``_build`` tells namesakes apart."""
    with torch.device("meta"):
        working = [count for count in _COUNTS if _works(name, count)]
    return min(working, default=_COUNTS[-1] + 1), math.gcd(*working) or 1


def _works(name: str, channels: int) -> bool:
    try:
        Spec(name).create(channels, size=(8, 8))
    except OptionError:
        return False
    return True


def _exports(name: str) -> tuple[str, ...]:
    try:
        passed = certificate_of(name).passed
    except FoveateError:  # a mechanism of one's own
        return ()
    return tuple(word for check, word in _EXPORTS.items() if check in passed)
