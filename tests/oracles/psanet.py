"""Point-wise Spatial Attention in NumPy, from Zhao et al., section 3, and the layer list of its section 4.

z_i = 1/N Σ_j a^collect_j(i) x_j  beside  1/N Σ_j a^distribute_i(j) x_j.
Position i predicts a mask of weights centred on it. Read as *collect*, cell (k, l) is what i takes from the position
under that cell; read as *distribute*, what i gives to it. Cells that fall outside the map are dropped; positions that
no cell reaches keep a logit of zero, or have no weight at all with `outside="exclude"`. Compact masks have a cell for
every position of the map. The softmax runs over the positions that features come from, in both readings.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import foveate
from foveate.errors import FoveateError
from tests.support.oracles import BATCH, Options, product
from tests.support.weights import fill, filled, weights_of

POINTWISE = 16  # sigmoid, scale, shift, interpolation
OPTIONS = [
    *product(
        branches=("both", "collect", "distribute"),
        mask=(None, (3, 5), (19, 3)),
        outside=("zero", "exclude"),
        softmax=(True, False),
        normalization=(None, 2.5),
        shrink=(1, 2, 3),
        fusion=("add", "concat"),
    ),
    *product(
        branches=("both", "collect", "distribute"),
        compact=(True,),
        softmax=(True, False),
        normalization=(None, 1.0),
        shrink=(1, 2, 3),
        fusion=("add", "concat"),
    ),
    *product(branches=("both", "collect", "distribute"), reduction=(1, 3), shrink=(1, 2)),
]
EVERY = 17
VARIANTS = {
    "psanet:branches=collect": 3,
    "psanet:branches=distribute": 3,
    "psanet:compact=true": 1,
    "psanet:compact=true,branches=collect": 1,
    "psanet:compact=true,branches=distribute": 1,
    "psanet:mask=3+3": 3,
    "psanet:mask=3+3,outside=exclude": 3,
    "psanet:softmax=false,normalization=none": 3,
    "psanet:shrink=1": 1,
    "psanet:shrink=3": 4,
}
CAPTURED = (
    "psanet:compact=true",
    "psanet:mask=3+3,outside=exclude",
    "psanet:softmax=false,normalization=none",
)
REFUSED = [
    ("psanet:mask=4+3", {}, "mask height must be odd"),
    ("psanet:mask=59", {}, "mask"),
    ("psanet:mask=3+3+3", {}, "mask"),
    ("psanet:normalization=0", {}, "normalization must be positive"),
    ("psanet:normalization=true", {}, "normalization must be positive"),
    ("psanet:normalization=mean", {}, "normalization must be positive"),
    ("psanet:compact=true,mask=3+3", {}, "leave `mask` out"),
    ("psanet", {"size": None}, "give the map's size"),
    ("psanet", {"size": (0, 5)}, "size"),
]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    positions = size[0] * size[1]
    reduced = max(1, channels // options.get("reduction", 4))
    statistics = 2 * BATCH * positions if training else 0
    return channels + 4 * reduced + 2 * positions + 3 * statistics + 4 * POINTWISE


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    size: tuple[int, int] | None = None,
    branches: str = "both",
    compact: bool = False,
    mask: tuple[int, int] | None = None,
    shrink: int = 2,
    softmax: bool = True,
    normalization: float | None = 1.0,
    outside: str = "zero",
    reduction: int = 4,
    fusion: str = "add",
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    height, width = x.shape[2:]
    if mask is None:
        rows, columns = (-(-length // shrink) for length in size)
        mask = (rows, columns) if compact else (2 * rows - 1, 2 * columns - 1)
    cells = mask[0] * mask[1]
    rows, columns = -(-height // shrink), -(-width // shrink)  # (length - 1) // shrink + 1

    mixed = []
    directions = ("collect", "distribute") if branches == "both" else (branches,)
    for direction, end in zip(directions, ("", "_p"), strict=False):
        value = unit(x, state, f"reduce{end}", training)
        assert value.shape[1] == max(1, x.shape[1] // reduction)
        value = resize(value, rows, columns)
        hidden = unit(value, state, f"attention{end}", training)
        logits = np.einsum("oc,bchw->bohw", state[f"attention{end}.3.weight"][:, :, 0, 0], hidden)
        assert logits.shape[1] == cells
        weights, inside = lay_out(logits, direction, mask, compact)
        weights = weigh(weights, inside, softmax, outside)
        weights = weights / (cells if normalization is None else normalization)
        out = np.zeros_like(value)
        for source in range(rows * columns):
            for target in range(rows * columns):
                features = value[:, :, source // columns, source % columns]
                out[:, :, target // columns, target % columns] += weights[:, source, target, None] * features
        mixed.append(out)
    update = unit(np.concatenate(mixed, 1), state, "proj", training)
    update = resize(update, height, width)
    return x + update if fusion == "add" else np.concatenate((x, update), 1)


def lay_out(logits: np.ndarray, direction: str, mask: tuple[int, int], compact: bool) -> tuple[np.ndarray, np.ndarray]:
    """Masks by cell to a table by (source, target), and which of its entries a mask reaches."""
    batch, _, height, width = logits.shape
    table = np.zeros((batch, height * width, height * width))
    inside = np.zeros((height * width, height * width), bool)
    for h in range(height):
        for w in range(width):
            here = h * width + w
            for i in range(mask[0]):
                for j in range(mask[1]):
                    if compact:
                        row, column = i, j
                    else:
                        row, column = h + i - (mask[0] - 1) // 2, w + j - (mask[1] - 1) // 2
                    if not (0 <= row < height and 0 <= column < width):
                        continue
                    there = row * width + column
                    source, target = (there, here) if direction == "collect" else (here, there)
                    table[:, source, target] = logits[:, i * mask[1] + j, h, w]
                    inside[source, target] = True
    return table, inside


def weigh(table: np.ndarray, inside: np.ndarray, softmax: bool, outside: str) -> np.ndarray:
    if not softmax:
        return table
    weights = np.exp(table - table.max(1, keepdims=True))
    if outside == "exclude":
        weights = weights * inside
    return weights / weights.sum(1, keepdims=True)


def unit(x: np.ndarray, state: dict[str, np.ndarray], name: str, training: bool) -> np.ndarray:
    """1×1 convolution without bias, batch normalisation, ReLU."""
    x = np.einsum("oc,bchw->bohw", state[f"{name}.0.weight"][:, :, 0, 0], x)
    mean, variance = state[f"{name}.1.running_mean"], state[f"{name}.1.running_var"]
    if training and x.shape[0] * x.shape[2] * x.shape[3] > 1:  # one value has no statistics (named on the card)
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
    scale, shift = state[f"{name}.1.weight"], state[f"{name}.1.bias"]
    each = (slice(None), None, None)
    x = (x - mean[each]) / np.sqrt(variance[each] + 1e-5) * scale[each] + shift[each]
    return np.maximum(x, 0)


def resize(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear, the corners of the two maps on each other."""
    out = np.empty((*x.shape[:2], height, width))
    for i in range(height):
        for j in range(width):
            row = i * (x.shape[2] - 1) / (height - 1) if height > 1 else 0.0
            column = j * (x.shape[3] - 1) / (width - 1) if width > 1 else 0.0
            top, left = int(row), int(column)
            bottom, right = min(top + 1, x.shape[2] - 1), min(left + 1, x.shape[3] - 1)
            down, over = row - top, column - left
            upper = x[:, :, top, left] * (1 - over) + x[:, :, top, right] * over
            lower = x[:, :, bottom, left] * (1 - over) + x[:, :, bottom, right] * over
            out[:, :, i, j] = upper * (1 - down) + lower * down
    return out


