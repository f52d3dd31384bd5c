"""Class activation maps: against the closed form, on frozen networks, and without a trace."""

import pytest
import torch
from torch import nn

from foveate import attach, hosts
from foveate.errors import FoveateError, MissingExtraError, OptionError, PlaceError
from foveate.explain.activation import METHODS, class_activation, target_layer
from foveate.explain.scores import box_score, mask_logit
from foveate.hosts.segmenters import build_segmenter
from tests.explain.trust.networks import attended, images


class Pooling(nn.Module):
    """A convolution, a ReLU in place, the mean, and a weighted sum: the network of Zhou et al.'s original CAM."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(6, 4)

    def forward(self, x):
        return self.fc(self.relu(self.conv(x)).mean((2, 3)))


def test_of_a_network_that_pools_grad_cam_is_cam():
    network, x, classes = Pooling(), images(4), [0, 1, 2, 3]
    found = class_activation(network, x, classes)
    with torch.no_grad():
        features = network.relu(network.conv(x))
    cam = torch.einsum("bchw,bc->bhw", features, network.fc.weight.detach()[classes]).clamp_min(0)
    low, high = cam.amin((1, 2), keepdim=True), cam.amax((1, 2), keepdim=True)
    # the package divides by the largest and 1e-7, twice; the rest are float32 sums of six products
    torch.testing.assert_close(found, (cam - low) / (high - low), rtol=1e-4, atol=1e-5)
    assert target_layer(network, x[:1]) == "relu"


def test_a_relu_in_place_after_the_layer_does_not_change_its_map():
    network, x = Pooling(), images(2)
    found = class_activation(network, x, [0, 1], layer="conv")
    network.relu.inplace = False
    assert torch.equal(found, class_activation(network, x, [0, 1], layer="conv"))


def test_without_targets_it_is_of_the_class_that_the_network_says():
    network, x = attended("se"), images(3)
    with torch.no_grad():
        said = network(x).argmax(1).tolist()
    assert torch.equal(class_activation(network, x), class_activation(network, x, said))


def test_frozen_networks_have_the_same_maps_and_nothing_is_left_behind():
    network, x = attended("cbam").train(), images(3)
    network.eval()
    free = class_activation(network, x, [0, 1, 2], batch_size=2)
    network.train()
    gradient = torch.full_like(network.conv1.weight, 3.0)
    network.conv1.weight.grad = gradient
    network.bn1.requires_grad_(False)
    flags = {name: parameter.requires_grad for name, parameter in network.named_parameters()}
    again = class_activation(network, x, [0, 1, 2])
    torch.testing.assert_close(again, free, rtol=1e-3, atol=1e-4)  # batches of another size round otherwise
    assert network.conv1.weight.grad is gradient
    assert bool((gradient == 3).all())
    assert all(parameter.grad is None for name, parameter in network.named_parameters() if name != "conv1.weight")
    assert flags == {name: parameter.requires_grad for name, parameter in network.named_parameters()}
    assert network.training
    network.eval().requires_grad_(False)
    with torch.no_grad():
        assert torch.equal(class_activation(network, x, [0, 1, 2]), again)
    assert x.grad is None
    assert not x.requires_grad
    assert not any(module._forward_hooks or module._backward_hooks for module in network.modules())
    # while the error is looked at, what raised it is not collected: hooks must be taken off by name
    with pytest.raises(ZeroDivisionError) as caught:
        class_activation(network, x, [0, 1, 2], score=lambda *_: 1 / 0)
    assert not any(module._forward_hooks for module in network.modules())
    assert caught.traceback


@pytest.mark.parametrize("method", [name for name in METHODS if name != "scorecam"])
def test_every_method_is_finite_and_at_most_one(method):
    found = class_activation(attended("se"), images(2), [0, 1], method=method)
    assert found.shape == (2, 32, 32)
    assert 0 <= float(found.min()) <= float(found.max()) <= 1


def test_compiled_and_wrapped_networks_have_the_same_maps():
    network, x = attended("se"), images(2)
    plain = class_activation(network, x, [0, 1])
    assert torch.equal(class_activation(torch.compile(network, backend="eager"), x, [0, 1]), plain)
    assert torch.equal(class_activation(nn.DataParallel(network), x, [0, 1]), plain)


@pytest.mark.parametrize(
    ("name", "layer"),
    [("torchvision/resnet18", "layer4"), ("torchvision/mobilenet_v2", "features")],
)
def test_the_last_map_before_pooling_is_found(name, layer):
    assert target_layer(hosts.build(name, classes=3).eval(), torch.zeros(1, 3, 64, 64)) == layer


def test_what_a_network_pools_to_is_not_looked_at():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(36, 2))
    assert target_layer(network, torch.zeros(1, 3, 16, 16)) == "0"


@pytest.mark.parametrize(("name", "layer"), [("Unet", "encoder.layer4"), ("PSPNet", "decoder")])
def test_a_segmenting_network_is_looked_at_where_it_turns(name, layer):
    smp = pytest.importorskip("segmentation_models_pytorch")
    network = getattr(smp, name)("resnet18", encoder_weights=None, classes=2).eval()
    x = images(1)
    assert target_layer(network, torch.zeros(1, 3, 64, 64)) == layer
    mask = torch.zeros(1, 64, 64, dtype=torch.long)
    mask[:, 10:30] = 1
    x = torch.nn.functional.interpolate(x, size=64)
    assert class_activation(network, x, mask, score=mask_logit).shape == (1, 64, 64)


@pytest.mark.parametrize(("attention", "at"), [("attention_gate", "skip"), ("scse", "skip"), ("coordinate", "down.4")])
def test_attention_does_not_move_where_a_network_is_looked_at(attention, at):
    """The deepest gate is of the bridge's size, and makes something finer; coordinate attention has one axis alone."""
    network, _ = build_segmenter("foveate/unet", classes=2, crop=64, width=4)
    attach(network.eval(), attention, at=at)
    assert target_layer(network, torch.zeros(1, 3, 64, 64)) == "down.4"


