"""Every mechanism of the catalogue has a picture of each of its maps, of the kind that its axes ask for."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import foveate
from foveate import hosts
from foveate.explain import AttentionMap, Recording, record
from foveate.explain.pictures import draw, field, slices, strip
from foveate.explain.pictures.bars import Bars
from foveate.explain.pictures.lines import Curve
from foveate.explain.pictures.panels import Pixels
from foveate.explain.pictures.weights import Cells
from foveate.registry import Spec, get
from foveate.surgery.put import put
from tests.explain.pictures.reading import parsed

PHOTO = torch.arange(3 * 32 * 32, dtype=torch.int64).remainder(251).to(torch.uint8).reshape(3, 32, 32)
# between them they have every kind of map that the catalogue has; the others take their turn among the slow tests
ONE_OF_A_KIND = {
    "asymmetric_non_local", "attention_augmented", "attention_gate", "attentional_fusion", "cbam", "channel_prior",
    "contextual_transformer", "coordinate", "danet_channel", "danet_position", "large_selective_kernel",
    "multidimensional_collaborative", "odconv", "selective_kernel", "spatial_groupwise",
}  # fmt: skip
PLACES = {"attention": "layer3.0.bn2", "replacement": "layer3.0.conv2", "fusion": None}


@pytest.fixture(scope="module")
def kept() -> dict[str, Recording]:
    return {}


def recorded(name: str, kept: dict[str, Recording]) -> Recording:
    """What a mechanism holds on a small host, for two images; one mechanism once."""
    if name not in kept:
        torch.manual_seed(0)
        x = torch.randn(2, 3, 32, 32)
        if name == "attention_gate":  # what a U-Net's skips carry
            host, at = hosts.UNet(classes=2), None
        else:
            host, at = hosts.build("foveate/resnet8", classes=10), PLACES[get(name).protocol]
        model = put(host, Spec(name), at=at, start="paper", example=x).eval()
        with torch.no_grad(), record(model) as maps:
            model(x)
        kept[name] = maps
    return kept[name]


@pytest.mark.filterwarnings("ignore::foveate.errors.FoveateWarning")
@pytest.mark.parametrize(
    "name",
    [name if name in ONE_OF_A_KIND else pytest.param(name, marks=pytest.mark.slow) for name in foveate.names()],
)
def test_every_map_of_every_mechanism_is_drawn(name: str, kept: dict[str, Recording]) -> None:
    maps = recorded(name, kept)
    assert len(maps)
    for found in maps:
        picture = draw(found, PHOTO, 1, prediction="cat")
        assert picture.caption
        assert picture.alt.startswith(picture.title)
        panels = {type(one.panel) for one in picture.panels}
        height, width = found.size if found.size is not None and len(found.size) == 2 else found.values.shape[-2:]
        asked = found.axes in (("hw->hw",), ("head", "hw->hw"))
        if asked or ({"h", "w"} <= set(found.axes) and min(height, width) > 1):
            assert Pixels in panels, found.axes  # positions are seen over the image
        elif found.axes in (("c",), ("kernel",), ("tap",), ("in",), ("out",)):
            assert panels >= {Bars}
        elif "c->c" in found.axes or "branch" in found.axes:
            assert panels >= {Cells}
        elif len(found.axes) == 1 or found.axes in (("c", "h"), ("c", "w")):
            assert panels >= {Curve, Pixels}
        if asked:
            assert field(found, PHOTO, 1, grid=2).panels
    assert draw(maps[0]).panels  # without its image


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::foveate.errors.FoveateWarning")
@pytest.mark.parametrize("name", foveate.names())
def test_every_picture_of_every_mechanism_is_well_formed(name: str, kept: dict[str, Recording]) -> None:
    maps = recorded(name, kept)
    pictures = [draw(found, image, 1, prediction="cat") for found in maps for image in (PHOTO, None)]
    if maps.emphasis:
        pictures.append(strip(maps, PHOTO, 1))
    for picture in pictures:
        parsed(picture.svg())
        assert len(picture.png()) > 2000
        assert "<figcaption>" in picture.html()


def test_a_kernel_for_every_position_is_asked_at_a_point() -> None:
    values = torch.zeros(1, 2, 9, 3, 4)
    values[:, :, 4, 1, 2] = 3.0  # the kernel of one position passes its centre on, threefold; all others nothing
    picture = draw(AttentionMap("a", "involution", "", ("group", "tap", "h", "w"), values), PHOTO, point=(1, 2))
    assert "of size 0 to 3" in picture.alt
    kernel = next(
        one.panel for one in picture.panels if isinstance(one.panel, Pixels) and one.panel.name == "the ringed one"
    )
    middle = kernel.pixels[:, kernel.pixels.shape[1] // 2, kernel.pixels.shape[2] // 2].tolist()
    corner = kernel.pixels[:, 0, 0].tolist()
    assert middle[0] > middle[2] + 50  # red is positive
    assert max(corner) - min(corner) < 5  # nothing is white


def test_slots_whose_shares_add_up_to_one_have_no_mean() -> None:
    values = torch.rand(1, 5, 4, 4).softmax(1)
    picture = draw(AttentionMap("a", "", "", ("slot", "h", "w"), values), PHOTO)
    names = [one.panel.name for one in picture.panels if isinstance(one.panel, Pixels)]
    assert names[0] == "image"
    assert all(name.startswith("slot") for name in names[1:])
    assert len(names) == 4


def test_a_matrix_shows_each_channel_that_takes_as_a_row() -> None:
    values = torch.tensor([[[0.0, 1.0], [0.25, 0.5]]])  # from source (first) to target
    picture = draw(AttentionMap("a", "danet_channel", "", ("c->c",), values, (2,)))
    cells = next(one.panel for one in picture.panels if isinstance(one.panel, Cells))
    assert cells.values.tolist() == [[0.0, 0.25], [1.0, 0.5]]
    assert [cells.down, cells.across] == ["channels", "channels that it takes from"]


@pytest.mark.parametrize("attention", ["cbam", pytest.param("se", marks=pytest.mark.slow)])
@pytest.mark.parametrize("dimensions", [1, 3])
def test_signals_and_volumes_are_drawn(dimensions: int, attention: str) -> None:
    conv, norm = getattr(nn, f"Conv{dimensions}d"), getattr(nn, f"BatchNorm{dimensions}d")
    host = nn.Sequential(conv(1, 8, 3, padding=1), norm(8), nn.ReLU(), conv(8, 2, 3, padding=1))
    sides = (5, 6, 7)[-dimensions:]
    model = foveate.attach(host, attention, at="1", start="paper", example=torch.randn(2, 1, *sides)).eval()
    with torch.no_grad(), record(model) as maps:
        model(torch.randn(2, 1, *sides))
    for found in maps:
        assert draw(found, None, 1).svg()
    if dimensions == 3 and attention == "cbam":
        assert slices(maps, torch.rand(10, 12, 14), 1).svg()
    if dimensions == 1 and attention == "cbam":
        assert "at every moment" in draw(maps[1]).caption