@pytest.mark.parametrize("compact", [False, True])
def test_psanets_weights_sum_to_one_over_the_sources_in_both_branches(compact: bool) -> None:
    module = filled(foveate.create("psanet", 8, size=(5, 6), shrink=1, compact=compact))
    weights = weights_of(module, torch.randn(2, 8, 5, 6))
    assert set(weights) == {"collect_map", "distribute_map"}
    for name, table in weights.items():
        torch.testing.assert_close(table.sum(1), torch.ones(2, 30), msg=name)
        assert not torch.allclose(table.sum(2), torch.ones(2, 30)), name


@pytest.mark.parametrize("compact", [False, True])
def test_psanet_runs_where_channels_are_not_positions(compact: bool) -> None:
    for channels, size in ((3, (5, 4)), (32, (3, 2)), (1, (1, 1))):
        module = foveate.create("psanet", channels, size=size, shrink=1, compact=compact).eval()
        x = torch.randn(2, channels, *size)
        assert module(x).shape == x.shape


def table_of_a_tiny_mask(outside: str) -> Tensor:
    """Collect with a mask of one cell, whose logit is 2 everywhere, on a map of six positions."""
    module = foveate.create("psanet", 4, branches="collect", mask=(1, 1), shrink=1, outside=outside, reduction=4).eval()
    fill(module.attention[1], 0.0)
    fill(module.attention[1], 1.0, "bias")
    fill(module.attention[3], 2.0)
    return weights_of(module, torch.randn(1, 4, 2, 3))["collect_map"][0]


