"""Omni-dimensional dynamic convolution in NumPy, from Li et al., section 3 (equation 2 and figure 2).

y = (Σᵢ α_wi ⊙ α_fi ⊙ α_ci ⊙ α_si ⊙ Wᵢ) * x, the four attentions from one vector: the mean of the map through a fully
connected layer, batch normalisation and a ReLU, then one head each: softmax over the kernels, sigmoid for the filters,
the channels and the taps. All kernels share the last three, as in the released code. Logits are divided by a
temperature, which falls linearly to 1 with the number of training steps. All is multiplied by the state's `gain`, which
is 1 in the paper and where it does not say otherwise.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

import foveate
from foveate.replacement import ConvShape
from foveate.testing import Subject
from tests.support.convolution import convolved, normed
from tests.support.oracles import Options
from tests.support.weights import weights_of

POINTWISE = 60  # sigmoid, softmax, norm, temperature
EVERY = 5
OPTIONS: list[Options] = [
    {},
    {"kernels": 1},
    {"kernels": 3, "temperature": 1.0},
    {"kernels": 2, "reduction": 2, "min_hidden": 3, "temperature": 7.5, "steps": 3},
    {"steps": 2, "min_hidden": 1},
]
VARIANTS = {"odconv:kernels=1": 1}
REFUSED = [
    ("odconv:kernels=0", {}, "kernels must be a whole number of at least 1"),
    ("odconv:steps=0", {}, "steps must be a whole number of at least 1"),
    ("odconv:temperature=0", {}, "temperature must be positive"),
]
RENAMES = {
    "attention.fc.": "reduce.",
    "attention.bn.": "norm.",
    "attention.channel_fc.": "heads.input.",
    "attention.filter_fc.": "heads.output.",
    "attention.spatial_fc.": "heads.tap.",
    "attention.kernel_fc.": "heads.kernel.",
}


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    hidden = max(channels // options.get("reduction", 16), options.get("min_hidden", 16))
    return size[0] * size[1] + channels + hidden + 2 * 4 + options.get("kernels", 4) + 9 * channels + POINTWISE


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    kernels: int = 4,
    reduction: int = 16,
    min_hidden: int = 16,
    temperature: float = 30.0,
    steps: int = 50_040,
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    batch, channels, height, width = x.shape
    hidden = max(channels // reduction, min_hidden)
    assert state["reduce.weight"].shape == (hidden, channels)
    done = 1 if training else 0
    divisor = 1 + (temperature - 1) * max(0.0, 1 - done / steps)
    means = x.sum((2, 3)) / (height * width)
    context = np.maximum(normed(means @ state["reduce.weight"].T, state, "norm", training), 0)

    def logits(head: str) -> np.ndarray:
        return (context @ state[f"heads.{head}.weight"].T + state[f"heads.{head}.bias"]) / divisor

    def sigmoid(z: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-z))

    weight = state["weight"].reshape(kernels, channels, channels, 3, 3)
    y = np.empty_like(x)
    for b in range(batch):
        mixed = np.zeros((channels, channels, 3, 3))
        shares = np.exp(logits("kernel")[b]) if kernels > 1 else np.ones(1)
        for i in range(kernels):
            mixed += shares[i] / shares.sum() * weight[i]
        if channels > 1:  # of one channel, its filter and its input are one, as in a depthwise convolution
            mixed = mixed * sigmoid(logits("output")[b])[:, None, None, None]
        mixed = mixed * sigmoid(logits("input")[b])[None, :, None, None]
        mixed = mixed * sigmoid(logits("tap")[b]).reshape(3, 3)
        y[b] = convolved(x[b], mixed * state.get("gain", 1.0), padding=(1, 1))
    return y


@pytest.mark.parametrize(
    ("depth", "kernels", "millions"),
    [(18, 1, 11.94), (18, 4, 44.90), (50, 1, 28.64), (50, 4, 90.67), (101, 1, 50.82), (101, 2, 90.44)],
)
def test_odconv_has_the_parameters_of_the_published_resnets(depth: int, kernels: int, millions: float) -> None:
    """README of OSVAI/ODConv: in every convolution but the first and the shortcuts'."""
    with torch.device("meta"):
        model = getattr(torchvision.models, f"resnet{depth}")(weights=None)
    total = sum(p.numel() for p in model.parameters())
    for path, conv in model.named_modules():
        if isinstance(conv, nn.Conv2d) and path != "conv1" and "downsample" not in path:
            with torch.device("meta"):
                module = foveate.create("odconv", ConvShape.of(conv), kernels=kernels)
            total += sum(p.numel() for p in module.parameters()) - conv.weight.numel()
    assert round(total / 1e6, 2) == millions


