"""Hamburger in NumPy, from Geng et al., section 2.2, algorithm 2 (NMF by multiplicative updates) and equation 7.

X ≈ D C with X, D, C ≥ 0. D starts at random with columns of unit length, C at softmax(Dᵀ X) over the bases. K times
C_ij ← C_ij (DᵀX)_ij / (DᵀDC)_ij and then D_ij ← D_ij (XCᵀ)_ij / (DCCᵀ)_ij, with 10⁻⁶ beside every divisor as the
released code has it, and C once more. Bread: a 1×1 convolution and a ReLU before; a 1×1 convolution and a norm after;
the features are added.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import foveate
from foveate.errors import OptionError
from tests.support.oracles import BATCH, Options, product
from tests.support.weights import filled, gate, has_deviation, weights_of

POINTWISE = 16  # division, scale, shift
OPTIONS = [
    *product(bases=(64, 2, 5), cheese=(False, True), relu=(False, True)),
    *product(train_steps=(1, 3), eval_steps=(2, 4), reduction=(1, 2)),
]
EVERY = 23
VARIANTS = {
    "hamburger:bases=3,reduction=2,train_steps=2,eval_steps=1,cheese=true": 1,
}
REFUSED = [
    ("ham:bases=1", {}, "bases must be a whole number of at least 2"),
    ("ham:train_steps=0", {}, "train_steps"),
    ("ham:eval_steps=0", {}, "eval_steps"),
    ("ham:reduction=0", {}, "reduction"),
    ("ham:cheese=3", {}, "cheese must be true or false"),
    ("ham:relu=3", {}, "relu must be true or false"),
]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    positions, bases = size[0] * size[1], options.get("bases", 64)
    steps = options.get("train_steps", 6) if training else options.get("eval_steps", 7)
    statistics = 2 * BATCH * positions if training else 0
    step = 2 * channels + 2 * positions + 3 * bases
    return channels + bases + (steps + 1) * step + 2 * channels + statistics + POINTWISE


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    bases: int = 64,
    train_steps: int = 6,
    eval_steps: int = 7,
    reduction: int = 1,
    cheese: bool = False,
    relu: bool = False,
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    batch, channels, height, width = x.shape
    inner = max(1, channels // reduction)
    start = np.abs(state["initial"][0])
    assert start.shape == (inner, bases)
    start = start / np.sqrt((start * start).sum(0))
    weight, bias = state["lower_bread.0.weight"][:, :, 0, 0], state["lower_bread.0.bias"]
    rebuilt = np.empty((batch, inner, height, width))
    for b in range(batch):
        features = np.maximum(weight @ x[b].reshape(channels, -1) + bias[:, None], 0)
        rebuilt[b] = np.reshape(nmf(features, start, train_steps if training else eval_steps), (inner, height, width))

    if cheese:
        rebuilt = np.einsum("oc,bchw->bohw", state["cheese.conv.weight"][:, :, 0, 0], rebuilt)
        rebuilt = np.maximum(norm(rebuilt, state, "cheese.bn", training), 0)
        update = np.einsum("oc,bchw->bohw", state["upper_bread.weight"][:, :, 0, 0], rebuilt)
    else:
        update = np.einsum("oc,bchw->bohw", state["upper_bread.0.weight"][:, :, 0, 0], rebuilt)
        update = norm(update, state, "upper_bread.1", training)
    return np.maximum(x + update, 0) if relu else x + update


def nmf(x, d, steps):
    """What `steps` updates of both factors, and one more of the coefficients, rebuild."""
    logits = d.T @ x
    c = np.exp(logits - logits.max(0))
    c = c / c.sum(0)
    for step in range(steps + 1):
        c = c * (d.T @ x) / (d.T @ d @ c + 1e-6)
        if step < steps:
            d = d * (x @ c.T) / (d @ c @ c.T + 1e-6)
    return d @ c


def norm(x: np.ndarray, state: dict[str, np.ndarray], name: str, training: bool) -> np.ndarray:
    mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    if training and x.shape[0] * x.shape[2] * x.shape[3] > 1:  # one value has no statistics (named on the card)
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
    each = (slice(None), None, None)
    scale, shift = state[f"{name}.weight"][each], state[f"{name}.bias"][each]
    return (x - mean[each]) / np.sqrt(variance[each] + 1e-5) * scale + shift


@pytest.mark.parametrize("training", [False, True])
def test_hamburger_gives_the_same_twice_and_draws_nothing(training: bool) -> None:
    """The authors' draws new bases in every pass, at evaluation too."""
    module = foveate.create("ham", 8, bases=5).train(training)
    x = torch.randn(2, 8, 3, 4)
    before = torch.random.get_rng_state()
    assert torch.equal(module(x), module(x))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert "initial" in module.state_dict()


