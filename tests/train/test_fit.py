"""Fitting: exact resuming whatever is set, the schedule, and every failure said in a sentence."""

from __future__ import annotations

import errno
import math
import shutil
import signal
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from foveate.errors import DataError, FoveateError, FoveateWarning
from foveate.train import Recipe, fit, fitting
from foveate.train.lightning import WholeCheckpoints, pl
from tests.support.training import Stop, assert_same_run, network, state_of, stopped, stopped_at_write, task

quick = {"epochs": 1, "loggers": ()}


# resuming


@pytest.mark.parametrize(
    ("recipe", "step"),
    [
        ({"accumulate": 2}, 3),
        ({"accumulate": 3}, 3),  # the last step of an epoch has one batch
        ({"frozen_epochs": 2}, 3),
        ({"frozen_epochs": 2}, 6),
        ({"frozen_epochs": 1}, 4),
        ({"patience": 1, "epochs": 6, "learning_rate": 1e-6}, 5),
        ({"workers": 1}, 6),
        ({"precision": "bf16"}, 6),
        ({"optimizer": "adamw", "average": 0.9, "clip": 0.5, "schedule": "poly"}, 6),
        ({"deterministic": True}, 6),
    ],
    ids=str,
)
def test_whatever_is_set_a_stopped_run_ends_as_an_undisturbed_one(
    recipe: Any, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make() -> Any:
        return task(**recipe)

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    one = fit(make(), whole, loggers=(), every=1)
    stopped(make, cut, Stop(step), monkeypatch, every=1)
    assert_same_run(whole, cut, one, fit(make(), cut, resume=True, loggers=(), every=1))


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("number", range(1, 6))
def test_a_run_that_ends_at_any_checkpoint_goes_on_exactly(
    number: int, before: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five are written: in the middle of each epoch, at its end, and once with the best validation."""

    def make() -> Any:
        return task(epochs=2, average=0.5)

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    one = fit(make(), whole, loggers=(), every=2)
    assert stopped_at_write(make, cut, number, before, monkeypatch, every=2)
    assert_same_run(whole, cut, one, fit(make(), cut, resume=True, loggers=(), every=2))


@pytest.mark.parametrize("recipe", [{}, {"patience": 1, "epochs": 9, "learning_rate": 1e-6}], ids=str)
def test_a_finished_run_that_is_resumed_learns_no_more(recipe: Any, tmp_path: Path) -> None:
    """Also one that early stopping ended."""
    first = fit(task(**recipe), whole := tmp_path / "whole", loggers=())
    shutil.copytree(whole, copy := tmp_path / "copy")
    assert_same_run(whole, copy, first, fit(task(**recipe), copy, resume=True, loggers=()))


def test_a_run_in_a_folder_that_was_moved_keeps_its_best_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make() -> Any:
        return task(learning_rate=0.3, schedule="constant")

    whole, cut, moved = tmp_path / "whole", tmp_path / "cut", tmp_path / "moved"
    one = fit(make(), whole, loggers=(), every=1)
    stopped(make, cut, Stop(10), monkeypatch, every=1)
    cut.rename(moved)
    assert_same_run(whole, moved, one, fit(make(), moved, resume=True, loggers=(), every=1))
