"""Maps over images: the colours of matplotlib at known values, in the right places, on a scale that is said."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from matplotlib import colormaps

from foveate.errors import FoveateError, OptionError
from foveate.explain.overlay import Scale, overlay, scale_of

BLACK = torch.zeros(3, 1, 5, dtype=torch.uint8)


def colour(name: str, index: int) -> list[int]:
    """An entry of matplotlib's own table of 256."""
    return [int(part) for part in colormaps[name](index, bytes=True)[:3]]


@pytest.mark.parametrize(("value", "index"), [(0.0, 0), (0.2, 51), (0.4, 102), (0.8, 204), (1.0, 255)])
def test_a_magnitude_has_the_colour_of_viridis(value: float, index: int) -> None:
    heat = torch.tensor([[0.0, value, value, value, 1.0]])
    drawn = overlay(BLACK, heat, alpha=1.0)
    assert drawn[:, 0, 2].tolist() == colour("viridis", index)


@pytest.mark.parametrize(("value", "index"), [(-2.0, 0), (0.0, 128), (0.5, 159), (2.0, 255)])
def test_a_signed_value_has_the_colour_of_red_and_blue_about_zero(value: float, index: int) -> None:
    # the smallest value is -0.5, and still zero is white: 255 · (0 + 2) / 4 = 127.5, which rounds to 128
    heat = torch.tensor([[2.0, value, value, value, -0.5]])
    drawn = overlay(BLACK, heat, diverging=True, alpha=1.0)
    assert drawn[:, 0, 2].tolist() == colour("RdBu_r", index)


def test_up_is_red_and_down_is_blue() -> None:
    drawn = overlay(BLACK, torch.tensor([[-1.0, -1.0, 0.0, 1.0, 1.0]]), diverging=True, alpha=1.0).int()
    down, up = drawn[:, 0, 0], drawn[:, 0, 4]
    assert down[2] > down[0] + 50
    assert up[0] > up[2] + 50


def test_the_image_below_is_grey_and_its_black_lifted() -> None:
    image = torch.tensor([[[0, 255, 255]], [[0, 255, 0]], [[0, 255, 0]]], dtype=torch.uint8)  # black, white, red
    drawn = overlay(image, torch.zeros(1, 1), alpha=0.0)
    # luma of pure red is 0.299 · 255; grey g becomes 60 + g · 195 / 255
    assert drawn.tolist() == [[[60, 255, round(60 + 0.299 * 195)]]] * 3


def test_alpha_mixes_map_and_image() -> None:
    drawn = overlay(torch.full((1, 1, 1), 255, dtype=torch.uint8), torch.zeros(1, 1), alpha=0.25, scale=Scale(0, 1))
    assert drawn[:, 0, 0].tolist() == [round(0.25 * part + 0.75 * 255) for part in (68, 1, 84)]


def test_a_constant_map_has_one_colour_and_says_so() -> None:
    heat = torch.full((3, 3), 0.5)
    drawn = overlay(torch.zeros(1, 9, 9, dtype=torch.uint8), heat, alpha=1.0)
    assert drawn.flatten(1).unique(dim=1).shape[1] == 1
    assert scale_of(heat).constant
    assert scale_of(heat).note() == "the same value everywhere, 0.5"


def test_a_map_of_zeros_is_white_on_a_diverging_scale() -> None:
    drawn = overlay(BLACK, torch.zeros(2, 2), diverging=True, alpha=1.0)
    assert drawn[:, 0, 0].tolist() == colour("RdBu_r", 128)


@pytest.mark.parametrize("corner", [(0, 0), (0, -1), (-1, 0), (-1, -1)])
@pytest.mark.parametrize("cells", [(2, 2), (7, 5), (20, 36)])
def test_a_hot_corner_stays_in_its_corner(corner: tuple[int, int], cells: tuple[int, int]) -> None:
    heat = torch.zeros(cells)
    heat[corner] = 1.0
    drawn = overlay(torch.zeros(3, 20, 36, dtype=torch.uint8), heat, alpha=1.0).int()
    yellow = colour("viridis", 255)
    assert drawn[:, corner[0], corner[1]].tolist() == yellow
    opposite = (-1 - corner[0], -1 - corner[1])
    assert drawn[:, opposite[0], opposite[1]].tolist() == [68, 1, 84]


