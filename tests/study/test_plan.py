"""What is left open is decided by rule, and what cannot work is said before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from foveate.data import fashion_mnist
from foveate.errors import DataError, FoveateError, FoveateWarning, OptionError, PlaceError
from foveate.study.cost import measure_cost
from foveate.study.plan import FINE_TUNING, IMAGENET_MEAN, SCRATCH, prepare, rules
from foveate.study.rows import notes_on
from foveate.study.run import build_network
from foveate.study.training.batches import statistics_of
from foveate.surgery import plan


def quick(**options: Any) -> Any:
    return prepare(**{"attention": ("se",), "seeds": 1, **options})


def pictures(root: Path, side: int, count: int = 5) -> Path:
    from PIL import Image

    for name in ("dark", "light"):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            level = number if name == "dark" else 255 - number
            Image.new("RGB", (side, side), (level, level, 0)).save(root / name / f"{number}.png")
    return root


def test_the_default_is_the_embedded_sample_from_scratch() -> None:
    study, material = prepare()
    base = study.base
    assert [arm.name for arm in study.arms] == [
        "baseline",
        "squeeze_excite",
        "eca",
        "gather_excite",
        "cbam",
        "psanet",
    ]
    assert study.seeds == (0, 1, 2) and base.start == "paper" and base.image_shape == (1, 28, 28)
    assert (base.train_images, base.test_images) == (1800, 500)
    assert (base.epochs, base.learning_rate) == (SCRATCH.epochs, SCRATCH.learning_rate)
    assert (material.mean, material.std) == statistics_of(fashion_mnist().train)


def test_a_quick_look_is_smaller_and_spread_over_all_images() -> None:
    study, material = quick(quick=True)
    assert study.base.epochs == SCRATCH.quick_epochs and study.base.train_images == SCRATCH.quick_images
    part = material.train(600)
    train = fashion_mnist().train
    assert all(torch.equal(part[index][0], train[3 * index][0]) for index in (0, 1, 599))
    # 600 of 1,800 in ten classes: 60 each, give or take four deviations of sqrt(600 * 0.09 * 2/3) = 6
    assert all(36 <= count <= 84 for count in part.labels.bincount().tolist())


def test_weights_make_it_fine_tuning(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from foveate import hosts

    file = tmp_path / "net.safetensors"
    save_file(hosts.build("foveate/resnet8", classes=3).state_dict(), file)
    study, material = quick(weights=str(file))
    base = study.base
    assert base.weights == "net.safetensors" and base.start == "identity"
    assert base.learning_rate == FINE_TUNING.learning_rate and material.mean == IMAGENET_MEAN
    save_file({k: v + 1 for k, v in hosts.build("foveate/resnet8", classes=3).state_dict().items()}, file)
    again, _ = quick(weights=str(file))
    assert again.base.weights_fingerprint != base.weights_fingerprint and again.base.key != base.key


def test_large_hosts_are_random_only_if_asked() -> None:
    study, _ = quick(host="torchvision/resnet18", weights="none", train_images=8)
    assert study.base.weights is None and study.base.start == "paper"
    assert (study.base.library or "").startswith("torchvision ")


@pytest.mark.parametrize(("host", "side", "expected"), [("foveate/resnet8", 50, 32), ("torchvision/resnet18", 40, 96)])
def test_a_folder_is_read_at_a_size_that_suits_the_host(host: str, side: int, expected: int, tmp_path: Path) -> None:
    study, _ = quick(data=pictures(tmp_path, side), host=host, weights=None)
    assert study.base.image_shape == (3, expected, expected)


def test_a_size_that_was_asked_for_is_kept(tmp_path: Path) -> None:
    study, _ = quick(data=pictures(tmp_path, 40), image_size=24)
    assert study.base.image_shape == (3, 24, 24)


def test_few_images_get_more_passes(tmp_path: Path) -> None:
    # 20 images, 12 of them to learn from, are one batch: 400 steps would be 400 passes, and 50 are the most
    study, _ = quick(data=pictures(tmp_path, 40, count=10))
    assert (study.base.train_images, study.base.epochs) == (12, 50)
    assert quick(train_images=320)[0].base.epochs == 40
    assert quick(train_images=320, batch_size=16)[0].base.epochs == 20
    assert quick(train_images=320, epochs=2)[0].base.epochs == 2


def test_the_rules_say_what_is_done() -> None:
    study, _ = quick(epochs=3, learning_rate=0.03)
    text = " ".join(rules(study))
    assert "3 epochs of 1,800 images" in text and "0.03, was fixed in advance for all arms" in text
    assert "trained from scratch" in text and "as its paper initialises it" in text


@pytest.mark.parametrize(
    ("options", "kind", "sentence"),
    [
        ({"attention": ("cbma",)}, OptionError, "did you mean 'cbam'"),
        ({"attention": ("cbam:reductoin=8",)}, OptionError, "did you mean 'reduction'"),
        ({"attention": ("cbam:reduction=0",)}, OptionError, "at least 1, not 0"),
        ({"seeds": 0}, OptionError, "seeds must be a whole number of at least 1"),
        ({"epochs": 0}, OptionError, "epochs"),
        ({"batch_size": 1}, OptionError, "batch_size"),
        ({"learning_rate": -1.0}, OptionError, "learning_rate must be a positive number"),
        ({"learning_rate": float("nan")}, OptionError, "learning_rate"),
        ({"train_images": 5000}, OptionError, "5,000, and there are 1,800 images"),
        ({"train_images": 0}, OptionError, "train_images"),
        ({"host": "foveate/resnet9"}, OptionError, "8 and 14 are"),
        ({"host": "resnet8"}, OptionError, "source/name"),
        ({"weights": "pretrained"}, FoveateError, "no published weights"),
        ({"weights": "nowhere.pth"}, FoveateError, "no file"),
        ({"at": "layer9*"}, PlaceError, "layer9"),
        ({"start": "zero"}, OptionError, "start must be one of 'identity', 'paper'"),
        ({"image_size": 64}, OptionError, "embedded sample"),
        ({"data": "nowhere"}, DataError, "nowhere does not exist"),
        ({"device": "tpu"}, OptionError, "device must be one of"),
        ({"attention": ()}, OptionError, "nothing to compare"),
    ],
)
def test_what_cannot_work_is_said_before_anything_runs(
    options: dict[str, Any], kind: type[FoveateError], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence):
        quick(**options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(OptionError, match="finds no GPU here: use device=cpu"):
        quick(device="cuda")


@pytest.mark.parametrize(
    ("attention", "at"),
    [("squeeze_excite", "residual"), ("attentional_fusion", "residual"), ("odconv", "conv"), ("involution", "conv")],
)
def test_every_protocol_is_an_arm_where_it_usually_acts(attention: str, at: str) -> None:
    study, material = quick(attention=(attention,))
    plain, arm = (config for _, config in study.runs())
    assert (plain.at, arm.at) == (None, at)
    assert any(f".foveate.{attention}." in key for key in network_keys(arm, material))


def network_keys(config: Any, material: Any) -> list[str]:
    return [key for key in build_network(config, 10, material.weights).state_dict() if ".foveate." in key]


def test_a_place_that_was_asked_for_is_kept_by_every_arm() -> None:
    study, material = quick(attention=("se", "odconv"), at="layer3.0.conv1")
    for _, config in list(study.runs())[1:]:
        assert config.at == "layer3.0.conv1"
        assert all(key.startswith("layer3.0.conv1.foveate.") for key in network_keys(config, material))


@pytest.mark.parametrize(
    ("attention", "sentence"),
    [
        ("attention_gate", "attention_gate cannot go into foveate/resnet8: no place of the kind 'skip' .*another host"),
        (
            "split_attention:radix=5",
            "split_attention:radix=5 cannot go into foveate/resnet8: .*; leave it out",
        ),
    ],
)
def test_an_arm_that_has_no_place_is_named_before_anything_runs(attention: str, sentence: str) -> None:
    with pytest.raises(FoveateError, match=sentence):
        quick(attention=("se", attention))


def test_what_an_arm_leaves_out_is_said_once_and_warns_of_nothing(recwarn: pytest.WarningsRecorder) -> None:
    study, material = quick(attention=("se", "involution", "attentional_fusion"), seeds=2)
    assert material.said["baseline"] == material.said["squeeze_excite"] == []
    (left_out,) = material.said["involution"]
    assert left_out.startswith("3 convolutions are left out and 4 replaced: 'conv1'")
    assert "leaves 2 out and finds 1" in material.said["attentional_fusion"][0]
    notes = notes_on(study, material, [], quick=False)
    assert f"involution: {left_out}." in notes
    assert not [warning for warning in recwarn if issubclass(warning.category, FoveateWarning)]


def test_a_convolution_at_rest_costs_no_parameters() -> None:
    cost = measure_cost(*quick(attention=("odconv", "attentional_fusion")), rounds=2)["arms"]
    with pytest.warns(FoveateWarning, match="leaves 2 out and finds 1"):
        planned = [plan(resnet(), name, example=torch.zeros(1, 1, 28, 28), start="paper") for name in ("odconv", "aff")]
    for name, due in zip(("odconv", "attentional_fusion"), planned, strict=True):
        assert cost[name]["parameters"] - cost["baseline"]["parameters"] == due.parameters
        assert cost[name]["macs"] - cost["baseline"]["macs"] == due.macs
        assert cost[name]["places"] == len(due.places)


def resnet() -> torch.nn.Module:
    from foveate import hosts

    return hosts.build("foveate/resnet8", classes=10, in_channels=1)


def test_a_short_run_that_falls_apart_in_evaluation_is_said() -> None:
    study, material = quick(quick=True)
    assert study.base.epochs * (study.base.train_images // study.base.batch_size) == 54
    fine = {"arm": "a", "seed": 0, "curves": {"train_accuracy": [0.3, 0.6]}, "test": {"loss": 1.0, "accuracy": 0.55}}
    apart = {**fine, "arm": "b", "seed": 1, "test": {"loss": 3.0, "accuracy": 0.1}}
    (note,) = [note for note in notes_on(study, material, [fine, apart], quick=True) if "running" in note]
    assert note.startswith("Much worse in evaluation after 54 steps than while training: b with seed 1.")
    longer = quick()[0]
    assert not [note for note in notes_on(longer, material, [apart], quick=False) if "running" in note]
