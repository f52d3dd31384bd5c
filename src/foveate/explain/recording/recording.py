"""What was recorded: every map by name, of all passes, and what attention did to the positions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from foveate.errors import FoveateError
from foveate.explain.recording.choosing import Samples
from foveate.explain.recording.gradients import Trace, Traced, ask
from foveate.explain.recording.hearing import Heard, MapName
from foveate.explain.recording.keeping import kept_pairs, kept_values
from foveate.explain.recording.maps import AttentionMap, weighted_values
from foveate.explain.recording.pairs import Factors, Matrix, Pairs, Passes, WeightedFactors
from foveate.explain.recording.passes import Runs
from foveate.explain.recording.places import ByPlace
from foveate.ops.recompute import recomputing
from foveate.registry import Card
from foveate.surgery.attached import Found
from foveate.surgery.point import Side

K = TypeVar("K")
T = TypeVar("T")


@dataclass
class Chunk:
    """What one pass left of a map.

    Attributes:
        held: The weights of a gate, or those between pairs.
        size: Of an affinity.
        card: The mechanism's.
        traces: How a score depends on it.
    """

    held: Tensor | Factors | Matrix
    size: tuple[int, ...] | None
    card: Card | None
    traces: list[Trace] = field(default_factory=list[Trace])

    def weighted(self) -> Tensor | Pairs | None:
        """The positive part of the weights times their gradient; ``None`` before there is one."""
        seen = [(trace.value, trace.gradient) for trace in self.traces if trace.gradient is not None]
        mixed = [(_rows(value, self.size), _rows(upstream, self.size)) for value, upstream in seen if value is not None]
        if mixed and not isinstance(self.held, Tensor):
            value, upstream = (torch.cat(side, 1) for side in zip(*mixed, strict=True))
            if isinstance(self.held, Factors):
                return WeightedFactors(self.held, value, upstream)
            return Matrix(weighted_values(self.held.weights, value.mT @ upstream))
        if not seen:
            return None
        gradient = seen[0][1]
        if isinstance(self.held, Tensor):
            return weighted_values(self.held, gradient)
        return Matrix(weighted_values(self.held.dense(), gradient))


class _Change(NamedTuple):
    """One attention module's effect on positions, by name."""

    place: str
    key: str
    inside: str
    side: Side
    run: int


