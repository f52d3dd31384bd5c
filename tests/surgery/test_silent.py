"""Networks in which attention could silently not act, act elsewhere, or stay behind: each was seen to go wrong."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.fx import symbolic_trace
from torch.nn import functional as F

import foveate
from foveate.errors import FoveateError, FoveateWarning, OptionError, PlaceError
from foveate.surgery.attended import Absent, attachments
from foveate.surgery.places import find_places

X = torch.randn(2, 8, 10, 10, generator=torch.Generator().manual_seed(0))


def conv():
    return nn.Conv2d(8, 8, 3, padding=1)


class Net(nn.Module):
    """A stem and blocks that are written in the tests: functions of the block and its input."""

    def __init__(self, *blocks):
        super().__init__()
        self.stem, self.blocks = conv(), nn.ModuleList(blocks)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return x


def block_of(forward, **children):
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            for name, child in children.items():
                setattr(self, name, child)

    Block.forward = forward
    return Block()


def se():
    torch.manual_seed(1)
    gate = foveate.create("se", 8)
    for parameter in gate.parameters():
        nn.init.normal_(parameter)
    return gate


def attached(network, at, gate, **options):
    return foveate.attach(network, lambda channels: gate, at=at, example=X, start="paper", **options)


def test_a_traced_host_is_copied_with_its_attention():
    network = attached(Net(symbolic_trace(nn.Sequential(conv(), nn.ReLU()))), "blocks.0", se())
    copied = copy.deepcopy(network)
    assert attachments(copied) == attachments(network)
    assert torch.equal(copied(X), network(X))


def residual(self, x):
    shortcut = x if self.downsample is None else self.downsample(x)
    return F.relu(shortcut + self.c(x))


def test_one_of_two_at_a_shortcut_that_the_host_does_not_have_comes_out():
    network = Net(block_of(residual, c=conv(), downsample=None))
    before = network(X)
    foveate.attach(network, "se", at="identity", example=X)
    foveate.attach(network, "eca", at="identity", example=X)
    foveate.detach(network, "se")
    assert torch.equal(network(X), before)
    foveate.detach(network)
    assert network.blocks[0].downsample is None
    assert not any(isinstance(module, Absent) for module in network.modules())


def test_the_shortcut_of_a_block_that_adds_in_place():
    def forward(self, x):
        x += self.c(x)
        return x

    network, gate = Net(block_of(forward, c=conv())), se()
    y = network.stem(X)
    expected = network.blocks[0].c(y) + gate(y)
    attached(network, "identity", gate)
    torch.testing.assert_close(network(X), expected, rtol=0, atol=1e-5)  # x + (se(x) - x) rounds twice at about 8


@pytest.mark.parametrize("at", ["identity", "pre"])
def test_maps_in_lists_are_no_arguments(at):
    class Listed(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.block = conv(), block_of(lambda s, xs: F.relu(s.c(xs) + xs[1]), c=self.inner())

        @staticmethod
        def inner():
            return block_of(lambda s, xs: s.c(F.relu(xs[0])), c=conv())

        def forward(self, x):
            y = self.stem(x)
            return self.block([F.relu(y), y])

    with pytest.raises(PlaceError, match="no place of the kind"):
        attached(Listed(), at, se())


def test_a_pattern_leaves_out_whatever_acts_at_a_module():
    blocks = [block_of(residual, c=nn.Sequential(conv(), conv()), downsample=conv()) for _ in range(2)]
    found = find_places(Net(*blocks), "pre", X, exclude="blocks.0.**")
    assert [str(place) for place in found] == ["blocks.1.c.0 (input)"]


def test_an_attribute_that_is_no_shortcut_is_not_taken_for_one():
    def forward(self, x):
        y = self.c(x)
        if self.proj is not None:
            y = self.proj(y)
        return F.relu(x + y)

    network = Net(block_of(forward, c=conv(), proj=None))
    with pytest.raises(PlaceError, match="somewhere else than on its shortcut; nothing was attached"):
        attached(network, "identity", se())
    assert network.blocks[0].proj is None


def test_a_module_that_also_runs_behind_its_place_is_refused():
    class Behind(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = conv()
            self.list = (self.a,)

        def forward(self, x):
            return self.list[0](self.a(x))

    network = Behind()
    with pytest.raises(PlaceError, match="'a' through another reference"):
        attached(network, "a", se())
    assert not attachments(network)


def test_a_convolution_that_also_runs_behind_what_stands_in_its_place_is_refused():
    """What is replaced does not run itself, so the calls past its place are as many as those that are seen."""

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = conv()
            self.past = [self.conv]

        def forward(self, x):
            return self.past[0](self.conv(x))

    network = Both()
    with pytest.raises(PlaceError, match="'conv' through another reference than its place.*nothing was attached"):
        foveate.replace(network, "odconv:steps=5", example=X)
    assert network.conv.weight.requires_grad
    assert attachments(network) == []


def test_sentences_call_modules_as_the_host_does():
    """Also where the network carries attention already, and its modules lie a level deeper."""

    class Rewritten(nn.Sequential):
        def reparameterize(self):
            pass

    class Adds(nn.Module):
        def __init__(self, inside):
            super().__init__()
            self.inside = inside

        def forward(self, x):
            return F.relu(self.inside(x) + x)

    def said(put, attention, at):
        """All that is said of a network with attention at both blocks, one of which is rewritten for inference."""
        rewritten = Rewritten(conv(), nn.BatchNorm2d(8))
        network = foveate.attach(Net(Adds(rewritten), Adds(nn.Identity())), "se", at="blocks.*", example=X)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                put(network, attention, at=at, example=X)
            except PlaceError as error:
                return str(error)
        return " ".join(str(one.message) for one in caught)

    inside = "'blocks.0.inside.0' is inside 'blocks.0.inside', which rewrites"
    assert inside in said(foveate.attach, "eca", "blocks.0.inside.0")
    assert inside in said(foveate.replace, "odconv:steps=5", "**")
    assert "known: residual, skip, neck, blocks.0" in said(foveate.attach, "attentional_fusion", "nothing")
    sentences = [said(foveate.attach, "eca", preset) for preset in ("residual", "pre", "identity", "post", "skip")]
    sentences += [said(foveate.attach, "attentional_fusion", preset) for preset in ("residual", "skip", "neck")]
    assert "'blocks." in "".join(sentences)
    assert not [sentence for sentence in sentences if "foveate_host" in sentence]


def test_a_module_that_carries_attention_is_no_network_to_take_it_from():
    network = foveate.attach(nn.Sequential(conv(), nn.ReLU()), "se", at="0", example=X)
    part, keys = network[0], list(network.state_dict())
    for change in (foveate.detach, foveate.bake, lambda one: foveate.attach(one, "eca", at="conv", example=X)):
        with pytest.raises(FoveateError, match="the network that it is a part of"):
            change(part)
        assert list(network.state_dict()) == keys
    assert "foveate" not in "".join(foveate.detach(network).state_dict())


def test_what_is_left_out_is_said_where_the_call_stands():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = conv(), conv()

        def forward(self, x):
            self.idle(x)
            return self.used(x)

    for put in (foveate.attach, foveate.plan):
        with pytest.warns(FoveateWarning, match="leaves 1 out") as warned:
            put(Idle(), "se", at="conv", example=X)
        assert {one.filename for one in warned} == {__file__}


def test_a_shortcut_that_is_another_argument():
    class Timed(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.block = conv(), block_of(lambda s, t, x: x + s.c(x) * t.mean(), c=conv())

        def forward(self, x):
            return self.block(x.mean((1, 2, 3))[:, None, None, None].expand_as(x) * 0 + 2, self.stem(x))

    network, gate = Timed(), se()
    y = network.stem(X)
    expected = gate(y) + network.block.c(y) * 2
    attached(network, "identity", gate)
    torch.testing.assert_close(network(X), expected, rtol=0, atol=1e-5)


def test_two_branches_of_one_sum():
    network = Net(block_of(lambda s, x: x + s.f(x) + s.g(x), f=conv(), g=conv()))
    assert [place.path for place in find_places(network, "residual", X)] == ["blocks.0.f", "blocks.0.g"]


@pytest.mark.parametrize("returned", [lambda y: (y, None), lambda y: {"out": y}, lambda y: (y, y.relu())])
def test_what_returns_a_collection_is_no_place(returned):
    class Collected(nn.Module):
        def __init__(self):
            super().__init__()
            self.t, self.c = block_of(lambda s, x: returned(s.c(x)), c=conv()), conv()

        def forward(self, x):
            out = self.t(x)
            return self.c(next(iter(out.values())) if isinstance(out, dict) else out[0])

    network = Collected()
    for at in ("t", "stage"):
        try:
            attached(network, at, se())
        except PlaceError as error:
            assert "returned no feature map" in str(error) or "no place of the kind" in str(error)
            assert not attachments(network)
        else:
            assert "t" not in [place.path for place in find_places(network, at, X)]
            foveate.detach(network)


def test_a_network_that_does_not_run_with_attention_is_as_it_was():
    class Picky(nn.Module):
        def __init__(self):
            super().__init__()
            self.c = conv()

        def forward(self, x):
            if type(self.c) is not nn.Conv2d:
                raise RuntimeError("I want my convolution")
            return self.c(x)

    network = Picky()
    before = network(X)
    with pytest.raises(PlaceError, match="with attention in it this network no longer runs; nothing was attached"):
        attached(network, "c", se())
    assert not attachments(network)
    assert torch.equal(network(X), before)


def test_a_join_along_another_axis_is_no_join_of_channels():
    class Tall(nn.Module):
        def __init__(self):
            super().__init__()
            self.e, self.d, self.o = conv(), conv(), conv()

        def forward(self, x):
            e = self.e(x)
            return self.o(torch.cat([F.interpolate(self.d(F.max_pool2d(e, 2)), scale_factor=2), e], 2))

    with pytest.raises(PlaceError, match="no module sees the skip"):
        attached(Tall(), "skip", se())


def test_watching_leaves_the_random_stream_where_it_was():
    network = Net(block_of(lambda s, x: s.c(x) + 0 * torch.randn_like(x), c=conv()))
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    find_places(network, "stem", X)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("name", ["training", "_modules", "class", "a.b", 3, "a__b"])
def test_names_that_cannot_be(name):
    network = Net(conv())
    with pytest.raises(OptionError, match="named by a plain word"):
        foveate.attach(network, "se", at="stem", example=X, name=name)
    assert not [key for key in network.__dict__ if key.startswith("_foveate")]


def test_sentences_for_what_cannot_work():
    with pytest.raises(OptionError, match="stages are whole numbers"):
        find_places(Net(conv()), "stem", X, stages=1.5)
    with pytest.raises(PlaceError, match="`at` names nothing$"):
        find_places(Net(conv()), [], X)
    with pytest.raises(OptionError, match="Conv2d does not run on the map of 'stem', 1×8×10×10"):
        foveate.attach(Net(conv()), lambda channels: nn.Conv2d(1, 1, 1), at="stem", example=X)


def test_parts_that_run_for_nothing_get_no_attention():
    """Parameters that never have a gradient stop distributed training; some encoders run more than a decoder takes."""

    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = (block_of(lambda s, x: x + s.c(x), c=conv()) for _ in range(2))

        def forward(self, x):
            y = self.used(x)
            self.idle(y)
            return y

    with pytest.warns(FoveateWarning, match="'idle.c' leads to nothing that the network returns"):
        assert [place.path for place in find_places(Idle(), "residual", X)] == ["used.c"]
