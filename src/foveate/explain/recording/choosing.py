"""Which attention of a network is recorded, and which of the samples that pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

from torch import nn

from foveate.errors import FoveateError, PlaceError, check_at_least, nearest
from foveate.surgery.attached import Found, find_attention
from foveate.surgery.places.patterns import At, listed, shown, whole, wider


def chosen_attention(network: nn.Module, places: At | Sequence[At] | None) -> list[Found]:
    """The attention of a network at some places, in the order of its modules.

    Args:
        network: Unwrapped.
        places: Names of places, or of modules that they are in, as paths, globs and regular expressions, or functions
            of a place and its attention; all, if ``None``.

    Raises:
        FoveateError: If the network has no attention.
        PlaceError: If one of the names names no attention, with the nearest that do.

    Example:
        >>> from foveate import attach, hosts
        >>> model = attach(hosts.build("foveate/resnet8", classes=10), "se")
        >>> [one.place for one in chosen_attention(model, "layer[12]")]
        ['layer1.0.bn2', 'layer2.0.bn2']
    """
    found = list(find_attention(network))
    if not found:
        raise FoveateError("this network has no attention to record; put some in with foveate.attach(model, ...)")
    if places is None:
        return found
    chosen: set[int] = set()
    for pattern in listed(places):
        matching = {number for number, one in enumerate(found) if _names(pattern, one)}
        if not matching:
            raise PlaceError(f"{shown(pattern)} has no attention; {_instead(pattern, [one.place for one in found])}")
        chosen |= matching
    return [found[number] for number in sorted(chosen)]


def _names(pattern: At, one: Found) -> bool:
    if not isinstance(pattern, str) and callable(pattern):
        return bool(pattern(one.place, one.module))
    levels = one.place.split(".")
    return any(whole(pattern).fullmatch(".".join(levels[:depth])) for depth in range(1, len(levels) + 1))


def _instead(pattern: At, places: list[str]) -> str:
    hint = wider(pattern, places)
    return hint or nearest(pattern if isinstance(pattern, str) else "", dict.fromkeys(places))


class Samples:
    """Which samples are kept, by number: of each map they are counted over everything that passes.

    Raises:
        OptionError: If a number is no whole number from 0.

    Example:
        >>> chosen = Samples([1, 5])
        >>> chosen.rows("a map", 4), chosen.rows("a map", 4)
        ([1], [1])
    """

    def __init__(self, numbers: Iterable[int] | None) -> None:
        self.numbers = None if numbers is None else sorted(set(numbers))
        for number in self.numbers or ():
            check_at_least("the number of a sample", number, 0)
        self._passed: Counter[Hashable] = Counter()

    def rows(self, which: Hashable, count: int) -> list[int] | None:
        """Which of so many more samples of a map are kept; ``None`` for all."""
        if self.numbers is None:
            return None
        first = self._passed[which]
        self._passed[which] += count
        return [number - first for number in self.numbers if first <= number < first + count]

    def forget(self, which: Hashable, count: int) -> None:
        """So many samples of a map did not pass after all."""
        self._passed[which] -= count
