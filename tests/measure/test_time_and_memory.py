"""Latency with a clock that we set, memory against closed forms, conditions that name nobody."""

from __future__ import annotations

import gc
import getpass
import json
import socket
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import foveate
from foveate.errors import OptionError
from foveate.measure import (
    Conditions,
    Latency,
    count_bytes,
    count_macs,
    count_parameters,
    inference,
    latency_ratio,
    measure,
    measure_latency,
    peak_memory,
)
from tests.ops.compiled import built, using

KILO = 4 * 1000  # bytes of a tensor of 1,000 float32

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


class Clock:
    """Time that passes only in calls; the machine becomes slower with every call."""

    def __init__(self) -> None:
        self.now, self.slowness = 0.0, 1.0

    def __call__(self) -> float:
        return self.now

    def work(self, seconds: float) -> None:
        self.now += seconds * self.slowness
        self.slowness *= 1.1


def test_calls_are_interleaved_and_every_other_round_reversed():
    order: list[str] = []
    calls = {name: lambda name=name: order.append(name) for name in "abc"}
    times = measure_latency(calls, rounds=3, warmup=1)
    assert "".join(order) == "abc" + "cba" + "abc" + "cba"
    assert [len(latency.samples) for latency in times.values()] == [3, 3, 3]
    assert list(times) == ["a", "b", "c"]


def test_a_ratio_survives_a_machine_that_slows_down(monkeypatch: pytest.MonkeyPatch):
    clock = Clock()
    monkeypatch.setattr("foveate.measure.latency.perf_counter", clock)
    times = measure_latency({"one": lambda: clock.work(1.0), "two": lambda: clock.work(2.0)}, rounds=20, warmup=2)
    assert times["one"].samples[0] == pytest.approx(1.1**4)  # after two rounds of two calls
    # within a round the second call is slowed by 1.1: half of the ratios are 2.2, half 2 / 1.1
    assert latency_ratio(times, "two", to="one") == pytest.approx((2.2 + 2 / 1.1) / 2)
    # while one call timed after the other would have seen 1.1 to the power of 20
    assert times["one"].samples[-1] > 40 * times["one"].samples[0]


def test_median_and_p95_are_numpys():
    samples = tuple(np.random.default_rng(0).exponential(size=37))
    assert Latency(samples).median == pytest.approx(np.median(samples))
    assert Latency(samples).p95 == pytest.approx(np.percentile(samples, 95))
    assert Latency((0.5,)).p95 == Latency((0.5,)).median == 0.5


def test_time_is_measured_in_seconds():
    import time

    sample = measure_latency({"sleep": lambda: time.sleep(0.02)}, rounds=3, warmup=0)["sleep"].median
    assert 0.02 <= sample < 1  # never shorter than asked; how much longer is the scheduler's choice


def test_collection_is_off_inside_and_on_again_after_an_error():
    seen: list[bool] = []
    measure_latency({"a": lambda: seen.append(gc.isenabled())}, rounds=1, warmup=0)
    assert seen == [False]
    with pytest.raises(ZeroDivisionError):
        measure_latency({"a": lambda: 1 / 0})
    assert gc.isenabled()


def test_what_cannot_be_timed_or_compared_is_refused():
    with pytest.raises(OptionError, match="nothing to time"):
        measure_latency({})
    with pytest.raises(OptionError, match="rounds must be a whole number of at least 1"):
        measure_latency({"a": list}, rounds=0)
    times = {"cbam": Latency((1.0, 2.0)), "none": Latency((1.0,))}
    with pytest.raises(OptionError, match="did you mean 'cbam'"):
        latency_ratio(times, "cbma", to="none")
    with pytest.raises(OptionError, match="2 samples and 'none' has 1"):
        latency_ratio(times, "cbam", to="none")


