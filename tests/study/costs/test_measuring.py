"""All quantities together: none is lost for another, and everything is ready for JSON."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest
import torch
from torch import nn

import foveate
from foveate.errors import FoveateError, OptionError
from foveate.hosts import build
from foveate.study.costs import detection_loss, measure_costs
from foveate.study.costs.counts import count
from foveate.study.costs.energy import energy_of
from tests.study.costs.networks import Fails, Finds

IMAGE = (torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)),)


def arms(*attentions: str) -> dict[str, nn.Module]:
    made: dict[str, nn.Module] = {"plain": build("foveate/resnet8", classes=3)}
    for attention in attentions:
        made[attention] = foveate.attach(build("foveate/resnet8", classes=3), attention)
    return made


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What would be done in processes of their own, answered here at once."""
    asked: list[tuple[str, dict[str, Any]]] = []

    def elsewhere(task: str, *, limit: float, **parts: Any) -> dict[str, Any]:
        asked.append((task, parts))
        if task == "export" and parts["way"] == "onnx":
            raise FoveateError("it took longer than 7 seconds and was ended")
        return {"bytes": 123} if task == "memory" else {"status": "works", "reason": None}

    monkeypatch.setattr("foveate.study.costs.memory.elsewhere", elsewhere)
    monkeypatch.setattr("foveate.study.costs.export.elsewhere", elsewhere)
    monkeypatch.setattr("foveate.study.costs.measuring.energy_of", functools.partial(energy_of, block=0.01))
    return asked


def test_everything_is_measured_and_networks_stay_as_they_were(told: list[Any]) -> None:
    networks = arms("cbam")
    networks["plain"].train()
    networks["cbam"].eval()
    before = {name: {key: value.clone() for key, value in net.state_dict().items()} for name, net in networks.items()}
    steps: list[tuple[str, int, int]] = []
    costs = measure_costs(
        networks, IMAGE, baseline="plain", batches=(1, 2), rounds=6, seconds=0.01, progress=lambda *at: steps.append(at)
    )
    assert json.loads(json.dumps(costs, allow_nan=False)) == costs
    for name, network in networks.items():
        assert all(torch.equal(value, before[name][key]) for key, value in network.state_dict().items())
        assert all(one.grad is None for one in network.parameters())
    assert (networks["plain"].training, networks["cbam"].training) == (True, False)
    cbam = costs["arms"]["cbam"]
    total = sum(one.numel() for one in networks["cbam"].parameters())
    host = sum(one.numel() for one in networks["plain"].parameters())
    assert cbam["parameters"] == {"total": total, "attention": total - host, "reason": None}
    assert costs["arms"]["plain"]["parameters"] == {"total": host, "attention": 0, "reason": None}
    assert cbam["macs"]["count"] > costs["arms"]["plain"]["macs"]["count"]
    assert cbam["bytes"]["count"] > costs["arms"]["plain"]["bytes"]["count"]
    settings = [(row["batch"], row["mode"], row["layout"]) for row in cbam["latency"]]
    assert settings == [(batch, "eager", how) for how in ("contiguous", "channels_last") for batch in (1, 2)]
    assert all(row["ratio"] > 1 for row in cbam["latency"])
    assert (cbam["training"]["batch"], cbam["training"]["reason"]) == (2, None)
    assert cbam["memory"]["training"]["tensor_bytes"] > 2 * total * 4  # gradients and momentum
    assert cbam["memory"]["inference"]["process_bytes"] == 123
    assert cbam["export"]["torch.export"]["status"] == "works"
    assert cbam["export"]["onnx"] == {"status": "unknown", "reason": "it took longer than 7 seconds and was ended"}
    assert (cbam["energy"]["joules"] is None) == bool(cbam["energy"]["reason"])
    assert [(run["what"], run["rounds"]) for run in costs["runs"]] == [("latency", 6)] * 4 + [("training", 6)]
    assert [at for _, at, _ in steps] == list(range(steps[-1][2] + 1))
    assert steps[0][0] == "plain: parameters, MACs, bytes"
    assert {parts["inputs"][0].shape[0] for task, parts in told if task == "memory"} == {2}
    assert {parts["inputs"][0].shape[0] for task, parts in told if task == "export"} == {1}


def test_a_quick_measurement_counts_and_times_and_says_what_it_left_out() -> None:
    costs = measure_costs(arms("se"), IMAGE, baseline="plain", rounds=6, seconds=0.01, quick=True)
    arm = costs["arms"]["se"]
    assert [(row["batch"], row["layout"], row["reason"]) for row in arm["latency"]] == [(1, "contiguous", None)]
    left = [arm["training"], arm["energy"], *arm["memory"].values(), *arm["export"].values()]
    assert {one["reason"] for one in left} == {"left out of a quick measurement"}
    assert len(left) == 6


