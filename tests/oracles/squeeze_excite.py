"""Squeeze-and-Excitation in NumPy, from Hu et al., section 3.

Squeeze (equation 2):    z_c = 1/(H W) Σ_ij u_c(i, j)
Excitation (equation 3): s = σ(W₂ δ(W₁ z)), δ the ReLU; the released networks add a bias to each layer
Scale (equation 4):      x̃_c = s_c u_c
"""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn

import foveate
from foveate.measure import count_macs
from foveate.surgery import attach
from tests.support.oracles import Options, product
from tests.support.weights import fill, gate, has_deviation

POINTWISE = 16  # sigmoid, scale, shift, interpolation
OPTIONS = product(reduction=(1, 4, 16), bias=(True, False))
NORMS = False
VARIANTS = {
    "squeeze_excite:bias=false": 1,
    "squeeze_excite:reduction=2": 1,
}
REFUSED = [
    ("se:reduction=0", {}, "reduction must be a whole number of at least 1"),
    ("se:bias=1", {}, "bias must be true or false"),
]
RENAMES = {
    "conv2_1_1x1_down/": "fc1.",
    "conv2_1_1x1_up/": "fc2.",
}
RESNETS = [
    (18, "squeeze_excite", 11_778_592),
    (34, "squeeze_excite", 21_958_868),
    (50, "squeeze_excite", 28_088_024),
    (101, "squeeze_excite", 49_326_872),
    (152, "squeeze_excite", 66_821_848),
    (18, "squeeze_excite:bias=false", 11_776_552),
    (34, "squeeze_excite:bias=false", 21_954_856),
    (50, "squeeze_excite:bias=false", 28_071_976),
    (101, "squeeze_excite:bias=false", 49_292_328),
    (152, "squeeze_excite:bias=false", 66_770_984),
    (50, "squeeze_excite:reduction=2", 45_699_240),
    (50, "squeeze_excite:reduction=4", 35_635_688),
    (50, "squeeze_excite:reduction=8", 30_603_912),
    (50, "squeeze_excite:reduction=32", 26_830_080),
]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    return size[0] * size[1] + channels + max(1, channels // options.get("reduction", 16)) + POINTWISE


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    reduction: int = 16,
    bias: bool = True,
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    batch, channels, height, width = x.shape
    hidden = max(1, channels // reduction)
    w1, w2 = state["fc1.weight"], state["fc2.weight"]
    assert w1.shape == (hidden, channels)
    assert w2.shape == (channels, hidden)
    assert ("fc1.bias" in state, "fc2.bias" in state) == (bias, bias)

    y = np.empty_like(x)
    for b in range(batch):
        z = np.zeros(channels)
        for i in range(height):
            for j in range(width):
                z += x[b, :, i, j] / (height * width)
        excited = w1 @ z
        if bias:
            excited = excited + state["fc1.bias"]
        excited = w2 @ np.maximum(excited, 0)
        if bias:
            excited = excited + state["fc2.bias"]
        s = 1 / (1 + np.exp(-excited))
        for c in range(channels):
            y[b, c] = s[c] * x[b, c]
    return y


@pytest.mark.parametrize("channels", [1, 3, 15])
def test_se_with_fewer_channels_than_its_reduction_is_not_a_constant_gate(channels: int) -> None:
    module = foveate.create("se", channels, reduction=16)
    fill(module.fc1, 1.0)
    fill(module.fc2, 1.0)
    for value in (-0.1, 0.1, 0.2):
        weights = gate(module, torch.full((1, channels, 2, 2), value))
        torch.testing.assert_close(weights, torch.full_like(weights, max(0.0, value * channels)).sigmoid())


def test_se_has_biases_in_both_layers_or_in_none() -> None:
    assert {n for n, _ in foveate.create("se", 32).named_parameters()} == {
        "fc1.weight",
        "fc1.bias",
        "fc2.weight",
        "fc2.bias",
    }
    assert {n for n, _ in foveate.create("se:bias=false", 32).named_parameters()} == {"fc1.weight", "fc2.weight"}


def test_se_starts_with_deviation_a_hundredth_and_no_bias() -> None:
    module = foveate.create("se", 512)
    for layer in (module.fc1, module.fc2):
        assert has_deviation(layer.weight, 0.01)
        assert not layer.bias.any()


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def millions(model: nn.Module) -> float:
    """As the paper's tables 10 to 16 count: running statistics included."""
    return round((parameters(model) + sum(buffer.numel() for buffer in model.buffers() if buffer.dim())) / 1e6, 1)


def resnet_50() -> nn.Module:
    with torch.device("meta"):
        return torchvision.models.resnet50(weights=None).eval()


IMAGE = torch.empty(1, 3, 224, 224, device="meta")


@pytest.mark.parametrize(("reduction", "printed"), [(2, 45.7), (4, 35.7), (16, 28.1), (32, 26.9)])
def test_se_has_the_parameters_of_the_papers_table_of_reductions(reduction: int, printed: float) -> None:
    """Table 10; the ablations leave the biases out. It prints 30.7 for a reduction of 8, by the same count 30.64."""
    model = resnet_50()
    attach(model, f"se:bias=false,reduction={reduction}", start="paper", example=IMAGE)
    assert millions(model) == printed


@pytest.mark.parametrize(("stages", "printed"), [((1,), 25.6), ((2,), 25.7), ((3,), 26.4), ((1, 2, 3, 4), 28.1)])
def test_se_has_the_parameters_of_the_papers_table_of_stages(stages: tuple[int, ...], printed: float) -> None:
    """Table 13, which calls the first stage with residual blocks its second; none is printed for the fifth."""
    model = resnet_50()
    attach(model, "se:bias=false", stages=stages, start="paper", example=IMAGE)
    assert millions(model) == printed


def test_se_inside_the_bottleneck_has_the_parameters_of_the_papers_table_of_places() -> None:
    """Table 15, SE_3×3: behind the 3×3 convolution's norm, where a map has a quarter of the channels."""
    model = resnet_50()
    attach(model, "se:bias=false", at="layer*.*.bn2", start="paper", example=IMAGE)
    assert millions(model) == 25.8


@pytest.mark.parametrize(
    ("host", "count", "billions"), [("resnext50_32x4d", 27_559_896, 4.23), ("resnext101_32x4d", 48_955_416, 7.97)]
)
def test_se_in_resnexts_has_the_parameters_of_the_authors_networks(host: str, count: int, billions: float) -> None:
    with torch.device("meta"):
        model = timm.create_model(host).eval()
    attach(model, "se", start="paper", example=IMAGE)
    assert parameters(model) == count
    assert round(count_macs(model, IMAGE) / 1e9, 2) == billions


def test_se_in_place_of_its_own_leaves_senet_154_as_large_as_it_is() -> None:
    with torch.device("meta"):
        model = timm.create_model("legacy_senet154")
        theirs = [module for module in model.modules() if type(module).__name__ == "SEModule"]
        ours = [foveate.create("se", module.fc1.in_channels) for module in theirs]
    assert len(theirs) == 50
    assert parameters(model) + sum(map(parameters, ours)) - sum(map(parameters, theirs)) == 115_088_984