def test_hamburgers_factors_are_never_negative_and_rebuild_the_better_the_longer_it_factorises() -> None:
    errors = []
    x = torch.randn(1, 8, 3, 4)
    for steps in (1, 5, 50):
        torch.manual_seed(0)
        module = foveate.create("ham", 8, bases=6, eval_steps=steps).eval()
        context, coefficients = module.gather(x), gate(module, x)
        assert (coefficients >= 0).all()
        assert (context.bases >= 0).all()
        rebuilt = (context.bases @ coefficients.flatten(2)).reshape(context.features.shape)
        errors.append(((rebuilt - context.features).norm() / context.features.norm()).item())
    assert errors[0] > 1.2 * errors[1]
    assert errors[1] > 1.2 * errors[2]


def test_hamburgers_one_step_gradient_takes_the_bases_for_constants() -> None:
    module = filled(foveate.create("ham", 6, bases=4)).double()
    x = torch.randn(1, 6, 3, 4, dtype=torch.float64, requires_grad=True)
    context = module.gather(x)
    assert not context.bases.requires_grad
    assert not context.coefficients.requires_grad
    y = module(x)
    found = torch.autograd.grad(y.square().sum(), module.lower_bread[0].weight)[0]
    inner = context.bases.transpose(1, 2)
    scale = context.coefficients / (inner @ context.bases @ context.coefficients + 1e-6)
    features = torch.relu(module.lower_bread[0](x))
    rebuilt = context.bases @ (scale * (inner @ features.flatten(2)))  # linear in the features: that is the one step
    again = x + module.upper_bread(rebuilt.reshape(features.shape))
    expected = torch.autograd.grad(again.square().sum(), module.lower_bread[0].weight)[0]
    torch.testing.assert_close(found, expected)


def test_hamburger_takes_other_numbers_of_steps_in_training() -> None:
    same, other = (foveate.create("ham", 8, bases=3, train_steps=n, eval_steps=2) for n in (2, 5))
    other.load_state_dict(same.state_dict())
    x = torch.randn(2, 8, 4, 4)
    shown = [next(iter(weights_of(m.train(t), x).values())) for m in (same, other) for t in (False, True)]
    assert torch.equal(shown[0], shown[1])
    assert torch.equal(shown[0], shown[2])
    assert not torch.equal(shown[2], shown[3])


def test_hamburger_stays_finite_where_no_feature_is_positive() -> None:
    module = foveate.create("ham", 4, bases=3)
    torch.nn.init.constant_(module.lower_bread[0].bias, -1e3)
    x = torch.randn(2, 4, 3, 3, requires_grad=True)
    module(x).sum().backward()
    assert x.grad.isfinite().all()


def test_hamburger_starts_as_the_authors_does() -> None:
    module = foveate.create("ham", 128, reduction=2)
    assert has_deviation(module.lower_bread[0].weight, (2 / 64) ** 0.5)
    assert has_deviation(module.upper_bread[0].weight, (2 / 128) ** 0.5)
    assert ((module.initial >= 0) & (module.initial < 1)).all()


@pytest.mark.parametrize(("cheese", "parameters"), [(False, 525_824), (True, 787_968)])
def test_hamburgers_parameters_are_those_of_the_released_layers(cheese: bool, parameters: int) -> None:
    """V1 and V2 with 512 channels; V2 has a third convolution."""
    module = foveate.create("ham", 512, cheese=cheese)
    assert sum(p.numel() for p in module.parameters()) == parameters == (2 + cheese) * 512 * 512 + 512 + 2 * 512


def test_hamburger_with_the_relu_of_its_network_has_no_identity() -> None:
    with pytest.raises(OptionError, match="use relu=false"):
        foveate.create("ham", 8, relu=True).start_at_identity()
