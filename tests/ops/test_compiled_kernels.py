"""Every compiled operation against float64 PyTorch: instruction sets, threads, layouts, types, awkward shapes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from foveate.ops.compiled import calls, library
from tests.ops.compiled import SETS, built, needs_compiler, threads

pytestmark = needs_compiler
# rows and columns of one, of less than a vector, of a vector and a bit, of several blocks
SHAPES = [(2, 3, 5, 7), (1, 17, 9, 9), (3, 64, 14, 14), (1, 1, 1, 1), (2, 33, 1, 1), (4, 300, 8, 4), (1, 5, 40, 33)]
LAYOUTS = (torch.contiguous_format, torch.channels_last)
EPS = torch.finfo(torch.float32).eps


@pytest.fixture(params=SETS)
def kernels(request: pytest.FixtureRequest) -> library.Kernels:
    if request.param not in built():
        pytest.skip(f"this processor does not run {request.param}")
    return built()[request.param]


def cases(seed: int = 0) -> Iterator[tuple[Tensor, torch.memory_format]]:
    torch.manual_seed(seed)
    every = itertools.product(SHAPES, LAYOUTS, (torch.float32, torch.bfloat16))
    for number, (shape, layout, dtype) in enumerate(every):
        with threads(1 + (number + seed + number // 4) % 2):
            yield torch.randn(shape).to(dtype).contiguous(memory_format=layout), layout


def like(x: Tensor) -> Tensor:
    layout = torch.contiguous_format if x.is_contiguous() else torch.channels_last
    return torch.randn(x.shape).to(x.dtype).contiguous(memory_format=layout)


def close(found: Tensor, expected: Tensor, magnitude: Tensor, terms: float) -> None:
    """Within the rounding of so many float32 terms of a magnitude, and of the result where it is half precision.

    Values, not relative: a sum may cancel. ``terms`` counts roundings in the longest chain, products included.
    """
    assert found.shape == expected.shape
    bound = terms * EPS * magnitude + EPS
    if found.dtype == torch.bfloat16:
        bound = bound + expected.abs() * 2.0**-8
    excess = ((found.double() - expected).abs() - bound).max().item()
    assert excess <= 0, excess


def test_sums_and_extremes_of_channels_and_positions(kernels: library.Kernels):
    for x, _ in cases():
        full, count = x.double(), x[0, 0].numel()
        weights = torch.rand(x.shape[0], x.shape[1], 1, 1).to(x.dtype)
        spread = full.abs().mean((2, 3))
        close(calls.global_means(kernels, x), full.mean((2, 3)), spread, count)
        most, mean, where = calls.global_extremes(kernels, x, where=True)
        assert torch.equal(most.double(), full.amax((2, 3)))
        close(mean, full.mean((2, 3)), spread, count)
        assert torch.equal(where.long(), full.flatten(2).argmax(2))
        product = (x.float() * weights.float()).double()  # as the machine has it: the first of equal ones is the same
        most, mean, where = calls.channel_extremes(kernels, x, weights, where=True)
        assert torch.equal(most.double(), product.amax(1))
        close(mean, product.mean(1), product.abs().mean(1), x.shape[1])
        assert torch.equal(where.long(), product.argmax(1))
        position = torch.rand(x.shape[0], 1, *x.shape[2:]).to(x.dtype)
        terms = full * position.double()
        close(calls.weighted_sums(kernels, x, position), terms.sum((2, 3)), terms.abs().sum((2, 3)), count + 1)
        terms = full * weights[:1].double()
        found = calls.channel_sums(kernels, x, weights[0].flatten())
        close(found, terms.sum(1), terms.abs().sum(1), x.shape[1] + 1)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_equal_values_and_what_is_no_number(kernels: library.Kernels, layout: torch.memory_format):
    ones = torch.ones(1, 1, 1, 1)
    for bad in (float("nan"), float("inf"), -float("inf")):
        x = torch.randn(2, 70, 6, 7)
        x[0, 5, 2, 3] = x[0, 40, 2, 3] = x[1, 69, 5, 6] = x[1, 69, 0, 0] = bad
        x[1, :, 1, 1] = -float("inf")  # a column that has nothing else
        x = x.contiguous(memory_format=layout)
        most, mean, where = calls.global_extremes(kernels, x, where=True)
        expected = x.flatten(2).max(2)
        assert torch.equal(most.nan_to_num(7e7), expected.values.nan_to_num(7e7))
        assert torch.equal(where.long(), x.flatten(2).argmax(2))
        assert torch.equal(mean.isnan(), x.mean((2, 3)).isnan())
        most, _, where = calls.channel_extremes(kernels, x, ones.expand(2, 70, 1, 1), where=True)
        assert torch.equal(most.nan_to_num(7e7), x.amax(1).nan_to_num(7e7))
        assert torch.equal(where.long(), x.argmax(1))
        relu = calls.gated(kernels, x, None, None, None, True)
        assert torch.equal(relu.isnan(), x.isnan())
    x = torch.zeros(1, 40, 5, 5).contiguous(memory_format=layout)
    assert not calls.global_extremes(kernels, x, where=True)[2].any()
    assert not calls.channel_extremes(kernels, x, torch.ones(1, 40, 1, 1), where=True)[2].any()


def test_half_precision_rounds_to_the_nearest_and_keeps_what_is_no_number(kernels: library.Kernels):
    torch.manual_seed(0)
    bits = torch.randint(-(2**31), 2**31 - 1, (1, 3, 61, 61), dtype=torch.int32)
    bits[..., ::2] = bits[..., ::2] & ~0xFFFF | 0x8000  # as near to one as to the other
    exact = bits.view(torch.float32)
    exact[0, 0, 0, :4] = torch.tensor([float("nan"), float("inf"), -float("inf"), 3.4e38])
    shortcut = torch.zeros_like(exact).bfloat16()
    position = exact[:, :1]  # ones times a weight of full precision: what is rounded is the weight
    found = calls.gated(kernels, torch.ones_like(shortcut), None, position, None, False)
    expected = position.expand_as(exact).bfloat16()
    assert torch.equal(found.view(torch.int16)[~expected.isnan()], expected.view(torch.int16)[~expected.isnan()])
    assert torch.equal(found.isnan(), expected.isnan())


def test_gates_shortcuts_and_the_way_back(kernels: library.Kernels):
    for x, _ in cases(1):
        channel = torch.rand(x.shape[0], x.shape[1], 1, 1).to(x.dtype)
        position = torch.rand(x.shape[0], 1, *x.shape[2:]).to(x.dtype)
        shortcut, upstream = like(x), like(x)
        for by_channel, by_position, added, relu in itertools.product((False, True), repeat=4):
            c, p, s = (
                (channel if by_channel else None),
                (position if by_position else None),
                (shortcut if added else None),
            )
            wide = [one.double() if one is not None else torch.ones(()) for one in (c, p)]
            y = calls.gated(kernels, x, c, p, s, relu)
            expected = x.double() * wide[0] * wide[1] + (s.double() if s is not None else 0)
            close(y, expected.relu() if relu else expected, x.double().abs() + shortcut.double().abs(), 4)
            through = upstream.double() * (y > 0) if relu else upstream.double()
            dx, dc, dp, ds = calls.gated_back(
                kernels, upstream, x, c, p, y if relu else None, of_shortcut=relu and added
            )
            close(dx, through * wide[0] * wide[1], through.abs(), 3)
            terms = through * x.double()
            if dc is not None:
                of_channel = terms * wide[1]
                close(
                    dc, of_channel.sum((2, 3), keepdim=True), of_channel.abs().sum((2, 3), keepdim=True),
                    x[0, 0].numel() + 3,
                )  # fmt: skip
            if dp is not None:
                of_position = terms * wide[0]
                close(
                    dp, of_position.sum(1, keepdim=True), of_position.abs().sum(1, keepdim=True), x.shape[1] + 3
                )  # fmt: skip
            if ds is not None:
                assert torch.equal(ds.double(), through)


def test_extremes_of_channels_come_back_into_a_gradient_that_is_there(kernels: library.Kernels):
    for x, layout in cases(2):
        channel = torch.rand(x.shape[0], x.shape[1], 1, 1).to(x.dtype)
        where = calls.channel_extremes(kernels, x, channel, where=True)[2]
        of_max, of_mean = torch.randn(where.shape), torch.randn(where.shape)
        into = like(x)
        share = (of_mean.double() / x.shape[1]).unsqueeze(1).expand(x.shape).clone()
        share.scatter_add_(1, where.long().unsqueeze(1), of_max.double().unsqueeze(1))
        expected = into.double() + share * channel.double()
        found = calls.channel_extremes_back(kernels, of_max, of_mean, where, x, channel, into)
        magnitude = into.double().abs() + share.abs() + of_mean.double().abs().unsqueeze(1)
        close(into, expected, magnitude, 4)
        terms = share * x.double()
        bound = terms.abs().sum((2, 3), keepdim=True) + magnitude.amax((2, 3), keepdim=True)
        close(found, terms.sum((2, 3), keepdim=True), bound, x[0, 0].numel() + 4)
        assert into.is_contiguous(memory_format=layout)


def test_deviations_gate_and_come_back(kernels: library.Kernels):
    for x, _ in cases(3):
        upstream, full = like(x), x.double().requires_grad_()
        squares = (full - full.mean((2, 3), keepdim=True)).square()
        variance = squares.sum((2, 3), keepdim=True) / max(1, x[0, 0].numel() - 1)
        y = full * torch.sigmoid(squares / (4 * (variance + 0.1)) + 0.5)
        (expected,) = torch.autograd.grad(y, full, upstream.double())
        # a chain of a mean, a variance (both as long as the map), an exponential of 2 ulp, and eight products
        terms = 2 * x[0, 0].numel() + 20
        close(calls.deviations_gated(kernels, x, 0.1), y.detach(), full.detach().abs() + 1, terms)
        largest = upstream.double().abs().amax() * (1 + full.detach().abs().amax()) ** 2
        close(calls.deviations_gated_back(kernels, upstream, x, 0.1), expected, largest.expand_as(expected), terms)


def test_neighbourhoods(kernels: library.Kernels):
    for x, _ in cases(4):
        height, width = x.shape[2:]
        upstream = like(x)
        for rows, columns in {(1, 1), (height, width), (height, 1), (max(1, height // 2) if height % 2 == 0 else 1, 1)}:
            full = x.double().requires_grad_()
            weights = torch.rand(*x.shape[:2], rows, columns).to(x.dtype)
            wide = weights.double().requires_grad_()
            y = full * F.interpolate(wide, size=(height, width), mode="nearest")
            of_map, of_weights = torch.autograd.grad(y, (full, wide), upstream.double())
            close(calls.nearest_gated(kernels, x, weights), y.detach(), full.detach().abs(), 2)
            found = calls.nearest_gated_back(kernels, upstream, x, weights)
            close(found[0], of_map, upstream.double().abs(), 2)
            cell = (height // rows) * (width // columns)
            terms = F.avg_pool2d((upstream.double() * x.double()).abs(), (height // rows, width // columns)) * cell
            close(found[1], of_weights, terms, cell + 1)
        if not x.is_contiguous():
            continue
        for extent in (2, 4, 8):
            full = x.double().requires_grad_()
            y = F.avg_pool2d(full, 2 * extent - 1, extent, padding=extent - 1, count_include_pad=False)
            found = calls.neighbourhood_means(kernels, x, extent)
            close(found, y.detach(), full.detach().abs().amax((2, 3), True), (2 * extent) ** 2)
            back = torch.randn(y.shape)
            (expected,) = torch.autograd.grad(y, full, back.double())
            found = calls.neighbourhood_means_back(kernels, back, x, extent)
            close(found, expected, back.double().abs().amax((2, 3), True), 16)


def test_the_sigmoid_is_exact_to_a_few_units_in_the_last_place(kernels: library.Kernels):
    logits = torch.linspace(-87, 87, 60)
    x = torch.ones(1, 60, 1, 1)
    # one hidden unit that is one, so that the second layer's weights are the logits
    first = torch.full((1, 60), 1 / 60), torch.zeros(1)
    found = calls.squeeze_gated(kernels, x, first, (logits[:, None].contiguous(), None), None).flatten().double()
    expected = torch.sigmoid(logits.double())
    # the unit itself is rounded, which moves a logit by its own size times that
    assert ((found - expected).abs() <= (4 + 2 * logits.abs()) * EPS * expected).all()


def test_a_gate_from_means_through_two_layers(kernels: library.Kernels):
    for (x, _), hidden, bias, blended in zip(
        cases(5), itertools.cycle((1, 5, 40)), itertools.cycle((True, False)), itertools.cycle((True, True, False))
    ):
        if x.dtype != torch.float32:
            continue
        channels = x.shape[1]
        first, second = torch.nn.Linear(channels, hidden, bias=bias), torch.nn.Linear(hidden, channels, bias=bias)
        blend = torch.tensor([0.7]) if blended else None
        parts = (first.weight.detach(), first.bias), (second.weight.detach(), second.bias)
        found = calls.squeeze_gated(kernels, x, *parts, blend)
        mean = x.double().mean((2, 3))
        gates = torch.sigmoid(second.double()(torch.relu(first.double()(mean)))).detach()
        gates = gates if blend is None else 1 + 0.7 * (gates - 1)
        # a mean, two products, a sigmoid; the layers' weights are below one over the root of their inputs
        terms = x[0, 0].numel() + channels + hidden + 20
        close(found, x.double() * gates[:, :, None, None], x.double().abs() * (1 + mean.abs().amax()), terms)
