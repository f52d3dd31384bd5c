"""Runs with one seed share host, batches and augmentation; they hold what they should, whatever the work is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from foveate.errors import DataError, FoveateError, MissingExtraError, OptionError
from foveate.measure import count_parameters
from foveate.study import needs
from foveate.study.asked import Asked
from foveate.study.compare import Means, compare
from foveate.study.design import DEFAULT_ATTENTION
from foveate.study.folder import load
from foveate.study.material import network_of
from foveate.study.outcome import finite
from foveate.study.plan import Prepared, prepare
from foveate.study.pricing import price
from foveate.study.progress import Silent
from foveate.study.work import carry_out, curves_of, job_of
from foveate.train.classification import Classification
from tests.study import tiny


def prepared(
    data: Any = None, weights: Any = "auto", attention: Any = ("se",), seeds: int = 1, **asked: Any
) -> Prepared:
    settings = {"epochs": 1, **asked.pop("settings", {})}
    given = {"train_samples": None, **asked}
    return prepare(
        tiny.data() if data is None else data, None, weights, attention, seeds, asked=Asked(settings=settings, **given)
    )


def run(found: Prepared, number: int = 0, *, maps: bool = False) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A run, and what was said on the way."""
    arm, config = list(found.study.runs())[number]
    notes: list[dict[str, Any]] = []
    job = job_of(config, arm.name, stage="main", places=found.places, maps=maps)
    return dict(carry_out(job.payload, notes.append).record), notes


