"""Seeds added until decided: the level by counting every course a study can take, and what the object refuses."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from foveate.errors import FoveateError, OptionError
from foveate.study.statistics.looks import planned_looks
from foveate.study.statistics.power import detectable_effect
from foveate.study.statistics.sequential import GroupSequential
from foveate.study.statistics.sign_flip import fewest_seeds, sign_flip

CHANCE = np.random.default_rng(5)


@pytest.mark.parametrize("budget", range(6, 45))
@pytest.mark.parametrize("arms", [1, 5, 11])
def test_the_looks_spend_what_there_is_and_each_can_decide(budget: int, arms: int) -> None:
    level = 0.05 / arms
    if budget < fewest_seeds(level):
        with pytest.raises(OptionError, match=f"{budget} seeds cannot decide.*at least {fewest_seeds(level)}"):
            planned_looks(budget, level)
        return
    looks = planned_looks(budget, level)
    assert sum(look.share for look in looks) == pytest.approx(1.0, abs=1e-15)
    assert looks[-1].seeds == budget
    assert all(late.share == pytest.approx(2 * early.share) for early, late in itertools.pairwise(looks))
    assert [look.seeds for look in looks] == sorted({look.seeds for look in looks})
    assert all(2 / 2**look.seeds <= level * look.share for look in looks)


@pytest.mark.parametrize("alpha", [0.05, 0.2])
@pytest.mark.parametrize("budget", [9, 11])
def test_the_level_holds_over_every_course_of_signs(budget: int, alpha: float) -> None:
    # under no effect all 2ⁿ courses are as probable, whatever the magnitudes: at most a share of alpha may be decided
    magnitudes = CHANCE.exponential(size=budget)
    courses = np.array(list(itertools.product((1.0, -1.0), repeat=budget - 1)))
    decided = 0
    for signs in courses:  # the first is positive: the others are their mirror images
        study = GroupSequential(["se"], budget, alpha=alpha)
        for value in magnitudes * np.array([1.0, *signs]):
            if study.open:
                study.tell({"se": float(value)})
        decided += study.p_values["se"] <= alpha
    assert 0 < decided <= alpha * len(courses)


def test_the_p_value_is_the_smallest_over_its_share_and_never_rises() -> None:
    values = CHANCE.standard_normal(20) + 0.7
    study = GroupSequential(["se"], 20)
    before = 1.0
    for seeds, value in enumerate(values, 1):
        study.tell({"se": float(value)})
        expected = min(
            [1.0, *(sign_flip(values[: look.seeds]) / look.share for look in study.looks if look.seeds <= seeds)]
        )
        assert study.p_values["se"] == expected <= before
        before = expected


def test_what_was_seen_once_is_not_taken_back() -> None:
    study = GroupSequential(["se"], 20)
    first = study.looks[0].seeds
    for seed in range(20):
        study.tell({"se": 1.0 + 0.1 * seed if seed < first else -1.5})
    assert study.p_values["se"] == 2 / 2**first / study.looks[0].share


def test_what_could_have_been_seen_is_that_of_the_last_look() -> None:
    study = GroupSequential(["se", "eca"], 15)
    for seed in range(15):
        study.tell({"se": 0.5 * (-1) ** seed, "eca": (-1) ** seed})
    effect = detectable_effect(15, 0.05 / 2 * study.looks[-1].share)
    assert effect is not None and study.looks[-1].share < 0.6
    values = np.array([0.5 * (-1) ** seed for seed in range(15)])
    assert study.verdicts()["se"].detectable == pytest.approx(effect * values.std(ddof=1))


def test_an_arm_that_is_decided_stops_and_stays_decided() -> None:
    study = GroupSequential(["good", "none", "bad"], 16)
    for seed in range(16):
        told = {"good": 1 + 0.1 * seed, "none": (-1.0) ** seed, "bad": -1 - 0.1 * seed}
        study.tell({name: told[name] for name in study.open})
    assert study.finished and study.open == ()
    verdicts = study.verdicts()
    assert {name: verdict.word for name, verdict in verdicts.items()} == {
        "good": "better", "none": "no evidence", "bad": "worse"
    }  # fmt: skip
    first = study.looks[0].seeds
    assert (verdicts["good"].seeds, verdicts["none"].seeds) == (first, 16)
    assert verdicts["good"].p_adjusted == study.p_adjusted["good"] <= 0.05
    # 3 ways of Holm, and the share of the first look
    assert verdicts["good"].p_adjusted == pytest.approx(min(1.0, 3 * 2 / 2**first / study.looks[0].share))


def test_less_is_better_and_what_is_broken_off_is_underpowered() -> None:
    study = GroupSequential(["loss"], 12, better="min")
    for _ in range(5):
        study.tell({"loss": -1.0})
    found = study.verdicts(relevant=0.1)["loss"]
    assert found.word == "underpowered" and found.fewest == 12 and not study.finished
    while study.open:
        study.tell({"loss": -1.0})
    assert study.verdicts()["loss"].word == "better"


def test_examples_go_into_the_interval() -> None:
    table = CHANCE.standard_normal((6, 30)) + 1.0
    study = GroupSequential(["se"], 6)
    for row in table:
        study.tell({"se": float(row.mean())})
    assert study.verdicts(examples={"se": table})["se"].method == "t over seeds and examples"


def test_what_it_is_not_told() -> None:
    study = GroupSequential(["se", "eca"], 8)
    with pytest.raises(FoveateError, match="no seed yet of se, eca"):
        study.verdicts()
    with pytest.raises(FoveateError, match="no arm 'cbam': se, eca"):
        study.tell({"se": 1.0, "cbam": 1.0})
    with pytest.raises(FoveateError, match="finite"):
        study.tell({"se": 1.0, "eca": float("nan")})
    study.tell({"se": 1.0})
    assert study.verdicts is not None and study.p_values == {"se": 1.0, "eca": 1.0}
    for _ in range(7):  # of what was refused, nothing was kept
        study.tell({"se": 1.0})
    with pytest.raises(FoveateError, match="'se' has had its 8 seeds"):
        study.tell({"se": 1.0})


@pytest.mark.parametrize(
    ("arms", "options", "said"),
    [
        ([], {}, "no arm"),
        (["a", "a"], {}, "a name of its own"),
        (["a"] * 5, {"budget": 8}, "a name of its own"),
        (list("abcde"), {"budget": 7}, "7 seeds cannot decide, whatever they show: it takes at least 8"),
        (["a"], {"budget": 0}, "at least 1"),
        (["a"], {"alpha": 0.0}, "between 0 and 1"),
        (["a"], {"better": "up"}, "must be one of"),
    ],
)
def test_a_plan_that_cannot_work_is_refused(arms, options, said) -> None:
    with pytest.raises(FoveateError, match=said):
        GroupSequential(arms, **{"budget": 10, **options})
