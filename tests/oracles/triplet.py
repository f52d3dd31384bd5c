"""Triplet Attention in NumPy, from Misra et al., section 3.

Three branches. Each looks along one axis, takes the maximum and the mean there (Z-pool), and lays the other two axes
out as a plane: channels × columns, rows × channels, rows × columns. A k×k convolution of two planes to one, batch
normalisation and a sigmoid make the branch's weights; the output is the mean over branches of features × weights.
"""

from __future__ import annotations

import numpy as np
import torch
import torchvision
from torch import nn

import foveate
from foveate.measure import count_macs
from foveate.surgery import attach
from tests.support.oracles import BATCH, Options, product
from tests.support.weights import fill, has_deviation, weights_of

POINTWISE = 16  # sigmoid, scale, shift, mean of three
OPTIONS = product(kernel_size=(3, 7), no_spatial=(False, True))
EVERY = 3
VARIANTS = {
    "triplet:no_spatial=true": 1,
    "triplet:kernel_size=1": 1,
}
REFUSED = [
    ("triplet:kernel_size=4", {}, "3 and 5"),
    ("triplet:no_spatial=1", {}, "true or false"),
]
RESNETS = [
    (18, "triplet", 11_691_912),
    (50, "triplet", 25_561_832),
]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    pool = max(channels, *size)
    plane = max(channels * size[1], size[0] * channels, size[0] * size[1])
    return pool + 2 * options.get("kernel_size", 7) ** 2 + (2 * BATCH * plane if training else 0) + POINTWISE


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    kernel_size: int = 7,
    no_spatial: bool = False,
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    branches = {"cw": 2, "hc": 3} if no_spatial else {"cw": 2, "hc": 3, "hw": 1}
    assert {name.split(".")[0] for name in state} == set(branches)
    total = np.zeros_like(x)
    for name, axis in branches.items():
        planes = [x.max(axis), x.sum(axis) / x.shape[axis]]
        if name == "hc":  # what is left is (b, c, h)
            planes = [plane.swapaxes(1, 2) for plane in planes]
        gate = plane_gate(planes, state, name, kernel_size, training)
        if name == "cw":
            total += x * gate[:, :, None, :]
        elif name == "hc":
            total += x * gate.swapaxes(1, 2)[:, :, :, None]
        else:
            total += x * gate[:, None]
    return total / len(branches)


def plane_gate(
    planes: list[np.ndarray], state: dict[str, np.ndarray], name: str, kernel_size: int, training: bool
) -> np.ndarray:
    kernel = state[f"{name}.0.weight"]
    assert kernel.shape == (1, 2, kernel_size, kernel_size)
    rows, columns = planes[0].shape[1:]
    half = (kernel_size - 1) // 2
    logits = np.zeros_like(planes[0])
    for i in range(kernel_size):
        for j in range(kernel_size):
            for row in range(max(0, half - i), min(rows, rows + half - i)):
                left, right = max(0, half - j), min(columns, columns + half - j)
                if left < right:
                    for s, plane in enumerate(planes):
                        seen = plane[:, row + i - half, left + j - half : right + j - half]
                        logits[:, row, left:right] += kernel[0, s, i, j] * seen
    mean, variance = state[f"{name}.1.running_mean"][0], state[f"{name}.1.running_var"][0]
    if training and logits.size > 1:  # one value has no statistics of its own (named on the card)
        mean, variance = logits.mean(), logits.var()
    logits = (logits - mean) / np.sqrt(variance + 1e-5)
    logits = logits * state[f"{name}.1.weight"][0] + state[f"{name}.1.bias"][0]
    return 1 / (1 + np.exp(-logits))


def only(plane: int, branch: str) -> nn.Module:
    """A module whose branch passes one plane of its two on as it is, before the sigmoid."""
    module = foveate.create("triplet", 3, kernel_size=1).eval()
    for name in ("cw", "hc", "hw"):
        layers = getattr(module, name)
        fill(layers[0], 0.0)
        fill(layers[1], 1.0)
        layers[1].eps = 0.0
    with torch.no_grad():
        getattr(module, branch)[0].weight[0, plane] = 1.0
    return module


def test_triplet_takes_the_maximum_then_the_mean() -> None:
    x = torch.randn(2, 3, 4, 5)
    for branch, axis in (("cw", 2), ("hc", 3), ("hw", 1)):
        for plane, summary in ((0, x.amax(axis, keepdim=True)), (1, x.mean(axis, keepdim=True))):
            weights = weights_of(only(plane, branch), x)[f"{branch}_map"]
            torch.testing.assert_close(weights, summary.sigmoid())


def test_triplet_has_no_relu_before_its_sigmoids() -> None:
    module = foveate.create("triplet", 4).eval()
    for branch in (module.cw, module.hc, module.hw):
        fill(branch[1], 0.0)
        fill(branch[1], -2.0, "bias")
    for weights in weights_of(module, torch.randn(1, 4, 5, 6)).values():
        torch.testing.assert_close(weights, torch.full_like(weights, -2.0).sigmoid())  # a ReLU would make it a half


def test_triplet_averages_its_branches() -> None:
    x = torch.randn(2, 4, 5, 6)
    for no_spatial, branches in ((False, 3), (True, 2)):
        module = foveate.create("triplet", 4, no_spatial=no_spatial).eval()
        weights = weights_of(module, x).values()
        assert len(weights) == branches
        torch.testing.assert_close(module(x), sum(x * w for w in weights) / branches)


def test_triplets_norms_are_the_authors() -> None:
    module = foveate.create("triplet", 16)
    for branch in (module.cw, module.hc, module.hw):
        assert branch[0].bias is None
        assert branch[0].kernel_size == (7, 7)
        assert (branch[1].momentum, branch[1].eps, branch[1].num_features) == (0.01, 1e-5, 1)


def test_triplet_starts_as_the_authors_network_does() -> None:
    modules = [foveate.create("triplet", 32) for _ in range(40)]
    for name, scale in (("cw", 1.0), ("hc", 1.0), ("hw", 0.0)):
        branches = [getattr(module, name) for module in modules]
        assert has_deviation(torch.cat([branch[0].weight for branch in branches]), (2 / 49) ** 0.5)
        assert all(branch[1].weight.item() == scale and branch[1].bias.item() == 0 for branch in branches)


def test_triplet_has_no_option_that_does_nothing() -> None:
    """The authors' class takes a reduction and pools, and uses neither."""
    assert set(foveate.get("triplet").options) == {"kernel_size", "no_spatial"}


def test_triplet_has_as_many_parameters_whatever_the_channels() -> None:
    for channels in (1, 16, 512):  # three convolutions of 2·7·7 weights, three norms of two
        assert sum(p.numel() for p in foveate.create("triplet", channels).parameters()) == 300


def test_triplet_in_resnet_50_has_the_published_multiply_accumulates() -> None:
    x = torch.empty(1, 3, 224, 224, device="meta")
    with torch.device("meta"):
        model = torchvision.models.resnet50(weights=None).eval()
    attach(model, "triplet", start="paper", example=x)
    assert f"{count_macs(model, x) / 1e9:.4f}" == "4.1355"
