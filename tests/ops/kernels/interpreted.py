"""Kernels run by Triton's interpreter, on the CPU: `test_gpu.py` runs this file in a process of its own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from foveate.ops import gpu
from foveate.ops.gpu import cells, launch, planes, products, statistics, summary
from foveate.ops.gpu.launch import quotient
from tests.ops.kernels.cases import FULL, REGULARISER, Case, cases, pooled, standard

LAYOUTS = (torch.contiguous_format, torch.channels_last)
TYPES = (torch.float32, torch.bfloat16, torch.float16)
# one position, one channel, odd sides, more channels than positions, and none a power of two
SHAPES = [(1, 1, 1, 1), (2, 3, 1, 1), (1, 1, 5, 3), (2, 5, 3, 7), (1, 19, 2, 9)]
CASES = cases()
# roundings in float32 that one term meets on its way into a sum: products, a tree over a tile, tiles, spans
ROUNDINGS = 32


@pytest.fixture(autouse=True)
def memory_full_of_nan():
    """Results that a kernel does not write are not numbers, and integers are the largest."""
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    assert torch.empty(9).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch):
    """Tiles so small that a tiny map has many, and programs take several."""
    for module in (launch, planes, summary):
        monkeypatch.setattr(module, "TILE", 8)
    monkeypatch.setattr(launch, "PROGRAMS", 3)


def uniform(shape: tuple[int, ...], dtype: torch.dtype, layout: torch.memory_format) -> Tensor:
    """Between -1 and 1, laid out so if it is an image."""
    x = torch.rand(shape).mul(2).sub(1).to(dtype)
    return (x.contiguous(memory_format=layout) if len(shape) == 4 else x).requires_grad_()


def inputs_of(case: Case, shape: tuple[int, ...], dtype: torch.dtype, layout: torch.memory_format) -> list[Tensor]:
    return [uniform(each, dtype, layout) for each in (shape, *case.shapes(*shape))]


def results(case: Case, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    """What is found, without indices and what else only the way back needs."""
    found = case.call(*inputs)
    return found[: case.results] if isinstance(found, tuple) else (found,)


def right(case: Case, inputs: list[Tensor]) -> tuple[tuple[Tensor, ...], list[Tensor]]:
    """What is right in float64, and what it was made from."""
    doubles = [one.detach().double().requires_grad_() for one in inputs]
    expected = case.reference(*doubles)
    return expected if isinstance(expected, tuple) else (expected,), doubles


def close(found: tuple[Tensor, ...], expected: tuple[Tensor, ...], size: float) -> None:
    """Equal to rounding: sums in float32 of terms whose absolute values add up to a size, then the result's type."""
    single = torch.finfo(torch.float32).eps
    for one, other in zip(found, expected, strict=True):
        info = torch.finfo(one.dtype)
        bound = info.eps * other.abs() + info.smallest_normal * info.eps + ROUNDINGS * single * size
        assert one.shape == other.shape
        assert not one.isnan().any()
        assert bool(((one.double() - other).abs() <= bound).all()), float((one.double() - other).abs().max())


def check(case: Case, shape: tuple[int, ...], dtype: torch.dtype, layout: torch.memory_format) -> None:
    inputs = inputs_of(case, shape, dtype, layout)
    found, (expected, doubles) = results(case, inputs), right(case, inputs)
    close(found, expected, case.size(*shape))
    for one in found:
        assert one.dtype == dtype or one.dtype == torch.float32
        assert one.shape != shape or one.stride() == inputs[0].stride()
    upstream = [uniform(tuple(one.shape), one.dtype, LAYOUTS[0]).detach() for one in found]  # not always the map's
    gradients = torch.autograd.grad(found, inputs, upstream)
    wanted = torch.autograd.grad(expected, doubles, [one.double() for one in upstream])
    assert [one.dtype for one in gradients] == [dtype] * len(inputs)
    close(gradients, wanted, case.size(*shape))