def test_a_map_is_spread_between_the_centres_of_its_cells() -> None:
    """Two cells over eight pixels have their centres at 1.5 and 5.5: between them the value rises by 1/4 a pixel."""
    drawn = overlay(torch.zeros(1, 1, 8, dtype=torch.uint8), torch.tensor([[0.0, 1.0]]), alpha=1.0)
    rising = np.clip((np.arange(8) - 1.5) / 4, 0, 1)
    expected = [colour("viridis", round(255 * x)) for x in rising]
    assert drawn[:, 0].T.tolist() == expected


def test_one_scale_for_several_maps() -> None:
    small, large = torch.tensor([[0.0, 1.0]]), torch.tensor([[3.0, 4.0]])
    scale = scale_of(small, large)
    assert (scale.low, scale.high) == (0.0, 4.0)
    drawn = overlay(torch.zeros(1, 1, 2, dtype=torch.uint8), small, alpha=1.0, scale=scale)
    assert drawn[:, 0, 1].tolist() == colour("viridis", 64)


def test_values_beyond_a_scale_have_its_last_colours() -> None:
    drawn = overlay(BLACK, torch.tensor([[-5.0, -5.0, 0.5, 9.0, 9.0]]), alpha=1.0, scale=Scale(0, 1))
    assert drawn[:, 0, 0].tolist() == [68, 1, 84]
    assert drawn[:, 0, 4].tolist() == colour("viridis", 255)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(FoveateError, match="1 of this map's 4 values are not finite"):
        overlay(BLACK, torch.tensor([[0.0, bad], [1.0, 1.0]]))
    with pytest.raises(FoveateError, match="not finite"):
        overlay(BLACK, torch.tensor([[0.0, bad], [1.0, 1.0]]), scale=Scale(0, 1))


@pytest.mark.parametrize(
    ("image", "heat", "options", "words"),
    [
        (torch.zeros(3, 4, 4), torch.zeros(2, 2), {}, "uint8"),
        (torch.zeros(2, 4, 4, dtype=torch.uint8), torch.zeros(2, 2), {}, "1 or 3"),
        (torch.zeros(3, 0, 4, dtype=torch.uint8), torch.zeros(2, 2), {}, "1 or 3"),
        (BLACK, torch.zeros(1, 2, 2), {}, "one value a position"),
        (BLACK, torch.zeros(0, 2), {}, "one value a position"),
        (BLACK, torch.zeros(2, 2), {"alpha": 1.5}, "alpha"),
        (BLACK, torch.zeros(2, 2), {"alpha": math.nan}, "alpha"),
        (BLACK, torch.zeros(2, 2), {"diverging": True, "scale": Scale(0, 1)}, "contradicts"),
    ],
)
def test_what_cannot_be_drawn_is_refused(image: torch.Tensor, heat: torch.Tensor, options: dict, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        overlay(image, heat, **options)


@pytest.mark.parametrize("limits", [(1.0, 0.0), (0.0, math.inf), (math.nan, 1.0)])
def test_a_scale_runs_upwards_between_finite_numbers(limits: tuple[float, float]) -> None:
    with pytest.raises(OptionError, match="finite"):
        Scale(*limits)
    with pytest.raises(OptionError, match="zero in its middle"):
        Scale(-1.0, 2.0, diverging=True)


def test_no_value_has_no_scale() -> None:
    for nothing in ((), (torch.zeros(0, 3),)):
        with pytest.raises(OptionError, match="at least one value"):
            scale_of(*nothing)


def test_nothing_that_was_handed_over_is_changed() -> None:
    image = torch.randint(0, 256, (3, 6, 6), dtype=torch.uint8)
    heat = torch.randn(3, 3, requires_grad=True)
    before = image.clone(), heat.detach().clone()
    drawn = overlay(image, heat)
    assert drawn.shape == (3, 6, 6)
    assert drawn.dtype == torch.uint8
    assert not drawn.requires_grad
    assert torch.equal(image, before[0])
    assert torch.equal(heat, before[1])
