"""Peak memory of a call, in a process of its own: what the system handed out, beyond what was there before."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any


def resident_peak(prepare: Callable[..., Callable[[], object]], *arguments: Any) -> int:
    """Bytes at the highest point of one call, less those before it.

    Args:
        prepare: A function of a module, given the arguments in a fresh process; what it returns is called once.
        *arguments: What can be sent to a process.
    """
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_peak, (prepare, arguments))


def _peak(prepare: Callable[..., Callable[[], object]], arguments: tuple[Any, ...]) -> int:
    call = prepare(*arguments)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the kernel's highest mark begins anew
    call()
    return max(0, _status("VmHWM") - before)


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}: peak memory is measured on Linux only")
