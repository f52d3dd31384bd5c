"""Outputs of networks as trees: tensors, dictionaries, lists of detections; compared bit for bit."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree


def same(a: Any, b: Any) -> bool:
    """Whether two outputs have one structure and equal values."""
    (leaves_a, structure_a), (leaves_b, structure_b) = pytree.tree_flatten(a), pytree.tree_flatten(b)
    return structure_a == structure_b and all(same_value(x, y) for x, y in zip(leaves_a, leaves_b, strict=True))


def same_value(a: Any, b: Any) -> bool:
    """Whether two values are equal: tensors in type and every element, other things as they compare."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        if not (isinstance(a, Tensor) and isinstance(b, Tensor)) or a.dtype != b.dtype or a.shape != b.shape:
            return False
        return (a.is_meta and b.is_meta) or torch.equal(a, b)  # on the meta device there are no values
    return a is b or (type(a) is type(b) and bool(a == b))


def close(a: Any, b: Any, tolerance: float = 1e-4) -> bool:
    """Whether two outputs have one structure and values that differ by rounding: relative to each tensor's largest."""
    (leaves_a, structure_a), (leaves_b, structure_b) = pytree.tree_flatten(a), pytree.tree_flatten(b)
    if structure_a != structure_b:
        return False
    for x, y in zip(leaves_a, leaves_b, strict=True):
        if not isinstance(x, Tensor) or not isinstance(y, Tensor) or not x.is_floating_point():
            if not same_value(x, y):
                return False
        elif x.shape != y.shape or (x - y).abs().amax() > tolerance * x.abs().amax() if x.numel() else y.numel():
            return False
    return True


def floats(tree: Any) -> list[Tensor]:
    """The floating-point tensors of an output that hold something."""
    return [x for x in pytree.tree_leaves(tree) if isinstance(x, Tensor) and x.is_floating_point() and x.numel()]


def trouble(tree: Any) -> str:
    """Why nothing could be learnt from comparing this output; empty if something can."""
    found = floats(tree)
    if not found:
        return "it returns no floating-point numbers"
    if not all(bool(x.isfinite().all()) for x in found):
        return "its outputs are not finite with random weights"
    if not any(x.numel() > 1 and float(x.std()) > 0 for x in found):
        return "its outputs are constant with random weights"
    return ""
