"""Gather-Excite in NumPy, from Hu et al., sections 2 and 3, and the figures of their GENet repository.

Gather: position u of the summary stands for the neighbourhood {E·u + δ : |δ| ≤ ⌊(2E - 1)/2⌋} of the map.
  θ⁻  the mean of the positions of the neighbourhood that are inside the map; with global extent, of all
  θ   log₂ E depthwise 3×3 convolutions of stride 2, each with a norm, ReLU between them; with global extent one
      depthwise convolution as large as the map, with a norm
  θ⁺  θ, then ReLU, a 1×1 convolution to C/16 channels, ReLU, a 1×1 convolution to C channels
Excite: x · σ(interp(summary)), interp the nearest neighbour.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import foveate
from foveate.errors import FoveateError, OptionError
from tests.support.oracles import BATCH, Options, product
from tests.support.weights import fill, gate, has_deviation

POINTWISE = 16  # sigmoid, scale, shift, interpolation
OPTIONS = product(variant=("theta_minus", "theta", "theta_plus"), extent=(2, 4, 8, "global"))
ONE_SAMPLE = {"extent": 2}
VARIANTS = {
    "gather_excite:variant=theta_minus,extent=2": 3,
    "gather_excite:variant=theta_minus,extent=4": 5,
    "gather_excite:variant=theta_minus,extent=8": 9,
    "gather_excite:variant=theta_minus,extent=global": 1,
    "gather_excite:variant=theta,extent=2": 3,
    "gather_excite:variant=theta,extent=4": 5,
    "gather_excite:variant=theta,extent=global": 1,
    "gather_excite:variant=theta_plus,extent=2": 3,
    "gather_excite:variant=theta_plus,extent=4": 5,
    "gather_excite:variant=theta_plus,extent=8": 9,
    "gather_excite:variant=theta_plus,extent=global": 1,
}
CAPTURED = (
    "gather_excite:variant=theta_minus,extent=2",
    "gather_excite:variant=theta_minus,extent=global",
    "gather_excite:variant=theta_plus,extent=4",
    "gather_excite:variant=theta_plus,extent=global",
)
REFUSED = [
    ("ge:extent=16", {}, "extent must be one of 2, 4, 8, 'global'"),
    ("ge:extent=2.0", {}, "extent must be one of"),
    ("ge:variant=plus", {}, "variant must be one of"),
    ("ge:extent=global", {"size": (5,)}, "size"),
]
RENAMES = {
    "conv2_1/gather/bn/mean": "pool.1.running_mean",
    "conv2_1/gather/bn/variance": "pool.1.running_var",
    "conv2_1/gather/bn/scale": "pool.1.weight",
    "conv2_1/gather/bn/shift": "pool.1.bias",
    "conv2_1/gather/": "pool.0.",
    "conv2_1/excite/1x1_down/": "excite.1.",
    "conv2_1/excite/1x1_up/": "excite.3.",
}
RESNETS = [
    (50, "gather_excite:variant=theta_minus,extent=2", 25_557_032),
    (50, "gather_excite:variant=theta_minus,extent=global", 25_557_032),
    (50, "gather_excite:variant=theta,extent=2", 25_723_176),
    (50, "gather_excite:variant=theta,extent=4", 25_889_320),
    (50, "gather_excite:variant=theta,extent=8", 26_055_464),
    (50, "gather_excite:variant=theta,extent=global", 31_106_600),
    (50, "gather_excite:variant=theta_plus,extent=global", 33_637_592),
    (101, "gather_excite:variant=theta,extent=global", 53_545_512),
    (101, "gather_excite:variant=theta_plus,extent=global", 58_323_224),
]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    positions = size[0] * size[1]
    statistics = 2 * BATCH * positions if training else 0
    gather = positions + statistics if options.get("extent") == "global" else 3 * (9 + statistics)
    return gather + 2 * channels + POINTWISE


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    size: tuple[int, int] | None = None,
    variant: str = "theta",
    extent: int | str = 8,
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    if variant == "theta_minus":
        assert not state
        summary = x.mean((2, 3), keepdims=True) if extent == "global" else neighbourhood_means(x, int(extent))
    elif extent == "global":
        assert size == x.shape[2:]
        kernel = state["pool.0.weight"]
        assert kernel.shape == (x.shape[1], 1, *size)
        summary = np.einsum("bchw,chw->bc", x, kernel[:, 0])[:, :, None, None]
        summary = batch_norm(summary, state, "pool.1", training)
    else:
        summary = x
        steps = {2: 1, 4: 2, 8: 3}[int(extent)]
        for step in range(steps):
            if step > 0:
                summary = np.maximum(summary, 0)
            summary = strided_depthwise(summary, state[f"pool.{3 * step}.weight"])
            summary = batch_norm(summary, state, f"pool.{3 * step + 1}", training)

    if variant == "theta_plus":
        assert state["excite.1.weight"].shape[0] == max(1, x.shape[1] // 16)
        for layer in ("excite.1", "excite.3"):
            weight, bias = state[f"{layer}.weight"][:, :, 0, 0], state[f"{layer}.bias"]
            summary = np.einsum("oc,bchw->bohw", weight, np.maximum(summary, 0)) + bias[:, None, None]

    height, width = x.shape[2:]
    rows, columns = summary.shape[2:]
    y = np.empty_like(x)
    for i in range(height):
        for j in range(width):
            nearest = summary[:, :, i * rows // height, j * columns // width]
            y[:, :, i, j] = x[:, :, i, j] / (1 + np.exp(-nearest))
    return y


def neighbourhood_means(x: np.ndarray, extent: int) -> np.ndarray:
    batch, channels, height, width = x.shape
    rows, columns = -(-height // extent), -(-width // extent)
    means = np.empty((batch, channels, rows, columns))
    for p in range(rows):
        for q in range(columns):
            total, count = np.zeros((batch, channels)), 0
            for i in range(height):
                for j in range(width):
                    if abs(i - extent * p) <= extent - 1 and abs(j - extent * q) <= extent - 1:
                        total += x[:, :, i, j]
                        count += 1
            means[:, :, p, q] = total / count
    return means


def strided_depthwise(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Each channel with its own 3×3 kernel, centred on every second position; zero outside the map."""
    batch, channels, height, width = x.shape
    assert kernel.shape == (channels, 1, 3, 3)
    out = np.zeros((batch, channels, -(-height // 2), -(-width // 2)))
    for p in range(out.shape[2]):
        for q in range(out.shape[3]):
            for di in (-1, 0, 1):
                for dj in (-1, 0, 1):
                    i, j = 2 * p + di, 2 * q + dj
                    if 0 <= i < height and 0 <= j < width:
                        out[:, :, p, q] += x[:, :, i, j] * kernel[:, 0, di + 1, dj + 1]
    return out


def batch_norm(x: np.ndarray, state: dict[str, np.ndarray], name: str, training: bool) -> np.ndarray:
    """With the statistics of the batch in training; of one value a channel there are none (named on the card)."""
    mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    if training and x.shape[0] * x.shape[2] * x.shape[3] > 1:
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
    scale, shift = state[f"{name}.weight"], state[f"{name}.bias"]
    each = (slice(None), None, None)
    return (x - mean[each]) / np.sqrt(variance[each] + 1e-5) * scale[each] + shift[each]


@pytest.mark.parametrize("extent", [2, 4, 8])
def test_ge_theta_minus_pools_a_window_of_twice_the_extent_less_one(extent: int) -> None:
    length = 4 * extent + 1
    module = foveate.create("ge", 1, variant="theta_minus", extent=extent)
    for here in range(length):
        x = torch.zeros(1, 1, length, 1)
        x[0, 0, here] = 1.0
        reached = (gate(module, x) != 0.5).flatten().nonzero().flatten().tolist()
        assert reached == [p for p in range(5) if abs(extent * p - here) < extent], here


@pytest.mark.parametrize("extent", [2, 4, 8])
def test_ge_theta_minus_leaves_the_padding_out_of_the_mean(extent: int) -> None:
    module = foveate.create("ge", 2, variant="theta_minus", extent=extent)
    weights = gate(module, torch.full((1, 2, 9, 6), 3.0))
    torch.testing.assert_close(weights, torch.full_like(weights, 3.0).sigmoid())


@pytest.mark.parametrize("extent", [2, 4, 8])
@pytest.mark.parametrize("variant", ["theta_minus", "theta", "theta_plus"])
def test_ge_summarises_maps_smaller_than_its_extent(variant: str, extent: int) -> None:
    module = foveate.create("ge", 4, variant=variant, extent=extent).eval()
    for height, width in ((1, 1), (1, 3), (3, 2), (9, 7)):
        weights = gate(module, torch.randn(2, 4, height, width))
        assert weights.shape == (2, 4, -(-height // extent), -(-width // extent))


def test_ge_theta_minus_with_global_extent_has_nothing_to_learn_and_gates_by_the_mean() -> None:
    module = foveate.create("ge", 4, variant="theta_minus", extent="global")
    assert not list(module.parameters())
    x = torch.randn(2, 4, 5, 3)
    torch.testing.assert_close(module(x), x * x.mean((2, 3), keepdim=True).sigmoid())


def test_ge_theta_has_no_relu_after_its_last_norm() -> None:
    module = foveate.create("ge", 4, extent=8).eval()
    last = [layer for layer in module.pool if isinstance(layer, nn.BatchNorm2d)][-1]
    fill(last, 0.0)
    fill(last, -2.0, "bias")
    weights = gate(module, torch.randn(1, 4, 8, 8))
    torch.testing.assert_close(weights, torch.full_like(weights, -2.0).sigmoid())  # a ReLU would make it a half


def test_ge_theta_has_relu_between_its_convolutions() -> None:
    module = foveate.create("ge", 4, extent=4).eval()
    first, last = (layer for layer in module.pool if isinstance(layer, nn.BatchNorm2d))
    fill(first, 0.0)
    fill(last, 0.5, "bias")
    x = torch.randn(1, 4, 8, 8)
    for negative in (-1.0, -5.0):  # nothing passes the ReLU, however negative it is
        fill(first, negative, "bias")
        weights = gate(module, x)
        torch.testing.assert_close(weights, torch.full_like(weights, 0.5).sigmoid())


@pytest.mark.parametrize("extent", [8, "global"])
def test_ge_theta_plus_has_relu_before_its_bottleneck(extent: int | str) -> None:
    module = foveate.create("ge", 4, size=(8, 8), variant="theta_plus", extent=extent).eval()
    last = [layer for layer in module.pool if isinstance(layer, nn.BatchNorm2d)][-1]
    fill(last, 0.0)
    fill(last, -3.0, "bias")
    fill(module.excite[1], -1.0)
    fill(module.excite[3], 1.0)
    weights = gate(module, torch.randn(1, 4, 8, 8))
    torch.testing.assert_close(weights, torch.full_like(weights, 0.5))  # without it -1 · 4 · -3 would come in


def test_ge_theta_plus_has_biases_in_its_bottleneck_and_none_in_its_gather() -> None:
    module = foveate.create("ge", 32, variant="theta_plus", extent=2)
    biases = {name for name, _ in module.named_parameters() if name.endswith("bias")}
    assert biases == {"pool.1.bias", "excite.1.bias", "excite.3.bias"}


def test_ge_starts_as_the_prototxt_says() -> None:
    module = foveate.create("ge", 256, variant="theta_plus", extent=2)
    assert has_deviation(module.pool[0].weight, (2 / 9) ** 0.5)
    for layer in (module.excite[1], module.excite[3]):
        assert has_deviation(layer.weight, 0.01)
        assert not layer.bias.any()
    assert (module.pool[1].weight == 1).all()
    assert not module.pool[1].bias.any()


@pytest.mark.parametrize("variant", ["theta", "theta_plus"])
def test_ge_with_a_global_kernel_says_which_size_it_is_tied_to(variant: str) -> None:
    module = foveate.create("ge", 4, size=(7, 5), variant=variant, extent="global")
    assert module.fixed_size == (7, 5)
    with pytest.raises(FoveateError, match=r"tied to maps of 7×5.*got 5×7.*run at any size"):
        module(torch.randn(1, 4, 5, 7))
    with pytest.raises(OptionError, match=r"kernel as large as the map: give the map's size"):
        foveate.create("ge", 4, variant=variant, extent="global")


@pytest.mark.parametrize(("extent", "steps"), [(2, 1), (4, 2), (8, 3)])
def test_ge_theta_has_a_convolution_and_a_norm_of_its_own_for_every_halving(extent: int, steps: int) -> None:
    """A copy repeats one module, begins with the ReLU, and normalises before it convolves."""
    module = foveate.create("ge", 8, variant="theta", extent=extent)
    kinds = ["Conv2d", "BatchNorm2d", "ReLU"] * steps
    assert [type(layer).__name__ for layer in module.pool] == kinds[:-1]
    assert len(set(map(id, module.pool))) == len(kinds) - 1
    assert sum(parameter.numel() for parameter in module.parameters()) == steps * 8 * (9 + 2)
