"""Modules used twice, and modules that a list, a dictionary or a sequence owns."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.feature_extraction import create_feature_extractor

import foveate
from foveate.errors import PlaceError
from foveate.surgery.attended import attended_places

X = torch.randn(2, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class SharedHead(nn.Module):
    """One head over two levels, as in RetinaNet; one activation for both of them."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Conv2d(4, 4, 3, padding=1)
        self.act = nn.ReLU()

    def forward(self, x):
        fine = self.stem(x)
        coarse = F.max_pool2d(fine, 2)
        return self.act(self.head(fine)).mean((2, 3)) + 2 * self.act(self.head(coarse)).mean((2, 3))


def test_shared_weights_share_attention_whose_gradients_sum(away_from_identity):
    torch.manual_seed(0)
    network = SharedHead().double()
    away_from_identity(foveate.attach(network, "se:reduction=2", at="head", example=X))
    assert len(attended_places(network)) == 1
    network(X).square().sum().backward()
    together = {name: p.grad for name, p in foveate.attention_parameters(network)}

    # the same with a head and attention of its own at each level
    split = copy.deepcopy(network)
    split.zero_grad()
    first, second = split.head, copy.deepcopy(split.head)
    fine = split.stem(X)
    out = F.relu(first(fine)).mean((2, 3)) + 2 * F.relu(second(F.max_pool2d(fine, 2))).mean((2, 3))
    torch.testing.assert_close(out, network(X))
    out.square().sum().backward()
    for (name, one), other in zip(first.foveate.named_parameters(), second.foveate.parameters(), strict=True):
        assert one.grad.abs().max() > 0
        assert other.grad.abs().max() > 0
        torch.testing.assert_close(together[f"head.foveate.{name}"], one.grad + other.grad)


def test_a_module_without_weights_that_runs_twice_is_refused():
    network = SharedHead().double()
    with pytest.raises(PlaceError, match="'act' runs 2 times in one pass"):
        foveate.attach(network, "se", at="act", example=X)
    assert not attended_places(network)


@pytest.mark.parametrize("place", ["first", "first.conv"])
def test_one_module_under_two_names_is_attended_once_under_both(place):
    class Part(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x):
            return self.conv(x).tanh()

    network = nn.Module()
    network.first = Part()
    network.second = network.first
    network.forward = lambda x: network.second(F.relu(network.first(x)))
    network.double().eval()
    original, before = copy.deepcopy(network.state_dict()), network(X)
    foveate.attach(network, "se:reduction=1", at=place, start="paper", example=X)
    assert network.first is network.second
    expected = network(X)
    assert not torch.allclose(expected, before, rtol=1e-2)
    keys = [key for key in network.state_dict() if ".foveate." in key]
    assert {key.split(".")[0] for key in keys} == {"first", "second"}
    assert len(list(foveate.attention_parameters(network))) * 2 == len(keys)
    network.load_state_dict(network.state_dict())
    network.load_state_dict(original)
    assert torch.equal(network(X), expected)
    foveate.detach(network)
    assert torch.equal(network(X), before)
    assert list(network.state_dict()) == list(original)


def test_a_part_shared_by_two_networks_is_attended_in_both():
    backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).double().eval()
    one, other = nn.Sequential(backbone, nn.ReLU()), nn.Sequential(backbone, nn.Tanh())
    before = other(X)
    foveate.attach(one, "se:reduction=1", at="0.1", start="paper", example=X)
    assert not torch.allclose(other(X), before, rtol=1e-2)
    foveate.detach(one)
    assert torch.equal(other(X), before)


class Owners(nn.Module):
    """Parts in every kind of container, called by index, key, iteration and slice."""

    def __init__(self):
        super().__init__()
        self.listed = nn.ModuleList([self.part(3, 4), self.part(4, 4)])
        self.named = nn.ModuleDict({"a_b": self.part(4, 4), "pool": nn.MaxPool2d(2)})
        self.row = nn.Sequential(self.part(4, 4), self.part(4, 4), self.part(4, 4))
        self.nested = nn.ModuleList([nn.ModuleDict({"deep": nn.Sequential(self.part(4, 4))})])

    @staticmethod
    def part(inputs, outputs):
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        for number in range(len(self.listed)):
            x = F.relu(self.listed[number](x))
        x = self.named["pool"](self.named["a_b"](x))
        for layer in self.row[:2]:
            x = F.relu(layer(x))
        x = self.row[-1](x)
        for member in self.nested:
            x = member["deep"][0](x)
        return x


@pytest.fixture
def owners(randomised):
    torch.manual_seed(0)
    return randomised(Owners().double())


