"""How a score depends on a map: the gradient with respect to its weights, taken without a trace in the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from foveate.attention import Relation
from foveate.explain.recording.keeping import kept_values


@dataclass
class Trace:
    """A tensor on the way from a map to a score.

    Attributes:
        rows: Which samples are kept.
        value: Of a relation, what it mixed; the tensor is then what came out. ``None`` where the tensor is the map.
        gradient: Of the last score whose gradient came by; ``None`` before.
        live: The tensor, as long as it is needed to ask.
    """

    rows: Sequence[int] | None
    value: Tensor | None = None
    gradient: Tensor | None = None
    live: Tensor | None = None

    def follow(self, tensor: Tensor) -> Tensor:
        """A tensor with the same values that has a gradient, and leaves it here."""
        # in a frozen network the graph begins here; the leaf itself may not be changed in place, its copy may
        live = tensor if tensor.requires_grad else tensor.detach().requires_grad_().clone()
        live.register_hook(self._arrived)
        self.live = live
        return live

    def _arrived(self, gradient: Tensor) -> None:
        self.gradient = kept_values(gradient, self.rows)


class Traced:
    """A relation whose mixing is followed."""

    def __init__(self, relation: Relation, rows: Sequence[int] | None, traces: list[Trace]) -> None:
        self._relation, self._rows, self._traces = relation, rows, traces
        self.size = relation.size

    def mix(self, value: Tensor) -> Tensor:
        """What the relation mixes."""
        mixed = self._relation.mix(value)
        if not torch.is_grad_enabled():
            return mixed
        trace = Trace(self._rows, kept_values(value, self._rows))
        self._traces.append(trace)
        return trace.follow(mixed)

    def dense(self) -> Tensor:
        """What the relation shows."""
        return self._relation.dense()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._relation, name)


def ask(score: Tensor, traces: Sequence[Trace], *, retain_graph: bool) -> int:
    """Send the gradient of a score, summed, to the traces that it depends on, and to nothing else; say to how many."""
    live = [trace for trace in traces if trace.live is not None]
    tensors = [trace.live for trace in live if trace.live is not None]
    found: tuple[Tensor | None, ...] = torch.autograd.grad(
        score.sum(), tensors, retain_graph=retain_graph, allow_unused=True
    )
    reached = [trace for trace, gradient in zip(live, found, strict=True) if gradient is not None]
    if not retain_graph:
        for trace in reached:
            trace.live = None
    return len(reached)
