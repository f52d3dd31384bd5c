"""Weights cross over with equal outputs, and back; what cannot be meant is refused with the reason."""

import re

import pytest
import torch
from torch import nn

import foveate
from foveate.errors import FoveateError, OptionError, PlaceError
from foveate.surgery.attended import attended_places
from foveate.surgery.convert import LAYOUTS, convert, convert_back

C = 64


class TutorialSE(nn.Module):
    """As blogs write it: `fc` holds two linear layers without biases."""

    def __init__(self, channels, reduction=16, gate=nn.Sigmoid):
        super().__init__()
        hidden = channels // reduction
        self.fc = nn.Sequential(
            nn.Linear(channels, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, channels, bias=False), gate()
        )

    def forward(self, x):
        return x * self.fc(x.mean((2, 3)))[:, :, None, None]


class TutorialECA(nn.Module):
    """As blogs write it: the convolution keeps its bias."""

    def __init__(self, kernel_size=3):
        super().__init__()
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2)

    def forward(self, x):
        return x * self.conv(x.mean((2, 3))[:, None]).sigmoid()[:, 0, :, None, None]


class TutorialChannel(nn.Module):
    def __init__(self, channels, reduction):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1, bias=False)

    def forward(self, x):
        pools = (nn.functional.adaptive_avg_pool2d(x, 1), nn.functional.adaptive_max_pool2d(x, 1))
        return sum(self.fc2(self.fc1(pool).relu()) for pool in pools).sigmoid()


class TutorialSpatial(nn.Module):
    def __init__(self, kernel_size):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, x):
        return self.conv1(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)).sigmoid()


class TutorialCBAM(nn.Module):
    """As blogs write it: `ca` and `sa`, no biases, no norm, mean before maximum."""

    def __init__(self, channels, reduction=16, kernel_size=7):
        super().__init__()
        self.ca, self.sa = TutorialChannel(channels, reduction), TutorialSpatial(kernel_size)

    def forward(self, x):
        x = x * self.ca(x)
        return x * self.sa(x)


class AuthorsCBAM(nn.Module):
    """With the keys of the authors' code: `ChannelGate.mlp.1`, `SpatialGate.spatial.conv`, `SpatialGate.spatial.bn`."""

    def __init__(self, channels, reduction=16):
        super().__init__()
        hidden = channels // reduction
        mlp = nn.Sequential(nn.Flatten(), nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))
        self.ChannelGate = nn.ModuleDict({"mlp": mlp})
        unit = nn.ModuleDict({"conv": nn.Conv2d(2, 1, 7, padding=3, bias=False), "bn": nn.BatchNorm2d(1)})
        self.SpatialGate = nn.ModuleDict({"spatial": unit})

    def forward(self, x):
        logits = self.ChannelGate.mlp(x.mean((2, 3))) + self.ChannelGate.mlp(x.amax((2, 3)))
        x = x * logits.sigmoid()[:, :, None, None]
        unit = self.SpatialGate.spatial
        return x * unit.bn(unit.conv(torch.stack([x.amax(1), x.mean(1)], 1))).sigmoid()


def random(module, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1:
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) / parameter[0].numel() ** 0.5)
        else:
            parameter.data.copy_(torch.rand(parameter.shape, generator=generator) + (0.5 if "weight" in name else -0.5))
    for name, buffer in module.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return module.eval()


def features(channels=C, seed=1):
    return torch.randn(2, channels, 9, 8, generator=torch.Generator().manual_seed(seed))


def timm_layer(module, name, *arguments, **options):
    library = pytest.importorskip(f"timm.{module}")
    return getattr(library, name)(*arguments, **options)


def torchvision_se():
    return pytest.importorskip("torchvision.ops.misc").SqueezeExcitation(C, 8)


def monai_se(dimensions=2):
    return pytest.importorskip("monai.networks.blocks.squeeze_and_excitation").ChannelSELayer(dimensions, C, r=4)


def mobileone_se():
    return pytest.importorskip("segmentation_models_pytorch.encoders.mobileone").SEBlock(C)


def without_bias(module):
    module.conv.bias.data.zero_()
    return module


