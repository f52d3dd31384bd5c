"""What is kept of a map when the pass is over: copies on the CPU, and of a relation what it is computed from."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from foveate.attention import Relation
from foveate.explain.recording.hearing import Heard
from foveate.explain.recording.pairs import Factors, Matrix

_PLAIN = (bool, int, float, complex, str, type(None), torch.dtype, torch.Size)


def kept_values(weights: Tensor, rows: Sequence[int] | None) -> Tensor:
    """A copy of some samples, in float32: the network is free to change its own afterwards.

    Example:
        >>> kept_values(torch.tensor([[1.0], [2.0]]), [1])
        tensor([[2.]])
    """
    return _copied(weights, rows, torch.float32)


def kept_pairs(heard: Heard, rows: Sequence[int] | None, before: object = None) -> Factors | Matrix:
    """A copy of a relation's own tensors, for some samples.

    Tensors whose first axis is as long as the batch are cut to the samples, except what lies in the memory of the
    attention's parameters. A tensor that has not changed since the pass before, such as a layer's weights, is kept
    once. A relation that is no dataclass of tensors and plain values is kept as the matrix that it shows.

    Args:
        heard: What passes a map that relates pairs.
        rows: Which samples; all, if ``None``.
        before: What was kept of the same map in the pass before.
    """
    relation: Any = heard.value
    if isinstance(relation, Tensor):
        return Matrix(kept_values(relation, rows))
    cut = _Cut(len(heard.like), rows, heard.found.module.parameters())
    try:
        copied: Relation = cut.copied(relation, before.relation if isinstance(before, Factors) else None)
    except _NoFactorsError:
        return Matrix(kept_values(relation.dense(), rows))
    batch = len(heard.like) if rows is None else len(rows)
    return Factors(copied, torch.empty(batch, 0, dtype=heard.like.dtype))


class _NoFactorsError(Exception):
    """A relation holds what cannot be copied."""


class _Cut:
    def __init__(self, batch: int, rows: Sequence[int] | None, parameters: Iterable[nn.Parameter]) -> None:
        self.batch, self.rows = batch, rows
        self.shared = {parameter.untyped_storage().data_ptr() for parameter in parameters}

    def copied(self, what: Any, before: Any) -> Any:
        if isinstance(what, Tensor):
            return self._tensor(what, before)
        if isinstance(what, _PLAIN):
            return what
        if isinstance(what, tuple):
            parts: Any = what
            same = isinstance(before, tuple) and len(before) == len(parts)  # pyright: ignore[reportUnknownArgumentType]
            return tuple(self.copied(one, before[at] if same else None) for at, one in enumerate(parts))
        if not is_dataclass(what) or isinstance(what, type):
            raise _NoFactorsError
        copied = copy.copy(what)
        for field in fields(what):
            part = self.copied(getattr(what, field.name), getattr(before, field.name, None))
            object.__setattr__(copied, field.name, part)  # frozen ones refuse their own
        return copied

    def _tensor(self, what: Tensor, before: Any) -> Tensor:
        of_samples = what.ndim > 0 and len(what) == self.batch
        if of_samples and what.untyped_storage().data_ptr() in self.shared:
            of_samples = False
        found = _copied(what, self.rows if of_samples else None, None)
        unchanged = isinstance(before, Tensor) and before.shape == found.shape and torch.equal(before, found)
        return before if unchanged else found


def _copied(what: Tensor, rows: Sequence[int] | None, dtype: torch.dtype | None) -> Tensor:
    with torch.inference_mode(False):  # what is made inside of that mode has no gradient, ever
        what = what.detach()
        if rows is not None:
            what = what[torch.tensor(rows, dtype=torch.long, device=what.device)]
        return what.to(device="cpu", dtype=dtype or what.dtype, copy=True)
