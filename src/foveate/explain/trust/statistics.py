"""What the weights of attention are like over a data set, gone through once, with the memory of one map."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from foveate.errors import FoveateError
from foveate.explain.at_rest import at_rest
from foveate.explain.recording.hearing import Heard, MapName, hearing
from foveate.explain.recording.moments import Moments
from foveate.explain.recording.relations import by_sources

CLOSED, OPEN = 0.05, 0.95
# weights over these share something out, so that their entropy is that of the sharing; the others scale
_SHARED = ("branch", "kernel", "slot", "tap")


@dataclass(frozen=True)
class GateStatistics:
    """The weights of one map over a data set.

    Of a relation between pairs, the weights spoken of are what every source gives to all targets, in multiples of an
    even share, so that their mean is 1 where weights are shares; extremes are those of single weights, in that unit.

    Attributes:
        name: Which map.
        examples: Over how many.
        mean: Of all weights.
        over_inputs: How far one weight deviates from image to image: the root of its mean variance.
        over_places: How far the weights of one image deviate from each other, positions and channels alike.
        from_inputs: The share of all variance that is between images; the rest is a pattern that all images share.
            ``None`` where nothing varies.
        closed: The share of weights whose size is below 0.05, which let next to nothing through; ``None`` for
            relations.
        open: The share above 0.95; ``None`` for relations, and where a weight outside of 0 to 1 was seen, so that the
            gate's upper end is not known (2 sigmoid, 1 + tanh, unbounded).
        entropy: The mean entropy of the weights' sizes against that of equal ones, from 0, all on one, to 1. Over all
            weights of an image; over branches, kernels, slots or taps where weights share something out; of relations
            over the sources of each target. ``None`` where there is only one.
        low: The smallest weight.
        high: The largest.
    """

    name: MapName
    examples: int
    mean: float
    over_inputs: float
    over_places: float
    from_inputs: float | None
    closed: float | None
    open: float | None
    entropy: float | None
    low: float
    high: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {**asdict(self), "name": {**asdict(self.name), "axes": list(self.name.axes)}}

    def __str__(self) -> str:
        """In words."""
        parts = [f"mean {self.mean:.3g}", f"{self.over_inputs:.2g} from image to image"]
        if self.from_inputs is not None:
            parts.append(f"{self.from_inputs:.0%} of the variance between images")
        if self.closed is not None:
            parts.append(f"{self.closed:.0%} below {CLOSED}")
        if self.open is not None:
            parts.append(f"{self.open:.0%} above {OPEN}")
        if self.entropy is not None:
            parts.append(f"entropy {self.entropy:.0%} of that of equal weights")
        return f"{self.name}: {', '.join(parts)}; {self.examples} images"


def gate_statistics(network: nn.Module, batches: Iterable[Any]) -> list[GateStatistics]:
    """The weights of every map of a network over a data set, in the order in which maps run.

    Relations are asked for a few sources at a time: of positions, the matrix of all pairs is never there.

    Args:
        network: With attention, attached, its own, or of a library that foveate knows.
        batches: What the network is called with, one after the other; of pairs of inputs and targets, the inputs.

    Raises:
        FoveateError: If the network has no attention whose maps can be seen, nothing ran, or maps change in size.

    Example:
        >>> from foveate import attach, hosts
        >>> model = attach(hosts.build("foveate/resnet8", classes=10), "se", start="paper")
        >>> statistics = gate_statistics(model, [torch.randn(2, 3, 32, 32)])
        >>> [str(one.name) for one in statistics]
        ['layer1.0.bn2 (squeeze_excite)', 'layer2.0.bn2 (squeeze_excite)', 'layer3.0.bn2 (squeeze_excite)']
    """
    found: dict[MapName, _Tally] = {}

    def hear(heard: Heard) -> None:
        if heard.batch:
            found.setdefault(heard.name, _Tally()).add(heard)

    with at_rest(network) as quiet, hearing(quiet, hear):
        for batch in batches:
            quiet(batch[0] if isinstance(batch, tuple | list) and isinstance(batch[0], Tensor) else batch)
    if not found:
        raise FoveateError("no attention ran: there were no images, or all attachments are disabled")
    return [tally.told(name) for name, tally in found.items()]


class _Tally:
    def __init__(self) -> None:
        self.moments = Moments()
        self.within = self.entropy = self.closed = self.open = 0.0
        self.low, self.high = math.inf, -math.inf
        self.choices = 1

    def add(self, heard: Heard) -> None:
        if heard.name.relates:
            self._add_relation(heard)
            return
        value = heard.value
        assert isinstance(value, Tensor)  # noqa: S101 (what does not relate is a tensor)
        value = value.detach().double()
        self._see(value)
        self.closed += float((value.abs() < CLOSED).double().flatten(1).mean(1).sum())
        self.open += float((value > OPEN).double().flatten(1).mean(1).sum())
        along = [at + 1 for at, axis in enumerate(heard.name.axes) if axis in _SHARED] or list(range(1, value.ndim))
        sizes = value.abs()
        self.choices = math.prod(value.shape[axis] for axis in along)
        spread = _entropy(sizes.sum(along, keepdim=True), torch.xlogy(sizes, sizes).sum(along, keepdim=True))
        self.entropy += float(spread.flatten(1).mean(1).sum())
        self._moments(value)

    def _add_relation(self, heard: Heard) -> None:
        totals = logs = torch.zeros(())
        given: list[Tensor] = []
        for _, part in by_sources(heard.value, heard.like):
            part = part.detach().double()
            self._see(part)
            totals = totals + part.abs().sum(1)
            logs = logs + torch.xlogy(part.abs(), part.abs()).sum(1)
            given.append(part.mean(2))
        weights = torch.cat(given, 1)
        self.choices = weights.shape[1]
        per = _entropy(totals, logs).mean(1)
        examples = len(heard.like)  # of several heads the mean
        self.entropy += float(per.sum()) * examples / len(per)
        self._moments((weights * self.choices).reshape(examples, -1))

    def _see(self, value: Tensor) -> None:
        self.low, self.high = min(self.low, float(value.min())), max(self.high, float(value.max()))

    def _moments(self, value: Tensor) -> None:
        self.within += float(value.flatten(1).var(1, correction=0).sum())
        self.moments.add(value)

    def told(self, name: MapName) -> GateStatistics:
        count = self.moments.count
        inputs = float(self.moments.variance.mean())
        total = inputs + float(self.moments.mean.var(correction=0))
        known = not name.relates and self.low >= 0 and self.high <= 1
        unit = self.choices if name.relates else 1  # an even share is one of so many sources
        return GateStatistics(
            name=name,
            examples=count,
            mean=float(self.moments.mean.mean()),
            over_inputs=math.sqrt(inputs),
            over_places=math.sqrt(self.within / count),
            from_inputs=inputs / total if total > 0 else None,
            closed=None if name.relates else self.closed / count,
            open=self.open / count if known else None,
            entropy=self.entropy / count / math.log(self.choices) if self.choices > 1 else None,
            low=unit * self.low,
            high=unit * self.high,
        )


def _entropy(totals: Tensor, logs: Tensor) -> Tensor:
    """Of sizes, by their sum and the sum of each times its logarithm; of none at all, zero."""
    least = torch.finfo(totals.dtype).tiny
    return torch.where(totals > 0, totals.clamp_min(least).log() - logs / totals.clamp_min(least), 0.0)
