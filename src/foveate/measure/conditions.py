"""Under which conditions a number was measured."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from foveate.ops.compiled.library import kernels

_PACKAGES = ("foveate", "torchvision", "timm", "numpy", "pytorch-lightning")


@dataclass(frozen=True)
class Conditions:
    """What a measured number depends on besides the network.

    It never holds the name of the machine, of a person or of a folder.

    Attributes:
        device: ``"cpu"``, or the name of the accelerator.
        cpu: The processor's model.
        instructions: The widest instruction set that PyTorch uses on it.
        cores: Processors that this process may run on.
        threads: Threads that PyTorch uses inside one operation.
        dtype: The type of the numbers.
        matmul_precision: PyTorch's precision of float32 matrix products.
        os: Operating system, its release and the architecture.
        python: Version of Python.
        torch: Version of PyTorch, with its build.
        packages: Versions of the other packages that matter, where they are installed.
        date: Date and time, UTC.
        operations: ``"plain"``, or the instruction set of the compiled operations that were used.
    """

    device: str
    cpu: str
    instructions: str
    cores: int
    threads: int
    dtype: str
    matmul_precision: str
    os: str
    python: str
    torch: str
    packages: tuple[tuple[str, str], ...]
    date: str
    operations: str

    @classmethod
    def here(cls, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> Conditions:
        """The conditions of this process, now.

        Args:
            device: Where the measured network runs.
            dtype: The type of its numbers; PyTorch's default if not given.

        Example:
            >>> Conditions.here().device
            'cpu'
        """
        return cls(
            device=_device_name(torch.device(device)),
            cpu=_cpu_name(),
            instructions=torch.backends.cpu.get_cpu_capability(),
            cores=_usable_cores(),
            threads=torch.get_num_threads(),
            dtype=str(dtype or torch.get_default_dtype()).removeprefix("torch."),
            matmul_precision=torch.get_float32_matmul_precision(),
            os=f"{platform.system()} {platform.release()} {platform.machine()}",
            python=platform.python_version(),
            torch=torch.__version__,
            packages=_versions(),
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            operations=getattr(kernels(), "instruction_set", "plain"),
        )

    def as_dict(self) -> dict[str, Any]:
        """The same, ready for JSON.

        Example:
            >>> Conditions.here().as_dict()["torch"] == torch.__version__
            True
        """
        return {**asdict(self), "packages": dict(self.packages)}


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _cpu_name() -> str:
    facts = Path("/proc/cpuinfo")
    if facts.is_file():  # Linux, where platform.processor() is often empty
        for line in facts.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _versions() -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, str]] = []
    for package in _PACKAGES:
        try:
            found.append((package, metadata.version(package)))
        except metadata.PackageNotFoundError:
            continue
    return tuple(found)
