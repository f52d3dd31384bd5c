"""Kernels through Triton's compiler, for GPUs that are not here: `test_gpu.py` runs this file in a process of its own.

The operations run on the CPU with a launcher that compiles what it is asked to launch, with the sizes, types and tiles
that it is asked to launch it with, and computes nothing.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from foveate.ops.gpu import cells, planes, products, statistics, summary
from tests.ops.kernels.cases import FULL, Case, cases

FAMILIES = (cells, planes, products, statistics, summary)
KERNELS = {
    id(kernel): f"{family.__name__}.{name}"
    for family in FAMILIES
    for name, kernel in vars(family).items()
    if name.endswith("_kernel")
}
NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16", torch.int32: "i32"}
SHAPE = (8, 256, 14, 14)
launched: set[str] = set()


class Compiling:
    """Stands in for `wrap_triton(kernel)`."""

    def __init__(self, kernel: Any, capability: int) -> None:
        self.kernel, self.target = kernel, GPUTarget("cuda", capability, 32)

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        assert 0 < grid[0] < 2**31
        return self.compile

    def compile(self, *arguments: Any, num_warps: int = 4, **constants: Any) -> None:
        """As the launcher does it: lengths of one are constants, those that 16 divides are known to be so."""
        names = self.kernel.arg_names
        given = dict(zip(names, arguments, strict=False)) | constants
        assert list(given) == names
        settled = [name for name, value in given.items() if isinstance(value, int | None) and value in (1, None)]
        fixed = {name: given[name] for name in (*constants, *settled)}
        signature = {name: "constexpr" if name in fixed else self.type_of(value) for name, value in given.items()}
        attributes = {
            (index,): [["tt.divisibility", 16]]
            for index, value in enumerate(given.values())
            if isinstance(value, Tensor) or (isinstance(value, int) and names[index] not in fixed and value % 16 == 0)
        }
        source = ASTSource(
            self.kernel, signature, {(names.index(name),): value for name, value in fixed.items()}, attributes
        )
        done = triton.compile(source, target=self.target, options={"num_warps": num_warps})
        assert f".target sm_{self.target.arch}" in done.asm["ptx"]
        assert len(done.asm["cubin"]) > 0
        # where a sample begins may be beyond what 32 bits count
        assert re.search(r"arith\.muli .* : i64", done.asm["ttir"])
        assert not re.search(r"\b(atom|red)\.", done.asm["ptx"])  # sums in no fixed order
        launched.add(KERNELS[id(self.kernel)])

    @staticmethod
    def type_of(value: Any) -> str:
        if isinstance(value, Tensor):
            return "*" + NAMES[value.dtype]
        return "fp32" if isinstance(value, float) else "i32"


LAUNCHES = [
    (case, capability) for case in cases() for capability in (80, 90, 100) if capability == 90 or case.name in FULL
]


@pytest.mark.parametrize(("case", "capability"), LAUNCHES, ids=[f"{case.name} {other}" for case, other in LAUNCHES])
def test_every_launch_compiles(case: Case, capability: int, monkeypatch: pytest.MonkeyPatch):
    for family in FAMILIES:
        monkeypatch.setattr(family, "wrap_triton", lambda kernel: Compiling(kernel, capability))
    for dtype, layout in ((torch.float32, torch.contiguous_format), (torch.bfloat16, torch.channels_last)):
        inputs = [torch.rand(shape).to(dtype) for shape in (SHAPE, *case.shapes(*SHAPE))]
        inputs[0] = inputs[0].contiguous(memory_format=layout)
        found = case.call(*(one.requires_grad_() for one in inputs))
        found = found[: case.results] if isinstance(found, tuple) else (found,)
        torch.autograd.grad(found, inputs, [torch.ones_like(one) for one in found])


def test_no_kernel_was_left_out():
    assert launched == set(KERNELS.values())
