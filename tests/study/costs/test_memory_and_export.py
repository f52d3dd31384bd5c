"""Memory against tensors of known size, in processes of their own; and what can be exported."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import foveate
from foveate.errors import FoveateError
from foveate.measure import peak_memory
from foveate.study.costs import child, mean_square
from foveate.study.costs.elsewhere import elsewhere
from foveate.study.costs.export import _difference, export, export_status
from foveate.study.costs.memory import memory_of
from foveate.study.costs.resident import resident_growth
from tests.study.costs.networks import Decides, Dies, Grows, Pretends

CPU = torch.device("cpu")
linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells the peak of memory")
MIB = 1 << 20
# what a process that ran the same once may still grow by: arenas, and pages of code on paths not yet taken
SLACK = 2 * MIB
# Linux counts pages for each processor and adds up what exceeds a batch, of the larger of 32 and twice their number
# (mm/percpu_counter.c); so either of the two readings is off by as much
COUNTING = 2 * 4096 * (os.cpu_count() or 1) * max(32, 2 * (os.cpu_count() or 1))


@linux
@pytest.mark.slow
def test_a_forward_pass_needs_its_one_tensor() -> None:
    found = memory_of(Grows(16 * MIB), (torch.ones(1, 1),), batch=2, loss=None, device=CPU, limit=120)
    assert found["tensor_bytes"] == 64 * MIB
    assert 64 * MIB - COUNTING <= found["process_bytes"] <= 64 * MIB + SLACK + COUNTING
    assert (found["batch"], found["reason"]) == (2, None)


def test_the_other_process_runs_a_forward_pass_as_one_that_only_predicts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The convolution's map is given to the norm and dropped: two at a time, where training would keep three."""
    monkeypatch.setattr(child, "resident_growth", lambda prepare: peak_memory(prepare()))
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), nn.Sigmoid()).train()
    parts = {"network": network, "inputs": (torch.rand(2, 1, 64, 64),), "loss": None, "device": CPU}
    kilo = 2 * 64 * 64 * 4 / 1000
    assert 2 * kilo <= child.memory(parts)["bytes"] / 1000 < 3 * kilo
    assert child.memory({**parts, "loss": mean_square})["bytes"] / 1000 > 3 * kilo


@linux
def test_growth_is_that_of_the_call_and_not_of_what_was_before() -> None:
    torch.ones(64 * MIB)
    assert abs(resident_growth(lambda: lambda: torch.ones(4 * MIB)) - 16 * MIB) <= SLACK + COUNTING


def test_a_system_that_tells_no_peak_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("foveate.study.costs.resident._REFERENCES", tmp_path / "missing")
    with pytest.raises(FoveateError, match="only Linux"):
        resident_growth(lambda: lambda: None)
    monkeypatch.setattr("foveate.study.costs.resident._REFERENCES", tmp_path)  # a folder cannot be written to
    with pytest.raises(FoveateError, match="does not let the peak of memory be reset"):
        resident_growth(lambda: lambda: None)


@linux
def test_a_training_step_needs_gradients_and_momentum_besides() -> None:
    """A matrix of 16 MiB: its gradient and its momentum in the second step, and nothing else of that size."""
    network = nn.Linear(2048, 2048, bias=False)
    network(torch.ones(1, 2048)).sum().backward()  # what the arm's own gradients occupy is not the step's
    found = memory_of(network, (torch.ones(1, 2048),), batch=1, loss=mean_square, device=CPU, limit=120)
    vectors = 16 * 2048 * 4  # input, output, their squares and gradients: fewer than sixteen
    assert 32 * MIB <= found["tensor_bytes"] <= 32 * MIB + vectors
    # the pages of what the first steps left are given back before the growth is counted
    assert 32 * MIB - COUNTING <= found["process_bytes"] <= 32 * MIB + SLACK + vectors + COUNTING


@pytest.mark.slow
def test_a_process_that_dies_costs_its_own_number_only() -> None:
    found = memory_of(Dies(), (torch.ones(1, 1),), batch=1, loss=None, device=CPU, limit=120)
    assert (found["tensor_bytes"], found["process_bytes"]) == (4, None)
    assert found["reason"] == "the process ended with signal SIGKILL"