THEIRS = {
    "timm.se": lambda: timm_layer("layers.squeeze_excite", "SEModule", C),
    "timm.se without biases": lambda: timm_layer("layers.squeeze_excite", "SEModule", C, bias=False),
    "timm.legacy_se": lambda: timm_layer("models.senet", "SEModule", C, 16),
    "timm.efficientnet_se": lambda: timm_layer("models._efficientnet_blocks", "SqueezeExcite", C),
    "torchvision.se": torchvision_se,
    "smp.mobileone_se": mobileone_se,
    "monai.se": monai_se,
    "tutorial.se": lambda: TutorialSE(C),
    "timm.eca": lambda: timm_layer("layers.eca", "EcaModule", C),
    "tutorial.eca": TutorialECA,
    "timm.cbam": lambda: timm_layer("layers.cbam", "CbamModule", C),
    "timm.cbam with biases": lambda: timm_layer("layers.cbam", "CbamModule", C, mlp_bias=True),
    "authors.cbam": lambda: AuthorsCBAM(C),
    "tutorial.cbam": lambda: TutorialCBAM(C),
    "tutorial.cbam of kernel 3": lambda: TutorialCBAM(C, reduction=8, kernel_size=3),
}


@pytest.mark.parametrize("name", THEIRS)
def test_a_module_becomes_ours_and_its_state_comes_back(name):
    theirs, x = random(THEIRS[name]()), features()
    if name == "tutorial.eca":
        without_bias(theirs)
    ours = convert(theirs)
    assert isinstance(ours, foveate.Attention)
    assert ((ours(x) - x / 2).abs() > 0.05).any()  # no constant gate
    # the same float32 sums of at most a few hundred terms, in another order
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-6)
    from_state = convert(theirs.state_dict()).eval()
    torch.testing.assert_close(from_state(x), theirs(x), rtol=1e-5, atol=1e-6)
    back = convert_back(ours, name.split()[0])
    assert {key: tuple(value.shape) for key, value in back.items()} == {
        key: tuple(value.shape) for key, value in theirs.state_dict().items()
    }
    assert all(torch.equal(back[key], value) for key, value in theirs.state_dict().items())


@pytest.mark.parametrize("extent", [0, 2, 4])
def test_gather_excite_without_parameters(extent):
    theirs, x = timm_layer("layers.gather_excite", "GatherExcite", C, extent=extent, use_mlp=False), features()
    ours = convert(theirs)
    assert type(ours).__name__ == "GatherExcite"
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-6)


def test_volumes_of_monai_are_compared_as_volumes():
    theirs, x = random(monai_se(3)), torch.randn(2, C, 3, 4, 5)
    torch.testing.assert_close(convert(theirs)(x.flatten(2, 3)).view(x.shape), theirs(x), rtol=1e-5, atol=1e-6)


def test_psanet_of_the_authors_keeps_its_names():
    theirs = random(foveate.create("psanet", 32, size=(9, 9)))
    ours = convert(theirs.state_dict()).eval()
    x = features(32)[:, :, :, :7]
    assert torch.equal(ours(x), theirs(x))
    one = foveate.create("psanet", 32, size=(9, 9), branches="distribute").state_dict()
    with pytest.raises(OptionError, match="one branch.*branches='collect' or 'distribute'"):
        convert(one)
    assert convert(one, branches="distribute").branches == "distribute"


def refused(source, reason, **options):
    with pytest.raises(FoveateError, match=reason):
        convert(source, **options)


def test_another_activation_is_found_by_running():
    refused(random(TutorialSE(C, gate=nn.Hardsigmoid)), "other outputs, by up to 0.* an activation, a pool or an order")
    misc = pytest.importorskip("torchvision.ops.misc")
    hard = misc.SqueezeExcitation(C, 16, scale_activation=nn.Hardsigmoid)
    refused(random(hard), "other outputs.*hard sigmoid")
    swish = timm_layer("models._efficientnet_blocks", "SqueezeExcite", C, act_layer=nn.SiLU)
    refused(random(swish), "other outputs.*SiLU")
    refused(random(timm_layer("layers.squeeze_excite", "SEModule", C, add_maxpool=True)), "average of mean and maximum")
    refused(random(timm_layer("layers.eca", "CecaModule", C)), "padded as a circle")
    refused(random(timm_layer("layers.cbam", "LightCbamModule", C)), r"no known layout|averaged before one pass")
    # even with the weights that it starts with, where a gate is near 0.5
    refused(misc.SqueezeExcitation(C, 16, scale_activation=nn.Hardsigmoid), "other outputs.*hard sigmoid")


def test_a_bias_of_eca_is_refused_with_its_number():
    theirs = random(TutorialECA())
    theirs.conv.bias.data.fill_(0.25)
    refused(theirs, "eca has no bias, and this one has one of 0.25")
    refused(theirs.state_dict(), "eca has no bias, and this one has one of 0.25")


