"""What every picture is: the same bytes each time, names as they are, nothing loaded, files whole or not at all."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from PIL import Image

from foveate.errors import FoveateError, OptionError
from foveate.explain import AttentionMap
from foveate.explain.pictures import Picture, draw, field, film
from tests.explain.pictures.reading import SVG, Loads, parsed

PHOTO = torch.arange(3 * 24 * 32, dtype=torch.int64).remainder(251).to(torch.uint8).reshape(3, 24, 32)


def gate(place: str = "layer1") -> AttentionMap:
    return AttentionMap(place, "cbam", "spatial", ("h", "w"), torch.linspace(0.2, 0.9, 12).reshape(1, 1, 3, 4))


def several() -> list[Picture]:
    channels = AttentionMap("layer1", "se", "", ("c",), torch.linspace(0, 1, 40).reshape(1, 40, 1, 1))
    pairs = AttentionMap("layer1", "psanet", "collect", ("hw->hw",), torch.rand(1, 4, 4), (2, 2))
    moving = film(gate(), PHOTO[None])
    return [draw(gate(), PHOTO), draw(channels), draw(pairs, PHOTO), field(pairs, PHOTO), moving]


@pytest.mark.parametrize(
    "name",
    [
        "<b>&\"'</b>",
        pytest.param("$x$ and $y$", marks=pytest.mark.slow),
        "a\x00b\x1b",
        pytest.param("layer\N{MULTIPLICATION SIGN}", marks=pytest.mark.slow),
    ],
)
def test_names_stand_in_a_picture_as_they_are(name: str) -> None:
    picture = draw(gate(name), PHOTO, prediction=name, label="<i>")
    root = parsed(picture.svg())
    told = "".join("".join(one.itertext()) for one in root.iter(f"{SVG}text"))
    plain = "".join(letter if letter.isprintable() else " " for letter in name)
    assert f"predicted: {plain} · label: <i>" in told
    assert not [one for one in root.iter() if one.tag in (f"{SVG}b", f"{SVG}i", f"{SVG}script")]
    page = picture.html()
    assert "<b>" not in page
    assert "<i>" not in page
    assert picture.png()[:4] == b"\x89PNG"


def test_a_page_loads_nothing_and_says_what_is_to_be_seen() -> None:
    for picture in several():
        page = picture._repr_html_()
        assert "<figcaption>" in page
        assert not Loads(page).found
        root = parsed(picture.svg())
        assert root.get("role") == "img"
        assert root.find(f"{SVG}title").text == picture.alt
        assert picture.alt
        assert picture.caption.endswith(("decided.", "sheet."))


def test_the_same_picture_is_the_same_bytes_from_every_thread() -> None:
    picture = draw(gate(), PHOTO)
    once = (picture.svg(), picture.png(), picture.html())
    with ThreadPoolExecutor(2) as pool:
        again = list(pool.map(lambda _: (picture.svg(), picture.png(), picture.html()), range(2)))
    assert all(one == once for one in again)


def test_ids_of_two_pictures_on_a_page_do_not_meet() -> None:
    first, second = draw(gate(), PHOTO), draw(gate(), 255 - PHOTO)  # the same words, other pixels
    ids = [{one.get("id") for one in parsed(p.svg()).iter()} - {None} for p in (first, second)]
    assert ids[0]
    assert not ids[0] & ids[1]


@pytest.mark.slow
def test_no_text_leaves_the_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.backends.backend_agg import RendererAgg

    beyond: list[str] = []
    drawn = 0
    paint = RendererAgg.draw_text

    def told(self, gc, x, y, s, prop, angle, *rest, **named):
        nonlocal drawn
        drawn += 1
        width, _, _ = self.get_text_width_height_descent(s, prop, False)
        if x < 0 or x + (width if angle == 0 else 0) > self.width or not 0 < y <= self.height:
            beyond.append(s)
        return paint(self, gc, x, y, s, prop, angle, *rest, **named)

    monkeypatch.setattr(RendererAgg, "draw_text", told)
    long = "backbone.features.stage4.residual_block_17.convolution.batch_normalisation"
    for picture in (draw(gate(long), PHOTO, prediction=long, label="a label of many words " * 6), *several()):
        picture.png()
    assert drawn > 50
    assert not beyond


def test_files_are_written_whole_or_not_at_all(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = draw(gate(), PHOTO)
    for suffix, begins in ((".png", b"\x89PNG"), (".svg", b"<svg"), (".HTML", b"<!doctype html>")):
        path = picture.write(tmp_path / "new" / f"a{suffix}")
        assert path.read_bytes().startswith(begins)
    old = tmp_path / "new" / "a.png"
    before = old.read_bytes()

    def torn(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", torn)
    with pytest.raises(FoveateError, match="the disk is full"):
        draw(gate("other"), PHOTO).write(old)
    assert old.read_bytes() == before
    assert len(list(old.parent.iterdir())) == 3


@pytest.mark.parametrize("name", ["a.jpg", "a", "a.gif"])
def test_other_endings_are_refused_with_those_that_are_written(tmp_path, name: str) -> None:
    with pytest.raises(OptionError, match=r"\.png, \.svg, \.html"):
        draw(gate(), PHOTO).write(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_png_is_twice_as_sharp_as_the_layout() -> None:
    picture = draw(gate(), PHOTO)
    box = parsed(picture.svg()).get("viewBox").split()
    assert Image.open(io.BytesIO(picture.png())).size == (2 * int(box[2]), 2 * int(box[3]))