def test_what_cannot_go_to_a_process_of_its_own_says_why() -> None:
    local = nn.Sequential(nn.ReLU())
    local.hidden = lambda: None
    found = memory_of(local, (torch.ones(1, 1),), batch=1, loss=None, device=CPU, limit=120)
    assert (found["tensor_bytes"], found["process_bytes"]) == (4, None)
    assert found["reason"].startswith("the network cannot be sent to a process of its own (")


def test_a_process_of_its_own_is_bounded_in_time() -> None:
    """Not even Python with PyTorch begins in a twentieth of a second."""
    found = export_status(nn.ReLU(), (torch.ones(1, 2),), limit=0.05)
    for way in ("torch.export", "onnx"):
        assert found[way] == {"status": "unknown", "reason": "it took longer than 0.05 seconds and was ended"}


@pytest.mark.slow
def test_a_class_of_the_running_script_is_not_known_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    import __main__

    mine = type("Mine", (nn.ReLU,), {"__module__": "__main__"})
    monkeypatch.setattr(__main__, "Mine", mine, raising=False)
    with pytest.raises(FoveateError, match=r"cannot be made in a process of its own \(AttributeError.*Mine"):
        elsewhere("export", limit=120, network=mine(), inputs=(torch.ones(1),), way="torch.export")


def test_a_network_is_exported_with_its_attention() -> None:
    network = foveate.attach(foveate.hosts.build("foveate/resnet8", classes=3), "cbam").eval()
    assert export(network, (torch.rand(1, 3, 16, 16),), "torch.export") == {"status": "works", "reason": None}


def test_what_cannot_be_exported_or_comes_out_otherwise_says_so() -> None:
    found = export(Decides().eval(), (torch.ones(1, 4),), "torch.export")
    assert found["status"] == "fails"
    assert "\n" not in found["reason"]
    assert 10 < len(found["reason"]) <= 300
    x = (torch.rand(1, 4),)
    torch.manual_seed(0)
    assert export(Pretends("rounding").eval(), x, "torch.export") == {"status": "works", "reason": None}
    found = export(Pretends("values").eval(), x, "torch.export")
    assert found["status"] == "differs"
    assert found["reason"].startswith("output 1 is off by")
    found = export(Pretends("shapes").eval(), x, "torch.export")
    assert found == {
        "status": "differs",
        "reason": "it returns tensors of the shapes [(1, 4), (1, 4)] where the network returns [(1, 4)]",
    }


def test_numbers_that_are_none_are_a_difference() -> None:
    wrong, right = torch.tensor([float("nan")]), torch.tensor([1.0])
    assert "off by nan" in (_difference([wrong], [right], lambda: [1.0]) or "")
    assert _difference([wrong], [wrong], lambda: [float("inf")]) is not None


def test_what_onnx_needs_and_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(FoveateError, match=r"'onnxruntime': pip install 'foveate\[onnx\]'"):
        export(nn.ReLU().eval(), (torch.rand(1, 3),), "onnx")


@pytest.mark.slow
def test_onnx_gives_the_same_numbers() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2)).eval()
    x = (torch.rand(1, 3, 8, 8),)
    network(*x)
    assert export(network, x, "onnx") == {"status": "works", "reason": None}
    assert export(Pretends("values").eval(), (torch.rand(1, 4),), "onnx")["status"] == "differs"
    found = export(Decides().eval(), (torch.ones(1, 4),), "onnx")
    assert found["status"] == "fails"
    assert "data-dependent" in found["reason"]  # and not a page of advice


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["se", "cbam", "psanet"])
def test_attended_networks_are_exported_from_a_process_of_their_own(attention: str) -> None:
    network = foveate.attach(foveate.hosts.build("foveate/resnet8", classes=3), attention)
    for way, found in export_status(network, (torch.rand(1, 3, 16, 16),), limit=300).items():
        assert found == {"status": "works", "reason": None}, way


@pytest.mark.slow
@pytest.mark.parametrize("way", ["torch.export", "onnx"])
def test_a_network_that_decides_fails_both_ways_from_a_process_of_its_own(way: str) -> None:
    assert export_status(Decides(), (torch.ones(1, 4),), limit=300)[way]["status"] == "fails"
