"""What was recorded, as a sequence in the order in which the network runs it, and by place."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar, overload

from foveate.errors import FoveateError
from foveate.explain.recording.hearing import MapName

T = TypeVar("T")


class ByPlace(Sequence[T], Generic[T]):
    """One entry for each map that ran, however often it did."""

    @property
    @abstractmethod
    def by_name(self) -> Mapping[MapName, Any]:
        """What was recorded, by the names of the maps."""

    @abstractmethod
    def told(self, name: MapName) -> T:
        """The entry of one map."""

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        """Entries by number."""
        names = list(self.by_name)
        if isinstance(index, slice):
            return [self.told(name) for name in names[index]]
        return self.told(names[index])

    def __len__(self) -> int:
        """How many maps there are, however many passes were recorded."""
        return len(self.by_name)

    def __repr__(self) -> str:
        """The places and steps, as they are asked for by name."""
        names = [".".join(filter(None, (name.place, name.attachment, name.step))) for name in self.by_name]
        what = type(self).__name__
        return f"{what} of {len(self)} maps: {', '.join(names)}" if names else f"{what} of nothing yet"

    def at(self, place: str) -> list[T]:
        """What was recorded at one place.

        Raises:
            FoveateError: If nothing was, with the places where something was.
        """
        found = [self.told(name) for name in self.by_name if name.place == place]
        if not found:
            places = ", ".join(dict.fromkeys(name.place for name in self.by_name)) or "none: the network did not run"
            raise FoveateError(f"no map was recorded at '{place}'; places: {places}")
        return found