@pytest.mark.parametrize(
    ("run", "tensors"),
    [
        pytest.param(lambda x: (((x + 1) * 2) - 3).exp(), 2, id="a chain holds two at a time"),
        pytest.param(lambda x: (x + 1).mul_(2).relu_(), 1, id="in place"),
        pytest.param(lambda x: (x + 1).view(10, 100).t()[2:], 1, id="views"),
        pytest.param(lambda x: x.view(10, 100), 0, id="the input does not count"),
        pytest.param(lambda x: [x + i for i in range(5)], 5, id="all kept"),
        pytest.param(lambda x: max((x + i).sum() for i in range(5)), 1, id="dropped at once"),
        pytest.param(lambda x: x + (x.neg().exp()), 2, id="a branch beside the way"),
        pytest.param(lambda x: (x + 1).half(), 1.5, id="half as wide"),
    ],
)
def test_peak_memory_of_operations(run, tensors: float):
    x = torch.zeros(1000)
    # five scalars (a boolean, a sum) at most besides the tensors of 1,000
    assert tensors * KILO <= peak_memory(lambda: run(x)) <= tensors * KILO + 64


def test_peak_memory_keeps_what_a_backward_pass_needs():
    net = nn.Sequential(*(nn.Sigmoid() for _ in range(6)))
    x = torch.zeros(1000, requires_grad=True)
    assert peak_memory(lambda: net(x)) == 6 * KILO
    with inference(net):
        assert peak_memory(lambda: net(x)) == 2 * KILO


def test_peak_memory_of_a_network_is_its_widest_moment():
    net = nn.Sequential(nn.Conv2d(2, 16, 1), nn.ReLU(), nn.Conv2d(16, 1, 1))
    with inference(net):
        peak = peak_memory(lambda: net(torch.zeros(1, 2, 10, 10)))
    # the image is made inside and held by its caller; then the 16 channels before and after the ReLU
    assert peak == 4 * 100 * (2 + 16 + 16)


def test_an_address_used_again_is_counted_again():
    def run() -> None:
        for _ in range(50):
            torch.zeros(1000)

    assert peak_memory(run) == KILO


def test_a_measurement_says_everything_together():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
    x = torch.zeros(2, 3, 8, 8)
    cost = measure(net, x, rounds=4, warmup=1)
    assert (cost.parameters, cost.macs, cost.bytes) == (
        count_parameters(net),
        count_macs(net, x),
        count_bytes(net, x),
    )
    assert cost.peak_memory == 2 * 4 * x.new_empty(2, 8, 8, 8).numel()
    assert len(cost.latency.samples) == 4
    assert cost.latency.median > 0
    assert cost.input_shape == ((2, 3, 8, 8),)
    assert all(module.training for module in net.modules())
    assert net[1].num_batches_tracked == 0
    assert json.loads(json.dumps(cost.as_dict()))["conditions"]["dtype"] == "float32"


def test_a_measurement_needs_a_real_input():
    with pytest.raises(OptionError, match="give an input"):
        measure(nn.ReLU())
    with pytest.raises(OptionError, match="nothing takes time on the meta device"):
        measure(nn.ReLU(), torch.zeros(3, device="meta"))


def test_conditions_say_what_matters_and_name_nobody():
    here = Conditions.here(dtype=torch.bfloat16)
    assert (here.device, here.dtype, here.threads) == ("cpu", "bfloat16", torch.get_num_threads())
    facts = here.as_dict()
    assert facts["operations"] == "plain"
    for compiled in built().values():
        with using(compiled):
            assert Conditions.here().operations == compiled.instruction_set
    assert facts["torch"] == torch.__version__
    assert facts["packages"]["foveate"] == foveate.__version__
    written = json.dumps(facts)
    for secret in (socket.gethostname(), str(Path.home()), str(Path.cwd()), getpass.getuser()):
        # a name of one or two letters is found in any text
        assert len(secret) < 3 or secret not in written
    with pytest.raises(FrozenInstanceError):
        here.threads = 3  # type: ignore[misc]


@cuda
def test_on_cuda_the_clock_waits_and_the_allocator_is_read():
    x = torch.zeros(4000, 4000, device="cuda")
    product = measure_latency({"mm": lambda: x @ x, "none": lambda: None}, rounds=5, device="cuda")
    assert product["mm"].median > 4 * product["none"].median  # without waiting both are a launch
    y = torch.zeros(1 << 20, device="cuda")
    assert peak_memory(lambda: (y + 1) * 2, "cuda") == 2 * y.nbytes
    net = nn.Conv2d(3, 8, 3).cuda()
    cost = measure(net, torch.zeros(2, 3, 32, 32, device="cuda"), rounds=3)
    assert cost.conditions.device == torch.cuda.get_device_name()
    assert cost.peak_memory >= 4 * 2 * 8 * 30 * 30
