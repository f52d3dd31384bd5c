"""Switching attachments on and off, and seeing what is there."""

import copy
import json
import pickle

import pytest
import torch
import torch._dynamo
from torch import nn
from torch.optim.swa_utils import AveragedModel

import foveate
from foveate import hosts
from foveate.errors import OptionError, PlaceError
from foveate.surgery.attended import attended_places
from foveate.surgery.status import BlendRange, Status, disable, enable, status, use

X = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def two():
    """A host, and the same with two attachments that do something."""
    torch.manual_seed(0)
    host = hosts.build("foveate/resnet8", classes=10).eval()
    model = copy.deepcopy(host)
    foveate.attach(model, "se", start="paper")
    foveate.attach(model, "eca", start="paper", name="night")
    return host, model


def only(name):
    return foveate.detach(two()[1], name)


@torch.no_grad()
def outputs():
    host, model = two()
    return {
        "none": host(X),
        "both": model(X),
        "squeeze_excite": only("night")(X),
        "night": only("squeeze_excite")(X),
    }


def which(model, x=X):
    with torch.no_grad():
        y = model(x)
    found = [name for name, expected in outputs().items() if torch.equal(expected, y)]
    assert len(found) == 1
    return found[0]


def test_calls_act_at_once_and_last():
    _, model = two()
    assert which(model) == "both"
    disable(model, "night")
    assert which(model) == "squeeze_excite"
    disable(model)
    assert which(model) == "none"
    enable(model, "night")
    assert which(model) == "night"
    enable(model)
    assert which(model) == "both"
    use(model, "night")
    assert which(model) == "night"
    use(model)
    assert which(model) == "none"


def test_contexts_put_back_what_was():
    _, model = two()
    with disable(model, "se"):  # the alias
        assert which(model) == "night"
        with use(model, "se"):
            assert which(model) == "squeeze_excite"
            with use(model):
                assert which(model) == "none"
            assert which(model) == "squeeze_excite"
        assert which(model) == "night"
        with enable(model):
            assert which(model) == "both"
        assert which(model) == "night"
    assert which(model) == "both"


def test_an_error_inside_does_not_leave_it_switched():
    _, model = two()
    with pytest.raises(ZeroDivisionError), disable(model):
        raise ZeroDivisionError
    assert which(model) == "both"


def test_only_what_was_switched_is_put_back():
    _, model = two()
    with disable(model, "se"):
        disable(model, "night")
    assert which(model) == "squeeze_excite"
    disable(model, "se")
    enable(model, "night")
    with enable(model, "se"):
        foveate.detach(model, "se")
    assert all(place.foveate_disabled == frozenset() for place in attended_places(model).values())


def test_unknown_names_are_refused_and_nothing_is_switched():
    host, model = two()
    for switch in (enable, disable, use):
        with pytest.raises(PlaceError, match="'nightt'.*'night'"):
            switch(model, "se", "nightt")
    assert which(model) == "both"
    with pytest.raises(PlaceError, match="nothing is attached"):
        disable(host, "se")
    with disable(host), use(host):
        assert which(host) == "none"


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_switching_is_seen_by_a_compiled_network(backend):
    torch._dynamo.reset()
    _, model = two()
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    assert which(compiled) == "both"
    with disable(compiled, "night"):
        assert which(compiled) == "squeeze_excite"
        with use(compiled):
            assert which(compiled) == "none"
        assert which(compiled) == "squeeze_excite"
    assert which(compiled) == "both"
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    with use(compiled, "se"):
        assert which(compiled) == "squeeze_excite"
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before  # each setting is compiled once
    torch._dynamo.reset()


@pytest.mark.parametrize(
    "around", [nn.DataParallel, AveragedModel, lambda model: torch.compile(model, backend="eager")]
)
def test_wrapped_networks_are_seen_through(around):
    _, model = two()
    wrapped = around(model)
    assert status(wrapped).attachments[0].places[0] == "layer1.0.bn2"
    disable(wrapped, "se")
    assert [entry.enabled for entry in status(wrapped).attachments] == [False, True]


def test_switches_survive_copies_and_pickles():
    _, model = two()
    disable(model, "se")
    assert which(copy.deepcopy(model)) == which(pickle.loads(pickle.dumps(model))) == "night"


def test_status_says_what_is_there():
    _, model = two()
    foveate.attach(model, "cbam:reduction=8", at="layer1.0.bn2", name="day")
    assert len(attended_places(model)) == 3
    se, night, day = (
        next(e for e in status(model).attachments if e.name == n) for n in ("squeeze_excite", "night", "day")
    )
    assert se.places == night.places == ("layer1.0.bn2", "layer2.0.bn2", "layer3.0.bn2")
    assert day.places == ("layer1.0.bn2",)
    assert (se.attention, night.attention, day.attention) == ("squeeze_excite", "eca", "cbam:reduction=8")
    assert (se.start, day.start) == ("paper", "identity")
    assert day.parameters == day.trainable == 16 * 2 + 2 + 2 * 16 + 16 + 2 * 49 + 2 + 2
    assert se.blend is None
    assert day.blend == BlendRange(0.0, 0.0, 0.0)
    assert (day.enabled, day.training, day.devices, day.dtypes) == (True, False, ("cpu",), ("float32",))
    with torch.no_grad():
        model.layer1[0].bn2.foveate["day"].spatial.blend.fill_(0.5)
    model.layer1[0].bn2.foveate["day"].channel.fc1.weight.requires_grad_(False)
    model.layer1[0].bn2.foveate["day"].spatial.train().double()
    model.layer1[0].bn2.foveate_disabled = frozenset({"squeeze_excite", "day"})
    se, night, day = (
        next(e for e in status(model).attachments if e.name == n) for n in ("squeeze_excite", "night", "day")
    )
    assert day.blend == BlendRange(0.0, 0.25, 0.5)
    assert day.parameters - day.trainable == 32
    assert (day.enabled, day.training, day.dtypes) == (False, "irregular", ("float32", "float64"))
    assert (se.enabled, night.enabled) == ("irregular", True)


def test_status_is_json_and_a_table():
    host, model = two()
    told = json.loads(json.dumps(status(model).as_dict()))
    assert told["attachments"][1]["name"] == "night"
    lines = str(status(model)).splitlines()
    assert lines[0].split()[:3] == ["attachment", "attention", "places"]
    assert lines[1].split()[:4] == [
        "squeeze_excite",
        "squeeze_excite",
        "3",
        f"{status(model).attachments[0].parameters:,}",
    ]
    assert len(lines) == 3
    assert status(host) == Status(()) and str(status(host)) == "nothing is attached"


def test_a_strangers_module_and_the_meta_device():
    with torch.device("meta"):
        model = hosts.build("foveate/resnet8", classes=10)
        foveate.attach(model, "se")
    assert status(model).attachments[0].blend is None
    assert status(model).attachments[0].devices == ("meta",)
    model = foveate.attach(
        hosts.build("foveate/resnet8", classes=10), lambda channels: nn.Conv2d(channels, channels, 1), name="mine"
    )
    entry = status(model).attachments[0]
    assert (entry.attention, entry.blend) == ("<lambda>", BlendRange(0.0, 0.0, 0.0))


@pytest.mark.parametrize("function", [status, enable, disable, use])
def test_what_is_no_network(function):
    with pytest.raises(OptionError, match=r"a network is a torch\.nn\.Module, not int"):
        function(3)
