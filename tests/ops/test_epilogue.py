"""The end of a residual block in one pass, and products that wait for it: the same numbers, whatever comes next."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import foveate
from foveate.errors import FoveateError
from foveate.ops import pending
from foveate.ops.epilogue import gate_add
from foveate.ops.pending import Product, can_wait
from tests.ops.compiled import built, needs_compiler, using

LAYOUTS = (torch.contiguous_format, torch.channels_last)
WEIGHTS = [(2, 3, 1, 1), (2, 1, 4, 5), (2, 3, 4, 5), (1, 1, 1, 1)]


def maps(layout: torch.memory_format = torch.contiguous_format, weights: tuple[int, ...] = (2, 3, 1, 1)):
    generator = torch.Generator().manual_seed(0)
    x, shortcut = (torch.randn(2, 3, 4, 5, generator=generator).contiguous(memory_format=layout) for _ in range(2))
    return x, torch.rand(weights, generator=generator), shortcut


def check(found: Tensor, expected: Tensor, scale: Tensor | None = None):
    """Equal up to one rounding of the product: it is not rounded before the sum where both are computed at once."""
    size = 4.0 if scale is None else float(scale.abs().max())
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    assert found.stride() == expected.stride()
    assert float((found - expected).abs().max()) <= torch.finfo(expected.dtype).eps * size


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_it_is_the_clear_form_with_its_gradients(weights: tuple[int, ...], layout: torch.memory_format, relu: bool):
    given = maps(layout, weights)
    x, factor, shortcut = (one.requires_grad_() for one in given)
    clear = x * factor + shortcut
    clear = torch.relu(clear) if relu else clear
    kept = [one.detach().clone() for one in given]
    with torch.no_grad():
        check(gate_add(x, factor, shortcut, relu=relu), clear)
    found = gate_add(x, factor, shortcut, relu=relu)
    assert torch.equal(found, clear)
    upstream = torch.randn_like(clear)
    expected = torch.autograd.grad(clear, given, upstream)
    for one, other in zip(torch.autograd.grad(found, given, upstream), expected, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=20 * torch.finfo(other.dtype).eps * float(other.abs().max()))
    assert all(torch.equal(one, before) for one, before in zip(given, kept, strict=True))  # nothing is written over


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.double])
def test_it_keeps_the_type(dtype: torch.dtype):
    x, weights, shortcut = (one.to(dtype) for one in maps())
    with torch.no_grad():
        check(gate_add(x, weights, shortcut), torch.relu(x * weights + shortcut))


@pytest.mark.parametrize("other", ["type", "shape", "layout", "rank"])
def test_what_does_not_fit_into_one_pass_is_the_clear_form(other: str):
    x, weights, shortcut = maps()
    shortcut = shortcut.double() if other == "type" else shortcut[:1] if other == "shape" else shortcut
    shortcut = shortcut.contiguous(memory_format=torch.channels_last) if other == "layout" else shortcut
    weights = weights[0] if other == "rank" else weights
    with torch.no_grad():
        found, expected = gate_add(x, weights, shortcut), torch.relu(x * weights + shortcut)
    assert torch.equal(found, expected)
    assert (found.dtype, found.stride()) == (expected.dtype, expected.stride())


def test_it_has_second_derivatives_and_goes_through_graphs():
    given = tuple(one.double().requires_grad_() for one in maps())
    assert torch.autograd.gradcheck(gate_add, given, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(gate_add, given)

    class Block(torch.nn.Module):
        def forward(self, x: Tensor, weights: Tensor, shortcut: Tensor) -> Tensor:
            return gate_add(x, weights, shortcut)

    plain = maps()
    exported = torch.export.export(Block(), plain)
    assert {str(node.target) for node in exported.graph.nodes if node.op == "call_function"} == {
        "aten.mul.Tensor",
        "aten.add.Tensor",
        "aten.relu.default",
    }
    assert torch.equal(torch.fx.symbolic_trace(Block())(*plain), gate_add(*plain))


# what a block may do with what its branch returns: the product y, and the shortcut s
ENDINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sum": lambda y, s: F.relu(y + s),
    "in place": lambda y, s: F.relu(y.add_(s), inplace=True),
    "augmented": lambda y, s: augmented(y, s),
    "reversed": lambda y, s: torch.relu(s + y),
    "into the shortcut": lambda y, s: s.clone().add_(y).relu_(),
    "torch.add": lambda y, s: torch.add(s, y).relu(),
    "scaled": lambda y, s: torch.relu(torch.add(y, s, alpha=0.5)),
    "no relu": lambda y, s: y + s,
    "other activation": lambda y, s: F.silu(y + s),
    "no addition": lambda y, s: torch.relu(y),
    "added twice": lambda y, s: torch.relu(y + s + s),
    "two blocks": lambda y, s: torch.relu(y + s) + torch.relu(y - s),
    "broadcast": lambda y, s: torch.relu(y + s[:1]),
    "a number": lambda y, s: torch.relu(y + 1.0),
    "itself": lambda y, s: torch.relu(y + y),
    "joined": lambda y, s: torch.cat([y, s], 1),
    "aten": lambda y, s: torch.ops.aten.add.Tensor(y, s),
    "shape first": lambda y, s: torch.relu(y.reshape(y.shape[0], -1) + s.reshape(y.size(0), -1)).view(s.shape),
    "seen before": lambda y, s: torch.relu(y + s) * float(y.mean()),
    "indexed": lambda y, s: y[:, 1:] + s[:, 1:],
    "out": lambda y, s: torch.add(y, s, out=torch.empty_like(s)),
}


def augmented(y: Tensor, s: Tensor) -> Tensor:
    before = y
    y += s
    out = F.relu(y, inplace=True)
    assert torch.equal(before + 0, out)  # who held the map before sees what was written into it
    out += 1
    return before + y + out


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_product_that_waits_is_the_product_whatever_comes_next(ending: str, relu: bool):
    x, weights, shortcut = maps()
    with torch.no_grad():
        expected = ENDINGS[ending](x * weights, shortcut)
        found = ENDINGS[ending](Product(x, weights, relu=relu), shortcut) + 0
    check(found, expected, torch.tensor(16.0))
    assert type(found) is Tensor


def test_sum_and_relu_come_in_one_pass_and_leave_the_parts_alone():
    x, weights, shortcut = maps()
    kept = x.clone(), shortcut.clone()
    with torch.no_grad():
        product = Product(x, weights, relu=True)
        total = product + shortcut
        assert product.waiting
        assert isinstance(total, Product)
        assert total.waiting
        assert type(F.relu(total)) is Tensor
        assert total.waiting  # it was not changed: only ReLU's output is made
        check(total + 0, x * weights + shortcut)
        assert not total.waiting
        alone = Product(x, weights, relu=False) + shortcut
        assert type(alone) is Tensor
    assert torch.equal(x, kept[0])
    assert torch.equal(shortcut, kept[1])


def test_a_product_is_copied_and_shown_as_the_tensor_that_it_is():
    x, weights, _ = maps()
    with torch.no_grad():
        expected = x * weights
        for look in (copy.deepcopy, lambda y: torch.from_numpy(y.numpy()), lambda y: y.detach(), lambda y: y.clone()):
            found = look(Product(x, weights, relu=True))
            assert type(found) is Tensor
            assert torch.equal(found, expected)
        product = Product(x, weights, relu=True)
        assert repr(product) == repr(expected)
        assert (product.shape, product.stride(), product.dtype) == (expected.shape, expected.stride(), expected.dtype)
        assert not product.requires_grad


def test_a_source_that_changes_meanwhile_is_an_error_and_never_another_number():
    x, weights, shortcut = maps()
    with torch.no_grad():
        product = Product(x, weights, relu=True)
        x.add_(1)
        with pytest.raises(FoveateError, match="changed in place"):
            torch.relu(product + shortcut)


def test_nothing_waits_where_somebody_looks_on_or_wants_gradients():
    from torch.overrides import TorchFunctionMode
    from torch.utils._python_dispatch import TorchDispatchMode

    x = torch.zeros(1)
    assert not can_wait(x)
    with torch.no_grad():
        assert can_wait(x)
        assert not can_wait(x.to("meta"))
        with TorchFunctionMode():
            assert not can_wait(x)
        with TorchDispatchMode():
            assert not can_wait(x)
        with torch.device("meta"):
            assert not can_wait(x)
    with torch.inference_mode():
        assert can_wait(x)


@needs_compiler
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["channel", "position", "both"])
def test_compiled_it_is_the_same_with_gradients_and_their_gradients(kind: str, layout: torch.memory_format, relu: bool):
    shapes = {"channel": ((2, 3, 1, 1), None), "position": ((2, 1, 4, 5), None), "both": ((2, 1, 4, 5), (2, 3, 1, 1))}
    x, weights, shortcut = maps(layout, shapes[kind][0])
    channel = None if kind != "both" else torch.rand(shapes[kind][1])
    given = [one.requires_grad_() for one in (x, weights, shortcut, channel) if one is not None]
    gated = x if channel is None else x * channel
    clear = gated * weights + shortcut
    clear = torch.relu(clear) if relu else clear
    upstream = torch.randn_like(clear)
    expected = torch.autograd.grad(clear, given, upstream)
    for kernels in built().values():
        with using(kernels):
            with torch.no_grad():
                check(gate_add(x, weights, shortcut, channel=channel, relu=relu), clear)
            found = gate_add(x, weights, shortcut, channel=channel, relu=relu)
            assert "GateAdd" in type(found.grad_fn).__name__
            check(found, clear)
            kept = upstream.clone()
            for graph in (True, False):
                for one, other in zip(
                    torch.autograd.grad(found, given, upstream, create_graph=graph), expected, strict=True
                ):
                    tolerance = 20 * torch.finfo(other.dtype).eps * float(other.abs().max())
                    assert torch.allclose(one, other, rtol=0, atol=tolerance)
            assert torch.equal(upstream, kept)
            # only the shortcut's, and only the map's
            found = gate_add(x.detach(), weights.detach(), shortcut, relu=relu)
            if channel is None:
                assert torch.allclose(torch.autograd.grad(found, shortcut, upstream)[0], expected[2])


@needs_compiler
@pytest.mark.parametrize("attention", ["se", "cbam", "simam", "gather_excite:extent=2,variant=theta_minus", "scse"])
def test_an_optimised_network_on_compiled_operations_trains_and_infers_the_same(
    attention: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pending, "FEW", 0)
    torch.manual_seed(0)
    model = foveate.hosts.build("foveate/resnet20", classes=4)
    foveate.attach(model, attention, start="paper", at="residual")
    for parameter in model.parameters():  # nothing that is zero or one
        with torch.no_grad():
            parameter.add_(0.05 * torch.randn_like(parameter))
    images = torch.randn(2, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    model = model.to(memory_format=torch.channels_last)
    (kernels, *_) = built().values()

    def outcome(network: torch.nn.Module) -> list[Tensor]:
        loss = F.cross_entropy(network.train()(images), torch.tensor([0, 1]))
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        with torch.no_grad():
            return [loss.detach(), *gradients, network.eval()(images)]

    exact = copy.deepcopy(model).double()
    images = images.double()
    truth = outcome(exact)
    images = images.float()
    plain = outcome(copy.deepcopy(model))
    optimised = foveate.optimize(copy.deepcopy(model))
    with using(kernels):
        found = outcome(optimised)
    for one, other, best in zip(found, plain, truth, strict=True):
        size = float(best.abs().max())
        away, usual = (float((tensor - best).abs().max()) for tensor in (one, other))
        # a network magnifies rounding: not farther from float64 than a few times what plain float32 is
        assert away <= 5 * usual + 200 * torch.finfo(torch.float).eps * size


HOLDERS: dict[str, Callable[[Tensor], object]] = {
    "the tensor": lambda x: x,
    "a list": lambda x: [x],
    "a view": lambda x: x[1:],
    "a detached alias": lambda x: x.detach(),
    "another product": lambda x: Product(x, torch.ones(1, 1, 1, 1), relu=True),
    "its memory": lambda x: x.untyped_storage(),
    "another shape of it": lambda x: x.view(-1),
    "an array": lambda x: x.numpy(),
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_a_map_that_somebody_holds_is_not_written_over(holder: str):
    with torch.no_grad():
        x, weights, shortcut = maps()
        kept, address = x.clone(), x.data_ptr()
        held = HOLDERS[holder](x)
        product = Product(x, weights, relu=True)
        if holder != "the tensor":
            del x
        product += shortcut
        found = F.relu(product, inplace=True) + 0
        check(found, torch.relu(kept * weights + shortcut))
        assert product.data_ptr() != address
        if holder == "the tensor":
            assert torch.equal(x, kept)
        if holder == "a list":
            assert torch.equal(held[0], kept)
        if holder == "another product":
            assert torch.equal(held + 0, kept)


def test_a_map_that_nobody_holds_is_written_over():
    with torch.no_grad():
        x, weights, shortcut = maps()
        expected, address = torch.relu(x * weights + shortcut), x.data_ptr()
        product = Product(x, weights, relu=True)
        del x
        product += shortcut
        found = F.relu(product, inplace=True)
        assert (found + 0).data_ptr() != address
        assert found.data_ptr() == address
        check(found + 0, expected)


def test_a_map_that_is_its_own_shortcut_is_not_written_over():
    with torch.no_grad():
        x, weights, _ = maps()
        kept = x.clone()
        product = Product(x, weights, relu=True)
        product += x
        del x
        check(F.relu(product, inplace=True) + 0, torch.relu(kept * weights + kept))
