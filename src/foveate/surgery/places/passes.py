"""One forward pass as it was seen: every module call, and every map with what it was made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import nn

LAYERS = {"conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "linear"}


@dataclass(eq=False, repr=False)
class Call:
    """One call of a module.

    Attributes:
        path: The module's path in the network as it is now, wrappers included.
        parent: The call in which it happened; ``None`` for the network itself.
        start: The serial number of the next value when it began.
        end: The serial number of the next value when it ended.
        given: The tensors among its arguments, by position or keyword.
        returned: The tensors in what it returned.
        alone: Whether what it returned is one tensor, and no list or dictionary of them.
        children: The calls that happened in it, in order.
    """

    path: str
    parent: Call | None
    start: int
    given: dict[int | str, Value]
    end: int = 0
    returned: list[Value] = field(default_factory=list["Value"])
    alone: bool = False
    children: list[Call] = field(default_factory=list["Call"])

    @property
    def first(self) -> Value | None:
        """The first tensor that it was given."""
        return next(iter(self.given.values()), None)


@dataclass(eq=False, repr=False)
class Value:
    """A tensor at one moment of the pass: an operation that changes it in place makes another value of it.

    Attributes:
        serial: Counts values in the order in which they came to be.
        operation: The name of what made it; empty if that was not seen.
        sources: What it was made from.
        shape: Its shape.
        axis: Which axis counts channels.
        dtype: Its type.
        device: Where it is.
        from_input: Whether it depends on the network's input, as parameters and constants do not.
        depth: How many layers (convolutions, linear maps) lie on the longest way to it.
        reach: How many of these look at more than one position.
        positions: How many positions it has: the product of its size; 0 for what is no map.
        coarsest: The fewest positions that any map on the way to it had, from the first layer on.
        call: The innermost call that was running when it was made.
        returned_by: The calls that returned it, in the order in which they ended.
        uses: The values that were made from it.
    """

    serial: int
    operation: str
    sources: tuple[Value, ...]
    shape: tuple[int, ...]
    axis: int
    dtype: torch.dtype
    device: torch.device
    from_input: bool
    depth: int
    reach: int
    positions: int
    coarsest: int
    call: Call | None
    returned_by: list[Call] = field(default_factory=list[Call])
    uses: list[Value] = field(default_factory=list["Value"])

    @property
    def channels(self) -> int:
        """How many channels it has."""
        return self.shape[self.axis]

    @property
    def size(self) -> tuple[int, ...]:
        """Its lengths along the axes that are neither batch nor channels."""
        return tuple(side for axis, side in enumerate(self.shape) if axis not in (0, self.axis))

    @property
    def came_up(self) -> bool:
        """Whether it was made from coarser maps, as on the way up of a decoder."""
        return 0 < self.coarsest < self.positions

    @property
    def makers(self) -> list[Call]:
        """The calls that returned it, innermost first: those in which it was made, then those that handed it on."""
        return sorted(self.returned_by, key=lambda call: call.start > self.serial)

    @property
    def is_map(self) -> bool:
        """Whether it is a feature map: batch, channels and at least one axis more; not a sequence of tokens."""
        return self.from_input and len(self.shape) >= 3 and (self.axis == 1 or len(self.shape) > 3)


@dataclass(eq=False, repr=False)
class Pass:
    """One forward pass.

    Attributes:
        root: The call of the network itself.
        calls: All calls, in the order in which they ended.
        values: All values, in the order in which they were made.
        modules: The modules that were called, by path.
        attention: Paths of the network's own attention, known by its class.
        acted: Paths of the attached attention that ran.
    """

    root: Call
    calls: list[Call]
    values: list[Value]
    modules: dict[str, nn.Module]
    attention: frozenset[str] = frozenset()
    acted: frozenset[str] = frozenset()

    @property
    def axes(self) -> int:
        """How many axes the network's maps have: as many as what its first convolution returns."""
        return next((len(value.shape) for value in self.values if value.operation.startswith("conv")), 4)

    def calls_of(self, path: str) -> list[Call]:
        """The calls of one module; more than one if it ran more than once."""
        return self._by_path.get(path, [])

    @cached_property
    def live(self) -> set[Value]:
        """The values that lead to what the network returns."""
        reached, ahead = set[Value](), list(self.root.returned)
        while ahead:
            value = ahead.pop()
            if value not in reached:
                reached.add(value)
                ahead += value.sources
        return reached

    @cached_property
    def _by_path(self) -> dict[str, list[Call]]:
        found: dict[str, list[Call]] = {}
        for call in self.calls:
            found.setdefault(call.path, []).append(call)
        return found
