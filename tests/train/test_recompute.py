"""Maps computed again: equal gradients, statistics that move once, names that stay, and less memory."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

import foveate
from foveate import hosts
from foveate.errors import FoveateError
from foveate.train import fit
from foveate.train.recompute import recomputed
from tests.support.training import network, task


def attended(attention: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    host = hosts.build("foveate/resnet8", classes=10)
    host = foveate.attach(host, attention, example=torch.zeros(1, 3, 16, 16), **options)
    for block in (host.layer1, host.layer2):
        block.append(nn.Dropout(0.5))
    return host


def one_step(model: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
    """Gradients and buffers after one step, of two passes added up."""
    x = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(2)
    for part in x.split(2):
        nn.functional.cross_entropy(model.train()(part), torch.tensor([3, 1])).backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    return gradients, dict(model.named_buffers())


@pytest.mark.parametrize("attention", ["cbam", "se", "expectation_maximization", "srm"])
@pytest.mark.filterwarnings("ignore::foveate.errors.FoveateWarning")
def test_gradients_and_statistics_are_as_without(attention: str) -> None:
    """Dropout draws the same again, and running statistics, counters and bases move once a pass."""
    plain = attended(attention)
    other = copy.deepcopy(plain)
    gradients, buffers = one_step(plain)
    with recomputed(other):
        again, moved = one_step(other)
    assert gradients.keys() == again.keys()
    for name, value in gradients.items():
        torch.testing.assert_close(again[name], value, rtol=1e-5, atol=1e-7)
    for name, value in buffers.items():
        assert torch.equal(moved[name], value), name
    assert int(buffers["bn1.num_batches_tracked"]) == 2


def test_names_classes_and_copies_are_as_ever() -> None:
    model = attended("cbam")
    parameters = [name for name, _ in model.named_parameters()]
    names, classes = list(model.state_dict()), [type(one) for one in model.modules()]
    with recomputed(model):
        assert list(model.state_dict()) == names
        assert [name for name, _ in model.named_parameters()] == parameters
        assert all(isinstance(one, own) for one, own in zip(model.modules(), classes, strict=True))
        assert foveate.status(model) == foveate.status(attended("cbam"))
        copy.deepcopy(model)(torch.zeros(2, 3, 16, 16))
    assert [type(one) for one in model.modules()] == classes


def kept_bytes(model: nn.Module, x: torch.Tensor) -> int:
    """What the backward pass keeps of the forward pass."""
    kept: dict[int, int] = {}
    own = {parameter.data_ptr() for parameter in model.parameters()}

    def pack(value: torch.Tensor) -> torch.Tensor:
        if value.data_ptr() not in own:
            kept[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        out = model.train()(x)
    del out
    return sum(kept.values())


def test_less_is_kept_for_the_backward_pass() -> None:
    model, x = attended("cbam"), torch.randn(2, 3, 32, 32)
    usual = kept_bytes(model, x)
    with recomputed(model):
        assert kept_bytes(model, x) < usual / 2


def test_training_so_gives_the_same_weights() -> None:
    made, other = task(epochs=1), task(epochs=1, checkpointing=True)
    fit(made)
    fit(other)
    a, b = made.network.state_dict(), other.network.state_dict()
    for name, value in a.items():
        torch.testing.assert_close(b[name], value, rtol=1e-5, atol=1e-6)
    assert [type(one) for one in other.network.modules()] == [type(one) for one in made.network.modules()]


def test_a_network_without_blocks_is_refused() -> None:
    with pytest.raises(FoveateError, match="has no row of blocks whose maps could be computed again"):
        fit(task(network(attention=""), checkpointing=True))
