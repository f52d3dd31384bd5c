"""attach and detach: what was learned stays, bit for bit, and attention is ready to learn."""

import copy
import io
import pickle
import re

import pytest
import timm
import torch
import torchvision
from torch import nn

import foveate
from foveate import hosts
from foveate.errors import FoveateError, FoveateWarning, OptionError, PlaceError

FIVE = ("squeeze_excite", "eca", "gather_excite", "cbam", "psanet")
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


@pytest.mark.parametrize("name", FIVE)
@pytest.mark.parametrize("network", HOSTS)
def test_identity_start_is_bit_equal(network, name):
    model, x = host(network), images(64)
    with torch.no_grad():
        before = model(x)
        foveate.attach(model, name, example=x)
        assert foveate.surgery.attended.attended_places(model)
        assert torch.equal(model(x), before)


@pytest.mark.parametrize("network", HOSTS)
def test_identity_start_is_bit_equal_in_training_mode(network):
    plain, x = host(network).train(), images(64, 4)
    attended = foveate.attach(copy.deepcopy(plain), "cbam")
    torch.manual_seed(3)  # the same dropout
    expected = plain(x)
    torch.manual_seed(3)
    assert torch.equal(attended(x), expected)
    ours = {k: v for k, v in attended.state_dict().items() if "foveate" not in k}
    assert all(torch.equal(v, ours[k]) for k, v in plain.state_dict().items())


@pytest.mark.parametrize("name", FIVE)
def test_every_attention_parameter_learns_within_two_steps(name):
    model, x = host().train(), images(32, 8)
    foveate.attach(model, name, example=x)
    target = torch.arange(8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    alive = set()
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), target).backward()
        alive |= {n for n, p in foveate.attention_parameters(model) if p.grad is not None and p.grad.abs().sum() > 0}
        optimizer.step()
    assert alive == {n for n, _ in foveate.attention_parameters(model)}


def test_paper_start_is_the_papers():
    model, x = host(), images()
    with torch.no_grad():
        before = model(x)
        foveate.attach(model, "se", start="paper")
        assert not torch.allclose(model(x), before, rtol=1e-2)
    assert not any(name.endswith("blend") for name, _ in model.named_parameters())
    spatial = foveate.attach(host(), "cbam", start="paper").layer1[0].bn2.foveate["cbam"].spatial
    assert spatial.norm.weight.item() == 0  # as published; the identity start replaces it
    assert foveate.attach(host(), "cbam").layer1[0].bn2.foveate["cbam"].spatial.norm.weight.item() == 1


def test_initialisation_leaves_the_global_random_stream_alone():
    model = host()
    state = torch.get_rng_state()
    foveate.attach(model, "cbam")
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("network", HOSTS)
def test_host_keys_stay_and_original_checkpoint_loads_before_and_after(network):
    model, x = host(network), images(64)
    original = copy.deepcopy(model.state_dict())
    expected = model(x)
    foveate.attach(model, "cbam")
    keys = list(model.state_dict())
    assert [key for key in keys if "foveate" not in key] == list(original)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    model.load_state_dict(original)  # strict
    assert all(torch.equal(model.state_dict()[key], value) for key, value in original.items())
    with torch.no_grad():
        for name, parameter in foveate.attention_parameters(model):
            if name.endswith("blend"):
                parameter.zero_()
    assert torch.equal(model(x), expected)


def test_state_dict_round_trip_through_a_file():
    model = foveate.attach(host(), "cbam", start="paper")
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = foveate.attach(host(seed=5), "cbam")
    with pytest.raises(RuntimeError, match="blend"):  # another start has other parameters: never half loaded
        other.load_state_dict(torch.load(file, weights_only=True))
    file.seek(0)
    other = foveate.attach(host(seed=5), "cbam", start="paper")
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(images()), model(images()))


