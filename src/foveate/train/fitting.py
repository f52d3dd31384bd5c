"""Fit a task, and keep everything about it in a folder that can be begun again."""

from __future__ import annotations

import copy
import csv
import io
import json
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from foveate.errors import DataError, FoveateError
from foveate.files import write_atomically, writing
from foveate.train.callbacks import BEST, CHECKPOINTS, LAST, callbacks
from foveate.train.lightning import WholeCheckpoints, interruptible, logger, pl, quiet
from foveate.train.recompute import recomputed
from foveate.train.several import environments, first_process, launched, strategy_of, together
from foveate.train.task import Row, Task

CURVES = "curves.csv"
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
    on_epoch: Callable[[list[Row]], None] | None = None,
) -> Fitted:
    """Train a task's network in place; it ends with its best weights, on the CPU, in evaluation mode.

    With a folder, ``checkpoints/last.ckpt`` is written every so many steps and at the end of every epoch, and
    ``checkpoints/best.ckpt`` when validation was best; ``curves.csv`` has a row an epoch. A run that was killed at any
    moment goes on from its last checkpoint, and ends with the same weights as one that was not, on a CPU bit for bit.

    Several processes share each batch, and learn what one would, as far as norms and mixing do not look at a batch:
    batch norms take their statistics over a process's share, unless the recipe says ``sync_norms``, on GPUs. The first
    process writes; all of them end with the same network. A checkpoint is one file that any number of them can go on
    with. If one dies, the others end and say how to go on.

    Args:
        task: What is learned, by what, from what and how.
        folder: Where the run is kept; nothing is written if ``None``.
        resume: Go on with the run in the folder; without a checkpoint there it begins.
        device: Where; ``"auto"`` takes a GPU if there is one.
        devices: Processes on this machine, each with a device of its own; under ``torchrun`` those that it started.
        nodes: Machines.
        strategy: How several processes work together: ``"ddp"``, ``"fsdp"`` (FSDP2, parameters dealt out), or another
            that Lightning knows by name.
        loggers: Who is told: ``"tensorboard"``, ``"wandb"``, ``"mlflow"``, ``"trackio"``.
        every: Steps between two checkpoints.
        progress: Whether bars are shown.
        on_epoch: Called at the end of every epoch, in the first process, with a row for each so far.

    Returns:
        The curves, and which epoch was best.

    Raises:
        FoveateError: If the folder holds a run already and is not to be resumed, its checkpoint does not fit the
            task, another process is gone, the disk is full, or the loss is no number.
        OptionError: If what is asked for does not go together.
        DataError: If a sample cannot be read, or a checkpoint is damaged.
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
    last = _prepared(folder, task, resume)

    def told(history: list[Row]) -> None:
        if folder is not None:
            write_curves(folder / CURVES, history)
        if on_epoch is not None:
            on_epoch(history)

    task.on_epoch = told
    recipe, network, (devices, nodes) = task.recipe, task.network, launched(devices, nodes)
    if recipe.sync_norms and (device == "cpu" or not torch.cuda.is_available()):
        raise FoveateError("sync_norms needs GPUs: PyTorch's batch norm over all processes runs on no other device")
    if strategy == "fsdp":
        task.network = copy.deepcopy(network)  # its parameters are dealt out: the network itself stays whole
    with quiet(), interruptible(), _settings_kept(), _somewhere(folder) as place, together(folder, devices * nodes):
        torch.manual_seed(task.seed)
        trainer = pl.Trainer(
            default_root_dir=place,
            max_epochs=recipe.epochs,
            accelerator={"auto": "auto", "cpu": "cpu", "cuda": "gpu"}[device],
            devices=devices,
            num_nodes=nodes,
            strategy=strategy_of(strategy, devices * nodes, recipe),
            precision=_PRECISION[recipe.precision],
            accumulate_grad_batches=recipe.accumulate,
            gradient_clip_val=recipe.clip or None,
            deterministic=True if recipe.deterministic else None,
            sync_batchnorm=recipe.sync_norms,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            logger=[logger(name, folder) for name in loggers] if folder is not None and loggers else False,
            log_every_n_steps=1,
            callbacks=callbacks(task, place, every if folder is not None else None, progress),
            plugins=[WholeCheckpoints(), *environments()],
            enable_progress_bar=progress,
            enable_model_summary=False,
        )
        task.train()
        with recomputed(task.network) if recipe.checkpointing else nullcontext():
            trainer.fit(task, ckpt_path=last, weights_only=True)
        task.network = network.cpu()
        trainer.strategy.barrier()  # the best weights are written by now, and nothing is removed before all have them
        _take_best(network, place)
        trainer.strategy.barrier()
    network.eval()
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


def _prepared(folder: Path | None, task: Task, resume: bool) -> Path | None:
    """The checkpoint to begin from, if there is one; what a killed process left half-written is taken away."""
    if folder is None:
        if resume:
            raise FoveateError("there is nothing to resume without a folder")
        return None
    last = folder / CHECKPOINTS / f"{LAST}.ckpt"
    if first_process():
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        for half in (*folder.glob(".*.*.tmp"), *(folder / CHECKPOINTS).glob(".*.ckpt.*.tmp")):
            half.unlink(missing_ok=True)
    if not last.is_file():
        return None
    if not resume:
        raise FoveateError(f"'{folder}' holds a run already: resume it, or choose another folder")
    _check_same(folder, task, _read(last))
    return last


def _check_same(folder: Path, task: Task, checkpoint: Mapping[str, Any]) -> None:
    """Refuse to go on with what was begun otherwise.

    Raises:
        FoveateError: With what differs.
    """
    before, now = checkpoint.get("foveate_recipe", {}), task.described()
    different = [name for name in now if name != "workers" and before.get(name) != now[name]]
    if different:
        told = ", ".join(f"{name} was {before.get(name)} and is {now[name]}" for name in different)
        raise FoveateError(f"the run in '{folder}' was begun otherwise: {told}; resume it as it was begun")

    def shapes(state: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Size]:
        return {name.removeprefix(prefix): one.shape for name, one in state.items() if name.startswith(prefix)}

    old, new = shapes(checkpoint["state_dict"], "network."), shapes(task.network.state_dict(), "")
    other = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    if other:
        raise FoveateError(
            f"the run in '{folder}' was of another network (not in both with one shape: {', '.join(other[:3])}): "
            "resume it with the network it began with"
        )


def _read(path: Path) -> dict[str, Any]:
    """A checkpoint.

    Raises:
        DataError: If it is damaged.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise DataError(
            f"'{path}' is damaged ({str(error).splitlines()[0]}): remove the folder '{path.parent}' to begin the run "
            "again, or bring the file back from a copy"
        ) from error


@contextmanager
def _settings_kept() -> Generator[None]:
    """Leave random numbers, and whether PyTorch is to be deterministic, as they were."""
    strict, only_warn = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.use_deterministic_algorithms(strict, warn_only=only_warn)


@contextmanager
def _somewhere(folder: Path | None) -> Generator[Path]:
    """The folder, or one for as long as it takes: the best weights are kept somewhere until training ends."""
    if folder is not None:
        yield folder
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary)


def _take_best(network: nn.Module, folder: Path) -> None:
    path = folder / CHECKPOINTS / f"{BEST}.ckpt"
    if path.is_file():
        state = _read(path)["state_dict"]
        network.load_state_dict(
            {key.removeprefix("network."): value for key, value in state.items() if key.startswith("network.")}
        )
