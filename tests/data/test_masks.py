"""Folders of images and masks: both layouts, what numbers mean, and everything that is wrong with a file, counted."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from foveate.data import reading
from foveate.data.masks.folder import mask_folder
from foveate.data.masks.reading import TURNED, UNSURE
from foveate.data.masks.scenes import scene_masks
from foveate.data.masks.segmentation import IGNORE
from foveate.data.scenes import scenes
from foveate.errors import DataError, OptionError


def image(number: int, size: tuple[int, int] = (8, 6), mode: str = "RGB") -> Image.Image:
    """A picture that no other number has, width and height as Pillow says them."""
    rng = np.random.default_rng(number)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).convert(mode)


def mask(*rows: list[int], kind: Any = np.uint8) -> Image.Image:
    """A mask of six rows of eight, the given ones first, the rest 0."""
    whole = np.zeros((6, 8), dtype=kind)
    for row, numbers in enumerate(rows):
        whole[row, : len(numbers)] = numbers
    return Image.fromarray(whole)


class Pairs:
    """A folder of images and masks."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, name: str, content: Image.Image | bytes, **options: Any) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content) if isinstance(content, bytes) else content.save(path, **options)
        return path

    def fill(self, count: int = 10, where: str = "", first: int = 0, rows: Any = ([0, 1, 1],)) -> Pairs:
        images, masks = (where, where.replace("images", "masks")) if "images" in where else (
            f"{where}images/", f"{where}masks/"
        )  # fmt: skip
        for number in range(first, first + count):
            self.put(f"{images}{number:02}.png", image(number))
            self.put(f"{masks}{number:02}.png", mask(*rows))
        return self

    def read(self, **options: Any) -> Any:
        return mask_folder(self.root, **options)


@pytest.fixture
def pairs(tmp_path: Path) -> Pairs:
    return Pairs(tmp_path / "plants")


def reasons(data: Any) -> dict[str, str]:
    return {one.name: one.reason for one in data.report.skipped}


def test_an_image_comes_with_its_own_mask_at_its_own_size(pairs: Pairs) -> None:
    pairs.fill()
    pairs.put("images/wide.jpg", image(50, (20, 6)))
    wide = np.arange(6 * 20).reshape(6, 20) % 2
    pairs.put("masks/wide.png", Image.fromarray(wide.astype(np.uint8)))
    data = pairs.read()
    found = {name: split[index] for split in (data.train, data.validation, data.test)
             for index, name in enumerate(split.names)}  # fmt: skip
    assert len(found) == 11
    pixels, classes = found["images/wide.jpg"]
    assert pixels.shape == (3, 6, 20)
    assert np.array_equal(classes.numpy(), wide)
    pixels, _ = found["images/03.png"]
    assert np.array_equal(pixels.permute(1, 2, 0).numpy(), np.asarray(image(3)))
    assert data.classes == ("0", "1")
    assert data.report.sizes == ((6, 8), (6, 20))


@pytest.mark.parametrize("inside", [False, True])
def test_splits_are_what_the_folders_say(pairs: Pairs, inside: bool) -> None:
    for split, first, count in (("train", 0, 4), ("val", 10, 2), ("test", 20, 3)):
        pairs.fill(count, f"images/{split}/" if inside else f"{split}/", first)
    data = pairs.read()
    assert [len(data.train), len(data.validation), len(data.test)] == [4, 2, 3]
    assert data.report.split == "as the folders say"
    assert "10.png" in data.validation.names[0]


def test_a_missing_split_comes_out_of_train_alone(pairs: Pairs) -> None:
    pairs.fill(10, "train/").fill(3, "test/", 20)
    data = pairs.read()
    assert [len(data.train), len(data.validation), len(data.test)] == [8, 2, 3]


def test_images_are_dealt_by_content_and_copies_stay_together(pairs: Pairs) -> None:
    pairs.fill(20)
    for copy in range(5):
        pairs.put(f"images/copy{copy}.png", image(3))
        pairs.put(f"masks/copy{copy}.png", mask([1]))
    data = pairs.read()
    owners = [
        index
        for index, split in enumerate((data.train, data.validation, data.test))
        for name in split.names
        if "copy" in name or "03" in name
    ]
    assert len(owners) == 6
    assert len(set(owners)) == 1
    assert pairs.read().train.names == data.train.names
    assert pairs.read(seed=1).train.names != data.train.names
    assert pairs.read(seed=1).fingerprint != data.fingerprint


