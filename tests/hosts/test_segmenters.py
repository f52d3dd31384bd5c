"""Networks that segment, by name: what they return, which of their weights are new, and which crops they take."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from foveate import hosts
from foveate.errors import FoveateError, OptionError
from foveate.hosts.segmenters import answers, build_segmenter, check_crop, usual_crop
from foveate.hosts.unet import UNet

SMALL = ["foveate/unet", "foveate/psanet50", "torchvision/lraspp_mobilenet_v3_large", "smp/unet-resnet18",
         "smp/deeplabv3plus-tu-mobilenetv3_small_050"]  # fmt: skip


def small(name: str, classes: int = 3) -> nn.Module:
    own = {"width": 2} if name.startswith("foveate") else {}
    crop = 33 if "psanet" in name else 64
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_segmenter(name, classes=classes, crop=crop, **own)[0]


@pytest.mark.parametrize("name", SMALL)
def test_a_network_gives_each_pixel_logits(name: str) -> None:
    side = 33 if "psanet" in name else 64
    network = small(name)
    with torch.no_grad():
        logits, auxiliary = answers(network.eval()(torch.randn(1, 3, side, side)))
        assert logits.shape == (1, 3, side, side)
        assert auxiliary is None
        logits, auxiliary = answers(network.train()(torch.randn(2, 3, side, side)))
        assert logits.shape == (2, 3, side, side)
        assert (auxiliary is not None) == ("psanet" in name)


def test_torchvisions_networks_have_their_auxiliary_head() -> None:
    with torch.device("meta"):
        network, new = build_segmenter("torchvision/fcn_resnet50", classes=4)
    assert new == ()
    logits, auxiliary = answers(network.eval()(torch.empty(1, 3, 64, 64, device="meta")))
    assert auxiliary is not None
    assert logits.shape == auxiliary.shape == (1, 4, 64, 64)


@pytest.mark.parametrize("height,width", [(64, 64), (63, 64), (61, 50), (16, 16), (17, 31)])
def test_the_unet_takes_images_of_any_size(height: int, width: int) -> None:
    with torch.no_grad():
        assert UNet(classes=2, width=1).eval()(torch.randn(1, 3, height, width)).shape == (1, 2, height, width)


def test_the_unet_is_the_published_one() -> None:
    """Figure 1 has 31,030,658 numbers, for grey images and two classes, where every convolution has a bias.

    Ours has no bias before a norm, which has two numbers a channel itself: one more for each of these channels.
    """
    with torch.device("meta"):
        network = UNet(classes=2, in_channels=1, width=64)
    normed = sum(layer.num_features for layer in network.modules() if isinstance(layer, nn.BatchNorm2d))
    assert sum(one.numel() for one in network.parameters()) - normed == 31_030_658


def test_weights_of_another_head_leave_the_head_new(tmp_path: Path) -> None:
    file = tmp_path / "five.pth"
    torch.save(small("foveate/psanet50", 5).state_dict(), file)
    network, new = build_segmenter("foveate/psanet50", classes=3, crop=33, width=2, weights=file)
    assert new == ("aux.4.bias", "aux.4.weight", "cls.4.bias", "cls.4.weight")
    old = small("foveate/psanet50", 5).state_dict()
    assert all(torch.equal(value, old[key]) for key, value in network.state_dict().items() if key not in new)
    same, none = build_segmenter("foveate/psanet50", classes=5, crop=33, width=2, weights=file)
    assert none == ()
    assert torch.equal(same.state_dict()["cls.4.weight"], old["cls.4.weight"])


def test_weights_of_a_backbone_alone_leave_everything_else_new(tmp_path: Path) -> None:
    """The authors' file of a classifying network: other names in the stem, and a classifier that is left."""
    whole = small("foveate/psanet50").state_dict()
    names = {"0": "conv1", "1": "bn1", "3": "conv2", "4": "bn2", "6": "conv3", "7": "bn3"}
    theirs = {"fc.weight": torch.zeros(2), "fc.bias": torch.zeros(2)}
    for key, value in whole.items():
        if key.startswith("layer0."):
            _, number, rest = key.split(".")
            theirs[f"{names[number]}.{rest}"] = value + 1
        elif key.startswith("layer"):
            theirs[key] = value + 1
    torch.save({"state_dict": {f"module.{key}": value for key, value in theirs.items()}}, tmp_path / "resnet50_v2.pth")
    network, new = build_segmenter(
        "foveate/psanet50", classes=3, crop=33, width=2, weights=tmp_path / "resnet50_v2.pth"
    )
    assert {name.split(".")[0] for name in new} == {"psa", "cls", "aux"}
    for key, value in network.state_dict().items():
        assert (key in new) != torch.equal(value, whole[key] + 1)
    del theirs["layer3.2.conv1.weight"]
    torch.save(theirs, tmp_path / "half.pth")
    with pytest.raises(FoveateError, match="missing: layer3.2.conv1.weight"):
        build_segmenter("foveate/psanet50", classes=3, crop=33, width=2, weights=tmp_path / "half.pth")


