"""What every split is, whatever its kind: samples by number, each with a name."""

from __future__ import annotations

from typing import Any, Protocol


class Samples(Protocol):
    """Pairs of an image and what is to be said of it, by number."""

    @property
    def names(self) -> tuple[str, ...]:
        """What each is called: a path relative to the data's folder."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...
