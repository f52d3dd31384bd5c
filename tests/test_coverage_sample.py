"""A fixed sample of the coverage sweep, and proof that its checks can fail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks.coverage import page, results, workers
from benchmarks.coverage.convolutional import kind_of
from benchmarks.coverage.hosts import native_image
from benchmarks.coverage.networks import SOURCES, Network, networks
from benchmarks.coverage.one import MECHANISMS, examine
from benchmarks.coverage.verdicts import passes, state
from foveate.attention import Attention, Gate
from foveate.surgery import attended, checkpoint

ROOT = Path(__file__).parents[1]
NEEDS = {"smp": "segmentation_models_pytorch", "monai": "monai", "ultralytics": "cv2", "timm": "timm"}
EXPECTED = {
    "torchvision/resnet18": ("residual", 8),
    "torchvision/squeezenet1_1": ("stage", 3),
    "torchvision/fasterrcnn_mobilenet_v3_large_320_fpn": ("residual", 10),
    "smp/FPN-resnet18": ("residual", 8),
    "monai/UNet-2d": ("residual", 7),
    "monai/SegResNet-3d": ("residual", 12),
    "ultralytics/yolov8n": ("residual", 6),
    "timm/convnext_atto": ("residual", 12),
    "timm/regnety_002": ("residual", 13),
    "timm/densenet121": ("stage", 4),
}
# whose passes take longest; their kinds of network have smaller ones here
LARGE = (
    "torchvision/fasterrcnn_mobilenet_v3_large_320_fpn", "smp/FPN-resnet18", "timm/densenet121", "timm/regnety_002",
)  # fmt: skip
CAPTURED = ("torchvision/resnet18", "torchvision/squeezenet1_1", "monai/UNet-2d", "timm/convnext_atto")


def network(name: str) -> Network:
    source = name.partition("/")[0]
    if source in NEEDS:
        pytest.importorskip(NEEDS[source])
    return next(found for found in networks(source) if found.name == name)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in LARGE else ()) for name in EXPECTED]
)
def test_attention_attaches_to_the_sample_and_leaves_it_what_it_was(name: str):
    later = () if name in CAPTURED else ("capture",)  # which takes longer than all the others together
    report = examine(network(name), without=later)
    at, places = EXPECTED[name]
    for mechanism in MECHANISMS:
        result = report["mechanisms"][mechanism]
        if mechanism == "psanet" and name.endswith("-3d"):
            assert "defined on maps of height and width" in result["refused"]["residual"]
            continue
        assert (result["at"], result["places"]) == (at, places)
        assert {check: result["why"][check] for check, passed in result["checks"].items() if passed is False} == {}
        assert result["checks"]["gradients"] and result["checks"]["detach"]
    captured = [r["checks"]["capture"] for r in report["mechanisms"].values() if r["at"]]
    assert captured.count(True) == (name in CAPTURED)


def leave_as_it_is(self, x, weights, context):
    return x


def start_halfway(self):
    for step in self.modules():
        if isinstance(step, Attention):
            step.blend = torch.nn.Parameter(torch.tensor(0.5))


def fill_in_everything(model, state_dict, prefix, *_):
    for key, value in model.state_dict(keep_vars=True).items():
        state_dict.setdefault(prefix + key, value)


def answer_nothing(self, name):
    return torch.nn.Module.__getattr__(self, name)


SABOTAGE = {
    "the blend does not start at zero": (Attention, "start_at_identity", start_halfway, "identity"),
    "attention does nothing": (Gate, "recalibrate", leave_as_it_is, "gradients"),
    "attention that learned does nothing": (Gate, "recalibrate", leave_as_it_is, "acts"),
    "damage is filled in": (checkpoint, "keep_absent_attention", fill_in_everything, "damaged_attention"),
    "the host's damage is filled in": (checkpoint, "keep_absent_attention", fill_in_everything, "damaged_host"),
    "the wrapper hides the host's attributes": (attended.Attended, "__getattr__", answer_nothing, "attributes"),
}


@pytest.mark.parametrize("how", SABOTAGE)
def test_the_checks_can_fail(how: str, monkeypatch: pytest.MonkeyPatch):
    owner, name, broken, check = SABOTAGE[how]
    monkeypatch.setattr(owner, name, broken)
    report = examine(network("torchvision/squeezenet1_1"), without=("capture", "pickle"))
    assert report["mechanisms"]["se"]["checks"][check] is False


def test_a_detach_that_does_nothing_is_seen(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("foveate.detach", lambda model: model)
    report = examine(network("torchvision/squeezenet1_1"), without=("capture", "pickle"))
    assert report["mechanisms"]["se"]["checks"]["detach"] is False


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("torchvision/resnet18", "convolutional"),
        ("torchvision/convnext_tiny", "convolutional"),
        ("torchvision/vit_b_16", "tokens"),
        ("torchvision/swin_t", "tokens"),
        ("timm/gcresnext26ts", "convolutional"),
        ("timm/poolformer_s12", "convolutional"),
        ("timm/edgenext_small", "hybrid"),
        ("timm/mixer_s16_224", "tokens"),
    ],
)
def test_the_rule_of_what_is_convolutional(name: str, kind: str):
    with torch.device("meta"):
        model = network(name).build()
    assert kind_of(model, native_image(model, network(name))) == kind


def test_what_the_libraries_list():
    names = [found.name for source in SOURCES if source != "ultralytics" for found in networks(source)]
    assert len(set(names)) == len(names) > 1500
    assert {"torchvision/ssd300_vgg16", "smp/DPT-tu-vit_tiny_patch16_224", "monai/DenseNet264-3d"} <= set(names)


def test_a_crash_and_a_hang_are_results():
    reports: dict[str, dict] = {}

    def finished(job: workers.Job, report: dict, seconds: float) -> None:
        reports[job.name] = report

    workers.run([workers.Job("torchvision/no_such")], processes=1, seconds=120, finished=finished)
    workers.run([workers.Job("torchvision/resnet18")], processes=1, seconds=0.1, finished=finished)
    assert reports["torchvision/no_such"]["error"] == "the process ended with code 1, at preparing it"
    assert reports["torchvision/resnet18"]["error"] == "not done in 0 seconds, at preparing it"


def made_up(name: str, **changes) -> dict:
    result = {"at": "residual", "attention": "se", "places": 3, "why": {}, "took": {}, "gradients_in": "training mode"}
    checks = dict.fromkeys(("places", *results.CHECKS), True)
    mechanisms = {m: {**result, "checks": dict(checks)} for m in MECHANISMS}
    return {
        "name": name,
        "family": "made",
        "bonus": False,
        "kind": "convolutional",
        "parameters": 7,
        "input": [2, 3, 64, 64],
        "depth": "all",
        "mechanisms": mechanisms,
        "foveate": "0",
        **changes,
    }


def test_results_become_a_file_and_a_page(tmp_path: Path):
    good, bad = made_up("timm/good"), made_up("timm/bad")
    bad["mechanisms"]["eca"]["checks"]["identity"] = False
    bad["mechanisms"]["eca"]["why"]["identity"] = "the output changed"
    left_out = {"name": "timm/vit", "family": "vit", "kind": "tokens", "foveate": "0"}
    for report in (good, bad, left_out):
        results.write(results.path_of(tmp_path, report["name"]), report)
    assert results.is_done(results.path_of(tmp_path, "timm/good"), "0")
    assert not results.is_done(results.path_of(tmp_path, "timm/good"), "1")
    target = tmp_path / "merged.json"
    results.merge(tmp_path, target)
    merged = json.loads(target.read_text())
    assert [network["name"] for network in merged["networks"]] == ["timm/bad", "timm/good"]
    assert merged["left_out"] == {"timm": {"tokens": {"vit": 1}}}
    assert merged["networks"][0]["mechanisms"]["eca"]["checks"][:3] == "tft"
    assert [passes(network) for network in merged["networks"]] == [False, True]
    assert [state(merged["networks"][0], mechanism) for mechanism in MECHANISMS] == [
        "passed",
        "failed",
        "passed",
        "passed",
    ]
    text = page.render(merged)
    assert "**1 of 2 networks passed every check that ran" in text
    assert "- `identity`: the output changed\n  (1: `timm/bad`)" in text


def test_the_committed_page_is_that_of_the_committed_result():
    result = ROOT / "benchmarks" / "results" / "coverage.json"
    assert (ROOT / "docs" / "coverage.md").read_text() == page.render(json.loads(result.read_text()))
