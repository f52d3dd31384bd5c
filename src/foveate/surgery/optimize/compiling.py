"""Regional compilation: the parts that a network repeats are compiled, and equal ones share what was compiled."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from foveate.surgery.places.watch import arguments

# under this name a module keeps that it was compiled here
_NOTE = "_foveate_region"


@dataclass(frozen=True)
class Compiled:
    """What regional compilation did.

    Attributes:
        regions: How many modules are compiled.
        graphs: How many graphs were compiled for one inference; fewer than regions where some are alike.
        seconds: How long the first inference took, compilation included.
    """

    regions: int
    graphs: int
    seconds: float

    def __str__(self) -> str:
        """As a person reads it."""
        return f"{self.regions} regions compiled as {self.graphs} graphs in {self.seconds:.1f} s"


def compile_regions(model: nn.Module, regions: Sequence[nn.Module], example: Any) -> Compiled:
    """Compile modules, each by itself, and run the network once, for inference, as it will be."""
    from torch._dynamo.utils import counters

    for region in regions:
        region.compile()
        region.__dict__[_NOTE] = True
    args, kwargs = arguments(example)
    training = {module: module.training for module in model.modules()}
    before, start = counters["stats"]["unique_graphs"], time.perf_counter()
    try:
        with torch.no_grad():
            model.eval()(*args, **kwargs)
    finally:
        for module, flag in training.items():
            module.training = flag
    return Compiled(len(regions), counters["stats"]["unique_graphs"] - before, time.perf_counter() - start)


def is_compiled(module: nn.Module) -> bool:
    """Whether a module is a region that is compiled; a copy of one is not."""
    return _NOTE in vars(module) and module._compiled_call_impl is not None  # pyright: ignore[reportPrivateUsage]


def interpret(module: nn.Module) -> None:
    """Run a region without the compiler again."""
    if module.__dict__.pop(_NOTE, False):
        module._compiled_call_impl = None  # pyright: ignore[reportPrivateUsage]
