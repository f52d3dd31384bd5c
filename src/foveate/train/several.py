"""Several processes: who they are, how they work together, and what is said when one of them is lost."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import distributed, nn

from foveate.errors import FoveateError, MissingExtraError, OptionError
from foveate.train.recipe import Recipe

try:
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning_fabric.utilities.rank_zero import rank_zero_only
    from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy
except ImportError as error:
    raise MissingExtraError(error.name or "pytorch-lightning", "train") from error

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
        return Sharded(processes, 1, save_distributed_checkpoint=False)
    if name in ("auto", "ddp") and processes > 1:
        # a host that is frozen for a while has no gradients to wait for
        return DDPStrategy(find_unused_parameters=recipe.frozen_epochs > 0)
    return name


class Sharded(ModelParallelStrategy):
    """FSDP2 with checkpoints in one file, as of one process: any number of processes can go on with them.

    Lightning writes them so, and looks for names of parameters when it reads them; a network's names in a state dict
    may be others, so they are read by PyTorch.
    """

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Read one, and deal its tensors out."""
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict
        from torch.distributed.fsdp import FullyShardedDataParallel, OptimStateKeyType
        from torch.distributed.tensor import DTensor, distribute_tensor

        checkpoint = self.checkpoint_io.load_checkpoint(checkpoint_path, weights_only=weights_only)
        model, state = self.lightning_module, dict(checkpoint["state_dict"])
        assert model is not None  # noqa: S101 (set up)
        for name, own in model.state_dict().items():
            if isinstance(own, DTensor) and name in state:
                state[name] = distribute_tensor(state[name], own.device_mesh, own.placements)
        model.load_state_dict(state)
        options = StateDictOptions(full_state_dict=True)
        for optimizer, kept in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            named = FullyShardedDataParallel.rekey_optim_state_dict(kept, OptimStateKeyType.PARAM_NAME, model)
            set_optimizer_state_dict(model, optimizer, named, options=options)
        return checkpoint


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
        ['Block', 'Block', 'Block']
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
    """Say what a person can do when one of several processes is lost.

    Raises:
        FoveateError: Instead of what the network says of a process that is gone.
    """
    goes_on = _goes_on(folder)
    observer = logging.getLogger("lightning_fabric.strategies.launchers.subprocess_script")
    level, teller = observer.level, _Teller(goes_on)
    observer.addHandler(teller)
    observer.setLevel(logging.INFO)
    try:
        yield
    except RuntimeError as error:
        words = str(error).lower()
        if processes == 1 or isinstance(error, FoveateError) or not any(one in words for one in LOST):
            raise
        raise FoveateError(f"another process of this training is gone, so this one stops: {goes_on}") from error
    finally:
        observer.removeHandler(teller)
        observer.setLevel(level)


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