def test_an_empty_bottleneck_is_refused():
    with pytest.warns(UserWarning, match="zero-element"):
        theirs = TutorialSE(8, reduction=16)
    refused(theirs, "bottleneck is empty: 8 channels are fewer than the reduction")


def test_a_width_that_no_reduction_gives_is_refused_with_the_nearest():
    theirs = {"fc1.weight": torch.randn(7, 10, 1, 1), "fc2.weight": torch.randn(10, 7, 1, 1)}
    refused(theirs, r"no reduction makes 7 hidden units of 10.*5 \(reduction=2\) and 10 \(reduction=1\)")
    refused({"fc.0.weight": torch.randn(32, 16), "fc.2.weight": torch.randn(16, 32)}, "wider than its 16 channels")


def test_attention_that_takes_channels_for_positions_is_refused():
    state = foveate.create("psanet", 64, size=(9, 9), reduction=1).state_dict()
    for unit in ("attention", "attention_p"):
        state[f"{unit}.3.weight"] = torch.randn(64, 64, 1, 1)
    refused(state, r"64 outputs, one a channel.*only where height · width is 64")
    state["attention.3.weight"] = state["attention_p.3.weight"] = torch.randn(60, 64, 1, 1)
    refused(state, "60 is no odd number squared")


def test_what_only_looks_familiar_is_refused():
    keys = {"ca.se.0.weight": (4, C, 1, 1), "ca.se.2.weight": (C, 4, 1, 1), "sa.conv.weight": (1, 2, 7, 7)}
    refused({key: torch.zeros(shape) for key, shape in keys.items()}, "adds its input")
    ultralytics = {"channel_attention.fc.weight": torch.zeros(C, C, 1, 1), "channel_attention.fc.bias": torch.zeros(C)}
    refused(ultralytics, "no known layout")
    refused(TutorialSE(C), "does not have the keys", layout="timm.se")
    refused({"x": 1}, "no tensor")
    gc = timm_layer("layers.global_context", "GlobalContext", C)
    refused(gc, "GlobalContext is global_context, which the catalogue does not have|no known layout")
    with pytest.raises(OptionError, match=r"did you mean .*'timm.cbam'"):
        convert(TutorialSE(C), layout="timm.cbm")


def test_the_way_back_refuses_what_a_layout_has_no_place_for():
    cbam = random(foveate.create("cbam", C))
    with pytest.raises(FoveateError, match=r"no place for 'channel.fc1.bias', which is not zero \(up to 0.\d+\)"):
        convert_back(cbam, "tutorial.cbam")
    with pytest.raises(FoveateError, match="no place for 'spatial.norm"):
        convert_back(foveate.create("cbam", C), "tutorial.cbam")
    with pytest.raises(FoveateError, match="together"):
        convert_back(foveate.create("cbam", C, norm=False), "timm.cbam")
    with pytest.raises(FoveateError, match="needs 'sa.conv1.weight'"):
        convert_back(foveate.create("cbam", C, parts="channel"), "tutorial.cbam")
    blended = foveate.create("se", C)
    blended.start_at_identity()
    with pytest.raises(FoveateError, match="'blend' is 0.*only a blend of 1"):
        convert_back(blended, "timm.se")
    blended.blend.data.fill_(1)
    assert set(convert_back(blended, "timm.se")) == {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"}
    plain = convert_back(foveate.create("se", C, bias=False), "torchvision.se")
    assert not plain["fc1.bias"].any()
    assert plain["fc2.bias"].shape == (C,)


class Block(nn.Module):
    def __init__(self, inputs, channels, stride, **attention):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = None
        if stride > 1 or inputs != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )
        self.order = list(attention)
        for name, module in attention.items():
            self.add_module(name, module)

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        for name in self.order:
            y = getattr(self, name)(x)
            x = y if name == "cbam" else x * y  # a tutorial's halves return their gates
        return (x + shortcut).relu()


class ResNet(nn.Module):
    def __init__(self, attention=lambda channels: {}):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.layer1 = nn.Sequential(Block(32, 32, 1, **attention(32)), Block(32, 32, 1, **attention(32)))
        self.layer2 = nn.Sequential(Block(32, 64, 2, **attention(64)))
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        return self.fc(self.layer2(self.layer1(self.bn1(self.conv1(x)).relu())).mean((2, 3)))


def images(size=32):
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(3))


def same_outputs(ours, theirs, x):
    with torch.no_grad():
        expected, out = theirs(x), ours.eval()(x)
    assert expected.std() > 1e-3
    # float32 through all layers; the gates themselves agree to rounding
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    return out


