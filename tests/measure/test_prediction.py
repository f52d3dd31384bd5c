"""Predictions against sums by hand on machines that we make, and against what was measured; nothing is timed."""

from __future__ import annotations

import json
import math
import sys

import pytest
import torch
from torch import Tensor, nn

import foveate
from foveate.errors import OptionError
from foveate.measure import (
    Machine,
    Operation,
    Prediction,
    Rates,
    count_bytes,
    count_macs,
    inference,
    operations,
    peak_memory,
    predict,
)
from foveate.measure.nonnegative import shares
from foveate.measure.probes import groups
from foveate.measure.record import recorded
from foveate.measure.shapes import shapes_alone
from foveate.ops.graph import eager
from foveate.registry import get, spec

KILO = 4 * 1000  # bytes of a tensor of 1,000 float32
FREE = Rates(copies=0.0)


class Call(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def machine(default=FREE, **rates):
    """A second for each byte, and other kinds as they are given."""
    known = {name.replace("_", " "): rate for name, rate in rates.items()}
    return Machine(((1, 1.0),), rates={"elementwise": default, **known})


@pytest.mark.parametrize(
    ("moved", "within", "seconds"),
    [(0, 0, 0.0), (50, 0, 5.0), (100, 0, 10.0), (150, 0, 150 * 0.3), (200, 0, 100.0), (400, 0, 200.0), (50, 200, 25.0)],
)
def test_a_copy_is_as_fast_as_the_memory_that_holds_it(moved: int, within: int, seconds: float):
    # ten bytes a second within a cache of 100, two where 200 are gone through and beyond, and between them between them
    assert Machine(((100, 10.0), (200, 100.0))).copied(moved, within) == pytest.approx(seconds)


@pytest.mark.parametrize(("made", "seconds"), [(0, 0), (99, 0), (199, 0), (200, 50), (400, 100)])
def test_new_memory_costs_from_where_the_system_gives_it(made: int, seconds: float):
    assert Machine(((1, 1.0),), making=((100, 0.0), (200, 50.0))).fresh(made) == seconds


def test_an_operation_takes_the_sum_of_its_parts():
    rates = Rates(fixed=3.0, copies=2.0, product=5.0, element=7.0, run=11.0)
    there = Machine(((1, 1.0),), making=((1, 0.5),), rates={"matrix product": rates, "function": rates})
    product = Operation("matrix product", bytes=13, products=17, elements=19, runs=23, made=4)
    function = Operation("function", bytes=13, elements=19, runs=23)
    assert there.seconds(product) == 3 + 2 * 13 + 5 * 17 + 11 * 23 + 2
    assert there.seconds(function) == 3 + 2 * 13 + 7 * 19 + 11 * 23
    assert there.total([product, function]) == there.seconds(product) + there.seconds(function)


def test_a_kind_that_was_not_measured_is_taken_for_an_elementwise_one():
    assert machine(Rates(fixed=2.0, copies=0.0)).seconds(Operation("of tomorrow", bytes=9)) == 2.0


def test_shares_find_what_was_put_together():
    features = [[1, b, p] for b in (1, 10, 100) for p in (1, 7, 49, 343)]
    assert shares(features, [3 + 0.5 * b + 0.25 * p for _, b, p in features]) == pytest.approx((3, 0.5, 0.25))


def test_no_share_is_below_zero_and_ratios_average_to_one():
    # a line through (1, 1) and (2, 4) begins below zero: what is left is a slope s, of s/1 and 2s/4 whose mean is one
    assert shares([[1, 1], [1, 2]], [1, 4]) == pytest.approx((0.0, 4 / 3))


@pytest.mark.parametrize(
    ("function", "kind", "runs"),
    [
        pytest.param(lambda x: x + x, "elementwise", 1, id="two maps"),
        pytest.param(lambda x: x * x[:, :, :1, :1], "elementwise", 2 * 4, id="a weight for each channel"),
        pytest.param(lambda x: x * x[:, :1].contiguous(), "elementwise", 2 * 4, id="a weight for each position"),
        pytest.param(lambda x: x * x[:, :, :, :1].contiguous(), "elementwise", 2 * 4 * 6, id="a weight for each row"),
        pytest.param(lambda x: x * x[:1].contiguous(), "elementwise", 2, id="the same in all samples"),
        pytest.param(lambda x: x.mean((2, 3)), "sum within", 2 * 4, id="over positions"),
        pytest.param(lambda x: x.mean(3), "sum within", 2 * 4 * 6, id="over columns"),
        pytest.param(lambda x: x.mean(1), "sum across", 2 * 4, id="over channels"),
        pytest.param(lambda x: x.sum(), "sum within", 1, id="over everything"),
        pytest.param(lambda x: x.amax(1), "extreme across short runs", 2 * 4, id="the largest of few positions"),
        pytest.param(lambda x: x.flatten(2).repeat(1, 1, 3).amax(1), "extreme across", 2 * 4, id="of many"),
        pytest.param(lambda x: x.amax((2, 3)), "extreme within", 2 * 4, id="the largest of a channel"),
        pytest.param(lambda x: x.max(1), "extreme with its place", 2 * 4, id="the largest and where"),
        pytest.param(lambda x: torch.softmax(x, -1), "softmax within", 1, id="softmax of rows"),
        pytest.param(lambda x: torch.softmax(x, 1), "softmax across", 1, id="softmax of channels"),
        pytest.param(lambda x: x.clone(), "copy", 1, id="copy"),
        pytest.param(lambda x: x.transpose(1, 3).contiguous(), "rearranged copy", 2 * 4 * 6, id="another order"),
        pytest.param(lambda x: x.permute(0, 2, 3, 1).sigmoid(), "function", 1, id="another order, in its own order"),
    ],
)
def test_kinds_and_runs_of_operations(function, kind: str, runs: int):
    found = [one for one in operations(Call(function), torch.zeros(2, 4, 6, 5)) if one.bytes]
    assert [one.kind for one in found][-1] == kind
    assert found[-1].runs == runs


@pytest.mark.parametrize(
    ("conv", "kind"),
    [
        (nn.Conv2d(16, 8, 1), "pointwise convolution"),
        (nn.Conv2d(16, 8, 3), "convolution"),
        (nn.Conv2d(16, 16, 3, groups=16), "depthwise convolution"),
        (nn.Conv2d(2, 1, 7), "narrow convolution"),
    ],
)
def test_kinds_of_convolutions(conv: nn.Conv2d, kind: str):
    x = torch.zeros(1, conv.in_channels, 9, 9)
    [module, found] = operations(conv, x)
    assert (module.kind, found.kind, found.products) == ("module", kind, count_macs(conv, x))


def cases(name: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    module = spec(name).create(32, size=(10, 10))
    maps = 2 if get(name).protocol == "fusion" else 1
    return module, tuple(torch.randn(2, 32, 10, 10) for _ in range(maps))


@pytest.mark.parametrize("name", foveate.names())
def test_what_would_run_and_be_held_is_what_runs_and_is_held(name: str):
    module, maps = cases(name)
    machine = Machine(((1, 1.0),), rates=dict.fromkeys(("module", "view"), FREE))
    told = predict(module, *maps, machine=machine)
    # a map of one channel has two layouts that are one, and shapes alone may choose the other: a copy more or less
    assert told.seconds == pytest.approx(count_bytes(module, *maps), rel=0.002)
    assert machine.total(operations(module, *maps)) == count_bytes(module, *maps)
    with inference(module):
        assert told.memory == peak_memory(lambda: module(*maps))
    module.train()
    arriving = torch.ones_like(maps[0])
    maps = tuple(x.requires_grad_() for x in maps)
    assert told.training == peak_memory(lambda: module(*maps).backward(arriving))


@pytest.mark.parametrize(
    ("module", "memory", "kept", "training"),
    [
        # all results, the last one held by the caller, and on the way back the gradients before and behind one of them
        pytest.param(nn.Sequential(*(nn.Sigmoid() for _ in range(6))), 2, 6, 8, id="six that keep their results"),
        pytest.param(nn.Sequential(*(Call(lambda x: x + 1) for _ in range(6))), 2, 0, 2, id="six that keep nothing"),
        pytest.param(Call(lambda x: x.sigmoid() * x), 2, 1, 5, id="the input is not counted"),
        pytest.param(Call(lambda x: x.exp().sum(0, keepdim=True).expand(1000)), 1, 1, 2, id="a sum"),
    ],
)
def test_memory_by_closed_form(module: nn.Module, memory: int, kept: int, training: int):
    told = predict(module, torch.empty(1000, device="meta"), machine=machine())
    assert told.memory == pytest.approx(memory * KILO, abs=64)
    assert told.kept == pytest.approx(kept * KILO, abs=64)
    assert told.training == pytest.approx(training * KILO, abs=64)


def test_bytes_and_new_memory_of_an_operation_that_writes_where_it_is_told():
    x = torch.zeros(2, 5)
    [module, copy] = operations(Call(lambda y: torch.mul(y, 2.0, out=x)), x + 1)
    assert (copy.bytes, copy.made) == (2 * x.nbytes, 0)  # what is written over is not read
    [module, new] = operations(Call(lambda y: y * 2.0), x)
    assert (new.bytes, new.made) == (2 * x.nbytes, x.nbytes)
    assert module.kind == "module"


def test_what_no_machine_can_hold_can_be_asked_for():
    with torch.device("meta"):
        told = predict(
            Call(lambda x: x @ x), torch.empty(10**7, 10**7), machine=machine(matrix_product=Rates(copies=0, product=1))
        )
    assert told.seconds == pytest.approx(1e21)
    assert told.memory == 4 * 10**14


def test_the_fast_form_of_the_machine_is_asked_not_that_of_a_graph():
    with shapes_alone():
        x = torch.empty(2, 3)
        assert eager(x, nn.Parameter(x))
        assert not eager(torch.empty(2, device="meta"))
    assert not eager(x)
    assert eager(torch.zeros(2))


def test_every_kind_that_the_catalogue_needs_is_measured():
    probed = set[str]()
    for probe in (probe for probes, _ in groups(torch.device("cpu")) for probe in probes):
        with recorded() as found, torch.no_grad():
            probe()
        work = [one.kind for one in found if one.kind not in ("view", "module")]
        assert len(work) == 1 or (not work and len(found) == 1)  # a probe is one operation
        probed |= {one.kind for one in found}
    needed = {one.kind for name in foveate.names() for one in operations(cases(name)[0], *cases(name)[1])}
    assert needed <= probed


def test_a_module_comes_back_as_it_was():
    module = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2).eval(), nn.Dropout())
    predict(module, torch.zeros(3, 2, 4, 4), machine=machine())
    assert [part.training for part in module] == [True, False, True]
    assert module[0].weight.grad is None
    assert module[1].num_batches_tracked == 0
    assert type(module[0].weight) is nn.Parameter and torch.is_grad_enabled()


