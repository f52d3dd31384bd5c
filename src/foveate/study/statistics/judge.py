"""From paired differences to verdicts."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from foveate.errors import FoveateError, OptionError, check_choice, check_positive
from foveate.study.statistics.arrays import Floats, Numbers, finite
from foveate.study.statistics.crossed import crossed_t
from foveate.study.statistics.effect import effect_size, scatter
from foveate.study.statistics.holm import holm
from foveate.study.statistics.power import POWER, detectable_effect, power, seeds_needed
from foveate.study.statistics.sign_flip import fewest_seeds, sign_flip
from foveate.study.statistics.student import student
from foveate.study.statistics.verdict import Verdict, Word

ALPHA = 0.05
Better = Literal["max", "min"]


@dataclass(frozen=True)
class Paired:
    """An arm minus the baseline, with the same seed.

    Attributes:
        differences: One a seed.
        examples: The same for every test example, a row a seed and a column an example, if the metric is a mean over
            examples; the differences are then the means of the rows.

    Raises:
        FoveateError: If a value is not a finite number, or the two do not fit.

    Example:
        >>> Paired((0.01, 0.02)).differences
        (0.01, 0.02)
    """

    differences: tuple[float, ...]
    examples: Floats | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        own = finite(self.differences)
        object.__setattr__(self, "differences", tuple(map(float, own)))
        if self.examples is None:
            return
        table = finite(self.examples, dimensions=2)
        object.__setattr__(self, "examples", table)
        # means of single-precision scores are right to a few times 6e-8 of the largest
        if len(table) != own.size or np.abs(table.mean(axis=1) - own).max() > 1e-6 * np.abs(table).max():
            raise FoveateError(
                f"the differences of {own.size} seeds are not the means over the examples of {len(table)} seeds; leave "
                "out the examples where the metric is no mean over them"
            )

    @staticmethod
    def over(examples: Numbers | list[list[float]]) -> Paired:
        """Of a metric that is a mean over examples.

        Raises:
            FoveateError: If a value is not a finite number, or they are no table.

        Example:
            >>> Paired.over([[0.0, 1.0], [0.0, 0.0]]).differences
            (0.5, 0.0)
        """
        table = finite(examples, dimensions=2)
        return Paired(tuple(map(float, table.mean(axis=1))), table)


def judge(
    pairs: Mapping[str, Paired], *, alpha: float = ALPHA, relevant: float | None = None, better: Better = "max"
) -> dict[str, Verdict]:
    """A verdict on every arm that shares a baseline, with one error probability for all of them.

    The sign-flip test of each arm is exact at any number of seeds; Holm's adjustment holds the probability of any wrong
    *better* or *worse* at ``alpha``. To be called so, an arm needs ``2 / 2ⁿ <= alpha / arms`` at worst: 8 seeds with 5
    arms, 9 with 11. An arm that is neither is *underpowered* if

    - its seeds are fewer than that, so that they could not have decided, whatever they had shown; or
    - a difference of interest was named, its seeds would have seen it with less than 80 % probability, *and* it lies
      within the interval, so that the data do not exclude it either.

    Otherwise there is *no evidence*: the seeds could have decided, and did not. Without a difference of interest nobody
    can say whether they were enough, and the verdict says how small a difference they could have seen instead. The
    difference that was found is never put in the place of one of interest: what power there was to see what was seen is
    the p-value in other words (Hoenig and Heisey, 2001, https://doi.org/10.1198/000313001300339897).

    The interval is Student's t over seeds, about these test examples; with scores of single examples it is about others
    too (``crossed_t``). ``docs/statistics.md`` says why these.

    Args:
        pairs: By name of the arm.
        alpha: The probability allowed for a wrong *better* or *worse* among all arms.
        relevant: The smallest difference that somebody would care about, in the metric's units; positive.
        better: Whether more is better, ``"max"``, or less, ``"min"``. Differences keep their sign.

    Raises:
        FoveateError: If there is no arm.
        MissingExtraError: If scipy is not installed.
        OptionError: If an option cannot be.

    Example:
        >>> verdicts = judge({
        ...     "eca": Paired((0.01, 0.02, 0.015, 0.02, 0.01, 0.03, 0.02, 0.01)),
        ...     "se": Paired((0.01, -0.02, 0.015, -0.02, 0.01, -0.01, 0.02, 0.0)),
        ... })
        >>> print(verdicts["eca"].sentence())  # doctest: +NORMALIZE_WHITESPACE
        eca is better: +0.0169 over 8 seeds (95 % interval +0.011 to +0.0228), ahead in 8 of 8, p = 0.016 after Holm
        among 2 arms.
        >>> print(verdicts["se"].sentence())  # doctest: +NORMALIZE_WHITESPACE
        se: no evidence of a difference. Seen was +0.000625 over 8 seeds (95 % interval -0.0125 to +0.0137), p = 1
        after Holm among 2 arms. The smallest difference that could have been seen is 0.022 (in four of
        five such studies).
    """
    p_values = {name: sign_flip(pair.differences) for name, pair in pairs.items()}
    return verdicts(pairs, p_values, fewest=None, share=1.0, alpha=alpha, relevant=relevant, better=better)


def verdicts(
    pairs: Mapping[str, Paired],
    p_values: Mapping[str, float],
    *,
    fewest: int | None,
    share: float,
    alpha: float,
    relevant: float | None,
    better: Better,
) -> dict[str, Verdict]:
    """Verdicts from p-values that were found one way or another; :func:`judge` and ``GroupSequential`` call it.

    Args:
        pairs: By name of the arm.
        p_values: Of each.
        fewest: How many seeds it takes to decide; by default what the sign-flip test takes.
        share: The part of the level that the last test has.
        alpha: As in :func:`judge`.
        relevant: As in :func:`judge`.
        better: As in :func:`judge`.

    Raises:
        FoveateError: If there is no arm.
        MissingExtraError: If scipy is not installed.
        OptionError: If an option cannot be.
    """
    check_options(len(pairs), alpha, better)
    if relevant is not None:
        check_positive("the difference of interest", relevant)
    level = alpha / len(pairs)
    fewest = fewest_seeds(level) if fewest is None else fewest
    adjusted = holm(p_values)
    found: dict[str, Verdict] = {}
    for name, pair in pairs.items():
        own, seeds = pair.differences, len(pair.differences)
        mean, deviation = statistics.fmean(own), scatter(own)
        interval, method = _interval(pair)
        excluded = None if relevant is None or interval is None else -relevant < interval[0] <= interval[1] < relevant
        enough = max(seeds, fewest)
        smallest = None if deviation is None else detectable_effect(enough, level * share)
        ahead = mean > 0 if better == "max" else mean < 0
        word: Word
        if adjusted[name] <= alpha:
            word = "better" if ahead else "worse"
        elif seeds < fewest or (
            relevant is not None
            and deviation is not None
            and not excluded
            and power(relevant / deviation, seeds, level * share) < POWER
        ):
            word = "underpowered"
        else:
            word = "no evidence"
        needed = fewest
        if relevant is not None and deviation is not None:
            needed = seeds_needed(relevant / deviation, level * share)
        found[name] = Verdict(
            name=name,
            word=word,
            mean=mean,
            interval=interval,
            method=method,
            p=p_values[name],
            p_adjusted=adjusted[name],
            effect=effect_size(own),
            wins=sum(one > 0 if better == "max" else one < 0 for one in own),
            ties=sum(one == 0 for one in own),
            seeds=seeds,
            fewest=fewest,
            detectable=None if smallest is None or deviation is None else smallest * deviation,
            detectable_with=enough,
            relevant=relevant,
            needed=needed,
            excluded=excluded,
            arms=len(pairs),
            alpha=alpha,
        )
    return found


def check_options(arms: int, alpha: float, better: Better) -> None:
    """Refuse what no verdict can be made with.

    Raises:
        FoveateError: If there is no arm.
        OptionError: If an option cannot be.

    Example:
        >>> check_options(5, 0.05, "max")
    """
    if not arms:
        raise FoveateError("there is no arm to compare with the baseline")
    if not 0 < alpha < 1:
        raise OptionError(f"alpha is a probability between 0 and 1, such as 0.05, not {alpha}")
    check_choice("better", better, ("max", "min"))


def _interval(pair: Paired) -> tuple[tuple[float, float] | None, str]:
    if pair.examples is not None and min(pair.examples.shape) > 1:
        return crossed_t(pair.examples), "t over seeds and examples"
    return student(pair.differences), "t over seeds"
