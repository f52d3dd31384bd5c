"""Points: which feature map of a module's call attention acts on, and which of its axes are the channels.

Where a mechanism takes two maps, one is that of its point, and the other its partner, which may be another module's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from foveate.fusion import GuidedGate
from foveate.registry import Spec
from foveate.replacement import ConvShape
from foveate.surgery.partner import Partner

Side = Literal["output", "input", "shortcut", "instead"]


@dataclass(frozen=True)
class Point:
    """Where at a module attention acts.

    Attributes:
        side: ``"output"``, what the module returns; ``"input"``, what it is given; ``"shortcut"``, the copy of a
            block's input that the block adds to its branch: ``block(x) + (attention(x) - x)``; ``"instead"``, what the
            module is given and what it returns, which attention computes in its place.
        argument: Of an input or a shortcut: its position among the arguments, or its keyword.
        axis: Which axis counts channels: 1, or the last in networks that keep them last.
        axes: How many axes the map has, batch and channels included: 4 for images, 3 for signals, 5 for volumes.
        fold: Whether a map of other than four axes is folded to four, for mechanisms that do not ask how positions lie.
        channels: First channel and the one after the last, where only some are meant: a skip in a joined map.
        partner: The second map, of a mechanism that takes two.
    """

    side: Side = "output"
    argument: int | str = 0
    axis: int = 1
    axes: int = 4
    fold: bool = False
    channels: tuple[int, int] | None = None
    partner: Partner | None = None

    def without_axis(self) -> Point:
        """The same for a map that is only the channels that are meant, on axis 1."""
        return replace(self, axis=1, channels=None)

    def with_other(self, attention: nn.Module, other: Tensor) -> Any:
        """A mechanism of two maps as one of this point's map, the other being known.

        A gate changes the map itself. A fusion changes it by what it differs from the sum, so that the network's own
        addition of the two yields the fusion; at the identity that is exactly nothing.
        """
        partner = self.partner
        folded = self._folded(other)

        def act(x: Tensor) -> Tensor:
            if isinstance(attention, GuidedGate):
                return attention(x, folded)
            own = x - folded if partner is not None and partner.summed else x
            pair = (folded, own) if partner is not None and partner.leads else (own, folded)
            return x + (attention(*pair) - attention.identity(*pair)).to(x.dtype)  # type: ignore[operator]

        return act

    def act(self, attention: nn.Module, x: Tensor) -> Tensor:
        """Attend to the channels that are meant, whichever axis they lie on."""
        channels_last = self.axis != 1
        y = x.movedim(self.axis, 1) if channels_last else x
        if self.channels is None:
            y = self._attend(attention, y)
        else:
            first, end = self.channels
            y = torch.cat([y[:, :first], self._attend(attention, y[:, first:end]), y[:, end:]], 1)
        return y.movedim(1, self.axis) if channels_last else y

    def _attend(self, attention: nn.Module, x: Tensor) -> Tensor:
        if not self.fold or self.axes == 4:
            return attention(x)
        return attention(self._folded(x)).reshape(x.shape)

    def _folded(self, x: Tensor) -> Tensor:
        """The map with four axes, where it is folded."""
        if not self.fold or self.axes == 4:
            return x
        return x.unsqueeze(-1) if self.axes == 3 else x.flatten(2, self.axes - 2)

    def change(self, attention: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """What attention adds to the argument of a call that it acts on."""
        x = kwargs[self.argument] if isinstance(self.argument, str) else args[self.argument]
        return self.act(attention, x) - x

    def act_on_argument(
        self, attention: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Attend to one argument of a call; an argument that is not given, such as a missing skip, stays so."""
        if isinstance(self.argument, str):
            x = kwargs.get(self.argument)
            return args, kwargs if x is None else {**kwargs, self.argument: self.act(attention, x)}
        x = args[self.argument] if self.argument < len(args) else None
        if x is None:
            return args, kwargs
        return (*args[: self.argument], self.act(attention, x), *args[self.argument + 1 :]), kwargs


@dataclass(frozen=True)
class Seat:
    """What sits at a place: which attachment it belongs to, and where at the module it acts.

    Attributes:
        attachment: The name of the attachment; one name has one seat or many.
        attention: What was asked for: a spec, or the name of the function that made the module.
        start: ``"identity"`` or ``"paper"``.
        point: Where at the module it acts.
        channels: Channels that the attention was made for.
        size: The map's size when the network was watched, from which attention tied to a size was made.
        shape: The convolution that it was made in the place of; ``None`` for attention on a map.
    """

    attachment: str
    attention: Spec | str
    start: str
    point: Point
    channels: int = 0
    size: tuple[int, ...] = ()
    shape: ConvShape | None = None
