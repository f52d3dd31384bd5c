"""The mean of every map over a data set, and a network whose maps are these means."""

from __future__ import annotations

import math
from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from foveate.errors import FoveateError
from foveate.explain.recording.hearing import Heard, MapName, hearing
from foveate.explain.recording.relations import SameForAll, by_sources

# up to so many positions the mean of all their pairs is kept, 8 MB; beyond, what each gives to all on average
MOST_POSITIONS = 1024


class MeanMap:
    """The mean of one map.

    Of a gate, the mean of each weight. Of a relation between channels, or between up to 1,024 positions, the mean of
    each pair's weight. Beyond, where that matrix is too large to keep, the mean over inputs *and targets*: all targets
    take the same from each source, which neither the input nor the target's own content or place can change.

    Attributes:
        shared: Whether all targets have one mean.
        count: Over how many inputs.
    """

    def __init__(self) -> None:
        self.shared = False
        self.count = 0
        self._sum = torch.zeros((), dtype=torch.float64)

    def add(self, heard: Heard) -> None:
        """Go on by a batch.

        Raises:
            FoveateError: If the map has another size than in the batches before.
        """
        if heard.name.relates:
            batch = len(heard.like)
            self.shared = "c->c" not in heard.name.axes and _sources(heard.value) > MOST_POSITIONS
            parts = [self._summed(part.double(), batch) for _, part in by_sources(heard.value, heard.like)]
            total = torch.cat(parts, 1)
        else:
            assert isinstance(heard.value, Tensor)  # noqa: S101 (what does not relate is a tensor)
            batch, total = len(heard.value), heard.value.detach().double().sum(0)
        if self.count and total.shape != self._sum.shape:
            raise FoveateError(
                f"the map of {heard.name} changes its size from {tuple(self._sum.shape)} to {tuple(total.shape)}: "
                "it has a mean over images of one size only"
            )
        self._sum, self.count = self._sum + total.cpu(), self.count + batch

    def acting(self, heard: Heard) -> Any:
        """What takes the map's place."""
        mean, value = self._sum / self.count, heard.value
        if not isinstance(value, Tensor):
            return SameForAll(mean[0], value.size, len(heard.like))
        if heard.name.relates and value.ndim == 3:
            mean = mean[0]  # of one head
        return mean.to(value).expand_as(value)

    def _summed(self, part: Tensor, batch: int) -> Tensor:
        """Over the batch, of each head: ``(head, some sources, targets)``, of shared means one target."""
        heads = part.unflatten(0, (batch, -1)).sum(0)
        return heads.mean(2, keepdim=True) if self.shared else heads


def _sources(relation: Any) -> int:
    return relation.shape[-2] if isinstance(relation, Tensor) else math.prod(relation.size)


@contextmanager
def replaced_maps(
    network: nn.Module, means: Mapping[MapName, MeanMap], only: Collection[MapName] | None = None
) -> Generator[None]:
    """A network whose maps are their means, as long as the ``with`` lasts; afterwards it is as it was.

    Args:
        network: The network, unwrapped.
        means: What was gathered.
        only: Which maps; all of them, if ``None``.

    Raises:
        FoveateError: If a map that should be replaced has no mean, or one of another size.
    """

    def hear(heard: Heard) -> Any:
        if only is not None and heard.name not in only:
            return None
        if heard.name not in means:
            raise FoveateError(f"the map of {heard.name} did not run while means were gathered")
        return means[heard.name].acting(heard)

    with hearing(network, hear):
        yield