def test_a_file_of_an_encoder_goes_into_segmentation_models(tmp_path: Path) -> None:
    theirs = hosts.build("torchvision/resnet18", classes=7)
    torch.save(theirs.state_dict(), tmp_path / "resnet18.pth")
    network, new = build_segmenter("smp/unet-resnet18", classes=2, crop=64, weights=tmp_path / "resnet18.pth")
    assert torch.equal(network.state_dict()["encoder.layer2.0.conv1.weight"], theirs.layer2[0].conv1.weight)
    assert {name.split(".")[0] for name in new} == {"decoder", "segmentation_head"}


def test_psanet_without_its_attention_has_none() -> None:
    network, _ = build_segmenter("foveate/psanet50", classes=2, crop=33, width=2, psa=None)
    assert network.psa is None
    other, _ = build_segmenter("foveate/psanet50", classes=2, crop=33, width=2, psa="psanet:branches=collect")
    assert {name.split(".")[0] for name, _ in other.psa.named_parameters()} == {"reduce", "attention", "proj"}


def test_a_width_scales_every_channel_of_psanet() -> None:
    with torch.device("meta"):
        half = hosts.PSANetHost(50, classes=4, size=33, width=32)
        whole = hosts.PSANetHost(50, classes=4, size=33)
    for (name, one), (_, other) in zip(half.named_modules(), whole.named_modules(), strict=True):
        if isinstance(one, nn.BatchNorm2d) and not name.startswith("psa.attention"):
            assert 2 * one.num_features == other.num_features, name


@pytest.mark.parametrize(("name", "options", "sentence"), [
    ("foveate/psanet50", {"crop": 100}, "one more than a multiple of 8: 100 is not, 97 and 105 are"),
    ("foveate/psanet50", {"crop": 5}, "9 is the smallest"),
    ("foveate/psanet50", {"in_channels": 1}, "3 channels, not 1"),
    ("foveate/psanet50", {"psa": "cbam"}, "built around 'psanet'"),
    ("foveate/psanet34", {}, "did you mean 'psanet50'"),
    ("foveate/unet", {"weights": "pretrained"}, "has no published weights 'pretrained'"),
    ("foveate/unet", {"weights": "backbone"}, "has no published weights 'backbone'"),
    ("foveate/unet", {"width": 0}, "width"),
    ("torchvision/fcn_resnet51", {}, "did you mean 'fcn_resnet50'"),
    ("torchvision/resnet50", {}, "no segmentation model 'resnet50'"),
    ("torchvision/fcn_resnet50", {"in_channels": 1}, "3 channels, not 1"),
    ("torchvision/fcn_resnet50", {"width": 8}, "no width that can be chosen"),
    ("smp/unet-resnet18", {"crop": 100}, "96 and 128 are"),
    ("smp/unet", {"crop": 96}, "has no encoder ''"),
    ("smp/unett-resnet18", {"crop": 96}, "did you mean 'unet'"),
    ("smp/unet-resnet18", {"crop": 96, "weights": "pretrained"}, "has no weights 'pretrained'"),
    ("timm/resnet18", {}, "no hosts from 'timm'"),
    ("unet", {}, "foveate/unet"),
])  # fmt: skip
def test_what_cannot_be_is_refused_with_the_nearest(name: str, options: dict[str, object], sentence: str) -> None:
    with pytest.raises(OptionError, match=sentence):
        build_segmenter(name, classes=2, **{"crop": 97, **options})


@pytest.mark.parametrize("name", ["foveate/psanet101", "smp/unet-resnet18", "torchvision/fcn_resnet50", "foveate/unet"])
def test_the_usual_crop_can_be_taken_and_is_near(name: str) -> None:
    for side in range(1, 700, 7):
        crop = usual_crop(name, side)
        check_crop(name, crop)
        assert "psanet" not in name or crop % 8 == 1
        assert abs(crop - min(side, 256)) <= 16 or crop == 32
