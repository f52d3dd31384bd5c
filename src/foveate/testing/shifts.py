"""Biases that what follows takes away: before a batch normalisation in training, or in the keys of a softmax."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from foveate.testing.expect import ROUNDING
from foveate.testing.subject import wake

BATCH_NORMALISATION = "batch normalisation"
SOFTMAX = "softmax"

_SOFTMAXES = frozenset({F.softmax, torch.softmax, Tensor.softmax})
_BATCH_NORMS = frozenset({F.batch_norm, torch.batch_norm})


def taken_away(module: nn.Module, x: Tensor, names: Iterable[str]) -> dict[str, str]:
    """Which of some parameters are biases that training cannot see, and what takes each of them away.

    A bias that reaches a batch normalisation as one constant for each channel is subtracted with the mean; one that
    reaches a softmax as one constant for all that it compares cancels. Such a bias has no gradient but rounding, and
    authors' networks have them. It is tried out, on a copy that is moved off its initial values and trains: moving
    the bias must move what such an operation is given, by constants along the axes that it takes away and by nothing
    else, and must leave the output as it was, to rounding.

    Args:
        module: The mechanism, in float64; it stays as it is.
        x: What to run it on.
        names: The parameters in question.

    Returns:
        For each that is taken away, by what.

    Example:
        >>> layers = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)).double()
        >>> x = torch.randn(3, 2, 4, 4, dtype=torch.float64)
        >>> taken_away(layers, x, ["0.weight", "0.bias", "1.bias"])
        {'0.bias': 'batch normalisation'}
    """
    found: dict[str, str] = {}
    awake = wake(copy.deepcopy(module)).train()
    output, seen = _run(awake, x)
    for name in names:
        moved = copy.deepcopy(awake)
        parameter = moved.get_parameter(name)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(parameter))
        other, again = _run(moved, x)
        if len(again) != len(seen) or not _same(other, output):
            continue
        pairs = zip(seen, again, strict=True)
        by = [what for (what, before, axes), (_, after, _) in pairs if _moved_by_constants(before, after, axes)]
        if by:
            found[name] = by[0]
    return found


def _run(module: nn.Module, x: Tensor) -> tuple[Tensor, list[tuple[str, Tensor, tuple[int, ...]]]]:
    copied = copy.deepcopy(module)  # a run in training moves statistics
    with torch.random.fork_rng(devices=[]), torch.no_grad(), _Invariant() as watched:
        torch.manual_seed(0)
        y = copied(x.clone())
    return y, watched.seen


def _same(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() <= ROUNDING * max(1.0, float(other.abs().max())))


def _moved_by_constants(before: Tensor, after: Tensor, axes: tuple[int, ...]) -> bool:
    if before.shape != after.shape:
        return False
    left_out = before.isinf() & (before == after)  # masked: nothing moves it
    rounding = ROUNDING * max(1.0, float(before.masked_fill(left_out, 0).abs().max()))
    by = (after - before).masked_fill(left_out, 0)
    most = by.masked_fill(left_out, -torch.inf).amax(axes)
    least = by.masked_fill(left_out, torch.inf).amin(axes)
    return bool(by.abs().max() > rounding) and bool((most - least).max() <= rounding)


class _Invariant(TorchFunctionMode):
    """Watches what operations are given that take constants away, and along which axes they do."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, Tensor, tuple[int, ...]]] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        self.seen.extend(_given(func, args, kwargs))
        return func(*args, **kwargs)


def _given(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Iterator[tuple[str, Tensor, tuple[int, ...]]]:
    def argument(position: int, *names: str) -> Any:
        if len(args) > position:
            return args[position]
        return next((kwargs[name] for name in names if name in kwargs), None)

    if func in _BATCH_NORMS and argument(5, "training"):
        x = argument(0, "input")
        yield BATCH_NORMALISATION, x.detach().clone(), (0, *range(2, x.ndim))
    elif func in _SOFTMAXES and isinstance(axis := argument(1, "dim"), int):
        yield SOFTMAX, argument(0, "input").detach().clone(), (axis,)
    elif func is F.scaled_dot_product_attention:  # products with one more constant in all keys differ by a constant
        yield SOFTMAX, argument(1, "key").detach().clone(), (-2,)
