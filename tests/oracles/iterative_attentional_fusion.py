"""Iterative attentional feature fusion in NumPy, from Dai et al., Attentional Feature Fusion, sections 3.2 to 3.4.

M(U) = σ(L(U) + G(U)), L a bottleneck of 1×1 convolutions at every position (equation 3), G the same with weights of its
own on the mean over positions. X ⊎ Y = M(X + Y) ⊗ X + (1 - M(X + Y)) ⊗ Y (equation 5), and
Z = M'(X ⊎ Y) ⊗ X + (1 - M'(X ⊎ Y)) ⊗ Y (equation 4), M' like M with weights of its own.
"""

from __future__ import annotations

import numpy as np
import torch

import foveate
from tests.support.oracles import BATCH, Options, product
from tests.support.weights import fill, filled, weights_of

POINTWISE = 40  # twice: sum, sigmoid, scale, shift, weighted sum
OPTIONS = product(reduction=(1, 4, 5), share_global=(False, True))
EVERY = 3
VARIANTS = {
    "iterative_attentional_fusion:share_global=true": 1,
}
CAPTURED = ("iterative_attentional_fusion:share_global=true",)
REFUSED = [
    ("iaff:reduction=0", {}, "at least 1"),
    ("iaff:share_global=2", {}, "true or false"),
    ("iaff", {"partner_channels": 3}, "equal channels"),
]
RENAMES = {
    "local_att2.": "context.here.",
    "local_att.": "initial.here.",
    **{
        f"{theirs}.{number}.": f"{ours}.everywhere.{number - 1}."
        for theirs, ours in (("global_att2", "context"), ("global_att", "initial"))
        for number in (1, 2, 4, 5)
    },
}


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    positions = size[0] * size[1]
    statistics = 2 * 2 * BATCH * positions if training else 0
    # of few values with an offset the deviation is a part of their size: each of two norms magnifies what came before
    magnified = 4**2 if training else 1
    return 2 * (positions + 2 * channels) * magnified + 2 * statistics + POINTWISE


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    partner: np.ndarray,
    training: bool = False,
    reduction: int = 4,
    share_global: bool = False,
) -> np.ndarray:
    """What becomes of `x` and `partner`, of shape (b, c, h, w), with the module's `state`."""
    hidden = max(1, x.shape[1] // reduction)
    everywhere = "initial.everywhere" if share_global else "context.everywhere"
    first = weights(x + partner, state, "initial.here", "initial.everywhere", hidden, training)
    initial = first * x + (1 - first) * partner
    second = weights(initial, state, "context.here", everywhere, hidden, training)
    return second * x + (1 - second) * partner


def weights(
    u: np.ndarray, state: dict[str, np.ndarray], here: str, everywhere: str, hidden: int, training: bool
) -> np.ndarray:
    batch, _, height, width = u.shape
    rows = np.stack([u[b, :, i, j] for b in range(batch) for i in range(height) for j in range(width)])
    means = np.stack([rows[b * height * width : (b + 1) * height * width].mean(0) for b in range(batch)])
    local = bottleneck(rows, state, here, hidden, training)
    whole = bottleneck(means, state, everywhere, hidden, training)
    m = np.empty_like(u)
    for b in range(batch):
        for i in range(height):
            for j in range(width):
                m[b, :, i, j] = 1 / (1 + np.exp(-(local[(b * height + i) * width + j] + whole[b])))
    return m


def bottleneck(rows: np.ndarray, state: dict[str, np.ndarray], name: str, hidden: int, training: bool) -> np.ndarray:
    """Every row to fewer channels and back, with a norm after either convolution and ReLU between them."""
    down, up = state[f"{name}.0.weight"][:, :, 0, 0], state[f"{name}.3.weight"][:, :, 0, 0]
    assert down.shape == (hidden, rows.shape[1]) and up.shape == down.T.shape
    between = normed(rows @ down.T + state[f"{name}.0.bias"], state, f"{name}.1", training)
    return normed(np.where(between > 0, between, 0) @ up.T + state[f"{name}.3.bias"], state, f"{name}.4", training)


def normed(rows: np.ndarray, state: dict[str, np.ndarray], name: str, training: bool) -> np.ndarray:
    """With the statistics of the batch in training; of one value a channel there are none (named on the card)."""
    mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    if training and len(rows) > 1:
        mean, variance = rows.mean(0), rows.var(0)
    return (rows - mean) / np.sqrt(variance + 1e-5) * state[f"{name}.weight"] + state[f"{name}.bias"]


def pair(channels: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, channels, 5, 6, generator=generator), torch.randn(2, channels, 5, 6, generator=generator)


def parameters(spec: str, channels: int) -> int:
    return sum(parameter.numel() for parameter in foveate.create(spec, channels).parameters())


def test_iaffs_second_step_has_a_global_context_of_its_own_where_the_pytorch_code_uses_the_firsts() -> None:
    x, y = pair()
    for spec, own in (("iaff", True), ("iaff:share_global=true", False)):
        module = filled(foveate.create(spec, 8))
        before = dict(weights_of(module, x, y))
        fill(module.context.everywhere[4], 3.0, "bias")
        after = weights_of(module, x, y)
        assert not torch.equal(before["map"], after["map"])
        assert torch.equal(before["initial_map"], after["initial_map"]) is own


def test_iaff_has_twice_the_parameters_of_aff_and_three_quarters_of_them_with_a_shared_context() -> None:
    assert parameters("iaff", 64) == 2 * parameters("aff", 64)
    assert 4 * parameters("iaff:share_global=true", 64) == 3 * parameters("iaff", 64)


def test_iaff_is_not_doubled() -> None:
    module = foveate.create("iaff", 8).eval()
    for part in (module.context.here, module.context.everywhere):
        fill(part[4], 0.0)
    x, y = pair()
    torch.testing.assert_close(module(x, y), (x + y) / 2)  # weights of a half


def test_iaff_judges_by_its_first_fusion_and_weighs_the_maps_themselves() -> None:
    module = filled(foveate.create("iaff", 8))
    x, y = pair()
    shown = weights_of(module, x, y)
    first = shown["initial_map"] * x + (1 - shown["initial_map"]) * y
    torch.testing.assert_close(shown["map"], module.context(first).sigmoid())
    torch.testing.assert_close(module(x, y), shown["map"] * x + (1 - shown["map"]) * y)


def test_iaff_resnet_50_has_the_published_parameters() -> None:
    """35.1 million in the authors' README: their log says r=16 from the third stage on. Digits after are cut off."""
    added = 6 * parameters("iaff:reduction=16", 1024) + 3 * parameters("iaff:reduction=16", 2048)
    assert (25_557_032 + added) // 10**5 == 351


def test_iaff_trains_on_one_sample_where_copies_fail_in_their_global_norm() -> None:
    module = foveate.create("iaff", 8).train()
    x, y = pair()
    assert module(x[:1], y[:1]).isfinite().all()
