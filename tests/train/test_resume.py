"""A run that is stopped anywhere and begun again ends with the weights of one that was not, bit for bit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from foveate.errors import FoveateError
from foveate.train import fit
from tests.support.training import Stop, state_of, stopped, task


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], tuple[Any, ...]]:
    folder = tmp_path_factory.mktemp("whole")
    fitted = fit(task(), folder, loggers=(), every=1)
    return state_of(folder), fitted.history


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("stop", [1, 3, 4, 5, 8, 11])
def test_stopped_and_resumed_is_undisturbed(
    stop: int, every: int, tmp_path: Path, undisturbed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped(task, tmp_path, Stop(stop), monkeypatch, every=every)
    fitted = fit(task(), tmp_path, resume=True, loggers=(), every=every)
    state, history = undisturbed
    found = state_of(tmp_path)
    assert all(torch.equal(found[name], value) for name, value in state.items() if name.startswith("network."))
    assert fitted.history == history  # what was counted of the stopped epoch is kept too


def test_a_folder_with_a_run_is_not_overwritten(tmp_path: Path) -> None:
    fit(task(epochs=1), tmp_path, loggers=())
    with pytest.raises(FoveateError, match="holds a run already: resume it"):
        fit(task(epochs=1), tmp_path, loggers=())


OPTIONS = "train classification --attention se --epochs 2 --every 3"
COMMAND = [sys.executable, "-m", "foveate", *OPTIONS.split()]


@pytest.mark.slow
def test_a_process_that_is_really_killed_resumes_to_the_same_weights(tmp_path: Path) -> None:
    """SIGKILL at random moments, until one start gets to the end."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    first = subprocess.run([*COMMAND, "--out", str(whole)], check=True, env=environment, capture_output=True, text=True)
    assert [line[:8] for line in first.stderr.splitlines() if line.startswith("epoch")] == ["epoch 1:", "epoch 2:"]
    begin = [*COMMAND, "--out", str(cut)]
    resume = [sys.executable, "-m", "foveate", "train", "--resume", "--every", "3", "--out", str(cut)]
    chance, kills = random.Random(7), 0
    while True:
        process = subprocess.Popen(begin if kills == 0 else resume, env=environment, stderr=subprocess.PIPE)
        try:
            process.wait(timeout=chance.uniform(6, 14))
            break
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
            begin = begin if not (cut / "run.json").exists() else resume
        time.sleep(0.1)
    assert process.returncode == 0, process.stderr.read().decode() if process.stderr else ""
    assert kills >= 1
    a, b = state_of(whole), state_of(cut)
    assert all(torch.equal(a[name], b[name]) for name in a)
