"""Bottleneck Attention Module in NumPy, from Park et al., section 3, with the norms of the released code.

Channel: M_c = W₁ δ(norm(W₀ mean_hw(F) + b₀)) + b₁, δ the ReLU.
Spatial: M_s = f¹ˣ¹(g(g(δ(norm(f¹ˣ¹(F)))))), g a dilated 3×3 convolution, norm and ReLU; zero beyond the map.
Output: F + F ⊗ σ(M_c · M_s), or σ(M_c + M_s) in the paper.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import foveate
from tests.support.oracles import BATCH, Options, product
from tests.support.weights import fill, gate, has_deviation

POINTWISE = 16  # sigmoid, norms, products
OPTIONS = [
    *product(combine=("product", "sum"), dilation=(4, 1)),
    {"reduction": 1, "dilation": 2},
    {"reduction": 3},
]
EVERY = 3
VARIANTS = {
    "bam:combine=sum": 1,
    "bam:reduction=4,dilation=2": 1,
}
REFUSED = [
    ("bam:reduction=0", {}, "reduction must be a whole number of at least 1"),
    ("bam:dilation=0", {}, "dilation must be a whole number of at least 1"),
    ("bam:combine=add", {}, "combine must be one of 'product', 'sum'"),
]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    hidden = max(1, channels // options.get("reduction", 16))
    positions = size[0] * size[1]
    statistics = 2 * BATCH * positions if training else 0
    return positions + 2 * channels + 19 * hidden + 3 * statistics + POINTWISE


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    reduction: int = 16,
    dilation: int = 4,
    combine: str = "product",
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    batch, channels, height, width = x.shape
    hidden = max(1, channels // reduction)
    assert state["mlp.0.weight"].shape == (hidden, channels)
    means = x.reshape(batch, channels, -1).sum(2) / (height * width)
    inner = means @ state["mlp.0.weight"].T + state["mlp.0.bias"]
    inner = np.maximum(norm(inner[:, :, None, None], state, "mlp.1", training)[:, :, 0, 0], 0)
    what = inner @ state["mlp.3.weight"].T + state["mlp.3.bias"]

    reduced = np.einsum("oc,bchw->bohw", state["surround.0.weight"][:, :, 0, 0], x)
    reduced = reduced + state["surround.0.bias"][:, None, None]
    reduced = np.maximum(norm(reduced, state, "surround.1", training), 0)
    for convolution, following in (("surround.3", "surround.4"), ("surround.6", "surround.7")):
        reduced = dilated(reduced, state[f"{convolution}.weight"], state[f"{convolution}.bias"], dilation)
        reduced = np.maximum(norm(reduced, state, following, training), 0)
    where = np.einsum("c,bchw->bhw", state["project.weight"].reshape(-1), reduced) + state["project.bias"][0]

    y = np.empty_like(x)
    for b, c in np.ndindex(batch, channels):
        logits = what[b, c] * where[b] if combine == "product" else what[b, c] + where[b]
        y[b, c] = x[b, c] + x[b, c] / (1 + np.exp(-logits))
    return y


def dilated(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray, spacing: int) -> np.ndarray:
    out = np.zeros_like(x) + bias[:, None, None]
    height, width = x.shape[2:]
    for i, j, di, dj in np.ndindex(height, width, 3, 3):
        row, column = i + spacing * (di - 1), j + spacing * (dj - 1)
        if 0 <= row < height and 0 <= column < width:
            out[:, :, i, j] += x[:, :, row, column] @ kernel[:, :, di, dj].T
    return out


def norm(x: np.ndarray, state: dict[str, np.ndarray], name: str, training: bool) -> np.ndarray:
    """With the statistics of the batch in training; of one value a channel there are none (named on the card)."""
    mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    if training and x.shape[0] * x.shape[2] * x.shape[3] > 1:
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
    scale = state[f"{name}.weight"] / np.sqrt(variance + 1e-5)
    each = (slice(None), None, None)
    return (x - mean[each]) * scale[each] + state[f"{name}.bias"][each]


def logits(module: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    return torch.logit(gate(module, x) - 1)


def test_bam_multiplies_the_logits_of_its_branches_unless_told_to_add_them() -> None:
    x = torch.randn(1, 8, 5, 5, dtype=torch.float64)
    for combine, expected in (("product", -6.0), ("sum", -1.0)):
        module = foveate.create("bam", 8, combine=combine, dtype=torch.float64).eval()
        for last, value in ((module.mlp[3], 2.0), (module.project, -3.0)):
            fill(last, 0.0)
            fill(last, value, "bias")
        torch.testing.assert_close(logits(module, x), torch.full_like(x, expected))


def test_bam_adds_its_gated_features_to_the_features() -> None:
    weights = gate(foveate.create("bam", 8).eval(), torch.randn(2, 8, 5, 5))
    assert ((weights > 1) & (weights < 2)).all()


def test_bam_has_one_hidden_layer_with_a_norm_inside_and_two_dilated_convolutions_of_four() -> None:
    module = foveate.create("bam", 64)
    kinds = ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert [type(layer).__name__ for layer in module.mlp] == kinds
    kinds = ["Conv2d", "BatchNorm2d", "ReLU"]
    assert [type(layer).__name__ for layer in module.surround] == 3 * kinds
    for layer in (module.surround[3], module.surround[6]):
        assert (layer.kernel_size, layer.dilation, layer.padding) == ((3, 3), (4, 4), (4, 4))


def test_bam_sees_as_far_as_two_convolutions_of_dilation_four() -> None:
    module = foveate.create("bam", 1).double().eval()
    for layer in (module.surround[0], module.surround[3], module.surround[6]):
        fill(layer, 1.0)
    fill(module.project, 0.01)
    fill(module.mlp[3], 1.0, "bias")
    base = torch.ones(1, 1, 19, 19, dtype=torch.float64)
    spot = base.clone()
    spot[0, 0, 9, 9] = 2.0
    fill(module.mlp[0], 0.0)  # else the mean reaches everywhere
    reached = (gate(module, spot) != gate(module, base))[0, 0].nonzero().tolist()
    assert reached == [[i, j] for i in range(1, 18, 4) for j in range(1, 18, 4)]


@pytest.mark.parametrize("size", [(7, 7), (9, 9), (14, 14), (4, 9), (9, 4)])
def test_bam_keeps_the_size_of_any_map_square_or_not(size: tuple[int, int]) -> None:
    module = foveate.create("bam", 16).eval()
    assert module(torch.randn(1, 16, *size)).shape == (1, 16, *size)


def test_bam_trains_on_one_sample() -> None:
    module = foveate.create("bam", 16).train()
    before = module.mlp[1].running_mean.clone()
    assert module(torch.randn(1, 16, 5, 6)).isfinite().all()
    assert torch.equal(module.mlp[1].running_mean, before)


def test_bam_starts_as_the_authors_network_does() -> None:
    module = foveate.create("bam", 1024)
    for layer in (module.surround[3], module.surround[6]):
        assert has_deviation(layer.weight, (2 / (64 * 9)) ** 0.5)
    assert has_deviation(module.surround[0].weight, (2 / 64) ** 0.5)
    biases = [p for name, p in module.named_parameters() if name.endswith("bias")]
    assert len(biases) == 10
    assert not any(bias.any() for bias in biases)


def test_bam_after_the_first_three_stages_of_a_resnet50_adds_what_it_does_in_the_authors_network() -> None:
    with torch.device("meta"):
        modules = [foveate.create("bam", channels) for channels in (256, 512, 1024)]
    added = sum(p.numel() for module in modules for p in module.parameters())
    assert 25_557_032 + added == 25_915_099  # counted in theirs
