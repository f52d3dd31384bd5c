"""replace: mechanisms in the places of convolutions, which stay beside them."""

import copy
import io
import json
import pickle
import warnings

import pytest
import timm
import torch
import torchvision
from torch import nn

import foveate
from foveate import hosts
from foveate.attention import Map
from foveate.errors import DataError, FoveateError, FoveateWarning, OptionError, PlaceError
from foveate.ops.anneal import Temperature
from foveate.replacement import ConvShape, Replacement
from foveate.surgery import replace
from foveate.surgery.attended import attended_places

CLOSE = {"rtol": 1e-4, "atol": 1e-4}  # float32 sums of up to 576 terms through seven layers, in another order
WIDE = ["conv1", "layer1.0.conv1", "layer1.0.conv2", "layer2.0.conv1", "layer2.0.conv2", "layer3.0.conv1"]
WIDE += ["layer3.0.conv2"]
HOSTS = {
    "foveate/resnet8": lambda: hosts.build("foveate/resnet8", classes=10),
    "torchvision/resnet18": lambda: torchvision.models.resnet18(num_classes=10),
    "torchvision/mobilenet_v2": lambda: torchvision.models.mobilenet_v2(num_classes=10),
    "timm/resnet18": lambda: timm.create_model("resnet18", num_classes=10),
}


def host(name="foveate/resnet8", seed=0):
    torch.manual_seed(seed)
    model = HOSTS[name]()
    for module in model.modules():  # fresh norms are all alike and hide mistakes
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval()


def images(side=32, count=2):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


@torch.enable_grad()
def step(model, x=None, lr=0.1):
    """One step of training, after which nothing is as it was."""
    model.train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr)
    model(images(count=4) if x is None else x).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
    return model.eval()


class Doubling(Replacement):
    """A convolution with two kernels and a gate between them that depends on the image."""

    def __init__(self, shape):
        super().__init__(shape)
        if shape.groups > 1:
            raise OptionError(f"it has one group, not {shape.groups}")
        self.one, self.two = shape.convolution(), shape.convolution()
        self.map = Map("kernel")

    def reset_parameters(self):
        self.one.reset_parameters()
        self.two.reset_parameters()

    def take_over(self, conv):
        for own in (self.one, self.two):
            own.load_state_dict(conv.state_dict())

    def forward(self, x):
        share = self.map(torch.sigmoid(x.mean((1, 2, 3)))[:, None])[:, :, None, None]
        return share * self.one(x) + (1 - share) * self.two(x)


class Unable(Doubling):
    def take_over(self, conv):
        return "its kernels are those of nobody"


@torch.no_grad()
@pytest.mark.parametrize("network", HOSTS)
@pytest.mark.parametrize("training", [False, True])
def test_the_network_computes_what_it_did(network, training):
    model, x = host(network).double().train(training), images(64, 4).double()
    torch.manual_seed(3)  # the same dropout
    before = copy.deepcopy(model)(x)
    assert replace(model, "odconv", example=x) is model
    assert all(type(place.foveate_host) is nn.Conv2d for place in attended_places(model).values())
    torch.manual_seed(3)
    torch.testing.assert_close(model(x), before, rtol=1e-8, atol=1e-8)
    assert model.training is training


def test_what_is_replaced_by_itself_are_the_convolutions_of_more_than_one_position():
    model = replace(host(), "odconv")
    assert list(attended_places(model)) == WIDE
    assert all(
        place.foveate["odconv"].shape == ConvShape.of(place.foveate_host) for place in attended_places(model).values()
    )


