"""A placebo has everything of its mechanism but what it could know of its input."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from foveate import hosts
from foveate.errors import OptionError
from foveate.explain import record
from foveate.hosts.unet import UNet
from foveate.registry import Spec, parse
from foveate.study.arms.placebo import MOMENTUM, Usual, make_placebo
from foveate.surgery.put import put

pytestmark = pytest.mark.filterwarnings("ignore::foveate.errors.FoveateWarning")  # what is left out of small hosts
# every kind: gate, gates, sequences, affinities, updates, transform, fusions, what guides, what replaces
MECHANISMS = (
    *(
        "squeeze_excite:reduction=4",
        "eca",
        "coordinate",
        "cbam:reduction=4",
        "polarized",
        "non_local",
        "danet_position",
        "psanet:shrink=4",
    ),
    *("global_context", "asymmetric_non_local", "large_selective_kernel", "attentional_fusion", "attention_gate"),
    *("odconv", "selective_kernel", "dynamic_convolution"),
)
# nothing between their weights and their output bends: with weights that stand still they are affine
AFFINE = (
    "squeeze_excite:reduction=4",
    "eca",
    "coordinate",
    "cbam:reduction=4",
    "non_local:subsample=false",
    "danet_position",
    "asymmetric_non_local",
)


def host_of(mechanism: str) -> nn.Module:
    return UNet(classes=4) if mechanism == "attention_gate" else hosts.build("foveate/resnet8", classes=4)


def built(mechanism: str | None, *, like: str = "", seed: int = 0, start: Any = "paper") -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = host_of(mechanism or like)
        if mechanism:
            put(network, parse(mechanism), start=start, example=torch.zeros(2, 3, 32, 32))
    return network


def blind(mechanism: str, **how: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return make_placebo(built(mechanism, **how), torch.randn(2, 3, 32, 32))


def images(count: int, seed: int) -> Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def trained(network: nn.Module, steps: int = 2) -> nn.Module:
    optimizer = torch.optim.SGD(network.parameters(), 0.01)
    network.train()
    for step in range(steps):
        optimizer.zero_grad()
        network(images(4, step)).square().mean().backward()
        optimizer.step()
    return network.eval()


def weights(network: nn.Module, x: Tensor) -> dict[tuple[str, ...], Tensor]:
    with torch.no_grad(), record(network) as maps:
        network(x)
    return {(one.place, one.attachment, one.step, str(one.axes)): one.values for one in maps}


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_weights_are_the_same_whatever_the_input_and_learn_all_the_same(mechanism: str) -> None:
    real, placebo = trained(built(mechanism)), trained(blind(mechanism))
    assert {one.numel() for one in real.parameters()} == {one.numel() for one in placebo.parameters()}
    assert sum(one.numel() for one in real.parameters()) == sum(one.numel() for one in placebo.parameters())

    seeing, other = (weights(real, images(2, seed)) for seed in (7, 8))
    assert seeing, "nothing was recorded"
    assert any(not torch.allclose(seeing[name], other[name], atol=1e-6) for name in seeing), "blind by itself"
    not_seeing, other = (weights(placebo, 10 * images(2, seed)) for seed in (7, 8))
    assert not_seeing.keys() == seeing.keys()
    for name, values in not_seeing.items():
        # the same numbers by the same operations; a batch is computed in parts, and their sums may differ by rounding
        assert torch.allclose(values, other[name], rtol=1e-5, atol=1e-6), name
        assert torch.allclose(values[:1].expand_as(values), values, rtol=1e-5, atol=1e-6), name
        assert values.shape == seeing[name].shape and bool(torch.isfinite(values).all())

    def silent(network: nn.Module) -> set[str]:
        own = ((name, one) for name, one in network.named_parameters() if ".foveate." in name and one.requires_grad)
        return {name for name, one in own if one.grad is None or not bool(one.grad.abs().sum() > 0)}

    assert silent(placebo) <= silent(real), "the placebo learns less"


@pytest.mark.parametrize("mechanism", AFFINE)
def test_with_weights_that_stand_still_a_mechanism_is_affine(mechanism: str) -> None:
    """An oracle that looks at no weights: if they depended on the input, the mean's output were not the mean output."""

    def bent(network: nn.Module) -> float:
        module = network.layer2[0].bn2.foveate  # pyright: ignore[reportAttributeAccessIssue, reportIndexIssue, reportOptionalSubscript, reportCallIssue, reportArgumentType]
        [attention] = module.values()
        chance = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for one in attention.parameters():
                one.copy_(0.3 * torch.randn(one.shape, generator=chance))
        x, y = (torch.randn(1, 32, 16, 16, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
        with torch.no_grad():
            expected = (attention(3 * x) + attention(y)) / 2
            return float((attention((3 * x + y) / 2) - expected).abs().max() / expected.abs().max())

    # sums of at most 256 products in single precision, twice: 2 · 256 · 6e-8
    assert bent(trained(blind(mechanism))) < 3e-5
    assert bent(trained(built(mechanism))) > 1e-2


@pytest.mark.parametrize("mechanism", ["squeeze_excite", "cbam", "non_local", "attentional_fusion", "odconv"])
def test_what_was_learned_is_kept_with_the_weights(mechanism: str) -> None:
    first, second = trained(blind(mechanism)), blind(mechanism, seed=5)
    assert not torch.equal(first(images(2, 3)), second.eval()(images(2, 3)))
    state = {name: value.clone() for name, value in first.state_dict().items()}
    assert any(name.endswith(".mean") and bool(value.abs().sum() > 0) for name, value in state.items())
    second.load_state_dict(state)
    assert torch.equal(first(images(2, 3)), second(images(2, 3)))


def test_a_placebo_that_starts_at_the_identity_is_the_host() -> None:
    host, placebo = built(None, like="cbam"), blind("cbam", start="identity")
    assert torch.equal(host.eval()(images(2, 3)), placebo.eval()(images(2, 3)))


def test_the_usual_map_is_a_running_mean_that_begins_with_the_first() -> None:
    usual, seen = Usual(torch.zeros(1, 2, 3, 3)), [torch.rand(4, 2, 3, 3) for _ in range(3)]
    expected = seen[0].mean(0)
    for number, x in enumerate(seen):
        expected = expected if number == 0 else (1 - MOMENTUM) * expected + MOMENTUM * x.mean(0)
        # a few operations in single precision on values below 1
        assert torch.allclose(usual(x), expected.expand_as(x), atol=1e-6)
    usual.eval()
    assert torch.allclose(usual(torch.rand(2, 2, 3, 3))[1], expected, atol=1e-6), "evaluation takes nothing in"
    constant = torch.full((1, 2, 3, 3), 0.5)
    other = Usual(constant).train()
    other(constant)
    assert torch.allclose(other.eval()(torch.zeros(1, 2, 6, 5)), torch.full((1, 2, 6, 5), 0.5)), (
        "other sizes are resized"
    )


def test_weights_of_a_kernel_are_their_own_mean_from_the_first_step_on() -> None:
    """Branches of a softmax sum to one; a mean that began at zero would sum to 0.1 after the first step."""
    placebo = trained(blind("selective_kernel"), steps=1)
    for values in weights(placebo, images(2, 5)).values():
        total = values.sum(-1) if values.shape[-1] == 2 else values.sum(1)
        # softmax in single precision
        assert torch.allclose(total, torch.ones_like(total), atol=1e-5)


def test_norms_keep_no_statistics_of_the_usual_map() -> None:
    placebo, real = trained(blind("coordinate"), 3), trained(built("coordinate"), 3)
    for (name, one), other in zip(placebo.named_modules(), real.modules(), strict=False):
        if isinstance(one, nn.BatchNorm2d) and ".foveate." not in name and isinstance(other, nn.BatchNorm2d):
            assert one.num_batches_tracked == other.num_batches_tracked
    assert all(one.training is False for one in placebo.modules()), "left as it was"


@pytest.mark.parametrize("mechanism", ["attention_augmented", "bottleneck_attention"])
def test_what_relates_positions_inside_a_convolution_has_no_placebo(mechanism: str) -> None:
    with pytest.raises(OptionError, match="relates positions inside a convolution's place: it has no placebo"):
        blind(mechanism)


def test_a_network_without_attention_has_no_placebo() -> None:
    with pytest.raises(OptionError, match="no attention of foveate in this network"):
        make_placebo(built(None, like="cbam"), images(1, 0))


@pytest.mark.parametrize("name", ["squeeze_excite", "cbam", "odconv"])
def test_a_placebo_goes_to_another_process_and_is_copied(name: str) -> None:
    """Memory and export are measured in a process of their own."""
    example = torch.randn(2, 3, 16, 16)
    network = put(hosts.build("foveate/resnet8", classes=3), Spec(name), start="paper", example=example)
    make_placebo(network, example).eval()
    expected = network(example)
    for other in (pickle.loads(pickle.dumps(network)), copy.deepcopy(network)):
        assert torch.equal(other(example), expected)