def test_a_pass_that_depends_on_values_is_refused_in_a_sentence():
    with pytest.raises(OptionError, match="depend on values"):
        predict(Call(lambda x: x * float(x.sum())), torch.zeros(3), machine=machine())


def test_a_plan_adds_times_and_takes_the_highest_moment(monkeypatch: pytest.MonkeyPatch):
    there = Machine(((1, 1.0),), rates={"module": FREE, "view": FREE}, memory=10**5)
    monkeypatch.setattr(sys.modules["foveate.surgery.plan"], "this_machine", lambda *_: there)
    model = foveate.hosts.build("foveate/resnet8", classes=10)
    planned = foveate.plan(model, "eca", predict=True, batch=3)
    each = [place.predicted for place in planned.places]
    assert planned.predicted == Prediction(
        seconds=sum(one.seconds for one in each),
        memory=max(one.memory for one in each),
        kept=sum(one.kept for one in each),
        training=sum(one.kept for one in each) + max(one.training - one.kept for one in each),
    )
    first = planned.places[0]
    shape = (3, first.channels, *first.size)
    assert first.predicted.memory > 4 * math.prod(shape)  # what is returned, and vectors
    assert first.predicted.memory < 4 * math.prod(shape) * 1.1
    assert any("inference with 3 images at once would take 197 kB" in said for said in planned.warnings)
    assert "predicted for 3 images" in str(planned)
    plain = foveate.plan(model, "eca")
    assert plain.predicted is None and "predicted" not in str(plain) and not plain.warnings
    assert plain.bytes == planned.bytes


