"""Rows, contrasts, curves and the headline are the runs' numbers: worked out by hand from records that were made up."""

from __future__ import annotations

from typing import Any

import pytest

from foveate.study.asked import Asked
from foveate.study.conclusion import by_arm, conclude
from foveate.study.design import Study
from foveate.study.generalising import (
    beside_baseline,
    calibration_of_arms,
    curves_of,
    focus_of_arms,
    robustness_of_arms,
)
from foveate.study.headline import headline
from foveate.study.plan import prepare
from foveate.study.rows import contrasts_of, paired, rows_of
from tests.study import tiny

# differences of eight seeds: always ahead; now ahead and now behind; always behind
AHEAD = [0.02, 0.03, 0.02, 0.01, 0.02, 0.03, 0.04, 0.03]
MIXED = [0.02, -0.03, 0.02, -0.01, 0.02, -0.03, 0.04, -0.03]
BASE = [0.50, 0.52, 0.51, 0.49, 0.50, 0.53, 0.48, 0.51]
COSTS: dict[str, Any] = {"arms": {}, "conditions": {}}


def study(seeds: int = 8, **asked: Any) -> Study:
    return prepare(tiny.data(), attention=("se", "eca"), seeds=seeds, asked=Asked(**asked)).study


def runs_of(made: Study, differences: dict[str, list[float]], **more: Any) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for arm, config in made.runs():
        if arm.name not in differences and arm.name != "baseline":
            continue
        own = differences.get(arm.name, [0.0] * 8)
        if config.seed < len(own):
            record = tiny.record_of(config, arm.name, "main", BASE[config.seed] + own[config.seed])
            found.setdefault(arm.name, []).append(record | more)
    return found


def test_rows_are_what_is_worked_out_by_hand() -> None:
    made = study()
    runs = runs_of(made, {"squeeze_excite": AHEAD, "eca": MIXED})
    costs = {
        "arms": {
            "squeeze_excite": {
                "parameters": {"total": 120},
                "macs": {"count": 7},
                "latency": [{"median_ms": 2.0, "ratio": 1.5, "interval": [1.4, 1.6]}, {"median_ms": 9.0}],
            }
        },
        "conditions": {},
    }
    base, se, eca = rows_of(made, runs, costs, "accuracy", "max")
    assert (base.arm, base.differences, base.difference, base.verdict) == ("baseline", None, None, None)
    # 4.04 / 8; the deviation of a mean of eight times t(7) = 2.3646 at 97.5 %
    assert base.score == pytest.approx(0.505) and base.scores == tuple(BASE)
    deviation = (sum((x - 0.505) ** 2 for x in BASE) / 7) ** 0.5
    half = 2.364624 * deviation / 8**0.5
    assert base.score_interval == pytest.approx((0.505 - half, 0.505 + half), abs=1e-6)
    assert se.differences == pytest.approx(AHEAD) and se.difference == pytest.approx(0.025)
    assert se.gap == pytest.approx(0.1) and se.seconds == pytest.approx(8 * 1.5)
    assert (se.parameters, se.macs, se.latency_ms, se.latency_ratio) == (120, 7, 2.0, 1.5)
    assert eca.parameters is eca.latency_ms is eca.latency_ratio is None
    # sign flips of eight differences with one sign: 2 of 256; Holm among two: twice that
    assert se.verdict is not None and se.verdict["p"] == pytest.approx(2 / 256)
    assert se.verdict["p_adjusted"] == pytest.approx(4 / 256) and se.verdict["word"] == "better"
    assert eca.verdict is not None and eca.verdict["word"] == "no evidence" and eca.verdict["arms"] == 2


def test_less_is_better_where_it_is() -> None:
    made = study()
    _, se, _ = rows_of(made, runs_of(made, {"squeeze_excite": AHEAD, "eca": MIXED}), COSTS, "accuracy", "min")
    assert se.verdict is not None and se.verdict["word"] == "worse" and se.verdict["wins"] == 0
    assert se.difference == pytest.approx(0.025), "differences keep their sign"


