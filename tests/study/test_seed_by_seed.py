"""Seeds are added until every mechanism is decided, and no further than the budget."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from foveate.errors import OptionError
from foveate.study.asked import Asked
from foveate.study.compare import Means, compare
from foveate.study.plan import prepare
from tests.study import tiny

ASKED = Asked(settings={"epochs": 1}, sequential=True)
BUDGET = 12


def score(config: Any, arm: str) -> float:
    """One mechanism is better with every seed; another is now ahead and now behind."""
    noise = (config.seed % 3) / 1000
    return {"squeeze_excite": 0.6, "eca": 0.55 if config.seed % 2 else 0.45}.get(arm, 0.5) + noise * (arm != "baseline")


def test_what_is_decided_gets_no_more_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretence = tiny.pretending(monkeypatch, score)
    asked = Asked(settings={"epochs": 1}, sequential=True, placebo=("se", "eca"), fractions=(0.5,))
    comparison = compare(tiny.data(), attention=("se", "eca"), seeds=BUDGET, asked=asked, out=tmp_path)
    # two arms: 2 / 2ⁿ ≤ 0.05 / 2 · share; by hand from the sign-flip test alone it takes at least 7 seeds
    decided = len(pretence.seeds("squeeze_excite"))
    assert 7 <= decided < BUDGET
    assert pretence.seeds("squeeze_excite") == pretence.seeds("placebo of squeeze_excite") == list(range(decided))
    assert pretence.seeds("eca") == pretence.seeds("placebo of eca") == list(range(BUDGET))
    assert pretence.seeds("baseline") == list(range(BUDGET))
    assert pretence.seeds("squeeze_excite", "fraction") == list(range(decided)), "fractions follow"
    rows = {row.arm: row for row in comparison.rows}
    se, eca = rows["squeeze_excite"].verdict, rows["eca"].verdict
    assert se is not None and (se["word"], se["seeds"]) == ("better", decided)
    assert eca is not None and (eca["word"], eca["seeds"]) == ("no evidence", BUDGET)
    # beside its placebo the first arm is as far ahead with as many seeds, but only the planned looks may decide
    [first, _] = comparison.contrasts
    assert first.verdict["p"] >= se["p"] and first.verdict["fewest"] == BUDGET


def test_it_stops_when_all_are_decided_and_goes_on_where_it_was(tmp_path: Path, monkeypatch: Any) -> None:
    pretence = tiny.pretending(monkeypatch, score)
    first = compare(tiny.data(), attention=("se",), seeds=BUDGET, asked=ASKED, out=tmp_path)
    used = len(pretence.seeds("baseline"))
    assert used == len(pretence.seeds("squeeze_excite")) < BUDGET
    pretence.asked.clear()
    again = compare(tiny.data(), attention=("se",), seeds=BUDGET, asked=ASKED, out=tmp_path)
    assert pretence.asked == [] and again.rows == first.rows


def test_without_a_difference_the_budget_is_spent_and_not_exceeded(tmp_path: Path, monkeypatch: Any) -> None:
    pretence = tiny.pretending(monkeypatch, score)
    comparison = compare(tiny.data(), attention=("eca",), seeds=BUDGET, asked=ASKED, out=tmp_path)
    assert pretence.seeds("eca") == pretence.seeds("baseline") == list(range(BUDGET))
    assert comparison.rows[1].verdict is not None and comparison.rows[1].verdict["word"] == "no evidence"


@pytest.mark.parametrize("when", [0, 3])
def test_an_arm_that_fails_leaves_the_others_their_planned_test(when: int, tmp_path: Path, monkeypatch: Any) -> None:
    pretence = tiny.pretending(
        monkeypatch, lambda config, arm: None if arm == "eca" and config.seed == when else score(config, arm)
    )
    comparison = compare(tiny.data(), attention=("se", "eca"), seeds=BUDGET, asked=ASKED, out=tmp_path)
    assert pretence.seeds("eca") == list(range(when + 1)), "no more seeds for what is left out"
    assert [row.arm for row in comparison.rows] == ["baseline", "squeeze_excite"]
    verdict = comparison.rows[1].verdict
    assert verdict is not None and verdict["fewest"] == BUDGET and verdict["word"] == "better"
    assert verdict["arms"] == 1
    assert any(note.startswith(f"eca is left out: eca, seed {when}: the loss is nan") for note in comparison.notes)


def test_a_budget_that_cannot_decide_is_refused_before_anything_runs() -> None:
    with pytest.raises(OptionError, match="3 seeds cannot decide, whatever they show: it takes at least 6"):
        prepare(tiny.data(), attention=("se",), seeds=3, asked=ASKED)


def test_parts_need_runs_that_are_known_in_advance(tmp_path: Path) -> None:
    for asked in (ASKED, Asked(grid=(1.0,))):
        with pytest.raises(OptionError, match="do not go together"):
            compare(tiny.data(), attention=("se",), asked=asked, means=Means(part="1/2"), out=tmp_path)
    assert list(tmp_path.iterdir()) == []
