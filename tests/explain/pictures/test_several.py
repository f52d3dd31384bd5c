"""Pictures of more than one map: stage by stage, beside class activation, frames of a video, planes of a volume."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from PIL import Image
from torch import nn

import foveate
from foveate import hosts
from foveate.errors import FoveateError, OptionError
from foveate.explain import AttentionMap, record
from foveate.explain.activation import class_activation
from foveate.explain.pictures import Film, beside, film, slices, strip
from foveate.explain.pictures.page import MARGIN
from foveate.explain.pictures.panels import Pixels
from foveate.explain.scores import box_score, mask_logit
from tests.explain.pictures.reading import Loads, pixels, value_of

PHOTO = torch.arange(3 * 32 * 32, dtype=torch.int64).remainder(251).to(torch.uint8).reshape(3, 32, 32)


def network(start: str = "paper") -> nn.Module:
    torch.manual_seed(0)
    return foveate.attach(hosts.build("foveate/resnet8", classes=10), "cbam", start=start).eval()


def shown(picture) -> dict[str, Pixels]:
    return {one.panel.name: one.panel for one in picture.panels if isinstance(one.panel, Pixels)}


def recorded(model: nn.Module, count: int = 2):
    with torch.no_grad(), record(model) as maps:
        model(torch.randn(count, 3, 32, 32))
    return maps


def test_stages_stand_in_the_order_of_the_network_on_one_scale() -> None:
    maps = recorded(network())
    places = list(dict.fromkeys(found.place for found in maps))
    picture = strip(maps, PHOTO, 1, prediction="cat")
    assert list(shown(picture)) == ["image", *(f"{number}. {place}" for number, place in enumerate(places, 1))]
    # without an image every cell has its colour: the one of its own logarithm on the scale of all places
    alone = strip(maps, None, 1)
    each = [maps.emphasis[place][1].flatten().abs().sort().values for place in places]
    limit = max(float(one[int(np.ceil(0.98 * len(one))) - 1]) for one in each)  # 98 % of every map are within
    for number, place in enumerate(places, 1):
        heat = maps.emphasis[place][1].numpy()
        colours = shown(alone)[f"{number}. {place}"].pixels.permute(1, 2, 0).numpy().astype(float)
        step = colours.shape[0] / heat.shape[0]
        middles = ((np.arange(heat.shape[0]) + 0.5) * step).astype(int)
        cells = colours[np.ix_(middles, middles)]
        index = np.rint(np.clip((heat + limit) / (2 * limit), 0, 1) * 255).astype(int)
        expected = colormaps["RdBu_r"](index, bytes=True)[..., :3].astype(float)
        # a value on the edge of two entries may fall to either: one step of the table is at most 8 of a byte
        assert np.abs(cells - expected).max() <= 8


def test_attention_that_does_nothing_yet_says_so() -> None:
    picture = strip(recorded(network("identity")), PHOTO)
    assert "Nothing is changed anywhere" in picture.caption
    assert picture.alt.count("unchanged") == 3
    assert "Nothing is changed" not in strip(recorded(network()), PHOTO).caption


def test_places_without_positions_are_named() -> None:
    maps = recorded(network())
    del maps._emphases[next(key for key in maps._emphases if key[0] == "layer2.0.bn2")]
    words = [one.panel.text for one in strip(maps, PHOTO).panels if hasattr(one.panel, "text")]
    assert words == ["without a map of positions: layer2.0.bn2"]


def test_attention_stands_beside_class_activation_of_the_same_answer() -> None:
    from scipy.stats import spearmanr

    model, x = network().train(), torch.randn(1, 3, 32, 32)
    picture = beside(model, PHOTO, 3, inputs=x, methods=["gradcam", "eigencam"], label="cat")
    assert model.training
    assert list(shown(picture)) == ["image", "attention", "Grad-CAM", "Eigen-CAM"]
    cam = class_activation(model, x, [3])[0]
    model.eval()
    with torch.no_grad(), record(model) as maps:
        said = model(x)
    attention = maps.emphasis["layer3.0.bn2"]
    wide = nn.functional.interpolate(attention.exp()[None], size=(32, 32), mode="bilinear")[0, 0]
    expected = spearmanr(cam.flatten().numpy(), wide.flatten().numpy()).statistic
    assert shown(picture)["Grad-CAM"].note.replace("\N{MINUS SIGN}", "-") == f"ρ = {round(expected, 2):.3g}"
    assert picture.answer == f"predicted: class {int(said.argmax())} ({float(said.softmax(1).max()):.2f}) · label: cat"
    assert "class 3 in the output of layer3" in picture.caption
    assert "Eigen-CAM is the same for every answer" in picture.caption
    assert not Loads(picture.html()).found


class Segments(nn.Module):
    """A map for each of two classes, or the boxes of one thing, behind attention."""

    def __init__(self, *, boxes: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Conv2d(8, 2, 1)
        self.boxes = boxes

    def forward(self, x):
        said = nn.functional.interpolate(self.head(self.body(x)), size=x.shape[2:])
        if not self.boxes:
            return said
        box = torch.tensor([[4.0, 8.0, 20.0, 24.0]])
        return [{"boxes": box, "scores": one[1, 8:24, 4:20].mean()[None], "labels": torch.tensor([1])} for one in said]


@pytest.mark.parametrize("boxes", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_masks_and_boxes_are_asked_too(boxes: bool) -> None:
    torch.manual_seed(0)
    model = foveate.attach(Segments(boxes=False), "cbam", at="body.1", start="paper", example=torch.randn(1, 3, 32, 32))
    model.boxes = boxes
    mask = torch.zeros(32, 32, dtype=torch.bool)
    mask[8:24, 4:20] = True
    target, score = ((torch.tensor([4.0, 8, 20, 24]), 1), box_score) if boxes else (mask, mask_logit)
    picture = beside(
        model,
        PHOTO,
        target,
        inputs=torch.randn(1, 3, 32, 32),
        score=score,
        methods=["gradcam"],
        layer="body",
        place="body.1",
    )
    first = shown(picture)["image and target"]
    if boxes:
        assert first.frame == (4 / 32, 8 / 32, 20 / 32, 24 / 32)
    else:
        yellow = first.pixels.float()[:, first.pixels.shape[1] // 2, first.pixels.shape[2] // 3]
        violet = first.pixels.float()[:, 2, 2]
        assert yellow[1] > violet[1] + 50
    assert picture.svg()


def test_a_class_that_is_asked_about_has_its_name() -> None:
    names = [f"name {number}" for number in range(10)]
    picture = beside(network(), PHOTO, 3, inputs=torch.randn(1, 3, 32, 32), methods=["gradcam"], classes=names)
    assert "what speaks for name 3 in the output of" in picture.caption
    assert "predicted: name " in picture.answer


def test_without_attention_there_is_nothing_to_stand_beside() -> None:
    plain = hosts.build("foveate/resnet8", classes=10)
    with pytest.raises(FoveateError, match="no attention"):
        beside(plain, PHOTO, inputs=torch.randn(1, 3, 32, 32))
    with pytest.raises(OptionError, match="inputs are one image"):
        beside(network(), PHOTO, inputs=torch.randn(3, 32, 32))


def video() -> tuple[Film, torch.Tensor]:
    values = torch.tensor([0.0, 0.25, 1.0]).reshape(3, 1, 1, 1).expand(3, 1, 2, 2)
    black = torch.zeros(3, 3, 20, 30, dtype=torch.uint8)
    return film(AttentionMap("a", "cbam", "", ("h", "w"), values), black, predictions="abc", seconds=0.25), values


def test_a_film_has_every_frame_on_one_scale_in_exact_colours() -> None:
    picture, _ = video()
    played = Image.open(io.BytesIO(picture.webp()))
    assert played.n_frames == 3
    for number, value in enumerate((0.0, 0.25, 1.0)):
        played.seek(number)
        frame = np.asarray(played.convert("RGB")).astype(float)
        pixel = frame[picture.scene.head + 100, MARGIN + 200]
        # black is lifted to 60 and has 0.35 of every pixel; see the overlay's test for the steps
        assert value_of((pixel - 0.35 * 60) / 0.65) == pytest.approx(value, abs=2.5 / 255)
        assert played.info["duration"] == 250
    moving = Image.open(io.BytesIO(picture.gif()))
    assert (moving.n_frames, moving.size) == (3, played.size)


def test_a_film_stands_still_until_it_is_played(tmp_path) -> None:
    picture, _ = video()
    page = picture.html()
    assert "<details><summary>Play 3 frames</summary>" in page
    assert not Loads(page).found
    assert [one.partition(":")[0] for one in shown(picture)] == ["1", "2", "3"]
    assert picture.write(tmp_path / "a.gif").read_bytes()[:4] == b"GIF8"
    assert picture.write(tmp_path / "a.webp").read_bytes()[8:12] == b"WEBP"
    assert pixels(picture.png()).shape[2] == 3
    with pytest.raises(OptionError, match=r"\.gif, \.webp"):
        picture.write(tmp_path / "a.mp4")


def test_a_sheet_of_many_frames_has_some_and_says_how_many() -> None:
    gate = AttentionMap("a", "", "", ("h", "w"), torch.rand(50, 1, 2, 2))
    picture = film(gate, torch.zeros(50, 1, 8, 8, dtype=torch.uint8))
    assert list(shown(picture))[::23] == ["1", "50"]
    assert "Of 50 frames 24 are on this sheet" in picture.caption
    with pytest.raises(OptionError, match="49 frames and 50 recorded samples"):
        film(gate, torch.zeros(49, 1, 8, 8, dtype=torch.uint8))
    with pytest.raises(OptionError, match="2 labels and 50 recorded samples"):
        film(gate, torch.zeros(50, 1, 8, 8, dtype=torch.uint8), labels=["a", "b"])


def test_a_relation_is_asked_at_one_point_in_every_frame() -> None:
    values = torch.rand(2, 4, 4)
    relation = AttentionMap("a", "", "", ("hw->hw",), values, (2, 2))
    picture = film(relation, torch.zeros(2, 1, 8, 8, dtype=torch.uint8), point=(1, 0))
    taken = values[:, :, 2]
    low, high = float(taken.min()), float(taken.max())
    for number in range(2):
        corner = shown(picture)[str(number + 1)].pixels[:, 0, 0].numpy().astype(float)
        at = value_of((corner - 0.35 * 60) / 0.65) * (high - low) + low
        assert at == pytest.approx(float(taken[number, 0]), abs=(high - low) * 2.5 / 255)


def test_slices_go_through_the_focus_and_are_numbered() -> None:
    volume, heat = torch.zeros(6, 8, 10), torch.zeros(1, 1, 6, 8, 10)
    volume[2, 3, 7], heat[0, 0, 2, 3, 7] = 1.0, 1.0
    picture = slices(AttentionMap("a", "cbam", "spatial", ("d", "h", "w"), heat), volume)
    assert "depth 2, height 3, width 7, counted from 0, where the map is highest" in picture.caption
    planes = shown(picture)
    for name, (down, across) in {
        "depth 2 of 6": (3 / 8, 7 / 10),
        "height 3 of 8": (2 / 6, 7 / 10),
        "width 7 of 10": (2 / 6, 3 / 8),
    }.items():
        bright = planes[name].pixels[0] == 255
        rows, columns = bright.nonzero().float().mean(0).tolist()
        assert rows / bright.shape[0] == pytest.approx(down + _half(name, 0), abs=0.02)
        assert columns / bright.shape[1] == pytest.approx(across + _half(name, 1), abs=0.02)
    rings = [one.panel.rings[0] for one in picture.panels if isinstance(one.panel, Pixels) and one.panel.rings]
    expected = [(7.5 / 10, 3.5 / 8), (7.5 / 10, 2.5 / 6), (3.5 / 8, 2.5 / 6)]  # from the left, from the top
    assert [side for ring in rings for side in ring] == pytest.approx([side for ring in expected for side in ring])
    other = slices(AttentionMap("a", "", "", ("d", "h", "w"), heat), volume, focus=(0, 0, 0))
    assert not (shown(other)["depth 0 of 6"].pixels == 255).any()


def _half(name: str, side: int) -> float:
    """Half a voxel, as a share of a plane's height or width."""
    return 0.5 / {"depth 2 of 6": (8, 10), "height 3 of 8": (6, 10), "width 7 of 10": (6, 8)}[name][side]