class Turning(nn.Module):
    """Two maps of the same size become finer, one after the other; a coarser one is left over."""

    def __init__(self, *, leftover: bool):
        super().__init__()
        self.leftover = leftover
        self.first, self.second = (nn.Conv2d(3, 4, 3, stride=4, padding=1) for _ in range(2))
        self.coarser = nn.Conv2d(4, 4, 3, stride=2, padding=1)
        self.head = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1))  # deeper than what is left over

    def forward(self, x):
        first = nn.functional.interpolate(self.first(x), size=x.shape[2:])
        second = self.second(x)
        if self.leftover:
            nn.functional.interpolate(self.coarser(second), size=x.shape[2:])
        return self.head(first + nn.functional.interpolate(second, size=x.shape[2:]))


@pytest.mark.parametrize("leftover", [False, True])
def test_of_maps_that_turn_alike_it_is_the_last_that_the_answer_is_made_of(leftover):
    assert target_layer(Turning(leftover=leftover).eval(), torch.zeros(1, 3, 32, 32)) == "second"


def test_a_detector_is_asked_about_a_box():
    from foveate.hosts.detectors import build_detector

    torch.manual_seed(0)
    network, _ = build_detector("foveate/fcos_resnet18_fpn", classes=2, size=64)
    network.eval().score_thresh = 0.0
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        said = network(x)[0]
    sides = said["boxes"][:, 2:] - said["boxes"][:, :2]
    some = (sides.amin(1) > 1).nonzero()[:4, 0].tolist()
    targets = [(said["boxes"][one], int(said["labels"][one])) for one in some]
    assert box_score(said, targets[0]) == said["scores"][some[0]]
    found = class_activation(network, x.expand(4, -1, -1, -1), targets, score=box_score)
    assert float(found.max()) > 0  # some of the map may speak against a box, and then nothing is left
    assert target_layer(network, x).startswith("backbone.fpn.inner_blocks")
    nowhere = class_activation(network, x, [(torch.tensor([0.0, 0, 1, 1]), 99)], score=box_score)
    assert torch.equal(nowhere, torch.zeros(1, 64, 64))  # of what is not found, alone or among others


def test_a_network_that_stops_gradients_is_told():
    class Stops(Pooling):
        def forward(self, x):
            return self.fc(self.relu(self.conv(x)).mean((2, 3)).detach())

    with pytest.raises(FoveateError, match="stops gradients on the way"):
        class_activation(Stops(), images(1), [0], layer="conv")


def test_what_cannot_work_is_refused_in_words(monkeypatch):
    network, x = attended("se"), images(2)
    with pytest.raises(OptionError, match="did you mean 'gradcam'"):
        class_activation(network, x, method="gradcan")
    with pytest.raises(OptionError, match="monai.visualize.GradCAM"):
        class_activation(network, x[:, :, None])
    with pytest.raises(PlaceError, match="no module 'layer9'"):
        class_activation(network, x, layer="layer9")
    with pytest.raises(PlaceError, match="'linear' returns no feature map"):
        class_activation(network, x, layer="linear")
    with pytest.raises(OptionError, match="give targets"):
        class_activation(network, x, score=mask_logit)
    with pytest.raises(PlaceError, match="name the one to look at"):
        target_layer(nn.Flatten(), x)
    monkeypatch.setitem(__import__("sys").modules, "pytorch_grad_cam", None)
    with pytest.raises(MissingExtraError, match="grad-cam"):
        class_activation(network, x)
