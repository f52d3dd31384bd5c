"""Classification of patients by medical images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy

from foveate.data.medical.data import Cases, Target
from foveate.data.medical.scans import imported
from foveate.errors import check_at_least
from foveate.train.medical.changes import Whole, normalised, resized
from foveate.train.medical.counting import Rows, balance, share
from foveate.train.medical.telling import table
from foveate.train.recipe import Recipe
from foveate.train.task import Task

Batch = tuple[Tensor, list[Target]]


class MedicalClassification(Task):
    """A network that learns the class of a patient from flat images or volumes.

    What it says of a patient is the mean of the probabilities of the patient's images; sensitivity, specificity and the
    area under the curve are of patients, since images of one patient are not independent.

    Args:
        network: From normalised images to one logit a class.
        train: To learn from.
        validation: To choose by.
        recipe: How.
        classes: What the numbers stand for.
        size: Every side of the images, as the network gets them.
        seed: Of everything random.
        new: See :class:`~foveate.train.task.Task`.
        weighted: Whether rare classes weigh more in the loss, by how rare they are.
        mirror: Whether images are mirrored by chance.

    Raises:
        OptionError: If a number is out of its range.
        MissingExtraError: If MONAI is not installed.
    """

    kind: ClassVar[str] = "medical classification"
    watched: ClassVar[str] = "balanced_accuracy"

    def __init__(
        self,
        network: nn.Module,
        train: Cases,
        validation: Cases,
        recipe: Recipe,
        *,
        classes: Sequence[str],
        size: int = 64,
        seed: int = 0,
        new: tuple[str, ...] = (),
        weighted: bool = True,
        mirror: bool = True,
    ) -> None:
        image, _ = train[0]
        if image.ndim == 4 and recipe.channels_last:
            recipe = replace(recipe, channels_last=False)  # of PyTorch's formats that one is for flat maps
        super().__init__(network, train, validation, recipe, seed=seed, new=new)
        check_at_least("size", size, 1)
        self.classes, self.size_ = tuple(classes), (size,) * (image.ndim - 1)
        self.whole = Whole(self.size_, mirror=mirror)
        labels = [int(train[number][1].truth) for number in range(len(train))]
        counts = [labels.count(number) for number in range(len(self.classes))]
        self.register_buffer("weights", balance(counts, 1.0) if weighted else None, persistent=False)

    def prepare(self, sample: tuple[Tensor, Target], draw: torch.Generator | None) -> tuple[Tensor, Target]:
        """The image at its size, changed by chance in training."""
        image, target = sample
        image = resized(normalised(image), self.size_)
        return image if draw is None else self.whole(image, draw), target

    def collate(self, samples: list[tuple[Tensor, Target]]) -> Batch:
        """Images of one size, and targets."""
        return torch.stack([image for image, _ in samples]), [target for _, target in samples]

    def step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Cross-entropy, and logits."""
        logits = self.network(batch[0]).float()
        labels = torch.stack([target.truth for target in batch[1]]).to(logits.device)
        weights: Any = self.weights
        return F.cross_entropy(logits, labels, weight=weights), logits

    def new_metrics(self, split: str) -> Mapping[str, Metric]:
        """Accuracy of images; in validation what is said of every patient."""
        found: dict[str, Metric] = {
            "accuracy": MulticlassAccuracy(len(self.classes), average="micro", validate_args=False)
        }
        return found if split == "train" else {**found, "rows": Rows()}

    def count(self, metrics: Mapping[str, Metric], said: Tensor, batch: Batch) -> None:
        """Count one batch."""
        labels = torch.stack([target.truth for target in batch[1]]).to(said.device)
        metrics["accuracy"].update(said.detach(), labels)
        if "rows" in metrics:
            for shares, label, target in zip(said.detach().softmax(1), labels, batch[1], strict=True):
                metrics["rows"].update(torch.stack([shares.new_tensor(target.subject), label.to(shares), *shares]))

    def read(self, metrics: Mapping[str, Metric]) -> dict[str, float]:
        """Accuracy of images; of patients the mean recall of the classes, and the area under the curve."""
        found = {"accuracy": float(metrics["accuracy"].compute())}
        if "rows" in metrics:
            labels, shares = self._of_patients = of_patients(metrics["rows"].compute().cpu())
            right = shares.argmax(1) == labels
            recalls = [right[labels == number].float().mean() for number in labels.unique().tolist()]
            found["balanced_accuracy"] = float(torch.stack(recalls).mean())
            found["auroc"] = auroc(shares, labels)
        return found

    def details(self) -> dict[str, Any]:
        """Sensitivity and specificity for each class against the others, with Wilson's intervals over patients."""
        labels, shares = self._of_patients
        said = shares.argmax(1)
        found: dict[str, Any] = {}
        for number, name in enumerate(self.classes):
            there, told = labels == number, said == number
            found[name] = {
                "sensitivity": share(int((there & told).sum()), int(there.sum())),
                "specificity": share(int((~there & ~told).sum()), int((~there).sum())),
            }
        return {"classes": found, "patients": len(labels), "lines": table(found, "Shares of patients, Wilson's 95 %")}

    def prepared_example(self) -> tuple[Tensor]:
        """One image."""
        return (self.prepare(self.samples[1][0], None)[0][None],)


def of_patients(rows: Float[Tensor, "n columns"]) -> tuple[Tensor, Float[Tensor, "patients classes"]]:
    """The label of each patient, and the mean of what was said of the patient's images.

    Example:
        >>> of_patients(torch.tensor([[7, 1, 0.5, 0.5], [7, 1, 0.1, 0.9], [8, 0, 1.0, 0.0]]))[1]
        tensor([[0.3000, 0.7000],
                [1.0000, 0.0000]])
    """
    numbers, where = rows[:, 0].unique(return_inverse=True)
    mean = torch.stack([rows[where == number, 1:].mean(0) for number in range(len(numbers))])
    return mean[:, 0].round().long(), mean[:, 1:]


def auroc(shares: Float[Tensor, "n classes"], labels: Tensor) -> float:
    """Area under the receiver operating curve, the mean over classes against the others that are there and not alone.

    Example:
        >>> auroc(torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.6, 0.4]]), torch.tensor([0, 1, 1]))
        1.0
    """
    curve = imported("monai.metrics").compute_roc_auc
    there = [number for number in range(shares.shape[1]) if 0 < int((labels == number).sum()) < len(labels)]
    areas = [float(curve(shares[:, number], (labels == number).float())) for number in there]
    return sum(areas) / len(areas) if areas else float("nan")
