"""What the kernels are asked, and what is right: in float64, written apart from their plain forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

REGULARISER = 0.1


class Case(NamedTuple):
    """One operation on one kind of input.

    Attributes:
        name: Whose kernels, and how they are called.
        call: The operation on the inputs.
        reference: The same in float64.
        shapes: Of the inputs after the map, by the map's shape.
        size: The largest sum of absolute values that becomes one element of a result, by the map's shape.
        results: How many results are compared.
    """

    name: str
    call: Callable[..., Any]
    reference: Callable[..., Any]
    shapes: Callable[..., list[tuple[int, ...]]]
    size: Callable[..., float]
    results: int = 1


def gated(x: Tensor, channel: Tensor | None, position: Tensor | None, shortcut: Tensor | None, relu: bool) -> Tensor:
    y = x
    if channel is not None:
        y = torch.einsum("bc...,bc->bc...", y, channel)
    if position is not None:
        y = torch.einsum("bcp,bp->bcp", y.flatten(2), position).reshape(x.shape)
    if shortcut is not None:
        y = y + shortcut
    return y.clamp_min(0) if relu else y


def extreme(x: Tensor, weights: Tensor | None, dim: int) -> tuple[Tensor, Tensor]:
    rows = x.flatten(2) if weights is None else torch.einsum("bcp,bc->bcp", x.flatten(2), weights)
    first = torch.from_numpy(rows.detach().numpy().argmax(dim))  # numpy's is the first, and one that is no number
    return rows.gather(dim, first.unsqueeze(dim)).squeeze(dim), rows.sum(dim) / rows.shape[dim]


def standard(x: Tensor) -> Tensor:
    positions = tuple(range(2, x.ndim))
    variance = torch.var(x, positions, keepdim=True, correction=1) if x[0, 0].numel() > 1 else 0 * x
    return (x - x.mean(positions, keepdim=True)) ** 2 / (variance + REGULARISER)


def nearest(x: Tensor, weights: Tensor) -> Tensor:
    """Every row and column looked up by PyTorch's rule: the scale in float32, the product rounded down."""
    for dim in (2, 3):
        few, many = weights.shape[dim], x.shape[dim]
        ratio = torch.tensor(few) / torch.tensor(many)
        cells = (torch.arange(many) * ratio).floor().long().clamp(max=few - 1)
        weights = weights.index_select(dim, cells)
    return x * weights


def pooled(x: Tensor, weight: Tensor) -> Tensor:
    share = torch.einsum("bcp,c->bp", x.flatten(2), weight)
    share = torch.exp(share - share.logsumexp(1, keepdim=True))
    return torch.einsum("bcp,bp->bc", x.flatten(2), share)


# one case for each kernel, with all that it does
FULL = (
    "gate channel position shortcut relu",
    "extremes of gated channels",
    "standardise gated",
    "nearest 1/2",
    "context",
)


def cases() -> list[Case]:
    """All operations, with all they can leave out."""
    from foveate.ops.gpu import cells, planes, products, statistics, summary

    def apply(*kinds: str, relu: bool = False) -> Case:
        def given(*tensors: Tensor) -> list[Any]:
            named = dict(zip(kinds, tensors[1:], strict=True))
            return [tensors[0], *(named.get(kind) for kind in ("channel", "position", "shortcut")), relu]

        def shapes(b: int, c: int, *positions: int) -> list[tuple[int, ...]]:
            flat = int(torch.Size(positions).numel())
            return [{"channel": (b, c), "position": (b, flat), "shortcut": (b, c, *positions)}[kind] for kind in kinds]

        name = "gate " + " ".join(kinds) + " relu" * relu
        return Case(
            name, lambda *t: products.apply(*given(*t)), lambda *t: gated(*given(*t)), shapes,
            lambda b, c, *p: max(c, torch.Size(p).numel()) + 1,
        )  # fmt: skip

    def smallness(few: int) -> Case:
        return Case(
            f"nearest 1/{few}", cells.apply, nearest,
            lambda b, c, h, w: [(b, c, -(-h // few), -(-w // few))], lambda *shape: few**2,
        )  # fmt: skip

    def largest(b: int, c: int, *p: int) -> float:
        return max(c, torch.Size(p).numel()) + 1

    return [
        apply("channel"),
        apply("position"),
        apply("channel", "position"),
        apply("channel", relu=True),
        apply("channel", "shortcut"),
        apply("position", "shortcut", relu=True),
        apply("channel", "position", "shortcut", relu=True),
        Case("extremes of positions", lambda x: statistics.extremes(x, None, False), lambda x: extreme(x, None, 2),
             lambda *shape: [], largest, 2),
        Case("extremes of channels", lambda x: statistics.extremes(x, None, True), lambda x: extreme(x, None, 1),
             lambda *shape: [], largest, 2),
        Case("extremes of gated channels", lambda x, w: statistics.extremes(x, w, True), lambda x, w: extreme(x, w, 1),
             lambda b, c, *p: [(b, c)], largest, 2),
        # distances of at most 2, over a variance plus 0.1: of size 4 / 0.1, and 100 with what meets in its gradient
        Case("standardise", lambda x: planes.standardise(x, REGULARISER, 1.0, 0.0, False), standard,
             lambda *shape: [], lambda *shape: 100),
        Case("standardise gated", lambda x: planes.standardise(x, REGULARISER, 0.25, 0.5, True),
             lambda x: x * torch.sigmoid(standard(x) / 4 + 0.5), lambda *shape: [], lambda *shape: 100),
        smallness(2),
        smallness(3),
        # logits are sums over channels; the gradient of the projection sums over all
        Case("context", summary.context, pooled, lambda b, c, *p: [(c,)], lambda b, c, *p: 2 * b * c),
    ]  # fmt: skip
