"""What all tasks share: batches, steps, metrics by epoch, the optimizer, and where a stopped run goes on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from foveate.data.chance import generator
from foveate.data.samples import Samples
from foveate.errors import FoveateError, MissingExtraError
from foveate.train.counting import count_on, counted
from foveate.train.loader import Batches, Epochs, in_order
from foveate.train.optimizing import optimizer_of
from foveate.train.recipe import Recipe
from foveate.train.several import shard

try:
    import pytorch_lightning as pl
    from torchmetrics import MeanMetric, Metric
except ImportError as error:
    raise MissingExtraError(error.name or "pytorch-lightning", "train") from error

Row = dict[str, float]
TRAIN, VALIDATION = "train", "validation"


class Shared:
    """Something large that a copy of its owner shares: weight averaging copies the whole task, data and all."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __deepcopy__(self, memo: dict[int, Any]) -> Shared:
        return self


class Task(pl.LightningModule, ABC):
    """A network that learns something from samples: what is particular about it is said by a subclass.

    What happens by chance is a function of the seed: the order of samples, what is done to each, and what the network
    itself draws while it trains. So a run that is stopped and begun again ends as one that was not.

    Args:
        network: What learns.
        train: To learn from.
        validation: To choose by.
        recipe: How.
        seed: Of everything random.
        new: Names of parameters of the network that were not in its weights; see ``Recipe.new_rate``.

    Attributes:
        kind: What the task is called.
        watched: The metric of validation that says which weights are best.
        better: Whether more or less of it is better.
        history: A row an epoch: losses and metrics, by ``split_name``.
    """

    kind: ClassVar[str]
    watched: ClassVar[str]
    better: ClassVar[Literal["max", "min"]] = "max"

    def __init__(
        self,
        network: nn.Module,
        train: Samples,
        validation: Samples,
        recipe: Recipe,
        *,
        seed: int = 0,
        new: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.network = network
        if recipe.channels_last:
            self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.recipe, self.seed, self.new = recipe, seed, new
        self._samples = Shared((train, validation))
        self.history: list[Row] = []
        self.on_epoch: Callable[[list[Row]], None] | None = None
        self.metrics = nn.ModuleDict()
        self._loader: Epochs | None = None
        self._position: tuple[int, int] | None = None
        self._own_batches, self._sharded = 2**62, False
        self._told: dict[str, bool] = {}  # whether a split's batches have a loss

    # what a subclass says

    @abstractmethod
    def prepare(self, sample: Any, draw: torch.Generator | None) -> Any:
        """What the network is to see of a sample, changed by chance where there is a random stream."""

    @abstractmethod
    def collate(self, samples: list[Any]) -> Any:
        """One batch of several prepared samples."""

    @abstractmethod
    def step(self, batch: Any) -> tuple[Tensor | None, Any]:
        """The loss of a batch, where the network is told one in this mode, and what it says of each sample."""

    @abstractmethod
    def new_metrics(self, split: str) -> Mapping[str, Metric]:
        """What is counted over an epoch of a split, besides the loss."""

    @abstractmethod
    def count(self, metrics: Mapping[str, Metric], said: Any, batch: Any) -> None:
        """Count one batch."""

    def mix(self, batch: Any, draw: torch.Generator) -> Any:  # noqa: ARG002
        """What is done by chance to a whole training batch."""
        return batch

    def read(self, metrics: Mapping[str, Metric]) -> Row:
        """Numbers from what was counted."""
        return {name: float(metric.compute()) for name, metric in metrics.items()}

    def scores(self, said: Any, batch: Any) -> Sequence[float] | None:  # noqa: ARG002
        """How well each sample was answered, where what is watched is a mean over samples; ``None`` where it is not."""
        return None

    def size(self, batch: Any) -> int:
        """How many samples a batch has."""
        return len(batch[0])

    def details(self) -> dict[str, Any]:
        """What the last look at samples found besides numbers, ready for JSON."""
        return {}

    def prepared_example(self) -> tuple[Any, ...] | None:
        """What the network is given for one sample, to tell its cost; ``None`` where that cannot be told."""
        return None

    def read_validation(self) -> Row:
        """The numbers of what was counted as validation since they were read last."""
        return self._read(VALIDATION)

    # what Lightning asks

    @property
    def samples(self) -> tuple[Samples, Samples]:
        """What is learned from, and what is chosen by."""
        return self._samples.value

    def setup(self, stage: str) -> None:  # noqa: ARG002
        """Make the metrics; in a stopped epoch they go on where they were."""
        if not self.metrics:
            for split in (TRAIN, VALIDATION):
                # "disable": a loss that is no number must not be left out of its mean
                counted = {"loss": MeanMetric(nan_strategy="disable"), **self.new_metrics(split)}
                self.metrics[f"of_{split}"] = nn.ModuleDict(counted)

    def train_dataloader(self) -> Epochs:
        """One epoch after the other."""
        recipe = self.recipe
        self._loader = Epochs(
            self.samples[0],
            recipe.batch_size,
            self.prepare if recipe.augment else self._plain,
            self.collate,
            seed=self.seed,
            workers=recipe.workers,
            share=self._share(),
        )
        if self._position is not None:
            self._loader.begin_at(self._position)
        return self._loader

    def val_dataloader(self) -> Batches:
        """The samples to choose by, in order."""
        own = max(1, self.recipe.batch_size // self._share()[1])
        loader = in_order(
            self.samples[1], own, self.prepare, self.collate, workers=self.recipe.workers, share=self._share()
        )
        self._own_batches = loader.own
        return loader

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        """What the network draws in a step depends on the step alone."""
        stream = generator("step", self.seed, self.current_epoch, batch_idx, self._share()[0])
        torch.manual_seed(stream.initial_seed())

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The loss of one batch."""
        if self.recipe.augment:
            batch = self.mix(batch, generator("mix", self.seed, self.current_epoch, batch_idx, self._share()[0]))
        loss, said = self.step(batch)
        if loss is None:
            raise FoveateError(f"{type(self.network).__name__} returned no loss in training")
        if not torch.isfinite(loss.detach()).all():
            raise FoveateError(
                f"the loss is {float(loss.detach())} in epoch {self.current_epoch + 1}, step {batch_idx + 1}: "
                "a smaller learning rate, more warm-up or clipping may help; the last checkpoint is whole"
            )
        self._told[TRAIN] = True
        self._count(TRAIN, loss, said, batch)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Look at one batch; it does not count if it is there only because other processes have one more."""
        self.look(batch, counts=batch_idx < self._own_batches)

    def look(self, batch: Any, *, counts: bool = True) -> Any:
        """See what the network says of a batch, count it, and pass it on."""
        loss, said = self.step(batch)
        self._told[VALIDATION] = loss is not None
        if counts:
            self._count(VALIDATION, loss, said, batch)
        return said

    def on_validation_epoch_end(self) -> None:
        """Say how good the weights are."""
        found = self._read(VALIDATION)
        self._validated = found
        self.log_dict({f"{VALIDATION}/{name}": value for name, value in found.items()})

    def on_train_epoch_end(self) -> None:
        """Write down the epoch; its validation has run by now."""
        found = self._read(TRAIN)
        self.log_dict({f"{TRAIN}/{name}": value for name, value in found.items()})
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        row: Row = {"epoch": self.current_epoch + 1, "learning_rate": rate}
        row |= {f"{TRAIN}_{name}": value for name, value in found.items()}
        row |= {f"{VALIDATION}_{name}": value for name, value in self._validated.items()}
        self.history.append(row)
        if self.on_epoch is not None and self.trainer.is_global_zero:
            self.on_epoch(self.history)

    def configure_optimizers(self) -> Any:
        """Groups of parameters with a learning rate each, and a schedule for all of them."""
        return optimizer_of(self.network, self.recipe, self.new, self._batches())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what was written down, and which batch comes next: Lightning asks loaders only within an epoch."""
        checkpoint["foveate_history"] = self.history
        checkpoint["foveate_position"] = None if self._loader is None else self._loader.position
        checkpoint["foveate_recipe"] = self.described()
        checkpoint["foveate_counted"] = counted(self.metrics[f"of_{TRAIN}"])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on writing."""
        self.history = list(checkpoint["foveate_history"])
        self._position = checkpoint["foveate_position"]
        if self._share()[0] == 0:  # of all processes together
            count_on(self.metrics[f"of_{TRAIN}"], checkpoint["foveate_counted"])

    def described(self) -> dict[str, Any]:
        """What a run has to have in common with the one that it goes on with."""
        return {"kind": self.kind, "seed": self.seed, **self.recipe.as_dict()}

    def configure_model(self) -> None:
        """Deal parameters out where the strategy is to do that."""
        mesh = self.device_mesh
        if mesh is not None and not self._sharded:
            shard(self.network, mesh["data_parallel"])
            self._sharded = True

    # inside

    def _plain(self, sample: Any, draw: torch.Generator | None) -> Any:  # noqa: ARG002
        return self.prepare(sample, None)

    def _batches(self) -> int:
        count = len(self.samples[0])
        return count // min(self.recipe.batch_size, count)

    def _share(self) -> tuple[int, int]:
        """Which of how many processes this is."""
        trainer = self._trainer
        return (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)

    def _count(self, split: str, loss: Tensor | None, said: Any, batch: Any) -> None:
        metrics: Any = self.metrics[f"of_{split}"]
        if loss is not None:
            # each sample's, not a weight: torchmetrics leaves weights out of a mean that is to keep nan
            metrics["loss"].update(loss.detach().expand(self.size(batch)))
        self.count({name: metric for name, metric in metrics.items() if name != "loss"}, said, batch)

    def _read(self, split: str) -> Row:
        metrics: Any = self.metrics[f"of_{split}"]
        counted = {name: metric for name, metric in metrics.items() if name != "loss" or self._told.get(split)}
        found = {"loss": float(counted.pop("loss").compute())} if "loss" in counted else {}
        found |= self.read(counted)
        for metric in metrics.values():
            metric.reset()
        return found