@pytest.mark.parametrize("layout", LAYOUTS, ids=["first", "last"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_many_small_tiles(case: Case, shape: tuple[int, ...], layout: torch.memory_format, small: None):
    check(case, shape, torch.float32, layout)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_tiles_as_they_are(case: Case, dtype: torch.dtype):
    for layout in LAYOUTS:
        check(case, (2, 5, 3, 7), dtype, layout)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_signals_and_volumes(case: Case):
    if "nearest" not in case.name:
        for shape in ((2, 3, 7), (1, 3, 2, 3, 2)):
            check(case, shape, torch.float32, LAYOUTS[0])


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_what_is_not_a_number_goes_where_it_goes_in_pytorch(case: Case, small: None):
    shape = (2, 3, 4, 5)
    for dtype in (torch.float32, torch.bfloat16):
        inputs = inputs_of(case, shape, dtype, LAYOUTS[0])
        with torch.no_grad():
            inputs[0][1, 1, 2, 2] = inputs[0][1, 1, 3, 0] = float("nan")
            inputs[0][0, 2, 0, 1] = float("inf")
        found, (expected, _) = results(case, inputs), right(case, inputs)
        for one, other in zip(found, expected, strict=True):
            assert torch.equal(one.isnan(), other.isnan())
            assert torch.equal(one.isinf(), other.isinf())
        assert any(one.isnan().any() for one in found)


@pytest.mark.parametrize("layout", LAYOUTS, ids=["first", "last"])
def test_of_equal_maxima_the_first_gets_the_gradient(layout: torch.memory_format, small: None):
    few = torch.rand(2, 7, 3, 6).mul(3).round().contiguous(memory_format=layout)
    few[0, 3] = few[0, 5] = float("-inf")
    few[1, :, 2] = float("-inf")
    few[1, 2, 0, 3] = few[1, 2, 0, 5] = float("nan")
    for channels in (False, True):
        x = few.clone().requires_grad_()
        top, _, index = statistics.extremes(x, None, channels)
        dim = 1 if channels else 2
        first = torch.from_numpy(few.flatten(2).numpy().argmax(dim))
        assert torch.equal(index.long(), first)
        (gradient,) = torch.autograd.grad(top, x, torch.ones_like(top))
        expected = torch.zeros_like(few.flatten(2)).scatter(dim, first.unsqueeze(dim), 1.0)
        assert torch.equal(gradient.flatten(2), expected)


def test_borders_of_cells_are_pytorchs_where_it_rounds():
    case = next(case for case in CASES if case.name == "nearest 1/3")
    sides = [side for side in range(2, 400) if moved(side, quotient(side, 3))]
    assert sides
    for side in sides[:2]:
        check(case, (1, 1, side, 1), torch.float32, LAYOUTS[0])
        check(case, (1, 1, 1, side), torch.float32, LAYOUTS[0])


def moved(side: int, few: int) -> bool:
    """Whether a position is in another cell than whole numbers say."""
    rounded = (torch.arange(side) * (torch.tensor(few) / torch.tensor(side))).floor().long()
    return not torch.equal(rounded, torch.arange(side) * few // side)


def test_logits_out_of_range_are_a_softmax_still(small: None):
    x = torch.rand(1, 3, 4, 5).sub(0.5)
    weight = torch.full((3,), 1e4)
    found = summary.context(x, weight)[0]
    close((found,), (pooled(x.double(), weight.double()),), 1e4)
    x[0, 0, :2], x[0, 0, 3] = float("-inf"), 1.0  # whole tiles of positions that get nothing
    assert torch.equal(summary.context(x, weight)[0].isnan(), pooled(x.double(), weight.double()).isnan())


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_second_derivatives_are_those_of_the_plain_form(case: Case):
    inputs = inputs_of(case, (2, 3, 2, 3), torch.float32, LAYOUTS[0])
    expected, doubles = right(case, inputs)
    second: list[tuple[Tensor, ...]] = []
    for found, given in ((results(case, inputs), inputs), (expected, doubles)):
        cubes = sum((one.double() + 1).pow(3).sum() for one in found)  # steep at zero too
        first = torch.autograd.grad(cubes, given, create_graph=True)
        second.append(torch.autograd.grad(sum(one.double().square().sum() for one in first), given))
    for one, other in zip(*second, strict=True):
        assert torch.allclose(one.double(), other, rtol=1e-3, atol=1e-4 * case.size(2, 3, 2, 3))


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_only_what_is_wanted_is_given(case: Case):
    inputs = inputs_of(case, (1, 2, 2, 3), torch.float32, LAYOUTS[0])
    found = results(case, inputs)
    loss = sum(one.sum() for one in found)  # from above comes one number, repeated
    everything = torch.autograd.grad(loss, inputs, retain_graph=True)
    for wanted, expected in zip(inputs, everything, strict=True):
        apart = [one.detach().requires_grad_(one is wanted) for one in inputs]
        sum(one.sum() for one in results(case, apart)).backward()
        for one in apart:
            assert one.grad is None or torch.equal(one.grad, expected)


@pytest.mark.parametrize("name", FULL)
def test_operators_keep_pytorchs_rules(name: str):
    (case,) = (case for case in CASES if case.name == name)
    operators = (products.apply, statistics.extremes, planes.standardise, cells.apply, summary.context)
    backwards = (products.backward, statistics.backward, planes.backward, cells.backward, summary.backward)
    inputs = inputs_of(case, (2, 3, 2, 5), torch.float32, LAYOUTS[1])
    with Recording(operators + backwards) as calls:
        found = results(case, inputs)
        torch.autograd.grad(found, inputs, [torch.ones_like(one) for one in found])
    assert len(calls) == 2
    for operator, arguments in calls:
        utilities = ("test_schema", "test_autograd_registration", "test_faketensor")
        if operator in backwards:
            arguments = tuple(one.detach() if isinstance(one, Tensor) else one for one in arguments)
        opcheck(operator, arguments, test_utils=utilities)


class Recording(torch.utils._python_dispatch.TorchDispatchMode):
    """Calls of some operators, as PyTorch sees them."""

    def __init__(self, operators: tuple[object, ...]) -> None:
        super().__init__()
        self.known = {one._opoverload: one for one in operators}
        self.calls: list[tuple[object, tuple[object, ...]]] = []

    def __enter__(self):
        super().__enter__()
        return self.calls

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in self.known:
            self.calls.append((self.known[func], args))
        return func(*args, **(kwargs or {}))


@pytest.fixture
def at_hand(monkeypatch: pytest.MonkeyPatch):
    """The CPU is taken for a GPU."""
    monkeypatch.setattr(gpu, "DEVICE", "cpu")
    monkeypatch.setattr(gpu, "_enabled", True)


def test_each_entry_is_its_operation(at_hand: None):
    layout = LAYOUTS[1]
    x, shortcut = uniform((2, 3, 4, 6), torch.float32, layout), uniform((2, 3, 4, 6), torch.float32, LAYOUTS[0])
    channel, shared, position, coarse = (
        uniform(shape, torch.float32, LAYOUTS[0]) for shape in ((2, 3, 1, 1), (1, 3, 1, 1), (2, 1, 4, 6), (2, 3, 2, 3))
    )
    whole, each = x * channel, coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)
    for _ in range(2):  # a family of kernels that is loaded must not take a function's name
        for found, expected in (
            (gpu.gate(x, channel), whole),
            (gpu.gate(x, shared), x * shared),
            (gpu.gate(x, position), x * position),
            (gpu.gates(x, channel, position), whole * position),
            (gpu.gate_add(x, channel, shortcut), torch.relu(whole + shortcut)),
            (gpu.gate_add(x, position, shortcut, relu=False), x * position + shortcut),
            (gpu.max_and_mean(x, 1), (x.amax(1), x.mean(1))),
            (gpu.max_and_mean(x, 1, channel), (whole.amax(1), whole.mean(1))),
            (gpu.global_max_and_mean(x), (x.amax((2, 3)), x.mean((2, 3)))),
            (gpu.standardised_squares(x, REGULARISER), standard(x)),
            (gpu.standardised_gate(x, REGULARISER, 0.25, 0.5), x * torch.sigmoid(standard(x) / 4 + 0.5)),
            (gpu.gate_nearest(x, coarse), x * each),
            (gpu.global_context(x, shared), pooled(x, shared.flatten())),
        ):
            assert found is not None
            found, expected = (one if isinstance(one, tuple) else (one,) for one in (found, expected))
            close(found, tuple(one.double() for one in expected), 24)
            wanted = [one for one in (x, channel, shared, position, coarse, shortcut) if depends(expected, one)]
            upstream = [torch.rand_like(one) for one in expected]
            gradients = torch.autograd.grad(found, wanted, upstream)
            right_ones = torch.autograd.grad(expected, wanted, upstream, retain_graph=True)
            close(gradients, tuple(one.double() for one in right_ones), 100)


def depends(results: tuple[Tensor, ...], on: Tensor) -> bool:
    return (
        torch.autograd.grad(sum(one.sum() for one in results), on, retain_graph=True, allow_unused=True)[0] is not None
    )


def test_entries_leave_to_the_plain_form_what_kernels_cannot(at_hand: None, monkeypatch: pytest.MonkeyPatch):
    x, channel = torch.rand(2, 3, 4, 6), torch.rand(2, 3, 1, 1)
    assert gpu.gate(x, torch.rand(2, 3, 4, 1)) is None
    assert gpu.gate(x, torch.rand(3, 1, 1)) is None
    assert gpu.gate(x, channel.half()) is None
    assert gpu.gates(x, channel, channel) is None
    assert gpu.gate_add(x, channel, x[:1]) is None
    assert gpu.gate_add(x, channel, x.half()) is None
    assert gpu.max_and_mean(x, 2) is None
    assert gpu.max_and_mean(x, 1, torch.rand(2, 1, 4, 6)) is None
    assert gpu.gate_nearest(x, torch.rand(2, 3, 8, 6)) is None
    assert gpu.gate_nearest(x, torch.rand(2, 1, 2, 3)) is None
    for module in (planes, summary):
        monkeypatch.setattr(module, "AXIS", 31)  # 24 positions are held as 32, three channels of 8 of them as well
    assert gpu.standardised_squares(x, 0.1) is None
    assert gpu.standardised_gate(x, 0.1, 1.0, 0.0) is None
    assert gpu.global_context(x, torch.rand(1, 3, 1, 1)) is None
    assert gpu.standardised_squares(x[:, :, :2].contiguous(), 0.1) is not None
    beside = x[:, :, :2].contiguous(memory_format=torch.channels_last)
    assert gpu.standardised_squares(beside, 0.1) is None  # four planes at once, for their channels lie side by side
    assert gpu.global_context(beside, torch.rand(1, 3, 1, 1)) is not None
