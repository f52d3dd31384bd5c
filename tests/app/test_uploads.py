"""Pictures that somebody sent: what is refused, before what, and in which words."""

import io
import re

import pytest
import torch
from PIL import Image, ImageFile

from foveate.app.uploads import BYTES, PIXELS, SIDE, read_upload
from foveate.errors import DataError
from tests.app.bad_files import BAD, animated, written


@pytest.mark.parametrize("what", BAD)
def test_bad_files_are_refused_in_words_and_undecoded(tmp_path, what, monkeypatch):
    path, loaded = written(tmp_path, what), []
    load = ImageFile.ImageFile.load
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: loaded.append(image.size) or load(image))
    with pytest.raises(DataError, match=re.escape(BAD[what][2])):
        read_upload(path)
    assert bool(loaded) == (what == "cut off")  # that shows when pixels are decoded, all else before


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
def test_the_formats_that_are_read(tmp_path, kind):
    path = tmp_path / "picture.dat"
    Image.new("RGB", (48, 32), (200, 30, 30)).save(path, format=kind)
    found = read_upload(path)
    assert found.pixels.shape == (3, 32, 48) and found.said.lower().startswith(kind.lower())
    assert "48×32 pixels" in found.said
    # JPEG and WebP lose a little, GIF has 256 colours: none is another colour
    assert (found.pixels.float().mean((1, 2)) - torch.tensor([200.0, 30, 30])).abs().max() < 8


@pytest.mark.parametrize("kind", ["TIFF", "PPM", "ICO"])
def test_other_formats_are_not_even_tried(tmp_path, kind):
    path = tmp_path / "picture.png"
    Image.new("RGB", (16, 16)).save(path, format=kind)
    with pytest.raises(DataError, match="is no PNG, JPEG, WebP, BMP or GIF picture"):
        read_upload(path)


def test_of_an_animation_the_first_frame_is_taken_and_that_is_said(tmp_path):
    path = tmp_path / "two.gif"
    path.write_bytes(animated())
    found = read_upload(path)
    assert "first of several frames taken" in found.said
    assert found.pixels[:, 5, 5].tolist() == [255, 0, 0]  # red, not blue


def test_a_file_beyond_the_limit_of_bytes(tmp_path):
    path = tmp_path / "large.bmp"
    with path.open("wb") as file:
        file.write(b"BM")
        file.truncate(BYTES + 1)
    with pytest.raises(DataError, match="20 MiB are read at most"):
        read_upload(path)


def test_a_picture_at_the_limit_of_pixels_is_read_and_made_smaller(tmp_path):
    path = tmp_path / "long.png"
    Image.new("L", (PIXELS // 1000, 1000), 77).save(path)
    found = read_upload(path)
    assert max(found.pixels.shape) == SIDE and "made smaller" in found.said
    assert int(found.pixels.min()) == int(found.pixels.max()) == 77


def test_files_elsewhere_are_not_read_whatever_leads_to_them(tmp_path):
    inside, outside = tmp_path / "uploads", tmp_path / "secret.png"
    inside.mkdir()
    Image.new("RGB", (8, 8)).save(outside)
    link = inside / "link.png"
    link.symlink_to(outside)
    for path in (outside, link, inside / ".." / "secret.png"):
        with pytest.raises(DataError, match="not one that was sent"):
            read_upload(path, inside)
    with pytest.raises(DataError, match="no longer here"):
        read_upload(inside / "gone.png", inside)
    with pytest.raises(DataError, match="no longer here"):
        read_upload(inside, inside)


def test_a_turned_photograph_is_turned(tmp_path):
    path, content = tmp_path / "turned.jpg", io.BytesIO()
    image = Image.new("RGB", (40, 20))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(content, format="JPEG", exif=exif)
    path.write_bytes(content.getvalue())
    assert read_upload(path).pixels.shape == (3, 40, 20)
