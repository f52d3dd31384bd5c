"""Networks and requests that broke attach, plan or record once; each was red before it was mended."""

import copy
import io

import pytest
import torch
import torch.fx.experimental.optimization
import torchvision
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

import foveate
from foveate import hosts
from foveate.errors import OptionError, PlaceError
from foveate.surgery.places import find_places

FORMS = ("se", "eca", "gather_excite", "gather_excite:variant=theta,extent=global", "cbam", "cbam:pools=lp", "psanet",
         "psanet:compact=true", "psanet:softmax=false")  # fmt: skip


def resnet8():
    torch.manual_seed(0)
    return hosts.build("foveate/resnet8", classes=10).eval()


X = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("form", FORMS)
def test_fx_traces_and_folds_attended_networks(form):
    model = foveate.attach(resnet8(), form, start="paper", example=X)
    expected = model(X)
    assert torch.equal(torch.fx.symbolic_trace(model)(X), expected)
    fused = torch.fx.experimental.optimization.fuse(copy.deepcopy(model))
    # folding a norm into a convolution rounds its weights once: a few float32 roundings over nine layers
    torch.testing.assert_close(fused(X), expected, rtol=1e-4, atol=1e-4)
    features = create_feature_extractor(model, {"layer3": "out"})(X)["out"]
    assert features.shape == (2, 64, 8, 8)


@pytest.mark.parametrize("how", ["in place", "function", "part", "inside another"])
def test_record_sees_maps_however_the_network_was_compiled(how):
    model = foveate.attach(resnet8(), "se", start="paper")
    torch._dynamo.reset()
    run = model
    if how == "in place":
        model.compile(backend="aot_eager")
    elif how == "function":
        run = torch.compile(lambda x: model(x), backend="aot_eager")
    elif how == "part":
        model.layer2.compile(backend="aot_eager")
    else:
        run = nn.Sequential(torch.compile(model, backend="aot_eager"))
    with torch.no_grad():
        run(X)
        with foveate.record(model) as maps:
            run(X)
    assert [m.place for m in maps] == ["layer1.0.bn2", "layer2.0.bn2", "layer3.0.bn2"]


def test_attachments_at_two_levels_load_and_come_out():
    model = resnet8()
    original = copy.deepcopy(model.state_dict())
    foveate.attach(model.layer1, "se", at="0.bn2", example=torch.zeros(1, 16, 32, 32))
    foveate.attach(model, "eca")
    model.load_state_dict(original)
    foveate.detach(model)
    assert not any(m._load_state_dict_pre_hooks or m._load_state_dict_post_hooks for m in model.modules())
    foveate.detach(nn.DataParallel(foveate.attach(model, "se")))
    assert not model._load_state_dict_pre_hooks
    assert list(model.state_dict()) == list(original)


class Split(nn.Module):
    """A branch that works on half of the channels at a time."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x):
        u, v = x.chunk(2, 1)
        u = u + v  # groups of channels: no shortcut
        return x + self.norm(self.conv(u))


def test_branches_that_split_the_map_are_seen():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), Split())
    assert [place.path for place in find_places(model, "residual", X)] == ["1.norm"]


def test_looking_leaves_nothing_on_tensors():
    model, example = resnet8(), X.clone()
    foveate.plan(model, "se", example=example)
    foveate.attach(model, "se", example=example)
    for tensor in (*model.parameters(), *model.buffers(), example):
        assert not tensor.__dict__
        file = io.BytesIO()
        torch.save(tensor, file)
        file.seek(0)
        torch.load(file, weights_only=True)


def test_emphasis_of_two_attachments_is_their_sum():
    model = resnet8()
    foveate.attach(model, "cbam:parts=spatial", start="paper")
    nn.init.ones_(model.layer1[0].bn2.foveate["cbam"].spatial.norm.weight)
    foveate.attach(model, "se", start="paper")
    place = model.layer1[0].bn2
    seen = {}
    handles = [
        place.foveate_host.register_forward_hook(lambda m, i, o: seen.update(x=o.double())),
        place.register_forward_hook(lambda m, i, o: seen.update(y=o.double())),
    ]
    with torch.no_grad(), foveate.record(model) as maps:
        model(X)
    for handle in handles:
        handle.remove()
    share = {k: v.pow(2).mean(1) / v.pow(2).mean((1, 2, 3)).reshape(-1, 1, 1) for k, v in seen.items()}
    # logarithms of float32 shares, twice
    torch.testing.assert_close(
        maps.emphasis["layer1.0.bn2"].double(), (share["y"] / share["x"]).log(), rtol=1e-3, atol=1e-4
    )


def test_two_mechanisms_in_one_factory_have_maps_of_their_own():
    model = foveate.attach(
        resnet8(), lambda c: nn.Sequential(foveate.create("se", c), foveate.create("eca", c)), start="paper"
    )
    with torch.no_grad(), foveate.record(model) as maps:
        model(X)
    assert [(m.step, len(m.values)) for m in maps.at("layer1.0.bn2")] == [("0", 2), ("1", 2)]
    assert "layer1.0.bn2" in repr(maps)


def test_attention_that_changes_its_input_is_refused():
    with pytest.raises(OptionError, match="changes it in place"):
        foveate.attach(resnet8(), lambda c: nn.ReLU(inplace=True))


def test_attaching_under_autocast_or_inference_mode_is_attaching():
    for context in (torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode()):
        model = resnet8()
        with context:
            foveate.attach(model, "cbam")
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        model(X).sum().backward()


class Listed(nn.Module):
    """Calls its stages through a list of its own."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
        self.stages = [self.a, self.b]

    def forward(self, x):
        for stage in self.stages:
            x = stage(x)
        return x


