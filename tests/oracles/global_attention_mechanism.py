"""Global Attention Mechanism in NumPy, from Liu et al., section 3, equations 1 and 2 and figures 1 to 3.

F₂ = M_c(F₁) · F₁: two layers over the channels of each position, ReLU between them, a sigmoid after them.
F₃ = M_s(F₂) · F₂: two 7×7 convolutions, each with a norm, ReLU between them, a sigmoid after them. With groups, each
convolution sees its own group of channels, and between them the channels are dealt out to the groups in turn.
"""

from __future__ import annotations

import numpy as np
import torch

import foveate
from tests.support.oracles import BATCH, Options, product
from tests.support.weights import fill, weights_of

POINTWISE = 32
OPTIONS = product(reduction=(4, 16), groups=(1, 2))
CHANNELS = (2, 6, 16)
SIZES = ((1, 1), (1, 5), (7, 5), (6, 6))
EVERY = 7
VARIANTS = {
    "global_attention_mechanism:groups=2,reduction=4": 1,
}
REFUSED = [
    ("gam:groups=3", {}, "16 channels cannot be split into groups=3.*15 and 18 channels; for 16 it may be 2 or 4"),
    ("gam:reduction=0", {}, "reduction must be a whole number of at least 1"),
]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    statistics = 4 * BATCH * size[0] * size[1] if training else 0
    return 2 * (1 + 49) * 2 * channels + statistics + POINTWISE


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    reduction: int = 16,
    groups: int = 1,
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    hidden = max(1, x.shape[1] // reduction)
    y = np.empty_like(x)
    for b, _, i, j in np.ndindex(x.shape[0], 1, *x.shape[2:]):
        inner = state["channel.fc1.weight"][:, :, 0, 0] @ x[b, :, i, j] + state["channel.fc1.bias"]
        assert len(inner) == hidden
        logits = state["channel.fc2.weight"][:, :, 0, 0] @ np.maximum(inner, 0) + state["channel.fc2.bias"]
        y[b, :, i, j] = x[b, :, i, j] / (1 + np.exp(-logits))

    inner = convolve(y, state, "spatial.conv1", groups)
    assert inner.shape[1] == max(groups, hidden - hidden % groups)
    inner = np.maximum(norm(inner, state, "spatial.norm1", training), 0)
    width = inner.shape[1] // groups
    inner = inner[:, [g * width + i for i in range(width) for g in range(groups)]]
    logits = norm(convolve(inner, state, "spatial.conv2", groups), state, "spatial.norm2", training)
    return y / (1 + np.exp(-logits))


def convolve(x: np.ndarray, state: dict[str, np.ndarray], name: str, groups: int) -> np.ndarray:
    kernel, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    outputs, width = kernel.shape[:2]
    assert kernel.shape[2:] == (7, 7)
    assert width == x.shape[1] // groups
    batch, _, height, columns = x.shape
    padded = np.zeros((batch, x.shape[1], height + 6, columns + 6))
    padded[:, :, 3:-3, 3:-3] = x
    out = np.zeros((batch, outputs, height, columns)) + bias[:, None, None]
    for o in range(outputs):
        first = o // (outputs // groups) * width
        for i in range(height):
            for j in range(columns):
                window = padded[:, first : first + width, i : i + 7, j : j + 7]
                out[:, o, i, j] += (window * kernel[o]).sum((1, 2, 3))
    return out


def norm(x: np.ndarray, state: dict[str, np.ndarray], name: str, training: bool) -> np.ndarray:
    """With the statistics of the batch in training; of one value a channel there are none (named on the card)."""
    mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    if training and x.shape[0] * x.shape[2] * x.shape[3] > 1:
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
    each = (slice(None), None, None)
    normal = (x - mean[each]) / np.sqrt(variance[each] + 1e-5)
    return normal * state[f"{name}.weight"][each] + state[f"{name}.bias"][each]


def test_gam_has_a_sigmoid_on_both_gates() -> None:
    module = foveate.create("gam", 16).eval()
    fill(module.channel.fc2, 0.0)
    fill(module.channel.fc2, -2.0, "bias")
    fill(module.spatial.norm2, 0.0)
    fill(module.spatial.norm2, -1.0, "bias")
    for weights, logit in zip(weights_of(module, torch.randn(1, 16, 5, 6)).values(), (-2.0, -1.0), strict=True):
        assert weights.shape == (1, 16, 5, 6)
        torch.testing.assert_close(weights, torch.full_like(weights, logit).sigmoid())


def test_gams_reduction_gives_the_printed_size_of_resnet_50_on_cifar() -> None:
    """149.5 M, as the README of YOLOonMe/EMA-attention-module prints it; a reduction of 4 would give 527 M."""
    added = 0
    with torch.device("meta"):
        for channels, blocks in ((256, 3), (512, 4), (1024, 6), (2048, 3)):
            added += blocks * sum(p.numel() for p in foveate.create("gam", channels).parameters())
    plain = 25_557_032 - 2_049_000 + 204_900  # with 100 classes in place of 1000
    assert round((plain + added) / 1e6, 1) == 149.5


def test_gams_gates_see_all_groups_and_stay_with_their_channels() -> None:
    module = foveate.create("gam", 16, reduction=2, groups=4).eval()
    x = torch.randn(1, 16, 3, 3, requires_grad=True)
    weights = module.spatial.weigh(module.spatial.gather(x))
    (gradient,) = torch.autograd.grad(weights[0, 0].sum(), x)
    reached = gradient.abs().amax((0, 2, 3)) > 0
    assert reached.unflatten(0, (4, 4)).any(1).sum() == 2  # its group has two hidden channels, of two groups
    torch.testing.assert_close(module.spatial(x), x * weights)


def test_gam_with_fewer_channels_than_its_reduction_is_not_a_constant_gate() -> None:
    module = foveate.create("gam", 3).eval()
    assert module.channel.fc1.out_channels == 1
    fill(module.channel.fc1, 1.0)
    low, high = (weights_of(module, torch.full((1, 3, 2, 2), v))["channel.map"] for v in (1.0, 2.0))
    assert not torch.equal(low, high)
