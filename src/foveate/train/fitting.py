"""Fit a task, and keep everything about it in a folder that can be begun again."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from foveate.errors import DataError, FoveateError
from foveate.files import write_atomically
from foveate.surgery import freeze_host, unfreeze_host
from foveate.train.lightning import WholeCheckpoints, interruptible, logger, pl, quiet
from foveate.train.task import Row, Task

CHECKPOINTS, LAST, BEST, CURVES = "checkpoints", "last", "best", "curves.csv"
_PRECISION: dict[str, Any] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


@dataclass(frozen=True)
class Fitted:
    """What a training came to.

    Attributes:
        history: A row an epoch.
        best: The row of the epoch whose weights the network has now.
        folder: Where everything is; ``None`` where nothing was written.
    """

    history: tuple[Row, ...]
    best: Row
    folder: Path | None


def fit(
    task: Task,
    folder: str | Path | None = None,
    *,
    resume: bool = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    devices: int = 1,
    nodes: int = 1,
    strategy: str = "auto",
    loggers: Sequence[str] = ("tensorboard",),
    every: int = 200,
    progress: bool = False,
) -> Fitted:
    """Train a task's network in place; it ends with its best weights, on the CPU, in evaluation mode.

    With a folder, ``checkpoints/last.ckpt`` is written every so many steps and at the end of every epoch, and
    ``checkpoints/best.ckpt`` when validation was best; ``curves.csv`` has a row an epoch. A run that was killed at any
    moment goes on from its last checkpoint, and ends with the same weights as one that was not, on a CPU bit for bit.

    Args:
        task: What is learned, by what, from what and how.
        folder: Where the run is kept; nothing is written if ``None``.
        resume: Go on with the run in the folder; without a checkpoint there it begins.
        device: Where; ``"auto"`` takes a GPU if there is one.
        devices: Processes on this machine, each with a device of its own.
        nodes: Machines.
        strategy: How several processes work together, as Lightning names it: ``"ddp"``, ``"fsdp"``, ….
        loggers: Who is told: ``"tensorboard"``, ``"wandb"``, ``"mlflow"``, ``"trackio"``.
        every: Steps between two checkpoints.
        progress: Whether bars are shown.

    Returns:
        The curves, and which epoch was best.

    Raises:
        FoveateError: If the folder holds a run already and is not to be resumed, its checkpoint does not fit the
            task, or the loss is no number.
        DataError: If a sample cannot be read.
        KeyboardInterrupt: If a person interrupts it; it can be resumed.

    Example:
        >>> from foveate import hosts
        >>> from foveate.data import fashion_mnist
        >>> from foveate.train.classification import Classification
        >>> from foveate.train.recipe import Recipe
        >>> data = fashion_mnist()
        >>> network = hosts.build("foveate/resnet8", classes=10, in_channels=1)
        >>> task = Classification(network, data.test, data.validation, Recipe(epochs=1), classes=data.classes)
        >>> fitted = fit(task)
        >>> sorted(fitted.best)[:3]
        ['epoch', 'learning_rate', 'train_accuracy']
    """
    folder = None if folder is None else Path(folder)
    last = _prepared(folder, resume)
    task.on_epoch = None if folder is None else (lambda history: write_curves(folder / CURVES, history))
    recipe = task.recipe
    with quiet(), interruptible(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(task.seed)
        trainer = pl.Trainer(
            max_epochs=recipe.epochs,
            accelerator={"auto": "auto", "cpu": "cpu", "cuda": "gpu"}[device],
            devices=devices,
            num_nodes=nodes,
            strategy=strategy,
            precision=_PRECISION[recipe.precision],
            accumulate_grad_batches=recipe.accumulate,
            gradient_clip_val=recipe.clip or None,
            deterministic=True if recipe.deterministic else None,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            logger=[logger(name, folder) for name in loggers] if folder is not None and loggers else False,
            log_every_n_steps=1,
            callbacks=_callbacks(task, folder, every, progress),
            plugins=[WholeCheckpoints()],
            enable_checkpointing=folder is not None,
            enable_progress_bar=progress,
            enable_model_summary=False,
        )
        task.train()
        try:
            trainer.fit(task, ckpt_path=last, weights_only=True)
        except RuntimeError as error:
            if last is not None and "state_dict" in str(error):
                raise FoveateError(
                    f"the run in '{folder}' was of another network or recipe: {str(error).splitlines()[0]}"
                ) from error
            raise
    task.network.cpu()
    if folder is not None:
        _take_best(task, folder)
    task.network.eval()
    return Fitted(tuple(task.history), best_of(task), folder)


def best_of(task: Task) -> Row:
    """The row of the epoch that validation found best, the first of equal ones."""
    name, sign = f"validation_{task.watched}", 1 if task.better == "max" else -1
    usable = [row for row in task.history if row.get(name, float("nan")) == row.get(name)]
    if not usable:
        raise FoveateError(f"no epoch of this run was validated by {task.watched}")
    return max(usable, key=lambda row: sign * row[name])


def write_curves(path: Path, history: Sequence[Mapping[str, float]]) -> None:
    """A row an epoch, as CSV."""
    columns = list(dict.fromkeys(name for row in history for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_atomically(path, text.getvalue().encode())


def write_json(path: Path, value: Any) -> None:
    """Plain values, as JSON, whole or not at all."""
    write_atomically(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def _prepared(folder: Path | None, resume: bool) -> Path | None:
    """The checkpoint to begin from, if there is one; what a killed process left half-written is taken away."""
    if folder is None:
        if resume:
            raise FoveateError("there is nothing to resume without a folder")
        return None
    last = folder / CHECKPOINTS / f"{LAST}.ckpt"
    for half in (folder / CHECKPOINTS).glob(".*.ckpt.*.tmp"):
        half.unlink(missing_ok=True)
    if last.is_file() and not resume:
        raise FoveateError(f"'{folder}' holds a run already: resume it, or choose another folder")
    return last if last.is_file() else None


def _callbacks(task: Task, folder: Path | None, every: int, progress: bool) -> list[Any]:
    from pytorch_lightning.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint, RichProgressBar

    found: list[Any] = []
    recipe, monitor = task.recipe, f"validation/{task.watched}"
    if progress:
        found.append(RichProgressBar())
    if recipe.frozen_epochs:
        found.append(_FrozenHost(recipe.frozen_epochs))
    if recipe.average:
        found.append(EMAWeightAveraging(decay=recipe.average))
    if recipe.patience:
        found.append(EarlyStopping(monitor, mode=task.better, patience=recipe.patience))
    if folder is not None:
        shared: dict[str, Any] = {"dirpath": folder / CHECKPOINTS, "enable_version_counter": False}
        found += [
            ModelCheckpoint(**shared, filename=BEST, monitor=monitor, mode=task.better),
            ModelCheckpoint(**shared, filename=LAST, every_n_train_steps=every),
            ModelCheckpoint(**shared, filename=LAST, every_n_epochs=1, save_on_train_epoch_end=True),
        ]
    return found


class _FrozenHost(pl.Callback):
    """Keep the host as it is for the first epochs, while the attention learns."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Also where a run goes on."""
        self._apply(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Freeze or free it."""
        self._apply(trainer, pl_module)

    def _apply(self, trainer: Any, task: Task) -> None:
        (freeze_host if trainer.current_epoch < self.epochs else unfreeze_host)(task.network)


def _take_best(task: Task, folder: Path) -> None:
    path = folder / CHECKPOINTS / f"{BEST}.ckpt"
    if not path.is_file():
        return
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    except Exception as error:
        raise DataError(f"'{path}' cannot be read: {error}") from error
    task.network.load_state_dict(
        {key.removeprefix("network."): value for key, value in state.items() if key.startswith("network.")}
    )
