"""Every preset, on networks small enough to know the right answer by hand, and on real ones by their authors' names."""

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from monai.networks import nets
from torch import nn
from torch.nn import functional as F

import foveate
from foveate.errors import FoveateWarning, OptionError, PlaceError
from foveate.surgery.places import find_places


def names(model, at, x):
    return [str(place) for place in find_places(model, at, x)]


def sown(model, seed=0):
    """Weights and running statistics that hide nothing."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            noise = torch.rand(tensor.shape, generator=generator)
            scale = 3.5 / max(1, tensor[0].numel()) ** 0.5 if tensor.ndim > 1 else 1  # keeps the features' size
            tensor.data.copy_(noise + 0.5 if tensor.ndim == 1 else scale * (noise - 0.5))
    return model.eval()


class Block(nn.Module):
    def __init__(self, width, stride=1, last=True):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, width, 3, stride, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1), nn.BatchNorm2d(width)
        self.downsample = nn.Conv2d(width, width, 1, stride) if stride > 1 else None
        self.last = nn.ReLU() if last else nn.Identity()

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.last(self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())) + shortcut)


def residual_network():
    stem = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), nn.BatchNorm2d(8))
    return nn.Sequential(stem, nn.Sequential(Block(8), Block(8)), nn.Sequential(Block(8, 2)), nn.Flatten(1))


X = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("preset", "expected"),
    {
        "residual": ["1.0.bn2", "1.1.bn2", "2.0.bn2"],
        "pre": ["1.0.conv1 (input)", "1.1.conv1 (input)", "2.0.conv1 (input)"],
        "post": ["1.0", "1.1", "2.0"],
        "identity": ["1.0.downsample", "1.1.downsample", "2.0.downsample"],
        "stage": ["1.1", "2.0"],  # what a Sequential returns is its last child's
        "conv": ["0.1", "1.0.bn1", "1.0.bn2", "1.1.bn1", "1.1.bn2", "2.0.bn1", "2.0.bn2"],
    }.items(),
)
def test_places_of_a_residual_network(preset, expected):
    assert sorted(names(residual_network(), preset, X)) == expected


# what each of the SE paper's positions computes in a block, written out with the block's own modules
POSITIONS = {
    "residual": lambda b, gate, x: (gate(_branch(b, x)) + x).relu(),
    "pre": lambda b, gate, x: (_branch(b, gate(x)) + x).relu(),
    "post": lambda b, gate, x: gate((_branch(b, x) + x).relu()),
    "identity": lambda b, gate, x: (_branch(b, x) + gate(x)).relu(),
}


def _branch(block, x):
    return block.bn2(block.conv2(block.bn1(block.conv1(x)).relu()))


@pytest.mark.parametrize("preset", POSITIONS)
@pytest.mark.parametrize("last", [True, False])
def test_each_position_computes_what_the_paper_draws(preset, last):
    block = sown(Block(8, last=last))
    network = nn.Sequential(nn.Conv2d(3, 8, 1), block)
    gate = sown(foveate.create("se", 8))
    features = network[0](X)
    total = POSITIONS[preset](block, gate, features)
    if not last:  # the same without the activation, which then nothing follows
        shortcut = gate(features) if preset == "identity" else features
        branch = _branch(block, gate(features) if preset == "pre" else features)
        branch = gate(branch) if preset == "residual" else branch
        total = branch + shortcut if preset != "post" else gate(branch + shortcut)
    foveate.attach(network, lambda channels: gate, at=preset, example=X, start="paper")
    # the shortcut's form adds and subtracts x once: a few roundings of numbers below a hundred
    torch.testing.assert_close(network(X), total, rtol=0, atol=1e-4 if preset == "identity" else 0)


@pytest.mark.parametrize("preset", ["residual", "pre", "post", "identity", "stage", "conv"])
def test_identity_start_and_detach_are_exact_at_every_preset(preset):
    network = sown(residual_network())
    modules, keys, before = dict(network.named_modules()), list(network.state_dict()), network(X)
    attributes = network[1][0].downsample
    foveate.attach(network, "cbam:reduction=1", at=preset, example=X)  # of one hidden unit the ReLU may stop all
    assert torch.equal(network(X), before)
    assert [key for key in network.state_dict() if ".foveate." not in key] == keys
    trained = torch.optim.SGD(network.parameters(), 1e-3)
    for _ in range(2):
        trained.zero_grad()
        network(X).square().mean().backward()
        trained.step()
    for name, parameter in foveate.attention_parameters(network):
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
    network = sown(residual_network())
    foveate.detach(foveate.attach(network, "cbam", at=preset, example=X))
    assert torch.equal(network(X), before)
    assert network[1][0].downsample is attributes is None
    assert [type(m) for m in network.modules()] == [type(m) for m in modules.values()]


class HandWrittenUNet(nn.Module):
    """Everything in one forward, as people write it."""

    def __init__(self):
        super().__init__()
        self.enc1, self.enc2, self.bottom = nn.Conv2d(3, 4, 3, 1, 1), nn.Conv2d(4, 6, 3, 1, 1), nn.Conv2d(6, 8, 3, 1, 1)
        self.dec2, self.dec1 = nn.Conv2d(14, 6, 3, 1, 1), nn.Conv2d(10, 4, 3, 1, 1)

    def forward(self, x, gate1=nn.Identity(), gate2=nn.Identity()):  # noqa: B008
        e1 = self.enc1(x).relu()
        e2 = self.enc2(F.max_pool2d(e1, 2)).relu()
        y = self.bottom(F.max_pool2d(e2, 2)).relu()
        y = self.dec2(torch.cat([F.interpolate(y, scale_factor=2), gate2(e2)], 1)).relu()
        return self.dec1(torch.cat([gate1(e1), F.interpolate(y, scale_factor=2)], 1))


def test_skip_of_a_hand_written_unet_acts_on_the_skip_alone():
    network = sown(HandWrittenUNet())
    gates = {4: sown(foveate.create("cbam", 4), 1), 6: sown(foveate.create("cbam", 6), 2)}
    expected = network(X, gates[4], gates[6])
    places = {str(place): place.point.channels for place in find_places(network, "skip", X)}
    assert places == {"dec1 (input)": (0, 4), "dec2 (input)": (8, 14)}
    foveate.attach(network, lambda channels: gates[channels], at="skip", example=X, start="paper")
    assert torch.equal(network(X), expected)


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (
            lambda: smp.Unet("resnet18", encoder_weights=None),
            [f"decoder.blocks.{i} (input skip_connection)" for i in (3, 2, 1, 0)],
        ),
        (
            lambda: smp.Linknet("resnet18", encoder_weights=None),
            [f"decoder.blocks.{i} (input 1)" for i in (3, 2, 1, 0)],
        ),
        (lambda: smp.DeepLabV3Plus("resnet18", encoder_weights=None), ["decoder.block1.2"]),
        (lambda: nets.UNet(2, 3, 2, (8, 16, 32), (2, 2)), ["model.2 (input)"]),
        (
            lambda: nets.AttentionUnet(2, 3, 2, (8, 16, 32), (2, 2)),
            ["model.1.submodule.1.attention", "model.1.attention"],
        ),
    ],
)
def test_skips_of_real_networks(build, expected):
    assert names(build(), "skip", torch.zeros(1, 3, 64, 64))[-len(expected) :] == expected


def test_the_neck_is_the_levels_of_a_feature_pyramid():
    build = torchvision.models.detection.fasterrcnn_resnet50_fpn
    model = build(weights=None, weights_backbone=None, min_size=64, max_size=64)
    levels = [f"backbone.fpn.layer_blocks.{level}.0" for level in (3, 2, 1, 0)]
    assert names(model, "neck", [torch.zeros(3, 64, 64)]) == levels
    assert names(smp.FPN("resnet18", encoder_weights=None), "neck", torch.zeros(1, 3, 64, 64)) == [
        "decoder.p4", "decoder.p3", "decoder.p2"
    ]  # fmt: skip
    with pytest.raises(PlaceError, match="no place of the kind 'neck'.*at='residual'"):
        find_places(torchvision.models.resnet18(), "neck", torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("nf_resnet26", "stages.3.1.conv3"),
        ("inception_resnet_v2", "block8.conv2d"),
        ("mambaout_femto", "stages.3.blocks.2.fc2"),
    ],
)
def test_branches_that_are_scaled_or_keep_channels_last(name, last):
    model = timm.create_model(name).eval()
    x = torch.randn(1, 3, 96, 96)
    places = find_places(model, "residual", x)
    assert places[-1].path == last
    before = model(x)
    foveate.attach(model, "cbam", example=x)
    assert torch.equal(model(x), before)


def test_channels_are_found_where_the_network_keeps_them():
    class ChannelsLast(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.norm, self.mix = nn.Conv2d(3, 6, 3, 1, 1), nn.LayerNorm(6), nn.Linear(6, 6)

        def forward(self, x, gate=lambda y: y):
            x = self.stem(x).permute(0, 2, 3, 1)
            return x + gate(self.mix(self.norm(x)).movedim(-1, 1)).movedim(1, -1)

    network, gate = sown(ChannelsLast()), sown(foveate.create("cbam", 6))
    expected = network(X, gate)
    (place,) = find_places(network, "residual", X)
    assert (place.path, place.point.axis, place.channels, place.size) == ("mix", 3, 6, (16, 16))
    foveate.attach(network, lambda channels: gate, example=X, start="paper")
    assert torch.equal(network(X), expected)


@pytest.mark.parametrize("axes", [1, 3])
@pytest.mark.parametrize("mechanism", ["se", "eca", "cbam"])
def test_signals_and_volumes(axes, mechanism):
    convolution, x = {1: (nn.Conv1d, X.flatten(2)), 3: (nn.Conv3d, X[:, :, None].expand(-1, -1, 5, -1, -1))}[axes]
    network = sown(nn.Sequential(convolution(3, 6, 3, padding=1)))
    before = network(x)
    foveate.attach(network, mechanism, at="0", example=x)
    assert torch.equal(network(x), before)
    gate = network[0].foveate[foveate.get(mechanism).card.name]
    for parameter in gate.parameters():
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(3))
    attended = network(x)
    if mechanism != "cbam":  # the same gate on the same values laid out as an image
        flat = gate(before.flatten(2).unsqueeze(-1)).reshape(before.shape)
        assert torch.equal(attended, flat)
    assert not torch.allclose(attended, before)


def test_a_mechanism_of_images_refuses_volumes_with_those_that_do_not():
    with pytest.raises(OptionError, match="psanet is defined on maps of height and .*cbam, .*eca, .*squeeze_excite"):
        foveate.attach(nn.Sequential(nn.Conv3d(3, 6, 3)), "psanet", at="0", example=torch.zeros(1, 3, 5, 5, 5))


def test_a_form_that_treats_positions_as_a_set_takes_volumes_where_another_form_does_not():
    model = nn.Sequential(nn.Conv3d(3, 6, 3))
    x = torch.randn(1, 3, 5, 5, 5)
    with pytest.raises(OptionError, match="non_local is defined on maps of height and width"):
        foveate.attach(model, "non_local", at="0", example=x)
    before = model(x)
    assert torch.equal(foveate.attach(model, "non_local:subsample=false", at="0", example=x)(x), before)


def test_what_is_left_out_is_said():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.three = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 6, 1)

        def forward(self, x):
            x = x + self.one(x)
            return x + self.three(self.two(x)).chunk(2, 1)[0]

    with pytest.warns(FoveateWarning, match="'residual' leaves 1 out and finds 1"):
        assert names(Half(), "residual", X) == ["one"]


def test_a_module_that_rewrites_itself_for_inference_is_taken_as_a_whole():
    class Fusable(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, x):
            return self.bn(self.conv(x))

        def forward_fuse(self, x):
            return self.conv(x)

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.branch = Fusable()

        def forward(self, x):
            return x + self.branch(x)

    assert names(Residual(), "residual", X) == ["branch"]
    with pytest.raises(PlaceError, match="'branch.bn' is inside 'branch', which rewrites its inside"):
        find_places(Residual(), "**.bn", X)
    found = find_places(Residual(), "branch", X, exclude="**.bn")  # what is only left out may be anywhere
    assert [place.path for place in found] == ["branch"]
    assert names(Residual(), "conv", X) == ["branch"]  # no kernel larger than one position: all of them


def test_shared_weights_share_attention_and_shared_activations_have_none():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.act = nn.Conv2d(3, 3, 3, 1, 1), nn.ReLU()

        def forward(self, x, gate=lambda y: y):
            return self.act(gate(self.conv(self.act(gate(self.conv(x))))))

    network, gate = sown(Twice()), sown(foveate.create("se", 3))
    expected = network(X, gate)
    foveate.attach(network, lambda channels: gate, at="conv", example=X, start="paper")
    assert torch.equal(network(X), expected)
    with pytest.raises(PlaceError, match="'act' runs 2 times in one pass.*has no weights that these share"):
        find_places(Twice(), "act", X)
