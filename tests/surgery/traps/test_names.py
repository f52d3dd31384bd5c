"""Hosts that use our words for their own parts, and hosts that answer for attributes in ways of their own."""

import copy
import pickle

import pytest
import torch
from torch import nn

import foveate
from foveate.errors import FoveateError
from foveate.surgery.attended import attended_places

OURS = (
    "attention", "host", "map", "maps", "blend", "seats", "gather", "weigh", "recalibrate", "point", "module",
    "foveate", "foveate_host", "foveate_seats", "foveate_disabled", "eca", "size", "axes",
)  # fmt: skip
X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Part(nn.Module):
    """A part with one child, which has one of our words for its name; so has a number of its own."""

    def __init__(self, name, number=None):
        super().__init__()
        self.called = name
        self.add_module(name, nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)))
        if number is not None:
            setattr(self, number, 7)

    def forward(self, x):
        return x + getattr(self, self.called)(x)


class Network(nn.Module):
    def __init__(self, outer, inner):
        super().__init__()
        self.called = outer
        self.add_module(outer, Part(inner))

    def forward(self, x):
        return torch.relu(getattr(self, self.called)(x))


@torch.no_grad()
@pytest.mark.parametrize("inner", ["attention", "host", "map", "branch"])
@pytest.mark.parametrize("outer", OURS)
def test_hosts_whose_parts_are_called_as_ours_are(outer, inner, randomised):
    network = randomised(Network(outer, inner))
    plain, original = network(X), copy.deepcopy(network.state_dict())
    foveate.attach(network, "se:reduction=1", example=X, start="paper", name="ours")
    foveate.attach(network, "eca", at=f"{outer}.{inner}.0", example=X, start="paper")
    if not outer.startswith("foveate"):  # a wrapper around the part, whose own words these are
        foveate.attach(network, "eca", at=outer, example=X, start="paper", name="around")
    expected = network(X)
    assert not torch.allclose(expected, plain, rtol=1e-2)
    ours = [key for key in network.state_dict() if ".foveate.ours." in key or ".foveate.eca." in key]
    assert {key.split(".foveate.ours.")[0] for key in ours if ".foveate.ours." in key} == {f"{outer}.{inner}.1"}
    assert [key for key in network.state_dict() if key in original] == list(original)
    again = pickle.loads(pickle.dumps(network)) if outer != "module" else copy.deepcopy(network)
    assert torch.equal(again(X), expected)
    again.load_state_dict(network.state_dict())
    again.load_state_dict(original)
    assert torch.equal(again(X), expected)
    foveate.detach(again)
    assert torch.equal(again(X), plain)
    assert list(again.state_dict()) == list(original)
    assert torch.equal(network(X), expected)


@pytest.mark.parametrize("kind", ["part", "attribute"])
def test_a_place_with_a_foveate_of_its_own_is_refused(kind):
    class Owner(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)
            self.foveate = nn.Conv2d(3, 3, 1) if kind == "part" else 7

        def forward(self, x):
            return self.conv(x)

    network = nn.Sequential(Owner(), nn.ReLU())
    keys = list(network.state_dict())
    with pytest.raises(FoveateError, match="Owner has a 'foveate' of its own: it cannot carry attention"):
        foveate.attach(network, "se", at="0", example=X)
    assert list(network.state_dict()) == keys
    foveate.attach(network, "se:reduction=1", at="0.conv", example=X)  # inside it there is room
    assert list(attended_places(network)) == ["0.conv"]


class Answering(nn.Module):
    """Answers for names that it does not have, as wrappers of other libraries do."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Conv2d(3, 3, 3, padding=1)
        self.asked = []

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("twice_"):
                return 2 * getattr(self.inner, name.removeprefix("twice_"))
            return getattr(self._modules["inner"], name)

    def forward(self, x):
        return self.inner(x)


@torch.no_grad()
def test_a_host_that_answers_for_names_it_does_not_have_keeps_answering():
    network = nn.Sequential(Answering(), nn.ReLU())
    plain = network(X)
    foveate.attach(network, "se:reduction=1", at="0", example=X, start="paper")
    place = network[0]
    assert place.kernel_size == (3, 3)
    assert place.twice_out_channels == 6
    with pytest.raises(AttributeError, match="nonsense"):
        _ = place.nonsense
    assert not hasattr(place, "nonsense")
    assert torch.equal(copy.deepcopy(network)(X), network(X))
    assert torch.equal(pickle.loads(pickle.dumps(network))(X), network(X))
    foveate.detach(network)
    assert torch.equal(network(X), plain)


class Gated(nn.Sequential):
    """A sequence with a forward of its own: not what its last member returns."""

    def __init__(self):
        super().__init__(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3))
        self.power = 2

    def forward(self, x, gain=1.0):
        return gain * x * torch.sigmoid(super().forward(x)) ** self.power


@torch.no_grad()
def test_a_sequence_with_its_own_forward_is_attended_behind_it(randomised):
    class Caller(nn.Module):
        def __init__(self):
            super().__init__()
            self.gated = Gated()

        def forward(self, x):
            return self.gated(x, gain=3.0)

    network = randomised(Caller())
    plain = network(X)
    foveate.attach(network, "se:reduction=1", at="gated", example=X, start="paper")
    assert list(attended_places(network)) == ["gated"]
    attention = network.gated.foveate["squeeze_excite"]
    torch.testing.assert_close(network(X), attention(plain))
    assert len(network.gated) == 2
    assert isinstance(network.gated[1], nn.BatchNorm2d)
    network.gated.power = 0
    torch.testing.assert_close(network(X), attention(3 * X))
    assert foveate.detach(network).gated.power == 0


@torch.no_grad()
def test_a_sequence_with_its_own_forward_that_ends_like_its_last_member(randomised):
    class Preceded(nn.Sequential):
        def forward(self, x):
            return super().forward(x + 1)

    network = nn.Sequential(randomised(Preceded(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))), nn.ReLU()).eval()
    before = network[0](X)
    foveate.attach(network, "se:reduction=1", at="0", example=X, start="paper")
    (place,) = attended_places(network).values()
    (attention,) = place.foveate.values()
    torch.testing.assert_close(network[0](X), attention(before))


def test_methods_of_the_host_are_still_there_and_act_on_the_host():
    class Resettable(nn.Module):
        kind = "resettable"

        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)
            self.count = 0

        def forward(self, x):
            self.count += 1
            return self.conv(x)

        def reset(self):
            self.count = 0
            return self

        @property
        def doubled(self):
            return 2 * self.count

    network = nn.Sequential(Resettable(), nn.ReLU())
    host = network[0]
    foveate.attach(network, "se:reduction=1", at="0", example=X)
    place = network[0]
    host.count = 0
    network(X)
    assert (place.count, place.doubled, place.kind) == (1, 2, "resettable")
    assert place.reset() is host
    assert host.count == 0
    place.count = 5
    assert host.count == 5
    assert "count" not in place.__dict__