def test_grey_images_fill_the_channels_of_weights(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from foveate import hosts

    file = tmp_path / "weights.safetensors"
    save_file(hosts.build("foveate/resnet8", classes=7, in_channels=3).state_dict(), file)
    found = prepared(weights=file)
    assert all(run(found, number)[0]["validation"] is not None for number in (0, 1))


ARMS: dict[str, Any] = {"capacity": ("se", "cbam"), "placebo": ("se", "cbam")}


@pytest.mark.parametrize(("start", "weights"), [("paper", None), ("identity", "pretrained")])
def test_the_same_seed_gives_every_arm_the_same_host(start: str, weights: str | None, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from foveate import hosts

    file = None
    if weights:
        file = tmp_path / "weights.safetensors"
        save_file(hosts.build("foveate/resnet8", classes=7, in_channels=3).state_dict(), file)
    found = prepared(weights=file, attention=DEFAULT_ATTENTION, seeds=2, **ARMS)
    assert found.study.base.start == start
    seen: dict[int, dict[str, Tensor]] = {}
    for arm, config in found.study.runs():
        stream = torch.random.get_rng_state()
        network, _, _ = network_of(config, found.data, found.places["weights"])
        assert torch.equal(torch.random.get_rng_state(), stream), "building shifts the global stream"
        state = {key: value for key, value in network.state_dict().items() if ".foveate." not in key}
        first = seen.setdefault(config.seed, state)
        assert state.keys() == first.keys(), arm.name
        assert all(torch.equal(state[key], first[key]) for key in state), arm.name
    assert not torch.equal(seen[0]["linear.weight"], seen[1]["linear.weight"])
    assert torch.equal(seen[0]["conv1.weight"], seen[1]["conv1.weight"]) == (weights is not None)


def test_attention_and_its_placebo_are_initialised_by_the_seed_and_alike() -> None:
    found = prepared(seeds=2, placebo=("se",))
    states = {
        (arm.role, config.seed, again): network_of(config, found.data, None)[0].state_dict()
        for arm, config in found.study.runs()
        for again in (False, True)
    }
    key = "layer1.0.bn2.foveate.squeeze_excite.fc1.weight"
    first = states["attention", 0, False][key]
    assert torch.equal(first, states["attention", 0, True][key])
    assert torch.equal(first, states["placebo", 0, False][key]), "a placebo begins as its mechanism"
    assert not torch.equal(first, states["attention", 1, False][key])


def test_the_same_seed_gives_every_arm_the_same_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[Tensor]] = []
    step = Classification.training_step

    def noting(self: Any, batch: Any, batch_idx: int) -> Tensor:
        seen[-1] += [part.clone() for part in batch]
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Classification, "training_step", noting)
    found = prepared(seeds=2, attention=("cbam",), placebo=("cbam",), capacity=("cbam",), settings={"epochs": 2})
    for number in range(8):
        seen.append([])
        run(found, number)
    batches = 64 // found.study.base.recipe["batch_size"]
    for arms in (seen[:4], seen[4:]):
        assert len(arms[0]) == 2 * batches * 2  # epochs, batches, images and labels
        assert all(torch.equal(a, b) for other in arms[1:] for a, b in zip(arms[0], other, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(seen[0][::2], seen[4][::2], strict=True))
    assert not torch.equal(seen[0][0], seen[0][2 * batches]), "epochs differ"


def test_a_run_holds_what_it_should_and_leaves_the_global_stream() -> None:
    found = prepared(
        attention=("cbam",), placebo=("cbam",), settings={"epochs": 2}, corruptions=(1, 5), focus=3, capacity=("cbam",)
    )
    stream = torch.random.get_rng_state()
    records = {}
    for number, arm in enumerate(found.study.arms):
        records[arm.name], notes = run(found, number)
        assert [note["epoch"] for note in notes] == [0, 1, 2] and "in validation" in notes[-1]["said"]
    assert torch.equal(torch.random.get_rng_state(), stream)
    labels = [found.data.test[index][1] for index in range(40)]
    for name, record in records.items():
        assert record["history"]["epoch"] == [1, 2] and len(record["history"]["validation_accuracy"]) == 2
        right = [float(a == b) for a, b in zip(labels, record["answers"], strict=True)]
        assert record["scores"] == right and record["test"]["accuracy"] == pytest.approx(sum(right) / 40)
        best = max(range(2), key=lambda number: record["history"]["validation_accuracy"][number])
        assert record["validation"] == record["history"]["validation_accuracy"][best]
        assert record["gap"]["accuracy"] == pytest.approx(record["learned"]["accuracy"] - record["test"]["accuracy"])
        assert sum(map(sum, record["details"]["confusion"])) == 40
        assert record["seconds"]["total"] >= record["seconds"]["train"] > 0 and record["conditions"]["threads"] >= 1
        assert {"plain", "scaled", "temperature"} <= set(record["calibration"])
        assert all(set(one) == {"1", "5"} for one in record["corruptions"].values()) and len(record["corruptions"]) > 5
        maps = {"cbam", "placebo of cbam"}
        assert ("attention" in record["focus"]) == (name in maps) and "Grad-CAM" in record["focus"]
    assert records["cbam"]["config"]["start"] == "paper" and records["baseline"]["config"]["start"] is None


def test_a_run_that_chooses_a_rate_has_no_test_and_one_with_a_part_learns_from_it() -> None:
    found = prepared()
    config = replace(found.study.config(found.study.arms[0], 0, tested=False), share=0.25)
    job = job_of(config, "baseline", stage="tuning", places=found.places)
    record = carry_out(job.payload, lambda _: None).record
    assert not {"test", "scores", "corruptions"} & set(record) and record["validation"] is not None
    assert job.label == "baseline, seed 0, learning rate 0.1"
    part = job_of(config, "baseline", stage="fraction", places=found.places)
    assert part.label == "baseline, seed 0, 25% of the training samples" and part.arm == "baseline 0.25"


def test_a_loss_that_is_no_number_leaves_a_mechanism_out_and_stops_a_baseline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.unseen(monkeypatch)
    step = Classification.step
    broken = {"eca"}

    def breaking(self: Any, batch: Any) -> Any:
        loss, said = step(self, batch)
        names = str(type(self.network.layer1[0].bn2))
        own = [name for name in broken if name in str(getattr(self.network.layer1[0].bn2, "foveate", "")).lower()]
        own += ["baseline"] if "baseline" in broken and "Attended" not in names else []
        return (loss * float("nan") if own and self.training else loss), said

    monkeypatch.setattr(Classification, "step", breaking)
    given: Mapping[str, Any] = {"attention": ("se", "eca"), "seeds": 2, "asked": Asked(settings={"epochs": 1})}
    comparison = compare(tiny.data(), **given, out=tmp_path / "a")
    assert [row.arm for row in comparison.rows] == ["baseline", "squeeze_excite"]
    [note] = [note for note in comparison.notes if "left out" in note]
    assert note.startswith("eca is left out: eca, seed 0: the loss is nan in epoch 1, step 1: a smaller learning rate")
    verdict = comparison.rows[1].verdict
    assert verdict is not None and verdict["arms"] == 1 and set(comparison.failed) == {"eca"}
    broken.add("baseline")
    with pytest.raises(
        FoveateError, match="baseline, seed 0: the loss is nan .* the same command tries again what failed"
    ):
        compare(tiny.data(), **given, out=tmp_path / "b")


def test_a_test_score_that_is_no_number_is_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    from foveate.study import work

    monkeypatch.setattr(work, "outcome_of", lambda *_: {"test": {"accuracy": float("nan")}})
    with pytest.raises(FoveateError, match=r"squeeze_excite, seed 0: the test accuracy is no number.*lower learning"):
        run(prepared(), 1)


def test_other_test_samples_are_those_of_the_design(tmp_path: Path) -> None:
    from PIL import Image

    whole = tiny.data()
    for name in whole.classes[1:3]:  # the first has a stroke in its name
        (tmp_path / name).mkdir()
        Image.new("L", (28, 28), 90).save(tmp_path / name / "1.png")
    found = prepared(shifted=str(tmp_path))
    assert set(run(found)[0]["shifted"]["shifted"]) >= {"accuracy"}
    other = replace(found.study.base.look, shifted="0" * 64)
    job = job_of(replace(found.study.base, look=other), "baseline", stage="main", places=found.places)
    with pytest.raises(DataError, match="are not those that the study was designed with"):
        carry_out(job.payload, lambda _: None)


def test_a_study_is_resumed_from_wherever_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from foveate.study.compare import resume
    from foveate.study.reading import read_json
    from tests.study.test_plan import pictures

    tiny.unseen(monkeypatch)
    pictures(tmp_path / "images", 16)
    monkeypatch.chdir(tmp_path)
    asked = Asked(settings={"epochs": 1}, resplit=False, shifted="images")
    compare("images", "foveate/resnet8", attention=("se",), seeds=1, asked=asked, out="study")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    before = sorted((tmp_path / "study" / "runs").iterdir())
    assert resume("../study").rows[1].arm == "squeeze_excite"
    assert sorted((tmp_path / "study" / "runs").iterdir()) == before
    assert (read_json(tmp_path / "study" / "study.json") or {})["request"]["data"] == str(tmp_path / "images")


def test_what_cannot_be_learned_from_a_part_is_left_out_of_the_curve_alone(tmp_path: Path, monkeypatch: Any) -> None:
    broken = ("eca", 0.25), ("baseline", 0.5)
    tiny.pretending(monkeypatch, lambda config, arm: None if (arm, config.share) in broken else 0.5)
    asked = Asked(settings={"epochs": 1}, fractions=(0.25, 0.5))
    comparison = compare(tiny.data(), attention=("se", "eca"), seeds=1, asked=asked, out=tmp_path)
    assert [row.arm for row in comparison.rows] == ["baseline", "squeeze_excite", "eca"] and comparison.failed == {}
    assert {share: list(arms) for share, arms in comparison.curves.items()} == {
        "0.25": ["baseline", "squeeze_excite"],
        "1": ["baseline", "squeeze_excite", "eca"],
    }
    assert [note.partition(" of the training")[0] for note in comparison.interrupted] == [
        "left out of the learning curves: eca, seed 0, 25%",
        "left out of the learning curves: baseline, seed 0, 50%",
    ]


def test_curves_and_numbers_that_json_has() -> None:
    assert curves_of([{"epoch": 1, "a": 2.0}, {"epoch": 2}]) == {"epoch": [1, 2], "a": [2.0, None]}
    assert finite({"a": float("nan"), "b": [float("inf"), 1.0], "c": torch.tensor([1.0, float("nan")])}) == {
        "a": None, "b": [None, 1.0], "c": [1.0, None],
    }  # fmt: skip


def test_costs_are_those_of_the_networks() -> None:
    found = prepared(attention=("eca", "odconv"), capacity=("eca",))
    cost = price(found, found.study, quick=True, compiled=False, reporter=Silent())["arms"]
    for arm, config in found.study.runs():
        network, _, _ = network_of(config, found.data, None)
        assert cost[arm.name]["parameters"]["total"] == count_parameters(network) or arm.name == "odconv"
        assert cost[arm.name]["latency"][0]["median_ms"] > 0
    base, eca, capacity = (cost[name] for name in ("baseline", "eca", "capacity of eca"))
    # ECA's 3 weights at 3 places; its convolution multiplies 3 × (16 + 32 + 64)
    assert eca["parameters"]["total"] - base["parameters"]["total"] == 9
    assert capacity["parameters"]["total"] == eca["parameters"]["total"]
    assert eca["macs"]["count"] - base["macs"]["count"] == 3 * (16 + 32 + 64)


def test_missing_packages_and_typing_errors_are_said_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="in this process alone, and runs were asked for on '2 processes'"):
        compare(tiny.data(), means=Means(on="2 processes"), out=tmp_path)
    with pytest.raises(OptionError, match="costs must be one of 'quick', 'full'"):
        compare(tiny.data(), means=Means(costs="ful"), out=tmp_path)
    monkeypatch.setattr(needs, "find_spec", lambda module: None if module == "jinja2" else object())
    with pytest.raises(MissingExtraError, match=r"'jinja2': pip install 'foveate\[compare\]'"):
        compare(out=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_part_of_the_runs_makes_no_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretence = tiny.pretending(monkeypatch, lambda _, __: 0.5)
    with pytest.raises(FoveateError, match="share, 2 runs, is finished .*foveate study merge"):
        compare(tiny.data(), attention=("se",), seeds=2, means=Means(part="2/2"), out=tmp_path)
    assert pretence.seeds("squeeze_excite") == [0, 1] and pretence.seeds("baseline") == []


@pytest.mark.parametrize(
    ("work", "attention", "metric"),
    [
        ("segmentation", ("attention_gate",), "miou"),
        pytest.param("detection", ("se",), "map", marks=pytest.mark.slow),
        ("medical", ("se",), "dice"),
    ],
)
def test_every_kind_of_work_is_compared(
    work: str, attention: Any, metric: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.unseen(monkeypatch)
    asked = Asked(settings={"epochs": 1}, placebo=("all",), capacity=("all",))
    comparison = compare(tiny.few(work), work=work, attention=attention, seeds=1, asked=asked, out=tmp_path)
    assert comparison.failed == {} and len(comparison.rows) == 1 + 3 * len(attention)
    assert comparison.metric["name"] == metric and all(row.score >= 0 for row in comparison.rows)
    results = load(tmp_path)
    for record in results.runs:
        tensors, _, metadata = results.maps(record["key"])
        assert metadata["arm"] == record["arm"] and any(name.startswith("picture/") for name in tensors)
        looked = record["config"]["role"] in ("attention", "placebo")
        assert any(name.startswith("heat/") for name in tensors) == looked
