"""What was counted of an epoch, kept in a checkpoint in its middle, of all processes together."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from foveate.errors import MissingExtraError

try:
    from torchmetrics import Metric
except ImportError as error:
    raise MissingExtraError(error.name or "torchmetrics", "train") from error


def counted(metrics: nn.Module) -> dict[str, Any]:
    """What metrics have counted so far, of all processes together: each of them has to ask.

    Example:
        >>> from torchmetrics import SumMetric
        >>> first, second = (nn.ModuleDict({"sum": SumMetric()}) for _ in range(2))
        >>> first["sum"].update(3)
        >>> count_on(second, counted(first))
        >>> second["sum"].update(4)
        >>> float(second["sum"].compute())
        7.0
    """
    found: dict[str, Any] = {}
    for name, metric in _metrics(metrics):
        with metric.sync_context():
            found[name] = {state: _copied(value) for state, value in metric.metric_state.items()}
    return found


def count_on(metrics: nn.Module, kept: dict[str, Any]) -> None:
    """Go on counting where :func:`counted` was asked, in one of the processes."""
    inner = dict(_metrics(metrics))
    for name, states in kept.items():
        for state, value in states.items():
            setattr(inner[name], state, _copied(value, inner[name].device))


@contextmanager
def alone(metrics: nn.Module) -> Generator[None]:
    """Count without the other processes, which have something else to do."""
    before = {one: one.distributed_available_fn for _, one in _metrics(metrics)}
    for metric in before:
        metric.distributed_available_fn = lambda: False
    try:
        yield
    finally:
        for metric, usual in before.items():
            metric.distributed_available_fn = usual


def _metrics(metrics: nn.Module) -> Iterator[tuple[str, Metric]]:
    return ((name, one) for name, one in metrics.named_modules() if isinstance(one, Metric))


def _copied(state: Any, device: Any = None) -> Any:
    if isinstance(state, list):
        return [_copied(one, device) for one in state]
    return state.clone().to(device) if isinstance(state, Tensor) else state
