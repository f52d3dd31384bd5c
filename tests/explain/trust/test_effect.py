"""Intervals of means, against scipy's own and against the binomial."""

import pytest
from scipy import stats

from foveate.errors import FoveateError
from foveate.explain.trust.effect import Effect, effect, paired

VALUES = [0.0, 1.0, 1.0, 0.5, 0.25, 1.0]


def test_the_interval_is_students():
    found = effect(VALUES)
    low, high = stats.ttest_1samp(VALUES, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)
    assert paired(VALUES, [0.0] * 6) == found
    five = effect(VALUES, together=5)
    low, high = stats.ttest_1samp(VALUES, 0).confidence_interval(0.99)
    assert (five.low, five.high) == pytest.approx((low, high), rel=1e-12)


def test_where_nothing_varies_the_interval_is_that_of_what_was_not_seen():
    found = effect([0.0] * 20)
    assert found.mean == 0
    # an event of this probability shows itself in none of 20 images in 5 % of all cases
    assert stats.binom.pmf(0, 20, found.high) == pytest.approx(0.05, rel=1e-9)
    assert found.low == -found.high
    assert not found.apart
    assert effect([1.0]).low == pytest.approx(0.05)


def test_few_changes_of_answers_are_no_small_scatter():
    """Against Bonett and Price's formula, written out: n12 + 1 and n21 + 1 of n + 2."""
    for lost, won, count in ((1, 0, 320), (3, 5, 40), (0, 2, 10)):
        base = [1.0] * lost + [0.0] * (count - lost)
        now = [0.0] * lost + [1.0] * won + [0.0] * (count - lost - won)
        p12, p21 = (won + 1) / (count + 2), (lost + 1) / (count + 2)
        half = stats.norm.ppf(0.975) * ((p12 + p21 - (p12 - p21) ** 2) / (count + 2)) ** 0.5
        found = paired(now, base)
        assert (found.low, found.high) == pytest.approx((p12 - p21 - half, p12 - p21 + half), rel=1e-12)
        assert found.mean == pytest.approx((won - lost) / count)
        twice = paired([2 * value for value in now], [2 * value for value in base], most=2.0)
        doubled = Effect(2 * found.mean, 2 * found.low, 2 * found.high, count)
        assert twice == doubled  # doubling is exact


@pytest.mark.parametrize("count", [300, 320, 400])
def test_a_loss_as_large_as_the_margin_is_seldom_called_none(count: int) -> None:
    """Exactly, by the binomial: how often a true loss of one point is found to lie within one point."""
    missed = 0.0
    for lost in range(12):
        found = paired([0.0] * lost + [1.0] * (count - lost), [1.0] * count)
        missed += float(stats.binom.pmf(lost, count, 0.01)) * found.within(0.01)
    assert missed < 0.05


def test_what_is_no_number_is_refused():
    with pytest.raises(FoveateError, match="no image"):
        effect([])
    with pytest.raises(FoveateError, match="not finite"):
        effect([float("nan")])
    with pytest.raises(FoveateError, match="do not pair"):
        paired([1.0], [])


@pytest.mark.parametrize("zero", [0.0, -0.0, 0.0004, -0.0004])
def test_zero_has_no_sign(zero: float) -> None:
    assert Effect(zero, -0.0004, 0.02, 9).points() == "0.0 points (0.0 to +2.0)"


def test_less_than_nothing_is_nothing() -> None:
    assert str(Effect(-0.0, -0.5, 0.5, 9)) == "0 (-0.5 to 0.5)"
