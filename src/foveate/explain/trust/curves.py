"""What a network still says as pixels come and go in the order of a map: insertion, deletion, ROAD.

One way in all of them. A map is brought to the image's size (:func:`~foveate.explain.heat.spread`). Its pixels are
ordered by value; those of equal value come in an order drawn once for every size of image, the same for all images
and maps, so that a map that is the same everywhere is a random order and no corner is favoured. Then a
growing share of pixels is removed, and a score is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from foveate.data.chance import generator
from foveate.errors import OptionError, check_at_least, check_choice
from foveate.explain.at_rest import at_rest
from foveate.explain.heat import spread
from foveate.explain.scores import Score, answers, as_many, class_probability
from foveate.explain.trust.fills import Baseline, Fill, imputed, replaced_by

Images = Float[Tensor, "n c h w"] | Sequence[Float[Tensor, "c _ _"]]
Maps = Float[Tensor, "n _ _"] | Sequence[Float[Tensor, "_ _"]]
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class Curve:
    """Scores along a growing share of pixels.

    Attributes:
        shares: The shares, ascending.
        scores: One row an image.
    """

    shares: Float[Tensor, " steps"]
    scores: Float[Tensor, "n steps"]

    @property
    def areas(self) -> Float[Tensor, " n"]:
        """The mean height of each image's curve: the area by trapezoids over the width."""
        return torch.trapezoid(self.scores, self.shares, dim=1) / (self.shares[-1] - self.shares[0])


@dataclass(frozen=True)
class Road:
    """Both directions of remove-and-debias.

    Attributes:
        most: What is left where the most marked pixels are removed.
        least: Where the least marked are removed.
    """

    most: Curve
    least: Curve

    @property
    def values(self) -> Float[Tensor, " n"]:
        """Half of what the two differ by, on average over the shares: 0 for a map that says nothing, more is better."""
        return (self.least.scores.mean(1) - self.most.scores.mean(1)) / 2


def deletion(
    network: nn.Module,
    images: Images,
    targets: Sequence[Any],
    maps: Maps,
    *,
    baseline: Baseline = "blur",
    steps: int = 20,
    score: Score = class_probability,
    batch_size: int = 32,
) -> Curve:
    """Scores while pixels disappear, the most marked first (RISE, Petsiuk et al., BMVC 2018); a low area is good.

    Args:
        network: From images to answers; see :func:`~foveate.explain.scores.answers`.
        images: As the network takes them.
        targets: What is asked about each image, as the score wants it.
        maps: One an image, of any size.
        baseline: What is seen in place of a removed pixel; see :func:`~foveate.explain.trust.fills.replaced_by`.
        steps: How many shares there are from 0 to 1, without 0.
        score: What is read; the probability of the target's class.
        batch_size: How many changed images go through the network at once.

    Raises:
        OptionError: If images, targets and maps do not pair, or an option cannot work.
        FoveateError: If a map is not finite, or the answers cannot be read.

    Example:
        >>> network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> image, score = torch.tensor([[[[8.0, 0.0]]]]), lambda answer, _: answer[0]
        >>> deletion(network, image, [0], image[:, 0], baseline="mean", steps=2, score=score).scores.tolist()
        [[4.0, 2.0, 4.0]]
    """
    plan = _plan(replaced_by(baseline), "first", _shares(steps), score, batch_size)
    return _swept(network, images, targets, maps, plan)


def insertion(
    network: nn.Module,
    images: Images,
    targets: Sequence[Any],
    maps: Maps,
    *,
    baseline: Baseline = "blur",
    steps: int = 20,
    score: Score = class_probability,
    batch_size: int = 32,
) -> Curve:
    """Scores while pixels appear on the baseline, the most marked first; a high area is good.

    Arguments and errors as of :func:`deletion`. The first score is that of the baseline alone.

    Example:
        >>> network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> image, score = torch.tensor([[[[8.0, 0.0]]]]), lambda answer, _: answer[0]
        >>> insertion(network, image, [0], image[:, 0], baseline="mean", steps=2, score=score).scores.tolist()
        [[4.0, 6.0, 4.0]]
    """
    shares = _shares(steps)
    # where a share of the most marked has appeared, the least marked are still removed
    plan = _plan(replaced_by(baseline), "last", 1 - shares, score, batch_size)
    return Curve(shares, _swept(network, images, targets, maps, plan).scores)


