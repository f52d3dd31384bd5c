"""What does the residual epilogue (gate, addition, ReLU) cost, beside what blocks write and what the memory allows?

    uv run python -m benchmarks.speed epilogue [--compiled]

The maps of the four stages of a ResNet-50, batch 8, both memory layouts, inference and training, with a gate for each
channel and one for each position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks.speed.gates import STAGES, plain
from benchmarks.speed.timing import Call, side_by_side, streaming_limit
from foveate.ops.compiled.library import kernels
from foveate.ops.epilogue import gate_add

Form = Callable[[Tensor, Tensor, Tensor], Tensor]
# passes over the map that nothing can do without: reads and writes of inference, and of training, both ways together
MINIMAL = ((2, 1), (5, 3))


def eager(x: Tensor, weights: Tensor, shortcut: Tensor) -> Tensor:
    """Each operation with a result of its own."""
    return torch.relu(x * weights + shortcut)


def in_place(x: Tensor, weights: Tensor, shortcut: Tensor) -> Tensor:
    """As torchvision and timm write it: the sum and ReLU over the product."""
    y = x * weights
    y += shortcut
    return torch.relu_(y)


def ours(x: Tensor, weights: Tensor, shortcut: Tensor) -> Tensor:
    """The operation that an optimised block comes to."""
    return gate_add(x, weights, shortcut)


FORMS: dict[str, Form] = {"eager": eager, "in place": in_place, "foveate": ours}


def _inference(form: Form, tensors: tuple[Tensor, ...]) -> Call:
    def run() -> object:
        with torch.no_grad():
            return form(*tensors)

    return run


def _training(form: Form, tensors: tuple[Tensor, ...]) -> Call:
    given = tuple(one.detach().requires_grad_() for one in tensors)
    upstream = torch.randn_like(given[0])
    return lambda: torch.autograd.grad(form(*given), given, upstream)


def rows(
    *,
    compiled: bool = False,
    names: tuple[str, ...] = ("channel gate", "spatial gate"),
    batches: tuple[int, ...] = (8,),
) -> Iterator[dict[str, Any]]:
    """One row a kind of gate, shape, layout and phase."""
    for name in names:
        for batch in batches:
            for channels, side in STAGES:
                for layout in (torch.contiguous_format, torch.channels_last):
                    x = torch.randn(batch, channels, side, side).contiguous(memory_format=layout)
                    wide = (channels, 1, 1) if name == "channel gate" else (1, side, side)
                    tensors = (x, torch.rand(batch, *wide), torch.randn_like(x))
                    for phase, prepare in (("inference", _inference), ("training", _training)):
                        calls = {key: plain(prepare(form, tensors)) for key, form in FORMS.items()}
                        if kernels() is not None:
                            calls["built ops"] = prepare(ours, tensors)
                        if compiled:
                            torch._dynamo.reset()
                            calls["torch.compile"] = prepare(torch.compile(eager, fullgraph=True), tensors)
                        calls["limit"] = streaming_limit(*MINIMAL[phase == "training"], x)
                        yield {
                            "work": name,
                            "phase": phase,
                            "shape": list(x.shape),
                            "layout": "NHWC" if layout is torch.channels_last else "NCHW",
                            **side_by_side(calls, to="eager"),
                        }
