"""Maps over a whole data set, of which only the map's own size is kept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from foveate.explain.recording.choosing import Samples
from foveate.explain.recording.hearing import Heard, MapName
from foveate.explain.recording.keeping import kept_pairs, kept_values
from foveate.explain.recording.moments import Moments
from foveate.explain.recording.places import ByPlace
from foveate.ops.recompute import recomputing
from foveate.registry import Card


@dataclass(frozen=True)
class MapStatistics:
    """One map over all samples that passed, element by element, in float64.

    Of a gate the elements are its weights, ``(c or 1, h or 1, w or 1)``. Of an affinity they are what all positions
    take from each, ``(h, w)``, in multiples of an even share: the mean of weights that are shares is 1; with heads
    ``(head, h, w)``, of channels ``(c,)``.

    Attributes:
        place: As in :class:`foveate.explain.AttentionMap`.
        attachment: As there.
        step: As there.
        axes: What the weights vary over, as there.
        run: As there.
        size: As there.
        card: As there.
        count: Over how many samples.
        mean: Of each element.
        variance: From sample to sample.
        low: The smallest seen.
        high: The largest.
    """

    place: str
    attachment: str
    step: str
    axes: tuple[str, ...]
    run: int
    size: tuple[int, ...] | None
    card: Card | None
    count: int
    mean: Tensor
    variance: Tensor
    low: Tensor
    high: Tensor


class _Tally:
    def __init__(self, heard: Heard) -> None:
        self.size, self.card = heard.size, heard.found.card
        self.moments = Moments()
        self.low = self.high = torch.empty(0)

    def after(self, values: Tensor) -> _Tally:
        """The same, gone on by a batch; this one stays as it is, for the pass may fail."""
        after = copy(self)
        after.moments = copy(self.moments)
        after.moments.add(values)
        low, high = values.double().aminmax(dim=0)
        first = self.moments.count == 0
        after.low = low if first else torch.minimum(self.low, low)
        after.high = high if first else torch.maximum(self.high, high)
        return after


class Statistics(ByPlace[MapStatistics]):
    """What maps held over all passes: a sequence, in the order in which the network runs them."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples
        self._tallies: dict[MapName, _Tally] = {}

    @property
    def by_name(self) -> Mapping[MapName, Any]:
        """What was gathered of each map."""
        return self._tallies

    def told(self, name: MapName) -> MapStatistics:
        """The statistics of one map."""
        tally = self._tallies[name]
        seen = tally.moments
        return MapStatistics(
            name.place,
            name.attachment,
            name.step,
            name.axes,
            name.run,
            tally.size,
            tally.card,
            seen.count,
            seen.mean,
            seen.variance,
            tally.low,
            tally.high,
        )

    def hear(self, heard: Heard) -> None:
        """Go on by what passes a map.

        Raises:
            FoveateError: If the map has another size than in the passes before.
        """
        if recomputing():
            return
        value = heard.value
        batch = heard.batch
        rows = self._samples.rows(heard.name, batch)
        heard.runs.unless_returned(partial(self._samples.forget, heard.name, batch))
        if rows == [] or batch == 0:
            return
        if heard.size is not None:
            given = kept_pairs(heard, rows).received() * math.prod(heard.size)
            values = given.unflatten(-1, heard.size)
        else:
            assert isinstance(value, Tensor)  # noqa: S101 (what does not relate is a tensor)
            values = kept_values(value, rows)
        before = self._tallies.get(heard.name)
        self._tallies[heard.name] = after = (before or _Tally(heard)).after(values)
        heard.runs.unless_returned(lambda: self._take_back(heard.name, after, before))

    def _take_back(self, name: MapName, last: _Tally, before: _Tally | None) -> None:
        if self._tallies.get(name) is last:
            if before is None:
                del self._tallies[name]
            else:
                self._tallies[name] = before