def test_what_replaces_a_convolution_is_predicted_beyond_it(monkeypatch: pytest.MonkeyPatch):
    there = Machine(((1, 0.0),), rates={"elementwise": Rates(copies=0.0, product=1.0)})
    monkeypatch.setattr(sys.modules["foveate.surgery.plan"], "this_machine", lambda *_: there)
    planned = foveate.plan(foveate.hosts.build("foveate/resnet8", classes=10), "involution", predict=True)
    assert planned.predicted.seconds == planned.macs


def test_the_command_line_predicts_where_it_is_asked_to(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    from foveate.cli import main

    monkeypatch.setattr(sys.modules["foveate.surgery.plan"], "this_machine", lambda *_: Machine(((1, 1e-9),)))
    said = {}
    for options in ((), ("--predict", "--batch", "4")):
        monkeypatch.setattr(sys, "argv", ["foveate", "plan", "foveate/resnet8", "eca", "--json", *options])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code in (0, None)
        said[options] = json.loads(capsys.readouterr().out)
    without, told = said.values()
    assert (without["predicted"], without["batch"], told["batch"]) == (None, 1, 4)
    assert told["predicted"]["memory"] > 4 * 4 * 16 * 32 * 32  # what the first place returns, and more
    assert told["bytes"] == without["bytes"]
