"""What do attentions between all positions cost, in time and memory, beside the forms that hold every pair?

    uv run python -m benchmarks.speed pairs [--only psanet,criss_cross]

Batch 1, 512 channels, 30×30 to 97×97 positions; the whole modules, and PSANet's attention alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

import foveate
from benchmarks.speed import rivals
from benchmarks.speed.gates import inference, training
from benchmarks.speed.memory import resident_peak
from benchmarks.speed.timing import Call, side_by_side

CHANNELS = 512
SIDES = (30, 60, 97)


class _Masks(nn.Module):
    """PSANet's attention after its reductions: the masks' last convolution, softmax, and the mix of values."""

    def __init__(self, channels: int, side: int, *, collect: bool, ours: bool) -> None:
        super().__init__()
        self.bank = nn.Parameter(torch.randn((2 * side - 1) ** 2, channels) * 0.02)
        self.side, self.collect, self.ours = side, collect, ours

    def forward(self, x: Tensor) -> Tensor:
        """Mix the features along masks predicted from them."""
        if self.ours:
            from foveate.ops.pointwise import PointwiseMasks

            mask = (2 * self.side - 1, 2 * self.side - 1)
            return PointwiseMasks(x, self.bank, mask, self.collect).mix(x)
        logits = nn.functional.conv2d(x, self.bank[:, :, None, None])
        return rivals.psa_mix(x, logits, collect=self.collect)


def _makers(work: str, side: int) -> dict[str, Callable[[], nn.Module]]:
    c = CHANNELS
    if work.startswith("psanet"):
        collect = work == "psanet collect"
        return {
            "published": lambda: _Masks(c, side, collect=collect, ours=False),
            "foveate": lambda: _Masks(c, side, collect=collect, ours=True),
        }
    theirs: dict[str, Callable[[], nn.Module]] = {
        "danet_position": lambda: rivals.PositionAttention(c, c // 8, c, transform=False),
        "non_local": lambda: rivals.PositionAttention(c, c // 2, c // 2, transform=True),
        "criss_cross": lambda: rivals.CrissCross(c),
    }
    options = {"criss_cross": "criss_cross:recurrence=1", "non_local": "non_local:subsample=false"}
    return {"published": theirs[work], "foveate": lambda: foveate.create(options.get(work, work), c)}


WORKS = ("psanet collect", "psanet distribute", "danet_position", "non_local", "criss_cross")


def prepare(work: str, side: int, maker: str, phase: str, *, compiled: bool = False) -> Call:
    """A call for one of the rows; also what a fresh process measures memory of."""
    torch.manual_seed(0)
    module = _makers(work, side)[maker]()
    if compiled:
        module.compile(fullgraph=True)
    x = torch.randn(1, CHANNELS, side, side)
    return (training if phase == "training" else inference)(module, x)


def rows(*, compiled: bool = False, names: tuple[str, ...] = WORKS) -> Iterator[dict[str, Any]]:
    """One row a mechanism, size and phase; the smallest size where modules are compiled too."""
    for work in names:
        for side in SIDES[:1] if compiled else SIDES:
            if work.startswith("psanet") and side > 60:
                continue  # the published form would hold 5 GB of logits
            for phase in ("inference", "training"):
                calls = {maker: prepare(work, side, maker, phase) for maker in ("published", "foveate")}
                if compiled:
                    torch._dynamo.reset()
                    for maker in ("published", "foveate"):
                        calls[f"{maker}, torch.compile"] = prepare(work, side, maker, phase, compiled=True)
                timed = side_by_side(calls, to="published", seconds=3, rounds=5 if side > 30 else 9)
                for maker, row in timed["calls"].items():
                    if "torch.compile" in maker:
                        continue  # a process of its own would measure the compiler
                    row["peak_mb"] = round(resident_peak(prepare, work, side, maker, phase) / 2**20, 1)
                yield {"work": work, "phase": phase, "shape": [1, CHANNELS, side, side], **timed}
