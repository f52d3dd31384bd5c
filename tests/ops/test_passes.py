"""Mechanisms on compiled operations, and on maps read in passes, against their steps taken one by one."""

from __future__ import annotations

import copy
import itertools
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import foveate
from foveate.measure import count_bytes, count_macs
from foveate.ops.compiled.library import usable
from foveate.ops.graph import watched
from tests.ops.compiled import built, needs_compiler, using

LAYOUTS = (torch.contiguous_format, torch.channels_last)
MECHANISMS = (
    "squeeze_excite",
    "eca",
    "cbam",
    "cbam:pools=max+avg",
    "simam",
    "gather_excite",
    "gather_excite:variant=theta_minus,extent=2",
    "global_context",
    "scse",
    "bam",
)


def made(name: str, channels: int, dtype: torch.dtype, *, identity: bool) -> nn.Module:
    """A mechanism in which nothing is zero or one."""
    torch.manual_seed(1)
    module = foveate.create(name, channels).to(dtype)
    if identity:
        module.start_at_identity()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module


def step_by_step(module: nn.Module) -> nn.Module:
    """A copy that somebody watches: every step is taken, and every map is made."""
    module = copy.deepcopy(module)
    for part in module.modules():
        part.register_forward_hook(lambda *_: None)
    return module


def results(module: nn.Module, x: Tensor, upstream: Tensor) -> list[Tensor]:
    """Output in training, its gradients, and output in evaluation."""
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = module.train()(x)
    with torch.no_grad():
        evaluated = module.eval()(x)
    wanted = [x, *module.parameters()]
    return [y.detach(), *torch.autograd.grad(y, wanted, upstream), evaluated]


def worst(found: list[Tensor], expected: list[Tensor]) -> float:
    """The largest difference, as a share of the largest value of what is compared."""
    return max(
        float((one.double() - other.double()).abs().max() / other.double().abs().max().clamp(min=1e-30))
        for one, other in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize("identity", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(2, 8, 5, 7), (1, 3, 1, 1), (3, 16, 6, 6)])
def test_cbam_in_passes_is_cbam_step_by_step(shape: tuple[int, ...], layout: torch.memory_format, identity: bool):
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.double).contiguous(memory_format=layout)
    module, upstream = made("cbam:reduction=2", shape[1], torch.double, identity=identity), torch.randn_like(x)
    found = results(copy.deepcopy(module), x, upstream)
    assert worst(found, results(step_by_step(module), x, upstream)) < 1e-12  # double: four digits of sums to spare
    assert found[0].is_contiguous(memory_format=layout)


