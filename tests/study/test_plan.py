"""What is left open is decided by rule, and what cannot work is said before anything runs."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from foveate.data import fashion_mnist
from foveate.errors import DataError, FoveateError, FoveateWarning, OptionError, PlaceError
from foveate.study.asked import Asked
from foveate.study.budget import FINE_TUNING, SCRATCH, SHIFT
from foveate.study.design import Arm
from foveate.study.material import data_of, network_of
from foveate.study.notes import notes_on
from foveate.study.plan import Prepared, prepare
from foveate.study.rules import rules
from tests.study import tiny


def quick(
    data: Any = None, host: str | None = None, weights: Any = "auto", attention: Any = ("se",), **asked: Any
) -> Prepared:
    work, seeds = asked.pop("work", "classification"), asked.pop("seeds", 1)
    return prepare(data, host, weights, attention, seeds, work=work, asked=Asked(**asked))


def settings(**chosen: Any) -> dict[str, Any]:
    return {"settings": chosen}


def pictures(root: Path, side: int, count: int = 5) -> Path:
    from PIL import Image

    for name in ("dark", "light"):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            level = number if name == "dark" else 255 - number
            Image.new("RGB", (side, side), (level, level, 0)).save(root / name / f"{number}.png")
    return root


def names(found: Prepared) -> list[str]:
    return [arm.name for arm in found.study.arms]


def test_the_default_is_the_embedded_sample_from_scratch() -> None:
    found = prepare()
    base, recipe = found.study.base, found.study.base.recipe
    assert names(found) == ["baseline", "squeeze_excite", "eca", "gather_excite", "cbam", "psanet"]
    assert found.study.seeds == (0, 1, 2) and base.start == "paper" and base.host == "foveate/resnet8"
    assert base.counts == (1800, 200, 500) and base.options["size"] == 28 and base.options["shift"] == SHIFT
    assert (recipe["epochs"], recipe["learning_rate"]) == (SCRATCH.epochs, SCRATCH.learning_rate)
    assert not base.resplit and base.share == 1 and base.tested and found.metric == ("accuracy", "max")
    assert found.study.rates == found.study.fractions == () and not found.study.sequential and not found.quick


def test_a_quick_look_is_smaller_and_spread_over_all_images() -> None:
    found = quick(quick=True)
    base = found.study.base
    assert base.recipe["epochs"] == SCRATCH.quick_epochs and base.counts[0] == SCRATCH.quick_samples
    part, train = data_of(base, None).train, fashion_mnist().train
    assert len(part) == 600 and all(torch.equal(part[index][0], train[3 * index][0]) for index in (0, 1, 599))


def test_weights_make_it_fine_tuning(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from foveate import hosts

    file = tmp_path / "net.safetensors"
    save_file(hosts.build("foveate/resnet8", classes=3).state_dict(), file)
    base = quick(weights=str(file)).study.base
    assert base.weights == "net.safetensors" and base.start == "identity"
    assert base.recipe["learning_rate"] == FINE_TUNING.learning_rate
    save_file({k: v + 1 for k, v in hosts.build("foveate/resnet8", classes=3).state_dict().items()}, file)
    again = quick(weights=str(file)).study.base
    assert again.weights_fingerprint != base.weights_fingerprint and again.key != base.key


def test_large_hosts_are_random_only_if_asked() -> None:
    base = quick(host="torchvision/resnet18", weights="none", train_samples=8).study.base
    assert base.weights is None and base.start == "paper"
    assert (base.library or "").startswith("torchvision ")


@pytest.mark.parametrize(("host", "side", "expected"), [("foveate/resnet8", 50, 32), ("torchvision/resnet18", 40, 96)])
def test_a_folder_is_read_at_a_size_that_suits_the_host(host: str, side: int, expected: int, tmp_path: Path) -> None:
    found = quick(pictures(tmp_path, side), host, None)
    assert found.study.base.options["size"] == expected and found.data.train[0][0].shape == (3, expected, expected)


def test_a_size_that_was_asked_for_is_kept(tmp_path: Path) -> None:
    assert quick(pictures(tmp_path, 40), **settings(size=24)).study.base.options["size"] == 24


def test_few_images_get_more_passes(tmp_path: Path) -> None:
    # 20 images, 12 of them to learn from, are one batch: 400 steps would be 400 passes, and 50 are the most
    base = quick(pictures(tmp_path, 40, count=10)).study.base
    assert (base.counts[0], base.recipe["epochs"]) == (12, 50)
    for given, passes in (({}, 40), ({"batch_size": 16}, 20), ({"epochs": 2}, 2)):
        assert quick(train_samples=320, **settings(**given)).study.base.recipe["epochs"] == passes


def test_the_rules_say_what_is_done() -> None:
    text = " ".join(rules(quick(**settings(epochs=3, learning_rate=0.03)).study))
    assert "3 epochs of 1,800 samples" in text and "0.03, was fixed in advance for all arms" in text
    assert "trained from scratch" in text and "as its paper initialises it" in text
    asked = {"grid": (1.0, 3.0), "placebo": ("se",), "capacity": ("se",), "sequential": True, "seeds": 8}
    text = " ".join(rules(quick(**asked).study))
    for part in (
        "the one of 0.1, 0.3 that was best on validation with 1 seed",
        "A placebo",
        "A capacity",
        "were added",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("options", "kind", "sentence"),
    [
        ({"attention": ("cbma",)}, OptionError, "did you mean 'cbam'"),
        ({"attention": ("cbam:reductoin=8",)}, OptionError, "did you mean 'reduction'"),
        ({"attention": ("cbam:reduction=0",)}, OptionError, "at least 1, not 0"),
        ({"seeds": 0}, OptionError, "seeds must be a whole number of at least 1"),
        (settings(epochs=0), OptionError, "epochs"),
        (settings(learning_rate=-1.0), OptionError, "learning_rate"),
        (settings(learning_rate=float("nan")), OptionError, "learning_rate"),
        (settings(mixupp=1.0), OptionError, "classification has no option 'mixupp'; did you mean 'mixup'"),
        ({"train_samples": 5000}, OptionError, "5,000, and there are 1,800 to learn from"),
        ({"train_samples": 0}, OptionError, "train_samples"),
        ({"host": "foveate/resnet9"}, OptionError, "8 and 14 are"),
        ({"host": "resnet8"}, OptionError, "source/name"),
        ({"weights": "pretrained"}, FoveateError, "no published weights"),
        ({"weights": "nowhere.pth"}, FoveateError, "no file"),
        ({"at": "layer9*"}, PlaceError, "layer9"),
        ({"start": "zero"}, OptionError, "start must be one of 'identity', 'paper'"),
        (settings(size=64), OptionError, "embedded sample"),
        ({"data": "nowhere"}, DataError, "nowhere does not exist"),
        ({"device": "tpu"}, OptionError, "device must be one of"),
        ({"attention": ()}, OptionError, "nothing to compare"),
        ({"work": "klassification"}, OptionError, "classification"),
        ({"grid": (0.0,)}, OptionError, "a factor of the grid"),
        ({"grid": (1.0, 1.0)}, OptionError, "a factor of the grid is named twice: 1"),
        ({"grid": (1.0,), "tuning_seeds": 0}, OptionError, "tuning_seeds"),
        ({"fractions": (1.0,)}, OptionError, "lies between 0 and 1, not at 1.0"),
        ({"fractions": (0.5, 0.5)}, OptionError, "a fraction is named twice: 0.5"),
        ({"corruptions": (6,)}, OptionError, "strength"),
        ({"focus": -1}, OptionError, "focus"),
        ({"published": "nowhere"}, OptionError, "'nowhere' is no folder of published corruptions"),
        ({"relevant": 0.0}, OptionError, "the difference of interest"),
        ({"sequential": True}, OptionError, "1 seeds cannot decide"),
        ({"capacity": ("cbam",)}, OptionError, "a capacity of 'cbam' needs 'cbam' among the mechanisms"),
        ({"placebo": ("bottleneck_attention",), "attention": ("bottleneck_attention",)}, OptionError, "has no placebo"),
        ({"shifted": "nowhere"}, DataError, "nowhere does not exist"),
        ({"work": "segmentation", "focus": 4}, OptionError, "focus is for classification, not for segmentation"),
        ({"work": "segmentation", "published": "some"}, OptionError, "published is for classification"),
        ({"work": "medical", "corruptions": (1,)}, OptionError, "intensities of scans.*leave them out"),
        ({"larger": ("foveate/resnet9",)}, OptionError, "8 and 14 are"),
    ],
)
@pytest.mark.filterwarnings("ignore::foveate.errors.FoveateWarning")
def test_what_cannot_work_is_said_before_anything_runs(
    options: dict[str, Any], kind: type[FoveateError], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence):
        quick(**options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(OptionError, match="finds no GPU here: use device=cpu"):
        quick(device="cuda")


def keys(found: Prepared, number: int) -> list[str]:
    config = list(found.study.runs())[number][1]
    network, _, _ = network_of(config, found.data, None)
    return [key for key in network.state_dict() if ".foveate." in key]


@pytest.mark.parametrize("attention", ["squeeze_excite", "attentional_fusion", "odconv", "involution"])
def test_every_protocol_is_an_arm_where_it_usually_acts(attention: str) -> None:
    assert any(f".foveate.{attention}." in key for key in keys(quick(attention=(attention,)), 1))


def test_a_place_that_was_asked_for_is_kept_by_every_arm() -> None:
    found = quick(attention=("se", "odconv"), at="layer3.0.conv1", placebo=("se",), capacity=("se",))
    for number, (_, config) in enumerate(found.study.runs()):
        assert config.at == ("layer3.0.conv1" if number else None)
        assert all(key.startswith("layer3.0.conv1.foveate.") for key in keys(found, number)) and bool(
            keys(found, number)
        ) == bool(number)


def test_segmentation_has_the_places_that_training_has() -> None:
    """The U-Net has no residual joins: attention acts on its skips, as `foveate train` has it."""
    found = quick(work="segmentation", train_samples=8)
    assert found.study.base.host == "foveate/unet" and found.metric == ("miou", "max")
    assert keys(found, 1)


def test_all_capacity_leaves_out_what_adds_nothing_and_says_so() -> None:
    found = quick(attention=("se", "simam"), capacity=("all",), placebo=("all",))
    assert names(found)[3:] == ["capacity of squeeze_excite", "placebo of squeeze_excite", "placebo of simam"]
    [said] = found.said["simam"]
    assert said.startswith("it adds no parameters") and f"simam: {said}." in notes_on(found, {}, [ROW], {})


ROW: Any = SimpleNamespace(parameters=1)


def test_all_placebos_leave_out_what_cannot_be_blind_and_say_so() -> None:
    found = quick(attention=("bottleneck_attention", "se"), placebo=("all",))
    assert [arm.name for arm in found.study.arms][1:] == [
        "bottleneck_attention",
        "squeeze_excite",
        "placebo of squeeze_excite",
    ]
    assert "it has no placebo: BottleneckAttention relates positions" in found.said["bottleneck_attention"][-1]


@pytest.mark.parametrize(
    ("attention", "sentence"),
    [
        ("attention_gate", "attention_gate cannot go into foveate/resnet8: no place of the kind 'skip' .*another host"),
        ("split_attention:radix=5", "split_attention:radix=5 cannot go into foveate/resnet8: .*; leave it out"),
    ],
)
def test_an_arm_that_has_no_place_is_named_before_anything_runs(attention: str, sentence: str) -> None:
    with pytest.raises(FoveateError, match=sentence):
        quick(attention=("se", attention))


def test_what_an_arm_leaves_out_is_said_once_and_warns_of_nothing(recwarn: pytest.WarningsRecorder) -> None:
    found = quick(attention=("se", "involution", "attentional_fusion"), seeds=2)
    assert set(found.said) == {"involution", "attentional_fusion"}
    (left_out,) = found.said["involution"]
    assert left_out.startswith("3 convolutions are left out and 4 replaced: 'conv1'")
    assert "leaves 2 out and finds 1" in found.said["attentional_fusion"][0]
    assert f"involution: {left_out}." in notes_on(found, {}, [ROW], {})
    assert not [warning for warning in recwarn if issubclass(warning.category, FoveateWarning)]


def test_samples_are_dealt_anew_only_where_they_are_few_and_came_without_splits(tmp_path: Path) -> None:
    small = pictures(tmp_path / "small", 32, 10)
    assert quick(small).study.base.resplit and not quick(small, resplit=False).study.base.resplit
    assert "The samples are few" in " ".join(rules(quick(small).study))
    official = tmp_path / "official"
    for split in ("train", "val", "test"):
        pictures(official / split, 32, 10)
    assert not quick(official).study.base.resplit
    with pytest.raises(DataError, match="validation and test of official came with the data"):
        quick(official, resplit=True)
    whole = tiny.data()
    few = replace(whole, train=whole.train.take([0] * 8), test=whole.test.take([0]), official=(), fingerprint="copies")
    assert not quick(few).study.base.resplit, "too few to be dealt anew are as they were read"
    several = replace(tiny.data(), official=(), fingerprint="without splits")
    assert quick(several).study.base.resplit
    first, second = (data_of(replace(quick(several).study.base, seed=seed), None) for seed in (0, 1))
    for dealt in (first, second):
        splits = [set(one.names) for one in (dealt.train, dealt.validation, dealt.test)]
        assert len(set.union(*splits)) == sum(map(len, splits)) == 64 + 32 + 40
    assert set(first.test.names) != set(second.test.names)


def test_samples_that_were_read_already_are_used() -> None:
    found = quick(tiny.data())
    base = found.study.base
    assert base.counts == (64, 32, 40) and found.places["data"] is None and base.fingerprint == "a few of them, 40"
    assert data_of(base, None).train is tiny.data().train
    part = data_of(replace(base, share=0.25, seed=3), None).train
    # a quarter of each of ten classes, rounded: at most half an image a class from a quarter of all
    assert 16 - 5 <= len(part) <= 16 + 5 and set(part.names) < set(tiny.data().train.names)


def test_other_samples_than_the_study_s_are_refused_by_whoever_runs_it(tmp_path: Path) -> None:
    folder = pictures(tmp_path, 32, 10)
    base = quick(folder, resplit=False).study.base
    assert data_of(base, str(folder)).fingerprint == base.fingerprint
    with pytest.raises(
        DataError, match=f"not those of the study.*: their fingerprint is .* and not {base.fingerprint[:12]}"
    ):
        data_of(replace(base, options={**base.options, "size": 24}), str(folder))
    with pytest.raises(DataError, match="the samples embedded here are not those of the study"):
        data_of(replace(quick().study.base, fingerprint="f" * 64), None)


def test_a_short_run_that_falls_apart_in_evaluation_is_said() -> None:
    found = quick(quick=True)
    fine = {"arm": "a", "seed": 0, "history": {"train_accuracy": [0.3, 0.6]}, "test": {"accuracy": 0.55}}
    apart = {**fine, "arm": "b", "seed": 1, "test": {"accuracy": 0.1}}
    said = notes_on(found, {"a": [fine], "b": [apart]}, [ROW], {})
    assert said[0].startswith("Much worse in evaluation after 54 steps than while training: b with seed 1.")
    longer = notes_on(quick(), {"b": [apart]}, [ROW], {})
    assert not [note for note in longer if "running statistics" in note]


def test_notes_name_what_was_not_done_and_only_that() -> None:
    plain = " ".join(notes_on(quick(), {}, [ROW], {"eca": "it broke"}))
    for part in ("eca is left out: it broke.", "One learning rate for all arms", "Without a capacity control"):
        assert part in plain
    whole = " ".join(notes_on(quick(grid=(1.0,), placebo=("se",)), {}, [ROW], {}))
    assert "One learning rate" not in whole and "Without a capacity" not in whole


def test_the_core_and_a_refusal_need_no_lightning() -> None:
    program = (
        "import sys, foveate\n"
        "assert not [name for name in sys.modules if name.startswith(('foveate.study', 'foveate.train'))]\n"
        "assert not {'pytorch_lightning', 'torchmetrics', 'scipy', 'matplotlib', 'jinja2'} & set(sys.modules)\n"
        "from foveate.study.design import arms_of\n"
        "try:\n    arms_of(('cbma',))\n"
        "except foveate.FoveateError as error:\n    assert 'cbam' in str(error)\n"
        "heavy = {'pytorch_lightning', 'torchmetrics', 'scipy', 'matplotlib', 'jinja2'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_an_arm_is_what_its_name_says() -> None:
    assert Arm() == Arm("baseline") and Arm("larger", None, "foveate/resnet14").name == "foveate/resnet14"
