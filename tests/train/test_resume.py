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
from torch import nn

import foveate
from foveate.data import fashion_mnist
from foveate.errors import FoveateError
from foveate.train import Recipe, fit
from foveate.train.classification import Classification
from foveate.train.lightning import pl

STEPS = 4  # an epoch of 64 images in batches of 16


class Some:
    """The first images of a split."""

    def __init__(self, images: Any, count: int) -> None:
        self.images, self.names, self.count = images, images.names[:count], count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        return self.images[index]


def task(**recipe: Any) -> Classification:
    """A small attended network with dropout, mixup and weights that move."""
    data = fashion_mnist()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            *(nn.Conv2d(1, 8, 3, stride=4), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3)),
            *(nn.Flatten(), nn.Linear(392, 10)),
        )
        foveate.attach(network, "se:reduction=2", at="1", example=torch.zeros(1, 1, 28, 28))
    shared = {"epochs": 3, "batch_size": 16, "warmup": 0.2, **recipe}
    return Classification(
        network, Some(data.train, 64), Some(data.validation, 32), Recipe(**shared), classes=data.classes, mixup=0.3
    )


class Stop(pl.Callback):
    """Stop as a killed process does: nothing is saved on the way out."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:
            raise KeyboardInterrupt


def weights(trained: Classification) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trained.network.state_dict().items()}


def last_state(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], tuple[Any, ...]]:
    folder = tmp_path_factory.mktemp("whole")
    fitted = fit(task(), folder, loggers=(), every=1)
    return last_state(folder), fitted.history


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("stop", [1, 3, 4, 5, 8, 11])
def test_stopped_and_resumed_is_undisturbed(
    stop: int, every: int, tmp_path: Path, undisturbed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from foveate.train import fitting

    usual = fitting._callbacks
    monkeypatch.setattr(fitting, "_callbacks", lambda *given: [Stop(stop), *usual(*given)])
    with pytest.raises(KeyboardInterrupt):
        fit(task(), tmp_path, loggers=(), every=every)
    monkeypatch.setattr(fitting, "_callbacks", usual)
    fitted = fit(task(), tmp_path, resume=True, loggers=(), every=every)
    state, history = undisturbed
    found = last_state(tmp_path)
    assert all(torch.equal(found[name], value) for name, value in state.items() if name.startswith("network."))
    assert fitted.history == history  # what was counted of the stopped epoch is kept too


def test_a_folder_with_a_run_is_not_overwritten(tmp_path: Path) -> None:
    fit(task(epochs=1), tmp_path, loggers=())
    with pytest.raises(FoveateError, match="holds a run already: resume it"):
        fit(task(epochs=1), tmp_path, loggers=())


def test_averaged_weights_go_on_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from foveate.train import fitting

    whole = fit(task(average=0.9), tmp_path / "whole", loggers=(), every=1)
    usual = fitting._callbacks
    monkeypatch.setattr(fitting, "_callbacks", lambda *given: [Stop(6), *usual(*given)])
    with pytest.raises(KeyboardInterrupt):
        fit(task(average=0.9), tmp_path / "cut", loggers=(), every=1)
    monkeypatch.setattr(fitting, "_callbacks", usual)
    resumed = fit(task(average=0.9), tmp_path / "cut", resume=True, loggers=(), every=1)
    assert resumed.history == whole.history
    a, b = last_state(tmp_path / "whole"), last_state(tmp_path / "cut")
    assert all(torch.equal(a[name], b[name]) for name in a)


OPTIONS = "train classification --attention se --epochs 2 --every 3"
COMMAND = [sys.executable, "-m", "foveate", *OPTIONS.split()]


@pytest.mark.slow
def test_a_process_that_is_really_killed_resumes_to_the_same_weights(tmp_path: Path) -> None:
    """SIGKILL at random moments, until one start gets to the end."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    subprocess.run([*COMMAND, "--out", str(whole)], check=True, env=environment, capture_output=True)
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
    a, b = last_state(whole), last_state(cut)
    assert all(torch.equal(a[name], b[name]) for name in a)
