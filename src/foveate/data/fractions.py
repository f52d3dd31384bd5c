"""Parts of a training split, smaller ones inside larger ones: what a learning curve is made of."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeVar

from foveate.data.boxes.detection import Boxes, BoxImages
from foveate.data.classification import Images
from foveate.data.masks.segmentation import MaskedImages
from foveate.data.medical.data import Cases
from foveate.errors import OptionError, check_at_least

Split = TypeVar("Split", Images, MaskedImages, BoxImages, Cases)


def fraction(samples: Split, share: float, seed: int = 0) -> Split:
    """A part of a split: a function of seed and names, and inside every larger part of the same seed.

    Images are taken class by class, at least one of each; images with boxes by the rarest class on each; patients
    whole, by their class or by whether anything is marked on them. Masks are not read for it: images with masks are
    taken as they come.

    Args:
        samples: One of the splits of our data.
        share: Of each class, above 0, at most 1; rounded to whole images or patients.
        seed: Another seed is another part.

    Raises:
        OptionError: If there is no such share or seed.

    Example:
        >>> from foveate.data import fashion_mnist
        >>> train = fashion_mnist().train
        >>> tenth, half = fraction(train, 0.1), fraction(train, 0.5)
        >>> len(tenth), tenth.labels.bincount().tolist()[:3], set(tenth.names) < set(half.names)
        (180, [18, 18, 18], True)
    """
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise OptionError(f"the share of the samples must be above 0 and at most 1, not {share!r}")
    check_at_least("seed", seed, 0)
    units, strata = _units(samples)
    members: dict[Any, list[int]] = {}
    for position, unit in enumerate(units):
        members.setdefault(unit, []).append(position)
    by_stratum: dict[Any, list[Any]] = {}
    for unit, positions in members.items():
        by_stratum.setdefault(max(strata[one] for one in positions), []).append(unit)
    taken: list[int] = []
    for ones in by_stratum.values():
        ordered = sorted(ones, key=lambda unit: hashlib.sha256(f"{seed}/{unit}".encode()).digest())
        # half a unit is one; a small part added, as 0.15 * 10 is below 1.5
        count = max(1, int(share * len(ones) + 0.5 + 1e-9))
        taken += [position for unit in ordered[:count] for position in members[unit]]
    return samples.take(sorted(taken))


def _units(samples: Images | MaskedImages | BoxImages | Cases) -> tuple[Sequence[Any], Sequence[int]]:
    """What belongs together, and what is to be there in its share, by sample."""
    if isinstance(samples, Cases):
        marked = [
            int(there) if label is None else label
            for label, there in zip(samples.labels, samples.foreground, strict=True)
        ]
        return samples.patients, marked
    copies = Counter[str]()
    units: list[str] = []
    for name in samples.names:  # names are not always different
        units.append(f"{name}/{copies[name]}")
        copies[name] += 1
    if isinstance(samples, Images):
        return units, samples.labels.tolist()
    if isinstance(samples, BoxImages):
        return units, _rarest(samples.boxes)
    return units, [0] * len(units)


def _rarest(boxes: Sequence[Boxes]) -> list[int]:
    """The class on each image that is on fewest images; -1 where there is none."""
    there = [sorted(set(one.labels[~one.crowd].tolist())) for one in boxes]
    counts = Counter(label for labels in there for label in labels)
    return [min(labels, key=lambda label: (counts[label], label), default=-1) for labels in there]