def test_psanet_gives_positions_outside_the_mask_a_logit_of_zero_and_not_a_weight_of_zero() -> None:
    own, other = torch.tensor(2.0).exp(), 1.0
    expected = torch.full((6, 6), other).fill_diagonal_(own.item()) / (own + 5 * other)
    torch.testing.assert_close(table_of_a_tiny_mask("zero"), expected)


def test_psanet_can_leave_positions_outside_the_mask_out() -> None:
    torch.testing.assert_close(table_of_a_tiny_mask("exclude"), torch.eye(6))


@pytest.mark.parametrize("compact", [False, True])
def test_psanets_distribute_is_its_collect_with_the_positions_swapped(compact: bool) -> None:
    collect, distribute = (
        filled(foveate.create("psanet", 8, size=(3, 4), branches=branches, shrink=1, compact=compact, softmax=False))
        for branches in ("collect", "distribute")
    )
    distribute.load_state_dict(collect.state_dict())
    x = torch.randn(2, 8, 3, 4)
    (one,), (other,) = weights_of(collect, x).values(), weights_of(distribute, x).values()
    assert torch.equal(one, other.transpose(1, 2))
    assert not torch.equal(one, other)


def test_psanet_without_a_factor_divides_by_the_cells_of_its_mask() -> None:
    options = {"size": (3, 4), "shrink": 1, "branches": "collect"}
    plain, divided = (filled(foveate.create("psanet", 8, normalization=n, **options)) for n in (1.0, None))
    x = torch.randn(1, 8, 3, 4)
    (one,), (other,) = weights_of(plain, x).values(), weights_of(divided, x).values()
    torch.testing.assert_close(other * 5 * 7, one)


def test_psanets_default_mask_reaches_every_position_from_every_other() -> None:
    module = foveate.create("psanet", 8, size=(59, 59))  # a crop of 465: 59 positions a side, 30 after shrinking
    assert module.mask == (59, 59)
    assert foveate.create("psanet", 8, size=(89, 89)).mask == (89, 89)  # a crop of 705
    assert foveate.create("psanet", 8, size=(59, 59), compact=True).mask == (30, 30)


def test_psanets_projection_has_no_padding() -> None:
    module = foveate.create("psanet", 8, size=(3, 3))
    assert {layer.padding for layer in module.modules() if isinstance(layer, nn.Conv2d)} == {(0, 0)}


def test_psanet_concatenates_behind_the_features_as_published() -> None:
    x = torch.randn(1, 8, 5, 5)
    added = filled(foveate.create("psanet", 8, size=(5, 5)))
    joined = filled(foveate.create("psanet", 8, size=(5, 5), fusion="concat"))
    assert torch.equal(joined(x)[:, :8], x)
    torch.testing.assert_close(joined(x)[:, 8:], added(x) - x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(4, 6), (5, 5), (1, 7), (12, 9)])
def test_an_over_complete_psanet_runs_at_sizes_it_was_not_made_for(size: tuple[int, int]) -> None:
    module = foveate.create("psanet", 8, size=(6, 6), shrink=3)
    x = torch.randn(2, 8, *size)
    assert module(x).shape == x.shape


def test_a_compact_psanet_says_which_size_it_is_tied_to() -> None:
    module = foveate.create("psanet", 8, size=(5, 6), compact=True)
    with pytest.raises(FoveateError, match=r"tied to maps of 5×6.*got 6×6.*compact=false"):
        module(torch.randn(1, 8, 6, 6))


@pytest.mark.parametrize("branch", ["collect", "distribute"])
def test_compact_psanet_reads_its_channels_as_sources_when_it_collects_and_as_targets_when_it_distributes(
    branch: str,
) -> None:
    """As the authors' op has it; another library's head has them the other way round."""
    module = filled(foveate.create("psanet", 8, size=(2, 3), branches=branch, shrink=1, compact=True, softmax=False))
    fill(module.attention[3], 0.0)
    with torch.no_grad():
        module.attention[3].weight[4] = 1.0  # the fifth position's channel alone says anything
    (table,) = weights_of(module, torch.randn(1, 8, 2, 3).abs()).values()
    said = (table[0] != 0).nonzero()[:, 0 if branch == "collect" else 1]
    assert len(said) > 0
    assert (said == 4).all()
