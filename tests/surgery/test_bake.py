"""Baked networks: the same outputs bit for bit, without foveate."""

import copy
import subprocess
import sys
import textwrap
from dataclasses import replace

import pytest
import timm
import torch
import torchvision
from torch import nn

import foveate
from foveate import hosts
from foveate.errors import FoveateError, OptionError, PlaceError
from foveate.surgery.attended import attended_places
from foveate.surgery.bake import bake
from foveate.surgery.point import Point
from foveate.surgery.status import disable


class Block(nn.Module):
    """A residual block whose second convolution takes a skip, perhaps none."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.join = Join(channels)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x, *, scale=1.0):
        return torch.relu(x * scale + self.bn(self.join(self.conv(x), skip=x)))


class Join(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x, skip=None):
        return self.conv(torch.cat([x, x if skip is None else skip], 1))


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 16, 3), Block(16), nn.MaxPool2d(2), Block(16), nn.Conv2d(16, 4, 1)).eval()


def awake(model):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _, parameter in foveate.attention_parameters(model):
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        for name, buffer in model.named_buffers():
            if ".foveate." in name and buffer.is_floating_point():
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return model


def images(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


SIZES = [(2, 3, 24, 24), (1, 3, 24, 24), (5, 3, 17, 30), (1, 3, 9, 9)]


@torch.no_grad()
def check(model, baked, sizes=SIZES):
    assert not attended_places(baked)
    for size in sizes:
        x = images(*size)
        assert torch.equal(baked(x), model(x)), size


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("se", "paper"),
        ("eca", "identity"),
        ("ge", "identity"),
        ("cbam", "identity"),
        ("cbam", "paper"),
        ("psanet", "paper"),
    ],
)
def test_outputs_are_equal_at_many_sizes(name, start):
    model = foveate.attach(network(), name, start=start, example=images(2, 3, 24, 24))
    assert not torch.equal(awake(model)(images(2, 3, 24, 24)), network()(images(2, 3, 24, 24)))
    check(model, bake(model))


@pytest.mark.parametrize("name", ["psanet:compact=true", "ge:variant=theta,extent=global"])
def test_attention_tied_to_a_size_takes_any_batch(name):
    model = awake(foveate.attach(network(), name, example=images(2, 3, 24, 24)))
    check(model, bake(model), [(2, 3, 24, 24), (1, 3, 24, 24), (7, 3, 24, 24)])


PROGRAM = """
    import sys

    class Blocked:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] == "foveate":
                raise ImportError("foveate is not installed here")

    sys.meta_path.insert(0, Blocked())
    import torch

    model = torch.load(sys.argv[1], weights_only=False)
    with torch.no_grad():
        print(all(torch.equal(model(x), y) for x, y in torch.load(sys.argv[2])))
    try:
        import foveate
    except ImportError:
        print("blocked")
