"""How a mechanism is entered in the catalogue's index, and found there by its name or an alias."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from foveate.attention import Attention
from foveate.errors import OptionError, nearest
from foveate.fusion import Pair
from foveate.registry.cards import Card
from foveate.registry.mechanisms import Mechanism
from foveate.replacement import Replacement

T = TypeVar("T", bound=Attention | Pair | Replacement)
_mechanisms: dict[str, Mechanism] = {}
_EVERYWHERE = {"", "a", "and", "attention", "block", "module", "net", "network", "of"}  # in names, and tell none apart


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
    """Find a mechanism by its name or by an alias that only it has; capitals and hyphens make no difference.

    Raises:
        OptionError: If there is none, with the nearest names, or if several share the alias, with the choices.

    Example:
        >>> get("se").card.title
        'Squeeze-and-Excitation'
        >>> get("CBAM").card.name
        'cbam'
    """
    if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise OptionError(f"a mechanism is called by a name, not by {name!r}")
    if name in _mechanisms:
        return _mechanisms[name]
    plain = _plain(name)
    found = [entry for entry in _mechanisms.values() if plain == _plain(entry.card.name)]
    found = found or [entry for entry in _mechanisms.values() if plain in map(_plain, entry.card.aliases)]
    if len(found) == 1:
        return found[0]
    if found:
        choices = ", ".join(sorted(entry.card.name for entry in found))
        raise OptionError(f"'{name}' may mean {choices}: write which")
    raise OptionError(f"there is no mechanism called '{name}'; {_suggestion(plain)}")


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def _suggestion(plain: str) -> str:
    """The names that share most whole words with what was written, in their own words or their titles'; else alike."""
    wanted = set(plain.split("_")) - _EVERYWHERE
    shared: dict[str, float] = {}
    for name, entry in _mechanisms.items():
        own = set(_plain(name).split("_"))
        title = set(_plain(entry.card.title).split("_"))
        common = len(wanted & own) + len(wanted & title) / 2
        if common:
            shared[name] = common / len(own | wanted)
    best = sorted(shared, key=lambda name: (-shared[name], name))[:3]
    if best:
        return "did you mean " + " or ".join(f"'{name}'" for name in best) + "?"
    alike = nearest(
        plain, [*_mechanisms, *(alias for alias in aliases() if len(alias) > 2)]
    )  # two letters are near all
    return alike if alike.startswith("did") else f"`foveate list` and foveate.names() show all {len(_mechanisms)}"
