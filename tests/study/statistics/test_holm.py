"""Holm against what it is a shortcut of: the closed test, which asks every set of comparisons by Bonferroni."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveate.study.statistics.holm import holm


def closed(p_values: dict[str, float]) -> dict[str, float]:
    """A comparison holds if every set that it is in holds: the largest of their p-values, by Bonferroni."""
    sets = [one for size in range(1, len(p_values) + 1) for one in itertools.combinations(p_values, size)]
    of_set = {one: min(1.0, len(one) * min(p_values[name] for name in one)) for one in sets}
    return {name: max(p for one, p in of_set.items() if name in one) for name in p_values}


@given(st.lists(st.floats(0, 1) | st.sampled_from([0.0, 0.01, 0.05, 1.0]), min_size=1, max_size=6))
def test_it_is_the_closed_test(values: list[float]) -> None:
    p_values = {f"arm {rank}": value for rank, value in enumerate(values)}
    assert holm(p_values) == pytest.approx(closed(p_values), rel=1e-12)


def test_the_example_by_hand() -> None:
    # 0.01 · 4, 0.015 · 3 = 0.045, 0.02 · 2 = 0.04 but not below the one before, 0.5
    found = holm({"d": 0.5, "a": 0.01, "c": 0.02, "b": 0.015})
    assert found == pytest.approx({"d": 0.5, "a": 0.04, "c": 0.045, "b": 0.045})
    assert list(found) == ["d", "a", "c", "b"]


def test_none_is_none() -> None:
    assert holm({}) == {}
