"""Attention inside what carries attention, and several at one place: all act, in order, and come out one by one."""

import copy
import itertools

import pytest
import torch
from torch import nn

import foveate
from foveate.surgery.attended import attachments, attended_places


class Affine(nn.Module):
    """Attention that is easy to compute by hand: scale · x + shift."""

    def __init__(self, scale, shift):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.tensor(scale)), nn.Parameter(torch.tensor(shift))

    def forward(self, x):
        return self.scale * x + self.shift


def tripled(channels):
    return Affine(3.0, 0.0)


def shifted(channels):
    return Affine(1.0, 5.0)


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 3, 1)
        self.second = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.second(self.first(x))


X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
@pytest.mark.parametrize("order", [(tripled, shifted), (shifted, tripled)])
def test_two_at_one_place_act_in_the_order_of_attaching(order):
    network = Two()
    host = network.first(X)
    for attention in order:
        foveate.attach(network, attention, at="first", start="paper", example=X)
    by_hand = {tripled: 3 * host + 5, shifted: 3 * (host + 5)}[order[0]]
    torch.testing.assert_close(network.first(X), by_hand)
    assert [key.split(".")[2] for key in network.state_dict() if key.endswith("scale")] == [f.__name__ for f in order]


@torch.no_grad()
def test_one_mechanism_twice_under_names_of_its_own():
    network = Two()
    plain = network(X)
    foveate.attach(network, tripled, at="first", start="paper", example=X, name="day")
    once = network(X)
    foveate.attach(network, tripled, at="first", start="paper", example=X, name="night")
    assert attachments(network) == ["day", "night"]
    torch.testing.assert_close(network.first(X), 9 * network.first.foveate_host(X))
    first, second = (network.first.foveate[name] for name in ("day", "night"))
    assert first.scale is not second.scale
    foveate.detach(network, "day")
    assert torch.equal(network(X), once)
    assert network.first.foveate["night"] is second
    foveate.detach(network, "night")
    assert torch.equal(network(X), plain)


@torch.no_grad()
def test_at_the_input_and_at_the_output_of_one_module(resnet8, images):
    network, x = resnet8(), images()
    block = network.layer2[0]
    foveate.attach(network, tripled, at="pre", start="paper", example=x, name="ours")
    assert list(block.conv1.foveate) == ["ours__input"]
    conv = block.conv1.foveate_host
    foveate.attach(network, shifted, at=["pre", "layer2.0.conv1"], start="paper", example=x, name="both")
    assert list(block.conv1.foveate) == ["ours__input", "both__input", "both"]
    given = torch.randn(1, 16, 8, 8)
    torch.testing.assert_close(block.conv1(given), conv(3 * given + 5) + 5)
    keys = [key for key in network.state_dict() if "conv1.foveate" in key and key.startswith("layer2")]
    assert keys == [
        f"layer2.0.conv1.foveate.{name}.{what}"
        for name in ("ours__input", "both__input", "both")
        for what in ("scale", "shift")
    ]
    network.load_state_dict(copy.deepcopy(network.state_dict()))
    foveate.detach(network, "both")
    torch.testing.assert_close(block.conv1(given), conv(3 * given))


LEVELS = {
    "inner": ("layer1", "se", {"at": "0.bn2"}),
    "whole": ("", "eca", {"at": "residual"}),
    "around": ("", "cbam", {"at": "layer1.0"}),
    "middle": ("layer1.0", "eca", {"at": "bn2"}),
}


def attach_levels(network, levels, x):
    features = torch.relu(network.bn1(network.conv1(x)))
    for level in levels:
        path, attention, options = LEVELS[level]
        example = features if path else x
        # `part` may be a wrapper by now, when attention was put around it
        part = network.get_submodule(path)
        foveate.attach(part, attention, start="paper", example=example, name=level, **options)
    return network


@torch.no_grad()
@pytest.mark.parametrize("taken_out", list(itertools.permutations(LEVELS))[::5])
@pytest.mark.parametrize("put_in", [("inner", "whole", "around", "middle"), ("around", "middle", "whole", "inner")])
def test_attachments_at_several_levels_come_out_in_any_order(put_in, taken_out, resnet8, images):
    network, x = resnet8(), images()
    plain, original = network(x), copy.deepcopy(network.state_dict())
    attach_levels(network, put_in, x)
    together, keys = network(x), set(network.state_dict())
    ours = {key for key in keys if ".foveate." in key}
    assert keys - ours == set(original)
    assert {key.split(".foveate.")[1].split(".")[0] for key in ours} == set(LEVELS)
    assert {key.split(".foveate.")[0] for key in ours} == {
        "layer1.0", "layer1.0.bn2", "layer2.0.bn2", "layer3.0.bn2",
    }  # fmt: skip
    assert sorted(attachments(network)) == sorted(LEVELS)

    other = attach_levels(resnet8(3), put_in, x)
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(x), together)
    network.load_state_dict(original)  # strict
    assert torch.equal(network(x), together)

    here, last = list(taken_out), together
    while here:
        foveate.detach(network, here.pop(0))
        now = network(x)
        assert not torch.allclose(now, last, rtol=1e-4)
        remaining = [level for level in put_in if level in here]
        reference = attach_levels(resnet8(), remaining, x)
        reference.load_state_dict(network.state_dict())
        assert torch.equal(now, reference(x))
        last = now
    assert torch.equal(last, plain)
    assert list(network.state_dict()) == list(original)
    assert not attended_places(network)


def test_a_part_alone_saves_and_loads_its_own_keys(resnet8, images):
    network = attach_levels(resnet8(), ("inner", "whole", "around"), images())
    part = network.layer2
    original = resnet8(4).layer2.state_dict()
    assert [key for key in part.state_dict() if ".foveate." not in key] == list(original)
    kept = {key: value.clone() for key, value in part.state_dict().items() if ".foveate." in key}
    assert kept
    # the network tolerates absent attention for the whole; a part of it is loaded through the network
    network.load_state_dict({**network.state_dict(), **{f"layer2.{key}": value for key, value in original.items()}})
    now = part.state_dict()
    assert all(torch.equal(now[key], value) for key, value in {**original, **kept}.items())


def test_a_damaged_checkpoint_of_one_level_is_refused(resnet8, images):
    network = attach_levels(resnet8(), ("inner", "whole", "around"), images())
    state = network.state_dict()
    for level in ("inner", "whole", "around"):
        ours = [key for key in state if f".foveate.{level}." in key]
        with pytest.raises(RuntimeError, match=f"Missing key.*{level}"):
            network.load_state_dict({key: value for key, value in state.items() if key != ours[0]})
        network.load_state_dict({key: value for key, value in state.items() if key not in ours})