@pytest.mark.parametrize(
    ("at", "more", "expected"),
    [
        ("layer3.**", {}, ["layer3.0.conv1", "layer3.0.conv2", "layer3.0.downsample.0"]),
        ("conv", {"exclude": "conv1"}, WIDE[1:]),
        ("conv", {"stages": 2}, WIDE[3:5]),
        ("conv", {"exclude": ["conv1", "layer*.0.conv2"]}, WIDE[1:6:2]),
        (lambda _, module: isinstance(module, nn.Conv2d) and module.stride == (2, 2), {}, WIDE[3:6:2]),
        (["conv1", "layer1.0.conv2"], {}, [WIDE[0], WIDE[2]]),
    ],
)
def test_which_convolutions(at, more, expected):
    found = list(attended_places(replace(host(), "odconv", at=at, **more)))
    assert [path for path in found if "downsample" not in path] == [p for p in expected if "downsample" not in p]


def test_the_state_keeps_the_hosts_keys_and_its_checkpoint_loads_strictly():
    model = host()
    original = copy.deepcopy(model.state_dict())
    replace(model, "odconv")
    keys = list(model.state_dict())
    assert [key for key in keys if ".foveate." not in key] == list(original)
    assert "layer1.0.conv1.foveate.odconv.weight" in keys
    model.load_state_dict(original)
    assert all(torch.equal(model.state_dict()[key], value) for key, value in original.items())


