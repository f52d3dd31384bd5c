"""The second map of a mechanism that takes two: where it is seen, and where it waits for the mechanism to act."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from foveate.errors import FoveateError


@dataclass(frozen=True)
class Partner:
    """The second map of a mechanism that takes two: where it is seen, before the mechanism acts.

    Attributes:
        path: The module at which it is seen, as the host's ``state_dict`` has it.
        side: ``"output"``, what that module returns; ``"input"``, what it is given.
        width: Its channels.
        argument: Of an input: its position among the arguments, or its keyword.
        axis: Which of its axes counts channels.
        channels: First channel and the one after the last, where only some are meant.
        leads: Whether it is the first of the two, and the point's map the second.
        summed: Whether the point's map is the sum of both already: what is left of it without the partner is the other.
        copied: Whether a copy is kept, because the network adds into the map itself.
    """

    path: str
    side: Literal["output", "input"]
    width: int
    argument: int | str = 0
    axis: int = 1
    channels: tuple[int, int] | None = None
    leads: bool = False
    summed: bool = False
    copied: bool = False

    def seen_in(self, x: Tensor) -> Tensor:
        """The map with its channels on axis 1, of the tensor that the module is given or returns."""
        x = x if self.axis == 1 else x.movedim(self.axis, 1)
        if self.channels is not None:
            first, end = self.channels
            x = x[:, first:end]
        return x.clone() if self.copied else x


class Slot:
    """Where a partner waits from when it is seen until the mechanism acts. It is empty between passes.

    A plain object, which two modules share: a copy of a network shares a copy, and what waits is never copied or saved.
    """

    def __init__(self) -> None:
        self.waiting: Tensor | None = None

    def put(self, x: Tensor) -> None:
        """Let a map wait."""
        self.waiting = x

    def take(self) -> Tensor:
        """The map that waits, which is then forgotten.

        Raises:
            FoveateError: If none waits.
        """
        x, self.waiting = self.waiting, None
        if x is None:
            raise FoveateError(
                "a fusion was reached without its other map: both are seen in one pass, so gradient checkpointing goes "
                "around the whole block that joins them, not around a part of it"
            )
        return x

    def clear(self) -> None:
        """Forget what waits, if something does."""
        self.waiting = None

    def __getstate__(self) -> dict[str, None]:
        return {"waiting": None}


@dataclass
class Tap:
    """A map that is seen at a module for a mechanism elsewhere.

    Attributes:
        attachment: The attachment that it is for.
        partner: What is seen.
        slot: Where it waits.
    """

    attachment: str
    partner: Partner
    slot: Slot
