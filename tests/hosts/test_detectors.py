"""Detectors by name: what they learn from, what weights fit, and attention in backbone and neck."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import foveate
from foveate.errors import FoveateError, OptionError
from foveate.hosts.detectors import build_detector, names

SMALL = "foveate/fcos_resnet18_fpn"
IMAGES = [torch.rand(3, 64, 80, generator=torch.Generator().manual_seed(1))]
THINGS = [{"boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]]), "labels": torch.tensor([2])}]


def built(name: str = SMALL, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    network: Any = build_detector(name, classes=3, size=64, **options)[0]
    network.score_thresh = 0.0  # an untrained one is sure of nothing
    return network


def losses(network: nn.Module) -> Tensor:
    torch.manual_seed(3)
    return torch.stack(list(network.train()(IMAGES * 2, THINGS * 2).values())).sum()


@pytest.mark.parametrize(
    "name",
    [
        SMALL,
        "foveate/fasterrcnn_resnet18_fpn",
        "foveate/retinanet_mobilenet_v2_fpn",
        "foveate/fasterrcnn_mobilenet_v3_small_fpn",
        "torchvision/ssdlite320_mobilenet_v3_large",
    ],
)
def test_a_detector_learns_and_finds(name: str) -> None:
    network = built(name)
    losses(network).backward()
    gradients = [parameter.grad for parameter in network.parameters() if parameter.requires_grad]
    assert any(grad is not None and bool(grad.abs().sum() > 0) for grad in gradients)
    with torch.no_grad():
        found = network.eval()(IMAGES)[0]
    assert found["boxes"].shape[1] == 4
    assert found["boxes"].dtype == torch.float32
    assert set(found["labels"].tolist()) <= {0, 1, 2, 3}


def test_all_of_torchvisions_detectors_of_boxes_are_known() -> None:
    from torchvision.models import detection

    own = {
        name
        for name in dir(detection)
        if name.startswith(("fasterrcnn_", "retinanet_", "fcos_", "ssd300_", "ssdlite320_"))
    }
    assert set(names()) == own


@pytest.mark.parametrize(("name", "strides"), [("resnet18", [8, 16, 32]), ("mobilenet_v2", [8, 16, 32])])
def test_the_pyramid_has_the_resolutions_of_its_detector(name: str, strides: list[int]) -> None:
    for kind, expected in (("fcos", [*strides, 64, 128]), ("fasterrcnn", [4, *strides, 64])):
        network: Any = built(f"foveate/{kind}_{name}_fpn")
        with torch.no_grad():
            maps = network.backbone(torch.zeros(1, 3, 128, 128)).values()
        assert [128 // one.shape[-1] for one in maps] == expected


def test_sizes_are_taken() -> None:
    network: Any = built(largest=70)
    network.eval()
    images, _ = network.transform([torch.zeros(3, 100, 200)])
    assert images.image_sizes == [(35, 70)]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("fcos_resnet18_fpn", "is called torchvision/name"),
        ("timm/fcos_resnet18_fpn", "is called torchvision/name"),
        ("torchvision/maskrcnn_resnet50_fpn", "learns from more than boxes: take torchvision/fasterrcnn_resnet50_fpn"),
        ("torchvision/fcos_resnet50", "did you mean 'fcos_resnet50_fpn'"),
        ("foveate/fcos_resnet19_fpn", "no classification model 'resnet19'"),
    ],
)
def test_a_name_that_does_not_exist_is_refused(name: str, sentence: str) -> None:
    with pytest.raises(OptionError, match=sentence):
        built(name)


def test_weights_of_a_backbone_fit_and_the_rest_is_new(tmp_path: Path) -> None:
    from torchvision.models import mobilenet_v2

    donor = mobilenet_v2(weights=None)
    torch.save(donor.state_dict(), tmp_path / "m.pth")
    network, new = build_detector("foveate/fcos_mobilenet_v2_fpn", classes=3, weights=tmp_path / "m.pth")
    body: Any = network.backbone.body
    assert torch.equal(body["18"][0].weight, donor.features[18][0].weight)
    assert {key.split(".")[0] for key in new} == {"backbone", "head"}
    assert not any(".body." in key for key in new)
    assert any(".fpn." in key for key in new)
    with pytest.raises(FoveateError, match="has no backbone below a pyramid"):
        build_detector("torchvision/ssdlite320_mobilenet_v3_large", classes=3, weights=tmp_path / "m.pth")
    with pytest.raises(FoveateError, match="do not fit"):
        build_detector(SMALL, classes=3, weights=tmp_path / "m.pth")


def test_weights_of_a_detector_fit_another_number_of_classes(tmp_path: Path) -> None:
    state = built().state_dict()
    torch.save(state, tmp_path / "d.pth")
    same, new = build_detector(SMALL, classes=3, weights=tmp_path / "d.pth")
    assert new == ()
    assert all(torch.equal(value, state[key]) for key, value in same.state_dict().items())
    _, new = build_detector(SMALL, classes=7, weights=tmp_path / "d.pth")
    assert new == ("head.classification_head.cls_logits.bias", "head.classification_head.cls_logits.weight")


def test_frozen_norms_do_not_move_and_their_weights_fit_others(tmp_path: Path) -> None:
    network = built(frozen_norms=True)
    assert not any(isinstance(one, nn.BatchNorm2d) for one in network.modules())
    before = {key: value.clone() for key, value in network.backbone.body.state_dict().items() if "bn1" in key}
    losses(network)
    assert all(torch.equal(network.backbone.body.state_dict()[key], value) for key, value in before.items())
    torch.save(network.state_dict(), tmp_path / "f.pth")
    assert build_detector(SMALL, classes=3, weights=tmp_path / "f.pth")[1] == ()


@pytest.mark.parametrize("mechanism", ["se", "cbam"])
def test_attention_acts_in_backbone_and_neck(mechanism: str) -> None:
    """At the start nothing changes; each place's own parameters then change what is found, and are learned."""
    network = built().eval()
    with torch.no_grad():
        before = network(IMAGES)[0]
    foveate.attach(network, mechanism, at=["residual", "neck"], example=IMAGES)
    places = {key.split(".foveate.")[0] for key in network.state_dict() if ".foveate." in key}
    assert sum(".body." in place for place in places) == 8
    assert {place.removeprefix("backbone.fpn.") for place in places if ".fpn." in place} == {
        *(f"layer_blocks.{level}.0" for level in range(3)),
        *("extra_blocks.p6", "extra_blocks.p7"),
    }
    with torch.no_grad():
        after = network(IMAGES)[0]
    assert all(torch.equal(before[key], after[key]) for key in before)
    losses(network).backward()
    blends = [p for name, p in network.named_parameters() if name.endswith("blend")]
    assert len(blends) >= len(places)
    assert all(blend.grad is not None and bool(blend.grad.abs().sum() > 0) for blend in blends)
    for part in ("body", "fpn"):
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if name.endswith("blend") and f".{part}." in name:
                    parameter.fill_(1.0)
            network.eval()
            changed: Any = network(IMAGES)[0]
            assert not torch.equal(changed["scores"], after["scores"])
            after = changed


def test_maps_of_backbone_and_neck_are_recorded() -> None:
    network = foveate.attach(built().eval(), "cbam", at=["residual", "neck"], example=IMAGES)
    with foveate.record(network) as maps, torch.no_grad():
        network(IMAGES)
    assert any(".fpn." in name for name in maps.emphasis)
    assert any(".body." in name for name in maps.emphasis)
