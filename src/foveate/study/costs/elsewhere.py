"""A quantity measured in a process of its own, bounded in time."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from typing import Any

import torch

from foveate.errors import FoveateError
from foveate.study.costs.attempt import said

# glibc gives memory from here on back as soon as it is free. By its own habit it keeps some, in pieces, and a process
# grows by luck: MobileNetV2's forward pass of 8 images by 92 to 132 MiB, where it needs 89.
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(128 << 10)}


def elsewhere(task: str, *, limit: float, **parts: Any) -> dict[str, Any]:
    """What another Python process answers that is given a network.

    The network goes there through a pipe, pickled; nobody else can put anything into it. So it must be made of classes
    and functions that can be imported there: not of those of the script that runs.

    Args:
        task: What to do, a name in :mod:`foveate.study.costs.child`.
        limit: After how many seconds the process is ended.
        **parts: What it needs.

    Returns:
        Plain values.

    Raises:
        FoveateError: If the network cannot go there, or the process fails or takes too long.
    """
    sent = io.BytesIO()
    try:
        torch.save({"task": task, "threads": torch.get_num_threads(), **parts}, sent)
    except Exception as error:
        raise FoveateError(f"the network cannot be sent to a process of its own ({said(error)})") from error
    here = os.pathsep.join(folder or os.getcwd() for folder in sys.path)  # noqa: PTH109
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "foveate.study.costs.child"],
            input=sent.getvalue(),
            capture_output=True,
            timeout=limit,
            check=False,
            env={**os.environ, **_ALLOCATOR, "PYTHONPATH": here},
        )
    except subprocess.TimeoutExpired as error:
        raise FoveateError(f"it took longer than {limit:g} seconds and was ended") from error
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip().splitlines()
        ended = f"signal {_signal(-done.returncode)}" if done.returncode < 0 else f"status {done.returncode}"
        raise FoveateError(f"the process ended with {ended}" + (f": {words[-1]}" if words else ""))
    answer = json.loads(done.stdout)
    if "reason" in answer:
        raise FoveateError(answer["reason"])
    return answer["answer"]


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
