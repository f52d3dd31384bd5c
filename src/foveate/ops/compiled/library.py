"""Finding, loading and switching the compiled operations."""

from __future__ import annotations

import ctypes
import os
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foveate.errors import FoveateWarning
from foveate.ops.compiled.build import instruction_sets, library_path
from foveate.ops.graph import eager

SWITCH = "FOVEATE_COMPILED_OPS"
# below this many numbers calling takes longer than what is saved
WORTHWHILE = 1 << 15
_P, _L, _F = ctypes.c_void_p, ctypes.c_long, ctypes.c_float
# pointers, then numbers, as in kernels/*.cpp
_ARGUMENTS: dict[str, list[Any]] = {
    "reduce": [_P] * 5 + [_L] * 6,
    "gate": [_P] * 5 + [_L] * 6,
    "gate_back": [_P] * 9 + [_L] * 5,
    "extremes_back": [_P] * 7 + [_L] * 6,
    "gate_deviations": [_P] * 2 + [_F] + [_L] * 6,
    "gate_deviations_back": [_P] * 3 + [_F] + [_L] * 6,
    "gate_nearest": [_P] * 3 + [_L] * 9,
    "gate_nearest_back": [_P] * 5 + [_L] * 9,
    "neighbourhood_means": [_P] * 2 + [_L] * 8,
    "neighbourhood_means_back": [_P] * 2 + [_L] * 8,
    "squeeze_gate": [_P] * 8 + [_L] * 6,
}


class Kernels:
    """The functions of a library, for the quickest instruction set that this processor has.

    Attributes:
        path: The library's file.
        instruction_set: ``v4`` (AVX-512), ``v3`` (AVX2) or ``v1`` of x86-64; ``base`` elsewhere.
    """

    def __init__(self, path: Path, instruction_set: str | None = None) -> None:
        library = ctypes.CDLL(str(path))
        self.path = path
        self.instruction_set = instruction_set or best_instruction_set()
        for name, arguments in _ARGUMENTS.items():
            function = getattr(library, f"{name}_{self.instruction_set}")
            function.argtypes, function.restype = arguments, None
            setattr(self, name, function)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the compiled operations have no {name}")


class _Loaded:
    """What is loaded in this process; looked for once."""

    kernels: Kernels | None = None
    looked = False
    enabled = True


def kernels() -> Kernels | None:
    """The compiled operations; ``None`` if they were not built, or are switched off."""
    if not _Loaded.looked:
        _Loaded.looked = True
        path = library_path()
        if os.environ.get(SWITCH, "1") != "0" and path.exists():
            _Loaded.kernels = _load(path)
    return _Loaded.kernels if _Loaded.enabled else None


def _load(path: Path) -> Kernels | None:
    try:
        return Kernels(path)
    except (OSError, AttributeError) as error:
        warnings.warn(
            f"the compiled operations could not be loaded, and the plain ones are used ({error}): "
            f"`foveate build-ops` compiles them again, {SWITCH}=0 leaves them alone",
            FoveateWarning,
            stacklevel=2,
        )
        return None


def built() -> bool:
    """Whether the compiled operations are there and switched on: quick to ask, before anything else is.

    While a graph is captured the answer is no, without looking.
    """
    return not torch.compiler.is_compiling() and kernels() is not None


def usable(*tensors: Tensor, at_least: int = WORTHWHILE) -> Kernels | None:
    """The compiled operations, where they can take maps: numbers on the CPU, of one type and layout, and enough.

    Args:
        *tensors: Maps of one shape, ``(b, c, *positions)``.
        at_least: Numbers in a map from which on a call pays.
    """
    if not built():
        return None
    x = tensors[0]
    if not eager(*tensors) or x.dtype not in (torch.float32, torch.bfloat16) or x.numel() < at_least:
        return None
    if _counted():
        return None
    layout = torch.contiguous_format if x.is_contiguous() else torch.channels_last
    alike = all(one.dtype == x.dtype and one.is_contiguous(memory_format=layout) for one in tensors)
    return kernels() if alike else None


def _counted() -> bool:
    """Whether somebody listens to PyTorch's operations: a counter of operations must not miss these."""
    return bool(torch._C._len_torch_dispatch_stack() or torch._C._len_torch_function_stack())  # pyright: ignore


@contextmanager
def switched(on: bool) -> Generator[None]:
    """Use the compiled operations within a block, or the plain ones.

    Example:
        >>> with switched(False):
        ...     kernels() is None
        True
    """
    before, _Loaded.enabled = _Loaded.enabled, on
    try:
        yield
    finally:
        _Loaded.enabled = before


def reload() -> Kernels | None:
    """Look for the library again, after it was built."""
    _Loaded.looked, _Loaded.kernels = False, None
    return kernels()


def best_instruction_set() -> str:
    """The quickest that the processor says it has."""
    capability = torch.backends.cpu.get_cpu_capability()
    if "v4" in instruction_sets():
        return {"AVX512": "v4", "AVX2": "v3"}.get(capability, "v1")
    return next(iter(instruction_sets()), "")
