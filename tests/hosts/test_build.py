"""Hosts by name: which names, which weights, what is kept and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from foveate import hosts
from foveate.errors import FoveateError, MissingExtraError, OptionError
from foveate.hosts import build, input_shape

MOBILENET_V1 = "mobilenet_v2-b0353104.pth"  # torchvision's names for the two sets of weights
MOBILENET_V2 = "mobilenet_v2-7ebf99e0.pth"


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of checkpoints, and no network."""
    pytest.importorskip("torchvision", reason="torchvision is not installed")

    def refuse(url: str, *_: object, **__: object) -> None:
        raise OSError(f"no network for {url}")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    return folder


def mobilenet(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return build("torchvision/mobilenet_v2", classes=1000)


def same(a: nn.Module, b: nn.Module, *, but: set[str] = frozenset()) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left if k not in but)


def test_present_weights_are_preferred_to_a_download(checkpoints: Path):
    older = mobilenet(1)
    torch.save(older.state_dict(), checkpoints / MOBILENET_V1)
    assert same(build("torchvision/mobilenet_v2", classes=1000, weights="pretrained"), older)
    newer = mobilenet(2)
    torch.save(newer.state_dict(), checkpoints / MOBILENET_V2)
    assert same(build("torchvision/mobilenet_v2", classes=1000, weights="pretrained"), newer)
    assert same(build("torchvision/mobilenet_v2", classes=1000, weights="IMAGENET1K_V1"), older)


def test_another_number_of_classes_gets_a_fresh_head_and_everything_else(checkpoints: Path):
    trained = mobilenet(1)
    torch.save(trained.state_dict(), checkpoints / MOBILENET_V1)
    torch.manual_seed(5)
    host = build("torchvision/mobilenet_v2", classes=10, weights="pretrained")
    assert same(host.features, trained.features)
    assert host.classifier[1].weight.shape == (10, 1280)
    torch.manual_seed(5)
    again = build("torchvision/mobilenet_v2", classes=10, weights="pretrained")
    assert torch.equal(host.classifier[1].weight, again.classifier[1].weight)  # by the seed, as all else


@pytest.mark.usefixtures("checkpoints")
def test_without_network_the_sentence_says_which_weights_and_what_to_do(capsys):
    with pytest.raises(FoveateError, match="IMAGENET1K_V2 of torchvision/mobilenet_v2") as caught:
        build("torchvision/mobilenet_v2", classes=10, weights="pretrained")
    for part in ("no network", "weights=none", f"put {MOBILENET_V2} into", "give a file"):
        assert part in str(caught.value)
    assert capsys.readouterr().out == ""  # torch.hub says "Downloading" on the standard output


