"""One recorded map, and what can be asked of it."""

from __future__ import annotations

from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from foveate.errors import FoveateError
from foveate.explain.recording.pairs import Matrix, Pairs
from foveate.registry import Card


class AttentionMap:
    """What one map held: the weights that multiplied or mixed the features, not why the network decided.

    An affinity answers about single positions from what its weights are computed from: :meth:`attends_to`,
    :meth:`attended_by`, :meth:`received`. Its ``values``, the matrix of all pairs, are built when they are asked for.

    Args:
        place: The module whose output was attended, or the path of the mechanism where it is part of the network.
        attachment: The name of the attachment; empty where the mechanism is part of the network.
        step: Which step of the mechanism, as ``"channel"``; empty where it has one.
        axes: What the weights vary over, as in :class:`foveate.attention.Map`. Attention of other libraries may also
            have ``"branch"``, weights over parallel branches, and ``"head"``, several affinities beside each other.
        values: The weights; of an affinity also what they are computed from.
        size: Height and width of an affinity's positions, which ``values`` counts in rows; ``(channels,)`` for one of
            channels; ``None`` for a gate.
        card: The mechanism's card; ``None`` for a stranger's.
        run: Which of its runs in one pass, from 0: a module that several levels share runs several times.
        weighted: The positive part of the weights times their gradient, if there was one.
    """

    def __init__(
        self,
        place: str,
        attachment: str,
        step: str,
        axes: tuple[str, ...],
        values: Tensor | Pairs,
        size: tuple[int, ...] | None = None,
        card: Card | None = None,
        run: int = 0,
        weighted: Tensor | Pairs | None = None,
    ) -> None:
        self.place, self.attachment, self.step, self.axes = place, attachment, step, axes
        self.size, self.card, self.run = size, card, run
        self._held, self._weighted = values, weighted

    def __repr__(self) -> str:
        """Which map it is."""
        told = f"place={self.place!r}, attachment={self.attachment!r}, step={self.step!r}, axes={self.axes!r}"
        return f"AttentionMap({told}, size={self.size!r}, run={self.run})"

    @cached_property
    def values(self) -> Tensor:
        """The weights, in float32 on the CPU.

        A gate's, ``(b, c or 1, h or 1, w or 1)``, with branches ``(b, branch, c, 1, 1)``; an affinity's,
        ``(b, source, target)``, with heads ``(b, head, source, target)``.
        """
        return self._held if isinstance(self._held, Tensor) else self._held.dense()

    def at(self, row: int, column: int) -> Float[Tensor, "b *head h w"]:
        """One position of an affinity: its weights over all positions, as :meth:`attends_to` says them."""
        return self.attends_to(row, column)

    def attends_to(
        self, row: int, column: int, *, image: tuple[int, int] | None = None
    ) -> Float[Tensor, "b *head h w"]:
        """Where a position looks: how much it takes from every position.

        Args:
            row: Of the position.
            column: Of the position.
            image: Height and width of an image, if row and column are those of its pixels.

        Raises:
            FoveateError: For a gate, for a relation of channels, or for a position outside the map.
        """
        height, width = self._positions()
        return self._pairs().to_target(self._number(row, column, image)).unflatten(-1, (height, width))

    def attended_by(
        self, row: int, column: int, *, image: tuple[int, int] | None = None
    ) -> Float[Tensor, "b *head h w"]:
        """Who looks at a position: how much every position takes from it.

        Args:
            row: Of the position.
            column: Of the position.
            image: Height and width of an image, if row and column are those of its pixels.

        Raises:
            FoveateError: For a gate, for a relation of channels, or for a position outside the map.
        """
        height, width = self._positions()
        return self._pairs().from_source(self._number(row, column, image)).unflatten(-1, (height, width))

    def received(self) -> Float[Tensor, "b ..."]:
        """How much all positions (channels) take from each, on average: the attention that it receives.

        Raises:
            FoveateError: For a gate.
        """
        return self._pairs().received().unflatten(-1, self._size())

    def cell(self, row: int, column: int, image: tuple[int, int]) -> tuple[int, int]:
        """The position of an affinity in whose part of the image a pixel lies.

        Args:
            row: Of the pixel.
            column: Of the pixel.
            image: Height and width of the image.

        Raises:
            FoveateError: For a gate, for a relation of channels, or for a pixel outside the image.
        """
        sides = self._positions()
        if not (0 <= row < image[0] and 0 <= column < image[1]):
            raise FoveateError(f"pixel ({row}, {column}) lies outside the image of {image[0]}×{image[1]}")
        down, across = ((2 * at + 1) * n // (2 * all_) for at, n, all_ in zip((row, column), sides, image, strict=True))
        return down, across

    def weighted(self) -> AttentionMap:
        """The positive part of the weights times their gradient: what of the attention raises the score.

        The form is that of Chefer, Gur & Wolf (Generic Attention-model Explainability, ICCV 2021, equation 5), without
        the mean over heads. Of a gate the weight of a feature times its gradient is the sum, over what it multiplies,
        of output times gradient: Grad-CAM's product (Selvaraju et al., ICCV 2017), before it is summed over channels.

        Returns:
            A map that can be asked the same.

        Raises:
            FoveateError: If no gradient came by.
        """
        if self._weighted is None:
            raise FoveateError(
                f"no gradient reached the map at '{self.place}': record(model, gradients=True), outside of "
                "torch.no_grad() and with use_reentrant=False where there is checkpointing, and then "
                "maps.differentiate(score) with a score that depends on the map"
            )
        return AttentionMap(
            self.place, self.attachment, self.step, self.axes, self._weighted, self.size, self.card, self.run
        )

    def _size(self) -> tuple[int, ...]:
        if self.size is None:
            raise FoveateError(f"'{self.place}' holds a gate, which has no point to ask about; see `values`")
        return self.size

    def _positions(self) -> tuple[int, int]:
        size = self._size()
        if len(size) != 2:
            raise FoveateError(f"'{self.place}' relates channels, which have no position to ask about; see `values`")
        return size[0], size[1]

    def _pairs(self) -> Pairs:
        self._size()
        return Matrix(self._held) if isinstance(self._held, Tensor) else self._held

    def _number(self, row: int, column: int, image: tuple[int, int] | None) -> int:
        height, width = self._positions()
        if image is not None:
            row, column = self.cell(row, column, image)
        if not (0 <= row < height and 0 <= column < width):
            raise FoveateError(f"position ({row}, {column}) lies outside the map of {height}×{width}")
        return row * width + column


def weighted_values(values: Tensor, gradient: Tensor) -> Tensor:
    """The positive part of weights times their gradient.

    Example:
        >>> weighted_values(torch.tensor([2.0, 2.0]), torch.tensor([0.5, -0.5]))
        tensor([1., 0.])
    """
    return torch.relu(values * gradient)
