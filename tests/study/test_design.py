"""A configuration has one key, and another configuration has another."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest

from foveate.errors import OptionError
from foveate.study.design import BASELINE, Look, RunConfig, Study, arms_of
from foveate.study.plain import canonical, code_fingerprint

CONFIG = RunConfig(
    work="classification",
    host="foveate/resnet8",
    weights=None,
    weights_fingerprint=None,
    role="baseline",
    attention=None,
    start="paper",
    at="residual",
    data="pictures",
    fingerprint="abc",
    options={"size": 28},
    counts=(100, 20, 50),
    share=1.0,
    seed=0,
    resplit=False,
    recipe={"epochs": 2, "learning_rate": 0.1},
    tested=True,
    look=Look(corruptions=(1, 3)),
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
    if isinstance(value, dict):
        return {**value, "size": 29}
    if isinstance(value, Look):
        return replace(value, focus=1)
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


def test_a_configuration_comes_back_from_plain_values() -> None:
    read = json.loads(json.dumps(CONFIG.as_dict()))
    assert RunConfig.of(read) == CONFIG and RunConfig.of(read).key == CONFIG.key


def test_stages_change_what_they_are_about_and_nothing_else() -> None:
    study = Study(CONFIG, arms_of(("se",)), (0, 1), rates=(0.1, 0.3), tuning_seeds=(9,), fractions=(0.5,))
    study = replace(study, chosen={"squeeze_excite": 0.3})
    runs = {(arm.name, config.seed): config for arm, config in study.runs()}
    assert runs["baseline", 0] == replace(CONFIG, start=None, at=None)
    assert runs["squeeze_excite", 1].recipe == {"epochs": 2, "learning_rate": 0.3}
    assert [(arm.name, rate, config.seed) for arm, rate, config in study.tuning()] == [
        ("baseline", 0.1, 9), ("squeeze_excite", 0.1, 9), ("baseline", 0.3, 9), ("squeeze_excite", 0.3, 9),
    ]  # fmt: skip
    for _, rate, config in study.tuning():
        assert not config.tested and config.look == Look() and config.recipe["learning_rate"] == rate
    parts = {(arm.name, config.seed): config for arm, share, config in study.curve() if share == 0.5}
    for name, config in parts.items():
        assert config == replace(runs[name], share=0.5, look=Look())


def test_controls_are_of_a_mechanism() -> None:
    arms = arms_of(("se", "eca"), capacity=("eca",), placebo=("se",), larger=("foveate/resnet14",))
    assert [(arm.name, arm.role, arm.against) for arm in arms[3:]] == [
        ("capacity of eca", "capacity", "eca"),
        ("placebo of squeeze_excite", "placebo", "squeeze_excite"),
        ("foveate/resnet14", "larger", None),
    ]
    study = Study(CONFIG, arms, (0,))
    configs = {arm.name: config for arm, config in study.runs()}
    assert configs["foveate/resnet14"].host == "foveate/resnet14" and configs["foveate/resnet14"].at is None
    assert configs["placebo of squeeze_excite"].attention == "squeeze_excite"
    assert [arm.name for arm in study.compared] == ["squeeze_excite", "eca"]
    assert arms[3].as_dict()["title"] == "as many parameters as Efficient Channel Attention"
    with pytest.raises(OptionError, match="a placebo of 'cbam' needs 'cbam' among the mechanisms"):
        arms_of(("se",), placebo=("cbam",))


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
        {"name": "baseline", "role": "baseline", "attention": None, "title": "baseline", "kind": None},
        {
            "name": "cbam:parts=spatial",
            "role": "attention",
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
    for shown in ("study/table.py", "explain/album/page.py", "explain/pictures/bars.py", "train/album.py"):
        with (copy / shown).open("a") as file:
            file.write("# how results are shown\n")
    assert code_fingerprint.__wrapped__() == here
    with (copy / "catalogue" / "cbam.py").open("a") as file:
        file.write("# what is computed\n")
    assert code_fingerprint.__wrapped__() != here


@pytest.mark.parametrize(
    "source",
    [
        "study/material.py",
        "study/arms/placebo.py",
        "explain/recording/hearing.py",
        "explain/trust/curves.py",
        "train/loader.py",
    ],
)
def test_whatever_a_run_is_made_by_is_in_the_fingerprint(
    source: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil
    from pathlib import Path

    import foveate

    copy = tmp_path / "foveate"
    shutil.copytree(Path(foveate.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    here = code_fingerprint()
    with (copy / source).open("a") as file:
        file.write("# another\n")
    monkeypatch.setattr(foveate, "__file__", str(copy / "__init__.py"))
    assert code_fingerprint.__wrapped__() != here
