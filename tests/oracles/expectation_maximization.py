"""The expectation-maximisation attention unit in NumPy, from Li et al., sections 3.2 and 4, equations 8 to 15.

After a 1×1 convolution: T times, every position n gets the responsibilities z_nk = softmax_k ⟨x_n, μ_k⟩, and every
base becomes the mean of the positions weighted by z_nk, then of unit length (section 4.2). The map is rebuilt as
Σ_k z_nk μ_k, and a ReLU, a 1×1 convolution and a norm follow; the features are added. In training the initial bases of
the next batch are 0.9 of the last ones and 0.1 of the mean over the samples of what EM ended with. The 10⁻⁶ beside
every divisor is the released code's.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch.utils.checkpoint import checkpoint

import foveate
from foveate.errors import OptionError
from tests.support.oracles import BATCH, Options, product
from tests.support.weights import filled, gate, has_deviation

POINTWISE = 16  # exponential, division, scale, shift
# Each EM step feeds the rounding of the bases back through an exponential: the logits are of this order.
LOGITS = 16
OPTIONS = [
    *product(bases=(64, 2, 5), steps=(3, 1), relu=(False, True)),
    *product(bases=(4,), momentum=(0.9, 0.5), gradient=("none", "assignments")),
]
EVERY = 23
VARIANTS = {
    "expectation_maximization:bases=3,steps=1": 1,
    "expectation_maximization:bases=5,gradient=assignments": 1,
}
REFUSED = [
    ("emau:bases=1", {}, "bases must be a whole number of at least 2"),
    ("emau:steps=0", {}, "steps must be a whole number of at least 1"),
    ("emau:momentum=1.0", {}, "momentum must be below 1"),
    ("emau:momentum=0", {}, "momentum must be positive"),
    ("emau:gradient=all", {}, "gradient must be one of 'none', 'assignments'"),
    ("emau:relu=3", {}, "relu must be true or false"),
]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    positions, bases = size[0] * size[1], options.get("bases", 64)
    statistics = 2 * BATCH * positions if training else 0
    step = LOGITS * (2 * channels + bases + positions)
    return channels + options.get("steps", 3) * step + bases + channels + statistics + POINTWISE


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    bases: int = 64,
    steps: int = 3,
    momentum: float = 0.9,
    gradient: str = "none",
    relu: bool = False,
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    batch, channels, height, width = x.shape
    assert state["mu"].shape == (1, channels, bases)
    update = np.empty_like(x)
    for b in range(batch):
        pixels = [x[b, :, i, j] for i in range(height) for j in range(width)]
        features = [state["conv1.weight"][:, :, 0, 0] @ pixel + state["conv1.bias"] for pixel in pixels]
        rebuilt, _ = em(features, list(state["mu"][0].T), steps)
        after = [state["conv2.0.weight"][:, :, 0, 0] @ np.maximum(pixel, 0) for pixel in rebuilt]
        update[b] = np.array(after).T.reshape(channels, height, width)

    mean, variance = state["conv2.1.running_mean"], state["conv2.1.running_var"]
    if training and batch * height * width > 1:  # one value has no statistics (named on the card)
        mean, variance = update.mean((0, 2, 3)), update.var((0, 2, 3))
    scale, shift = state["conv2.1.weight"], state["conv2.1.bias"]
    for c in range(channels):
        update[:, c] = (update[:, c] - mean[c]) / np.sqrt(variance[c] + 1e-5) * scale[c] + shift[c]
    return np.maximum(x + update, 0) if relu else x + update


def em(features, bases, steps):
    """What every position is rebuilt as, and the bases at the end."""
    for _ in range(steps):
        responsibilities = []
        for feature in features:
            logits = np.array([feature @ base for base in bases])
            exponentials = np.exp(logits - logits.max())
            responsibilities.append(exponentials / exponentials.sum())
        found = []
        for k in range(len(bases)):
            total = sum(z[k] for z in responsibilities)
            mean = sum(z[k] / (1e-6 + total) * feature for z, feature in zip(responsibilities, features, strict=True))
            found.append(mean / (1e-6 + np.sqrt((mean * mean).sum())))
        bases = found
    return [sum(z[k] * bases[k] for k in range(len(bases))) for z in responsibilities], bases


def test_expectation_maximization_moves_its_bases_in_training_and_only_then() -> None:
    """Copies of the module leave that to a training script that they do not copy."""
    module = filled(foveate.create("emau", 6, bases=4, momentum=0.9)).double()
    x = torch.randn(3, 6, 4, 5, dtype=torch.float64)
    before = module.mu.clone()
    module.eval()(x)
    assert torch.equal(module.mu, before)
    module.train()(x)
    features = module.conv1(x).detach().flatten(2).numpy()
    ends = [em(list(sample.T), list(before[0].T.numpy()), 3)[1] for sample in features]
    expected = 0.9 * before.numpy()[0].T + 0.1 * np.mean(ends, 0)
    torch.testing.assert_close(module.mu[0].T, torch.from_numpy(expected))


def test_expectation_maximizations_bases_are_in_its_state() -> None:
    assert "mu" in foveate.create("emau", 6).state_dict()


def test_expectation_maximizations_responsibilities_sum_to_one_over_the_bases() -> None:
    weights = gate(filled(foveate.create("emau", 8, bases=5)), torch.randn(2, 8, 3, 4))
    assert weights.shape == (2, 5, 3, 4)
    torch.testing.assert_close(weights.sum(1), torch.ones(2, 3, 4))


def test_no_gradient_passes_expectation_maximization_unless_asked_for() -> None:
    gradients = {}
    for gradient in ("none", "assignments"):
        torch.manual_seed(0)  # of the bases
        module = filled(foveate.create("emau", 8, bases=5, gradient=gradient))
        assert module.conv1.weight.requires_grad == (gradient == "assignments")
        x = torch.randn(2, 8, 3, 4, generator=torch.Generator().manual_seed(1), requires_grad=True)
        y = module(x)
        (y * torch.arange(12.0).reshape(3, 4)).sum().backward()
        gradients[gradient] = (y.detach(), x.grad, module.conv1.weight.grad)
    assert torch.equal(gradients["none"][0], gradients["assignments"][0])
    torch.testing.assert_close(gradients["none"][1], torch.arange(12.0).reshape(3, 4).expand(2, 8, 3, 4))  # x + ...
    assert gradients["none"][2] is None
    assert gradients["assignments"][2].any()


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("steps", [1, 3])
def test_expectation_maximization_under_gradient_checkpointing(reentrant: bool, steps: int) -> None:
    """Its repeated pass starts where the first one did, and the bases move once a batch."""
    plain = filled(foveate.create("emau", 6, bases=4, steps=steps, momentum=0.5, gradient="assignments")).train()
    twin = copy.deepcopy(plain)
    for _ in range(2):
        x = torch.randn(3, 6, 4, 5)
        grads = []
        for run in (plain, lambda x: checkpoint(twin, x, use_reentrant=reentrant)):
            leaf = x.clone().requires_grad_()
            run(leaf).square().sum().backward()
            grads.append(leaf.grad)
        torch.testing.assert_close(*grads)
        torch.testing.assert_close(plain.conv1.weight.grad, twin.conv1.weight.grad)
        assert torch.equal(plain.mu, twin.mu)


def test_expectation_maximization_starts_as_the_authors_do() -> None:
    module = foveate.create("emau", 128)
    torch.testing.assert_close(module.mu.norm(dim=1), torch.ones(1, 64))
    for layer in (module.conv1, module.conv2[0]):
        assert has_deviation(layer.weight, (2 / 128) ** 0.5)


def test_expectation_maximizations_parameters_are_those_of_the_released_unit() -> None:
    """EMANet's: 512 channels; the 64 bases are no parameters."""
    module = foveate.create("emau", 512)
    assert sum(p.numel() for p in module.parameters()) == 525_824 == 2 * 512 * 512 + 512 + 2 * 512
    assert module.mu.numel() == 64 * 512


def test_expectation_maximization_with_the_relu_of_its_network_has_no_identity() -> None:
    with pytest.raises(OptionError, match="use relu=false"):
        foveate.create("emau", 8, relu=True).start_at_identity()
