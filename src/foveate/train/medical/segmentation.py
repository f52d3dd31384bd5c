"""Segmentation of medical images: the class of every position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric

from foveate.attention import maps_of
from foveate.data.medical.data import Cases, Target
from foveate.data.medical.scans import imported
from foveate.errors import OptionError, check_at_least
from foveate.explain.focus import lesion_focus
from foveate.surgery import attached
from foveate.train.medical.changes import Crops, normalised
from foveate.train.medical.counting import Rows, areas, balance, compared, mean, share, silent
from foveate.train.medical.telling import told
from foveate.train.medical.windows import STEP, said_of
from foveate.train.recipe import Recipe
from foveate.train.task import Task

Batch = tuple[Any, list[Target]]


class MedicalSegmentation(Task):
    """A network that learns the class of every position of flat images or volumes.

    It is trained on windows, half of them around foreground, mirrored, turned and lit differently by chance, with
    Dice and cross-entropy (MONAI's ``DiceCELoss``, Dice of the foreground). It is judged on whole images, window by
    window: Dice and HD95 a case.

    Args:
        network: From normalised windows to a logit a class and position.
        train: To learn from.
        validation: To choose by.
        recipe: How.
        classes: What the numbers stand for; 0 is the background.
        size: A side of the windows to learn from; the network must take it.
        window: The longest side of the windows in which whole images are judged; twice ``size``, if ``None``. Networks
            that normalise each window by itself, as MONAI's do, see noise as structure in windows without any.
        seed: Of everything random.
        new: See :class:`~foveate.train.task.Task`.
        foreground: Share of the windows with foreground in their middle.
        weighted: Whether rare classes weigh more in the loss, by the root of how rare they are.
        mirror: Whether windows are mirrored, where the sides of a patient do not matter.
        unit: Of the samples' spacings.

    Raises:
        OptionError: If a number is out of its range.
        MissingExtraError: If MONAI is not installed.
    """

    kind: ClassVar[str] = "medical segmentation"
    watched: ClassVar[str] = "dice"

    def __init__(
        self,
        network: nn.Module,
        train: Cases,
        validation: Cases,
        recipe: Recipe,
        *,
        classes: Sequence[str],
        size: int = 64,
        window: int | None = None,
        seed: int = 0,
        new: tuple[str, ...] = (),
        foreground: float = 0.5,
        weighted: bool = False,
        mirror: bool = True,
        unit: str = "mm",
    ) -> None:
        image, _ = train[0]
        if image.ndim == 4 and recipe.channels_last:
            recipe = replace(recipe, channels_last=False)  # of PyTorch's formats that one is for flat maps
        super().__init__(network, train, validation, recipe, seed=seed, new=new)
        check_at_least("size", size, 1)
        self.window = 2 * size if window is None else window
        check_at_least("window", self.window, STEP)
        if not 0 <= foreground <= 1:
            raise OptionError(f"foreground must be from 0 to 1, not {foreground}")
        self.classes, self.size_, self.channels = tuple(classes), (size,) * (image.ndim - 1), image.shape[0]
        self.crops = Crops(self.size_, foreground=foreground, change=True, mirror=mirror)
        self.cuts = Crops(self.size_, foreground=foreground, change=False, mirror=False)
        weights = balance(_frequencies(train, len(self.classes)), 0.5) if weighted else None
        self.criterion: Any = imported("monai.losses").DiceCELoss(
            to_onehot_y=True, softmax=True, include_background=False
        )
        self.criterion.cross_entropy.weight = weights
        self.unit, self._looking = unit, False
        self._focus: dict[str, list[tuple[float, int]]] = {}
        self._areas: list[list[tuple[int, int]]] = []

    def setup(self, stage: str) -> None:
        """Make the metrics; a last look finds out where attention lies, and what of each area is found."""
        super().setup(stage)
        self._looking = stage == "test"
        self._focus, self._areas = {}, []

    def prepare(self, sample: tuple[Tensor, Target], draw: torch.Generator | None) -> tuple[Tensor, Target]:
        """A window in training, the whole image otherwise."""
        return self._cut(sample, draw, self.crops)

    def collate(self, samples: list[tuple[Tensor, Target]]) -> Batch:
        """Images stacked where they have one size, a list otherwise, and targets."""
        images = [image for image, _ in samples]
        alike = len({image.shape for image in images}) == 1
        return torch.stack(images) if alike else images, [target for _, target in samples]

    def step(self, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        """The loss, and the logits of each case."""
        images, targets = batch
        if self.training:
            logits = self.network(images).float()
            truth = torch.stack([target.truth for target in targets])
            return self.criterion(logits, truth[:, None]), list(logits.detach())
        losses, said = list[Tensor](), list[Tensor]()
        for image, target in zip(images, targets, strict=True):
            looking = self._looking and bool(attached(self.network)) and bool(maps_of(self.network))
            logits, changes = said_of(self.network, image[None], self.window, attention=looking)
            losses.append(self.criterion(logits.float(), target.truth[None, None]))
            said.append(logits[0])
            if self._looking:
                self._look(logits[0].argmax(0), target, changes)
        return torch.stack(losses).mean(), said

    def new_metrics(self, split: str) -> Mapping[str, Metric]:
        """Dice; in validation everything that is counted of a case."""
        if split == "train":
            return {"dice": MeanMetric(nan_strategy="ignore")}
        return {"cases": Rows(), "patients": Rows()}

    def count(self, metrics: Mapping[str, Metric], said: list[Tensor], batch: Batch) -> None:
        """Count each case."""
        for logits, target in zip(said, batch[1], strict=True):
            if "dice" in metrics:
                metrics["dice"].update(_dice(logits.argmax(0), target.truth, len(self.classes)))
            else:
                row = compared(logits.argmax(0), target.truth, [float(s) for s in target.spacing], len(self.classes))
                metrics["cases"].update(row.to(logits.device))
                metrics["patients"].update(torch.tensor(float(target.subject), device=logits.device))

    def read(self, metrics: Mapping[str, Metric]) -> dict[str, float]:
        """Means over cases and classes; where a class is there and not said, or said and not there, HD95 is silent."""
        if "dice" in metrics:
            return {"dice": float(metrics["dice"].compute())}
        rows: Tensor = metrics["cases"].compute().cpu()
        self._rows, self._patients = rows, [int(one) for one in metrics["patients"].compute().tolist()]
        hit, missed, false, rest = rows[..., 2:].flatten(0, 1).unbind(1)
        return {
            "dice": float(rows[..., 0].nanmean()),
            "hd95": float(rows[..., 1].nanmean()),
            "hd95_silent": float(silent(rows)),
            "sensitivity": float((hit / (hit + missed)).nanmean()),
            "specificity": float((rest / (rest + false)).nanmean()),
        }

    def details(self) -> dict[str, Any]:
        """Each class with intervals over patients, areas found with Wilson's, and where attention lay."""
        found: dict[str, Any] = {}
        for number, name in enumerate(self.classes[1:], 1):
            rows = self._rows[:, number - 1]
            hit, missed, false, rest = rows[:, 2:].unbind(1)
            without = hit + missed == 0
            columns = {
                "dice": rows[:, 0],
                "hd95": rows[:, 1],
                "sensitivity": hit / (hit + missed),
                "specificity": rest / (rest + false),
            }
            found[name] = {key: mean(values.tolist(), self._patients) for key, values in columns.items()}
            found[name]["areas_found"] = share(
                *(sum(ones) for ones in zip(*(a[number - 1] for a in self._areas), strict=True))
            )
            found[name]["cases_without_it_told"] = share(int((without & (hit + false == 0)).sum()), int(without.sum()))
        focus = {place: mean([v for v, _ in ones], [p for _, p in ones]) for place, ones in self._focus.items()}
        return {"classes": found, "lesion_focus": focus, "lines": told(found, focus, self.unit)}

    def prepared_example(self) -> tuple[Tensor]:
        """One window."""
        return (torch.zeros(1, self.channels, *self.size_),)

    # inside

    def _plain(self, sample: tuple[Tensor, Target], draw: torch.Generator | None) -> tuple[Tensor, Target]:
        return self._cut(sample, draw, self.cuts)

    def _cut(self, sample: tuple[Tensor, Target], draw: torch.Generator | None, crops: Crops) -> tuple[Tensor, Target]:
        image, target = sample
        image = normalised(image)
        if draw is None:
            return image, target
        image, mask = crops(image, target.truth, draw)
        return image, target._replace(truth=mask)

    def _look(self, said: Tensor, target: Target, changes: Mapping[str, Tensor]) -> None:
        self._areas.append([areas(said, target.truth, number) for number in range(1, len(self.classes))])
        inside = (target.truth > 0).cpu()
        for place, change in changes.items():
            focus = lesion_focus(change.exp(), inside)
            if focus is not None:
                self._focus.setdefault(place, []).append((focus, target.subject))


def _frequencies(train: Cases, classes: int) -> list[int]:
    counts = torch.zeros(classes, dtype=torch.int64)
    for number in range(len(train)):
        counts += torch.bincount(train[number][1].truth.flatten(), minlength=classes)
    return counts.tolist()


def _dice(said: Tensor, truth: Tensor, classes: int) -> Tensor:
    numbers = torch.arange(1, classes, device=said.device).reshape(-1, *(1,) * said.ndim)
    a, b = ((one[None] == numbers).float()[None] for one in (said, truth))
    return imported("monai.metrics").compute_dice(a, b)[0]
