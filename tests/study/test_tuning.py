"""Each arm's learning rate is chosen by validation, on seeds of its own, and nobody looks at the test samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from foveate.errors import FoveateError
from foveate.study.asked import Asked
from foveate.study.compare import compare
from foveate.study.folder import load
from foveate.study.plan import TUNING_SEED, prepare
from foveate.study.tuning import chosen_rates
from tests.study import tiny

GRID = Asked(settings={"epochs": 1}, grid=(1 / 3, 1.0, 3.0), tuning_seeds=2)


def tuned(values: dict[tuple[str, int, int], float | None], better: str = "max") -> Any:
    """By arm, number of the rate and of the seed, what validation said."""
    study = prepare(tiny.data(), attention=("se",), seeds=1, asked=GRID).study
    records = [
        tiny.record_of(config, arm.name, "tuning", 0.0) | {"validation": value}
        for arm, rate, config in study.tuning()
        for value in [values.get((arm.name, study.rates.index(rate), config.seed - TUNING_SEED), 0.5)]
        if (arm.name, study.rates.index(rate), config.seed - TUNING_SEED) not in values or value is not None
    ]
    chosen, table = chosen_rates(study, records, better)
    return {name: study.rates.index(rate) for name, rate in chosen.items()}, table


def test_the_mean_over_seeds_decides() -> None:
    values = {("baseline", 2, 0): 0.9, ("baseline", 2, 1): 0.2, ("baseline", 0, 0): 0.6, ("baseline", 0, 1): 0.6}
    chosen, table = tuned(values)
    assert chosen["baseline"] == 0  # 0.6, 0.5 and 0.55
    assert table["baseline"] == pytest.approx({"0.0333333": 0.6, "0.1": 0.5, "0.3": 0.55})
    assert tuned(values, "min")[0]["baseline"] == 1


def test_of_equal_rates_the_one_nearest_to_the_recipe_s() -> None:
    assert tuned({})[0] == {"baseline": 1, "squeeze_excite": 1}
    higher = {("baseline", index, seed): 0.7 for index in (0, 2) for seed in (0, 1)}
    assert tuned(higher)[0]["baseline"] == 0  # a third is nearer to one than three


def test_a_rate_at_which_a_run_is_missing_is_not_chosen() -> None:
    values: dict[Any, Any] = {("baseline", 0, seed): 0.9 for seed in (0, 1)} | {("squeeze_excite", 0, 0): 0.99}
    chosen, table = tuned(values | {("squeeze_excite", 0, 1): None})
    assert chosen == {"baseline": 0, "squeeze_excite": 1} and table["squeeze_excite"]["0.0333333"] is None
    nothing = {("squeeze_excite", index, 0): None for index in range(3)}
    assert set(tuned(nothing)[0]) == {"baseline"}


def test_every_arm_is_tried_and_run_at_its_own_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    best = {"baseline": 0.3, "squeeze_excite": 0.1 / 3}

    def score(config: Any, arm: str) -> float:
        return 0.5 - abs(config.recipe["learning_rate"] - best[arm])

    pretence = tiny.pretending(monkeypatch, score)
    comparison = compare(tiny.data(), attention=("se",), seeds=2, asked=GRID, out=tmp_path)
    assert {row.arm: row.rate for row in comparison.rows} == pytest.approx(best)
    assert comparison.tuned["baseline"]["0.3"] == pytest.approx(0.5) and len(comparison.tuned["squeeze_excite"]) == 3
    tuning = [config for stage, _, _, config in pretence.asked if stage == "tuning"]
    main = [config for stage, _, _, config in pretence.asked if stage == "main"]
    assert len(tuning) == 2 * 3 * 2 and len(main) == 4
    assert not {config.seed for config in tuning} & {config.seed for config in main}
    assert not any(config.tested for config in tuning) and all(config.tested for config in main)
    assert [entry["stage"] for entry in load(tmp_path).study["runs"]] == ["tuning"] * 12 + ["main"] * 4

    pretence.asked.clear()
    before = (tmp_path / "cost.json").stat().st_mtime_ns
    again = compare(tiny.data(), attention=("se",), seeds=2, asked=GRID, out=tmp_path)
    assert pretence.asked == [] and (tmp_path / "cost.json").stat().st_mtime_ns == before
    assert again.rows == comparison.rows and again.tuned == comparison.tuned


def test_a_rate_that_cannot_be_trained_costs_nothing_but_itself(tmp_path: Path, monkeypatch: Any) -> None:
    def score(config: Any, arm: str) -> float | None:
        rate = config.recipe["learning_rate"]
        return None if rate > 0.2 or (arm == "eca" and config.share == 1) else rate

    tiny.pretending(monkeypatch, score)
    comparison = compare(tiny.data(), attention=("se", "eca"), seeds=1, asked=GRID, out=tmp_path)
    assert [(row.arm, row.rate) for row in comparison.rows] == [("baseline", 0.1), ("squeeze_excite", 0.1)]
    assert comparison.failed == {"eca": "it could not be trained at any of the learning rates"}
    assert "eca is left out: it could not be trained at any of the learning rates." in comparison.notes


def test_a_baseline_without_a_rate_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.pretending(monkeypatch, lambda _, arm: None if arm == "baseline" else 0.5)
    with pytest.raises(FoveateError, match="baseline could not be trained at any of the learning rates"):
        compare(tiny.data(), attention=("se",), seeds=1, asked=GRID, out=tmp_path)


class Forbidden:
    """Test samples that nobody may look at."""

    names = ("a", "b")

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Any:
        raise AssertionError("a test sample was looked at")


def test_runs_that_choose_a_rate_never_look_at_test_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.unseen(monkeypatch)
    hidden: Any = replace(tiny.data(), test=Forbidden(), fingerprint="hidden")
    asked = Asked(settings={"epochs": 1}, grid=(1.0,), corruptions=(1,), focus=2)
    with pytest.raises(FoveateError, match=r"2 of 2 runs could not be finished.*a test sample was looked at"):
        compare(hidden, attention=("se",), seeds=1, asked=asked, out=tmp_path)
    stages = [entry["stage"] for entry in load(tmp_path).study["runs"]]
    assert [run["stage"] for run in load(tmp_path).runs] == ["tuning", "tuning"] and stages == ["tuning"] * 2 + [
        "main"
    ] * 2
    assert all("test" not in run and run["validation"] > 0 for run in load(tmp_path).runs)
