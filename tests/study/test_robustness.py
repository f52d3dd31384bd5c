"""Summaries of scores on corrupted images, against sums by hand."""

from __future__ import annotations

import numpy as np
import pytest

from foveate.data.corruptions import FAMILIES, STRENGTHS
from foveate.errors import FoveateError
from foveate.study.robustness import robustness_of


def table(seed: int) -> dict[tuple[str, int], float]:
    values = iter(np.random.default_rng(seed).uniform(0.2, 0.8, 80).tolist())
    return {(name, strength): next(values) for names in FAMILIES.values() for name in names for strength in STRENGTHS}


def test_means_and_relative_errors():
    scores, base = table(0), table(1)
    found = robustness_of(scores, 0.9, FAMILIES, base)
    a, b = (np.array(list(one.values())).reshape(4, 4, 5) for one in (scores, base))
    assert found.mean == pytest.approx(a.mean())
    assert found.kept == pytest.approx(a.mean() / 0.9)
    assert list(found.families.values()) == pytest.approx(a.mean((1, 2)))
    assert list(found.strengths.values()) == pytest.approx(a.mean((0, 1)))
    relative = (1 - a).sum(2) / (1 - b).sum(2)
    assert found.relative_error == pytest.approx(relative.mean())
    assert list(found.relative_families.values()) == pytest.approx(relative.mean(1))


def test_beside_itself_it_is_one_and_alone_it_is_nothing():
    scores = table(0)
    assert robustness_of(scores, 0.9, FAMILIES, scores).relative_error == pytest.approx(1)
    alone = robustness_of(scores, 0.0, FAMILIES)
    assert (alone.relative_error, alone.kept, set(alone.relative_families.values())) == (None, None, {None})


def test_a_perfect_baseline_has_no_ratio():
    base = {key: 1.0 if key[0] == "fog" else 0.5 for key in table(0)}
    found = robustness_of(table(0), 0.9, FAMILIES, base)
    assert found.relative_error is None
    assert found.relative_families["weather"] is None
    assert found.relative_families["blur"] is not None


def test_some_of_the_corruptions():
    found = robustness_of({("fog", 1): 0.5, ("jpeg", 1): 0.7}, 0.8, FAMILIES)
    assert dict(found.families) == {"weather": 0.5, "digital": 0.7}


@pytest.mark.parametrize(
    ("scores", "base", "words"),
    [
        ({}, None, "no score"),
        ({("fog", 1): 0.5, ("fog", 2): 0.5, ("jpeg", 1): 0.5}, None, "jpeg at 2"),
        ({("fog", 1): 0.5}, {("fog", 2): 0.5}, "fog at 1"),
        ({("fog", 1): 50.0}, None, "from 0 to 1, and one is 50"),
        ({("fog", 1): float("nan")}, None, "one is nan"),
        ({("mist", 1): 0.5}, None, "no family: mist"),
    ],
)
def test_what_cannot_be_summarised(scores, base, words):
    with pytest.raises(FoveateError, match=words):
        robustness_of(scores, 0.9, FAMILIES, base)
