"""Shuffle Attention in NumPy, from Zhang and Yang, section 3, equations 1 to 3.

The channels go into G groups, each group into two halves of C / 2G channels. The first half is multiplied by
σ(W₁ s + b₁) with s its means, the second by σ(W₂ GN(x) + b₂) with GN normalising every channel over its positions;
W and b have one value a channel of a half and are shared by all groups. At the end channel i of the first half of the
map comes before channel i of the second half.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import foveate
from foveate.errors import OptionError
from tests.support.oracles import Options, product
from tests.support.weights import fill, weights_of

POINTWISE = 24  # two scales and shifts, sigmoid, product
OPTIONS = product(groups=(None, 1))
CHANNELS = (2, 6, 14, 16, 128)
NORMS = False
EVERY = 4
VARIANTS = {
    "shuffle:groups=2": 1,
}
REFUSED = [
    ("shuffle:groups=3", {}, "16 channels cannot be split into groups=3.*12 and 18 channels; for 16 it may be 2 or 4"),
    ("shuffle:groups=0", {}, "groups must be a whole number of at least 1"),
]
RESNETS = [
    (50, "shuffle", 25_557_740),
    (101, "shuffle", 44_550_684),
]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    flat = round(2 * 1e-5**-0.5) if size == (1, 1) else 0  # a variance of zero: the norm divides rounding by √1e-5
    return 3 * size[0] * size[1] + flat + POINTWISE


def oracle(
    x: np.ndarray, state: dict[str, np.ndarray], *, training: bool = False, groups: int | None = None
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    batch, channels, height, width = x.shape
    if groups is None:
        groups = max(g for g in range(1, 65) if channels % (2 * g) == 0)
    half = channels // groups // 2
    value = {name: tensor.reshape(-1) for name, tensor in state.items()}
    assert {len(tensor) for tensor in value.values()} == {half}
    y = np.empty_like(x)
    for b in range(batch):
        for c in range(channels):
            place = c % (2 * half)  # within its group
            i = place % half
            if place < half:
                logit = value["cweight"][i] * x[b, c].sum() / (height * width) + value["cbias"][i]
            else:
                centred = x[b, c] - x[b, c].sum() / (height * width)
                normal = centred / np.sqrt((centred**2).sum() / (height * width) + 1e-5)
                normal = normal * value["gn.weight"][i] + value["gn.bias"][i]
                logit = value["sweight"][i] * normal + value["sbias"][i]
            there = 2 * c if c < channels // 2 else 2 * (c - channels // 2) + 1
            y[b, there] = x[b, c] / (1 + np.exp(-logit))
    return y


def test_shuffle_has_the_papers_64_groups_where_they_fit_and_the_most_that_do_elsewhere() -> None:
    found = {c: foveate.create("shuffle", c).groups for c in (2, 6, 14, 16, 64, 128, 130, 256, 2048)}
    assert found == {2: 1, 6: 3, 14: 7, 16: 8, 64: 32, 128: 64, 130: 13, 256: 64, 2048: 64}


@pytest.mark.parametrize(("channels", "nearest"), [(1, "can: 2$"), (3, "can: 2 and 4"), (7, "can: 6 and 8")])
def test_shuffle_says_which_channels_can_be_halved(channels: int, nearest: str) -> None:
    with pytest.raises(OptionError, match=nearest):
        foveate.create("shuffle", channels)


def test_shuffle_with_the_papers_groups_refuses_64_channels() -> None:
    with pytest.raises(OptionError, match="128 channels; for 64 it may be 32"):
        foveate.create("shuffle", 64, groups=64)


def test_shuffle_starts_with_scales_of_zero_and_shifts_of_one() -> None:
    module = foveate.create("shuffle", 256)
    for name, value in (("cweight", 0), ("cbias", 1), ("sweight", 0), ("sbias", 1), ("gn.weight", 1), ("gn.bias", 0)):
        assert module.get_parameter(name).flatten().tolist() == [value] * 2, name
    for weights in weights_of(module, torch.randn(1, 256, 3, 4)).values():
        assert torch.equal(weights, torch.ones_like(weights).sigmoid())


def test_shuffle_normalises_every_channel_by_itself() -> None:
    module = foveate.create("shuffle", 16, groups=2)
    fill(module, 1.0, "sweight")
    fill(module, 0.0, "sbias")
    x = torch.randn(1, 16, 5, 6)
    x[:, 4] = 100 * x[:, 4] + 7  # the first channel of the first group's second half
    weights = weights_of(module, x)["spatial_map"]
    channel = x[0, 4]
    expected = ((channel - channel.mean()) / channel.var(unbiased=False).sqrt()).sigmoid()
    torch.testing.assert_close(weights[0, 0], expected, rtol=1e-4, atol=1e-4)


def test_shuffle_deals_the_halves_of_the_map_out_in_turn() -> None:
    module = foveate.create("shuffle", 8)
    x = torch.arange(8.0).reshape(1, 8, 1, 1)
    order = module(x).flatten() / torch.tensor(1.0).sigmoid()
    torch.testing.assert_close(order, torch.tensor([0.0, 4, 1, 5, 2, 6, 3, 7]))


def test_shuffle_runs_on_one_sample_of_one_position() -> None:
    x = torch.randn(1, 2, 1, 1)
    assert foveate.create("shuffle", 2).eval()(x).isfinite().all()


def test_shuffle_has_no_option_that_does_nothing() -> None:
    """A much-copied catalogue has a reduction that it never uses, and eight groups."""
    assert set(foveate.get("shuffle").options) == {"groups"}
