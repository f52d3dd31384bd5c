"""Seeds added until it is decided: does the level hold, how many seeds does it take, and what does it cost?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.statistics.scores import EXCHANGEABLE, differences
from foveate.study.statistics.judge import ALPHA
from foveate.study.statistics.power import power
from foveate.study.statistics.sequential import GroupSequential

STUDIES = 2_000
ARMS = 5
BUDGETS = (10, 15, 20, 30)
EFFECTS = (0.75, 1.0, 1.5, 2.0)


def rows(studies: int = STUDIES) -> Iterator[dict[str, Any]]:
    """A row a kind of scores and a budget without effect, then a row a budget and an effect of one arm."""
    for budget in BUDGETS:
        for kind in EXCHANGEABLE if budget < BUDGETS[-1] else ("normal",):  # the last takes as long as all others
            yield one(kind, budget, 0.0, studies)
        for effect in EFFECTS:
            yield one("normal", budget, effect, studies)


def one(kind: str, budget: int, effect: float, studies: int) -> dict[str, Any]:
    """What the studies came to; the effect is the first arm's, if there is one."""
    chance = np.random.default_rng([sum(map(ord, kind)), budget, round(100 * effect)])
    names = [str(arm) for arm in range(ARMS)]
    better = worse = any_better = any_worse = any_wrong = by_bets = 0
    seeds: list[int] = []
    other_seeds: list[int] = []
    looks: tuple[int, ...] = ()
    for _ in range(studies):
        table = differences(kind, chance, ARMS, budget)
        table[0] += effect * math.sqrt(2)
        study = GroupSequential(names, budget)
        looks = tuple(look.seeds for look in study.looks)
        for seed in range(budget):
            study.tell({name: float(table[int(name), seed]) for name in study.open})
        verdicts = study.verdicts()
        words = [verdicts[name].word for name in names]
        better += words[0] == "better"
        worse += words[0] == "worse"
        any_better += "better" in words
        any_worse += "worse" in words
        any_wrong += any(word in ("better", "worse") for word in (words[1:] if effect else words))
        if effect:
            by_bets += bet(table[0]) <= ALPHA / ARMS
        seeds.append(verdicts["0"].seeds)
        other_seeds += [verdicts[name].seeds for name in names[1:]]
    return {
        "kind": kind,
        "arms": ARMS,
        "budget": budget,
        "looks": looks,
        "effect": effect,
        "studies": studies,
        "better": better,
        "worse": worse,
        "any_better": any_better,
        "any_worse": any_worse,
        "any_wrong": any_wrong,
        "mean_seeds": float(np.mean(seeds)),
        "mean_seeds_others": float(np.mean(other_seeds)),
        "by_bets": by_bets if effect else None,
        "fixed_power": power(effect, budget, ALPHA / ARMS) if effect else None,
        "fixed_seeds": fixed(effect, better / studies) if effect else None,
    }


def bet(differences: NDArray[np.float64]) -> float:
    """The rival: a p-value valid after every seed, one over the largest fortune of bets on the next sign.

    Under no effect a sign is fair, whatever the magnitudes, so a fortune that is multiplied by ``1 + share · sign`` is
    a martingale. The share is what a normal effect of this size would have one stake, ``tanh(effect · |d| / scale)``,
    with the root mean square so far as the scale; fifteen effects and both signs begin with equal parts of the fortune.
    """
    scale = np.sqrt(np.cumsum(differences**2) / np.arange(1, differences.size + 1))
    stakes = np.tanh(np.outer(np.linspace(0.2, 3.0, 15), differences / np.where(scale > 0, scale, 1.0)))
    fortunes = np.cumprod(1 + np.concatenate((stakes, -stakes)), axis=1).mean(axis=0)
    return float(min(1.0, 1 / fortunes.max()))


def fixed(effect: float, chance: float) -> int | None:
    """How many seeds, looked at once, have this power; nobody can tell where hardly a study missed it."""
    if chance > 0.99:
        return None
    return next((seeds for seeds in range(6, 200) if power(effect, seeds, ALPHA / ARMS) >= chance), None)
