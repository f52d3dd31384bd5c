"""What runs here, and what is missing: the machine, the compiled operations, the allocator, the extras."""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from typing import Any

import torch

from foveate.measure.conditions import Conditions
from foveate.ops.compiled.build import instruction_sets, library_path
from foveate.ops.compiled.library import SWITCH, kernels

# what an extra is known by, and which extra brings it
EXTRAS = {
    "torchvision": "hosts",
    "timm": "hosts",
    "pillow": "data",
    "pytorch-lightning": "compare",
    "torchmetrics": "compare",
    "scipy": "compare",
    "matplotlib": "compare",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "huggingface-hub": "hub",
    "ultralytics": "ultralytics",
}
# glibc gives memory beyond its threshold back at every free, and a new map finds every page of it missing
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(4 << 30)}
_MAP = 12 << 20  # numbers in the map that is allocated to see what the allocator does: 48 MiB


@dataclass(frozen=True)
class Allocation:
    """What a new map costs beyond being written.

    Attributes:
        megabytes: The map's size.
        faults: Pages that were missing when it was first written, by each new one.
        new: Seconds to write a new map.
        reused: Seconds to write one that is there.
        settings: The allocator's variables in the environment.
    """

    megabytes: float
    faults: int
    new: float
    reused: float
    settings: dict[str, str]


@dataclass(frozen=True)
class Examination:
    """What was found.

    Attributes:
        conditions: The machine and the versions.
        compiler: The C++ compiler; ``None`` if there is none.
        operations: ``"plain"``, or the instruction set of the compiled ones that are used.
        why: Why these.
        allocation: What a new map costs.
        gpu: The accelerator, or ``None``.
        triton: Its version, or ``None``.
        installed: Versions of the packages of extras.
        missing: Packages that are not installed, with the extra that brings them.
    """

    conditions: Conditions
    compiler: str | None
    operations: str
    why: str
    allocation: Allocation
    gpu: str | None
    triton: str | None
    installed: dict[str, str]
    missing: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        return {**asdict(self), "conditions": self.conditions.as_dict()}

    def __str__(self) -> str:
        """Lines for reading: what there is, and what to do where something would be better."""
        here = self.conditions
        cost = self.allocation
        lines = [
            f"processor   {here.cpu}, {here.cores} cores, {here.threads} threads, {here.instructions}",
            f"software    Python {here.python}, torch {here.torch}, {here.os}",
            f"operations  {self.operations}: {self.why}",
            f"compiler    {self.compiler or 'none: torch.compile on the CPU and `foveate build-ops` need one'}",
            f"GPU         {self.gpu or 'none'}; Triton {self.triton or 'not installed'}",
            f"allocator   a new map of {cost.megabytes:.0f} MiB takes {cost.new * 1e3:.1f} ms and {cost.faults:,} page "
            f"faults, one that is there {cost.reused * 1e3:.1f} ms",
        ]
        if cost.faults > 1000:
            settings = " ".join(f"{name}={value}" for name, value in ALLOCATOR.items())
            lines.append(f"            large maps are quicker with {settings} before the command (Linux, glibc)")
        lines.append("extras      " + ", ".join(f"{name} {version}" for name, version in self.installed.items()))
        lines += [
            f"            not installed: {name} (pip install 'foveate[{extra}]')"
            for name, extra in self.missing.items()
        ]
        return "\n".join(lines)


def examine() -> Examination:
    """Look at this machine and this installation.

    Example:
        >>> examine().operations in ("plain", "v4", "v3", "v1", "base")
        True
    """
    operations, why = _operations()
    versions = {name: _version(name) for name in EXTRAS}
    return Examination(
        conditions=Conditions.here(),
        compiler=next(filter(None, map(shutil.which, (os.environ.get("CXX", ""), "g++", "clang++"))), None),
        operations=operations,
        why=why,
        allocation=_allocation(),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        triton=_version("triton") if find_spec("triton") else None,
        installed={name: version for name, version in versions.items() if version is not None},
        missing={name: EXTRAS[name] for name, version in versions.items() if version is None},
    )


def _operations() -> tuple[str, str]:
    used = kernels()
    if used is not None:
        return used.instruction_set, "compiled here for this processor, in inference and training on the CPU"
    if sys.platform != "linux" or not instruction_sets():
        return "plain", "the compiled ones are for Linux on x86-64 and ARM"
    if library_path().exists():
        if os.environ.get(SWITCH) == "0":
            return "plain", f"the compiled ones are there, and {SWITCH}=0 switches them off"
        return "plain", "the compiled ones are there and do not load; `foveate build-ops` compiles them again"
    return "plain", "PyTorch's own; `foveate build-ops` compiles quicker ones for this machine, once"


def _faults() -> int:
    """Pages that this process found missing so far; 0 where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def _allocation() -> Allocation:
    there = torch.empty(_MAP)

    def new() -> None:
        torch.empty(_MAP).fill_(1.0)

    def again() -> None:
        there.fill_(1.0)

    again()
    before = _faults()
    first = _median(new)
    faults = (_faults() - before) // _TIMES
    settings = {name: os.environ[name] for name in ALLOCATOR if name in os.environ}
    return Allocation(_MAP * 4 / 2**20, faults, first, _median(again), settings)


_TIMES = 5


def _median(call: Any) -> float:
    seconds: list[float] = []
    for _ in range(_TIMES):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
