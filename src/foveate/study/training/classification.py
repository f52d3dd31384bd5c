"""The task: image classification, as a Lightning module."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from foveate.errors import MissingExtraError
from foveate.study.training.batches import Labelled, OrderedBatches, TrainingBatches

try:
    import pytorch_lightning as pl
    from torchmetrics import MeanMetric
    from torchmetrics.classification import MulticlassAccuracy
except ImportError as error:
    raise MissingExtraError(error.name or "pytorch-lightning", "train") from error


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: one recipe for everything that is compared.

    SGD with momentum and weight decay; the learning rate rises linearly over the first steps and falls along a
    half cosine to zero. Norms, biases and blends are not decayed.

    Attributes:
        epochs: Passes over the training images.
        batch_size: Images a step.
        learning_rate: The highest learning rate.
        momentum: Of SGD.
        weight_decay: Of every parameter with two axes or more.
        warmup: Share of all steps in which the learning rate rises.
        augment: Whether images are mirrored and shifted.
    """

    epochs: int
    batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.1
    augment: bool = True

    def rate(self, step: int, steps: int) -> float:
        """The share of the highest learning rate in a step, counted from 0.

        Example:
            >>> recipe = Recipe(epochs=1, warmup=0.2)
            >>> [round(recipe.rate(step, 10), 2) for step in (0, 1, 2, 6, 9)]
            [0.5, 1.0, 1.0, 0.5, 0.04]
        """
        rising = max(1, round(self.warmup * steps))
        if step < rising:
            return (step + 1) / rising
        return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


@dataclass
class Curves:
    """What was seen at the end of each epoch; losses are mean cross-entropy, accuracies fractions."""

    epoch: list[int] = field(default_factory=list[int])
    train_loss: list[float] = field(default_factory=list[float])
    train_accuracy: list[float] = field(default_factory=list[float])
    validation_loss: list[float] = field(default_factory=list[float])
    validation_accuracy: list[float] = field(default_factory=list[float])


class Pixels(nn.Module):
    """From bytes to what a network expects: channels repeated if it wants more, mean 0 and deviation 1.

    Args:
        mean: Mean of each channel that the network takes, of values from 0 to 1.
        std: Standard deviation of each.

    Example:
        >>> Pixels((0.5,), (0.25,))(torch.tensor([255], dtype=torch.uint8).reshape(1, 1, 1, 1)).item()
        2.0
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Iterable[float], std: Iterable[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(list(mean)).reshape(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(list(std)).reshape(1, -1, 1, 1), persistent=False)

    def forward(self, pixels: UInt8[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """Normalise."""
        x = (pixels.to(self.mean.dtype) / 255 - self.mean) / self.std
        return x.contiguous(memory_format=torch.channels_last)


class Classification(pl.LightningModule):
    """A network that learns to tell the classes of images apart.

    Args:
        network: From normalised images to one logit a class.
        pixels: From bytes to normalised images.
        train: Images to learn from.
        validation: Images to watch.
        recipe: How to train.
        seed: Of the order of the images and of their augmentation.
        on_epoch: Called at the end of every epoch with the curves so far.
    """

    def __init__(
        self,
        network: nn.Module,
        pixels: Pixels,
        train: Labelled,
        validation: Labelled,
        recipe: Recipe,
        seed: int,
        on_epoch: Callable[[Curves], None] | None = None,
    ) -> None:
        super().__init__()
        # convolutions on a CPU are about a fifth faster with channels last, tensor cores want it too
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.pixels, self.recipe, self.seed = pixels, recipe, seed
        self.images, self.watched, self.on_epoch = train, validation, on_epoch
        self.curves = Curves()
        classes = int(max(train.labels.max(), validation.labels.max())) + 1
        self.metrics = nn.ModuleDict()
        for split in ("train_split", "validation_split"):
            accuracy = MulticlassAccuracy(max(2, classes), average="micro", validate_args=False)
            # "disable": a loss that is no number must not be left out of its mean
            loss = MeanMetric(nan_strategy="disable")
            self.metrics[split] = nn.ModuleDict({"loss": loss, "accuracy": accuracy})

    def forward(self, pixels: UInt8[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
        """Logits."""
        return self.network(self.pixels(pixels))

    def train_dataloader(self) -> TrainingBatches:
        """The batches of the epoch that begins."""
        return TrainingBatches(
            self.images,
            self.recipe.batch_size,
            seed=self.seed,
            epoch=self.current_epoch,
            augment=self.recipe.augment,
        )

    def val_dataloader(self) -> OrderedBatches:
        """The images to watch, in order."""
        return OrderedBatches(self.watched, self.recipe.batch_size)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:  # noqa: ARG002
        """The loss of one batch."""
        return self._loss(batch, "train_split")

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:  # noqa: ARG002
        """Count one batch."""
        self._loss(batch, "validation_split")

    def on_train_epoch_end(self) -> None:
        """Write down the epoch; its validation has run by now."""
        train, validation = self._read("train_split"), self._read("validation_split")
        self.curves.epoch.append(self.current_epoch + 1)
        self.curves.train_loss.append(train[0])
        self.curves.train_accuracy.append(train[1])
        self.curves.validation_loss.append(validation[0])
        self.curves.validation_accuracy.append(validation[1])
        if self.on_epoch is not None:
            self.on_epoch(self.curves)

    def configure_optimizers(self) -> Any:
        """SGD, with decay for what has two axes or more, and a learning rate for each step."""
        recipe = self.recipe
        parameters = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        groups = [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": recipe.weight_decay},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.SGD(
            [group for group in groups if group["params"]], recipe.learning_rate, recipe.momentum
        )
        steps = recipe.epochs * len(self.train_dataloader())
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: recipe.rate(step, steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _loss(self, batch: tuple[UInt8[Tensor, "b c h w"], Int64[Tensor, " b"]], split: str) -> Tensor:
        pixels, labels = batch
        logits = self(pixels)
        loss = F.cross_entropy(logits, labels)
        metrics = self.metrics[split]
        # each image counts once: with this strategy torchmetrics leaves weights out
        metrics["loss"].update(loss.detach().expand(len(labels)))  # type: ignore[index]
        metrics["accuracy"].update(logits.detach(), labels)  # type: ignore[index]
        return loss

    def _read(self, split: str) -> tuple[float, float]:
        metrics = self.metrics[split]
        values = [float(metrics[name].compute()) for name in ("loss", "accuracy")]  # type: ignore[index]
        for name in ("loss", "accuracy"):
            metrics[name].reset()  # type: ignore[index]
        return values[0], values[1]
