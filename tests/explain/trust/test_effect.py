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