@pytest.mark.parametrize("missing", ["one tensor", "one place", "one host tensor"])
def test_damaged_checkpoint_is_refused(missing):
    model = foveate.attach(host(), "cbam")
    state = model.state_dict()
    lost = {
        "one tensor": lambda key: key == "layer2.0.bn2.foveate.cbam.channel.fc1.weight",
        "one place": lambda key: key.startswith("layer2.0.bn2.foveate."),
        "one host tensor": lambda key: key == "layer2.0.bn2.weight",
    }[missing]
    kept = {key: value for key, value in state.items() if not lost(key)}
    assert len(kept) < len(state)
    with pytest.raises(RuntimeError, match=r"Missing key.*layer2\.0\.bn2"):
        model.load_state_dict(kept)


def test_original_checkpoint_loads_into_a_network_inside_another():
    backbone = host()
    original = {f"backbone.{key}": value.clone() for key, value in backbone.state_dict().items()}
    detector = nn.ModuleDict({"backbone": foveate.attach(backbone, "se")})
    detector.load_state_dict(original)
    with pytest.raises(RuntimeError, match="Missing key"):
        detector.load_state_dict({**original, "backbone.layer1.0.bn2.foveate.squeeze_excite.fc1.bias": torch.ones(1)})


def test_two_attachments_at_one_place_both_act_and_come_out_one_by_one():
    model, x = host(), images()
    with torch.no_grad():
        plain = model(x)
        foveate.attach(model, "se", start="paper")
        once = model(x)
        foveate.attach(model, "eca", start="paper")
        twice = model(x)
        foveate.attach(model, "se", start="paper")
        assert list(model.layer1[0].bn2.foveate) == ["squeeze_excite", "eca", "squeeze_excite_2"]
        assert not torch.equal(once, plain)
        assert not torch.equal(twice, once)
        foveate.detach(model, "squeeze_excite_2")
        assert torch.equal(model(x), twice)
        foveate.detach(model, "eca")
        assert torch.equal(model(x), once)
        foveate.detach(model)
        assert torch.equal(model(x), plain)


@pytest.mark.parametrize("network", HOSTS)
def test_detach_leaves_the_host_as_it_was(network):
    model = host(network)
    reference = copy.deepcopy(model)
    modules = list(model.modules())
    foveate.detach(foveate.attach(model, "cbam"))
    assert all(a is b for a, b in zip(model.modules(), modules, strict=True))
    assert repr(model) == repr(reference)
    assert list(model.state_dict()) == list(reference.state_dict())
    assert model.__dict__.keys() == reference.__dict__.keys()
    assert not model._load_state_dict_pre_hooks


def test_deepcopy_and_pickle_are_independent_and_equal():
    model, x = foveate.attach(host(), "cbam", start="paper"), images()
    expected = model(x)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(x), expected)
        assert list(other.state_dict()) == list(model.state_dict())
        foveate.detach(other)
        assert torch.equal(model(x), expected)
        assert "layer1.0.bn2.foveate.cbam.channel.fc1.weight" in model.state_dict()


def test_attributes_of_the_host_stay_readable_and_writable():
    model = host()
    norm = model.layer1[0].bn2
    foveate.attach(model, "se")
    place = model.layer1[0].bn2
    assert place is not norm
    assert place.weight is norm.weight
    assert place.num_features == norm.num_features
    place.momentum = 0.03
    assert norm.momentum == 0.03
    place.weight = nn.Parameter(torch.full_like(norm.weight, 2.0))
    assert norm.weight[0] == 2
    with pytest.raises(AttributeError, match="nonsense"):
        _ = place.nonsense


def test_a_container_host_stays_indexable():
    model = host("torchvision/mobilenet_v2")
    block = model.features[0]  # a Sequential of torchvision's own class
    kinds = [type(module) for module in block]
    foveate.attach(model, "se", at="features.0")
    assert model.features[0] is not block
    assert len(model.features[0]) == len(kinds)
    assert isinstance(model.features[0][-1], nn.ReLU6)
    assert [type(module) for module in model.features[0]] == kinds


