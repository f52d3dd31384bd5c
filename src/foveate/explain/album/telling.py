"""Which place of a network is shown large and measured: the one that does most to positions, on average."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from foveate.errors import FoveateError, nearest
from foveate.explain.album.seen import Seen
from foveate.explain.heat import heats
from foveate.explain.record import record
from foveate.explain.recording.emphasis import given, recalibrates
from foveate.surgery.attached import find_attention

_TINY = torch.finfo(torch.float32).tiny

RULE = (
    "where attention sets positions apart most: by the standard deviation of the factor on the strength of their "
    "features, on average over the images shown"
)


def telling_place(network: nn.Module, seen: Sequence[Seen], asked: str | None = None) -> str | None:
    """The place; ``None`` where no map has positions.

    Args:
        network: With attention, in evaluation mode.
        seen: The images that are shown.
        asked: A place that was asked for by name.

    Raises:
        FoveateError: If the place that was asked for has no map of positions.
    """
    spreads: dict[str, float] = {}
    for one in seen:
        with torch.no_grad(), record(network) as recording, _strengths(network) as strengths:
            network(one.given[None])
        for place, values in heats(recording).maps.items():
            # a factor is the strength of all positions, times half of what is told by the logarithm of energy
            strength = strengths.get(place.partition(" (")[0], 1.0)
            spreads[place] = spreads.get(place, 0.0) + strength * float(values.std()) / 2
    if asked is None:
        return max(spreads, key=lambda place: spreads[place]) if spreads else None
    if asked not in spreads:
        raise FoveateError(f"no map of positions was recorded at '{asked}'; {nearest(asked, spreads)}")
    return asked


@contextmanager
def _strengths(network: nn.Module) -> Generator[dict[str, float]]:
    """By which factor each place changes the strength of features, the root of their mean square, in one pass."""
    found: dict[str, float] = {}

    def hook(place: str) -> Any:
        def hear(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
            before = given(module, inputs, named)
            if isinstance(output, Tensor) and output.shape == before.shape:
                ratio = output.float().square().mean() / before.float().square().mean().clamp_min(_TINY)
                found[place] = found.get(place, 1.0) * float(ratio.sqrt())

        return hear

    with ExitStack() as stack:
        for one in filter(recalibrates, find_attention(network)):
            stack.callback(one.module.register_forward_hook(hook(one.place), with_kwargs=True).remove)
        yield found