def test_cbam_in_passes_has_second_derivatives():
    module = made("cbam:reduction=2,norm=false", 3, torch.double, identity=True)
    x = torch.randn(2, 3, 3, 2, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(module, (x,))
    assert torch.autograd.gradgradcheck(module, (x,))


def test_passes_write_over_nothing_of_the_callers():
    module = made("cbam", 8, torch.float, identity=True)
    x, upstream = torch.randn(2, 8, 6, 6), torch.randn(2, 8, 6, 6)
    kept = x.clone(), upstream.clone()
    first = results(module, x, upstream)
    assert torch.equal(x, kept[0])
    assert torch.equal(upstream, kept[1])
    x.requires_grad_()
    y = module.eval()(x)
    y += x  # as residual blocks do
    y.backward(upstream, retain_graph=True)
    once = x.grad.clone()
    y.backward(upstream)
    assert torch.equal(x.grad, 2 * once)
    assert len(first) > 2


def test_equal_channels_and_positions_send_the_gradient_to_the_first():
    module = made("cbam:reduction=1", 4, torch.double, identity=False)
    x = torch.ones(1, 4, 3, 3, dtype=torch.double)
    found, expected = (results(one, x, torch.ones_like(x)) for one in (module, step_by_step(module)))
    assert worst(found, expected) < 1e-12


def test_a_hook_on_a_step_sees_the_step():
    module, seen = foveate.create("cbam", 16), []
    handle = module.channel.register_forward_hook(lambda _m, _i, output: seen.append(output))
    x = torch.randn(2, 16, 4, 4)
    y = module(x)
    handle.remove()
    assert seen[0].shape == x.shape
    assert torch.allclose(y, module(x), atol=1e-6)
    assert not watched(*module.modules())


@needs_compiler
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", MECHANISMS)
def test_compiled_operations_change_rounding_only(name: str, layout: torch.memory_format):
    torch.manual_seed(0)
    for shape, identity, kernels in itertools.product([(2, 16, 8, 8), (1, 20, 16, 4)], (False, True), built().values()):
        x = torch.randn(shape).contiguous(memory_format=layout)
        module, upstream = made(name, shape[1], torch.float, identity=identity), torch.randn_like(x)
        with using(kernels):
            assert usable(x) is kernels
            found = results(copy.deepcopy(module), x, upstream)
        plain = results(copy.deepcopy(module), x, upstream)
        exact = results(copy.deepcopy(module).double(), x.double(), upstream.double())
        # not farther from float64 than four times what plain float32 is, or than a hundred roundings
        assert worst(found, exact) <= max(4 * worst(plain, exact), 100 * torch.finfo(torch.float).eps)
        assert found[0].is_contiguous(memory_format=layout)


@needs_compiler
@pytest.mark.parametrize("name", [name for name in MECHANISMS if "cbam" not in name])
def test_compiled_operations_in_half_precision(name: str):
    torch.manual_seed(0)
    (kernels, *_) = built().values()
    for layout in LAYOUTS:
        x = torch.randn(2, 16, 8, 8).bfloat16().contiguous(memory_format=layout)
        module, upstream = made(name, 16, torch.bfloat16, identity=True), torch.randn_like(x)
        exact = results(copy.deepcopy(module).double(), x.double(), upstream.double())
        plain = results(copy.deepcopy(module), x, upstream)
        with using(kernels):
            found = results(module, x, upstream)
        for one, other, truth in zip(found, plain, exact, strict=True):
            assert one.dtype == other.dtype
            # eight bits: not farther from float64 than twice what plain half precision is, or than four roundings
            assert worst([one], [truth]) <= max(2 * worst([other], [truth]), 4 * 2.0**-8)


@needs_compiler
def test_compiled_cbam_in_half_precision_is_nearer_to_full():
    torch.manual_seed(0)
    (kernels, *_) = built().values()
    x = torch.randn(2, 16, 8, 8).bfloat16()
    module = made("cbam", 16, torch.bfloat16, identity=False).eval()
    with torch.no_grad():
        exact = copy.deepcopy(module).double()(x.double())
        with using(kernels):
            found = module(x)
        assert worst([found], [exact]) <= max(worst([module(x)], [exact]), 4 * 2.0**-8)


@needs_compiler
@pytest.mark.parametrize("name", MECHANISMS)
def test_compiled_operations_are_not_there_for_those_who_count_capture_or_look(name: str):
    (kernels, *_) = built().values()
    module, x = made(name, 16, torch.float, identity=False).eval(), torch.randn(2, 16, 8, 8)
    expected = count_bytes(module, x), count_macs(module, x)
    with torch.no_grad():
        y = module(x)
        with using(kernels):
            assert (count_bytes(module, x), count_macs(module, x)) == expected
            captured = torch.compile(module, fullgraph=True, backend="aot_eager")
            assert torch.allclose(captured(x), y, atol=1e-5)
            assert torch.allclose(torch.func.vmap(module)(x[:, None]).squeeze(1), y, atol=1e-5)
            with foveate.record(nn.Sequential(module)) as maps:
                pass
            seen: list[Any] = []
            points = foveate.attention.maps_of(module).values()
            handles = [point.register_forward_hook(lambda *args: seen.append(args[2])) for point in points]
            module(x)
            for handle in handles:
                handle.remove()
            assert len(seen) == len(handles)
        assert maps is not None


@needs_compiler
def test_compiled_operations_have_second_derivatives():
    (kernels, *_) = built().values()
    for name in MECHANISMS:
        module = made(name, 4, torch.float, identity=False).eval()
        x = torch.randn(2, 4, 6, 6, requires_grad=True)
        found = []
        for context in (using(kernels), nullcontext()):
            with context:
                (first,) = torch.autograd.grad(module(x).square().sum(), x, create_graph=True)
                (second,) = torch.autograd.grad(first.square().sum(), x)
            found.append([first.detach(), second])
        assert worst(found[0], found[1]) < 1e-3, name  # float32, through a variance and its square