"""


def test_it_runs_where_foveate_cannot_be_imported(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 1)).eval()
    example = images(1, 3, 24, 24)
    for name, at in (("cbam", "0"), ("psanet", "1"), ("ge", "3"), ("eca", "3"), ("se", "3")):
        foveate.attach(model, name, at=at, example=example)
    place = attended_places(model)["3"]
    for name, side in (("eca", "input"), ("squeeze_excite", "shortcut")):
        place.foveate_seats[name] = replace(place.foveate_seats[name], point=Point(side))
    awake(model)
    torch.save(bake(model), tmp_path / "baked.pt")
    with torch.no_grad():
        pairs = [(x, model(x)) for x in (images(2, 3, 24, 24), images(1, 3, 30, 17))]
    torch.save(pairs, tmp_path / "pairs.pt")
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), tmp_path / "baked.pt", tmp_path / "pairs.pt"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.stdout.split() == ["True", "blocked"], ran.stderr
    assert b"foveate" not in (tmp_path / "baked.pt").read_bytes()


def test_every_side_of_a_module_is_baked():
    for at in ("pre", "post", "identity", "residual"):
        model = torchvision.models.resnet18(num_classes=10).eval()
        foveate.attach(model, "se", at=at, stages=[2])
        awake(model)
        check(model, bake(model), [(2, 3, 64, 64), (1, 3, 96, 64)])


def test_skips_given_by_keyword_and_part_of_a_joined_map():
    model = foveate.attach(network(), "se", at="*.join")
    for place in attended_places(model).values():
        seat = place.foveate_seats["squeeze_excite"]
        point = replace(seat.point, side="input", argument="skip")
        place.foveate_seats["squeeze_excite"] = replace(seat, point=point)
    check(awake(model), bake(model))
    model = foveate.attach(network(), "eca", at="*.join.conv", name="out")
    foveate.attach(model, "cbam", at="*.join.conv", name="part")
    for place in attended_places(model).values():
        seat = place.foveate_seats["part"]
        point = replace(seat.point, side="input", channels=(16, 32))
        place.foveate_seats["part"] = replace(seat, point=point)
    check(awake(model), bake(model))


def test_networks_with_channels_last_in_the_shape():
    model = timm.create_model("convnext_atto", num_classes=10).eval()
    foveate.attach(model, "cbam", stages=[3, 4])
    awake(model)
    check(model, bake(model), [(1, 3, 64, 64), (2, 3, 96, 64)])


def test_signals_and_volumes():
    signal = nn.Sequential(nn.Conv1d(2, 8, 3), nn.ReLU(), nn.Conv1d(8, 4, 3)).eval()
    foveate.attach(signal, "se", at="0", example=torch.randn(1, 2, 40))
    check(awake(signal), bake(signal), [(1, 2, 40), (3, 2, 17)])
    volume = nn.Sequential(nn.Conv3d(2, 8, 3), nn.ReLU(), nn.Conv3d(8, 4, 3)).eval()
    foveate.attach(volume, "se", at="0", example=torch.randn(1, 2, 8, 8, 8))
    check(awake(volume), bake(volume), [(1, 2, 8, 8, 8), (3, 2, 7, 9, 11)])


def test_an_attended_block_inside_an_attended_stage():
    model = foveate.attach(network(), "cbam", at="1.bn")
    foveate.attach(model, "se", at="1")
    foveate.attach(model, "eca", at="1.bn", name="second")
    check(awake(model), bake(model))


def test_the_rest_stays():
    model = awake(foveate.attach(network(), "cbam", at="1.bn"))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    baked = bake(model)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert attended_places(model) and not model.training
    keys = set(baked.state_dict())
    assert {key for key in keys if not key.startswith("1.bn.")} == {k for k in before if not k.startswith("1.bn.")}
    assert {"1.bn.host.weight", "1.bn.attention.cbam.channel.fc1.weight"} <= keys
    assert baked[1].conv.weight is not model[1].conv.weight
    baked.load_state_dict(baked.state_dict())  # no hook of ours is left
    check(model, copy.deepcopy(baked))


def test_what_rests_is_left_out():
    model = awake(foveate.attach(network(), "cbam"))
    awake(foveate.attach(model, "se"))
    disable(model, "cbam")
    baked = bake(model)
    assert not any("cbam" in key for key in baked.state_dict())
    check(model, baked)
    disable(model)
    baked = bake(model)
    assert list(baked.state_dict()) == list(network().state_dict())
    check(network(), baked)


def test_a_baked_network_is_for_inference():
    model = awake(foveate.attach(network(), "cbam")).train()
    baked = bake(model)
    assert model.training and not baked.training
    check(model.eval(), baked)
    statistics = {k: v.clone() for k, v in baked.state_dict().items() if "attention" in k}
    baked.train()(images(2, 3, 24, 24))
    assert all(torch.equal(value, baked.state_dict()[key]) for key, value in statistics.items())


def test_a_strangers_module():
    class Mine(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.conv = nn.Conv2d(channels, channels, 3, padding=1)

        def forward(self, x):
            return x * torch.sigmoid(self.conv(x))

    model = awake(foveate.attach(network(), Mine))
    check(model, bake(model))


def test_a_stranger_that_no_graph_can_hold_is_refused():
    class Branching(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(channels, 1, 1))

        def forward(self, x):
            return x * self.weight if x.sum() > 0 else x

    class Sized(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(channels, 1, 1))

        def forward(self, x):
            return x * self.weight if x.shape[2] > 9 else x

    for mine in (Branching, Sized):
        model = awake(foveate.attach(network(), mine, at="1.bn"))
        with pytest.raises(FoveateError, match=r"'1\.bn' \(\w+\) .* is not baked"):
            bake(model)
        assert attended_places(model)


def test_a_map_below_the_smallest_is_never_computed_wrongly():
    class Half(foveate.Attention):
        """Right from 8×8 on, and says so."""

        smallest = 8

        def __init__(self, channels):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(channels, 1, 1))

        def reset_parameters(self):
            nn.init.ones_(self.weight)

        def forward(self, x):
            return x * self.weight if x.shape[2] >= 8 and x.shape[3] >= 8 else x

    model = awake(foveate.attach(network(), Half, at="0", start="paper"))
    baked = bake(model)
    check(model, baked, [(2, 3, 24, 24), (1, 3, 10, 10)])
    with pytest.raises(AssertionError, match="at least 8×8"):
        baked(images(1, 3, 9, 24))


def test_refusals():
    with pytest.raises(PlaceError, match="nothing is attached"):
        bake(network())
    with pytest.raises(FoveateError, match="foveate's modules"):
        bake(foveate.attach(hosts.build("foveate/resnet8", classes=10), "se"))


def test_an_example_compares_at_the_end(monkeypatch):
    model = awake(foveate.attach(network(), "se")).train()
    bake(model, images(2, 3, 24, 24))
    assert model.training

    module = sys.modules[bake.__module__]
    right = module.joined
    monkeypatch.setattr(module, "joined", lambda *given: nn.Sequential(right(*given), nn.ReLU()))
    with pytest.raises(FoveateError, match="something else"):
        bake(model, images(2, 3, 24, 24))
    assert model.training


class Open(nn.Module):
    """Takes anything, and uses all of it."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 1)

    def forward(self, *maps, **how):
        return self.conv(maps[0] + maps[1] * how["g"]) * how["mode"][1]


