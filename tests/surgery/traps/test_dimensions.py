"""Maps with channels last, signals and volumes: attention acts on the axes that it is meant for."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import foveate
from foveate.errors import FoveateError
from foveate.surgery.attended import attended_places

PRESETS = ("residual", "pre", "post", "identity", "stage", "conv")
ignore_left_out = pytest.mark.filterwarnings("ignore:.* leaves .* out:foveate.errors.FoveateWarning")


def gate_by_hand(attention, x, axis):
    """Squeeze and excitation of a map whose channels lie on an axis: NumPy, from the paper's equations 2 to 4."""
    x = np.moveaxis(x.double().numpy(), axis, 1)
    weights = {key: value.detach().double().numpy() for key, value in attention.state_dict().items()}
    z = x.reshape(*x.shape[:2], -1).mean(-1)
    w1, w2 = (weights[f"fc{n}.weight"].reshape(weights[f"fc{n}.weight"].shape[:2]) for n in (1, 2))
    hidden = np.maximum(z @ w1.T + weights["fc1.bias"], 0)
    s = 1 / (1 + np.exp(-(hidden @ w2.T + weights["fc2.bias"])))
    return np.moveaxis(x * s.reshape(*s.shape, *[1] * (x.ndim - 2)), 1, axis)


def convolved_by_hand(attention, x, axis):
    """ECA of a map whose channels lie on an axis: NumPy, from the paper's equation 9."""
    x = np.moveaxis(x.double().numpy(), axis, 1)
    kernel = attention.conv.weight.detach().double().numpy().reshape(-1)
    z = x.reshape(*x.shape[:2], -1).mean(-1)
    padded = np.pad(z, ((0, 0), (len(kernel) // 2,) * 2))
    shared = np.stack([np.correlate(row, kernel, "valid") for row in padded])
    s = 1 / (1 + np.exp(-shared))
    return np.moveaxis(x * s.reshape(*s.shape, *[1] * (x.ndim - 2)), 1, axis)


BY_HAND = {"se": gate_by_hand, "eca": convolved_by_hand}


def check_by_hand(network, x, name, wanted=None):
    """At each place, what comes out is what the equations make of what the host returned."""
    checked = 0
    for path, place in attended_places(network).items():
        (seat,) = place.foveate_seats.values()
        (attention,) = place.foveate.values()
        if seat.point.side != "output" or (wanted is not None and path != wanted):
            continue
        seen = {}
        handles = [
            place.foveate_host.register_forward_hook(
                lambda m, a, out, seen=seen: seen.__setitem__("host", out.clone())
            ),
            place.register_forward_hook(lambda m, a, out, seen=seen: seen.__setitem__("place", out.clone())),
        ]
        with torch.no_grad():
            network(x)
        for handle in handles:
            handle.remove()
        assert seen["host"].shape[seat.point.axis] == seat.channels
        expected = BY_HAND[name](attention, seen["host"], seat.point.axis)
        np.testing.assert_allclose(seen["place"].double().numpy(), expected, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(seen["place"], seen["host"], rtol=1e-2)
        checked += 1
    return checked


def convnext(randomised):
    models = pytest.importorskip("torchvision.models")
    settings = [models.convnext.CNBlockConfig(8, 16, 1), models.convnext.CNBlockConfig(16, None, 2)]
    network = models.ConvNeXt(settings, num_classes=3)
    for block in network.modules():  # 1e-6 as published hides what the branch does
        if hasattr(block, "layer_scale"):
            nn.init.uniform_(block.layer_scale, 0.5, 1.5)
    return network


def timm_model(name, **options):
    network = pytest.importorskip("timm").create_model(name, num_classes=3, **options)
    for key, parameter in network.named_parameters():
        if key.endswith("gamma"):
            nn.init.uniform_(parameter, 0.5, 1.5)
    return network


CHANNELS_LAST = {
    "torchvision convnext": convnext,
    "timm convnext": lambda _: timm_model("convnext_atto", dims=(8, 16, 24, 32), depths=(1, 1, 1, 1)),
    "timm convnext, mlp of convolutions": lambda _: timm_model(
        "convnext_atto", dims=(8, 16, 24, 32), depths=(1, 1, 1, 1), conv_mlp=True
    ),
    "timm mambaout": lambda _: timm_model("mambaout_femto", dims=(8, 16, 24, 32), depths=(1, 1, 1, 1)),
}
IMAGE = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@ignore_left_out
@pytest.mark.parametrize("at", PRESETS)
@pytest.mark.parametrize("host", CHANNELS_LAST)
def test_blocks_that_keep_channels_last_attend_over_channels(host, at, randomised, away_from_identity):
    torch.manual_seed(0)
    network = CHANNELS_LAST[host](randomised).eval()
    original, x = copy.deepcopy(network.state_dict()), IMAGE
    with torch.no_grad():
        plain = network(x)
        foveate.attach(network, "se:reduction=2", at=at, example=x)
        assert torch.equal(network(x), plain)
        network.load_state_dict(original)
        foveate.detach(network)
        assert torch.equal(network(x), plain)
    away_from_identity(foveate.attach(network, "se:reduction=2", at=at, start="paper", example=x))
    places = attended_places(network)
    outputs = [p for p in places.values() for seat in p.foveate_seats.values() if seat.point.side == "output"]
    assert check_by_hand(network, x, "se") == len(outputs)
    with torch.no_grad():
        assert not torch.allclose(network(x), plain, rtol=1e-4, atol=1e-6)
    network(x).square().sum().backward()
    for name, parameter in foveate.attention_parameters(network):
        assert parameter.grad is not None, name


def test_some_of_these_places_do_keep_channels_last(randomised):
    axes = {}
    for host, build in CHANNELS_LAST.items():
        torch.manual_seed(0)
        network = build(randomised).eval()
        foveate.attach(network, "eca", at="residual", example=IMAGE)
        seats = [seat for p in attended_places(network).values() for seat in p.foveate_seats.values()]
        axes[host] = {seat.point.axis for seat in seats}
    assert axes["timm mambaout"] == {3}
    assert axes["timm convnext, mlp of convolutions"] == {1}


class Signals(nn.Module):
    """A residual block of one, two or three axes."""

    def __init__(self, axes, channels=6):
        super().__init__()
        conv, norm = getattr(nn, f"Conv{axes}d"), getattr(nn, f"BatchNorm{axes}d")
        self.stem = conv(2, channels, 3, padding=1)
        self.conv = conv(channels, channels, 3, padding=1)
        self.bn = norm(channels)

    def forward(self, x):
        x = F.relu(self.stem(x))
        return F.relu(x + self.bn(self.conv(x)))


def signals(axes):
    torch.manual_seed(0)
    return nn.Sequential(Signals(axes), nn.Identity())


@pytest.mark.parametrize("name", ["se", "eca"])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_signals_and_volumes_have_the_gate_of_the_equations(axes, name, randomised):
    network = randomised(signals(axes))
    x = torch.randn(2, 2, *(7, 5, 6)[:axes])
    with torch.no_grad():
        plain = network(x)
        assert torch.equal(foveate.attach(network, name, example=x)(x), plain)
    foveate.detach(network)
    for at in ("residual", "post", "conv"):
        foveate.attach(network, name, at=at, start="paper", example=x)
        assert check_by_hand(network, x, name) == (2 if at == "conv" else 1)
        with torch.no_grad():
            assert not torch.allclose(network(x), plain, rtol=1e-2)
            other = torch.randn(1, 2, *(9, 4, 3)[:axes])  # any size, as before
            assert network(other).shape[2:] == other.shape[2:]
        foveate.detach(network)


@pytest.mark.parametrize("axes", [1, 3])
def test_cbam_looks_along_the_axes_that_there_are(axes, randomised):
    network = randomised(signals(axes))
    foveate.attach(network, "cbam", example=torch.zeros(1, 2, *(7, 5, 6)[:axes]), start="paper")
    place = network[0].bn
    spatial = place.foveate["cbam"].spatial
    nn.init.ones_(spatial.norm.weight)
    maps, outputs = [], []
    spatial.map.register_forward_hook(lambda module, args, out: maps.append(out))
    spatial.register_forward_hook(lambda module, args, out: outputs.append((args[0], out)))
    with torch.no_grad():
        network(torch.randn(2, 2, *(7, 5, 6)[:axes]))
    (weights,), ((given, out),) = maps, outputs
    assert weights.shape == (2, 1, *(7, 5, 6)[:axes])
    assert weights.std() > 0.01
    torch.testing.assert_close(out, given * weights)


@pytest.mark.parametrize("name", ["gather_excite", "psanet"])
@pytest.mark.parametrize("axes", [1, 3])
def test_mechanisms_of_images_refuse_signals_and_volumes(axes, name):
    network = signals(axes).eval()
    x = torch.randn(2, 2, *(8, 8, 8)[:axes])
    keys = list(network.state_dict())
    with pytest.raises(FoveateError, match="is defined on maps of height and width"):
        foveate.attach(network, name, example=x)
    assert list(network.state_dict()) == keys


def test_a_volume_network_of_monai_learns_with_attention():
    nets = pytest.importorskip("monai.networks.nets")
    torch.manual_seed(0)
    network = nets.UNet(3, 1, 2, channels=(4, 8, 16), strides=(2, 2), num_res_units=1, norm="batch").eval()
    x = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        plain = network(x)
    for at in ("residual", "skip", "stage"):
        foveate.attach(network, "se:reduction=2", at=at, example=x)
        with torch.no_grad():
            assert torch.equal(network(x), plain), at
        network.zero_grad()
        network(x).square().mean().backward()
        blends = [p for key, p in foveate.attention_parameters(network) if key.endswith("blend")]
        assert blends
        assert all(p.grad.abs().sum() > 0 for p in blends), at
        foveate.detach(network)
