"""Which arms are worth their time: none other is both better and quicker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Interval = tuple[float, float] | None


@dataclass(frozen=True)
class Point:
    """An arm in the picture of benefit against latency.

    Attributes:
        benefit: More is better.
        latency: Less is better.
        benefit_interval: Where the benefit lies; ``None`` if nobody knows.
        latency_interval: Where the latency lies; ``None`` if nobody knows.
    """

    benefit: float
    latency: float
    benefit_interval: Interval = None
    latency_interval: Interval = None


def pareto(points: Mapping[str, tuple[float, float]]) -> tuple[str, ...]:
    """The arms on the front: no other is at least as good and at least as quick, and one of both more so.

    Equal arms do not exclude each other. What is not a number is on no front, and excludes nobody.

    Args:
        points: Benefit (more is better) and latency (less is better) of each arm.

    Returns:
        Their names, the quickest first.

    Example:
        >>> pareto({"plain": (90.0, 1.0), "se": (91.0, 1.1), "slow": (90.5, 2.0)})
        ('plain', 'se')
    """
    numbers = {name: point for name, point in points.items() if all(value == value for value in point)}
    front = [
        name
        for name, (benefit, latency) in numbers.items()
        if not any(b >= benefit and t <= latency and (b > benefit or t < latency) for b, t in numbers.values())
    ]
    return tuple(sorted(front, key=lambda name: (numbers[name][1], name)))


def certainly_dominated(points: Mapping[str, Point]) -> dict[str, str]:
    """The arms that are worse and slower than another whatever the intervals leave open, and than which.

    The whole interval of the other's benefit must not lie below, nor that of its latency above; and one of them must
    be apart. Each interval is right as often as it claims, alone: of many pairs a few may seem certain by chance.

    Args:
        points: The arms; those without both intervals neither dominate nor are dominated.

    Returns:
        For each such arm the quickest one that dominates it.

    Example:
        >>> certainly_dominated({
        ...     "plain": Point(90.0, 1.0, (89.5, 90.5), (1.0, 1.0)),
        ...     "slow": Point(89.0, 1.5, (88.8, 89.2), (1.4, 1.6)),
        ...     "unsure": Point(90.0, 1.5, (88.0, 92.0), (1.4, 1.6)),
        ... })
        {'slow': 'plain'}
    """
    quickest = sorted(points, key=lambda name: (points[name].latency, name))
    found: dict[str, str] = {}
    for name, point in points.items():
        over = next((other for other in quickest if other != name and _dominates(points[other], point)), None)
        if over is not None:
            found[name] = over
    return found


def _dominates(one: Point, other: Point) -> bool:
    if one.benefit_interval is None or one.latency_interval is None:
        return False
    if other.benefit_interval is None or other.latency_interval is None:
        return False
    least, latest = one.benefit_interval[0], one.latency_interval[1]
    most, soonest = other.benefit_interval[1], other.latency_interval[0]
    return least >= most and latest <= soonest and (least > most or latest < soonest)
