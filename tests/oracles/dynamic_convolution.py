"""Dynamic convolution in NumPy, from Chen et al., section 3 (equations 2 to 4 and figure 3).

W̃(x) = Σₖ πₖ(x) W̃ₖ, b̃(x) = Σₖ πₖ(x) b̃ₖ, Σₖ πₖ = 1: the mean of the map, a fully connected layer, a ReLU, a fully
connected layer, and a softmax whose logits are divided by τ, which falls linearly to 1 with training.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import foveate
from foveate.replacement import ConvShape
from foveate.testing import Subject
from tests.support.convolution import convolved
from tests.support.oracles import Options
from tests.support.weights import gate

POINTWISE = 40  # softmax, temperature
EVERY = 5
OPTIONS: list[Options] = [
    {},
    {"kernels": 2, "temperature": 1.0},
    {"kernels": 3, "reduction": 1, "temperature": 4.0, "steps": 2},
]
REFUSED = [
    ("dyconv:kernels=1", {}, "kernels must be a whole number of at least 2"),
    ("dyconv:reduction=0", {}, "reduction must be a whole number of at least 1"),
    ("dyconv:temperature=-1", {}, "temperature must be positive"),
]
RENAMES = {"attention.": ""}


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    kernels = options.get("kernels", 4)
    hidden = max(channels // options.get("reduction", 4), kernels)
    return size[0] * size[1] + channels + hidden + 2 * kernels + 9 * channels + POINTWISE


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    kernels: int = 4,
    reduction: int = 4,
    temperature: float = 30.0,
    steps: int = 50_040,
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    channels = x.shape[1]
    assert state["fc1.weight"].shape == (max(channels // reduction, kernels), channels)
    divisor = 1 + (temperature - 1) * max(0.0, 1 - (1 if training else 0) / steps)
    y = np.empty_like(x)
    for b in range(len(x)):
        means = np.array([x[b, c].sum() / x[b, c].size for c in range(channels)])
        hidden = np.maximum(state["fc1.weight"] @ means, 0)
        shares = np.exp((state["fc2.weight"] @ hidden + state["fc2.bias"]) / divisor)
        mixed = np.zeros((channels, channels, 3, 3))
        for k in range(kernels):
            mixed += shares[k] / shares.sum() * state["weight"][k].reshape(mixed.shape)
        y[b] = convolved(x[b], mixed, padding=(1, 1))
    return y


def test_dynamic_convolution_mixes_the_biases_too() -> None:
    shape = ConvShape(4, 4, kernel_size=(3, 3), padding=(1, 1), bias=True)
    module = foveate.create("dyconv", shape, temperature=1.0).double().eval()
    torch.nn.init.normal_(module.bias)
    torch.nn.init.normal_(module.fc2.bias)
    zeros = torch.zeros(1, 4, 3, 3, dtype=torch.float64)
    expected = gate(module, zeros) @ module.bias
    torch.testing.assert_close(module(zeros)[0, :, 1, 1], expected[0])


def test_dynamic_convolution_shares_are_nearly_equal_while_it_is_hot() -> None:
    torch.manual_seed(0)
    module = foveate.create("dyconv", 16).double()
    x = Subject.of("dyconv").input(4, dtype=torch.float64)
    hot = gate(module.eval(), x)
    module.temperature.num_batches_tracked.fill_(50_040)
    cold = gate(module, x)
    assert (cold - 0.25).abs().max() > 3 * (hot - 0.25).abs().max()
    # log-odds against the first kernel are thirty times as large
    torch.testing.assert_close((cold / cold[:, :1]).log(), 30 * (hot / hot[:, :1]).log())


def test_dynamic_convolution_temperature_is_in_the_state_and_falls_by_itself() -> None:
    """In copies it is a plain attribute: forgotten by a checkpoint, and it falls only if somebody calls for it."""
    module = foveate.create("dyconv", 4, temperature=5.0, steps=4)
    like, seen = torch.zeros(1), []
    for _ in range(5):
        module.train()(torch.randn(2, 4, 5, 5))
        seen.append(float(module.temperature.eval()(like)))
    assert seen == [4.0, 3.0, 2.0, 1.0, 1.0]
    again = foveate.create("dyconv", 4, temperature=5.0, steps=4).eval()
    again.load_state_dict(module.state_dict())
    assert float(again.temperature(like)) == 1.0


@pytest.mark.parametrize("channels", [1, 3])
def test_dynamic_convolution_has_a_hidden_unit_for_every_kernel(channels: int) -> None:
    """One unit that is off for every image would leave kernels that start alike alike for good."""
    assert foveate.create("dyconv", channels).fc1.out_features == 4


def test_dynamic_convolution_gives_strided_maps_their_size() -> None:
    """Copies view the output with the input's height and width."""
    shape = ConvShape(4, 6, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1))
    assert foveate.create("dyconv", shape)(torch.randn(2, 4, 7, 8)).shape == (2, 6, 4, 4)