NETWORKS = {
    "authors.cbam": lambda channels: {"cbam": AuthorsCBAM(channels)},
    "tutorial.cbam": lambda channels: {"ca": TutorialChannel(channels, 16), "sa": TutorialSpatial(7)},
}


@pytest.mark.parametrize("layout", NETWORKS)
def test_a_checkpoint_with_cbam_goes_into_a_plain_network_and_back(layout):
    theirs, x = random(ResNet(NETWORKS[layout])), images()
    state = theirs.state_dict()
    checkpoint = {"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}}
    host = ResNet()
    assert convert(checkpoint, host=host) is host
    same_outputs(host, theirs, x)
    keys = [key for key in host.state_dict() if ".foveate.cbam.channel.fc1.weight" in key]
    assert [key.partition(".foveate")[0] for key in keys] == ["layer1.0.bn2", "layer1.1.bn2", "layer2.0.bn2"]
    back = convert_back(host, layout)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)
    again = random(ResNet(NETWORKS[layout]), seed=9)
    again.load_state_dict(back)
    assert torch.equal(again(x), theirs(x))


@pytest.mark.parametrize(
    ("source", "plain", "layout", "mechanism"),
    [
        ("seresnet18", "resnet18", "timm.se", "squeeze_excite"),
        ("ecaresnet26t", "resnet26t", "timm.eca", "eca"),
        ("resnet18 cbam", "resnet18", "timm.cbam", "cbam"),
    ],
)
def test_networks_of_timm_go_into_plain_ones_and_back(source, plain, layout, mechanism):
    timm = pytest.importorskip("timm")
    name, _, attention = source.partition(" ")
    options = {"block_args": {"attn_layer": attention}} if attention else {}
    theirs = random(timm.create_model(name, **options))
    host, x = timm.create_model(plain), images(64)
    convert(theirs, layout=layout, host=host, example=torch.zeros(1, 3, 64, 64))
    same_outputs(host, theirs, x)
    found = foveate.attached(host)
    assert {one.mechanism for one in found} == {mechanism}
    back = convert_back(host, layout)
    assert back.keys() == theirs.state_dict().keys()
    assert all(torch.equal(back[key], value) for key, value in theirs.state_dict().items())
    # the checkpoint alone does as well as the network; and ours loads into another of its kind
    second = convert(theirs.state_dict(), host=timm.create_model(plain), example=torch.zeros(1, 3, 64, 64))
    assert all(torch.equal(a, b) for a, b in zip(second.state_dict().values(), host.state_dict().values(), strict=True))


def test_each_place_gets_the_reduction_that_its_weights_have():
    timm = pytest.importorskip("timm")
    host = convert(timm.create_model("seresnet18"), host=timm.create_model("resnet18"))
    specs = [str(place.foveate_seats["squeeze_excite"].attention) for place in attended_places(host).values()]
    assert specs[0] == "squeeze_excite:bias=true,reduction=8"  # timm rounds 64 / 16 up to 8
    assert specs[-1] == "squeeze_excite:bias=true,reduction=16"


def test_old_names_of_a_network_become_the_hosts():
    theirs = random(ResNet(lambda channels: {"cbam": TutorialSE(channels)}))
    state = theirs.state_dict()
    old = {
        re.sub(r"^(conv1|bn1)\.", r"layer0.\1.", key).replace("fc.weight", "last_linear.weight"): v
        for key, v in state.items()
    }
    old = {
        key.replace(".cbam.fc.0", ".se_module.fc1").replace(".cbam.fc.2", ".se_module.fc2"): v for key, v in old.items()
    }
    old["last_linear.bias"] = old.pop("fc.bias")
    for key in [key for key in old if "se_module" in key]:
        old[key.replace("weight", "bias")] = torch.zeros(len(old[key]))
    host = convert(old, layout="timm.legacy_se", host=ResNet())
    same_outputs(host, theirs, images())


