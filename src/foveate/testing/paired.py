"""A mechanism of two maps as one of one map, so that the checks of attention are checks of it too."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from foveate.fusion import Pair


class Paired(nn.Module):
    """Gives a mechanism of two maps a second one, made from the first: another one, of the same size and more.

    Of a mechanism that takes a second map of other channels and another size, it is wider by one channel and coarser.

    Attributes:
        mechanism: The mechanism.
    """

    def __init__(self, mechanism: Pair, *, wider: bool) -> None:
        super().__init__()
        self.mechanism = mechanism
        self.wider = wider

    @property
    def fixed_size(self) -> tuple[int, int] | None:
        """The mechanism's."""
        return self.mechanism.fixed_size

    @property
    def smallest(self) -> int:
        """The mechanism's, or the smallest map of which the second has more than one position a side."""
        return max(self.mechanism.smallest, 3) if self.wider else self.mechanism.smallest

    @property
    def unordered(self) -> bool:
        """The mechanism's."""
        return self.mechanism.unordered

    def reset_parameters(self) -> None:
        """Initialise the mechanism."""
        self.mechanism.reset_parameters()

    def start_at_identity(self) -> None:
        """Start the mechanism so."""
        self.mechanism.start_at_identity()

    def partner(self, x: Tensor) -> Tensor:
        """The second map."""
        y = 1.5 * torch.cos(x.roll(1, 1))
        if not self.wider:
            return y
        coarser = y[(..., *(slice(None, None, 2) for _ in y.shape[2:]))]
        return torch.cat([coarser, coarser[:, :1].square()], 1)

    def identity(self, x: Tensor) -> Tensor:
        """What the mechanism is to be when it does nothing."""
        return self.mechanism.identity(x, self.partner(x))

    def forward(self, x: Tensor) -> Tensor:
        """The mechanism of the map and its partner."""
        return self.mechanism(x, self.partner(x))