def test_what_a_plain_sequential_returns_is_attended_at_its_last_child():
    """Code that goes through the children of a Sequential, as gradient checkpointing does, would pass it by."""
    model = host("timm/resnet18")
    foveate.attach(model, "se", at="layer4", start="paper")
    places = foveate.surgery.attended.attended_places(model)
    assert list(places) == ["layer4.1"]
    with torch.no_grad():
        expected = model(images(64))
        model.set_grad_checkpointing(True)
        assert torch.equal(model.train(False)(images(64)), expected)


def test_mode_device_dtype_and_memory_format_are_inherited():
    model = host().double().to(memory_format=torch.channels_last)
    model.layer1.eval()
    model.layer2.train()
    foveate.attach(model, "gather_excite")
    first, second = model.layer1[0].bn2, model.layer2[0].bn2
    assert all(not m.training for m in first.modules())
    assert all(m.training for m in second.modules())
    assert all(p.dtype == torch.float64 for _, p in foveate.attention_parameters(model))
    x = images().double().to(memory_format=torch.channels_last)
    seen = []
    handle = model.layer1[0].bn2.register_forward_hook(lambda m, i, o: seen.append(o))
    model(x)
    handle.remove()
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


def test_meta_device_network_takes_attention():
    with torch.device("meta"):
        model = torchvision.models.resnet18()
    foveate.attach(model, "cbam")
    assert all(p.is_meta for p in model.parameters())


def test_sync_batch_norm_conversion_keeps_the_attention():
    model = nn.SyncBatchNorm.convert_sync_batchnorm(foveate.attach(host(), "se", start="paper"))
    place = model.layer1[0].bn2
    assert isinstance(place.foveate_host, nn.SyncBatchNorm)
    assert list(place.foveate) == ["squeeze_excite"]


def test_compiled_and_exported_networks_run_the_attention():
    model, x = foveate.attach(host(), "cbam", start="paper"), images()
    with torch.no_grad():
        expected = model(x)
        torch._dynamo.reset()
        compiled = torch.compile(model, backend="aot_eager", fullgraph=True)(x)
        exported = torch.export.export(model, (x,)).module()(x)
    # the same operations in the same order: aot_eager and export change no arithmetic beyond fusing batch norms
    torch.testing.assert_close(compiled, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(exported, expected, rtol=1e-5, atol=1e-6)
    plain = foveate.detach(copy.deepcopy(model))
    assert not torch.allclose(plain(x), expected, rtol=1e-2)


class Doubling(nn.Module):
    """A stranger's attention."""

    def __init__(self, channels):
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels, 1, 1), 2.0))

    def forward(self, x):
        return x * self.scale


