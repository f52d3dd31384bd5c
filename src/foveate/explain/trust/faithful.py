"""Whether a network's answer hangs on what maps mark: curves of several maps on the same images, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from foveate.errors import OptionError
from foveate.explain.focus import centre_bias
from foveate.explain.scores import Score, class_probability
from foveate.explain.trust.curves import Curve, Maps, deletion, insertion, road
from foveate.explain.trust.effect import Effect, effect, paired

# which way is better
BETTER = {
    "deletion_blur": -1,
    "deletion_mean": -1,
    "insertion_blur": 1,
    "insertion_mean": 1,
    "road": 1,
}


@dataclass(frozen=True)
class Faithful:
    """Curves of several maps.

    Attributes:
        values: By map and measure, one value an image: the area of a curve, or ROAD's difference; :data:`BETTER` says
            which way is good. Among the maps are ``"centre"`` and ``"uniform"``, which is a random order.
        curves: By map and measure, where there are curves.
    """

    values: Mapping[str, Mapping[str, tuple[float, ...]]]
    curves: Mapping[str, Mapping[str, Curve]]

    def mean(self, which: str, measure: str) -> Effect:
        """Over the images."""
        return effect(self.values[which][measure])

    def beyond(self, which: str, measure: str, other: str = "uniform") -> Effect:
        """By how much a map is better than another on the same images, whichever way is good."""
        found = paired(self.values[which][measure], self.values[other][measure])
        if BETTER[measure] > 0:
            return found
        return Effect(-found.mean, -found.high, -found.low, found.count)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON, with the mean curves."""
        return {
            which: {
                measure: {
                    **self.mean(which, measure).as_dict(),
                    "better": "higher" if BETTER[measure] > 0 else "lower",
                    "values": list(values),
                    **self._curve(which, measure),
                }
                for measure, values in found.items()
            }
            for which, found in self.values.items()
        }

    def _curve(self, which: str, measure: str) -> dict[str, Any]:
        curve = self.curves[which].get(measure)
        if curve is None:
            return {}
        return {"shares": curve.shares.tolist(), "curve": curve.scores.mean(0).tolist()}


def faithful(
    network: nn.Module,
    images: Tensor,
    targets: Sequence[Any],
    maps: Mapping[str, Maps],
    *,
    score: Score = class_probability,
    steps: int = 20,
    with_road: bool = True,
    batch_size: int = 32,
) -> Faithful:
    """Deletion and insertion with both baselines, and ROAD, of several maps, of the image's middle, and of none.

    Args:
        network: From images to answers.
        images: As the network takes them.
        targets: What is asked about each.
        maps: By name, one map an image each.
        score: What is read.
        steps: Of the curves.
        with_road: Whether ROAD is measured, which takes about ten seconds an image of 224 pixels.
        batch_size: How many changed images go through the network at once.

    Raises:
        OptionError: If names are taken, or images, targets and maps do not pair.
        MissingExtraError: If grad-cam is not installed, for ROAD.

    Example:
        >>> network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> image = torch.arange(64.0).reshape(1, 1, 8, 8)
        >>> maps = {"image": image[:, 0]}
        >>> found = faithful(network, image, [0], maps, score=lambda said, _: said[0], with_road=False)
        >>> found.beyond("image", "deletion_mean").mean > 0
        True
    """
    if {"centre", "uniform"} & set(maps):
        raise OptionError("'centre' and 'uniform' are maps that are always measured: call yours otherwise")
    height, width = images.shape[2:]
    known = {
        "centre": centre_bias(height, width).expand(len(images), -1, -1),
        "uniform": torch.ones(len(images), height, width),
    }
    values: dict[str, dict[str, tuple[float, ...]]] = {}
    curves: dict[str, dict[str, Curve]] = {}
    for name, one in {**maps, **known}.items():
        curves[name] = {
            f"{what}_{baseline}": curve(
                network, images, targets, one, baseline=baseline, steps=steps, score=score, batch_size=batch_size
            )
            for what, curve in (("deletion", deletion), ("insertion", insertion))
            for baseline in ("blur", "mean")
        }
        values[name] = {measure: tuple(curve.areas.tolist()) for measure, curve in curves[name].items()}
        if with_road:
            found = road(network, images, targets, one, score=score, batch_size=batch_size)
            values[name]["road"] = tuple(found.values.tolist())
    return Faithful(values, curves)
