"""CondConv in NumPy, from Yang et al., section 3 (equations 1 and 2).

Output(x) = (α₁ W₁ + … + αₙ Wₙ) * x, α = σ(R · mean(x)); the released code gives R a bias.
"""

from __future__ import annotations

import numpy as np
import torch

import foveate
from foveate.replacement import ConvShape
from tests.support.convolution import convolved
from tests.support.oracles import Options
from tests.support.weights import gate, has_deviation

POINTWISE = 30  # sigmoid
EVERY = 5
NORMS = False
OPTIONS: list[Options] = [{}, {"experts": 1}, {"experts": 3, "bias": False}]
VARIANTS = {"condconv:bias=false": 1}
REFUSED = [
    ("condconv:experts=0", {}, "experts must be a whole number of at least 1"),
    ("condconv:bias=1", {}, "bias must be true or false"),
]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    return size[0] * size[1] + channels + options.get("experts", 8) + 9 * channels + POINTWISE


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    experts: int = 8,
    bias: bool = True,
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    channels = x.shape[1]
    y = np.empty_like(x)
    for b in range(len(x)):
        means = np.array([x[b, c].sum() / x[b, c].size for c in range(channels)])
        logits = state["routing.weight"] @ means
        if bias:
            logits = logits + state["routing.bias"]
        total = np.zeros((channels, channels, 3, 3))
        for e in range(experts):
            total += state["weight"][e].reshape(total.shape) / (1 + np.exp(-logits[e]))
        y[b] = convolved(x[b], total, padding=(1, 1))
    return y


def test_condconv_initialises_each_expert_by_its_own_fan() -> None:
    """He's initialisation of the experts in one tensor sees a fan that is as many times too large."""
    module = foveate.create("condconv", ConvShape(32, 64, kernel_size=(3, 3)))
    assert all(has_deviation(expert, (2 / (64 * 9)) ** 0.5) for expert in module.weight.detach())


def test_condconv_gates_do_not_compete() -> None:
    module = foveate.create("condconv", 4).eval()
    torch.nn.init.constant_(module.routing.bias, 50.0)
    assert torch.allclose(gate(module, torch.zeros(2, 4, 3, 3)), torch.ones(2, 8))


def test_condconv_gives_strided_maps_their_size() -> None:
    """Copies view the output with the input's height and width."""
    shape = ConvShape(4, 6, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1))
    assert foveate.create("condconv", shape)(torch.randn(2, 4, 7, 8)).shape == (2, 6, 4, 4)


def test_condconv_experts_that_share_a_kernel_are_told_apart() -> None:
    torch.manual_seed(0)
    module = foveate.create("condconv", 8, experts=4).double()
    conv = module.shape.convolution().double()
    assert module.take_over(conv) is None
    x = torch.randn(4, 8, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(module(x), conv(x))
    module(x).square().sum().backward()
    gradients = module.routing.weight.grad
    assert len({round(float(row.norm()), 9) for row in gradients}) == 4
