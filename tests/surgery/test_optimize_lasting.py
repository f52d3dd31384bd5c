"""An optimised network that is changed, copied, saved, watched or cut up afterwards never gives a stale answer."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.utils import prune

import foveate
from foveate import hosts
from foveate.ops import pending
from foveate.ops.pending import Pending
from foveate.surgery.optimize.folding import Convolved
from tests.surgery.test_optimize import Counter, attended, awake, check, images


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps of any size wait."""
    monkeypatch.setattr(pending, "FEW", 0)


def network(mechanism: str | None = "se") -> nn.Module:
    """Optimised, and used once, so that the folded weights are there."""
    model = foveate.optimize(attended(lambda: hosts.build("foveate/resnet8", classes=10), mechanism))
    with torch.no_grad():
        model(images(32))
    return model


@torch.no_grad()
def load(model: nn.Module) -> nn.Module:
    model.load_state_dict({key: value * 1.5 for key, value in model.state_dict().items()})
    return model


def train(model: nn.Module) -> nn.Module:
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(2):
        optimiser.zero_grad()
        model.train()(images(32)).logsumexp(1).sum().backward()
        optimiser.step()
    return model.eval()


def statistics(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        model.train()(images(32))
    return model.eval()


def through_half(model: nn.Module) -> nn.Module:
    """There and back: the new numbers may come to lie where the old ones lay."""
    return model.bfloat16().float()


def past_the_counter(model: nn.Module) -> nn.Module:
    for parameter in model.parameters():
        parameter.data.mul_(1.1)
    return model


def norms_past_the_counter(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.data.add_(0.1)
    return model


def assigned(model: nn.Module) -> nn.Module:
    model.load_state_dict({key: value * 1.5 for key, value in model.state_dict().items()}, assign=True)
    return model


def one_filter(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        model.layer1[0].conv1.weight[3, 1] = 9.0  # not the first of its numbers, which are compared
    return model


def another_memory(model: nn.Module) -> nn.Module:
    weight = model.layer1[0].conv1.weight
    other = weight.detach().clone()
    other[3, 1] = 9.0
    weight.data = other
    return model


def in_inference_mode(model: nn.Module) -> nn.Module:
    with torch.inference_mode():
        for parameter in model.parameters():
            parameter.add_(0.01)
    return model


def other_eps(model: nn.Module) -> nn.Module:
    model.bn1.eps = 0.5
    return model


def without_norm(model: nn.Module) -> nn.Module:
    model.layer1[0].bn1 = nn.Identity()
    return model


def another_norm(model: nn.Module) -> nn.Module:
    model.bn1 = awake(nn.BatchNorm2d(16, eps=0.1))
    return model


def another_convolution(model: nn.Module) -> nn.Module:
    model.layer1[0].conv1 = nn.Conv2d(16, 16, 3, padding=1)
    return model


def changed_places(model: nn.Module) -> nn.Module:
    block = model.layer1[0]
    block.bn1, block.bn2 = block.bn2, block.bn1
    return model


def parametrised(model: nn.Module) -> nn.Module:
    nn.utils.parametrizations.weight_norm(model.layer1[0].conv1)
    return model


def pruned(model: nn.Module) -> nn.Module:
    model.requires_grad_(False)  # PyTorch copies no weights that are computed from trained ones
    prune.random_unstructured(model.layer1[0].conv1, "weight", 0.5)
    return model


def no_statistics(model: nn.Module) -> nn.Module:
    model.bn1.running_mean = model.bn1.running_var = None
    return model


def detached(model: nn.Module) -> nn.Module:
    return foveate.detach(model)


def more_attention(model: nn.Module) -> nn.Module:
    foveate.attach(model, "cbam", at=("bn1", "layer1.0.conv1", "layer2.0.bn2"), start="paper")
    return model.eval()


def disabled(model: nn.Module) -> nn.Module:
    foveate.disable(model)
    return model


def copied(model: nn.Module) -> nn.Module:
    other = copy.deepcopy(model)
    past_the_counter(model)
    return other


def pickled(model: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(model))


def converted(model: nn.Module) -> nn.Module:
    return nn.SyncBatchNorm.convert_sync_batchnorm(model)


CHANGES = (
    *(
        load,
        train,
        statistics,
        through_half,
        past_the_counter,
        norms_past_the_counter,
        assigned,
        one_filter,
        another_memory,
    ),
    *(in_inference_mode, other_eps, without_norm, another_norm, another_convolution, changed_places, parametrised),
    *(pruned, no_statistics, detached, more_attention, disabled, copied, pickled, converted),
)


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_is_changed_the_answer_is_that_of_the_network_as_it_now_is(change):
    model = network()
    with torch.no_grad():
        before = model(images(32))
    model = change(model)
    check(model, images(32))
    if change not in (copied, pickled, converted, parametrised):
        with torch.no_grad():
            assert not torch.allclose(model(images(32)), before)


def test_a_saved_network_holds_nothing_that_was_folded():
    sizes = []
    for model in (foveate.optimize(attended(lambda: hosts.build("foveate/resnet8", classes=10), "se")), network()):
        file = io.BytesIO()
        torch.save(model, file)
        sizes.append(len(file.getvalue()))
    assert sizes[0] == sizes[1]


def test_hooks_are_told_what_they_always_were_told(monkeypatch: pytest.MonkeyPatch):
    model = network()
    plain = foveate.restore(copy.deepcopy(model))
    seen: list[list[Tensor]] = []
    for net in (model, plain):
        told: list[Tensor] = []
        seen.append(told)
        for module in (net.layer1[0].conv1, net.layer1[0].bn2, net.layer2[0].bn1, net.layer3[0]):
            module.register_forward_hook(lambda _m, given, output, told=told: told.extend([*given, output]))
    with torch.no_grad():
        model(images(32))
        plain(images(32))
        for one, other in zip(*seen, strict=True):
            assert torch.allclose(one + 0, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))
    maps = Counter(monkeypatch, Convolved)
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        with torch.no_grad():
            model(images(32))
    finally:
        handle.remove()
    assert maps.made == 0


def test_what_records_bakes_watches_and_saves_sees_the_network_as_it_is(tmp_path):
    model = attended(torchvision.models.resnet18, "se")
    plain = copy.deepcopy(model)
    foveate.optimize(model, example=images())
    with torch.no_grad(), foveate.record(model) as seen:
        model(images())
    assert len(seen) == 8
    baked = foveate.bake(model, images())
    with torch.no_grad():
        assert torch.equal(baked(images()), plain(images()))
    assert b"foveate.surgery" not in pickle.dumps(baked)
    assert foveate.optimized(model) is not None  # that was done to a copy
    foveate.save(model, tmp_path)
    other = torchvision.models.resnet18()
    other.load_state_dict(foveate.detach(copy.deepcopy(plain)).state_dict())
    foveate.load(other, tmp_path)
    with torch.no_grad():
        assert torch.equal(other.eval()(images()), plain(images()))
    foveate.attach(model, "eca", at="residual", example=images())  # two watched passes
    check(model, images())


def test_a_convolution_that_something_else_reads_too_is_left_as_it_is():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.three = (nn.Conv2d(3, 3, 1) for _ in range(3))
            self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(4))

        def forward(self, x, flag=False):
            y = self.one(x)
            x = self.norms[0](y) + y
            y = self.norms[1](self.two(x)) + self.norms[2](self.two(x))
            z = self.three(y)
            if flag:
                z = z * 2
            return self.norms[3](z)

    model = foveate.optimize(awake(Odd()), example=images(8))
    done = foveate.optimized(model)
    assert done is not None
    assert (done.norms, len(done.left_out)) == (1, 3)
    plain = foveate.restore(copy.deepcopy(model))
    with torch.no_grad():
        for flag in (False, True):  # what the watched pass did not see
            found, expected = model(images(8), flag), plain(images(8), flag)
            assert torch.allclose(found, expected, atol=1e-5)
            assert not isinstance(found, Pending)
    text = str(done)
    assert "left out 'norms.1' and 1 more: what it is given is not one convolution's" in text
    assert "left out 'norms.0': something comes between" in text


def test_a_network_of_unusual_layers_says_what_was_left_out():
    class Own(nn.BatchNorm2d):
        def forward(self, input):  # noqa: A002
            return super().forward(input) * 2

    model = awake(nn.Sequential(nn.Conv2d(3, 4, 1), Own(4), nn.Conv2d(4, 4, 1), nn.InstanceNorm2d(4)))
    done = foveate.optimized(foveate.optimize(model, example=images(8)))
    assert done is not None
    assert done.norms == 0
    assert "'1': Own after Conv2d has ways of its own" in str(done)
