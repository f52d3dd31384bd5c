"""How the contract is run: what may be checked, what an exemption is worth, and what is left behind."""

import sys
import unittest
from dataclasses import replace
from functools import partial
from typing import Literal

import pytest
import torch
from torch import nn

import foveate
from foveate.attention import Gate, Map
from foveate.errors import OptionError
from foveate.registry import Card, Paper, lookup, mechanism
from foveate.testing import ContractError, Subject, cases, check_mechanism, checks, parametrize


class Gated(Gate):
    """A gate for each channel from its mean."""

    def __init__(self, channels: int, *, gain: float = 2.0, over: Literal["mean", "max"] = "mean") -> None:
        super().__init__()
        self.gain, self.over = gain, over
        self.scale = nn.Parameter(torch.ones(channels))
        self.map = Map("c")

    def reset_parameters(self):
        nn.init.ones_(self.scale)

    def gather(self, x):
        return x.mean((2, 3)) if self.over == "mean" else x.flatten(2).max(2).values

    def weigh(self, context):
        return torch.sigmoid(self.gain * self.scale * context)[:, :, None, None]


class Bare(nn.Module):
    """Squeeze-and-excitation as people write it: nothing of ours in it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, channels)
        self.fc2 = nn.Linear(channels, channels)

    def forward(self, x):
        return x * torch.sigmoid(self.fc2(torch.relu(self.fc1(x.mean((2, 3))))))[:, :, None, None]


UNSHOWN = {
    "map_is_applied": "it has no map",
    "map_varies_along_its_axes": "it has no map",
    "starts_as_identity": "it was written to train from scratch",
}


def card(**changes) -> Card:
    return Card(name="gated", title="Gated", paper=Paper("Gates", "Nobody", "nowhere"), equation="y = x · g", **changes)


@pytest.fixture
def register(monkeypatch):
    """Registers for the length of a test."""
    monkeypatch.setattr(lookup, "_mechanisms", dict(lookup._mechanisms))

    def register(**changes):
        return mechanism(card(**changes))(Gated)

    return register


def outcomes(what, only, **settings):
    return {result.check: result.outcome for result in check_mechanism(what, only=only, **settings)}


def test_a_registered_class_is_checked_by_name_by_spec_and_by_itself(register):
    register()
    only = ["every_option_acts", "misspelt_option_raises"]
    for what in ("gated", "gated:gain=3.5", foveate.spec("gated", over="max"), Gated):
        subject = Subject.of(what)
        assert subject.card is not None and subject.card.name == "gated"
        assert set(outcomes(what, only).values()) == {"passed"}
    assert Subject.of("gated:gain=3.5").build().gain == 3.5


def test_a_factory_needs_no_card():
    for factory in (Gated, partial(Gated, over="max"), lambda channels: Gated(channels, gain=1.0)):
        assert outcomes(factory, ["any_channels", "any_size"]) == {"any_channels": "passed", "any_size": "passed"}


@pytest.mark.parametrize("what", ["cbma", 3, "cbam:reductoin=2"])
def test_what_cannot_be_checked_is_refused(what):
    with pytest.raises(OptionError):
        check_mechanism(what)


def test_a_check_that_does_not_exist_is_refused_with_the_nearest():
    with pytest.raises(OptionError, match="any_size"):
        cases("eca", only=["any_sizes"])
    with pytest.raises(OptionError, match="any_size"):
        cases("eca", exemptions={"any_sizes": "we cannot spell"})


def test_an_exemption_stands_while_the_check_fails():
    found = outcomes(Bare, list(UNSHOWN), exemptions=UNSHOWN)
    assert set(found.values()) == {"exempt"}
    assert set(outcomes(Bare, list(UNSHOWN)).values()) == {"failed"}


def test_an_exemption_that_is_not_needed_fails(register):
    register(exemptions={"any_size": "small maps are hard"})
    [result] = check_mechanism("gated", only=["any_size"])
    assert result.outcome == "failed"
    assert "'small maps are hard'" in result.message and "take the exemption off" in result.message


def test_every_exemption_of_a_plain_module_is_needed_and_no_other():
    direct = [name for name in checks() if "export" not in name and name != "compiles"]
    found = outcomes(Bare, direct, exemptions=UNSHOWN)
    assert {name for name, outcome in found.items() if outcome == "exempt"} == set(UNSHOWN)
    assert {name for name, outcome in found.items() if outcome == "failed"} == set()


def test_a_failure_says_what_was_demanded_and_what_happened():
    class Fussy(Gated):
        def gather(self, x):
            raise RuntimeError(f"a map of {x.shape[2]}×{x.shape[3]} is too small for me")

    [result] = check_mechanism(Fussy, only=["any_size"])
    assert result.outcome == "failed"
    assert result.message.startswith("Any height and width works")
    assert result.message.endswith("RuntimeError: a map of 1×1 is too small for me")


def test_as_tests_cases_raise_and_skip(monkeypatch):
    passing, failing = cases(Gated, only=["any_size"]) + cases(Bare, only=["map_is_applied"])
    passing()
    with pytest.raises(ContractError, match=r"Bare: it has no foveate\.attention\.Map"):
        failing()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    [case] = cases(Gated, only=["exports_to_onnx"])
    assert case.run().outcome == "skipped"
    with pytest.raises(unittest.SkipTest, match=r"pip install 'foveate\[onnx\]'"):
        case()


def test_tests_are_named_by_mechanism_and_check():
    arguments = parametrize("eca", "cbam:parts=channel")
    assert arguments["ids"][0] == "eca-every_option_acts"
    assert arguments["ids"][-1] == "cbam:parts=channel-exports_to_onnx"
    assert len(arguments["argvalues"]) == 2 * len(checks(Subject.of("eca")))


def test_an_option_of_unknown_kind_needs_a_value_to_try():
    class Worded(Gated):
        def __init__(self, channels: int, *, activation: str = "sigmoid") -> None:
            super().__init__(channels)
            self.activation = activation

        def weigh(self, context):
            return getattr(torch, self.activation)(context * self.scale)[:, :, None, None]

    [result] = check_mechanism(Worded, only=["every_option_acts"])
    assert "activation" in result.message and "`values`" in result.message
    for value, outcome in (("tanh", "passed"), ("sigmoid", "failed")):
        values = {"activation": [value]}
        assert outcomes(Worded, ["every_option_acts"], values=values) == {"every_option_acts": outcome}


def test_asking_for_larger_maps_than_needed_fails():
    [result] = check_mechanism(type("Cautious", (Bare,), {"smallest": 4}), only=["exports"])
    assert result.outcome == "failed" and "needs 4" in result.message and "accepts 3" in result.message


def test_a_maximum_that_shares_its_gradient_is_found_in_our_own(monkeypatch):
    pools = {"avg": lambda x: x.mean((2, 3)), "max": lambda x: x.amax((2, 3))}
    only = ["ties_go_to_the_first"]
    assert outcomes("cbam", only) == {"ties_go_to_the_first": "passed"}
    monkeypatch.setattr("foveate.catalogue.cbam.GLOBAL_POOLS", pools)
    assert outcomes("cbam", only) == {"ties_go_to_the_first": "failed"}


def test_nothing_is_left_behind():
    module = foveate.create("cbam", 8)
    before = torch.random.get_rng_state(), torch.are_deterministic_algorithms_enabled(), torch.get_default_dtype()
    subject = replace(Subject.of(Gated), factory=lambda _: module, channels=8)
    only = ["draws_nothing", "map_is_applied", "keeps_softmax_precise", "runs_deterministically", "builds_on_meta"]
    check_mechanism(subject, only=only)
    check_mechanism("cbam", only=["gradients_are_exact", "starts_as_identity"])
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert (torch.are_deterministic_algorithms_enabled(), torch.get_default_dtype()) == before[1:]
    assert not any(child._forward_hooks or child._forward_pre_hooks for child in module.modules())