def test_voxels_that_are_farther_apart_are_drawn_farther_apart() -> None:
    gate = AttentionMap("a", "", "", ("d", "h", "w"), torch.rand(1, 1, 4, 8, 8))
    planes = shown(slices(gate, torch.rand(4, 8, 8), focus=(0, 0, 0), spacing=(2.0, 1.0, 1.0)))
    assert {one.pixels.shape[1] == one.pixels.shape[2] for name, one in planes.items() if name} == {True}


def test_slices_that_cannot_be_are_refused_in_words() -> None:
    gate = AttentionMap("a", "", "", ("d", "h", "w"), torch.rand(1, 1, 4, 4, 4))
    with pytest.raises(OptionError, match="outside a volume of 4×4×4"):
        slices(gate, torch.rand(4, 4, 4), focus=(4, 0, 0))
    with pytest.raises(OptionError, match=r"\(depth, height, width\)"):
        slices(gate, torch.rand(1, 4, 4, 4))
    with pytest.raises(OptionError, match="no map of positions of volumes"):
        slices(AttentionMap("a", "", "", ("h", "w"), torch.rand(1, 1, 4, 4)))
    assert (
        "where the map is highest"
        not in slices(AttentionMap("a", "", "", ("d", "h", "w"), torch.ones(1, 1, 4, 4, 4))).caption
    )
