"""A temperature that falls by itself while a network is trained."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Temperature(nn.Module):
    """A number that falls in equal steps from a first value to 1, a step each forward pass in training mode.

    It counts in a buffer, so it is saved, loaded, moved and resumed with the module's state, and graphs that were
    compiled or exported hold it. In evaluation it stays. Activation checkpointing runs a forward pass twice, and so
    counts it twice.

    Args:
        start: The first value, before any training.
        steps: After how many forward passes in training mode it is 1.

    Attributes:
        num_batches_tracked: How many there were; the name that a batch normalisation's counter has.

    Example:
        >>> temperature = Temperature(5.0, steps=4)
        >>> like = torch.zeros(1)
        >>> [float(temperature.train()(like)) for _ in range(6)], float(temperature.eval()(like))
        ([4.0, 3.0, 2.0, 1.0, 1.0, 1.0], 1.0)
    """

    num_batches_tracked: Tensor

    def __init__(self, start: float, steps: int) -> None:
        super().__init__()
        self.start, self.steps = start, steps
        self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long))

    def reset(self) -> None:
        """Begin again."""
        self.num_batches_tracked.zero_()

    def forward(self, like: Tensor) -> Tensor:
        """Count, in training, and return the present value in the type of what it will divide."""
        return _present(self.num_batches_tracked, self.start, self.steps, self.training, like)

    @property
    def done(self) -> int | None:
        """How many steps it has fallen; ``None`` on the meta device."""
        counter = self.num_batches_tracked
        return None if counter.is_meta else min(int(counter), self.steps)

    @property
    def present(self) -> float | None:
        """The present value; ``None`` on the meta device."""
        return None if self.done is None else 1 + (self.start - 1) * (1 - self.done / self.steps)

    def extra_repr(self) -> str:
        """The present value, the first and the last one, and how far it has come.

        Example:
            >>> Temperature(30.0, 50_040)
            Temperature(30.0 of 30 → 1, 0 of 50,040 steps)
        """
        if self.done is None or self.present is None:
            return f"{self.start:g} → 1, {self.steps:,} steps"
        return f"{self.present:.1f} of {self.start:g} → 1, {self.done:,} of {self.steps:,} steps"


def _present(counter: Tensor, start: float, steps: int, training: bool, like: Tensor) -> Tensor:
    count = _counted(counter) if training else counter
    left = (1 - count.to(like.dtype) / steps).clamp(min=0)
    return 1 + (start - 1) * left


torch.fx.wrap("_present")  # it changes the counter, which FX would fold away


# the schema is written out, because type checkers that wrap a function hide its annotations from torch
@torch.library.custom_op("foveate::counted", mutates_args=["counter"], schema="(Tensor(a!) counter) -> Tensor")
def _counted(counter: Tensor) -> Tensor:
    """Add one, and return the sum apart from the counter.

    An operation of its own, so that compiled graphs keep its result: what they know they compute again on the way
    back, from a counter that has moved on by then, and the gradients are those of another temperature.
    """
    counter.add_(1)
    return counter.clone()


@_counted.register_fake
def _(counter: Tensor) -> Tensor:
    return torch.empty_like(counter)
