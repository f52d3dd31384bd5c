"""Verdicts: which word, when, and what the sentence says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from foveate.errors import FoveateError, OptionError
from foveate.study.statistics.judge import Paired, judge
from foveate.study.statistics.verdict import Verdict

CHANCE = np.random.default_rng(4)
RISING = tuple(0.01 + 0.001 * seed for seed in range(20))


def family(of: dict[str, tuple[float, ...]], arms: int) -> dict[str, Paired]:
    """Those, and others without an effect up to so many arms."""
    count = len(next(iter(of.values())))
    others = {
        f"other {arm}": tuple(0.01 * (-1) ** (seed + arm) for seed in range(count)) for arm in range(arms - len(of))
    }
    return {name: Paired(values) for name, values in (of | others).items()}


def one(values: tuple[float, ...], arms: int = 1, **options) -> Verdict:
    """The verdict on the first of so many arms."""
    return judge(family({"se": values}, arms), **options)["se"]


@pytest.mark.parametrize(("arms", "fewest"), [(1, 6), (2, 7), (5, 8), (11, 9)])
def test_so_many_seeds_of_one_sign_decide_and_one_fewer_does_not(arms: int, fewest: int) -> None:
    assert one(RISING[:fewest], arms).word == "better"
    assert one(tuple(-value for value in RISING[:fewest]), arms).word == "worse"
    short = one(RISING[: fewest - 1], arms)
    assert short.word == "underpowered"
    assert (short.seeds, short.fewest, short.needed, short.detectable_with) == (fewest - 1, fewest, fewest, fewest)


def test_less_is_better_where_it_is() -> None:
    falling = tuple(-value for value in RISING[:8])
    for values, better, word in ((RISING[:8], "max", "better"), (falling, "max", "worse"),
                                 (RISING[:8], "min", "worse"), (falling, "min", "better")):  # fmt: skip
        found = one(values, better=better)
        assert found.word == word
        assert found.mean == pytest.approx(sum(values) / 8)  # in the metric's own direction
        assert found.wins == (8 if word == "better" else 0)


def test_the_numbers_are_those_of_the_parts() -> None:
    values = CHANCE.standard_normal(10) + 0.3
    found = one(tuple(values), 5)
    theirs = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found.interval == pytest.approx((theirs.low, theirs.high)) and found.method == "t over seeds"
    exact = stats.permutation_test((values, 0 * values), lambda a, b: np.mean(a - b), permutation_type="samples")
    assert found.p == pytest.approx(exact.pvalue)
    assert found.arms == 5 and found.p_adjusted >= found.p
    assert found.wins == (values > 0).sum() and found.ties == 0
    # noncentral t at the level after Holm's worst case; 10 seeds are few, where its power is up to 0.04 too high
    assert found.detectable is not None
    scaled = found.detectable / values.std(ddof=1) * math.sqrt(10)
    assert 0.8 <= stats.nct.sf(stats.t.isf(0.005, 9), 9, scaled) <= 0.86


def test_what_shows_nothing_is_no_evidence_without_a_difference_of_interest() -> None:
    found = one((0.01, -0.01) * 5)
    assert found.word == "no evidence" and found.relevant is None and found.excluded is None


def test_underpowered_for_a_difference_of_interest() -> None:
    values = (0.01, -0.01) * 5  # deviation 0.0105: 10 seeds see 0.011 and more, and exclude 0.0076 and more
    for relevant, word, excluded in ((0.002, "underpowered", False), (0.0074, "underpowered", False),
                                     (0.008, "no evidence", True), (0.02, "no evidence", True)):  # fmt: skip
        found = one(values, relevant=relevant)
        assert (found.word, found.excluded) == (word, excluded), relevant
    assert found.detectable == pytest.approx(0.0108, abs=0.0005)
    assert found.needed is not None and found.needed <= 10
    rising = (0.014, -0.006) * 5  # as scattered, about 0.004: the interval reaches 0.0115, and 0.0108 is seen with 80 %
    assert one(rising, relevant=0.0105).word == "underpowered"
    assert one(rising, relevant=0.0112).word == "no evidence"
    low = one((-0.03, 0.005) * 5, relevant=0.02)  # the interval is -0.0257 to 0.0007: only the gain is excluded
    assert low.interval is not None and low.interval[0] < -0.02 < low.interval[1] < 0.02
    assert low.excluded is False
    tiny = one(values, relevant=1e-6)
    assert tiny.needed is None and "more than 100,000 seeds" in tiny.sentence()


def test_a_decided_arm_is_never_underpowered() -> None:
    assert one(RISING[:8], relevant=1e-6).word == "better"


def test_holm_may_decide_with_fewer_seeds_once_others_are_rejected() -> None:
    pairs = {"long": Paired(RISING), "short": Paired(RISING[:6])}  # 2/2⁶ = 0.031 is above 0.05/2, and below 0.05
    assert {name: verdict.word for name, verdict in judge(pairs).items()} == {"long": "better", "short": "better"}
    pairs["long"] = Paired((0.01, -0.01) * 10)
    assert judge(pairs)["short"].word == "underpowered"


def test_equal_runs_and_single_seeds() -> None:
    equal = one((0.0,) * 10, relevant=0.01)
    assert (equal.word, equal.p, equal.ties, equal.detectable, equal.effect) == ("no evidence", 1.0, 10, None, None)
    assert "do not scatter" in equal.sentence()
    single = one((0.5,))
    assert (single.word, single.interval, single.p) == ("underpowered", None, 1.0)
    assert (
        single.sentence()
        == "se: underpowered. 1 seed cannot decide, whatever comes out; it takes 6. Seen was +0.5 over 1 seed, p = 1."
    )


def test_the_scale_does_not_matter() -> None:
    values = tuple(CHANCE.standard_normal(9) + 0.5)
    small, large = one(values, 3, relevant=0.5), one(tuple(1e6 * value for value in values), 3, relevant=0.5e6)
    assert (small.word, small.p, small.needed) == (large.word, large.p, large.needed)
    assert large.detectable == pytest.approx(1e6 * (small.detectable or 0))


def test_scores_of_examples_widen_the_interval_and_say_so() -> None:
    # every seed gains on the same 2 of 20 examples: sure of these examples, not of others
    table = np.zeros((8, 20))
    table[:, :2] = 1.0
    table[:, 5] = CHANCE.integers(0, 2, 8)
    found = judge({"se": Paired.over(table)})["se"]
    assert found.word == "better" and found.method == "t over seeds and examples"
    assert found.interval is not None and found.interval[0] < 0 < found.interval[1]
    assert found.sentence().endswith("The interval holds +0 all the same: on other examples it may be otherwise.")
    assert judge({"se": Paired(found_differences(table))})["se"].interval[0] > 0


def found_differences(table: np.ndarray) -> tuple[float, ...]:
    """The same without the examples."""
    return tuple(table.mean(axis=1))


def test_sentences() -> None:
    def points(difference: float) -> str:
        return f"{100 * difference:+.1f} points"

    values = tuple(0.012 + 0.001 * seed for seed in range(9))
    assert one(values, 5).sentence(points) == (
        "se is better: +1.6 points over 9 seeds (95 % interval +1.4 points to +1.8 points), ahead in 9 of 9, p = 0.02 "
        "after Holm among 5 arms."
    )
    assert one(values[:3], 5, relevant=0.01).sentence(points) == (
        "se: underpowered. 3 seeds cannot decide among 5 arms, whatever comes out; it takes 8. With 8, the smallest "
        "difference that could be seen is 0.2 points (in four of five such studies). Seeing 1.0 points takes 8 seeds. "
        "Seen was +1.3 points over 3 seeds (95 % interval +1.1 points to +1.5 points), p = 1 after Holm among 5 arms."
    )
    assert one((0.01, -0.01) * 5, relevant=0.002).sentence(points) == (
        "se: underpowered. The smallest difference that could have been seen is 1.1 points (in four of five such "
        "studies). Seeing 0.2 points takes 220 seeds. Seen was +0.0 points over 10 seeds (95 % interval -0.8 points to "
        "+0.8 points), p = 1."
    )
    assert one((0.01, -0.01) * 5, relevant=0.02).sentence(points) == (
        "se: no evidence of a difference. Seen was +0.0 points over 10 seeds (95 % interval -0.8 points to +0.8 "
        "points), p = 1. The smallest difference that could have been seen is 1.1 points (in four of five such "
        "studies). A difference of 2.0 points either way is excluded."
    )


@pytest.mark.parametrize(
    ("pairs", "options", "said"),
    [
        ({}, {}, "no arm"),
        ({"a": Paired((1.0,))}, {"alpha": 5}, "between 0 and 1"),
        ({"a": Paired((1.0,))}, {"relevant": 0.0}, "must be positive"),
        ({"a": Paired((1.0,))}, {"relevant": float("nan")}, "must be positive"),
        ({"a": Paired((1.0,))}, {"better": "more"}, "must be one of 'max', 'min'"),
    ],
)
def test_what_cannot_be_judged_is_refused(pairs, options, said) -> None:
    with pytest.raises((FoveateError, OptionError), match=said):
        judge(pairs, **options)


def test_differences_that_are_no_numbers_or_not_those_of_the_examples_are_refused() -> None:
    with pytest.raises(FoveateError, match="1 of 2 values are not finite numbers"):
        Paired((1.0, math.nan))
    with pytest.raises(FoveateError, match="not the means over the examples"):
        Paired((0.5, 0.5), np.array([[1.0, 0.0], [1.0, 1.0]]))
    with pytest.raises(FoveateError, match="of 3 seeds are not the means over the examples of 2"):
        Paired((0.5, 0.5, 0.5), np.array([[1.0, 0.0], [1.0, 0.0]]))
    assert Paired.over([[1.0, 0.0], [1.0, 1.0]]) == Paired((0.5, 1.0))