@torch.no_grad()
def test_what_is_untouched_takes_over_the_checkpoint_that_is_loaded_later():
    trained, x = host(seed=1), images()
    model = replace(host(), "odconv")
    assert not torch.allclose(model(x), trained(x), **CLOSE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.load_state_dict(trained.state_dict())
    torch.testing.assert_close(model(x), trained(x), **CLOSE)


def test_what_was_trained_keeps_its_weights_when_a_checkpoint_is_loaded_and_says_so():
    model = step(replace(host(), "odconv"))
    before = {name: p.clone() for name, p in foveate.attention_parameters(model)}
    with pytest.warns(FoveateWarning, match="keeps its weights in the place of 7 convolutions, such as 'conv1'"):
        model.load_state_dict(host(seed=1).state_dict())
    assert all(torch.equal(p, before[name]) for name, p in foveate.attention_parameters(model))


def test_a_whole_checkpoint_round_trips_and_half_of_one_is_an_error():
    model, x = step(replace(host(), "odconv")), images()
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    again = replace(host(seed=5), "odconv")
    again.load_state_dict(state)
    assert torch.equal(again(x), model(x))
    del state["conv1.foveate.odconv.weight"]
    with pytest.raises(RuntimeError, match=r"conv1\.foveate\.odconv\.weight"):
        again.load_state_dict(state)


def test_detach_gives_the_network_back():
    model, x = host(), images()
    original, before = copy.deepcopy(model.state_dict()), model(x)
    model.conv1.weight.requires_grad_(False)
    step(replace(model, "odconv", at="layer1.**"), lr=0.0)
    model.load_state_dict(original)
    assert torch.equal(foveate.detach(model)(x), before)
    assert list(model.state_dict()) == list(original)
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["conv1.weight"]
    assert not any("foveate" in key for module in model.modules() for key in module.__dict__)


def test_the_convolution_rests_and_nothing_waits_for_its_gradient():
    model = replace(host(), "odconv")
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert frozen == [f"{path}.foveate_host.weight" for path in WIDE]
    step(model)
    model.train()(images(count=4)).sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    groups = foveate.parameter_groups(model, lr=0.1)
    trained = {id(p) for group in groups for p in group["params"]}
    assert trained == {id(p) for p in model.parameters() if p.requires_grad}


def test_a_weight_that_others_share_goes_on_learning():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
            self.second.weight = self.first.weight

        def forward(self, x):
            return self.second(self.first(x))

    model = replace(Tied(), "odconv", at="first")
    assert model.second.weight.requires_grad
    assert not model.first.bias.requires_grad
    assert foveate.detach(model).first.bias.requires_grad


@pytest.mark.parametrize("order", ["freeze, replace", "replace, freeze"])
def test_freezing_the_host_and_resting_do_not_undo_one_another(order):
    model = host()
    for what in order.split(", "):
        model = replace(model, "odconv") if what == "replace" else foveate.freeze_host(model)
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    assert learning == {name for name, _ in foveate.attention_parameters(model)}
    foveate.unfreeze_host(model)
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == [
        f"{path}.foveate_host.weight" for path in WIDE
    ]
    assert all(p.requires_grad for p in foveate.detach(model).parameters())
    frozen = foveate.freeze_host(replace(host(), "odconv"))
    assert not any(p.requires_grad for p in foveate.detach(frozen).parameters())
    assert all(p.requires_grad for p in foveate.unfreeze_host(frozen).parameters())


def test_freezing_the_attention():
    model = foveate.freeze_attention(replace(host(), "odconv"))
    assert foveate.status(model).attachments[0].trainable == 0
    foveate.unfreeze_attention(model)
    entry = foveate.status(model).attachments[0]
    assert entry.trainable == entry.parameters > 0
    assert entry.places == tuple(WIDE)


@torch.no_grad()
def test_switching():
    model, x = host(), images()
    before = model(x)
    replace(model, "odconv", start="paper")
    replaced = model(x)
    assert not torch.allclose(replaced, before, **CLOSE)
    with foveate.disable(model):
        assert torch.equal(model(x), before)
    assert torch.equal(model(x), replaced)
    with foveate.use(model):
        assert torch.equal(model(x), before)
    with foveate.use(model, "odconv"):
        assert torch.equal(model(x), replaced)


@torch.no_grad()
def test_device_type_memory_and_mode_are_the_hosts():
    model = host().double().to(memory_format=torch.channels_last).train()
    replace(model, "odconv")
    added = [p for _, p in foveate.attention_parameters(model)]
    assert {p.dtype for p in added} == {torch.float64}
    assert all(place.foveate.training for place in attended_places(model).values())
    x = images().double().to(memory_format=torch.channels_last)
    assert model.layer1[0].conv1(model.conv1(x)).is_contiguous(memory_format=torch.channels_last)
    meta = replace(hosts.build("foveate/resnet8", classes=10).to("meta"), "odconv")
    assert all(p.is_meta for p in meta.parameters())
    model.to(memory_format=torch.channels_last)  # and once more, as a script would after replacing


def test_initialisation_leaves_the_global_random_stream_alone():
    model = host()
    state = torch.get_rng_state()
    replace(model, "odconv")
    assert torch.equal(torch.get_rng_state(), state)


@torch.no_grad()
def test_copies():
    model, x = step(replace(host(), "odconv")), images()
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(copied(x), model(x))
        foveate.detach(copied)
        assert not attended_places(copied)


@torch.no_grad()
def test_what_was_added_is_saved_and_loaded(tmp_path):
    plain, x = host(), images()
    model = step(replace(copy.deepcopy(plain), "odconv:kernels=2", at="conv", stages=2, name="dynamic"))
    folder = foveate.save(model, tmp_path / "dynamic")
    again = foveate.load(copy.deepcopy(plain), folder)
    assert torch.equal(again(x), model(x))
    counters = [value for key, value in again.state_dict().items() if key.endswith("temperature.num_batches_tracked")]
    assert [int(count) for count in counters] == [1, 1]
    assert [name for name, p in again.named_parameters() if not p.requires_grad] == [
        f"{path}.foveate_host.weight" for path in WIDE[3:5]
    ]
    foveate.load(again, folder)  # tensors alone, into what is there
    assert torch.equal(again(x), model(x))
    foveate.detach(again)
    with pytest.raises(FoveateError, match="another structure|stands in the place"):
        foveate.load(replace(again, "odconv", at="layer2.0.conv1"), folder)


def test_an_adapter_without_replacements_is_still_of_the_first_format(tmp_path):
    attended = foveate.save(foveate.attach(host(), "se"), tmp_path / "se") / "attention.json"
    replaced = foveate.save(replace(host(), "odconv"), tmp_path / "odconv") / "attention.json"
    assert '"format": 1' in attended.read_text()
    assert '"format": 2' in replaced.read_text()


@torch.no_grad()
def test_maps_are_recorded():
    model = replace(host(), "odconv:kernels=3", at="layer1.0.conv1")
    with foveate.record(model) as maps:
        model(images())
    assert [(m.place, m.step, m.axes, tuple(m.values.shape)) for m in maps] == [
        ("layer1.0.conv1", "input", ("in",), (2, 16)),
        ("layer1.0.conv1", "output", ("out",), (2, 16)),
        ("layer1.0.conv1", "tap", ("tap",), (2, 9)),
        ("layer1.0.conv1", "kernel", ("kernel",), (2, 3)),
    ]
    assert maps[0].card is foveate.get("odconv").card
    assert maps.emphasis == {}
    [entry] = foveate.attached(model)
    assert (entry.place, entry.attachment, entry.mechanism) == ("layer1.0.conv1", "odconv", "odconv")


def test_the_plan_is_what_happens():
    model = host()
    before = sum(p.numel() for p in model.parameters() if p.requires_grad)
    planned = foveate.plan(model, "odconv", stages=[2, 3])
    assert not attended_places(model)
    replace(model, "odconv", stages=[2, 3])
    assert [place.path for place in planned.places] == list(attended_places(model))
    assert planned.parameters == sum(p.numel() for p in model.parameters() if p.requires_grad) - before
    assert {place.side for place in planned.places} == {"instead"}
    assert planned.macs > 0
    assert foveate.plan(host(), "odconv", at="conv1", latency=True, rounds=2).latency is not None


@torch.no_grad()
def test_bake_leaves_plain_modules_and_no_convolution_that_does_not_run():
    model, x = host("torchvision/resnet18"), images(64)
    step(replace(model, "odconv:kernels=2", at="layer4.0.conv1", example=x), images(64, 4))
    foveate.attach(model, "se", at="layer4.0.conv1", start="paper", example=x)
    baked = foveate.bake(model, x)
    assert torch.equal(baked(x), model(x))
    assert not any(type(module).__module__.startswith("foveate") for module in baked.modules())
    assert not any("host" in key for key in baked.state_dict())
    assert torch.equal(pickle.loads(pickle.dumps(baked))(x), model(x))


@torch.no_grad()
def test_attention_and_a_replacement_at_one_place():
    model, x = host(), images()
    before = model(x)
    foveate.attach(model, "se", at="layer1.0.conv1")
    replace(model, "odconv", at="layer1.0.conv1")
    [place] = attended_places(model).values()
    assert list(place.foveate) == ["squeeze_excite", "odconv"]
    torch.testing.assert_close(model(x), before, **CLOSE)
    foveate.detach(model, "odconv")
    assert torch.equal(model(x), before)
    foveate.attach(replace(model, "odconv", name="again"), "eca", at="residual")
    torch.testing.assert_close(model(x), before, **CLOSE)


@torch.no_grad()
def test_compiled_after_and_before():
    torch._dynamo.reset()
    model, x = host(), images()
    early = torch.compile(model, backend="eager")
    plain = early(x)
    replace(model, "odconv", at="layer3.0.conv2", start="paper")
    late = torch.compile(model, backend="eager", fullgraph=True)
    assert not torch.allclose(model(x), plain, **CLOSE)
    torch.testing.assert_close(early(x), model(x))
    torch.testing.assert_close(late(x), model(x))
    torch._dynamo.reset()


def test_the_temperature_falls_by_itself_and_is_in_the_state():
    model = replace(host(), "odconv:temperature=5,steps=4", at="layer3.0.conv2")
    cooling = model.layer3[0].conv2.foveate["odconv"].temperature
    like = torch.zeros(1)
    seen = []
    for _ in range(6):
        model.train()(images(count=4))
        seen.append(float(cooling.eval()(like)))
    assert seen == [4.0, 3.0, 2.0, 1.0, 1.0, 1.0]
    model.eval()(images())
    state = model.state_dict()
    assert int(state["layer3.0.conv2.foveate.odconv.temperature.num_batches_tracked"]) == 6
    resumed = replace(host(), "odconv:temperature=5,steps=4", at="layer3.0.conv2")
    resumed.load_state_dict(state)
    assert float(resumed.layer3[0].conv2.foveate["odconv"].temperature.eval()(like)) == 1.0


def test_everything_learns_within_two_steps():
    model, alive = replace(host(), "odconv").train(), set()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images(count=8)), torch.arange(8)).backward()
        alive |= {n for n, p in foveate.attention_parameters(model) if p.grad is not None and p.grad.any()}
        optimizer.step()
    assert alive == {n for n, _ in foveate.attention_parameters(model)}


