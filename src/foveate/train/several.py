"""Several processes: who they are, how they work together, and what is said when one of them is lost."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.utilities.rank_zero import rank_zero_only
from pytorch_lightning.plugins.environments import SLURMEnvironment
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy
from torch import distributed, nn

from foveate.errors import FoveateError, OptionError
from foveate.train.recipe import Recipe

LOST = ("connection closed", "connection reset", "gloo", "nccl", "broken pipe", "socket", "timed out")


def first_process() -> bool:
    """Whether this process is the one that writes files and prints; where there is only one, it is.

    Example:
        >>> first_process()
        True
    """
    return getattr(rank_zero_only, "rank", 0) in (0, None)


def launched(devices: int, nodes: int) -> tuple[int, int]:
    """How many processes on each of how many machines: what ``torchrun`` started, or else what was asked for.

    Raises:
        OptionError: If others were started than were asked for.

    Example:
        >>> launched(2, 1)
        (2, 1)
    """
    if distributed.is_torchelastic_launched():
        every, here = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
        found = here, every // here
        if (devices, nodes) not in ((1, 1), found):
            raise OptionError(
                f"torchrun started {found[0]} processes on each of {found[1]} machines, and devices={devices}, "
                f"nodes={nodes} were asked for: leave them out"
            )
        return found
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))
    if tasks > 1 and tasks != devices * nodes:
        raise OptionError(
            f"srun started {tasks} processes, and devices={devices}, nodes={nodes} make {devices * nodes}: "
            "say how many there are on a machine, and how many machines"
        )
    return devices, nodes


def strategy_of(name: str, processes: int, recipe: Recipe) -> Any:
    """How processes work together, for Lightning's trainer.

    Args:
        name: ``"auto"``, ``"ddp"``, ``"fsdp"`` (FSDP2), or another that Lightning knows.
        processes: All of them.
        recipe: What is to be trained so.

    Raises:
        OptionError: If the recipe has something that does not go with it.
    """
    if name == "fsdp":
        for field in ("average", "frozen_epochs"):
            if getattr(recipe, field):
                raise OptionError(f"{field} does not go with strategy 'fsdp', which deals parameters out: use 'ddp'")
        return ModelParallelStrategy(processes, 1, save_distributed_checkpoint=False)
    if name in ("auto", "ddp") and processes > 1:
        # a host that is frozen for a while has no gradients to wait for
        return DDPStrategy(find_unused_parameters=recipe.frozen_epochs > 0)
    return name


def environments() -> list[Any]:
    """SLURM's tasks are used, and its signals left to the script of the job: any checkpoint of ours can be resumed."""
    return [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []


def shard(network: nn.Module, mesh: Any) -> None:
    """Deal the parameters out to the processes (FSDP2): those of each block together, and what is left.

    Args:
        network: In place.
        mesh: The processes.
    """
    from torch.distributed.fsdp import fully_shard

    for block in blocks(network):
        fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh)


def blocks(network: nn.Module) -> list[nn.Module]:
    """The modules that a network is a row of: with parts of their own, in a row of modules, and in no other such.

    Example:
        >>> from foveate import hosts
        >>> [type(block).__name__ for block in blocks(hosts.build("foveate/resnet8", classes=10))]
        ['BasicBlock', 'BasicBlock', 'BasicBlock']
    """
    rows, found = (nn.Sequential, nn.ModuleList, nn.ModuleDict), []
    inside = [(network, False)]
    while inside:
        module, in_row = inside.pop(0)
        children = list(module.children())
        if in_row and children and type(module) not in rows:
            if any(True for _ in module.parameters()):
                found.append(module)
            continue
        inside = [(child, type(module) in rows) for child in children] + inside
    return found


@contextmanager
def together(folder: Path | None, processes: int) -> Generator[None]:
    """Leave the other processes in order, and say what a person can do when one of them is lost.

    Raises:
        FoveateError: Instead of what the network says of a process that is gone.
    """
    own, goes_on = not distributed.is_initialized(), _goes_on(folder)
    observer = logging.getLogger("lightning_fabric.strategies.launchers.subprocess_script")
    level, teller = observer.level, _Teller(goes_on)
    observer.addHandler(teller)
    observer.setLevel(logging.INFO)
    lost = False
    try:
        yield
    except RuntimeError as error:
        words = str(error).lower()
        lost = processes > 1 and not isinstance(error, FoveateError) and any(one in words for one in LOST)
        if not lost:
            raise
        raise FoveateError(f"another process of this training is gone, so this one stops: {goes_on}") from error
    finally:
        observer.removeHandler(teller)
        observer.setLevel(level)
        if own and distributed.is_initialized():
            distributed.destroy_process_group()


def _goes_on(folder: Path | None) -> str:
    if folder is None:
        return "nothing was kept of it"
    return f"its last checkpoint is whole, and `foveate train --resume --out {folder}` goes on"


class _Teller(logging.Handler):
    """What Lightning logs before it ends all processes because one is dead, as a sentence that arrives."""

    def __init__(self, goes_on: str) -> None:
        super().__init__()
        self.goes_on = goes_on

    def emit(self, record: logging.LogRecord) -> None:
        """Say it, whatever else happens to this process."""
        if "terminated with code" in record.getMessage():
            sys.stderr.write(f"foveate: a process of this training ended, so all of them stop: {self.goes_on}\n")
            sys.stderr.flush()


__all__ = ["blocks", "environments", "first_process", "launched", "shard", "strategy_of", "together"]