def test_mechanisms_are_one_family_and_controls_another() -> None:
    made = study(placebo=("all",), capacity=("se",))
    given = {"squeeze_excite": AHEAD, "eca": MIXED, "placebo of squeeze_excite": [0.0] * 8, "placebo of eca": MIXED}
    given["capacity of squeeze_excite"] = MIXED
    runs = runs_of(made, given)
    rows = {row.arm: row for row in rows_of(made, runs, COSTS, "accuracy", "max")}
    assert [rows[name].verdict for name in given if rows[name].role != "attention"] == [None, None, None]
    verdict = rows["squeeze_excite"].verdict
    assert verdict is not None and verdict["arms"] == 2 and verdict["p_adjusted"] == pytest.approx(4 / 256)
    found = {(one.arm, one.control): one for one in contrasts_of(made, runs, "accuracy", "max")}
    assert set(found) == {
        ("squeeze_excite", "capacity of squeeze_excite"),
        ("squeeze_excite", "placebo of squeeze_excite"),
        ("eca", "placebo of eca"),
    }
    first = found["squeeze_excite", "placebo of squeeze_excite"].verdict
    assert first["arms"] == 3 and first["p"] == pytest.approx(2 / 256) and first["p_adjusted"] == pytest.approx(6 / 256)
    assert first["mean"] == pytest.approx(0.025) and first["word"] == "better"
    assert found["eca", "placebo of eca"].verdict["mean"] == 0
    assert (
        "squeeze_excite beside placebo of squeeze_excite is better"
        in found["squeeze_excite", "placebo of squeeze_excite"].sentence
    )
    assert contrasts_of(study(), runs_of(study(), {"squeeze_excite": AHEAD}), "accuracy", "max") == ()


def test_a_control_is_compared_on_the_seeds_that_it_has() -> None:
    made = study(placebo=("se",))
    runs = runs_of(made, {"squeeze_excite": AHEAD, "placebo of squeeze_excite": [0.0] * 5})
    [found] = contrasts_of(made, runs, "accuracy", "max")
    assert found.verdict["seeds"] == 5 and found.verdict["mean"] == pytest.approx(sum(AHEAD[:5]) / 5)


