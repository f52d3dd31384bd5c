"""The rows are the runs' numbers, and the notes say how far to trust them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from foveate.errors import FoveateError, MissingExtraError
from foveate.measure import count_parameters
from foveate.study import compare as comparing
from foveate.study.compare import compare
from foveate.study.folder import load
from foveate.study.plan import prepare
from foveate.study.progress import Silent, bars
from foveate.study.rows import Comparison
from foveate.study.run import build_network
from foveate.study.statistics import estimate, paired_difference
from foveate.study.table import table

OPTIONS = {"attention": ("eca", "psanet:shrink=4"), "seeds": 2, "epochs": 1, "train_images": 64}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def comparison(out: Path) -> Comparison:
    return compare(**OPTIONS, quick=True, out=out)


def test_rows_are_the_numbers_of_the_runs(comparison: Comparison, out: Path) -> None:
    results = load(out)
    assert [row.arm for row in comparison.rows] == ["baseline", "eca", "psanet:shrink=4"]
    by_arm = {
        row.arm: [run["test"]["accuracy"] for run in results.runs if run["arm"] == row.arm] for row in comparison.rows
    }
    for row in comparison.rows:
        assert list(row.accuracies) == by_arm[row.arm] and len(row.accuracies) == 2
        expected = estimate(by_arm[row.arm])
        assert (row.accuracy, row.accuracy_interval) == (expected.mean, expected.interval)
        if row.arm == "baseline":
            assert row.difference is row.differences is row.difference_interval is None
        else:
            paired = paired_difference(by_arm[row.arm], by_arm["baseline"])
            first, second = (a - b for a, b in zip(by_arm[row.arm], by_arm["baseline"], strict=True))
            assert row.differences == (first, second)
            assert (row.difference, row.difference_interval) == (paired.mean, paired.interval)


def test_costs_are_those_of_the_networks(comparison: Comparison, out: Path) -> None:
    study, material = prepare(**OPTIONS)
    networks = {arm.name: build_network(config, 10, material.weights) for arm, config in study.runs()}
    for row in comparison.rows:
        assert row.parameters == count_parameters(networks[row.arm])
        assert row.latency_ms > 0
    baseline, eca, psanet = comparison.rows
    assert baseline.latency_ratio == 1.0 < psanet.latency_ratio
    # the two fully connected layers and ECA's 3 weights at 3 places; its convolution multiplies 3 × (16 + 32 + 64)
    assert eca.parameters - baseline.parameters == 9 and eca.macs - baseline.macs == 3 * (16 + 32 + 64)
    assert psanet.macs > eca.macs
    cost = load(out).cost
    assert cost is not None and cost["batch"] == 1 and cost["shape"] == [1, 1, 28, 28]
    assert cost["arms"]["eca"]["places"] == 3 and cost["arms"]["baseline"]["places"] == 0


def test_what_is_written_is_what_is_returned(comparison: Comparison, out: Path) -> None:
    results = load(out)
    assert results.comparison == json.loads(json.dumps(comparison.as_dict()))
    assert results.study["quick"] is True and results.study["data"]["train"] == 64
    assert [entry["arm"] for entry in results.study["runs"][:3]] == ["baseline", "eca", "psanet:shrink=4"]
    assert (out / "report.html").stat().st_size > 10_000 and comparison.report == out / "report.html"


def test_few_seeds_decide_nothing(comparison: Comparison) -> None:
    assert any(note.startswith("A quick look: 1 epoch of 64 images") for note in comparison.notes)
    assert any("Two seeds decide nothing" in note and "1 of 2 comparisons" in note for note in comparison.notes)


def test_a_second_call_repeats_nothing(comparison: Comparison, out: Path) -> None:
    class Counting(Silent):
        begun = finished = 0

        def begin(self, runs: int, finished: int) -> None:
            assert (runs, finished) == (6, 6)

        def run(self, *run: object) -> None:
            raise AssertionError(f"{run} ran again")

    again = compare(**OPTIONS, quick=True, out=out, progress=Counting())
    assert [row.accuracies for row in again.rows] == [row.accuracies for row in comparison.rows]
    assert again.interrupted == ()


def test_the_table_fits_a_terminal_and_shows_every_number(comparison: Comparison) -> None:
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(table(comparison))
    text = console.export_text()
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80 and "…" not in text
    baseline = next(line for line in lines if line.startswith("baseline"))
    first = comparison.rows[0]
    assert f"{100 * first.accuracy:.1f} ± " in baseline and f"{first.parameters:,}" in baseline
    eca = next(line for line in lines if line.startswith("eca"))
    low, high = comparison.rows[1].difference_interval or (0, 0)
    assert f"± {50 * (high - low):.1f}" in eca and "+9" in eca and "×" in eca
    assert "95 % t-interval over 2 seeds" in text


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    single = compare(attention=("eca",), seeds=1, epochs=1, train_images=64, out=tmp_path)
    assert [row.accuracy_interval for row in single.rows] == [None, None]
    assert single.rows[1].difference is not None and single.rows[1].difference_interval is None
    assert any(note.startswith("One seed decides nothing") for note in single.notes)
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(table(single))
    text = console.export_text()
    assert "±" not in text and "one seed: no intervals" in text


def test_bars_show_runs_and_epochs() -> None:
    console = Console(width=100, record=True, force_terminal=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    with bars(console) as reporter:
        reporter.begin(runs=4, finished=1)
        reporter.run("cbam:reduction=8", 2, epochs=5)
        reporter.epoch(3, 0.5)
        reporter.finished()
        reporter._bars.refresh()
        text = console.export_text()
    assert "2/4" in text and "1 finished before" in text
    assert "cbam:reduction=8, seed 2" in text and "3/5" in text and "50.0%" in text


def test_a_result_folder_that_cannot_be_is_said_before_training(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(FoveateError, match="is a file: choose another"):
        compare(**OPTIONS, out=file / "results")


def test_missing_packages_are_said_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(comparing, "find_spec", lambda module: None if module == "jinja2" else object())
    with pytest.raises(MissingExtraError, match=r"'jinja2': pip install 'foveate\[compare\]'"):
        compare(**OPTIONS, out=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_foveate_and_a_refusal_need_no_lightning() -> None:
    program = (
        "import sys, foveate\n"
        "assert not [name for name in sys.modules if name.startswith(('foveate.study', 'foveate.train'))]\n"
        "from foveate.study.compare import compare\n"
        "try:\n    compare(attention=('cbma',))\n"
        "except foveate.FoveateError as error:\n    assert 'cbam' in str(error)\n"
        "heavy = {'pytorch_lightning', 'torchmetrics', 'scipy', 'matplotlib', 'jinja2'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
