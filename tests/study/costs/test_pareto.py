"""The front against an oracle that sweeps, and what intervals leave open."""

from __future__ import annotations

import math
from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from foveate.study.costs import Point, certainly_dominated, pareto

NUMBERS = st.integers(0, 6).map(float)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=12))
def test_the_front_is_that_of_a_sweep(found: list[tuple[float, float]]) -> None:
    """From the quickest on, those stay that are better than all quicker ones, and the best of equally quick ones."""
    points = {str(number): point for number, point in enumerate(found)}
    expected: set[str] = set()
    best = -math.inf
    quickest = sorted(points.items(), key=lambda one: one[1][1])
    for _, alike in groupby(quickest, key=lambda one: one[1][1]):
        group = list(alike)
        most = max(benefit for _, (benefit, _) in group)
        if most > best:
            expected |= {name for name, (benefit, _) in group if benefit == most}
            best = most
    front = pareto(points)
    assert set(front) == expected
    assert [points[name][1] for name in front] == sorted(points[name][1] for name in front)


def test_what_is_no_number_is_on_no_front_and_excludes_nobody() -> None:
    assert pareto({"plain": (1.0, 1.0), "odd": (math.nan, 0.5), "slow": (0.5, math.nan)}) == ("plain",)
    assert pareto({}) == ()


def point(benefit: tuple[float, float], latency: tuple[float, float]) -> Point:
    return Point(sum(benefit) / 2, sum(latency) / 2, benefit, latency)


def test_certain_is_what_no_values_in_the_intervals_contradict() -> None:
    plain = point((90, 91), (1.0, 1.0))
    assert certainly_dominated({"plain": plain, "slow": point((88, 90), (1.1, 1.2))}) == {"slow": "plain"}  # they touch
    assert certainly_dominated({"plain": plain, "slow": point((88, 90.1), (1.1, 1.2))}) == {}  # benefits overlap
    assert certainly_dominated({"plain": plain, "slow": point((88, 89), (0.9, 1.2))}) == {}  # latencies overlap
    assert certainly_dominated({"plain": plain, "twin": plain}) == {}
    same = point((90, 90), (1.0, 1.0))
    assert certainly_dominated({"one": same, "other": same}) == {}
    assert certainly_dominated({"one": same, "slower": point((90, 90), (1.1, 1.1))}) == {"slower": "one"}


def test_without_an_interval_nothing_is_certain() -> None:
    known, unknown = point((90, 91), (1, 1)), Point(10.0, 9.0, None, (9, 9))
    assert certainly_dominated({"known": known, "unknown": unknown}) == {}
    assert certainly_dominated({"known": Point(90.0, 1.0, (90, 91), None), "bad": point((1, 2), (8, 9))}) == {}


def test_the_quickest_of_several_is_named() -> None:
    points = {
        "slow": point((80, 81), (3, 4)),
        "good": point((95, 96), (2, 2)),
        "quick": point((90, 91), (1, 1)),
    }
    assert certainly_dominated(points) == {"slow": "quick"}