def test_a_host_is_left_alone_when_something_does_not_fit():
    state = random(ResNet(NETWORKS["authors.cbam"])).state_dict()
    host = ResNet()
    before = {key: value.clone() for key, value in host.state_dict().items()}

    def unchanged(source, error, reason, **options):
        with pytest.raises(error, match=reason):
            convert(source, host=host, **options)
        after = host.state_dict()
        assert after.keys() == before.keys()
        assert all(torch.equal(after[key], before[key]) for key in before)

    unchanged({k: v for k, v in state.items() if k != "fc.bias"}, FoveateError, "lacks 'fc.bias'")
    unchanged({**state, "fc.weight": torch.zeros(3, 64)}, FoveateError, r"'fc.weight' has the shape \(3, 64\)")
    unchanged({**state, "odd.weight": torch.zeros(1)}, FoveateError, "no known layout explains.*'odd.weight'")
    lost = {k: v for k, v in state.items() if k != "layer1.0.cbam.ChannelGate.mlp.1.bias"}
    unchanged(lost, FoveateError, "no known layout explains.*'layer1.0.cbam")
    moved = {key.replace("layer2.0.cbam", "layer2.cbam"): v for key, v in state.items()}
    moved |= {key.replace("layer1.0.cbam", "layer1.cbam"): v for key, v in state.items() if "layer1.0.cbam" in key}
    moved = {key: v for key, v in moved.items() if "layer1.0.cbam" not in key}
    unchanged(
        moved, PlaceError, "'layer1.cbam' acts cannot be told: its block has the places layer1.0.bn2, layer1.1.bn2"
    )
    unchanged(state, FoveateError, "does not explain", layout="timm.cbam")
    empty = {key: v[:0] if "layer1.0.cbam.ChannelGate.mlp.1" in key else v for key, v in state.items()}
    unchanged(empty, FoveateError, "the attention at 'layer1.0.cbam': its bottleneck is empty")
    with pytest.raises(FoveateError, match="nothing of cbam is attached"):
        convert_back(host, "authors.cbam")


def test_a_network_whose_gates_are_hard_is_refused_by_place():
    timm = pytest.importorskip("timm")
    with pytest.raises(FoveateError, match=r"'blocks.0.0.se'.*hard sigmoid"):
        convert(timm.create_model("mobilenetv3_small_050"), host=timm.create_model("mobilenetv2_050"))


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_reads_what_it_writes(name):
    layout = LAYOUTS[name]
    biases = any(part.theirs.endswith("bias") and part.need != "never" for part in layout.parts)
    options = {"squeeze_excite": {"bias": biases}, "cbam": {"norm": "tutorial" not in name}, "psanet": {}, "eca": {}}
    size = (9, 9) if layout.mechanism == "psanet" else None
    ours = random(foveate.create(layout.mechanism, C, size=size, **options[layout.mechanism]))
    if layout.mechanism == "cbam" and "tutorial" in name:
        for fc in (ours.channel.fc1, ours.channel.fc2):
            fc.bias.data.zero_()
    again = convert(convert_back(ours, name), layout=name)
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), again.state_dict().values(), strict=True))


def test_what_is_no_source_no_layout_and_no_host():
    for source in (3, None, {"state_dict": 5}, [torch.zeros(1)]):
        with pytest.raises(OptionError, match="a module or a state dict"):
            convert(source)
        with pytest.raises(OptionError, match="a module or a state dict"):
            convert(source, host=ResNet())
    state = random(ResNet(NETWORKS["authors.cbam"])).state_dict()
    for layout in (3, 0, ["timm.se"]):
        for call in (
            lambda layout=layout: convert(TutorialSE(C), layout=layout),
            lambda layout=layout: convert(TutorialSE(C).state_dict(), layout=layout),
            lambda layout=layout: convert(state, layout=layout, host=ResNet()),
            lambda layout=layout: convert_back(foveate.create("se", C), layout),
        ):
            with pytest.raises(OptionError, match="a layout is named by a word"):
                call()
    for call in (lambda: convert(state, host=3), lambda: convert_back(3, "timm.se")):
        with pytest.raises(OptionError, match=r"a network is a torch\.nn\.Module, not int"):
            call()


def test_a_host_keeps_its_weights_when_attention_cannot_be_put_in(monkeypatch):
    state = random(ResNet(NETWORKS["authors.cbam"])).state_dict()
    host = ResNet()
    host.layer2[0].bn2.foveate = "a name of its own"
    before = {key: value.clone() for key, value in host.state_dict().items()}
    with pytest.raises(FoveateError, match="of its own"):
        convert(state, host=host)
    after = host.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[key], before[key]) for key in before)
    assert not attended_places(host)


def test_a_compiled_host_is_seen_through_and_a_parallel_one_refused():
    theirs = random(ResNet(NETWORKS["authors.cbam"]))
    compiled = torch.compile(ResNet(), backend="eager")
    assert convert(theirs.state_dict(), host=compiled) is compiled
    same_outputs(compiled._orig_mod, theirs, images())
    with pytest.raises(FoveateError, match="attach first, wrap then"):
        convert(theirs.state_dict(), host=nn.DataParallel(ResNet()))