def test_examples_are_paired_only_where_the_same_were_tested() -> None:
    made = study(2)
    right = {"baseline": [[1, 0, 0, 0], [1, 1, 0, 0]], "squeeze_excite": [[1, 1, 0, 0], [1, 1, 1, 1]]}

    def runs(arm: str, **config: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for seed, own in enumerate(right[arm]):
            record = tiny.record_of(made.config(made.arms[0], seed), arm, "main", sum(own) / 4, scores=own)
            record["config"] |= config
            found.append(record)
        return found

    both = paired(runs("squeeze_excite"), runs("baseline"), "accuracy")
    assert both.differences == (0.25, 0.5) and both.examples is not None
    assert both.examples.tolist() == [[0, 1, 0, 0], [0, 0, 1, 1]]
    dealt = paired(runs("squeeze_excite", resplit=True), runs("baseline", resplit=True), "accuracy")
    assert dealt.differences == (0.25, 0.5) and dealt.examples is None, "with every seed other examples"
    lacking = runs("baseline")
    lacking[1]["scores"] = None
    assert paired(runs("squeeze_excite"), lacking, "accuracy").examples is None
    shorter = runs("baseline")
    shorter[1]["scores"] = [1, 0]
    assert paired(runs("squeeze_excite"), shorter, "accuracy").examples is None
    other = runs("baseline")
    other[0]["test"]["accuracy"] = 0.75  # what is compared is no mean of the scores
    assert paired(runs("squeeze_excite"), other, "accuracy").examples is None
    assert paired(runs("squeeze_excite")[:1], runs("baseline")[:1], "accuracy").examples is None, "one seed"


def test_runs_are_paired_by_seed_and_not_by_order() -> None:
    made = study(3)
    runs = runs_of(made, {"squeeze_excite": [0.1, 0.2, 0.3]})
    assert paired(runs["squeeze_excite"], runs["baseline"][::-1], "accuracy").differences == pytest.approx(
        (0.1, 0.2, 0.3)
    )


@pytest.mark.parametrize(
    ("given", "seeds", "asked", "sentence"),
    [
        (
            {"squeeze_excite": AHEAD, "eca": [-d for d in AHEAD]},
            8,
            {},
            r"^squeeze_excite \(\+2\.5 points\) is better than the network without attention; eca \(-2\.5 points\) is "
            r"worse\.$",
        ),
        ({"squeeze_excite": MIXED, "eca": MIXED}, 8, {}, r"^There is no evidence that .* and eca .* help here\.$"),
        (
            {"squeeze_excite": AHEAD[:2], "eca": MIXED[:2]},
            2,
            {},
            r"^Underpowered: 2 seeds cannot decide about any of them: ",
        ),
        (
            {"squeeze_excite": AHEAD[:1], "eca": MIXED[:1]},
            1,
            {},
            r"^Underpowered: 1 seed cannot decide about any of them\.$",
        ),
        (
            {"squeeze_excite": MIXED, "eca": AHEAD},
            8,
            {"relevant": 0.001},
            r"too few to see the difference of interest in squee",
        ),
        ({}, 8, {}, "^Nothing could be compared: no mechanism has finished runs.$"),
    ],
)
def test_the_headline_says_what_the_verdicts_say(given: Any, seeds: int, asked: Any, sentence: str) -> None:
    import re

    made = study(seeds, **asked)
    runs = runs_of(made, given)
    said = headline(rows_of(made, runs, COSTS, "accuracy", "max"), "accuracy")
    assert re.search(sentence, said), said


def test_numbers_stand_beside_the_baseline_s_of_the_same_seed() -> None:
    runs: Any = {
        "baseline": [{"seed": 0, "x": 1.0}, {"seed": 1, "x": 3.0}, {"seed": 2, "x": None}],
        "se": [{"seed": 1, "x": 3.5}, {"seed": 0, "x": 2.0}, {"seed": 2, "x": 9.0}],
        "eca": [{"seed": 0, "x": None}],
    }
    found = beside_baseline(runs, lambda run: run["x"])
    assert found["baseline"] == {"mean": found["baseline"]["mean"]} and found["baseline"]["mean"]["mean"] == 2
    assert found["se"]["mean"]["mean"] == pytest.approx(14.5 / 3)
    assert found["se"]["difference"]["mean"] == pytest.approx(0.75)  # 0.5 and 1
    # t(1) = 12.7062 at 97.5 %, times the deviation of the mean, 0.25
    assert found["se"]["difference"]["interval"] == pytest.approx((0.75 - 3.17655, 0.75 + 3.17655), abs=1e-4)
    assert "eca" not in found


def test_learning_curves_end_with_all_samples() -> None:
    made = study(2, fractions=(0.5, 0.25))
    main = runs_of(made, {"squeeze_excite": [0.1, 0.1]})
    part = {"baseline": main["baseline"]}
    found = curves_of(main, {0.5: part, 0.25: main}, "accuracy")
    assert list(found) == ["0.25", "0.5", "1"] and "squeeze_excite" not in found["0.5"]
    assert found["1"]["squeeze_excite"]["difference"]["mean"] == pytest.approx(0.1)
    assert curves_of(main, {}, "accuracy") == {}


def test_corruptions_are_means_over_names_and_strengths() -> None:
    made = study(2)
    first = {"gaussian_noise": {"1": 0.4, "3": 0.2}, "fog": {"1": 0.5, "3": 0.3}, "snow": {"1": 0.1, "3": 0.5}}
    runs = runs_of(made, {"squeeze_excite": [0.0] * 2}, corruptions=first, shifted={"shifted": {"accuracy": 0.2}})
    second = {name: {one: value + 0.1 for one, value in values.items()} for name, values in first.items()}
    for run in runs["squeeze_excite"]:
        run["corruptions"], run["shifted"] = second, {"shifted": {"accuracy": 0.3}}
    found = robustness_of_arms(runs, "accuracy")
    assert set(found["corruptions"]) == {"all", "noise", "weather"}
    assert found["corruptions"]["all"]["baseline"]["mean"]["mean"] == pytest.approx(2.0 / 6)
    assert found["corruptions"]["weather"]["baseline"]["mean"]["mean"] == pytest.approx(1.4 / 4)
    assert found["strengths"]["3"]["baseline"]["mean"]["mean"] == pytest.approx(1 / 3)
    assert found["single"]["fog"]["squeeze_excite"]["difference"]["mean"] == pytest.approx(0.1)
    assert found["shifted"]["shifted"]["squeeze_excite"]["mean"]["mean"] == pytest.approx(0.3)
    clean = [run["test"]["accuracy"] for run in runs["baseline"]]
    kept = sum(2.0 / 6 / one for one in clean) / len(clean)
    assert found["kept"]["baseline"]["mean"]["mean"] == pytest.approx(kept)
    # of each name what is lacking over what the baseline lacks: 1.2 of 1.4, 1.0 of 1.2, 1.2 of 1.4
    assert found["relative_error"]["squeeze_excite"]["mean"]["mean"] == pytest.approx((1.2 / 1.4 * 2 + 1.0 / 1.2) / 3)
    assert "baseline" not in found["relative_error"]
    runs["squeeze_excite"][0]["corruptions"] = {**second, "fog": {"1": None, "3": 0.4}}  # could not be measured
    found = robustness_of_arms(runs, "accuracy")
    assert found["corruptions"]["all"]["squeeze_excite"]["difference"]["mean"] == pytest.approx(0.1)
    assert found["single"]["fog"]["squeeze_excite"]["difference"]["mean"] == pytest.approx(0.1)
    assert robustness_of_arms(runs_of(made, {}), "accuracy") == {}


def test_calibration_and_focus_are_told_by_measure() -> None:
    made = study(2)
    kept = {"plain": {"ece": 0.2, "adaptive_ece": 0.1, "brier": 0.4, "nll": 1.0}}
    kept["scaled"] = {name: value / 2 for name, value in kept["plain"].items()}
    focus = {"Grad-CAM": {"insertion": 0.5}, "attention": {"insertion": 0.7}}
    runs = runs_of(made, {"squeeze_excite": [0.0] * 2}, calibration=kept, focus=focus)
    for run in runs["baseline"]:
        run["focus"] = {"Grad-CAM": {"insertion": 0.4}}
    found = calibration_of_arms(runs)
    assert found["ece"]["squeeze_excite"]["mean"]["mean"] == pytest.approx(0.2)
    assert found["nll scaled"]["baseline"]["mean"]["mean"] == pytest.approx(0.5)
    about = focus_of_arms(runs)
    assert "difference" not in about["baseline"]["Grad-CAM"]["insertion"]
    assert about["squeeze_excite"]["attention"]["insertion"]["difference"]["mean"] == pytest.approx(0.3)
    assert about["squeeze_excite"]["Grad-CAM"]["insertion"]["difference"]["mean"] == pytest.approx(0.1)
    assert calibration_of_arms(runs_of(made, {})) == focus_of_arms(runs_of(made, {})) == {}


def test_runs_come_by_arm_in_the_order_of_seeds() -> None:
    records = [{"arm": arm, "seed": seed} for seed in (1, 0) for arm in ("se", "baseline", "other")]
    assert by_arm(records, ["baseline", "se"]) == {
        arm: [{"arm": arm, "seed": 0}, {"arm": arm, "seed": 1}] for arm in ("baseline", "se")
    }


def test_the_front_and_what_is_dominated(tmp_path: Any) -> None:
    prepared = prepare(tiny.data(), attention=("se", "eca"), seeds=8)
    runs = runs_of(prepared.study, {"squeeze_excite": [0.2 + d for d in AHEAD], "eca": [d - 0.3 for d in AHEAD]})
    times = {"baseline": 1.0, "squeeze_excite": 1.5, "eca": 2.0}
    costs = {
        "arms": {
            arm: {"latency": [{"median_ms": time, "ratio": time, "interval": [time - 0.1, time + 0.1]}]}
            for arm, time in times.items()
        },
        "conditions": {},
    }
    records = [run for own in runs.values() for run in own]
    found = conclude(
        prepared, records, [], costs, judged=None, failed={}, tuned={}, interrupted=(), out=tmp_path
    )  # fmt: skip
    assert found.front == ("baseline", "squeeze_excite") and set(found.dominated) == {"eca"}
    without = conclude(
        prepared, records, [], costs, judged=None, failed={"eca": "why"}, tuned={}, interrupted=(), out=tmp_path
    )  # fmt: skip
    assert [row.arm for row in without.rows] == ["baseline", "squeeze_excite"] and without.dominated == {}
    verdict = without.rows[1].verdict
    assert verdict is not None and verdict["arms"] == 1
