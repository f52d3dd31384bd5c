"""Compiled operations for tests: built once a run into a folder of their own, one set for each instruction set."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from tempfile import mkdtemp

import pytest
import torch

from foveate.ops.compiled import build, library


@cache
def built() -> dict[str, library.Kernels]:
    """The operations by instruction set, those that this processor can run."""
    if not build.instruction_sets() or not any(map(shutil.which, ("g++", "clang++"))):
        return {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOVEATE_CACHE", mkdtemp())
        path = build.build()
    best = library.Kernels(path).instruction_set
    names = list(build.instruction_sets())
    return {name: library.Kernels(path, name) for name in names[names.index(best) :]}


@contextmanager
def using(kernels: library.Kernels) -> Iterator[None]:
    """Use compiled operations for everything within a block, however small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library._Loaded, "looked", True)
        patch.setattr(library._Loaded, "kernels", kernels)
        patch.setattr(library, "WORTHWHILE", 0)
        patch.setattr(library.usable, "__kwdefaults__", {"at_least": 0})
        yield


needs_compiler = pytest.mark.skipif(
    not build.instruction_sets() or not any(map(shutil.which, ("g++", "clang++"))),
    reason="needs a C++ compiler, on Linux",
)
# by default what this processor would use; the others are the same sources
SETS = [
    pytest.param(name, marks=() if name == library.best_instruction_set() else pytest.mark.slow)
    for name in build.instruction_sets()
]


@contextmanager
def threads(count: int) -> Iterator[None]:
    """So many threads within a block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