class Defaults(Open):
    def forward(self, x, y=None, *, g=1.0, mode=(0, 1), kind=torch.float32):
        return super().forward(x, x if y is None else y, g=g, mode=mode).to(kind)


class Required(Open):
    def forward(self, x, y=None, *, g, mode=frozenset((1, 2))):
        return super().forward(x, y, g=g, mode=(0, sum(mode)))


class Calls(nn.Module):
    """Calls its part with two maps and two keywords, or as it is told."""

    def __init__(self, part, twice=False):
        super().__init__()
        self.stem, self.part, self.twice = nn.Conv2d(3, 8, 3), part, twice

    def forward(self, x):
        x = self.stem(x)
        more = {} if type(self.part).__name__ == "Required" else {"mode": (1, 2)}
        y = self.part(x, x.relu(), g=3.0, **more)
        return self.part(y, x, y, g=2.0, **more) if self.twice else y


@pytest.mark.parametrize("part", [Open, Defaults, Required])
@pytest.mark.parametrize("side", ["output", "input", "shortcut"])
def test_a_host_of_any_signature_is_called_as_in_the_example(part, side, tmp_path):
    torch.manual_seed(0)
    model = foveate.attach(Calls(part()).eval(), "se", at="part", start="paper", example=images(1, 3, 9, 9))
    place = attended_places(model)["part"]
    for key, seat in place.foveate_seats.items():
        place.foveate_seats[key] = replace(seat, point=Point(side))
    awake(model)
    check(model, bake(model, images(2, 3, 9, 9)), [(2, 3, 9, 9), (1, 3, 12, 8)])
    torch.save(bake(model, images(2, 3, 9, 9)), tmp_path / "baked.pt")
    check(model, torch.load(tmp_path / "baked.pt", weights_only=False), [(2, 3, 9, 9)])
    if part is Defaults:
        check(model, bake(model), [(2, 3, 9, 9)])
    else:
        with pytest.raises(FoveateError, match=r"'part' \(\w+\).*example"):
            bake(model)


def test_a_host_that_is_called_in_two_ways_is_refused():
    model = foveate.attach(Calls(Open()).eval(), "se", at="part", example=images(1, 3, 9, 9))
    model.twice = True
    with pytest.raises(FoveateError, match=r"'part' \(Open\).*in several ways"):
        bake(model, images(1, 3, 9, 9))


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, one, two):
        return self.conv(one) + self.conv(two)


def test_an_example_of_several_arguments():
    one, two = images(2, 3, 9, 9), images(2, 3, 9, 9) + 1
    for example in ((one, two), {"one": one, "two": two}):
        model = awake(foveate.attach(Pair().eval(), "se", at="conv", example=example))
        baked = bake(model, example)
        with torch.no_grad():
            assert torch.equal(baked(one, two), model(one, two))


def test_a_shortcut_is_attended_before_the_host_changes_it():
    class InPlace(nn.Module):
        def forward(self, x, y):
            y.mul_(3.0)
            return x + y

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.part = nn.Conv2d(3, 8, 3), InPlace()

        def forward(self, x):
            x = self.stem(x)
            return self.part(x, x + 1)

    torch.manual_seed(0)
    model = foveate.attach(Both().eval(), "se", at="part", start="paper", example=images(1, 3, 9, 9))
    place = attended_places(model)["part"]
    place.foveate_seats["squeeze_excite"] = replace(
        place.foveate_seats["squeeze_excite"], point=Point("shortcut", argument=1)
    )
    awake(model)
    x = images(2, 3, 9, 9)
    with torch.no_grad():
        given = model.stem(x)
        attended = place.foveate["squeeze_excite"](given + 1)
        expected = given + (given + 1) * 3.0 + (attended - (given + 1))
        torch.testing.assert_close(bake(model)(x), expected)


def test_nothing_of_ours_is_left_in_the_copy():
    model = foveate.attach(network(), "se")
    foveate.freeze_host(model)
    model[1].__dict__["_foveate_later"] = 1
    left = [key for module in bake(model).modules() for key in vars(module) if key.startswith("_foveate")]
    assert left == []
    assert "_foveate_later" in vars(model[1])


def test_what_is_no_network():
    with pytest.raises(OptionError, match=r"a network is a torch\.nn\.Module, not int"):
        bake(3)
