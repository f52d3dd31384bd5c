"""What is counted of medical predictions, and how sure it is."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from foveate.data.medical.scans import imported

SURE = 0.95
FOUND = 0.5  # the share of a connected area that must be said for it to count as found
RESAMPLES = 2000
COLUMNS = ("dice", "hd95", "hit", "missed", "false", "rest")


class Rows(Metric):
    """Rows of numbers in the order in which they came."""

    full_state_update = False
    rows: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    def update(self, row: Float[Tensor, ...]) -> None:
        """Another row."""
        self.rows.append(row[None])

    def compute(self) -> Float[Tensor, "n ..."]:
        """All of them."""
        return dim_zero_cat(self.rows)


def compared(
    said: Int64[Tensor, ...], truth: Int64[Tensor, ...], spacing: Sequence[float], classes: int
) -> Float[Tensor, "foreground six"]:
    """A row for each class but the background: Dice, HD95, and the four counts of positions, float64.

    HD95 is the larger of the two directed 95 % percentiles of the distances between the surfaces. Dice is no number
    where the class is not there, and HD95 where it is not there or not said; see :func:`silent`.

    Example:
        >>> square = torch.zeros(8, 8, dtype=torch.int64)
        >>> square[2:4, 2:4] = 1
        >>> compared(square.roll(1, 1), square, (1.0, 2.0), 2).tolist()
        [[0.5, 2.0, 2.0, 2.0, 2.0, 58.0]]
    """
    metrics = imported("monai.metrics")
    numbers = torch.arange(1, classes).reshape(-1, *(1,) * said.ndim).to(said.device)
    a, b = (said[None] == numbers), (truth[None] == numbers)
    counts = [(x & y).flatten(1).sum(1) for x, y in ((a, b), (~a, b), (a, ~b), (~a, ~b))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that are not there, which is what no number says
        dice = metrics.compute_dice(a[None].float(), b[None].float())[0]
        distance = metrics.compute_hausdorff_distance(
            a[None].float(), b[None].float(), include_background=True, percentile=95, spacing=list(spacing)
        )[0]
    distance = distance.masked_fill(~distance.isfinite(), math.nan)
    return torch.stack([dice.cpu().double(), distance.cpu().double(), *(one.cpu().double() for one in counts)], 1)


def silent(rows: Float[Tensor, "n foreground six"]) -> int:
    """How often a class was there and nothing of it was said, or said and not there: HD95 is no number then."""
    hit, missed, false = rows[..., 2], rows[..., 3], rows[..., 4]
    there, told = hit + missed > 0, hit + false > 0
    return int((there != told).sum())


def areas(said: Int64[Tensor, ...], truth: Int64[Tensor, ...], number: int) -> tuple[int, int]:
    """How many connected areas of a class were found, at least half of each, and how many there are.

    Example:
        >>> areas(torch.tensor([[1, 0, 0, 0, 0]]), torch.tensor([[1, 1, 0, 1, 1]]), 1)
        (1, 2)
    """
    import numpy as np

    ndimage = imported("scipy.ndimage")
    there = (truth == number).cpu().numpy()
    labels, count = ndimage.label(there, structure=np.ones((3,) * there.ndim))
    if not count:
        return 0, 0
    shares = ndimage.mean((said == number).cpu().numpy(), labels, index=range(1, count + 1))
    return int((np.asarray(shares) >= FOUND).sum()), int(count)


def share(hits: int, of: int) -> dict[str, Any]:
    """A share with Wilson's 95 % interval (1927), for counts that are independent.

    Example:
        >>> found = share(9, 10)
        >>> found["value"], round(found["low"], 3), round(found["high"], 3)
        (0.9, 0.596, 0.982)
    """
    if of == 0:
        return {"value": None, "low": None, "high": None, "hits": 0, "of": 0}
    low, high = imported("scipy.stats").binomtest(hits, of).proportion_ci(SURE, method="wilson")
    return {"value": hits / of, "low": float(low), "high": float(high), "hits": hits, "of": of}


def mean(values: Sequence[float], patients: Sequence[int]) -> dict[str, Any]:
    """A mean over patients, each the mean of its cases, with a 95 % bootstrap interval over patients.

    What is no number is left out.

    Example:
        >>> mean([1.0, 1.0, 0.0], [7, 7, 8])["value"]
        0.5
    """
    import numpy as np

    by_patient: dict[int, list[float]] = {}
    for value, patient in zip(values, patients, strict=True):
        if math.isfinite(value):
            by_patient.setdefault(patient, []).append(value)
    means = np.array([sum(ones) / len(ones) for ones in by_patient.values()])
    found: dict[str, Any] = {"value": None, "low": None, "high": None, "patients": len(means)}
    if len(means):
        found["value"] = float(means.mean())
    if len(means) > 1:
        drawn = np.random.default_rng(0).integers(len(means), size=(RESAMPLES, len(means)))
        low, high = np.quantile(means[drawn].mean(1), [(1 - SURE) / 2, (1 + SURE) / 2])
        found |= {"low": float(low), "high": float(high)}
    return found


def balance(counts: Sequence[int], power: float) -> Float[Tensor, " classes"]:
    """Weights that fall with how often a class is there, 1 in the mean; a class that is not there has none.

    Example:
        >>> balance([90, 10, 0], 0.5)
        tensor([0.5000, 1.5000, 0.0000])
    """
    often = torch.tensor(counts, dtype=torch.float64)
    weights = torch.where(often > 0, often.clamp_min(1) ** -power, 0.0)
    return (weights / weights.sum() * (often > 0).sum()).float()