def test_a_strangers_module_can_be_attached():
    model, x = host(), images()
    before = model(x)
    assert torch.equal(foveate.attach(model, Doubling)(x), before)
    model = foveate.attach(host(), Doubling, start="paper")
    assert "layer1.0.bn2.foveate.doubling.scale" in model.state_dict()
    assert not torch.allclose(model(x), before, rtol=1e-2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_strangers_module_may_have_the_type_of_the_network_already(dtype):
    model, x = host().to(dtype), images().to(dtype)
    before = model(x)
    foveate.attach(model, lambda channels: nn.Conv2d(channels, channels, 1, dtype=dtype), name="own")
    assert torch.equal(model(x), before)
    assert foveate.status(model).attachments[0].dtypes == (str(dtype).removeprefix("torch."),)


def test_nothing_happens_when_something_cannot_work():
    model = host()
    keys = list(model.state_dict())
    for attention, error, words in [
        ("cbma", OptionError, "did you mean 'cbam'"),
        ("cbam:reducton=4", OptionError, "did you mean 'reduction'"),
        ("psanet:fusion=concat", OptionError, "fusion=add"),
        (lambda channels: nn.Conv2d(channels, channels + 1, 1), OptionError, "keeps the shape"),
        (lambda channels: 7, OptionError, "must return a module"),
    ]:
        with pytest.raises(error, match=words):
            foveate.attach(model, attention)
        assert list(model.state_dict()) == keys
    with pytest.raises(OptionError, match="start must be one of"):
        foveate.attach(model, "se", start="identical")
    with pytest.raises(FoveateError, match="TorchScript"):
        foveate.attach(torch.jit.trace(model, images()), "se")


def test_size_tied_attention_is_made_for_the_usual_image_where_none_is_given_and_says_so():
    model = torchvision.models.resnet18(num_classes=10).eval()
    wanted = "made for images of 224×224.*example=torch.zeros(1, 3, height, width)".replace("(", r"\(").replace(
        ")", r"\)"
    )
    with pytest.warns(FoveateWarning, match=wanted):
        foveate.attach(model, "gather_excite:variant=theta,extent=global")
    assert model(torch.zeros(1, 3, 224, 224)).shape == (1, 10)
    for spec in ("bottleneck_attention", "attention_augmented"):
        model = torchvision.models.resnet18(num_classes=10).eval()
        assert any("made for images of 224×224" in said for said in foveate.plan(model, spec).warnings)
        with pytest.warns(FoveateWarning) as said:
            foveate.replace(model, spec, at="layer4.*.conv2")
        assert any(re.search(wanted, str(one.message)) for one in said)
        assert model(torch.zeros(1, 3, 224, 224)).shape == (1, 10)
        with pytest.raises(FoveateError, match="size|7"):
            model(torch.zeros(1, 3, 160, 160))


def test_an_option_among_the_keywords_is_refused_with_how_it_is_written():
    model = host()
    for function in (foveate.attach, foveate.plan):
        with pytest.raises(
            OptionError, match=r"no 'reductoin'.*'cbam:reduction=4', or foveate.spec\('cbam', reduction=4\)"
        ):
            function(model, "cbam", reductoin=4)
        with pytest.raises(OptionError, match="no 'exampl'; did you mean 'example'"):
            function(model, "cbam", exampl=images())
        with pytest.raises(OptionError, match="no 'stage'; did you mean 'stages'"):
            function(model, lambda channels: nn.Identity(), stage=4)
    with pytest.raises(OptionError, match="'odconv:kernels=2'"):
        foveate.replace(model, "odconv", kernels=2)
    with pytest.raises(OptionError, match="plan takes no 'roundz'; did you mean 'rounds'"):
        foveate.plan(model, "se", roundz=3)
    for wanted in ("attach", "plan", "replace"):
        with pytest.raises(OptionError, match="known: at, ") as said:
            getattr(foveate, wanted)(model, "odconv" if wanted == "replace" else "se", zzz=1)
        assert (" name" in str(said.value), " rounds" in str(said.value)) == (wanted != "plan", wanted == "plan")
    with pytest.raises(OptionError, match="plan takes no 'name'; known: "):
        foveate.plan(model, "se", name="mine")
    assert not foveate.status(model).attachments


def test_size_tied_attention_works_with_an_example():
    model, x = host(), images(32)
    before = model(x)
    foveate.attach(model, "gather_excite:variant=theta_plus,extent=global", example=x)
    assert torch.equal(model(x), before)
    with pytest.raises(FoveateError, match="tied to maps of 32×32"):
        model(images(40))


def test_detach_says_what_is_attached():
    model = host()
    with pytest.raises(PlaceError, match="attached: nothing"):
        foveate.detach(model)
    with pytest.raises(PlaceError, match="called 'cbam'.*squeeze_excite"):
        foveate.detach(foveate.attach(model, "se"), "cbam")
    foveate.detach(model, "SE")  # by any of its names
    with pytest.raises(PlaceError, match="attached: nothing"):
        foveate.detach(model)


def test_a_checkpoint_that_lacks_a_counter_of_an_attended_norm_is_damaged():
    model = host("torchvision/resnet18")
    checkpoint = model.state_dict()
    del checkpoint["layer4.1.bn2.num_batches_tracked"]
    with pytest.raises(RuntimeError, match="num_batches_tracked"):
        model.load_state_dict(checkpoint)
    with pytest.raises(RuntimeError, match="num_batches_tracked"):
        foveate.attach(model, "se").load_state_dict(checkpoint)
    with pytest.raises(RuntimeError, match="num_batches_tracked"):  # inside an attended container
        foveate.attach(host("torchvision/resnet18"), "se", at="layer4").load_state_dict(checkpoint)