def test_images_in_two_splits_are_said(pairs: Pairs) -> None:
    pairs.fill(4, "train/").fill(3, "test/", 3)
    assert any("images of test that are byte for byte in" in warning for warning in pairs.read().report.warnings)


def test_names_of_classes_come_from_the_folder(pairs: Pairs) -> None:
    pairs.fill(rows=([0, 1, 2, 255],))
    pairs.put("classes.txt", b"ground\nleaf\nstem\n\n")
    data = pairs.read()
    assert data.classes == ("ground", "leaf", "stem")
    assert data.train[0][1][0].tolist() == [0, 1, 2, IGNORE, 0, 0, 0, 0]
    assert data.report.pixels["train"] == {"ground": 45 * 6, "leaf": 6, "stem": 6}
    assert pairs.read(classes=("a", "b", "c")).classes == ("a", "b", "c")


@pytest.mark.parametrize(("content", "sentence"), [
    (b"ground\n\nleaf", "line 2 of .* is empty"),
    (b"", "line 1 of .* is empty"),
    (b"ground\nleaf\nground", "names classes twice: ground"),
    (b"gr\xfcn", "cannot be read"),
])  # fmt: skip
def test_a_broken_list_of_classes_stops_everything(pairs: Pairs, content: bytes, sentence: str) -> None:
    pairs.fill().put("classes.txt", content)
    with pytest.raises(DataError, match=sentence):
        pairs.read()


def test_black_and_white_masks_are_background_and_object(pairs: Pairs) -> None:
    data = pairs.fill(rows=([0, 255],)).read()
    assert data.classes == ("background", "object")
    assert data.train[0][1].unique().tolist() == [0, 1]
    assert "masks: 0 is background and 255 the object" in data.report.lines()


def test_255_beside_other_numbers_is_left_out(pairs: Pairs) -> None:
    data = pairs.fill(rows=([1, 255],)).read()
    assert data.train[0][1][0, :3].tolist() == [1, IGNORE, 0]
    with pytest.raises(DataError, match=r"numbers that no class has \(255\)"):
        pairs.read(ignore=7, classes=("a", "b"))
    pairs.fill(rows=([1, 7],))
    assert pairs.read(ignore=7, classes=("a", "b")).train[0][1][0, :3].tolist() == [1, IGNORE, 0]


def test_every_object_counts_as_one_class(pairs: Pairs) -> None:
    pairs.fill(5)
    for number in range(5, 10):
        pairs.put(f"images/{number:02}.png", image(number))
        pairs.put(f"masks/{number:02}.png", mask([0, 256, 255, 300], kind=np.uint16))
    data = pairs.read(instances=True)
    assert data.classes == ("background", "object")
    assert data.train[len(data.train) - 1][1][0, :5].tolist() in ([0, 1, 1, 1, 0], [0, 1, 1, 0, 0])
    with pytest.raises(DataError, match="numbers up to 300.*instances=true"):
        pairs.read()


def test_many_numbers_without_names_are_doubted(pairs: Pairs) -> None:
    data = pairs.fill(rows=([*range(30, 38)],)).read()
    assert any("set instances=true" in warning for warning in data.report.warnings)


def truncated(content: Image.Image) -> bytes:
    buffer = io.BytesIO()
    content.save(buffer, "PNG")
    return buffer.getvalue()[:45]


