"""Whether maps mark what a person marked, beside maps that know nothing of the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from foveate.errors import FoveateError
from foveate.explain.focus import centre_bias, mass_inside, pointing_hit, rank_accuracy
from foveate.explain.heat import spread
from foveate.explain.scores import as_many
from foveate.explain.trust.curves import Maps
from foveate.explain.trust.effect import Effect, effect, paired

# of the shorter side: the 15 pixels that the pointing game allows on its images of about 375
TOLERANCE = 0.04
MEASURES = ("pointing_hit", "mass_inside", "rank_accuracy")


@dataclass(frozen=True)
class Pointing:
    """The measures of :mod:`foveate.explain.focus` over images that have a region, for several maps.

    Attributes:
        values: By map and measure, one value an image; :data:`MEASURES`. Among the maps are ``"centre"``, a Gaussian
            in the middle, and ``"uniform"``.
        images: Numbers of the images that are counted: a region, something else, and mass in every map.
    """

    values: Mapping[str, Mapping[str, tuple[float, ...]]]
    images: tuple[int, ...]

    def mean(self, which: str, measure: str) -> Effect:
        """Over the images."""
        return effect(self.values[which][measure])

    def beyond(self, which: str, measure: str, other: str = "centre") -> Effect:
        """The mean difference to another map on the same images."""
        return paired(self.values[which][measure], self.values[other][measure])

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        means = {
            which: {
                measure: {**self.mean(which, measure).as_dict(), "values": list(values)}
                for measure, values in found.items()
            }
            for which, found in self.values.items()
        }
        return {"maps": means, "images": list(self.images)}


def pointing(
    maps: Mapping[str, Maps], regions: Sequence[Bool[Tensor, "_ _"]], *, tolerance: float = TOLERANCE
) -> Pointing:
    """Measure maps against regions of the images, with a Gaussian in the middle and an even map beside them.

    Maps are brought to the regions' size, as everywhere (:func:`~foveate.explain.heat.spread`).

    Args:
        maps: By name, one map an image each, from 0.
        regions: Masks, or boxes as :func:`~foveate.explain.focus.inside_boxes` makes masks of them, as large as the
            images.
        tolerance: How far outside a hit still counts, as a share of the shorter side.

    Raises:
        FoveateError: If no image has a region and something beside it.
        OptionError: If maps and regions do not pair.

    Example:
        >>> region = torch.zeros(8, 8, dtype=torch.bool)
        >>> region[2:4, 2:4] = True
        >>> found = pointing({"mine": [region.float()]}, [region])
        >>> [(one, found.mean(one, "mass_inside").mean) for one in ("mine", "uniform")]
        [('mine', 1.0), ('uniform', 0.0625)]
    """
    names = [*maps, "centre", "uniform"]
    found: dict[str, dict[str, list[float]]] = {name: {measure: [] for measure in MEASURES} for name in names}
    counted: list[int] = []
    for one in maps.values():
        as_many(regions, one, "maps")
    for number, region in enumerate(regions):
        size = (region.shape[0], region.shape[1])
        seen = {name: spread([one[number]], size)[0] for name, one in maps.items()}
        seen |= {"centre": centre_bias(*size), "uniform": torch.ones(size)}
        inside = region.cpu().bool()
        values = {name: _measured(one, inside, tolerance * min(size)) for name, one in seen.items()}
        if any(value is None for measured in values.values() for value in measured.values()):
            continue
        counted.append(number)
        for name, measured in values.items():
            for measure, value in measured.items():
                found[name][measure].append(float(value or 0.0))
    if not counted:
        raise FoveateError(f"none of the {len(regions)} images has a region, something beside it, and maps with mass")
    told = {name: {measure: tuple(values) for measure, values in by.items()} for name, by in found.items()}
    return Pointing(told, tuple(counted))


def _measured(heat: Tensor, inside: Tensor, tolerance: float) -> dict[str, float | None]:
    return {
        "pointing_hit": pointing_hit(heat, inside, tolerance=tolerance),
        "mass_inside": mass_inside(heat, inside),
        "rank_accuracy": rank_accuracy(heat, inside),
    }
