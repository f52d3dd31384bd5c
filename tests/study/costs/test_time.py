"""Latencies beside the baseline with a clock that we set; layouts, batches, and functions compiled on their own."""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from foveate.errors import FoveateError, OptionError
from foveate.study.costs import latency, mean_square
from foveate.study.costs.inputs import copied, laid_out, repeated
from foveate.study.costs.latency import Setting, time_networks
from foveate.study.costs.ratios import noise, ratio
from foveate.study.costs.side_by_side import side_by_side
from foveate.study.costs.training import detection_loss, step_of
from tests.study.costs.networks import Fails, Finds, Sees

CPU = torch.device("cpu")


class Clock:
    """Time that passes only in calls, more or less of it by chance."""

    def __init__(self, spread: float, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.spread, self.draw = 0.0, spread, random.Random(0)
        for module in ("foveate.measure.latency", "foveate.study.costs.side_by_side"):
            monkeypatch.setattr(f"{module}.perf_counter", lambda: self.now)

    def work(self, seconds: float) -> Callable[[], None]:
        def call() -> None:
            self.now += seconds * (1 + self.draw.uniform(-self.spread, self.spread))

        return call


def timed(clock: Clock, seconds: float = 1e9, rounds: int = 30, **work: float) -> Any:
    calls = {name: clock.work(taken) for name, taken in work.items()}
    return side_by_side(calls, baseline="plain", rounds=rounds, seconds=seconds, device=CPU)


def test_a_noisy_run_says_so_and_a_calm_one_has_the_ratio_in_its_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, run = timed(Clock(0.02, monkeypatch), plain=1.0, se=1.3)
    assert run["noise"] < 0.05
    assert (run["noisy"], rows["se"]["noisy"]) == (False, False)
    low, high = rows["se"]["interval"]
    assert (
        1.27 < low <= rows["se"]["ratio"] <= high < 1.33
    )  # a ratio of a round is off by 4 % at most, a median by less
    assert rows["se"]["median_ms"] == pytest.approx(1300, rel=0.02)
    assert rows["se"]["p95_ms"] > rows["se"]["median_ms"]
    rows, run = timed(Clock(0.5, monkeypatch), plain=1.0, se=1.3)
    assert run["noise"] > 0.05
    assert (run["noisy"], rows["se"]["noisy"]) == (True, True)


def test_the_p95_is_that_of_single_calls_that_find_the_caches_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of calls of 1 ms each 10th takes 3 ms, and the first after another arm 9 ms: a visit's median is 1 ms."""
    clock = Clock(0, monkeypatch)
    last, count = "", 0

    def call(name: str) -> Callable[[], None]:
        def run() -> None:
            nonlocal last, count
            count += name == "plain"
            clock.now += 0.009 if last != name else 0.003 if name == "plain" and count % 10 == 0 else 0.001
            last = name

        return run

    calls = {name: call(name) for name in ("plain", "se")}
    rows, _ = side_by_side(calls, baseline="plain", rounds=20, seconds=1e9, device=CPU)
    assert [rows[name]["median_ms"] for name in calls] == pytest.approx([1.0, 1.0])
    assert [rows[name]["p95_ms"] for name in calls] == pytest.approx([3.0, 1.0])


def test_time_is_bounded_but_never_below_six_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    # a round is the two calls and the baseline again: 4 seconds
    assert timed(Clock(0, monkeypatch), seconds=40.0, plain=1.0, se=2.0)[1]["rounds"] == 10
    assert timed(Clock(0, monkeypatch), seconds=1.0, plain=1.0, se=2.0)[1]["rounds"] == 6
    rows, run = timed(Clock(0, monkeypatch), rounds=3, plain=1.0, se=2.0)
    assert (run["rounds"], run["noise"], run["noisy"]) == (3, None, True)
    assert (rows["se"]["ratio"], rows["se"]["interval"]) == (2.0, None)
    assert rows["se"]["reason"] == "no interval: it needs 6 rounds, and there were 3"


def test_one_call_that_fails_costs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(0, monkeypatch)
    calls = {"plain": clock.work(1.0), "broken": lambda: 1 / 0, "se": clock.work(2.0)}
    rows, _ = side_by_side(calls, baseline="plain", rounds=6, seconds=1e9, device=CPU)
    assert list(rows) == ["plain", "broken", "se"]
    assert rows["broken"] == {
        "median_ms": None, "p95_ms": None, "ratio": None, "interval": None, "noisy": None,
        "reason": "ZeroDivisionError: division by zero",
    }  # fmt: skip
    assert (rows["se"]["ratio"], rows["se"]["reason"]) == (2.0, None)
    rows, _ = side_by_side(calls, baseline="broken", rounds=6, seconds=1e9, device=CPU)
    assert (rows["se"]["median_ms"], rows["se"]["ratio"]) == (2000.0, None)
    assert "'broken' could not be run (ZeroDivisionError: division by zero)" in rows["se"]["reason"]


def test_the_interval_is_numpys_percentiles_of_resampled_medians() -> None:
    draw = np.random.default_rng(3)
    under, factor = draw.uniform(1, 2, 25), draw.lognormal(0.2, 0.1, 25)
    found = ratio(list(under * factor), list(under))
    assert found["ratio"] == pytest.approx(np.median(factor))
    medians = np.median(factor[draw.integers(25, size=(20_000, 25))], axis=1)
    # a percentile of 1,999 resamples lies between those of 20,000 four standard errors (0.35 %) below and above
    for end, share in zip(found["interval"], (2.5, 97.5), strict=True):
        assert np.percentile(medians, max(0, share - 1.4)) <= end <= np.percentile(medians, min(100, share + 1.4))
    assert noise({"interval": [0.9, 1.02]}) == pytest.approx(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [6, 10, 30])
def test_intervals_cover_the_true_ratio(rounds: int) -> None:
    """Of medians of log-normal ratios: as often as they claim, or nearly; of six rounds less, which is said."""
    draw, covered, studies = np.random.default_rng(rounds), 0, 1000
    for _ in range(studies):
        values = list(1.2 * draw.lognormal(0, 0.1, rounds))
        low, high = ratio(values, [1.0] * rounds)["interval"]
        covered += low <= 1.2 <= high
    print(rounds, covered / studies)
    assert covered / studies > 0.90 - 3 * (0.1 * 0.9 / studies) ** 0.5


@pytest.mark.parametrize(("dimensions", "layout"), [(2, "contiguous"), (2, "channels_last"), (3, "channels_last")])
def test_batches_and_layouts_are_what_they_say_and_arms_take_turns(dimensions: int, layout: str) -> None:
    Sees.seen.clear()
    networks = {name: Sees(name, dimensions) for name in ("plain", "se")}
    strides = networks["se"].conv.weight.stride()
    example = (torch.zeros(1, 3, *[5] * dimensions),)
    rows, run = time_networks(
        networks, example, Setting(4, "eager", layout), baseline="plain", rounds=6, seconds=1e-3, device=CPU
    )
    last = layout == "channels_last"
    assert {seen[1:] for seen in Sees.seen} == {((4, 3, *[5] * dimensions), last, last)}
    assert networks["se"].conv.weight.stride() == strides
    assert (rows["se"]["batch"], rows["se"]["layout"], run["rounds"]) == (4, layout, 6)
    turns = [name for name, *_ in Sees.seen[4:]]  # behind two trials of each
    visits = [turns[0], *(here for before, here in itertools.pairwise(turns) if here != before)]
    # plain, se, plain again; and backwards; each visit repeats its call, and the last of a round begins the next
    assert visits == ["plain", "se"] * 8 + ["plain"]


def test_a_batch_repeats_one_sample_and_refuses_two() -> None:
    image = torch.rand(1, 2, 3, 3)
    batch, images, flag = repeated((image, [image[0]], True), 3)
    assert torch.equal(batch, image.expand(3, -1, -1, -1))
    assert [torch.equal(one, image[0]) for one in images] == [True] * 3
    assert images[0].data_ptr() != images[1].data_ptr()
    assert flag is True
    for wrong in (torch.zeros(2, 3), [image[0], image[0]]):
        with pytest.raises(OptionError, match="of one sample"):
            repeated((wrong,), 3)


def test_a_copy_has_equal_values_and_leaves_gradients_behind() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    network(torch.rand(2, 3, 5, 5)).sum().backward()
    twin = copied(network, "channels_last", CPU)
    assert all(torch.equal(one, twin.state_dict()[name]) for name, one in network.state_dict().items())
    assert [one.grad for one in twin.parameters()] == [None] * 4
    assert all(one.grad is not None for one in network.parameters())


def test_arms_of_one_class_are_each_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs: list[Any] = []

    def backend(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    networks = {str(width): nn.Sequential(nn.Linear(2, width)) for width in range(1, 13)}
    rows, _ = time_networks(
        networks, (torch.ones(1, 2),), Setting(1, "compiled", "contiguous"),
        baseline="1", rounds=6, seconds=1e-3, device=CPU,
    )  # fmt: skip
    assert len(graphs) == 12  # PyTorch gives up a function that is compiled more than eight times
    assert [row["reason"] for row in rows.values()] == [None] * 12
    functions = [latency.compiled(network)._torchdynamo_orig_callable for network in networks.values()]  # type: ignore[attr-defined]
    assert len({function.__code__ for function in functions}) == 12


def test_a_training_step_has_gradients_momentum_and_the_weights_that_it_had() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).eval()
    weights = [one.detach().clone() for one in network.parameters()]
    step = step_of(network, (torch.rand(4, 2),), lambda net, given: net(*given).square().mean() + net[0].weight.sum())
    step()
    assert network.training
    assert all(torch.equal(one, before) for one, before in zip(network.parameters(), weights, strict=True))
    assert network[0].weight.grad.abs().min() > 0.5
    with pytest.raises(FoveateError, match="no parameter of this network is trainable"):
        step_of(network.requires_grad_(False), (torch.rand(4, 2),), mean_square)


def test_a_detector_needs_its_own_loss() -> None:
    images = repeated(([torch.rand(3, 8, 8)],), 2)
    with pytest.raises(ValueError, match="targets"):
        mean_square(Finds(), images)
    assert detection_loss(Finds(), images).requires_grad
    with pytest.raises(FoveateError, match="no floating-point tensor"):
        mean_square(nn.Identity(), (torch.ones(1, dtype=torch.int64),))


def test_layouts_reach_into_lists_and_leave_what_is_no_batch_of_maps() -> None:
    maps, image = torch.rand(2, 3, 4, 4), torch.rand(3, 4, 4)
    found = laid_out({"maps": (maps,), "images": [image], "more": 1}, "channels_last", CPU)
    assert found["maps"][0].is_contiguous(memory_format=torch.channels_last)
    assert found["images"][0].stride() == image.stride()
    assert found["more"] == 1


def test_a_network_that_fails_says_it_in_one_line() -> None:
    rows, _ = time_networks(
        {"plain": nn.Identity(), "broken": Fails()}, (torch.ones(1, 2),), Setting(1, "eager", "contiguous"),
        baseline="plain", rounds=6, seconds=1e-3, device=CPU,
    )  # fmt: skip
    assert rows["broken"]["reason"] == "RuntimeError: it does not run"
    assert rows["plain"]["median_ms"] > 0