def test_attention_that_would_never_run_is_refused():
    model = Listed()
    with pytest.raises(PlaceError, match="'b' through another reference"):
        foveate.attach(model, "se", at="b", start="paper", example=X)
    assert list(model.state_dict()) == list(Listed().state_dict())


class Alias(nn.Module):
    """One module with two names."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.alias = self.bn

    def forward(self, x):
        return self.bn(self.conv(x))


def test_a_module_with_two_names_loads():
    model = Alias()
    original = copy.deepcopy(model.state_dict())
    foveate.attach(model, "se", at="bn", example=X)
    model.load_state_dict(original)
    model.load_state_dict(model.state_dict())


def test_a_network_on_the_meta_device_does_not_pretend_to_load():
    original = resnet8().state_dict()
    with torch.device("meta"):
        model = foveate.attach(hosts.build("foveate/resnet8", classes=10), "se")
    with pytest.raises(RuntimeError, match="Missing key.*foveate"):
        model.load_state_dict(original, assign=True)


def test_keys_are_reported_as_they_are_saved_and_parameter_names_load():
    model = foveate.attach(resnet8(), "se")
    state = model.state_dict()
    state.pop("layer1.0.bn2.weight")
    assert model.load_state_dict(state, strict=False).missing_keys == ["layer1.0.bn2.weight"]
    average = {name: torch.full_like(p, 0.5) for name, p in model.named_parameters()}
    found = model.load_state_dict(average, strict=False)
    assert found.unexpected_keys == []
    assert all((p == 0.5).all() for p in model.parameters())


def test_plan_and_attach_agree():
    for what in ("cbam", "psanet", foveate.catalogue.CBAM):
        model = resnet8()
        planned = foveate.plan(model, what, example=X)
        foveate.attach(model, what, example=X)
        assert planned.parameters == sum(p.numel() for _, p in foveate.attention_parameters(model))
    for function in (foveate.plan, foveate.attach):
        with pytest.raises(OptionError):
            function(resnet8(), "psanet:fusion=concat")


def test_places_are_the_same_the_second_time():
    model = resnet8()
    norms = [p.path for p in find_places(model, lambda path, module: isinstance(module, nn.BatchNorm2d))]
    foveate.attach(model, "psanet:shrink=1", at="layer1.0.bn1", start="paper", example=X)
    foveate.attach(model, "se")
    assert [p.path for p in find_places(model, lambda path, module: isinstance(module, nn.BatchNorm2d))] == norms
    assert [p.path for p in find_places(model, "residual")] == ["layer1.0.bn2", "layer2.0.bn2", "layer3.0.bn2"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"stages": []}, "stages are whole numbers"),
        ({"stages": "34"}, "stages are whole numbers"),
        ({"stages": 9}, "no stage 9"),
        ({"at": []}, "names nothing"),
        ({"at": 0}, "a place is named by"),
        ({"at": [0]}, "a place is named by"),
        ({"example": [X]}, "does not run on an example of type list"),
        ({"attention": None}, "attention is a name"),
        ({"attention": ["se"]}, "attention is a name"),
        ({"attention": nn.ReLU()}, "attention is a name"),
        ({"attention": foveate.Spec("cbam", (("reducton", 4),))}, "no option 'reducton'"),
        ({"model": None}, "a network is a torch.nn.Module"),
    ],
)
def test_a_mistake_is_a_sentence_and_changes_nothing(arguments, words):
    model = resnet8()
    keys, given = list(model.state_dict()), {"model": model, "attention": "se", **arguments}
    with pytest.raises((OptionError, PlaceError), match=words):
        foveate.attach(given.pop("model"), given.pop("attention"), **given)
    assert list(model.state_dict()) == keys
    assert not model._load_state_dict_pre_hooks


def test_names_that_would_clash_and_aliases_that_mean_one():
    def keys(channels):
        return foveate.create("se", channels)

    model = foveate.attach(resnet8(), keys)
    assert list(model.layer1[0].bn2.foveate) == ["keys_2"]
    model = foveate.attach(resnet8(), "se")
    foveate.detach(model, "se")
    with pytest.raises(OptionError, match="already"):
        foveate.mechanism(foveate.Card("se", "", foveate.Paper("", "", ""), ""))(type("Other", (nn.Module,), {}))


def test_a_container_stays_one():
    class Layer(nn.Sequential):
        """Of a class of its own, which may do more than call its children in turn."""

    model = resnet8()
    model.layer1 = Layer(*model.layer1)
    foveate.attach(model, "se", at="layer1")
    model.layer1[0] = nn.Identity()
    assert isinstance(model.layer1.foveate_host[0], nn.Identity)
    del model.layer1[0]
    assert len(model.layer1) == 0


def test_a_scripted_part_is_left_alone():
    model = torchvision.models.resnet18().eval()
    model.fc = torch.jit.script(nn.Linear(512, 10))
    assert len(foveate.plan(model, "se").places) == 8