@torch.no_grad()
def test_a_function_makes_what_stands_there(tmp_path):
    model, x = host(), images()
    before = model(x)
    replace(model, Doubling)
    torch.testing.assert_close(model(x), before, **CLOSE)
    folder = foveate.save(model, tmp_path / "doubling")
    with pytest.raises(OptionError, match="Doubling"):
        foveate.load(host(), folder)
    assert torch.equal(foveate.load(host(), folder, factories={"Doubling": Doubling})(x), model(x))


def test_it_says_once_that_a_mechanism_cannot_keep_what_a_convolution_did():
    with pytest.warns(FoveateWarning) as said:
        replace(host(), Unable)
    assert len(said) == 1
    assert "such as 'conv1'" in str(said[0].message)
    assert "its kernels are those of nobody" in str(said[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        replace(host(), Unable, start="paper")  # nobody asked it to keep anything
    with pytest.warns(FoveateWarning, match=r"Linear has no take_over|_Plain has no take_over"):
        replace(host(), lambda shape: _Plain(shape), at="conv1")


class _Plain(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.conv = shape.convolution()

    def forward(self, x):
        return self.conv(x)


def test_what_it_cannot_stand_for_is_left_out_with_the_reason():
    with pytest.warns(FoveateWarning, match=r"17 convolutions are left out.*it has one group, not 32"):
        model = replace(host("torchvision/mobilenet_v2"), Doubling)
    assert list(attended_places(model)) == ["features.0.0"]


class Strange(nn.Conv2d):
    def forward(self, x):
        return super().forward(x).abs()


@pytest.mark.parametrize(
    ("conv", "sentence"),
    [
        (Strange(3, 4, 3), "Strange computes something else"),
        (nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), "padding_mode='reflect'"),
        (nn.Conv2d(3, 4, 2, padding="same"), "more zeros on one side"),
    ],
)
def test_what_is_no_plain_convolution_is_left_out(conv, sentence):
    model = nn.Sequential(conv, nn.ReLU(), nn.Conv2d(4, 4, 3))
    with pytest.warns(FoveateWarning, match=sentence):
        replace(model, "odconv")
    assert list(attended_places(model)) == ["2"]
    with pytest.raises(PlaceError, match=sentence):
        replace(model, "odconv", at="0")


class Fusing(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x):
        return self.bn(self.conv(x))

    def fuse(self):
        pass


def test_a_convolution_that_the_network_would_fuse_away_is_left_out():
    model = nn.Sequential(Fusing(), nn.Conv2d(4, 4, 3))
    with pytest.warns(FoveateWarning, match="rewrites its inside"):
        replace(model, "odconv")
    assert list(attended_places(model)) == ["1"]


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        (("se",), OptionError, r"foveate\.attach\(model, 'squeeze_excite'\)"),
        (("odconv:kernels=0",), OptionError, "kernels must be"),
        (("odconv:kernel=2",), OptionError, "kernels"),
        (("odconv", "layer9"), PlaceError, "matches no two-dimensional convolution"),
        (("odconv", "layer1.0.conv3"), PlaceError, r"layer1\.0\.conv1"),
        (("odconv", "residual"), PlaceError, "names maps"),
        (("odconv", "bn1"), PlaceError, "matches no two-dimensional convolution"),
        ((3,), OptionError, "attention is a name"),
    ],
)
def test_refusals_come_before_the_first_change(arguments, error, sentence):
    model = host()
    before = copy.deepcopy(model.state_dict())
    what, *at = arguments
    with pytest.raises(error, match=sentence):
        replace(model, what, **({"at": at[0]} if at else {}))
    assert list(model.state_dict()) == list(before)
    assert not attended_places(model)