class Recording(ByPlace[AttentionMap]):
    """What was recorded: a sequence of maps, in the order in which the network runs them.

    Several forward passes are joined along the batch.
    """

    def __init__(self, samples: Samples | None = None, *, gradients: bool = False) -> None:
        self._samples, self._gradients = samples or Samples(None), gradients
        self._chunks: dict[MapName, list[Chunk]] = {}
        self._emphases: dict[_Change, list[Tensor]] = {}

    @property
    def by_name(self) -> Mapping[MapName, Any]:
        """What each pass left of each map."""
        return self._chunks

    @property
    def emphasis(self) -> dict[str, Float[Tensor, "b ..."]]:
        """Where each place turned feature energy up (above zero) or down: ``(b, h, w)`` by place.

        The natural logarithm of a position's share in the energy of the attention's output over its share in the
        energy of the input. Gates on channels have no map of positions; this shows what they do to positions. A place
        that runs again in the same pass stands under its name and the number of the run: ``head (run 2)``. Where a
        module has attention on several sides, those that are not its output say so: ``conv (input)``.
        """
        sides = Counter(place for place, _ in {(name.place, name.side) for name in self._emphases})
        places: dict[str, Tensor] = {}
        for name, passes in self._emphases.items():
            told = [name.side] if name.side != "output" and sides[name.place] > 1 else []
            told += [f"run {name.run + 1}"] if name.run else []
            title = f"{name.place} ({', '.join(told)})" if told else name.place
            # mechanisms that act there in turn: the logarithms of what each did add up
            change = _joined(passes, title)
            places[title] = places[title] + change if title in places else change
        return places

    def differentiate(self, score: Tensor, *, retain_graph: bool = False) -> None:
        """Ask how a score depends on every map, for :meth:`AttentionMap.weighted`.

        The gradient goes to the maps alone: parameters and inputs have none afterwards that they did not have before.
        ``score.backward()`` serves as well, where the gradients of parameters are wanted too. What counts is the last
        score whose gradient came by.

        Args:
            score: What is to be explained, as the logit of a class; of several numbers their sum.
            retain_graph: Whether another score of the same pass will be asked about.

        Raises:
            FoveateError: If gradients were not recorded, or the score depends on no map.
        """
        traces = [trace for chunks in self._chunks.values() for chunk in chunks for trace in chunk.traces]
        if not any(trace.live is not None for trace in traces):
            raise FoveateError(
                "there is no graph to go back along: record(model, gradients=True), and run the network outside of "
                "torch.no_grad() and of checkpointing with use_reentrant=True (use_reentrant=False keeps the graph); "
                "retain_graph=True keeps it for another score"
            )
        if not score.requires_grad or not ask(score, traces, retain_graph=retain_graph):
            raise FoveateError("this score depends on no map that was recorded: give one computed by the network")

    def told(self, name: MapName) -> AttentionMap:
        """The map of a name, of all passes."""
        chunks = self._chunks[name]
        first = chunks[0]
        weighted = [one for chunk in chunks if (one := chunk.weighted()) is not None]
        return AttentionMap(
            name.place,
            name.attachment,
            name.step,
            name.axes,
            _of_all([chunk.held for chunk in chunks], chunks, name.place),
            first.size,
            first.card,
            name.run,
            _of_all(weighted, chunks, name.place) if len(weighted) == len(chunks) else None,
        )

    def hear(self, heard: Heard) -> Any:
        """Keep what passes a map; with gradients, say what acts in its place to be followed."""
        value, again = heard.value, recomputing()  # by gradient checkpointing: then it was heard before
        batch = heard.batch
        rows = None if again else self._samples.rows(heard.name, batch)
        if not again:
            heard.runs.unless_returned(partial(self._samples.forget, heard.name, batch))
        if rows == []:
            return None
        acting, traces = self._followed(heard, rows)
        if not again:
            chunks = self._chunks.setdefault(heard.name, [])
            before = chunks[-1].held if chunks else None
            if isinstance(value, Tensor) and heard.size is None:
                held = kept_values(value, rows)
            else:
                held = kept_pairs(heard, rows, before)
            chunks.append(Chunk(held, heard.size, heard.found.card, traces))
            heard.runs.unless_returned(partial(_take_back, self._chunks, heard.name, chunks[-1]))
        return acting

    def _followed(self, heard: Heard, rows: list[int] | None) -> tuple[Any, list[Trace]]:
        """What acts in the map's place so that gradients are seen, and where they will be."""
        traces: list[Trace] = []
        if not self._gradients or not torch.is_grad_enabled():
            return None, traces
        if not isinstance(heard.value, Tensor):
            return Traced(heard.value, rows, traces), traces
        traces.append(Trace(rows))
        return traces[0].follow(heard.value), traces

    def hear_emphasis(self, found: Found, runs: Runs, change: Tensor) -> None:
        """Keep what an attention did to the positions of one pass."""
        if recomputing():
            return
        own = (found.place, found.key, found.inside, found.side)
        which = _Change(*own, runs.next(("emphasis", *own)))
        rows = self._samples.rows(which, len(change))
        runs.unless_returned(partial(self._samples.forget, which, len(change)))
        if rows != []:
            kept = kept_values(change, rows)
            self._emphases.setdefault(which, []).append(kept)
            runs.unless_returned(partial(_take_back, self._emphases, which, kept))


def _take_back(kept: dict[K, list[T]], name: K, last: T) -> None:
    """Of what is kept by name, one thing, and the name with it where it has no other."""
    kept[name] = [one for one in kept[name] if one is not last]
    if not kept[name]:
        del kept[name]


def _rows(x: Tensor, size: tuple[int, ...] | None) -> Float[Tensor, "b k positions"]:
    """What is mixed along positions, these in rows; along channels, those."""
    return x.flatten(2).mT if size is not None and len(size) == 1 else x.flatten(2)


def _of_all(parts: Sequence[Tensor | Pairs], chunks: list[Chunk], place: str) -> Tensor | Pairs:
    """The weights of all passes, which have one size."""
    tensors = [part for part in parts if isinstance(part, Tensor)]
    if len({chunk.size for chunk in chunks}) > 1:
        raise _of_several_sizes(place)
    return _joined(tensors, place) if tensors else Passes([part for part in parts if not isinstance(part, Tensor)])


def _joined(passes: list[Tensor], place: str) -> Tensor:
    if len({one.shape[1:] for one in passes}) > 1:
        raise _of_several_sizes(place)
    return torch.cat(passes)


def _of_several_sizes(place: str) -> FoveateError:
    return FoveateError(f"the maps at '{place}' differ in size from pass to pass; record one size of image at a time")
