"""One of two processes is really killed: the other says so and ends, and the run goes on exactly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.support.training import state_of

BOUND = 60  # seconds in which the other process has to end
SETTINGS = ["--attention", "se", "--epochs", "1"]
HOW = ["--every", "3", "--devices", "2", "--device", "cpu"]
COMMAND = [sys.executable, "-m", "foveate", "train"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="children are found in /proc"),
    pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="this PyTorch has no gloo"),
]


def begun(*words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.Popen([*COMMAND, *words], env=environment, stderr=subprocess.PIPE, text=True)


def children(parent: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent and fields[0] != "Z":
            found.append(int(status.parent.name))
    return found


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def step_of(folder: Path) -> int:
    last = folder / "checkpoints" / "last.ckpt"
    return torch.load(last, weights_only=True)["global_step"] if last.is_file() else 0


def wait_for(folder: Path, step: int, process: subprocess.Popen[str]) -> None:
    while step_of(folder) < step:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        time.sleep(0.05)


def test_a_process_that_dies_stops_the_job_and_the_run_goes_on(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    undisturbed = begun("classification", *SETTINGS, *HOW, "--out", str(whole))
    assert undisturbed.wait(300) == 0
    resume = ("--resume", *HOW, "--out", str(cut))

    first = begun("classification", *SETTINGS, *HOW, "--out", str(cut))
    wait_for(cut, 6, first)
    (child,) = children(first.pid)
    os.kill(child, signal.SIGKILL)
    _, said = first.communicate(timeout=BOUND)
    assert first.returncode != 0
    assert f"`foveate train --resume --out {cut}` goes on" in said
    assert "Traceback" not in said

    second = begun(*resume)
    wait_for(cut, step_of(cut) + 9, second)
    (child,) = children(second.pid)
    second.kill()  # this time the one that the other was started by
    until = time.monotonic() + BOUND
    while alive(child):
        assert time.monotonic() < until
        time.sleep(0.1)
    _, said = second.communicate(timeout=BOUND)
    assert f"`foveate train --resume --out {cut}` goes on" in said

    third = begun(*resume)
    assert third.wait(300) == 0
    assert {path.name for path in cut.iterdir()} == {path.name for path in whole.iterdir()}
    a, b = state_of(whole), state_of(cut)
    assert [name for name in a if not torch.equal(a[name], b[name])] == []