def test_a_place_is_taken_once():
    model = replace(host(), "odconv", at="conv1")
    with pytest.raises(PlaceError, match="'odconv' stands in its place already"):
        replace(model, "odconv", at="conv1", name="second")
    with pytest.warns(FoveateWarning, match="'odconv' stands in its place already"):
        replace(model, "odconv", name="second")
    assert foveate.status(model).attachments[1].places == tuple(WIDE[1:])
    with pytest.raises(OptionError, match="'odconv' already"):
        replace(model, "odconv", at="conv1", name="odconv")


def test_attach_says_where_such_a_mechanism_belongs():
    with pytest.raises(OptionError, match=r"foveate\.replace\(model, 'odconv'\)"):
        foveate.attach(host(), "odconv")


def test_a_shape_that_a_function_gets_wrong():
    with pytest.raises(OptionError, match=r"'conv1' .* must become"):
        replace(host(), lambda shape: nn.Identity(), at="conv1")
    with pytest.raises(OptionError, match="must return a module"):
        replace(host(), lambda shape: 3, at="conv1")


@pytest.mark.parametrize(
    "change",
    [
        lambda seat: seat.pop("convolution"),
        lambda seat: seat["convolution"].pop("out_channels"),
        lambda seat: seat["convolution"].update(groups=3),
        lambda seat: seat["convolution"].update(stride=[0, 1]),
        lambda seat: seat["convolution"].update(padding="same"),
        lambda seat: seat["convolution"].update(more=1),
    ],
)
def test_a_damaged_convolution_in_a_file_is_refused(change, tmp_path):
    folder = foveate.save(replace(host(), "odconv", at="conv1"), tmp_path / "odconv")
    whole = json.loads((folder / "attention.json").read_text())
    change(whole["seats"][0])
    (folder / "attention.json").write_text(json.dumps(whole))
    model = host()
    with pytest.raises(DataError):
        foveate.load(model, folder)
    assert not attended_places(model)