LAYERS = ("listed.0", "listed.1", "named.a_b", "row.0", "row.1", "row.2", "nested.0.deep.0")


@torch.no_grad()
@pytest.mark.parametrize("inner", ["", ".1"])
@pytest.mark.parametrize("path", LAYERS)
def test_members_of_containers_run_with_their_attention(path, inner, owners):
    plain = owners(X)
    original = copy.deepcopy(owners.state_dict())
    module = owners.get_submodule(path + inner)
    foveate.attach(owners, "se:reduction=1", at=path + inner, start="paper", example=X)
    assert not torch.allclose(owners(X), plain, rtol=1e-3)
    # a sequence returns what its last member does, and there its attention sits
    assert {key.split(".foveate.")[0] for key in owners.state_dict() if ".foveate." in key} == {f"{path}.1"}
    assert [key for key in owners.state_dict() if ".foveate." not in key] == list(original)
    owners.load_state_dict(original)
    foveate.detach(owners)
    assert torch.equal(owners(X), plain)
    assert owners.get_submodule(path + inner) is module


def test_containers_that_carry_attention_are_indexed_sliced_iterated_and_changed():
    parts = [nn.Conv2d(3, 3, 3, padding=1) for _ in range(3)]
    network = nn.Module()
    network.row = nn.Sequential(*parts)
    network.forward = lambda x: network.row(x)
    x = X.float()
    foveate.attach(network, "se:reduction=1", at="row.1", start="paper", example=x)
    assert len(network.row) == 3
    assert isinstance(network.row[:2], nn.Sequential)
    attended = network.row[1]
    assert network.row[-2] is attended
    assert [module is attended for module in network.row] == [False, True, False]
    assert torch.equal(network.row[:2](x), attended(parts[0](x)))
    assert not torch.allclose(network.row[:2](x), parts[1](parts[0](x)), rtol=1e-2)
    network.row.append(nn.ReLU())
    assert len(network.row) == 4
    del network.row[3]
    network.row[0] = nn.Identity()
    assert torch.equal(network(x), parts[2](attended(x)))


def test_a_network_with_a_list_of_its_own_is_refused(owners):
    """The list would keep calling the bare modules."""

    class Reading(nn.Module):
        def __init__(self):
            super().__init__()
            self.stages = nn.ModuleList([owners.listed[0][0], owners.listed[1][0]])
            self.order = [self.stages[0], self.stages[1]]

        def forward(self, x):
            for stage in self.order:
                x = stage(x)
            return x

    network = Reading()
    keys = list(network.state_dict())
    with pytest.raises(PlaceError, match=r"'stages\.\d' through another reference .*nothing was attached"):
        foveate.attach(network, "se", at="stages.*", example=X)
    assert list(network.state_dict()) == keys


@torch.no_grad()
@pytest.mark.parametrize("at", ["residual", "stage"])
def test_features_taken_out_by_name_have_attention(at, randomised):
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    network = randomised(models.resnet18(num_classes=3))
    x = torch.randn(1, 3, 64, 64)
    foveate.attach(network, "cbam", at=at, start="paper", example=x)
    expected = {}
    y = network.maxpool(network.relu(network.bn1(network.conv1(x))))
    for name in ("layer1", "layer2", "layer3", "layer4"):
        y = network.get_submodule(name)(y)
        expected[name] = y.clone()
    names = {"layer2": "layer2", "layer4": "layer4"}
    traced = create_feature_extractor(copy.deepcopy(network), names)
    got = IntermediateLayerGetter(network, names)(x)
    plain = IntermediateLayerGetter(foveate.detach(copy.deepcopy(network)), names)(x)
    for name in names:
        value = expected[name]
        assert torch.equal(got[name], value)
        assert torch.equal(traced(x)[name], value)
        assert not torch.allclose(plain[name], value, rtol=1e-2, atol=1e-2)


@torch.no_grad()
def test_a_sequence_that_ends_in_a_shared_member_keeps_its_attention_to_itself():
    """Attention sits at a sequence's last member, unless that runs elsewhere too."""

    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            last = nn.Conv2d(4, 4, 1)
            self.one = nn.Sequential(nn.Conv2d(3, 4, 1), last)
            self.other = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), last)

        def forward(self, x):
            return self.one(x), self.other(x)

    torch.manual_seed(0)
    network = Branches().double()
    one, other = network(X)
    foveate.attach(network, "se:reduction=2", at="one", start="paper", example=X)
    after_one, after_other = network(X)
    assert not torch.allclose(after_one, one, rtol=1e-2)
    assert torch.equal(after_other, other)
