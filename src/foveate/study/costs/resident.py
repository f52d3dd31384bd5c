"""How much memory a process takes more at one moment of a call, as the operating system counts it."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

from foveate.errors import FoveateError

_STATUS, _REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # man 5 proc: "reset the peak resident set size"


def resident_growth(prepare: Callable[[], Callable[[], object]]) -> int:
    """The bytes by which the process grows at most while a call runs the second time.

    The first time loads code and builds what is kept; then what the allocator holds in reserve is given back. So the
    growth is what the call itself needs, with the workspace inside operations, in pages. It is meant for a process that
    does nothing else. Linux counts to within some hundred KiB.

    Args:
        prepare: Makes the call, and drops what is left of the one before.

    Raises:
        FoveateError: If this system does not tell.
    """
    if not _REFERENCES.exists():
        raise FoveateError("this system does not tell the most memory that a call needed: only Linux does, in /proc")
    prepare()()
    call = prepare()
    gc.collect()
    _give_back()
    try:
        _REFERENCES.write_text(_RESET_PEAK)
    except OSError as error:
        raise FoveateError(f"this system does not let the peak of memory be reset: {error}") from error
    before = _kilobytes("VmRSS")
    call()
    return 1024 * (_kilobytes("VmHWM") - before)


def _kilobytes(what: str) -> int:
    for line in _STATUS.read_text().splitlines():
        name, _, value = line.partition(":")
        if name == what:
            return int(value.split()[0])
    raise FoveateError(f"this system does not tell {what} in {_STATUS}")


def _give_back() -> None:
    """Free memory goes back to the system, where the C library has a function for that (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
