"""The numbers that are drawn are those that were recorded: bars by their height, positions by their colour."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from PIL import Image

from foveate.errors import FoveateError, OptionError
from foveate.explain import AttentionMap
from foveate.explain.overlay import Scale
from foveate.explain.pictures import crossed, draw, field
from foveate.explain.pictures.page import MARGIN
from foveate.explain.pictures.panels import Pixels
from foveate.explain.pictures.picture import SHARPNESS, Picture
from tests.explain.pictures.reading import heights, pixels, points, value_of

# half a step of the table of colours, and one more, because some of its neighbours are the same bytes
STEP = 1.5 / 255
# coordinates in an SVG have six decimals, and a bar of height 1 is some hundred pixels high
ROUNDED = 1e-5


def channels(values: torch.Tensor, **named) -> AttentionMap:
    return AttentionMap("layer1", "se", "", ("c",), values.reshape(*values.shape, 1, 1), **named)


@lru_cache(maxsize=1)
def sheet_of(picture: Picture) -> np.ndarray:
    return pixels(picture.png())


def inside(picture: Picture, name: str) -> np.ndarray:
    """The pixels of a panel with a name, out of the whole PNG."""
    placed = next(one for one in picture.panels if isinstance(one.panel, Pixels) and one.panel.name == name)
    top = (
        picture.head + placed.top + placed.panel.height - placed.panel.picture_height - (16 if placed.panel.note else 0)
    )
    left, width, height = MARGIN + placed.left, placed.panel.width, placed.panel.picture_height
    sheet = sheet_of(picture)
    return sheet[SHARPNESS * top :, SHARPNESS * left :][: SHARPNESS * height, : SHARPNESS * width]


@pytest.mark.parametrize("count", [5, 32, 300])
def test_every_bar_is_as_high_as_its_gate(count: int) -> None:
    values = torch.rand(2, count, generator=torch.Generator().manual_seed(count)) * 0.9
    svg = draw(channels(values), sample=1).svg()
    own = values[1].double().numpy()
    by_index = heights(svg, 1 if count > 32 else 0)
    assert list(by_index.values()) == pytest.approx(own, abs=ROUNDED)
    if count > 32:
        assert list(heights(svg, 0).values()) == pytest.approx(np.sort(own)[::-1], abs=ROUNDED)


def test_gates_about_one_begin_at_one() -> None:
    values = torch.tensor([[0.9, 1.0, 1.2]])
    picture = draw(channels(values))
    foot = points(picture.svg(), "unchanged")[0, 1]
    tops = points(picture.svg(), "bars").reshape(-1, 4, 2)
    assert tops[:, 0, 1] == pytest.approx([foot] * 3, abs=1e-5)
    up = foot - tops[:, 1, 1]
    assert up / up[2] == pytest.approx([-0.5, 0.0, 1.0], abs=1e-4)
    assert "begin at 1, which leaves a channel as it is" in picture.caption


def test_the_mean_and_the_rest_are_lines_at_their_values() -> None:
    values = torch.tensor([[0.0, 0.25, 0.5]])
    svg = draw(channels(values), rest=0.75).svg()
    zero = points(svg, "bars").reshape(-1, 4, 2)[0, 0, 1]
    one = points(svg, "unchanged")[0, 1]
    for name, value in (("mean", 0.25), ("at rest", 0.75)):
        assert (zero - points(svg, name)[0, 1]) / (zero - one) == pytest.approx(value, abs=ROUNDED)
    each = draw(channels(values), rest=torch.tensor([0.1, 0.2, 0.3])).svg()
    assert "at rest" in each
    with pytest.raises(OptionError, match="as many numbers, not 2"):
        draw(channels(values), rest=torch.zeros(2))


def test_the_highest_are_named() -> None:
    values = torch.linspace(0, 0.5, 100)[None].clone()
    values[0, 17] = 0.875
    picture = draw(channels(values))
    assert "highest channels: 17 (0.875), 99 (0.5)" in picture.alt
    orange = points(picture.svg(), "highest", 1).reshape(-1, 4, 2)
    assert len(orange) == 3


def test_a_colour_over_the_image_is_the_gate_there() -> None:
    values = torch.tensor([[0.2, 0.4, 0.9], [0.3, 0.8, 0.5]])
    found = AttentionMap("layer1", "cbam", "spatial", ("h", "w"), values[None, None])
    black = torch.zeros(3, 40, 60, dtype=torch.uint8)
    shown = inside(draw(found, black), "map")
    height, width = shown.shape[:2]
    # black is lifted to 60 and has 0.35 of every pixel
    seen = value_of((shown[::9, ::9] - 0.35 * 60) / 0.65) * 0.7 + 0.2
    # bilinear between the middles of cells, and even beyond the outermost: numpy's own interpolation, twice
    down, across = ((np.arange(side) + 0.5) / side * cells - 0.5 for side, cells in ((height, 2), (width, 3)))
    along = np.stack([np.interp(across, range(3), row) for row in values.numpy()])
    expected = np.stack([np.interp(down, range(2), column) for column in along.T], axis=1)
    # a byte rounded by half is 0.8 of a byte before it was mixed; viridis moves by one in some colour at every step, so
    # that the nearest is at most 2 of 255 steps away, and half a step is the table's own
    assert np.abs(seen - expected[::9, ::9]).max() <= 2.5 / 255 * 0.7


def test_alone_a_map_is_drawn_in_its_own_cells() -> None:
    values = torch.tensor([[0.0, 1.0], [0.5, 0.25]])
    found = AttentionMap("layer1", "", "", ("h", "w"), values[None, None])
    shown = inside(draw(found), "map")
    side = shown.shape[0]
    for row in range(2):
        for column in range(2):
            index = round(float(values[row, column]) * 255)
            colour = colormaps["viridis"](index, bytes=True)[:3]
            cell = shown[row * side // 2 : (row + 1) * side // 2, column * side // 2 : (column + 1) * side // 2]
            assert (cell == np.array(colour)).all()


def test_a_scale_that_is_given_serves_for_several() -> None:
    found = AttentionMap("a", "", "", ("h", "w"), torch.full((1, 1, 2, 2), 0.5))
    shown = inside(draw(found, scale=Scale(0.0, 2.0)), "map")
    assert value_of(shown[3, 3]) == pytest.approx(0.25, abs=STEP)
    over = inside(draw(found, torch.zeros(1, 8, 8, dtype=torch.uint8), scale=Scale(0.0, 2.0)), "map")
    assert value_of((over[3, 3] - 0.35 * 60) / 0.65) == pytest.approx(0.25, abs=2.5 / 255)  # see the test above


def test_small_differences_look_small() -> None:
    found = AttentionMap("a", "", "", ("h", "w"), torch.tensor([0.50, 0.51]).reshape(1, 1, 1, 2).expand(1, 1, 2, 2))
    picture = draw(found)
    shown = value_of(inside(picture, "map")[5, [5, -5]])
    assert shown[1] - shown[0] == pytest.approx(0.1, abs=2 * STEP)  # a hundredth, on a scale of a tenth
    assert "made wider than the values" in picture.caption


@pytest.mark.parametrize("shape", [(8, 1, 1), (1, 3, 3), (8, 3, 3)])
def test_a_constant_map_says_so(shape: tuple[int, ...]) -> None:
    axes = tuple(axis for axis, side in zip("chw", shape, strict=True) if side > 1)
    picture = draw(AttentionMap("a", "se", "", axes, torch.full((2, *shape), 0.5)))
    assert "This map is constant: 0.5 everywhere" in picture.caption
    unchanged = draw(AttentionMap("a", "se", "", axes, torch.ones(2, *shape)))
    assert "constant: 1 everywhere, which leaves the features as they are" in unchanged.caption
    varied = draw(AttentionMap("a", "se", "", axes, torch.rand(2, *shape)))
    assert "constant" not in varied.caption


def test_how_far_a_gate_moves_between_images_is_told() -> None:
    values = torch.tensor([[0.25, 0.5], [0.75, 0.5]])
    moves = (math.sqrt(2 * 0.25**2) + 0) / 2  # the standard deviation of two samples, mean over two channels
    assert f"moves by {moves:.3g}" in draw(channels(values)).caption
    assert "hardly moves" in draw(channels(values[:1].repeat(3, 1))).caption
    assert "images recorded" not in draw(channels(values[:1])).caption


def test_words_say_what_was_done_and_not_why() -> None:
    gate = AttentionMap("a", "se", "", ("c",), torch.rand(1, 4, 1, 1))
    assert draw(gate).caption.startswith("What the features of each of 4 channels were multiplied by.")
    assert draw(gate).caption.endswith("not why the network decided.")


def pairs(step: str = "") -> tuple[AttentionMap, torch.Tensor]:
    values = torch.rand(2, 6, 6, generator=torch.Generator().manual_seed(0))
    return AttentionMap("a", "psanet", step, ("hw->hw",), values, (2, 3)), values


def cells(shown: np.ndarray, low: float, high: float) -> np.ndarray:
    """The value at the left upper corner of each of 2×3 cells, which no ring covers."""
    height, width = shown.shape[:2]
    rows, columns = [round(row * height / 2) + 4 for row in range(2)], [round(one * width / 3) + 4 for one in range(3)]
    return value_of(shown[np.ix_(rows, columns)]) * (high - low) + low


def test_an_asked_point_collects_its_column_and_gives_its_row() -> None:
    found, values = pairs()
    picture = draw(found, sample=1, point=(1, 0))
    takes, gives = values[1][:, 3].reshape(2, 3).numpy(), values[1][3].reshape(2, 3).numpy()
    low, high = float(min(takes.min(), gives.min())), float(max(takes.max(), gives.max()))
    step = (high - low) * STEP
    assert cells(inside(picture, "it collects from"), low, high) == pytest.approx(takes, abs=step)
    assert cells(inside(picture, "it gives to"), low, high) == pytest.approx(gives, abs=step)
    assert "row 1 and column 0 of 2×3" in picture.caption
    assert "0.167" in picture.caption  # spread evenly over six


def test_the_asked_point_is_ringed() -> None:
    found, _ = pairs()
    shown = inside(draw(found, point=(1, 2)), "it collects from")
    rows, columns = np.nonzero((shown == 255).all(-1))  # the ring is the only white
    height, width = shown.shape[:2]
    assert rows.mean() / height == pytest.approx(0.75, abs=0.02)
    assert columns.mean() / width == pytest.approx(5 / 6, abs=0.02)


@pytest.mark.parametrize(("step", "verb"), [("collect", "collects from"), ("distribute", "gives to")])
def test_a_field_has_one_scale_and_follows_the_step(step: str, verb: str) -> None:
    found, values = pairs(step)
    picture = field(found, grid=2)
    assert verb in picture.caption
    asked = values[0].T if step == "collect" else values[0]
    points_asked = [(0, 0), (0, 2), (1, 0), (1, 2)]
    own = [asked[row * 3 + column].reshape(2, 3).numpy() for row, column in points_asked]
    low, high = min(float(one.min()) for one in own), max(float(one.max()) for one in own)
    for (row, column), one in zip(points_asked, own, strict=True):
        shown = cells(inside(picture, f"({row}, {column})"), low, high)
        assert shown == pytest.approx(one, abs=(high - low) * STEP)


def test_heads_are_drawn_beside_their_mean() -> None:
    values = torch.rand(1, 2, 6, 6)
    picture = draw(AttentionMap("a", "", "", ("head", "hw->hw"), values, (2, 3)), point=(0, 1))
    names = [one.panel.name for one in picture.panels if isinstance(one.panel, Pixels)]
    assert names[-2:] == ["collects: head 0", "collects: head 1"]


def test_rows_times_columns_over_the_image() -> None:
    rows = AttentionMap("a", "coordinate", "h", ("c", "h"), torch.tensor([0.5, 1.0]).reshape(1, 1, 2, 1))
    columns = AttentionMap("a", "coordinate", "w", ("c", "w"), torch.tensor([0.2, 0.6, 1.0]).reshape(1, 1, 1, 3))
    picture = crossed(rows, columns)
    product = np.outer([0.5, 1.0], [0.2, 0.6, 1.0])
    assert cells(inside(picture, "rows × columns"), 0.1, 1.0) == pytest.approx(product, abs=0.9 * STEP)
    with pytest.raises(OptionError, match="a gate of rows and one of columns"):
        crossed(columns, rows)


def test_a_curve_stands_level_with_its_rows() -> None:
    found = AttentionMap("a", "coordinate", "h", ("c", "h"), torch.tensor([0.2, 0.8, 0.4]).reshape(1, 1, 3, 1))
    svg = draw(found, torch.zeros(1, 30, 30, dtype=torch.uint8)).svg()
    across = np.array([points(svg, f"step{at}")[:, 0].mean() for at in range(3)])
    assert (across - across[0]) / (across[1] - across[0]) == pytest.approx([0, 1, 1 / 3], abs=1e-4)


def test_what_cannot_be_drawn_is_refused_in_words() -> None:
    found, _ = pairs()
    gate = channels(torch.rand(2, 4))
    with pytest.raises(OptionError, match="2 images, numbered from 0: there is no 2"):
        draw(gate, sample=2)
    with pytest.raises(OptionError, match="uint8"):
        draw(gate, torch.rand(3, 8, 8))
    for what in (np.zeros((8, 8, 3), np.uint8), Image.new("RGB", (8, 8))):  # what people have in hand
        with pytest.raises(OptionError, match=f"not {type(what).__name__}: make it one with .*pil_to_tensor"):
            draw(gate, what)  # pyright: ignore[reportArgumentType]
    with pytest.raises(FoveateError, match="1 of its 4 values are not finite"):
        draw(channels(torch.tensor([[0.0, math.nan, 1.0, 1.0]])))
    with pytest.raises(FoveateError, match="outside"):
        draw(found, point=(2, 0))
    with pytest.raises(OptionError, match="no point to ask"):
        field(gate)
    with pytest.raises(OptionError, match="from 1 to 4"):
        field(found, grid=5)
