"""Classification: which of several classes an image is of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassCalibrationError,
    MulticlassConfusionMatrix,
)

from foveate.data.chance import chosen, whole
from foveate.data.samples import Samples
from foveate.errors import OptionError
from foveate.train.pixels import Normalise, jitter_colours
from foveate.train.recipe import Recipe
from foveate.train.task import Task

Batch = tuple[UInt8[Tensor, "b c h w"], Tensor]


class Classification(Task):
    """A network that learns to tell the classes of images apart.

    Training images are mirrored and moved by up to an eighth of their side, black entering; colours are changed where
    asked for.

    Args:
        network: From normalised images to one logit a class.
        train: To learn from: pairs of a byte image and the number of its class, all of one size.
        validation: To choose by.
        recipe: How.
        classes: What the numbers stand for.
        normalise: From bytes to what the network expects; by default the statistics of ImageNet, or of grey images.
        seed: Of everything random.
        new: See :class:`~foveate.train.task.Task`.
        smoothing: Of labels: the share of certainty that is spread over all classes (Szegedy et al. 2016).
        mixup: Of Beta(α, α), by which two images and their labels are mixed (Zhang et al. 2018); 0 for none.
        cutmix: Of Beta(α, α), by which a box of another image is laid over one (Yun et al. 2019); 0 for none. With
            both, each batch is treated by one of them, by chance.
        shift: By which share of its side an image is moved at most.
        colours: How far brightness, contrast and saturation are changed, as shares; 0 for not at all.

    Raises:
        OptionError: If a number is out of its range.
    """

    kind: ClassVar[str] = "classification"
    watched: ClassVar[str] = "accuracy"

    def __init__(
        self,
        network: nn.Module,
        train: Samples,
        validation: Samples,
        recipe: Recipe,
        *,
        classes: Sequence[str],
        normalise: Normalise | None = None,
        seed: int = 0,
        new: tuple[str, ...] = (),
        smoothing: float = 0.0,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        shift: float = 1 / 8,
        colours: float = 0.0,
    ) -> None:
        super().__init__(network, train, validation, recipe, seed=seed, new=new)
        for name, value, most in (("smoothing", smoothing, 1), ("shift", shift, 1), ("colours", colours, 1)):
            if not 0 <= value < most:
                raise OptionError(f"{name} must be from 0 to below {most}, not {value}")
        for name, value in (("mixup", mixup), ("cutmix", cutmix)):
            if not 0 <= value < float("inf"):
                raise OptionError(f"{name} must be a number from 0, not {value}")
        self.classes = tuple(classes)
        self.normalise = Normalise.usual(train[0][0].shape[0]) if normalise is None else normalise
        self.smoothing, self.mixup, self.cutmix = smoothing, mixup, cutmix
        self.shift, self.colours = shift, colours

    def forward(self, pixels: UInt8[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
        """Logits."""
        return self.network(self.normalise(pixels))

    def prepare(self, sample: tuple[Tensor, int], draw: torch.Generator | None) -> tuple[Tensor, int]:
        """The image, mirrored and moved by chance."""
        pixels, label = sample
        if draw is None:
            return pixels, label
        if chosen(0.5, draw):
            pixels = pixels.flip(2)
        if self.colours:
            pixels = jitter_colours(pixels, self.colours, draw)
        height, width = pixels.shape[1:]
        rows, columns = round(height * self.shift), round(width * self.shift)
        padded = F.pad(pixels, (columns, columns, rows, rows))
        top, left = whole(2 * rows + 1, draw), whole(2 * columns + 1, draw)
        return padded[:, top : top + height, left : left + width], label

    def collate(self, samples: list[tuple[Tensor, int]]) -> Batch:
        """Images of one size, and labels."""
        return torch.stack([pixels for pixels, _ in samples]), torch.tensor([label for _, label in samples])

    def mix(self, batch: Batch, draw: torch.Generator) -> Batch:
        """Mixup or CutMix, with each image's neighbour in the batch; labels become shares of classes."""
        ways = [name for name in ("mixup", "cutmix") if getattr(self, name)]
        if not ways:
            return batch
        pixels, labels = batch
        way = ways[whole(len(ways), draw)]
        share = _beta(getattr(self, way), draw)
        other, targets = pixels.roll(1, 0), F.one_hot(labels, len(self.classes)).float()
        if way == "mixup":
            mixed = share * pixels.float() + (1 - share) * other.float()
            pixels = mixed.round().clamp(0, 255).to(torch.uint8)
        else:
            height, width = pixels.shape[2:]
            tall, wide = (round(side * (1 - share) ** 0.5) for side in (height, width))
            top, left = whole(height - tall + 1, draw), whole(width - wide + 1, draw)
            pixels = pixels.clone()
            pixels[:, :, top : top + tall, left : left + wide] = other[:, :, top : top + tall, left : left + wide]
            share = 1 - tall * wide / (height * width)  # what is really left of it
        return pixels, share * targets + (1 - share) * targets.roll(1, 0)

    def step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Cross-entropy, smoothed in training, and logits."""
        pixels, labels = batch
        logits = self(pixels).float()
        return F.cross_entropy(logits, labels, label_smoothing=self.smoothing if self.training else 0.0), logits

    def new_metrics(self, split: str) -> Mapping[str, Metric]:
        """Accuracy; in validation how far it can be trusted, and what is taken for what."""
        count = max(2, len(self.classes))
        found: dict[str, Metric] = {"accuracy": MulticlassAccuracy(count, average="micro", validate_args=False)}
        if split == "validation":
            found["calibration_error"] = MulticlassCalibrationError(count, n_bins=15, validate_args=False)
            found["confusion"] = MulticlassConfusionMatrix(count, validate_args=False)
        return found

    def count(self, metrics: Mapping[str, Metric], said: Int64[Tensor, "b classes"], batch: Batch) -> None:
        """Count one batch; a mixed image counts as what it is most of."""
        labels = batch[1] if batch[1].ndim == 1 else batch[1].argmax(1)
        for name, metric in metrics.items():
            metric.update(said.detach().softmax(1) if name == "calibration_error" else said.detach(), labels)

    def scores(self, said: Float[Tensor, "b classes"], batch: Batch) -> list[float]:
        """1 where the class is right."""
        return (said.argmax(1) == batch[1]).float().tolist()

    def read(self, metrics: Mapping[str, Metric]) -> dict[str, float]:
        """Numbers; the confusion matrix is kept apart."""
        found = {name: float(metric.compute()) for name, metric in metrics.items() if name != "confusion"}
        if "confusion" in metrics:
            self.confusion: list[list[int]] = metrics["confusion"].compute().int().tolist()
        return found

    def details(self) -> dict[str, Any]:
        """What was taken for what, and precision, recall and count of each class."""
        table = self.confusion
        per_class: dict[str, dict[str, float]] = {}
        for index, name in enumerate(self.classes):
            right, real, said = table[index][index], sum(table[index]), sum(row[index] for row in table)
            per_class[name] = {
                "count": real,
                "recall": right / real if real else float("nan"),
                "precision": right / said if said else float("nan"),
            }
        return {"confusion": table, "classes": per_class}

    def prepared_example(self) -> tuple[Tensor]:
        """One normalised image."""
        return (self.normalise(self.prepare(self.samples[1][0], None)[0][None]),)


def _beta(alpha: float, draw: torch.Generator) -> float:
    """A number of Beta(α, α)."""
    import numpy as np

    seeds: list[int] = torch.randint(2**62, (2,), generator=draw).tolist()
    return float(np.random.default_rng(seeds).beta(alpha, alpha))
