"""A small task to train in tests, and ways to stop it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import foveate
from foveate.data import fashion_mnist
from foveate.train import Recipe, fit, fitting
from foveate.train.classification import Classification
from foveate.train.lightning import WholeCheckpoints, pl

STEPS = 4  # an epoch of 64 images in batches of 16


class Some:
    """The first images of a split."""

    def __init__(self, images: Any, count: int) -> None:
        self.images, self.names, self.count = images, images.names[:count], count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        return self.images[index]


def network(norm: type[nn.Module] = nn.BatchNorm2d, dropout: float = 0.3, attention: str = "se:reduction=2") -> Any:
    """A small one with dropout and running statistics, attended after its norm."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        normalised = nn.GroupNorm(2, 8) if norm is nn.GroupNorm else norm(8)
        host = nn.Sequential(
            *(nn.Conv2d(1, 8, 3, stride=4), normalised, nn.ReLU(), nn.Dropout(dropout)),
            *(nn.Flatten(), nn.Linear(392, 10)),
        )
        if attention:
            foveate.attach(host, attention, at="1", example=torch.zeros(1, 1, 28, 28))
    return host


def task(
    host: Any = None, *, train: int = 64, validation: int = 32, mixup: float = 0.3, new: Any = (), **recipe: Any
) -> Classification:
    """Three epochs of four steps, with mixup and augmentation."""
    data = fashion_mnist()
    shared = {"epochs": 3, "batch_size": 16, "warmup": 0.2, **recipe}
    return Classification(
        network() if host is None else host,
        Some(data.train, train),
        Some(data.validation, validation),
        Recipe(**shared),
        classes=data.classes,
        mixup=mixup,
        new=new,
    )


class Stop(pl.Callback):
    """Stop as a killed process does: nothing is saved on the way out."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:
            raise KeyboardInterrupt


def stopped(make: Any, folder: Path, callback: Any, patch: pytest.MonkeyPatch, **how: Any) -> None:
    """Begin a run that a callback stops."""
    usual = fitting.callbacks
    with patch.context() as only:
        only.setattr(fitting, "callbacks", lambda *given: [callback, *usual(*given)])
        with pytest.raises(KeyboardInterrupt):
            fit(make(), folder, **{"loggers": (), **how})


def stopped_at_write(make: Any, folder: Path, number: int, before: bool, patch: pytest.MonkeyPatch, **how: Any) -> bool:
    """Begin a run that ends just before or after a checkpoint is written; whether there were that many."""
    written = 0

    class Stopping(WholeCheckpoints):
        def save_checkpoint(self, *given: Any, **named: Any) -> None:
            nonlocal written
            written += 1
            if written == number and before:
                raise KeyboardInterrupt
            super().save_checkpoint(*given, **named)
            if written == number:
                raise KeyboardInterrupt

    with patch.context() as only:
        only.setattr(fitting, "WholeCheckpoints", Stopping)
        try:
            fit(make(), folder, loggers=(), **how)
        except KeyboardInterrupt:
            return True
    return False


def weights(trained: Classification) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trained.network.state_dict().items()}


def state_of(folder: Path, which: str = "last") -> dict[str, Any]:
    """The weights in a checkpoint."""
    return torch.load(folder / "checkpoints" / f"{which}.ckpt", weights_only=True)["state_dict"]


def assert_same_run(a: Path, b: Path, one: Any, other: Any) -> None:
    """Equal curves, and equal weights, last and best, bit for bit."""
    assert one.history == other.history
    for which in ("last", "best"):
        left, right = state_of(a, which), state_of(b, which)
        assert left.keys() == right.keys()
        assert [name for name in left if not torch.equal(left[name], right[name])] == [], which
