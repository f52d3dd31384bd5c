"""How far probabilities can be believed, before and after temperature scaling."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from foveate.data.chance import generator
from foveate.errors import FoveateError, OptionError, check_at_least

BINS = 15
FINE = 4096  # bins of log-odds, from which bins of equal mass are made where there is no room for all confidences
LOWEST, HIGHEST = -8.0, 17.0  # log-odds; 1 less the largest float32 below 1 has -16.6
SMALLEST = 2.0**-126  # what a probability counts at least as in a logarithm: float32's smallest normal number
COLDEST, HOTTEST = 1e-2, 1e2
STEPS = 60
PIECE = 2**22  # numbers in hand at once


@dataclass(frozen=True)
class Calibration:
    """How far probabilities can be believed.

    Attributes:
        ece: Expected calibration error: the distance of confidence (the largest probability) and accuracy in 15 bins of
            equal width, the upper edge inside, weighted by how many fall into each (Guo et al. 2017, arXiv:1706.04599).
        adaptive_ece: The same in 15 bins of equal mass (Nixon et al. 2019, arXiv:1904.01685); what lies on an edge, or
            has equal confidence, is shared out evenly, so that the order does not matter.
        brier: Mean of the squared distance to what is true, summed over classes: from 0 to 2 (Brier 1950).
        nll: Mean negative logarithm of the probability of what is true, in nats.
        accuracy: Share for which the most probable class is true.
        count: Of how many.
    """

    ece: float
    adaptive_ece: float
    brier: float
    nll: float
    accuracy: float
    count: int


@dataclass(frozen=True)
class ScaledCalibration:
    """Calibration before and after temperature scaling.

    Attributes:
        plain: Of the probabilities as they are.
        scaled: Of those at ``temperature``, which was chosen on validation.
        temperature: What logits are divided by: above 1, the network was too sure of itself.
    """

    plain: Calibration
    scaled: Calibration
    temperature: float


def calibration_of(probabilities: Float[Tensor, "n classes"], labels: Int64[Tensor, " n"]) -> Calibration:
    """Calibration of probabilities that fit into memory.

    Args:
        probabilities: Rows that sum to 1.
        labels: The true class of each.

    Raises:
        FoveateError: If they are no such probabilities or labels.

    Example:
        >>> sure = torch.tensor([[0.8, 0.2]]).expand(10, 2)
        >>> found = calibration_of(sure, torch.tensor([0] * 6 + [1] * 4))
        >>> round(found.ece, 4), round(found.adaptive_ece, 4), round(found.brier, 4), found.accuracy
        (0.2, 0.2, 0.56, 0.6)
    """
    counts = CalibrationCounts()
    check_probabilities(probabilities, labels)
    counts.update(probabilities, labels)
    confidence, said = probabilities.double().max(1)
    _, place, size = confidence.unique(return_inverse=True, return_counts=True)
    sums = torch.zeros(3, len(size), dtype=torch.float64)
    sums[0], right = size, (said == labels).double()
    sums[1].index_add_(0, place, confidence)
    sums[2].index_add_(0, place, right)
    return counts.compute(groups=sums)


def scaled_calibration(
    validation: tuple[Float[Tensor, "m classes"], Int64[Tensor, " m"]],
    test: tuple[Float[Tensor, "n classes"], Int64[Tensor, " n"]],
) -> ScaledCalibration:
    """Calibration on test samples, and what it becomes at the temperature that suits the validation samples best.

    Args:
        validation: Probabilities and labels to choose the temperature by.
        test: Probabilities and labels to judge.

    Example:
        >>> sure = torch.tensor([[0.9, 0.1]]).expand(10, 2), torch.tensor([0] * 6 + [1] * 4)
        >>> found = scaled_calibration(sure, sure)
        >>> round(found.plain.ece, 3), round(found.scaled.ece, 3), round(found.temperature, 3)
        (0.3, 0.0, 5.419)
    """
    for probabilities, labels in (validation, test):
        check_probabilities(probabilities, labels)
    fit = TemperatureFit(most=max(1, len(validation[1])))
    fit.update(_logarithms(validation[0]), validation[1])
    temperature = fit.compute()
    scaled = F.softmax(_logarithms(test[0]) / temperature, 1)
    return ScaledCalibration(calibration_of(*test), calibration_of(scaled, test[1]), temperature)


class CalibrationCounts:
    """Calibration counted batch by batch, in memory that does not grow: for pixels, of which there are millions.

    Bins of equal mass are made from 4,096 bins of log-odds here: what falls into one of them counts as equally sure.

    Args:
        temperature: What logits are divided by.
        ignore: The number of positions that belong to no class and count for nothing.

    Example:
        >>> counts = CalibrationCounts(ignore=255)
        >>> logits = torch.tensor([0.9, 0.1]).log().view(1, 2, 1, 1).expand(1, 2, 2, 5)
        >>> counts.update_logits(logits, torch.tensor([[[0, 0, 0, 0, 255], [0, 1, 1, 1, 255]]]))
        >>> found = counts.compute()
        >>> round(found.ece, 4), found.count
        (0.275, 8)
    """

    def __init__(self, *, temperature: float = 1.0, ignore: int | None = None) -> None:
        self.temperature, self.ignore = temperature, ignore
        # how many, their confidence, how many of them right: by bin
        self.wide = torch.zeros(3, BINS, dtype=torch.float64)
        self.fine = torch.zeros(3, FINE, dtype=torch.float64)
        self.squares = self.logs = 0.0

    def update_logits(self, logits: Float[Tensor, "b classes *place"], labels: Tensor) -> None:
        """Count the positions of a batch: logits with the classes on the second axis, and the class of each."""
        for some, its in _pieces(logits, labels, self.ignore):
            self.update(F.softmax(some.double() / self.temperature, 1), its)

    def update(self, probabilities: Float[Tensor, "n classes"], labels: Int64[Tensor, " n"]) -> None:
        """Count probabilities, a row each."""
        shares = probabilities.detach().double()
        confidence, said = shares.max(1)
        right = (said == labels).double()
        rows = torch.stack([torch.ones_like(right), confidence, right]).cpu()
        wide = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
        self.wide.index_add_(1, wide.cpu(), rows)
        odds = torch.logit(confidence).clamp(LOWEST, HIGHEST)
        fine = ((odds - LOWEST) * ((FINE - 1) / (HIGHEST - LOWEST))).round().long()
        self.fine.index_add_(1, fine.cpu(), rows)
        of_truth = shares.gather(1, labels[:, None])[:, 0]
        self.squares += float((shares.square().sum(1) - 2 * of_truth + 1).sum())
        self.logs -= float(of_truth.clamp(min=SMALLEST).log().sum())

    def compute(self, groups: Float[Tensor, "3 groups"] | None = None) -> Calibration:
        """Everything counted so far.

        Args:
            groups: What is equally sure, in ascending order of confidence: how many, the sum of their confidence, how
                many of them are right. What was counted, if ``None``.

        Raises:
            FoveateError: If nothing was counted.
        """
        count = int(self.wide[0].sum())
        if not count:
            raise FoveateError("there is nothing to judge probabilities by: no sample, or all are left out")
        return Calibration(
            ece=float((self.wide[1] - self.wide[2]).abs().sum()) / count,
            adaptive_ece=_equal_mass(self.fine if groups is None else groups),
            brier=self.squares / count,
            nll=self.logs / count,
            accuracy=float(self.wide[2].sum()) / count,
            count=count,
        )


class TemperatureFit:
    """The temperature that suits some samples best (Guo et al. 2017), from as many of them as there is room for.

    The negative log-likelihood is convex in 1/T: where its slope is zero is found by halving, between 0.01 and 100.

    Args:
        most: How many positions are kept; of more, a random share, each as likely as any other.
        ignore: The number of positions that belong to no class.
        seed: Which.

    Example:
        >>> fit = TemperatureFit()
        >>> fit.update(torch.tensor([[2.0, 0.0]]).expand(10, 2), torch.tensor([0] * 7 + [1] * 3))
        >>> round(fit.compute(), 3) == round(2 / math.log(0.7 / 0.3), 3)
        True
    """

    def __init__(self, *, most: int = 100_000, ignore: int | None = None, seed: int = 0) -> None:
        check_at_least("most", most, 1)
        self.most, self.ignore = most, ignore
        self._draw, self._share = generator("temperature", seed), 1.0
        self._kept: list[tuple[Tensor, Tensor, Tensor]] = []
        self._count = 0

    def update(self, logits: Float[Tensor, "b classes *place"], labels: Tensor) -> None:
        """Take in a batch: logits with the classes on the second axis, and the class of each position."""
        for some, its in _pieces(logits, labels, self.ignore):
            chance = torch.rand(len(its), generator=self._draw)
            there = (chance < self._share).to(its.device)
            self._kept.append((some[there].detach().cpu(), its[there].cpu(), chance[there.cpu()]))
            self._count += int(there.sum())
            while self._count > self.most:
                self._share /= 2
                self._kept = [tuple(part[one[2] < self._share] for part in one) for one in self._kept]  # type: ignore[misc]
                self._count = sum(len(one[1]) for one in self._kept)

    def compute(self) -> float:
        """The temperature.

        Raises:
            FoveateError: If there is nothing to choose by.
        """
        if not self._count:
            raise FoveateError("there is nothing to choose a temperature by: no sample, or all are left out")
        logits = torch.cat([one[0] for one in self._kept]).double()
        labels = torch.cat([one[1] for one in self._kept])
        of_truth = logits.gather(1, labels[:, None])[:, 0].mean()
        low, high = math.log(COLDEST), math.log(HOTTEST)
        for _ in range(STEPS):
            middle = (low + high) / 2
            expected = (F.softmax(logits / math.exp(middle), 1) * logits).sum(1).mean()
            if expected > of_truth:  # too sure of itself
                low = middle
            else:
                high = middle
        return math.exp((low + high) / 2)


def check_probabilities(probabilities: Tensor, labels: Tensor) -> None:
    """Refuse what are no probabilities of classes and no classes.

    Raises:
        FoveateError: With what is wrong.

    Example:
        >>> check_probabilities(torch.tensor([[0.5, 0.5]]), torch.tensor([1]))
    """
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1]:
        shapes = f"{tuple(probabilities.shape)} and {tuple(labels.shape)}"
        raise OptionError(f"probabilities (n, classes) and labels (n,) are needed, not {shapes}")
    if not len(labels):
        raise FoveateError("there is nothing to judge probabilities by: no sample")
    sums = probabilities.double().sum(1)
    # a softmax in float16 sums to 1 but for 2**-11 a class
    if not bool((probabilities >= 0).all()) or float((sums - 1).abs().max()) > 2**-11 * probabilities.shape[1]:
        raise FoveateError("rows of probabilities are from 0 to 1 and sum to 1: take the softmax of logits first")
    if int(labels.min()) < 0 or int(labels.max()) >= probabilities.shape[1]:
        raise FoveateError(
            f"labels go from {int(labels.min())} to {int(labels.max())}, and there are probabilities of "
            f"{probabilities.shape[1]} classes"
        )


def _equal_mass(groups: Float[Tensor, "3 groups"]) -> float:
    """The calibration error in bins of equal mass, from groups that are equally sure, in ascending order."""
    sums = F.pad(groups[:, groups[0] > 0].cumsum(1), (1, 0))
    edges = torch.linspace(0, float(sums[0, -1]), BINS + 1, dtype=torch.float64)
    after = torch.searchsorted(sums[0], edges).clamp(1, sums.shape[1] - 1)
    along = (edges - sums[0, after - 1]) / (sums[0, after] - sums[0, after - 1])
    at_edges = sums[1:, after - 1] + along * (sums[1:, after] - sums[1:, after - 1])
    confidence, right = at_edges.diff(dim=1)
    return float((confidence - right).abs().sum() / sums[0, -1])


def _logarithms(probabilities: Tensor) -> Tensor:
    """Logits that have these probabilities."""
    return probabilities.double().clamp(min=SMALLEST).log()


def _pieces(logits: Tensor, labels: Tensor, ignore: int | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows of logits and their labels, what counts for nothing left out, so many at a time."""
    classes = logits.shape[1]
    for one, its in zip(logits, labels, strict=True):
        rows, classes_of = one.reshape(classes, -1).T, its.reshape(-1)
        step = max(1, PIECE // classes)
        for start in range(0, len(rows), step):
            some, truth = rows[start : start + step], classes_of[start : start + step].long()
            if ignore is not None:
                some, truth = some[truth != ignore], truth[truth != ignore]
            yield some, truth
