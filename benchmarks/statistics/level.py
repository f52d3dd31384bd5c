"""Under no effect: how often does a study call any arm better, or worse?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.statistics.scores import EXCHANGEABLE, UNEQUAL, differences
from foveate.study.statistics.judge import Paired, judge

STUDIES = 2_000
ARMS = (5, 11)
SEEDS = (3, 5, 8, 9, 10, 15, 20)


def rows(studies: int = STUDIES) -> Iterator[dict[str, Any]]:
    """A row a kind of scores, number of arms and number of seeds."""
    for kind in (*EXCHANGEABLE, *UNEQUAL):
        for arms in ARMS:
            for seeds in SEEDS:
                yield {
                    "kind": kind,
                    "arms": arms,
                    "seeds": seeds,
                    "studies": studies,
                    **share(kind, arms, seeds, studies),
                }


def share(kind: str, arms: int, seeds: int, studies: int) -> dict[str, int]:
    """In how many studies any arm was called so, and how many arms were called underpowered."""
    chance = np.random.default_rng([sum(map(ord, kind)), arms, seeds])
    better = worse = either = underpowered = 0
    for _ in range(studies):
        pairs = {str(arm): Paired(tuple(row)) for arm, row in enumerate(differences(kind, chance, arms, seeds))}
        words = [verdict.word for verdict in judge(pairs).values()]
        better += "better" in words
        worse += "worse" in words
        either += "better" in words or "worse" in words
        underpowered += words.count("underpowered")
    return {"better": better, "worse": worse, "either": either, "arms_underpowered": underpowered}
