"""Maps weighted by how a score depends on them: the positive part of weights times their gradient."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import foveate
from foveate import hosts
from foveate.attention import maps_of
from foveate.errors import FoveateError


def attended(spec: str = "cbam", *, frozen: bool = False) -> nn.Module:
    torch.manual_seed(0)
    model = foveate.attach(
        hosts.build("foveate/resnet8", classes=10), spec, start="paper", example=torch.zeros(1, 3, 32, 32)
    )
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model.requires_grad_(not frozen).eval()


def images(count: int = 3, side: int = 32) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


class Dense:
    """A relation by its whole matrix, which has a gradient."""

    def __init__(self, weights: Tensor, size: tuple[int, ...]) -> None:
        self.weights, self.size = weights, size

    def mix(self, value: Tensor) -> Tensor:
        if len(self.size) == 1:
            return torch.einsum("bst,bshw->bthw", self.weights, value)
        return torch.einsum("bst,bks->bkt", self.weights, value.flatten(2)).reshape(value.shape)


def by_leaves(model: nn.Module, x: Tensor, score: Any) -> list[Tensor]:
    """The same by brute force: each map in turn is a leaf of its own, all pairs of it."""
    leaves: list[Tensor] = []

    def act(_: Any, __: Any, output: Any) -> Any:
        leaves.append((output if isinstance(output, Tensor) else output.dense()).detach().requires_grad_())
        return leaves[-1] if isinstance(output, Tensor) else Dense(leaves[-1], output.size)

    found: list[Tensor] = []
    for point in maps_of(model).values():
        handle = point.register_forward_hook(act)
        (gradient,) = torch.autograd.grad(score(model(x)), leaves[-1:])
        handle.remove()
        found.append((leaves[-1] * gradient).clamp_min(0).detach())
    return found


def third(scores: Tensor) -> Tensor:
    return scores[:, 3].sum()


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("spec", ["cbam", "psanet", "danet_position", "danet_channel", "criss_cross"])
def test_against_every_pair_as_a_leaf(spec: str, frozen: bool) -> None:
    # double precision, because in float32 another order of sums puts some unit on the other side of its ReLU
    model, x = attended(spec, frozen=frozen).double(), images(2, 16).double()
    for name, parameter in model.named_parameters():
        if name.endswith("gamma"):
            nn.init.constant_(parameter, 0.5)
    with torch.no_grad():
        plain = model(x)
    with foveate.record(model, gradients=True) as maps:
        scores = model(x)
    assert torch.equal(scores, plain)
    maps.differentiate(scores[:, 3])
    points = list(maps_of(model).values())
    expected = by_leaves(model, x, third)
    assert len(maps) == len(points)
    # what is kept is float32: products of three such numbers, and sums of a few dozen
    for one, wanted in zip(maps, (wanted.float() for wanted in expected), strict=True):
        close: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-6 * float(wanted.max())}
        weighted = one.weighted()
        torch.testing.assert_close(weighted.values, wanted, **close)
        assert (weighted.place, weighted.step, weighted.axes, weighted.size) == (
            one.place, one.step, one.axes, one.size
        )  # fmt: skip
        if one.size is not None:
            torch.testing.assert_close(weighted.received().flatten(1), wanted.mean(2), **close)
        if one.size is not None and len(one.size) == 2:
            number = 1 * one.size[1] + 1
            torch.testing.assert_close(weighted.attends_to(1, 1).flatten(1), wanted[:, :, number], **close)
            torch.testing.assert_close(weighted.attended_by(1, 1).flatten(1), wanted[:, number], **close)
    assert any(float(wanted.max()) > 0 for wanted in expected)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in model.modules())
    assert [parameter.requires_grad for parameter in model.parameters()] == [not frozen] * len(list(model.parameters()))


def test_a_closed_form() -> None:
    """Of a gate before a mean and a linear layer, the gradient is the feature's mean times the layer's weight."""
    torch.manual_seed(0)
    gate, head = foveate.create("se", 32), nn.Linear(32, 5)
    x = torch.randn(4, 32, 6, 6)
    with foveate.record(nn.Sequential(gate), gradients=True) as maps:
        scores = head(gate(x).mean((2, 3)))
    scores[:, 2].sum().backward()
    (found,) = maps
    expected = F.relu(found.values[:, :, 0, 0] * x.mean((2, 3)) * head.weight[2])
    # float32 sums of 36 terms
    torch.testing.assert_close(found.weighted().values[:, :, 0, 0], expected.detach(), rtol=1e-5, atol=1e-7)


def test_recording_gradients_changes_none() -> None:
    model, x = attended("cbam"), images()
    third(model(x)).backward()
    expected = [parameter.grad for parameter in model.parameters()]
    model.zero_grad()
    with foveate.record(model, gradients=True) as maps:
        scores = model(x)
    third(scores).backward()
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        assert (parameter.grad is None) == (gradient is None)
        assert gradient is None or torch.equal(parameter.grad, gradient)
    assert float(maps[-1].weighted().values.max()) > 0


def test_several_scores_several_passes_and_chosen_samples() -> None:
    model, x = attended("psanet").double(), images(4, 16).double()
    with foveate.record(model, gradients=True) as maps:
        scores = model(x)
    maps.differentiate(scores[:, 3], retain_graph=True)
    first = maps[0].weighted().values
    maps.differentiate(scores[:, 4])
    second = maps[0].weighted().values
    assert not torch.equal(first, second)
    with foveate.record(model, gradients=True, samples=[1, 2]) as some:
        for batch in x.split(2):
            scores = model(batch)
            some.differentiate(scores[:, 4])
    # batches of another size take other kernels, but in double precision; what is kept of it is float32: three factors
    # that are rounded, and sums of up to 64 products, 67 * 2 ** -24 = 4e-6 of the sum of their sizes
    close: dict[str, Any] = {"rtol": 4e-6, "atol": 4e-6 * float(second.max())}
    torch.testing.assert_close(some[0].weighted().values, second[1:3], **close)
    torch.testing.assert_close(some[0].weighted().attends_to(1, 1), maps[0].weighted().attends_to(1, 1)[1:3], **close)
    with pytest.raises(FoveateError, match="no graph to go back along"):
        some.differentiate(scores)


def kept(expected: Tensor) -> dict[str, float]:
    """How far a kept weight times a gradient kept in float32 may lie from the same in double precision.

    The gradient is rounded and the product is: (1 + 2 ** -24) ** 2 - 1 < 3 * 2 ** -24 of it. Both gradients are sums
    of up to sixteen terms in double precision, which may cancel; where terms are up to 500 times the largest result, in
    two orders they differ by less than 16 * 500 * 2 ** -53 < 1e-12 of it.
    """
    return {"rtol": 3 * 2**-24, "atol": 1e-12 * float(expected.max())}


@pytest.mark.parametrize("frozen", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_attention_of_other_libraries(frozen: bool) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = timm.create_model("seresnet18", num_classes=7).eval().requires_grad_(not frozen)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):  # the last ones of blocks begin at zero
            nn.init.ones_(norm.weight)
    model, x = model.double(), images(2, 64).double()
    with torch.no_grad():
        plain = model(x)
    with foveate.record(model, "layer4.1", gradients=True) as maps:
        scores = model(x)
    assert torch.equal(scores, plain)
    maps.differentiate(third(scores))
    (found,) = maps
    # by hand: the module's output is x · gate, so the gate's gradient is the sum over positions of x · dL/dy
    seen: dict[str, Tensor] = {}
    handle = model.layer4[1].se.register_forward_hook(
        lambda _, given, y: seen.update(x=given[0].detach(), y=y.detach().requires_grad_()) or seen["y"].clone()
    )
    (upstream,) = torch.autograd.grad(third(model(x)), seen["y"])
    handle.remove()
    expected = F.relu(found.values[:, :, 0, 0].double() * (seen["x"] * upstream).sum((2, 3)))
    torch.testing.assert_close(found.weighted().values[:, :, 0, 0].double(), expected, **kept(expected))
    assert float(expected.max()) > 0
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_way_through_a_foreign_gate_stays_open() -> None:
    layers = pytest.importorskip("timm.layers")
    torch.manual_seed(0)
    module, x = layers.SEModule(32), torch.randn(2, 32, 4, 4)
    expected = torch.autograd.grad(module(x).square().sum(), list(module.parameters()))
    with foveate.record(module, gradients=True) as maps:
        y = module(x)
    found = torch.autograd.grad(y.square().sum(), list(module.parameters()))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert float(maps[0].weighted().values.max()) > 0  # the gradient came by on its way


def test_a_frozen_map_may_be_changed_in_place() -> None:
    class InPlace(foveate.attention.Affinity):
        def __init__(self) -> None:
            super().__init__()
            self.map = foveate.attention.Map("c")

        def reset_parameters(self) -> None:
            pass

        def gather(self, x: Tensor) -> Tensor:
            return x.mean((2, 3), keepdim=True)

        def weigh(self, context: Tensor) -> Tensor:
            return self.map(torch.sigmoid(context)).mul_(2)

        def recalibrate(self, x: Tensor, weights: Tensor, context: Tensor) -> Tensor:
            return x * weights

    torch.manual_seed(0)
    module, x = InPlace().requires_grad_(False), torch.randn(2, 8, 4, 4)
    with foveate.record(module, gradients=True) as maps:
        y = module(x)
    maps.differentiate(y)
    (gate,) = maps
    expected = F.relu(gate.values * 2 * x.sum((2, 3), keepdim=True))
    # float32 sums of 16 terms
    torch.testing.assert_close(gate.weighted().values, expected, rtol=1e-5, atol=1e-6)


def test_a_dense_affinity_of_another_library() -> None:
    block = pytest.importorskip("ultralytics.nn.modules.block", exc_type=ImportError)
    torch.manual_seed(0)
    module, x = block.Attention(32, num_heads=2).eval().double(), torch.randn(2, 32, 3, 4).double()
    with foveate.record(module, gradients=True) as maps:
        y = module(x)
    ask = torch.randn_like(y)
    maps.differentiate(y * ask)
    (found,) = maps
    value = module.qkv(x).view(2, 2, 32, 12)[:, :, 16:]
    weights = found.values.double().requires_grad_()
    mixed = torch.einsum("bhcs,bhst->bhct", value, weights).reshape(2, 32, 3, 4)
    by_hand = module.proj(mixed + module.pe(value.reshape(2, 32, 3, 4)))
    (gradient,) = torch.autograd.grad((by_hand * ask).sum(), weights)
    expected = F.relu(weights * gradient).detach()
    torch.testing.assert_close(found.weighted().values.double(), expected, **kept(expected))
    assert torch.equal(found.weighted().attends_to(1, 2).flatten(2), found.weighted().values[..., 6])


def test_with_gradient_checkpointing() -> None:
    from torch.utils.checkpoint import checkpoint

    class Again(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(self.inner, x, use_reentrant=False)

    model = nn.Sequential(nn.Conv2d(3, 16, 1), foveate.create("cbam", 16))
    for frozen in (False, True):
        model.requires_grad_(not frozen)
        x = images(2, 8).requires_grad_()
        with foveate.record(model, gradients=True) as plain:
            plain.differentiate(model(x)[:, 3])
        with foveate.record(Again(model), gradients=True) as maps:
            maps.differentiate(Again(model)(x)[:, 3])
        for one, other in zip(maps, plain, strict=True):
            assert torch.equal(one.values, other.values)
            assert torch.equal(one.weighted().values, other.weighted().values)


def test_without_gradients_it_says_so() -> None:
    model, x = attended("cbam"), images()
    with torch.no_grad(), foveate.record(model, gradients=True) as maps:
        scores = model(x)
    with pytest.raises(FoveateError, match=r"no gradient reached the map at 'layer1.0.bn2'.*gradients=True"):
        maps[0].weighted()
    with pytest.raises(FoveateError, match="no graph to go back along"):
        maps.differentiate(scores[:, 3])
    with foveate.record(model, gradients=True) as maps:
        model(x)
    with pytest.raises(FoveateError, match="depends on no map"):
        maps.differentiate(torch.ones(1, requires_grad=True))
    with pytest.raises(FoveateError, match="depends on no map"):
        maps.differentiate(torch.ones(1))