class Program:
    """A pickle that would leave a file behind if it ran."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return (Path.touch, (self.trace,))


def test_a_pickle_in_the_folder_of_checkpoints_is_not_run(checkpoints: Path, tmp_path: Path):
    torch.save({"weight": Program(tmp_path / "trace")}, checkpoints / MOBILENET_V1)
    with pytest.raises(FoveateError, match="could be neither read"):
        build("torchvision/mobilenet_v2", classes=10, weights="pretrained")
    assert not (tmp_path / "trace").exists()


def test_timm_keeps_everything_but_the_head(monkeypatch: pytest.MonkeyPatch):
    timm = pytest.importorskip("timm", reason="timm is not installed")
    trained = timm.create_model("resnet18")
    asked: list[str] = []

    def from_hub(name: str, *_: object, **__: object) -> dict[str, torch.Tensor]:
        asked.append(name)
        return trained.state_dict()

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", from_hub)
    assert same(build("timm/resnet18", classes=1000, weights="pretrained"), trained)
    host = build("timm/resnet18.tv_in1k", classes=4, weights="pretrained")
    assert asked == ["timm/resnet18.a1_in1k", "timm/resnet18.tv_in1k"]
    assert host.fc.weight.shape == (4, 512)
    host.fc = trained.fc
    assert same(host, trained)


def test_timm_sums_the_filters_for_grey_images(monkeypatch: pytest.MonkeyPatch):
    timm = pytest.importorskip("timm", reason="timm is not installed")
    trained = timm.create_model("resnet18")
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", lambda *_, **__: trained.state_dict())
    host = build("timm/resnet18", classes=3, in_channels=1, weights="pretrained")
    assert torch.equal(host.conv1.weight, trained.conv1.weight.sum(1, keepdim=True))


def test_timm_without_network(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("timm", reason="timm is not installed")

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", refuse)
    with pytest.raises(FoveateError, match=r"timm/resnet18 could not be loaded \(no network\).*weights=none"):
        build("timm/resnet18", classes=3, weights="pretrained")


def test_random_torchvision_networks_take_any_channels():
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    torch.manual_seed(0)
    host = build("torchvision/resnet18", classes=5, in_channels=1)
    assert host.conv1.weight.shape == (64, 1, 7, 7)
    # torchvision's own start, deviation sqrt(2 / (64 · 49)); 3,136 draws have a standard error of 1.3 %
    assert host.conv1.weight.std().item() == pytest.approx((2 / (64 * 49)) ** 0.5, rel=0.06)
    assert host.eval()(torch.zeros(1, 1, 64, 64)).shape == (1, 5)
    assert input_shape(host) == (1, 224, 224)
    with pytest.raises(FoveateError, match="for 3 channels, not 1: repeat a grey image"):
        build("torchvision/resnet18", classes=5, in_channels=1, weights="pretrained")


def test_classifiers_return_one_tensor_while_they_train():
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    host = build("torchvision/googlenet", classes=5)
    assert host(torch.zeros(2, 3, 64, 64)).shape == (2, 5)


def test_weights_from_a_file_for_every_family(tmp_path: Path):
    for name in ("foveate/resnet8", "torchvision/mobilenet_v2", "timm/resnet18"):
        pytest.importorskip(name.partition("/")[0], reason="not installed")
        trained = build(name, classes=6)
        save_file(trained.state_dict(), tmp_path / "net.safetensors")
        torch.save({"state_dict": trained.state_dict()}, tmp_path / "net.pth")
        assert same(build(name, classes=6, weights=tmp_path / "net.safetensors"), trained)
        assert same(build(name, classes=6, weights=str(tmp_path / "net.pth")), trained)
        other = build(name, classes=2, weights=tmp_path / "net.safetensors")
        head = {key for key, value in other.state_dict().items() if value.shape[:1] == (2,)}
        assert len(head) == 2
        assert same(other, trained, but=head)


def test_a_file_of_another_network_is_refused_with_its_keys(tmp_path: Path):
    save_file(build("foveate/resnet14", classes=10).state_dict(), tmp_path / "net.safetensors")
    with pytest.raises(FoveateError, match=r"nothing was loaded; unexpected: layer1\.1\.bn.* and 32 more"):
        build("foveate/resnet8", classes=3, weights=tmp_path / "net.safetensors")


def test_building_does_not_depend_on_how_the_head_was_found(tmp_path: Path):
    save_file(build("foveate/resnet8", classes=10).state_dict(), tmp_path / "net.safetensors")
    torch.manual_seed(3)
    build("foveate/resnet8", classes=4)
    plain = torch.rand(1)
    torch.manual_seed(3)
    build("foveate/resnet8", classes=4, weights=tmp_path / "net.safetensors")
    assert torch.equal(torch.rand(1), plain)


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("resnet18", None, "not 'resnet18'; did you mean timm/resnet18 or torchvision/resnet18"),
        ("vgg", None, "not 'vgg'; the sources are foveate, timm, torchvision"),
        ("torchvison/resnet18", None, "no hosts from 'torchvison'; did you mean 'torchvision'"),
        ("torchvision/mobilnet_v2", None, "did you mean 'mobilenet_v2'"),
        ("torchvision/fcn_resnet50", None, "no classification model"),
        ("timm/resnet18x", None, "did you mean 'resnet18'"),
        ("timm/resnet18.a1_in1x", "pretrained", "no weights tagged 'a1_in1x'; did you mean 'a1_in1k'"),
        ("timm/resnet18", "a2_in1k", r"'timm/resnet18\.a2_in1k' with weights=pretrained"),
        ("torchvision/resnet18", "IMAGENET1K_V7", "IMAGENET1K_V1, 'pretrained' or a file"),
        ("torchvision/resnet18", "weights.ckpt", "no weights 'weights.ckpt'"),
        ("foveate/resnet18", None, "18 is not, 14 and 20 are"),
        ("foveate/vgg16", None, "resnet8, resnet14"),
        ("foveate/resnet8", "pretrained", "has no published weights"),
        ("foveate/resnet8", "missing.pt", "no file 'missing.pt'"),
    ],
)
def test_what_does_not_exist_is_named_with_what_does(name: str, weights: str | None, message: str):
    for package in ("timm", "torchvision"):
        pytest.importorskip(package, reason="the hosts of the extra are not installed")
    with pytest.raises(FoveateError, match=message):
        build(name, classes=10, weights=weights)


def test_numbers_that_cannot_work():
    with pytest.raises(OptionError, match="classes must be a whole number of at least 1, not 0"):
        build("foveate/resnet8", classes=0)
    with pytest.raises(OptionError, match="in_channels"):
        build("foveate/resnet8", classes=1, in_channels=0)


@pytest.mark.parametrize("package", ["torchvision", "timm"])
def test_a_missing_package_names_the_extra(package: str, monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)

    class Hide:
        def find_spec(self, name: str, *_: object) -> None:
            if name.partition(".")[0] == package:
                raise ModuleNotFoundError(f"No module named '{name}'", name=name)

    monkeypatch.setattr(sys, "meta_path", [Hide(), *sys.meta_path])
    with pytest.raises(MissingExtraError, match=rf"package '{package}': pip install 'foveate\[hosts\]'"):
        build(f"{package}/resnet18", classes=2)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("foveate/resnet8", (3, 32, 32)),
        ("torchvision/mobilenet_v2", (3, 224, 224)),
        ("torchvision/inception_v3", (3, 299, 299)),
        ("timm/resnet18", (3, 224, 224)),
        ("timm/efficientnet_b1", (3, 240, 240)),
        ("timm/tf_efficientnet_b3", (3, 300, 300)),
    ],
)
def test_input_shapes(name: str, shape: tuple[int, int, int]):
    pytest.importorskip(name.partition("/")[0], reason="not installed")
    with torch.device("meta"):
        assert input_shape(build(name, classes=2)) == shape


def test_a_network_without_convolution_has_no_guess():
    with pytest.raises(FoveateError, match=r"Linear has no convolution.*give an example input"):
        input_shape(nn.Linear(3, 3))


def test_the_public_names():
    assert hosts.__all__ == sorted(hosts.__all__)
    assert all(hasattr(hosts, name) for name in hosts.__all__)
