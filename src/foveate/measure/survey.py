"""What a mechanism is, costs and needs, counted without computing anything."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from foveate.certificate import certificate_of
from foveate.errors import FoveateError, OptionError
from foveate.measure.macs import count_macs
from foveate.measure.parameters import count_parameters
from foveate.registry import Spec, get

_EXPORTS = {"exports_to_onnx": "onnx", "exports": "torch"}
_MOST = 256  # channels, up to which the fewest that work are looked for


@dataclass(frozen=True)
class Entry:
    """One line of the catalogue.

    Attributes:
        kind: Its kind.
        parameters: Scalars in its parameters at the map that was asked for; ``None`` where it cannot be had for it.
        macs: Multiply-accumulates there.
        fewest: The fewest channels that work.
        tied: Whether it runs only at the height and width that it was made for.
        exports: How it can be exported, as its certificate says: ``"onnx"``, ``"torch"``.
    """

    kind: str
    parameters: int | None
    macs: int | None
    fewest: int
    tied: bool
    exports: tuple[str, ...]

    @property
    def needs(self) -> str:
        """What it needs, in words; empty if it takes every feature map."""
        needs = [f"{self.fewest} channels or more"] if self.fewest > 1 else []
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
        fewest = next((count for count in range(1, _MOST + 1) if _works(mechanism.card.name, count)), _MOST + 1)
    return Entry(mechanism.kind(), parameters, macs, fewest, tied, _exports(name))


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