def road(
    network: nn.Module,
    images: Images,
    targets: Sequence[Any],
    maps: Maps,
    *,
    shares: Sequence[float] = SHARES,
    score: Score = class_probability,
    batch_size: int = 32,
) -> Road:
    """Remove and debias (Rong et al., ICML 2022): removed pixels are imputed, so that their shape tells nothing.

    Arguments and errors as of :func:`deletion`, and ``shares``, of the pixels that are removed. The imputation is that
    of the package `grad-cam`; the order is ours, because there a map of many equal values, such as Grad-CAM's zeros,
    loses all pixels at once.

    Raises:
        MissingExtraError: If grad-cam is not installed.
    """
    if not shares or not all(0 < share < 1 for share in shares) or sorted(set(shares)) != list(shares):
        raise OptionError(f"shares to remove ascend between 0 and 1, both excluded, not {list(shares)}")
    along = torch.tensor(list(shares), dtype=torch.float64)
    first, last = (
        _swept(network, images, targets, maps, _plan(imputed(), which, along, score, batch_size))
        for which in ("first", "last")
    )
    return Road(first, last)


def ordered(heat: Float[Tensor, "h w"]) -> Int64[Tensor, "h w"]:
    """The rank of every pixel of a map, 0 for the highest; those of equal value in an order drawn for the size.

    Example:
        >>> ordered(torch.tensor([[1.0, 3.0, 2.0]]))
        tensor([[2, 0, 1]])
    """
    height, width = heat.shape
    drawn = torch.randperm(height * width, generator=generator("ties", height, width))
    order = drawn[heat.flatten()[drawn].sort(descending=True, stable=True).indices]
    ranks = torch.empty_like(order)
    ranks[order] = torch.arange(len(order))
    return ranks.reshape(heat.shape)


@dataclass(frozen=True)
class _Plan:
    fill: Fill
    which: Literal["first", "last"]
    shares: Tensor
    score: Score
    batch_size: int


def _plan(fill: Fill, which: Any, shares: Tensor, score: Score, batch_size: int) -> _Plan:
    check_choice("which pixels go", which, ("first", "last"))
    check_at_least("batch_size", batch_size, 1)
    return _Plan(fill, which, shares, score, batch_size)


def _shares(steps: int) -> Tensor:
    check_at_least("steps", steps, 1)
    return torch.linspace(0, 1, steps + 1, dtype=torch.float64)


def _swept(network: nn.Module, images: Images, targets: Sequence[Any], maps: Maps, plan: _Plan) -> Curve:
    as_many(images, targets)
    as_many(images, maps, "maps")
    rows: list[Tensor] = []
    with at_rest(network) as quiet:
        for image, target, one in zip(images, targets, maps, strict=True):
            if image.ndim != 3:
                raise OptionError(f"an image is (channels, height, width), not {tuple(image.shape)}")
            ranks = ordered(spread([one], (image.shape[1], image.shape[2]))[0]).to(image.device)
            scores: list[Tensor] = []
            for changed in _batches(image, ranks, plan):
                scores += [plan.score(answer, target).detach() for answer in answers(quiet, changed)]
            rows.append(torch.stack(scores).double().cpu())
    return Curve(plan.shares, torch.stack(rows))


def _batches(image: Tensor, ranks: Tensor, plan: _Plan) -> Iterator[Tensor]:
    counts = (plan.shares * ranks.numel()).round().long().tolist()
    for start in range(0, len(counts), plan.batch_size):
        yield torch.stack([plan.fill(image, _removed(ranks, n, plan.which)) for n in counts[start:][: plan.batch_size]])


def _removed(ranks: Tensor, count: int, which: str) -> Tensor:
    return ranks < count if which == "first" else ranks >= ranks.numel() - count
