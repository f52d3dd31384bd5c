"""A configuration has one key, and another configuration has another."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest

from foveate.errors import OptionError
from foveate.study.design import BASELINE, RunConfig, Study, arms_of, canonical, code_fingerprint

CONFIG = RunConfig(
    host="foveate/resnet8",
    weights=None,
    weights_fingerprint=None,
    attention=None,
    start="paper",
    at="residual",
    data="pictures",
    fingerprint="abc",
    image_shape=(1, 28, 28),
    train_images=100,
    test_images=50,
    seed=0,
    epochs=2,
    batch_size=32,
    learning_rate=0.1,
    momentum=0.9,
    weight_decay=5e-4,
    warmup=0.1,
    augment=True,
    device="cpu",
    foveate="0.1.0",
    code="0123",
    torch="2.15.0",
    library=None,
)


def changed(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, tuple):
        return (*value[:-1], value[-1] + 1)
    return "another"


def test_equal_configurations_have_equal_keys() -> None:
    assert CONFIG.key == replace(CONFIG).key
    assert len(CONFIG.key) == 16 and int(CONFIG.key, 16) >= 0


@pytest.mark.parametrize("name", [field.name for field in fields(RunConfig)])
def test_every_field_changes_the_key(name: str) -> None:
    other = replace(CONFIG, **{name: changed(getattr(CONFIG, name))})
    assert other.key != CONFIG.key


def test_the_key_survives_a_file() -> None:
    read = json.loads(json.dumps(CONFIG.as_dict(), indent=3))
    assert canonical(read) == canonical(CONFIG.as_dict())


def test_canonical_json_has_no_order_and_no_invented_numbers() -> None:
    assert canonical({"a": 1, "b": 2.5}) == canonical(json.loads('{"b": 2.5, "a": 1}'))
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical({"a": float("nan")})


def test_runs_go_seed_by_seed_and_the_baseline_has_no_attention() -> None:
    study = Study(CONFIG, arms_of(("se", "cbam:reduction=8")), (0, 1))
    runs = [(arm.name, config.seed, config.attention, config.start) for arm, config in study.runs()]
    assert runs == [
        (BASELINE, 0, None, None),
        ("squeeze_excite", 0, "squeeze_excite", "paper"),
        ("cbam:reduction=8", 0, "cbam:reduction=8", "paper"),
        (BASELINE, 1, None, None),
        ("squeeze_excite", 1, "squeeze_excite", "paper"),
        ("cbam:reduction=8", 1, "cbam:reduction=8", "paper"),
    ]
    assert len({config.key for _, config in study.runs()}) == 6


def test_a_baseline_is_the_same_run_however_attention_starts() -> None:
    keys = [
        next(iter(Study(replace(CONFIG, start=start), arms_of(("se",)), (0,)).runs()))[1].key
        for start in ("paper", "identity")
    ]
    assert keys[0] == keys[1]


def test_arms_know_their_title_and_kind() -> None:
    assert [arm.as_dict() for arm in arms_of(("cbam:parts=spatial",))] == [
        {"name": "baseline", "attention": None, "title": "baseline", "kind": None},
        {
            "name": "cbam:parts=spatial",
            "attention": "cbam:parts=spatial",
            "title": "Convolutional Block Attention Module",
            "kind": "spatial",
        },
    ]


@pytest.mark.parametrize(
    ("attention", "sentence"),
    [
        ((), "nothing to compare"),
        (("se", "squeeze_excite"), "'squeeze_excite' is named twice"),
        (("cbma",), "did you mean 'cbam'"),
    ],
)
def test_arms_that_make_no_sense_are_refused(attention: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(OptionError, match=sentence):
        arms_of(attention)


def test_code_that_shapes_the_numbers_changes_the_fingerprint(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil
    from pathlib import Path

    import foveate

    copy = tmp_path / "foveate"
    shutil.copytree(Path(foveate.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    here = code_fingerprint()
    monkeypatch.setattr(foveate, "__file__", str(copy / "__init__.py"))
    assert code_fingerprint.__wrapped__() == here
    with (copy / "study" / "table.py").open("a") as file:
        file.write("# how results are shown\n")
    assert code_fingerprint.__wrapped__() == here
    with (copy / "catalogue" / "cbam.py").open("a") as file:
        file.write("# what is computed\n")
    assert code_fingerprint.__wrapped__() != here