def test_a_selective_kernel_cannot_keep_what_a_convolution_did_and_trains():
    with pytest.warns(FoveateWarning, match="selective_kernel does not keep what 7 of 7 convolutions did"):
        model = replace(host(), "sk")
    assert all(torch.isfinite(p).all() for p in step(model).parameters())
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model.load_state_dict(host().state_dict())
    assert ["keeps its weights" in str(one.message) for one in said] == [True]


@torch.no_grad()
@pytest.mark.parametrize("name", ["odconv", "dynamic_convolution", "condconv"])
def test_every_mixture_of_kernels_takes_a_network_over(name):
    model, x = host("torchvision/resnet18").double(), images(64).double()
    before = model(x)
    torch.testing.assert_close(replace(model, name, at="**", example=x)(x), before, rtol=1e-8, atol=1e-8)
    assert len(attended_places(model)) == 20
    trained = copy.deepcopy(host("torchvision/resnet18", seed=4).double())
    model.load_state_dict(trained.state_dict())
    torch.testing.assert_close(model(x), trained(x), rtol=1e-8, atol=1e-8)


def keeping():
    """The mechanisms that can take over an ordinary convolution, or a depthwise one."""
    for name in foveate.names():
        if foveate.get(name).protocol == "replacement":
            for shape in (ConvShape.same(32), ConvShape(32, 32, kernel_size=(3, 3), padding=(1, 1), groups=32)):
                try:
                    made = foveate.create(name, shape, size=(8, 8))
                except OptionError:
                    continue
                if made.take_over(shape.convolution()) is None:
                    yield pytest.param(name, shape, id=f"{name}-{shape.groups}")