def test_an_arm_that_fails_keeps_what_is_known_of_it_and_all_of_the_others(told: list[Any]) -> None:
    networks = {"plain": nn.Conv2d(3, 4, 1), "broken": Fails()}
    costs = measure_costs(
        networks, IMAGE, baseline="plain", batches=(2,), rounds=6, seconds=0.01, layouts=("contiguous",)
    )
    broken, plain = costs["arms"]["broken"], costs["arms"]["plain"]
    assert broken["parameters"] == {"total": 1, "attention": 0, "reason": None}
    why = "RuntimeError: it does not run"
    assert [broken[key]["reason"] for key in ("macs", "bytes", "training")] == [why] * 3
    assert (broken["latency"][0]["median_ms"], broken["latency"][0]["reason"]) == (None, why)
    assert broken["memory"]["inference"]["tensor_bytes"] is None
    assert plain["latency"][0]["reason"] is plain["training"]["reason"] is None


def test_the_failure_of_a_whole_quantity_stands_in_every_arm(told: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr("foveate.study.costs.measuring.time_networks", fails)
    monkeypatch.setattr("foveate.study.costs.measuring.energy_of", fails)
    monkeypatch.setattr("foveate.study.costs.measuring.count", fails)
    networks = {"one": nn.Conv2d(3, 4, 1), "two": nn.Conv2d(3, 4, 1)}
    costs = measure_costs(networks, IMAGE, baseline="one", rounds=6, seconds=0.01, layouts=("contiguous",))
    for arm in costs["arms"].values():
        for part in (*arm["latency"], arm["energy"], arm["parameters"], arm["macs"], arm["bytes"]):
            assert part["reason"] == "MemoryError: no room"
        assert arm["training"]["reason"] is None


def test_a_detector_is_measured_with_its_loss(told: list[Any]) -> None:
    networks = {"plain": Finds(), "other": Finds()}
    example = ([torch.rand(3, 16, 16)],)
    costs = measure_costs(
        networks, example, baseline="plain", batches=(2,), layouts=("channels_last",), rounds=6, seconds=0.01,
        loss=detection_loss,
    )  # fmt: skip
    for arm in costs["arms"].values():
        assert {row["reason"] for row in arm["latency"]} == {None}
        assert arm["training"]["reason"] is None
        assert arm["macs"]["count"] == 3 * 4 * 9 * 14 * 14


def test_the_keyboard_interrupts() -> None:
    networks = {"plain": Fails(KeyboardInterrupt)}
    with pytest.raises(KeyboardInterrupt):
        measure_costs(networks, IMAGE, baseline="plain", rounds=6, quick=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"networks": {}}, "nothing to measure"),
        ({"baseline": "plan"}, "did you mean 'plain'"),
        ({"batches": ()}, "at least one batch"),
        ({"batches": (1, 0)}, "a batch must be"),
        ({"layouts": ("nchw",)}, "'contiguous', 'channels_last'"),
        ({"rounds": 0}, "rounds"),
        ({"seconds": 0}, "seconds"),
        ({"limit": -1}, "limit"),
        ({"example": IMAGE[0]}, "a tuple"),
        ({"example": (torch.zeros(2, 3, 4, 4),)}, "of one sample"),
    ],
)
def test_what_cannot_work_is_refused_at_once(change: dict[str, Any], words: str) -> None:
    given: dict[str, Any] = {"networks": {"plain": nn.ReLU()}, "example": IMAGE, "baseline": "plain"} | change
    with pytest.raises(OptionError, match=words):
        measure_costs(given.pop("networks"), given.pop("example"), **given)


@pytest.mark.slow
def test_real_networks_compiled_and_all_in_processes_of_their_own() -> None:
    networks = arms("se", "cbam")
    costs = measure_costs(networks, IMAGE, baseline="plain", batches=(1,), rounds=6, seconds=1.0, compiled=True)
    for name, arm in costs["arms"].items():
        assert [row["mode"] for row in arm["latency"]] == ["eager"] * 2 + ["compiled"] * 2
        assert {row["reason"] for row in (*arm["latency"], arm["training"], *arm["memory"].values())} == {None}, name
        assert {one["status"] for one in arm["export"].values()} == {"works"}, name
        # a process grows by what its tensors take, and by what operations take besides
        memory = arm["memory"]["training"]
        assert memory["process_bytes"] > 0.5 * memory["tensor_bytes"], name


def test_parameters_at_rest_do_not_count() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.Conv2d(4, 2, 1, bias=False))
    network[0].requires_grad_(False)
    assert count(network, IMAGE)["parameters"] == {"total": 8, "attention": 0, "reason": None}
    assert count(network.requires_grad_(False), IMAGE)["parameters"] == {"total": 0, "attention": 0, "reason": None}
