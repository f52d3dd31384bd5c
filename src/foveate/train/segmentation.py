"""Semantic segmentation: which of several classes each pixel of an image is of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.classification import MulticlassConfusionMatrix

from foveate.data.masks.segmentation import IGNORE, Pair
from foveate.data.samples import Samples
from foveate.errors import OptionError
from foveate.hosts.segmenters import answers
from foveate.train.cropping import centred, changed
from foveate.train.pixels import Normalise
from foveate.train.recipe import Recipe
from foveate.train.sliding import Windows
from foveate.train.task import Task

Batch = tuple[list[UInt8[Tensor, "3 h w"]], list[UInt8[Tensor, "h w"]]]
_LEAST = 1e-7  # of a probability, before its logarithm
_SOFT = 1.0  # what is added to both sides of a Dice coefficient, so that absent classes have one


class SemanticSegmentation(Task):
    """A network that learns to tell the class of every pixel.

    It trains on squares cut out of images that are scaled and mirrored by chance, and is judged on whole images, one
    after the other, through windows of the same size that overlap; what it says of a pixel is the mean of what it says
    in each window.

    Args:
        network: From normalised images to logits for every pixel; see :func:`~foveate.hosts.segmenters.answers`.
        train: To learn from: pairs of a byte image and the class of each of its pixels.
        validation: To choose by.
        recipe: How.
        classes: What the numbers stand for.
        crop: Height and width of what it trains on.
        normalise: From bytes to what the network expects; by default the statistics of ImageNet.
        seed: Of everything random.
        new: See :class:`~foveate.train.task.Task`.
        scale: By which factor images are made larger or smaller at most.
        colours: How far brightness, contrast and saturation are changed, as shares; 0 for not at all.
        dice: What the Dice loss (Milletari et al. 2016) is multiplied by, which is added to cross-entropy.
        auxiliary: What the loss of an auxiliary head is multiplied by while it trains; 0.4 in PSANet.
        class_weights: What the pixels of each class count in cross-entropy; all the same, if ``None``.

    Raises:
        OptionError: If a number is out of its range.
    """

    kind: ClassVar[str] = "segmentation"
    watched: ClassVar[str] = "miou"

    def __init__(
        self,
        network: nn.Module,
        train: Samples,
        validation: Samples,
        recipe: Recipe,
        *,
        classes: Sequence[str],
        crop: int,
        normalise: Normalise | None = None,
        seed: int = 0,
        new: tuple[str, ...] = (),
        scale: float = 2.0,
        colours: float = 0.0,
        dice: float = 0.0,
        auxiliary: float = 0.4,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(network, train, validation, recipe, seed=seed, new=new)
        if not 0 <= colours < 1:
            raise OptionError(f"colours must be from 0 to below 1, not {colours}")
        if not 1 <= scale <= 8:
            raise OptionError(f"scale must be from 1 to 8, not {scale}: 2 means from half to double")
        for name, value in (("dice", dice), ("auxiliary", auxiliary)):
            if not 0 <= value < float("inf"):
                raise OptionError(f"{name} must be a number from 0, not {value}")
        if class_weights is not None and len(class_weights) != len(classes):
            raise OptionError(f"there are {len(class_weights)} class_weights for {len(classes)} classes")
        self.classes, self.crop = tuple(classes), crop
        self.normalise = Normalise.usual(3) if normalise is None else normalise
        self.scale, self.colours, self.dice, self.auxiliary = scale, colours, dice, auxiliary
        weights = [1.0] * len(self.classes) if class_weights is None else list(class_weights)
        self.register_buffer("class_weights", torch.tensor(weights), persistent=False)

    def forward(self, pixels: UInt8[Tensor, "b 3 h w"]) -> tuple[Tensor, Tensor | None]:
        """Logits, and auxiliary logits, of every pixel."""
        return tuple(  # pyright: ignore[reportReturnType]
            None if logits is None else at_size(logits, (pixels.shape[2], pixels.shape[3]))
            for logits in answers(self.network(self.normalise(pixels)))
        )

    def prepare(self, sample: Pair, draw: torch.Generator | None) -> Pair:
        """A square of the image and its mask, by chance; or both whole."""
        if draw is None:
            return sample
        return changed(sample, self.crop, scale=self.scale, colours=self.colours, fill=self._fill(), draw=draw)

    def _plain(self, sample: Pair, draw: torch.Generator | None) -> Pair:  # noqa: ARG002
        return centred(sample, self.crop, self._fill())

    def collate(self, samples: list[Pair]) -> Batch:
        """Images and masks beside each other: they may differ in size."""
        return [pixels for pixels, _ in samples], [mask for _, mask in samples]

    def step(self, batch: Batch) -> tuple[Tensor, list[Int64[Tensor, "h w"]]]:
        """The loss, and the class that is said of each pixel of each image."""
        images, masks = batch
        if self.training:
            target = torch.stack(masks).long()
            logits, auxiliary = self(torch.stack(images))
            loss = self._loss(logits.log_softmax(1), target)
            if auxiliary is not None and self.auxiliary:
                loss = loss + self.auxiliary * self._loss(auxiliary.log_softmax(1), target)
            return loss, list(logits.detach().argmax(1))
        losses: list[Tensor] = []
        said: list[Tensor] = []
        for pixels, mask in zip(images, masks, strict=True):
            shares = shares_of(self.network, self.normalise, pixels, self.crop, self.recipe.batch_size)
            losses.append(self._loss(shares.clamp_min(_LEAST).log()[None], mask[None].long()))
            said.append(shares.argmax(0))
        return torch.stack(losses).mean(), said

    def new_metrics(self, split: str) -> Mapping[str, Metric]:  # noqa: ARG002
        """What is taken for what."""
        return {"confusion": MulticlassConfusionMatrix(len(self.classes), ignore_index=IGNORE, validate_args=False)}

    def count(self, metrics: Mapping[str, Metric], said: list[Int64[Tensor, "h w"]], batch: Batch) -> None:
        """Count every pixel that is of a class."""
        for classes, mask in zip(said, batch[1], strict=True):
            metrics["confusion"].update(classes.flatten(), mask.flatten().long())

    def read(self, metrics: Mapping[str, Metric]) -> dict[str, float]:
        """The mean over classes of intersection over union, and of the Dice coefficient; the share of right pixels."""
        if "confusion" not in metrics:
            return {}
        table: Int64[Tensor, "real said"] = metrics["confusion"].compute()
        self.confusion: list[list[int]] = table.int().tolist()
        union, dice = overlaps(table)
        there = ~union.isnan()
        right, all_ = table.diagonal().sum(), table.sum()
        return {
            "miou": float(union[there].mean()) if there.any() else float("nan"),
            "dice": float(dice[there].mean()) if there.any() else float("nan"),
            "accuracy": float(right / all_) if all_ else float("nan"),
        }

    def details(self) -> dict[str, Any]:
        """What was taken for what, and the overlap of each class."""
        union, dice = overlaps(torch.tensor(self.confusion))
        per_class = {
            name: {
                "pixels": sum(self.confusion[index]),
                "iou": float(union[index]),
                "dice": float(dice[index]),
            }
            for index, name in enumerate(self.classes)
        }
        return {"confusion": self.confusion, "classes": per_class}

    def prepared_example(self) -> tuple[Tensor]:
        """One normalised crop."""
        return (self.normalise(torch.zeros(1, 3, self.crop, self.crop, dtype=torch.uint8)),)

    def _loss(self, logs: Float[Tensor, "b c h w"], target: Int64[Tensor, "b h w"]) -> Tensor:
        weights: Any = self.class_weights
        there = target != IGNORE
        weight = weights[target[there]].sum().clamp_min(_LEAST)  # a crop may lie where no class is
        loss = F.nll_loss(logs, target, weight=weights, ignore_index=IGNORE, reduction="sum") / weight
        return loss + self.dice * dice_loss(logs.exp(), target) if self.dice else loss

    def _fill(self) -> list[int]:
        """The mean colour, which normalised is zero."""
        return [round(255 * value) for value in self.normalise.mean.flatten().tolist()]


def shares_of(
    network: nn.Module, normalise: Normalise, pixels: UInt8[Tensor, "3 h w"], crop: int, batch: int
) -> Float[Tensor, "classes h w"]:
    """How sure a network is of each class at each pixel of an image of any size, through windows that overlap.

    Args:
        network: In evaluation mode.
        normalise: From bytes to what it expects.
        pixels: The image.
        crop: Height and width of a window.
        batch: Windows at once.
    """
    windows = Windows.over(pixels.shape[1], pixels.shape[2], crop)
    seen = windows.cut(normalise(pixels[None])[0]).contiguous(memory_format=torch.channels_last)
    found = [at_size(answers(network(some))[0], (crop, crop)).softmax(1) for some in seen.split(batch)]
    return windows.merge(torch.cat(found))


def at_size(logits: Float[Tensor, "b c _ _"], size: tuple[int, int]) -> Float[Tensor, "b c h w"]:
    """Logits at the size of an image, in float32."""
    logits = logits.float()
    if logits.shape[2:] == size:
        return logits
    return F.interpolate(logits, size, mode="bilinear", align_corners=False)


def overlaps(table: Int64[Tensor, "real said"]) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"]]:
    """Intersection over union, and the Dice coefficient, of each class; no number where it is nowhere.

    Example:
        >>> overlaps(torch.tensor([[6, 1], [1, 0]]))
        (tensor([0.7500, 0.0000]), tensor([0.8571, 0.0000]))
    """
    both, real, said = table.diagonal().double(), table.sum(1).double(), table.sum(0).double()
    return (both / (real + said - both)).float(), (2 * both / (real + said)).float()


def dice_loss(shares: Float[Tensor, "b c h w"], target: Int64[Tensor, "b h w"]) -> Tensor:
    """One minus the Dice coefficient of probabilities and classes, the mean over the classes of the batch.

    Source: Milletari, Navab, Ahmadi, V-Net, 3DV 2016, with probabilities in place of their squares.

    Example:
        >>> target = torch.tensor([[[0, 1], [1, 255]]])
        >>> dice_loss(torch.full((1, 2, 2, 2), 0.5), target).item()
        0.3809...
    """
    there = (target != IGNORE)[:, None]
    real = F.one_hot(target.where(there[:, 0], 0), shares.shape[1]).movedim(-1, 1) * there
    shares = shares * there
    both, sizes = (shares * real).sum((0, 2, 3)), shares.sum((0, 2, 3)) + real.sum((0, 2, 3))
    return 1 - ((2 * both + _SOFT) / (sizes + _SOFT)).mean()
