"""How long a forward pass takes: by batch, eager or compiled, channels last or not."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from types import FunctionType
from typing import Any

import torch
from torch import nn

from foveate.measure import inference
from foveate.study.costs.attempt import attempt, refusing
from foveate.study.costs.inputs import Inputs, copied, laid_out, repeated
from foveate.study.costs.side_by_side import Row, side_by_side

EAGER, COMPILED = "eager", "compiled"
# of one function; PyTorch would run the ninth uncompiled, in silence
_VERSIONS = 1024


@dataclass(frozen=True)
class Setting:
    """How a network is run.

    Attributes:
        batch: Samples at a time.
        mode: ``"eager"`` or ``"compiled"``, by ``torch.compile``.
        layout: ``"contiguous"`` or ``"channels_last"``.
    """

    batch: int
    mode: str
    layout: str

    def __str__(self) -> str:
        """In words.

        Example:
            >>> print(Setting(8, "eager", "channels_last"))
            batch 8, eager, channels_last
        """
        return f"batch {self.batch}, {self.mode}, {self.layout}"


def settings(batches: Sequence[int], compiled: bool, layouts: Sequence[str]) -> list[Setting]:
    """All settings, the plainest first.

    Example:
        >>> [str(one) for one in settings((1, 8), False, ("contiguous",))]
        ['batch 1, eager, contiguous', 'batch 8, eager, contiguous']
    """
    modes = (EAGER, COMPILED) if compiled else (EAGER,)
    return [Setting(batch, mode, layout) for mode in modes for layout in layouts for batch in batches]


def time_networks(
    networks: Mapping[str, nn.Module],
    example: Inputs,
    setting: Setting,
    *,
    baseline: str,
    rounds: int,
    seconds: float,
    device: torch.device,
) -> tuple[dict[str, Row], dict[str, Any]]:
    """Time the forward passes of networks in one setting, in turn, in evaluation mode without gradients.

    Args:
        networks: By the arm's name; copies of them are run.
        example: One sample.
        setting: How they are run.
        baseline: The arm whose duration is 1.
        rounds: See :func:`~foveate.study.costs.side_by_side.side_by_side`, as for the rest and what is returned.
        seconds: How long it may take, about; compiling comes besides.
        device: Where.
    """
    inputs = laid_out(repeated(example, setting.batch), setting.layout, device)
    made = {name: attempt(lambda net=net: copied(net, setting.layout, device)) for name, net in networks.items()}
    copies = {name: twin for name, (twin, _) in made.items() if twin is not None}

    def call(name: str) -> Callable[[], object]:
        if name not in copies:
            return refusing(made[name][1])
        run: Callable[..., object] = copies[name] if setting.mode == EAGER else compiled(copies[name])
        return lambda: run(*inputs)

    try:
        with inference(*copies.values()), _never_given_up() if setting.mode == COMPILED else nullcontext():
            rows, run = side_by_side(
                {name: call(name) for name in networks},
                baseline=baseline,
                rounds=rounds,
                seconds=seconds,
                device=device,
            )
    finally:
        if setting.mode == COMPILED:
            torch.compiler.reset()  # what was compiled holds the copies
    return {name: {**asdict(setting), **row} for name, row in rows.items()}, {**asdict(setting), **run}


def _never_given_up() -> AbstractContextManager[None]:
    """What networks call, such as a block of theirs behind a break of the graph, is shared by arms still."""
    from torch._dynamo import config  # it takes a second to import

    return config.patch(recompile_limit=_VERSIONS)


_numbers = itertools.count()


def compiled(network: nn.Module) -> Callable[..., object]:
    """A network compiled as a function of its own.

    PyTorch keeps what it compiled by the function's code, which networks of one class share: each call would first
    have to rule out the versions of all other arms, the more of them the later an arm comes.
    """

    def forward(*inputs: Any) -> object:
        return network(*inputs)

    code = forward.__code__.replace(co_name=f"forward_{next(_numbers)}")
    own = FunctionType(code, forward.__globals__, code.co_name, None, forward.__closure__)
    return torch.compile(own, dynamic=False)