@pytest.mark.parametrize(("name", "shape"), list(keeping()))
def test_a_step_of_training_moves_it_about_as_much_as_the_convolution(name, shape):
    """Kernels that are larger than the convolution's, behind gates that are smaller, would move 200 times less."""
    torch.manual_seed(0)
    conv = shape.convolution()
    module = foveate.create(name, shape, size=(8, 8))
    assert module.take_over(conv) is None
    x, wanted = torch.randn(8, 32, 8, 8), torch.randn(8, 32, 8, 8)

    def change(one):
        before = one(x).detach()
        (one(x) - wanted).square().sum(1).mean().backward()
        torch.optim.SGD(one.parameters(), lr=1e-3).step()
        return ((one(x) - before).norm() / before.norm()).item()

    moved, usual = change(module), change(conv)
    assert usual / 10 < moved < usual * 10, (moved, usual)


def test_it_says_how_long_a_temperature_falls_where_nobody_chose():
    for name in ("odconv", "dynamic_convolution"):
        with pytest.warns(
            FoveateWarning, match=f"temperature of {name} falls from 30 to 1 in 50,040.*'{name}:steps=1000'"
        ):
            replace(host(), name)
    with pytest.warns(FoveateWarning, match="as 'odconv:kernels=2,steps=1000'"):  # what was asked for stays asked for
        replace(host(), "odconv:kernels=2")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        replace(host(), "odconv:steps=100")
        replace(host(), "condconv")


def test_the_status_shows_the_temperature_and_how_far_it_has_come():
    model = foveate.attach(replace(host(), "odconv:steps=4", at="layer3.**"), "se")
    before = {one.name: one.temperature for one in foveate.status(model).attachments}
    assert before["squeeze_excite"] is None
    assert (before["odconv"].present, before["odconv"].done) == (30.0, 0)
    model.train()(images(count=4))
    status = foveate.status(model)
    entry = next(one for one in status.attachments if one.name == "odconv")
    assert (entry.temperature.start, entry.temperature.present, entry.temperature.done) == (30.0, 22.75, 1)
    assert "22.8 of 30 → 1, 1 of 4 steps" in str(status)
    assert "(temperature): Temperature(22.8 of 30 → 1, 1 of 4 steps)" in repr(model)
    plain = {one["name"]: one["temperature"] for one in status.as_dict()["attachments"]}
    assert plain == {"odconv": {"start": 30.0, "present": 22.75, "done": 1, "steps": 4}, "squeeze_excite": None}
    assert "temperature" not in str(foveate.status(foveate.attach(host(), "se")))


def test_the_temperature_that_is_told_is_that_of_the_place_that_is_least_far():
    model = replace(host(), "odconv:steps=4", at="layer3.**")
    first, *others = [part for part in model.modules() if isinstance(part, Temperature)]
    for steps, due in ((3, (3, 8.25)), (9, (4, 1.0))):
        first.num_batches_tracked.fill_(steps)
        for other in others:
            other.num_batches_tracked.fill_(9)
        told = foveate.status(model).attachments[0].temperature
        assert (told.done, told.present) == due
        assert told.present == float(first.eval()(torch.zeros(1)))  # what logits are divided by


def test_a_temperature_on_the_meta_device_tells_where_it_goes():
    with torch.device("meta"):
        model = HOSTS["foveate/resnet8"]()
    status = foveate.status(replace(model, "odconv:steps=4", at="layer3.**"))
    assert status.attachments[0].temperature is None
    assert "temperature" not in str(status)
    assert "(temperature): Temperature(30 → 1, 4 steps)" in repr(model)


def test_an_involution_says_that_fresh_norms_overflow_in_evaluation():
    model, x = torchvision.models.resnet18(num_classes=10).eval(), images(64)
    with pytest.warns(FoveateWarning, match="train before evaluating: with fresh statistics a deep network overflows"):
        replace(model, "involution", at="layer[1234].*.conv2")
    assert not model(x).isfinite().all()
    assert model.train()(x).isfinite().all()
