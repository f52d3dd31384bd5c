"""Fitting: exact resuming whatever is set, the schedule, and every failure said in a sentence."""

from __future__ import annotations

import errno
import math
import os
import shutil
import signal
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from foveate.data import fashion_mnist
from foveate.errors import DataError, FoveateError, FoveateWarning
from foveate.train import fit, fitting
from foveate.train.assembly import load_model
from foveate.train.lightning import pl
from foveate.train.pixels import Normalise
from foveate.train.report import looked_at
from foveate.train.running import train
from tests.support.training import Stop, assert_same_run, network, state_of, stopped, stopped_at_write, task

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


def averaged() -> Any:
    return task(epochs=2, average=0.5)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("whole")
    return folder, fit(averaged(), folder, loggers=(), every=2)


@pytest.mark.parametrize(("number", "before"), [(1, True), *((number, False) for number in range(1, 6))])
def test_a_run_that_ends_at_any_checkpoint_goes_on_exactly(
    number: int, before: bool, undisturbed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five are written: in the middle of each epoch, at its end, and once with the best validation."""
    whole, one = undisturbed
    assert stopped_at_write(averaged, tmp_path, number, before, monkeypatch, every=2)
    assert_same_run(whole, tmp_path, one, fit(averaged(), tmp_path, resume=True, loggers=(), every=2))


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


# what is set is what happens


def rates(recipe: Any) -> list[float]:
    """The learning rate of every step that was taken."""
    found: list[float] = []

    class Watching(pl.Callback):
        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            found.append(optimizer.param_groups[0]["lr"])

    made = task(**recipe)
    usual = fitting.callbacks
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "callbacks", lambda *given: [Watching(), *usual(*given)])
        fit(made)
    return found


def test_the_schedule_counts_steps_not_batches() -> None:
    """Four batches an epoch in steps of three: two steps an epoch, of which the last is small."""
    recipe = {"epochs": 2, "accumulate": 3, "warmup": 0.5, "learning_rate": 0.4, "schedule": "cosine"}
    cosine = 0.5 * (1 + math.cos(math.pi / 2))
    assert rates(recipe) == pytest.approx([0.2, 0.4, 0.4, 0.4 * cosine])


def test_clipping_limits_how_far_a_step_goes() -> None:
    recipe = {"epochs": 1, "batch_size": 64, "learning_rate": 1.0, "momentum": 0.0, "weight_decay": 0.0, "warmup": 0.0}
    moved: dict[float, float] = {}
    for clip in (0.0, 1e-3):
        before = {name: p.detach().clone() for name, p in network().named_parameters()}
        made = task(clip=clip, **recipe)
        fit(made)
        after = dict(made.network.named_parameters())
        moved[clip] = math.sqrt(sum(float((after[name].detach() - p).square().sum()) for name, p in before.items()))
    assert moved[0.0] > 0.1
    assert moved[1e-3] == pytest.approx(1e-3, rel=1e-3)


def test_the_host_waits_while_attention_and_a_new_head_learn() -> None:
    host = network()
    before = {name: p.detach().clone() for name, p in host.named_parameters()}
    fit(task(host, epochs=1, frozen_epochs=5, new=("5.weight",)))
    moved = {name for name, p in host.named_parameters() if not torch.equal(p, before[name])}
    assert {name for name in moved if ".foveate." not in name} == {"5.weight"}
    assert {"1.foveate.squeeze_excite.blend", "1.foveate.squeeze_excite.fc2.weight"} <= moved
    assert all(p.requires_grad for p in host.parameters())  # nobody finds a frozen network afterwards


def test_what_was_frozen_by_hand_stays_so_and_nobody_is_warned() -> None:
    host = network()
    host[0].weight.requires_grad_(False)
    before = host[0].weight.clone()
    with warnings.catch_warnings():
        warnings.simplefilter("error", FoveateWarning)
        fit(task(host, frozen_epochs=1))
    assert torch.equal(host[0].weight, before)
    assert not host[0].weight.requires_grad


def test_freezing_a_host_without_anything_new_is_refused() -> None:
    with pytest.raises(FoveateError, match="nothing would learn while the host is frozen"):
        fit(task(network(attention=""), frozen_epochs=1))


def test_determinism_is_asked_for_while_training_only() -> None:
    asked: list[bool] = []
    host = network()
    host.register_forward_hook(lambda *_: asked.append(torch.are_deterministic_algorithms_enabled()))
    fit(task(host, epochs=1, deterministic=True))
    assert set(asked) == {True}
    assert not torch.are_deterministic_algorithms_enabled()


def test_half_precision_is_used_where_it_is_asked_for() -> None:
    seen: set[torch.dtype] = set()
    host = network()
    host[0].register_forward_hook(lambda module, given, out: seen.add(out.dtype))
    fitted = fit(task(host, epochs=1, precision="bf16"))
    assert seen == {torch.bfloat16}
    assert math.isfinite(fitted.best["train_loss"])


def test_attention_can_be_decayed_on_its_own() -> None:
    groups = task(weight_decay=1e-3, attention_decay=0.5).configure_optimizers()["optimizer"].param_groups
    assert {group["name"]: group["weight_decay"] for group in groups} == {
        "host": 1e-3, "host_no_decay": 0.0, "attention": 0.5, "attention_no_decay": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize("kept", [True, False])
def test_a_network_ends_with_its_best_weights_with_a_folder_or_without(kept: bool, tmp_path: Path) -> None:
    """A rate that is far too high: the first epoch is the best."""
    made = task(learning_rate=1.0, schedule="constant", mixup=0.0)
    fitted = fit(made, tmp_path if kept else None, loggers=())
    assert fitted.best["epoch"] < 3
    again = looked_at(made, made.samples[1])
    assert again["accuracy"] == fitted.best["validation_accuracy"]
    assert again["loss"] == pytest.approx(fitted.best["validation_loss"], rel=1e-6)


def test_the_mean_loss_is_that_of_all_samples_whatever_the_batches() -> None:
    """33 samples in batches of 16: the last one is a thirty-third of the mean, not a third."""
    made = task(epochs=1, validation=33)
    fitted = fit(made)
    images, labels = zip(*(made.samples[1][index] for index in range(33)), strict=True)
    with torch.no_grad():
        direct = nn.functional.cross_entropy(made(torch.stack(images)), torch.tensor(labels))
    assert fitted.best["validation_loss"] == pytest.approx(float(direct), rel=1e-5)


def test_the_gap_is_between_samples_seen_alike(tmp_path: Path) -> None:
    """Training counts changed images and moving weights; the gap looks at both splits as they are."""
    done = train("classification", tmp_path, settings={"epochs": 1, "batch_size": 500}, loggers=())
    network = load_model(tmp_path)[0]
    data = fashion_mnist()
    count = len(data.validation)
    chosen = [index * len(data.train) // count for index in range(count)]
    right: dict[str, int] = {}
    for name, samples, indices in (("train", data.train, chosen), ("validation", data.validation, range(count))):
        pixels = torch.stack([samples[index][0] for index in indices]).float() / 255
        labels = torch.tensor([samples[index][1] for index in indices])
        normalised = Normalise.usual(1)((pixels * 255).to(torch.uint8))
        with torch.no_grad():
            right[name] = int((network(normalised).argmax(1) == labels).sum())
    assert done.report["learned"]["accuracy"] == pytest.approx(right["train"] / count, abs=1e-7)
    assert done.report["gap"]["accuracy"] == pytest.approx((right["train"] - right["validation"]) / count, abs=2e-7)
    assert done.report["gap"].keys() == {"loss", "accuracy", "calibration_error"}


def test_another_run_s_folder_says_what_differs(tmp_path: Path) -> None:
    settings = {"epochs": 1, "batch_size": 900}
    train("classification", tmp_path, settings=settings, loggers=())
    with pytest.raises(FoveateError, match=r"there attention is None and not eca, .*seed is 0 and not 1, the samples"):
        train("classification", tmp_path, settings=settings, attention="eca", seed=1, loggers=())


# what goes wrong


class Poison(nn.Module):
    """Numbers, until a step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.left = step

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.left -= self.training
        return x * (float("nan") if self.left < 0 else 1.0)


def test_a_loss_that_is_no_number_stops_and_the_last_checkpoint_is_whole(tmp_path: Path) -> None:
    host = network()
    host.append(Poison(6))
    with pytest.raises(FoveateError, match=r"the loss is nan in epoch 2, step 3: a smaller learning rate"):
        fit(task(host), tmp_path, loggers=(), every=1)
    assert all(bool(torch.isfinite(value).all()) for value in state_of(tmp_path).values())


def test_ctrl_c_arrives_and_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signal itself, in the middle of a step."""

    class Pressed(pl.Callback):
        def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
            if trainer.global_step == 5:
                signal.raise_signal(signal.SIGINT)

    before = signal.default_int_handler
    signal.signal(signal.SIGINT, before)  # a shell ignores it for what it starts in the background
    one = fit(task(), tmp_path / "whole", loggers=(), every=1)
    stopped(task, tmp_path / "cut", Pressed(), monkeypatch, every=1)
    assert signal.getsignal(signal.SIGINT) is before  # a second training can be interrupted too
    again = fit(task(), tmp_path / "cut", resume=True, loggers=(), every=1)
    assert_same_run(tmp_path / "whole", tmp_path / "cut", one, again)


def test_a_full_disk_is_said_and_the_checkpoint_before_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [4]

    def sync(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", sync)
        with pytest.raises(FoveateError, match=r"the disk is full: '.*last.ckpt' was not written; make room"):
            fit(task(), tmp_path, loggers=(), every=1)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["last.ckpt"]
    resumed = fit(task(), tmp_path, resume=True, loggers=(), every=1)
    assert resumed.history == fit(task()).history


@pytest.mark.parametrize("loggers", [(), ("tensorboard",)])
def test_a_folder_that_cannot_be_is_said_before_training(loggers: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FoveateError, match="cannot be a folder for results, because a part of it is a file"):
        fit(task(epochs=1), tmp_path / "file" / "run", loggers=loggers)


def test_a_damaged_checkpoint_is_said_with_what_to_do(tmp_path: Path) -> None:
    fit(task(epochs=1), tmp_path, loggers=())
    last = tmp_path / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-5000])
    with pytest.raises(DataError, match=r"last.ckpt' is damaged \(.*\): remove the folder '.*checkpoints' to begin"):
        fit(task(epochs=1), tmp_path, resume=True, loggers=())


def test_what_a_killed_process_left_half_written_is_taken_away(tmp_path: Path) -> None:
    fit(task(epochs=1), tmp_path, loggers=())
    halves = [tmp_path / "checkpoints" / ".last.ckpt.77.tmp", tmp_path / ".curves.csv.77.tmp"]
    for half in halves:
        half.write_bytes(b"half")
    fit(task(epochs=1), tmp_path, resume=True, loggers=())
    assert not any(half.exists() for half in halves)


def test_a_checkpoint_of_another_network_or_recipe_is_refused(tmp_path: Path) -> None:
    fit(task(epochs=1), tmp_path, loggers=())
    with pytest.raises(FoveateError, match=r"was of another network .*1.foveate.squeeze_excite.*: resume"):
        fit(task(network(attention="eca"), epochs=1), tmp_path, resume=True, loggers=())
    with pytest.raises(FoveateError, match=r"begun otherwise: batch_size was 16 and is 8; resume it as"):
        fit(task(epochs=1, batch_size=8), tmp_path, resume=True, loggers=())
    with pytest.raises(FoveateError, match=r"shape: 5.weight, 5.bias.: resume"):
        other = network()
        other[5] = nn.Linear(392, 11)
        fit(task(other, epochs=1), tmp_path, resume=True, loggers=())


def test_nothing_to_resume_without_a_folder() -> None:
    with pytest.raises(FoveateError, match="nothing to resume without a folder"):
        fit(task(epochs=1), resume=True)
