"""What is left of a score on corrupted images, by family, and beside that of a baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from foveate.errors import FoveateError

Scores = Mapping[tuple[str, int], float]


@dataclass(frozen=True)
class Robustness:
    """A summary over corruptions and strengths.

    Every mean is over strengths first and names then, so that each corruption counts as much as any other.

    Attributes:
        clean: The score on images as they are.
        mean: The mean corruption score: of all names and strengths.
        kept: ``mean`` over ``clean``; ``None`` if that is 0.
        families: The mean corruption score of each family.
        strengths: The mean of all names at each strength.
        relative_error: The mean relative corruption error: for each name, what is lacking to a score of 1, summed over
            strengths, over the same of the baseline; the mean of that over names. Below 1 is better than the baseline.
            ``None`` without a baseline, or where a baseline lacks nothing. It has the form of the mCE of Hendrycks and
            Dietterich (2019, arXiv:1903.12261) and is none: corruptions, baseline and scale (1, not 100) are others.
        relative_families: The same of each family.
    """

    clean: float
    mean: float
    kept: float | None
    families: Mapping[str, float]
    strengths: Mapping[int, float]
    relative_error: float | None
    relative_families: Mapping[str, float | None]


def robustness_of(
    scores: Scores, clean: float, families: Mapping[str, Sequence[str]], baseline: Scores | None = None
) -> Robustness:
    """Summarise scores, higher being better and 1 the best, such as accuracy, mean IoU or AP.

    Args:
        scores: By name and strength; every name at the same strengths.
        clean: On images as they are.
        families: The names of each family, as :data:`foveate.data.corruptions.FAMILIES`; those without a score are left
            out.
        baseline: The baseline's scores of the same names and strengths.

    Raises:
        FoveateError: If scores are missing, belong to no family, or are not numbers from 0 to 1.

    Example:
        >>> scores = {("fog", 1): 0.8, ("fog", 2): 0.6, ("snow", 1): 0.6, ("snow", 2): 0.4}
        >>> base = {("fog", 1): 0.7, ("fog", 2): 0.5, ("snow", 1): 0.6, ("snow", 2): 0.4}
        >>> found = robustness_of(scores, 0.9, {"weather": ("fog", "snow")}, base)
        >>> round(found.mean, 3), {k: round(v, 3) for k, v in found.strengths.items()}, round(found.relative_error, 3)
        (0.6, {1: 0.7, 2: 0.5}, 0.875)
    """
    names = list(dict.fromkeys(name for name, _ in scores))
    strengths = sorted({strength for _, strength in scores})
    _check(scores, clean, names, strengths, baseline)
    by_family = {family: [name for name in those if name in names] for family, those in families.items()}
    by_family = {family: those for family, those in by_family.items() if those}
    if strangers := sorted(set(names) - {name for those in by_family.values() for name in those}):
        raise FoveateError(f"corruptions that belong to no family: {', '.join(strangers)}")
    means = {name: _mean([scores[name, strength] for strength in strengths]) for name in names}
    relative = {name: _relative(name, strengths, scores, baseline) for name in names}
    mean = _mean(list(means.values()))
    return Robustness(
        clean=clean,
        mean=mean,
        kept=mean / clean if clean else None,
        families={family: _mean([means[name] for name in those]) for family, those in by_family.items()},
        strengths={strength: _mean([scores[name, strength] for name in names]) for strength in strengths},
        relative_error=_mean_of_all(list(relative.values())),
        relative_families={
            family: _mean_of_all([relative[one] for one in those]) for family, those in by_family.items()
        },
    )


def _check(
    scores: Scores, clean: float, names: Sequence[str], strengths: Sequence[int], baseline: Scores | None
) -> None:
    if not scores:
        raise FoveateError("there is no score of a corruption to summarise")
    if missing := [
        f"{name} at {strength}" for name in names for strength in strengths if (name, strength) not in scores
    ]:
        raise FoveateError(f"scores are missing, and a mean without them would favour what has them: {missing[0]}")
    if baseline is not None and (keys := sorted(set(scores) ^ set(baseline))):
        raise FoveateError(f"the baseline has other corruptions or strengths, such as {keys[0][0]} at {keys[0][1]}")
    for value in (clean, *scores.values(), *(baseline or {}).values()):
        if not (math.isfinite(value) and 0 <= value <= 1):
            raise FoveateError(f"scores are from 0 to 1, and one is {value}")


def _relative(name: str, strengths: Sequence[int], scores: Scores, baseline: Scores | None) -> float | None:
    if baseline is None:
        return None
    lacking, usual = (sum(1 - those[name, strength] for strength in strengths) for those in (scores, baseline))
    return lacking / usual if usual else None


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _mean_of_all(values: Sequence[float | None]) -> float | None:
    """``None`` if one is missing: a mean of the others would be of another thing."""
    there = [value for value in values if value is not None]
    return _mean(there) if len(there) == len(values) else None
