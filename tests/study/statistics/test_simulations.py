"""Simulated studies, a few here and the committed thousands: level, power, coverage, and the page about them."""

from __future__ import annotations

import json
import math

import pytest
from scipy import stats

from benchmarks.statistics.__main__ import PAGE, QUESTIONS, RESULTS
from benchmarks.statistics.level import share
from benchmarks.statistics.page import page
from benchmarks.statistics.sequence import one as sequence
from benchmarks.statistics.strength import one as strength

FOUND = json.loads(RESULTS.read_text(encoding="utf-8"))
ASYMMETRIC = ("asymmetric",)  # outside what is promised, and said so on the page


def rows(question: str) -> list[dict]:
    """Of the committed file."""
    return FOUND[question]["rows"]


def most(studies: int, rate: float, of: int, chance: float = 1e-3) -> float:
    """What one of so many counts at this rate exceeds with this probability, at the most."""
    return float(stats.binom.ppf(1 - chance / of, studies, rate))


@pytest.mark.parametrize(("kind", "arms", "seeds"), [("discrete", 5, 9), ("diverging", 11, 9), ("skewed", 5, 8)])
def test_under_no_effect_few_are_called(kind: str, arms: int, seeds: int) -> None:
    assert share(kind, arms, seeds, 200)["either"] <= most(200, 0.05, 3)


@pytest.mark.parametrize(("arms", "seeds"), [(5, 7), (11, 8)])
def test_too_few_seeds_call_nothing_and_say_so(arms: int, seeds: int) -> None:
    assert share("normal", arms, seeds, 50) == {"better": 0, "worse": 0, "either": 0, "arms_underpowered": 50 * arms}


def test_power_is_what_the_formula_says() -> None:
    found = strength(5, 10, 1.38, 300)
    formula = found["formula"]
    # a share of 300 studies, and of the 4,000 samples of the formula; Holm may call a few more than its worst case
    assert abs(found["better"] / 300 - formula) < 4 * math.sqrt(formula * (1 - formula) * (1 / 300 + 1 / 4000))


def test_seeds_added_keep_the_level_and_save_seeds_where_the_effect_is_large() -> None:
    assert sequence("normal", 15, 0.0, 100)["any_wrong"] <= most(100, 0.05, 1)
    found = sequence("normal", 20, 2.0, 50)
    assert found["better"] >= 48  # power is above 0.999: two of 50 missed have a probability below 2e-3
    assert found["mean_seeds"] < 15


def test_every_question_was_asked_of_two_thousand_studies() -> None:
    assert list(FOUND) == list(QUESTIONS)
    assert {row["studies"] for question in QUESTIONS for row in rows(question)} == {2000}
    assert {(row["arms"], row["seeds"]) for row in rows("level")} == {
        (m, n) for m in (5, 11) for n in (3, 5, 8, 9, 10, 15, 20)
    }


def test_the_level_was_held() -> None:
    kept = [row for row in rows("level") if row["kind"] not in ASYMMETRIC]
    assert max(row["either"] for row in kept) <= most(2000, 0.05, len(kept))
    # half of the errors in each direction
    assert max(max(row["better"], row["worse"]) for row in kept) <= most(2000, 0.025, 2 * len(kept))
    assert max(row["any_wrong"] for row in rows("sequence")) <= most(2000, 0.05, len(rows("sequence")))


def test_the_power_was_what_the_formula_says() -> None:
    for row in rows("strength"):
        spread = row["formula"] * (1 - row["formula"]) * (1 / 2000 + (1 / 4000 if row["seeds"] <= 12 else 0))
        allowed = stats.norm.isf(0.5e-3 / len(rows("strength"))) * math.sqrt(spread)
        assert abs(row["better"] / 2000 - row["formula"]) < allowed, row
        spread = row["noncentral_t"] * (1 - row["noncentral_t"]) / 2000
        assert abs(row["t_test"] / 2000 - row["noncentral_t"]) < 4.5 * math.sqrt(spread), row


def test_the_default_intervals_covered() -> None:
    symmetric = [row for row in rows("coverage") if row["method"] == "t" and row["kind"] != "exponential"]
    crossed = [row for row in rows("coverage") if row["method"] == "crossed t"]
    least = stats.binom.ppf(1e-3 / len(symmetric + crossed), 2000, 0.95)
    assert min(row["covered"] for row in symmetric + crossed) >= least
    normal = [row["covered"] for row in symmetric if row["kind"] == "normal"]
    assert max(normal) <= most(2000, 0.95, len(normal))


def test_the_page_is_what_is_rendered() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(FOUND), "run `uv run python -m benchmarks.statistics page`"
    assert "{{" not in page(FOUND)