def test_odconv_trains_on_one_image_where_the_authors_norm_raises() -> None:
    module = foveate.create("odconv", 8).train()
    assert module(torch.ones(1, 8, 5, 5)).isfinite().all()


def test_odconv_has_at_least_sixteen_hidden_units() -> None:
    assert [foveate.create("odconv", c).reduce.out_features for c in (1, 16, 256, 512, 1024)] == [16, 16, 16, 32, 64]


def test_odconv_weighs_kernels_by_a_softmax_and_the_rest_by_sigmoids() -> None:
    module = foveate.create("odconv", 4, temperature=1.0).double().eval()
    for name, parameter in module.heads.named_parameters():
        nn.init.constant_(parameter, 0.0) if name.endswith("weight") else parameter.data.normal_()
    seen = weights_of(module, torch.ones(2, 4, 5, 5, dtype=torch.float64))
    for name, weights in seen.items():
        bias = module.heads[name.removesuffix("_map")].bias.detach()
        expected = bias.softmax(0) if name == "kernel_map" else bias.sigmoid()
        torch.testing.assert_close(weights, expected.expand_as(weights), msg=name)


def test_odconv_leaves_out_the_heads_that_have_nothing_to_choose_from() -> None:
    def heads(shape: ConvShape, **options: int) -> list[str]:
        return list(foveate.create("odconv", shape, **options).heads)

    assert heads(ConvShape(8, 16)) == ["input", "output", "kernel"]
    assert heads(ConvShape(8, 8, kernel_size=(3, 3), groups=8)) == ["input", "tap", "kernel"]
    assert heads(ConvShape(8, 8, kernel_size=(3, 3), groups=4), kernels=1) == ["input", "output", "tap"]


def test_odconv_temperature_is_in_the_state_and_falls_by_itself() -> None:
    """The authors' is a plain attribute that the training script must set: a copy that forgets it never learns."""
    module = foveate.create("odconv", 4, temperature=5.0, steps=2).train()
    x = torch.randn(2, 4, 5, 5)
    for _ in range(3):
        module(x)
    assert module.state_dict()["temperature.num_batches_tracked"] == 3
    again = foveate.create("odconv", 4, temperature=5.0, steps=2).eval()
    again.load_state_dict(module.state_dict())
    assert again.temperature(x) == 1.0
    assert torch.equal(again(x), module.eval()(x))


def test_odconv_makes_up_for_its_scales_by_a_gain_that_is_saved() -> None:
    module = foveate.create("odconv", 4, dtype=torch.float64).eval()
    assert module.gain == 1.0
    conv = module.shape.convolution().double()
    assert module.take_over(conv) is None
    assert all(torch.equal(kernel, conv.weight.flatten(1)) for kernel in module.weight)
    again = foveate.create("odconv", 4, dtype=torch.float64).eval()
    again.load_state_dict(module.state_dict())
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(again(x), conv(x))
    expected = oracle(x.numpy(), {key: value.numpy() for key, value in again.state_dict().items()})
    torch.testing.assert_close(again(x), torch.from_numpy(expected))
    again.reset_parameters()
    assert again.gain == 1.0


@pytest.mark.parametrize("kernels", [1, 2, 3, 4])
def test_odconv_kernels_that_start_alike_become_different(kernels: int) -> None:
    torch.manual_seed(0)
    module = foveate.create("odconv", 8, kernels=kernels).double().train()
    conv = module.shape.convolution().double()
    assert module.take_over(conv) is None
    x = Subject.of("odconv").input(4, 8, dtype=torch.float64)
    torch.testing.assert_close(module(x), conv(x))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    module(x).square().sum().backward()
    optimizer.step()
    assert len({tuple(kernel.flatten().tolist()) for kernel in module.weight.detach()}) == kernels
