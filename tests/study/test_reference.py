"""The page of the reference studies, against the files of their results."""

import json
from pathlib import Path

import pytest

from studies.frozen import STUDIES
from studies.page import write_page

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "studies" / "results"


def test_the_page_says_what_the_results_say(tmp_path):
    write_page(RESULTS, tmp_path / "studies.md")
    assert (tmp_path / "studies.md").read_text() == (ROOT / "docs/studies.md").read_text()


@pytest.mark.parametrize("name", STUDIES)
def test_every_frozen_study_has_run_and_has_its_verdict_on_the_page(name):
    comparison = json.loads((RESULTS / f"{name}.json").read_text())["comparison"]
    section = (ROOT / "docs/studies.md").read_text().partition(f"## {name}\n")[2].partition("\n## ")[0]
    assert comparison["headline"] in section
    base, *others = comparison["rows"]
    for row in others:
        [line] = [
            line for line in section.splitlines() if line.startswith(f"| {row['arm']} | {100 * row['score']:.1f} %")
        ]
        more = row["parameters"] - base["parameters"]
        assert f"| {'+' * (more >= 0)}{more:,} |" in line  # none, as of SimAM, is +0
