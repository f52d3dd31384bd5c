"""How fast are the gates, beside timm's modules, the forms that tutorials copy, and what the memory allows?

    uv run python -m benchmarks.speed gates [--compiled] [--dtype bfloat16]

The maps of the four stages of a ResNet-50, batch 1 and 8, both memory layouts, inference and training; of the first
and third stage where modules are compiled too, which takes far longer than timing, and batch 8 alone in bfloat16.
*foveate* is plain PyTorch, *built ops* the same module where `foveate build-ops` was run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

import foveate
from benchmarks.speed import rivals
from benchmarks.speed.timing import Call, side_by_side, streaming_limit
from foveate.ops.compiled.library import kernels, switched

STAGES = ((256, 56), (512, 28), (1024, 14), (2048, 7))
# passes over the map that no implementation can do without, when it has a cache for nothing but small tensors:
# reads and writes of inference, and of training, forward and backward together
MINIMAL = {
    "squeeze_excite": ((2, 1), (5, 2)),
    "eca": ((2, 1), (5, 2)),
    "cbam": ((3, 1), (8, 2)),
    "gather_excite": ((2, 1), (5, 2)),
    "simam": ((2, 1), (4, 2)),
    "global_context": ((3, 1), (6, 2)),
    "coordinate": ((2, 1), (5, 2)),
}


def _timm(name: str, channels: int) -> nn.Module:
    from timm.layers.cbam import CbamModule
    from timm.layers.coord_attn import CoordAttn
    from timm.layers.eca import EcaModule
    from timm.layers.gather_excite import GatherExcite
    from timm.layers.global_context import GlobalContext
    from timm.layers.squeeze_excite import SEModule

    modules: dict[str, Callable[[], nn.Module]] = {
        "squeeze_excite": lambda: SEModule(channels, rd_ratio=1 / 16),
        "eca": lambda: EcaModule(channels),
        "cbam": lambda: CbamModule(channels),
        "gather_excite": lambda: GatherExcite(channels, extent=2, extra_params=False, use_mlp=False),
        "global_context": lambda: GlobalContext(channels, fuse_add=True, fuse_scale=False),
        "coordinate": lambda: CoordAttn(channels),
    }
    return modules[name]() if name in modules else rivals.SimAM()


OURS = {
    "gather_excite": "gather_excite:variant=theta_minus,extent=2",
    "global_context": "global_context",
}


def modules(name: str, channels: int) -> dict[str, nn.Module]:
    """The same mechanism of each maker: what the others are compared with first."""
    made: dict[str, nn.Module] = {"authors" if name == "simam" else "timm": _timm(name, channels)}
    if name == "squeeze_excite":
        made["tutorial"] = rivals.SE(channels)
    if name == "cbam":
        made["tutorial"] = rivals.CBAM(channels)
    made["foveate"] = foveate.create(OURS.get(name, name), channels)
    return made


def inference(module: nn.Module, x: Tensor) -> Call:
    """One forward pass without gradients."""
    module.eval()

    def run() -> object:
        with torch.no_grad():
            return module(x)

    return run


def training(module: nn.Module, x: Tensor) -> Call:
    """One forward and backward pass, gradients of input and parameters."""
    module.train()
    x = x.detach().requires_grad_()
    with torch.no_grad():
        upstream = torch.randn_like(module(x))
    wanted = [x, *module.parameters()]

    def run() -> object:
        return torch.autograd.grad(module(x), wanted, upstream, allow_unused=True)

    return run


def plain(call: Call) -> Call:
    """A call without the built operations."""

    def run() -> object:
        with switched(False):
            return call()

    return run


def forms(made: dict[str, nn.Module], x: Tensor, phase: str, *, compiled: bool) -> dict[str, Call]:
    """What is timed side by side: every maker's module, ours with built operations too, and compiled ones."""
    prepare = inference if phase == "inference" else training
    calls = {key: plain(prepare(module, x)) for key, module in made.items()}
    if kernels() is not None:
        calls["built ops"] = prepare(made["foveate"], x)
    if compiled:
        torch._dynamo.reset()
        for key in (next(iter(made)), "foveate"):
            calls[f"{key}, torch.compile"] = prepare(torch.compile(made[key], fullgraph=True), x)
    return calls


def rows(
    *,
    compiled: bool = False,
    names: tuple[str, ...] = tuple(MINIMAL),
    batches: tuple[int, ...] = (8, 1),
    dtype: torch.dtype = torch.float32,
) -> Iterator[dict[str, Any]]:
    """One row a mechanism, shape, layout and phase; every second shape where modules are compiled too."""
    for name in names:
        for batch in batches if dtype is torch.float32 else batches[:1]:
            for channels, side in STAGES[::2] if compiled else STAGES:
                for layout in (torch.contiguous_format, torch.channels_last):
                    x = torch.randn(batch, channels, side, side, dtype=dtype).contiguous(memory_format=layout)
                    made = {
                        key: module.to(dtype=dtype, memory_format=layout)
                        for key, module in modules(name, channels).items()
                    }
                    for phase in ("inference", "training"):
                        calls = forms(made, x, phase, compiled=compiled)
                        calls["limit"] = streaming_limit(*MINIMAL[name][phase == "training"], x)
                        yield {
                            "work": name,
                            "phase": phase,
                            "shape": list(x.shape),
                            "layout": "NHWC" if layout is torch.channels_last else "NCHW",
                            **side_by_side(calls, to=next(iter(made))),
                        }