BROKEN = {
    "image truncated": ("images/bad.png", truncated(image(9)), "is truncated or damaged"),
    "image empty": ("images/bad.png", b"", "is empty (0 bytes)"),
    "mask truncated": ("masks/bad.png", truncated(mask([1])), "has a mask, bad.png, that is truncated"),
    "mask of colours": ("masks/bad.png", image(1, mode="RGBA"), "that is RGBA with 4 channels"),
    "mask of another size": ("masks/bad.png", Image.new("L", (8, 5)), "has 6×8 pixels, and its mask bad.png 5×8"),
    "mask with strangers": ("masks/bad.png", mask([0, 9, 17]), "numbers that no class has (9, 17)"),
    "mask as JPEG": ("masks/bad.jpg", mask([1]), "that is JPEG, which changes numbers: save masks as PNG"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_broken_is_left_out_and_said(pairs: Pairs, case: str) -> None:
    name, content, reason = BROKEN[case]
    pairs.fill().put("classes.txt", b"ground\nleaf")
    pairs.put("images/bad.png", image(77))
    if not name.endswith("jpg"):
        pairs.put("masks/bad.png", mask([1]))
    pairs.put(name, content)
    data = pairs.read()
    assert list(reasons(data)) == ["images/bad.png"]
    assert reason in reasons(data)["images/bad.png"]
    assert sum(data.report.counts.values()) == 10
    assert data.report.as_dict()["skipped"]
    with pytest.raises(DataError, match=r"bad\.png has|bad\.png is"):
        pairs.read(on_error="stop")


def test_images_without_masks_and_masks_without_images_are_named(pairs: Pairs) -> None:
    pairs.fill()
    pairs.put("images/alone.png", image(77))
    pairs.put("masks/lost.png", mask([1]))
    pairs.put("images/notes.txt", b"hello")
    pairs.put("images/03.jpg", image(3))
    data = pairs.read()
    assert reasons(data) == {
        "images/alone.png": "has no mask: there is no masks/alone.*",
        "masks/lost.png": "has no image: there is no images/lost.*",
        "images/03.jpg": "has the same name as images/03.png",
        "images/03.png": "has the same name as images/03.jpg",
        "masks/03.png": "has no image: there is no images/03.*",
    }
    assert [one.name for one in data.report.ignored] == ["images/notes.txt"]
    with pytest.raises(DataError, match="the same name|has no mask"):
        pairs.read(on_error="stop")


@pytest.mark.parametrize(("mode", "ending", "change"), [
    ("CMYK", "jpg", "CMYK to RGB"),
    ("P", "png", "palette to RGB"),
    ("I;16", "png", "16-bit grey"),
    ("RGBA", "png", "transparency laid on white"),
])  # fmt: skip
def test_other_kinds_of_images_are_made_rgb_and_counted(pairs: Pairs, mode: str, ending: str, change: str) -> None:
    pairs.fill()
    plain = image(77)
    if mode == "I;16":
        plain = Image.fromarray(np.linspace(0, 65535, 48).reshape(6, 8).astype(np.uint16))
    elif mode == "RGBA":
        plain.putalpha(Image.new("L", plain.size, 100))
    else:
        plain = plain.convert(mode)
    pairs.put(f"images/other.{ending}", plain)
    pairs.put("masks/other.png", mask([1]))
    data = pairs.read()
    assert not data.report.skipped
    assert any(change in one for one in data.report.conversions)


def test_palettes_of_masks_are_numbers(pairs: Pairs) -> None:
    coloured = mask([0, 1, 1]).convert("P")
    coloured.putpalette([0, 0, 0, 200, 30, 30, *[9] * 762])
    data = pairs.fill()
    data.put("masks/03.png", coloured)
    assert mask_folder(data.root).report.skipped == ()


@pytest.mark.parametrize("orientation", [2, 3, 4, 5, 6, 7, 8])
def test_a_mask_is_turned_with_its_image(pairs: Pairs, orientation: int) -> None:
    """The mask marks a colour of the image: after turning both it still does."""
    pairs.fill()
    marked = np.zeros((6, 8, 3), dtype=np.uint8)
    marked[0, :3], marked[4, 6] = 255, 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    pairs.put("images/turned.png", Image.fromarray(marked), exif=exif)
    pairs.put("masks/turned.png", Image.fromarray((marked[..., 0] > 0).astype(np.uint8)))
    data = pairs.read()
    splits = (data.train, data.validation, data.test)
    pixels, classes = next(split[split.names.index("images/turned.png")] for split in splits
                           if "images/turned.png" in split.names)  # fmt: skip
    if orientation >= 5:
        assert pixels.shape == (3, 8, 6)
        assert torch.equal(pixels[0] > 0, classes > 0)
        assert data.report.conversions[TURNED] == 1
    else:  # both sizes are the same: nobody can tell, so it is said
        assert data.report.conversions[UNSURE] == 1
        assert any("drawn before or after: 1" in warning for warning in data.report.warnings)


def test_a_bomb_is_refused_by_its_header(pairs: Pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    from foveate.data import decode

    pairs.fill()
    pairs.put("images/huge.png", Image.new("1", (200, 200)))
    pairs.put("masks/huge.png", mask([1]))
    monkeypatch.setattr(decode, "PIXEL_LIMIT", 10_000)
    assert "more than the 10,000 that are read" in reasons(pairs.read())["images/huge.png"]


def test_masks_without_an_object_are_counted(pairs: Pairs) -> None:
    pairs.fill(8).fill(2, first=8, rows=())
    pairs.put("images/none.png", image(60))
    pairs.put("masks/none.png", Image.new("L", (8, 6), 255))
    warnings = pairs.read().report.warnings
    assert any(warning.startswith("masks with nothing but class 0: 2, such as") for warning in warnings)
    assert any(warning.startswith("masks with no class at all: 1, such as images/none.png") for warning in warnings)


def test_a_class_that_no_mask_has_is_said(pairs: Pairs) -> None:
    pairs.fill().put("classes.txt", b"ground\nleaf\nstem")
    assert "classes that train has no pixel of: stem" in pairs.read().report.warnings


FOLDERS = {
    "nothing": ([], "is empty: it should hold images and masks"),
    "other folders": (["cats/1.png"], "has neither images and masks nor splits of them"),
    "images alone": (["images/1.png"], "has images alone"),
    "empty masks": (["images/1.png", "masks/"], "no image with a mask of the same name"),
    "other names": (["images/1.png", "masks/1_mask.png"], "images/1.png has no mask"),
    "two folders of masks": (["images/1.png", "masks/1.png", "labels/1.png"], "keep the one that is meant"),
    "no train": (["val/images/1.png", "val/masks/1.png"], "has validation and no train"),
    "a split without masks": (["train/images/1.png", "train/masks/1.png", "val/images/1.png"], "validation in"),
    "two of a split": (["images/val/1.png", "images/valid/1.png", "masks/"], "has validation twice"),
    "too few": (["images/1.png", "masks/1.png"], "has 1 different images .* and needs 3"),
}  # fmt: skip


@pytest.mark.parametrize("case", FOLDERS)
def test_folders_of_another_kind_are_refused_with_what_to_give(pairs: Pairs, case: str) -> None:
    names, sentence = FOLDERS[case]
    pairs.root.mkdir()
    for name in names:
        if name.endswith("/"):
            (pairs.root / name).mkdir(parents=True)
        else:
            pairs.put(name, mask([1]) if "mask" in name or "labels" in name else image(1))
    with pytest.raises(DataError, match=sentence):
        pairs.read()


def test_options_that_cannot_work(pairs: Pairs) -> None:
    pairs.fill()
    with pytest.raises(OptionError, match="on_error"):
        pairs.read(on_error="perhaps")
    with pytest.raises(OptionError, match="ignore"):
        pairs.read(ignore=-1)
    with pytest.raises(DataError, match="need two class names, not 3"):
        pairs.read(instances=True, classes=("a", "b", "c"))
    with pytest.raises(DataError, match="needs 2 to 255 classes"):
        pairs.read(classes=("a",))


def test_what_does_not_fit_in_memory_is_decoded_on_demand(pairs: Pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    from foveate.data.masks import reading as mask_reading

    kept = pairs.fill().read()
    monkeypatch.setattr(mask_reading, "MEMORY_LIMIT", 100)
    assert reading.MEMORY_LIMIT > 100
    data = pairs.read()
    assert data.fingerprint == kept.fingerprint
    for index in range(len(data.train)):
        assert all(torch.equal(a, b) for a, b in zip(data.train[index], kept.train[index], strict=True))
    pairs.put(data.train.names[0].replace("images", "masks"), mask([1, 1]))
    with pytest.raises(DataError, match="has changed since the folder was read"):
        data.train[0]


def test_a_changed_mask_changes_the_fingerprint(pairs: Pairs) -> None:
    before = pairs.fill().read().fingerprint
    assert pairs.read().fingerprint == before
    pairs.put("masks/03.png", mask([1, 1]))
    assert pairs.read().fingerprint != before


def test_the_scene_boxes_have_the_masks_that_they_were_drawn_with() -> None:
    data = scene_masks(3)
    scene = scenes("validation", 3)[5]
    pixels, classes = data.validation[5]
    assert torch.equal(pixels, scene.pixels)
    assert torch.equal(classes, scene.mask)
    assert len(data.classes) == 5
    assert scene_masks(4).fingerprint != data.fingerprint
    pixels.zero_()
    assert data.validation[5][0].any()  # what is handed out is the caller's own to change
