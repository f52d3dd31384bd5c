"""Where a run is carried out, and what must be the same everywhere."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from foveate import __version__
from foveate.measure import Conditions
from foveate.study.plain import code_fingerprint


@dataclass(frozen=True)
class Versions:
    """What the numbers of a run may depend on: equal on all machines of a study.

    Attributes:
        foveate: Version.
        code: A hash of the sources that shape a run's numbers.
        torch: Version.
    """

    foveate: str
    code: str
    torch: str

    @classmethod
    def here(cls) -> Versions:
        """Those of this process.

        Example:
            >>> Versions.here().differences(Versions.here())
            []
        """
        return cls(__version__, code_fingerprint(), torch.__version__)

    def differences(self, other: Versions) -> list[str]:
        """What is not the same there, in words.

        Example:
            >>> Versions("0.1.0", "a" * 16, "2.15.0").differences(Versions("0.1.0", "b" * 16, "2.14.1"))
            ['torch 2.14.1 in place of 2.15.0', 'other sources of foveate (bbbbbbbb in place of aaaaaaaa)']
        """
        found: list[str] = []
        for name in ("foveate", "torch"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                found.append(f"{name} {theirs} in place of {mine}")
        if self.code != other.code:
            found.append(f"other sources of foveate ({other.code[:8]} in place of {self.code[:8]})")
        return found

    def refusal(self, there: Versions, place: str) -> str | None:
        """Why runs cannot be carried out there, in a sentence; ``None`` if they can."""
        differences = self.differences(there)
        if not differences:
            return None
        return f"{place} has {' and '.join(differences)}: its numbers could not be compared; install the same there"


def where(seconds: float | None = None) -> dict[str, Any]:
    """Where this process carries a run out, as it is written into the run.

    A machine is told from another by a hash of its name: results are published, names of machines need not be.

    Args:
        seconds: How long the run took.

    Example:
        >>> sorted(where())
        ['code', 'cores', 'cpu', 'foveate', 'host', 'os', 'python', 'seconds', 'threads', 'torch']
    """
    here = Conditions.here().as_dict()
    shown = {name: here[name] for name in ("cpu", "cores", "threads", "os", "python")}
    return {"host": host_hash(), **shown, **asdict(Versions.here()), "seconds": seconds}


def host_hash() -> str:
    """Eight digits that tell machines apart and do not name them.

    Example:
        >>> len(host_hash())
        8
    """
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def usable_cores() -> int:
    """Processors that this process may run on.

    Example:
        >>> usable_cores() >= 1
        True
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def this_process() -> dict[str, Any]:
    """What finds this process again: its machine, its number, and when it began, because numbers are used again."""
    return {"host": host_hash(), "pid": os.getpid(), "began": _began(os.getpid())}


def lives(process: Mapping[str, Any]) -> bool | None:
    """Whether a process is still there; ``None`` if it is on another machine, or was not written down.

    Example:
        >>> lives(this_process()), lives({**this_process(), "host": "elsewhere"})
        (True, None)
    """
    host, pid, began = (process.get(name) for name in ("host", "pid", "began"))
    if host != host_hash() or not isinstance(pid, int) or pid < 1:
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another person's
        pass
    return _began(pid) == began


def _began(pid: int) -> str | None:
    """When a process began, in ticks since the machine did; ``None`` where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]  # a zombie is no process that works
