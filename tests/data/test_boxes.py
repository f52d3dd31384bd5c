"""Boxes from COCO's and VOC's annotations: what becomes of them, and of everything that can be wrong with them."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from foveate.data.boxes.annotations import within
from foveate.data.boxes.folder import box_folder, scene_boxes
from foveate.data.boxes.voc import parse_xml
from foveate.errors import DataError

WIDTH, HEIGHT = 60, 40


def drawn(number: int, box: tuple[int, int, int, int] = (10, 5, 30, 25), size: tuple[int, int] = (WIDTH, HEIGHT)):
    """A dark image that no other is equal to, with a white rectangle from left and top to right and bottom."""
    image = Image.new("RGB", size, (number % 200, number // 200, 9))
    image.paste((255, 255, 255), box)
    return image


class Coco:
    """A folder in COCO's layout."""

    def __init__(self, root: Path, count: int = 10) -> None:
        self.root = root
        root.mkdir(parents=True)
        self.content: dict[str, list[Any]] = {
            "images": [],
            "annotations": [],
            "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}],
        }
        for number in range(count):
            self.image(number)
            self.box(number, [10, 5, 20, 20])

    def image(self, number: int, **more: Any) -> None:
        drawn(number).save(self.root / f"{number}.png")
        entry = {"id": number, "file_name": f"{number}.png", "width": WIDTH, "height": HEIGHT, **more}
        self.content["images"].append(entry)

    def box(self, image: Any, bbox: Any, category: Any = 7, **more: Any) -> None:
        number = len(self.content["annotations"])
        entry = {"id": number, "image_id": image, "category_id": category, "bbox": bbox, "iscrowd": 0, **more}
        self.content["annotations"].append(entry)

    def read(self, **options: Any) -> Any:
        (self.root / "annotations.json").write_text(json.dumps(self.content))
        return box_folder(self.root, **options)


@pytest.fixture
def coco(tmp_path: Path) -> Coco:
    return Coco(tmp_path / "data")


def every(data: Any) -> dict[str, Any]:
    """All boxes by the image's name."""
    splits = (data.train, data.validation, data.test)
    return {name: boxes for split in splits for name, boxes in zip(split.names, split.boxes, strict=True)}


def white(image: torch.Tensor) -> list[float]:
    """Where the rectangle really is."""
    rows, columns = (image == 255).all(0).any(1).nonzero(), (image == 255).all(0).any(0).nonzero()
    return [float(v) for v in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)]


def said(found: Any) -> str:
    return "\n".join(map(str, found))


def test_coco_boxes_lie_on_what_they_mark_and_labels_follow_the_ids(coco: Coco) -> None:
    coco.box(0, [1, 1, 3, 3], 3)
    data = coco.read()
    assert data.classes == ("dog", "cat")
    assert (len(data.train), len(data.validation), len(data.test)) == (6, 2, 2)
    for split in (data.train, data.validation, data.test):
        for index in range(len(split)):
            image, boxes = split[index]
            assert boxes.boxes[0].tolist() == white(image)
            assert data.classes[boxes.labels[0]] == "cat"
            assert split.sizes[index] == tuple(image.shape[1:])
    assert data.report.counts["train"].keys() == {"dog", "cat"}


def test_official_coco_folders(tmp_path: Path) -> None:
    for split, count in (("train2017", 3), ("val2017", 2)):
        one = Coco(tmp_path / split, count)
        for entry in one.content["images"]:
            drawn(100 * count + entry["id"]).save(one.root / entry["file_name"])
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / "annotations" / f"instances_{split}.json").write_text(json.dumps(one.content))
        (tmp_path / "annotations" / f"captions_{split}.json").write_text("{}")
    data = box_folder(tmp_path)
    assert set(data.train.names) | set(data.test.names) == {f"train2017/{n}.png" for n in range(3)}
    assert set(data.validation.names) == {"val2017/0.png", "val2017/1.png"}
    assert "15 % test split off train" in data.report.split
    assert len(data.report.ignored) == 2


WRONG = {
    "inverted": (lambda c: c.box(0, [30, 5, -20, 20]), "width or height is not positive"),
    "degenerate": (lambda c: c.box(0, [30, 5, 0, 20]), "width or height is not positive"),
    "outside": (lambda c: c.box(0, [100, 5, 10, 20]), "lies outside of it"),
    "of no class": (lambda c: c.box(0, [1, 1, 5, 5], 99), "category 99, which does not exist"),
    "of no image": (lambda c: c.box(77, [1, 1, 5, 5]), "image 77, which it does not list"),
    "no numbers": (lambda c: c.box(0, [1, "wide", 5]), "four numbers"),
    "infinite": (lambda c: c.box(0, [1, 1, float("inf"), 5]), "four numbers"),
    "no list": (lambda c: c.box(0, None), "four numbers"),
    "twice": (lambda c: c.box(0, [10, 5, 20, 20]), "twice"),
    "huge number": (lambda c: c.box(0, [10**400, 5, 20, 20]), "four numbers"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_box_that_cannot_be_used_is_dropped_and_said_or_stops(what: str, coco: Coco) -> None:
    spoil, sentence = WRONG[what]
    spoil(coco)
    data = coco.read()
    assert sentence in said(data.report.dropped)
    assert len(data.report.dropped) == 1
    assert len(every(data)["0.png"].boxes) == 1  # the good one is still there
    with pytest.raises(DataError, match=sentence):
        coco.read(on_error="stop")


def test_a_box_over_the_edge_is_cut_off_and_counted(coco: Coco) -> None:
    coco.box(0, [50, -5, 20, 20])
    data = coco.read()
    assert every(data)["0.png"].boxes[1].tolist() == [50, 0, 60, 15]
    assert data.report.changed == {"boxes cut off at the edge of their image": 1}


def test_an_image_all_of_whose_boxes_were_lost_is_no_negative(coco: Coco) -> None:
    coco.image(50)
    coco.box(50, [5, 5, -1, 3])
    coco.image(51)
    data = coco.read()
    assert "50.png" not in every(data)
    assert "50.png has boxes, and none of them can be used" in said(data.report.skipped)
    assert len(every(data)["51.png"].boxes) == 0
    assert sum(data.report.empty.values()) == 1


UNUSABLE = {
    "missing": (lambda c: (c.root / "0.png").unlink(), "0.png cannot be found"),
    "corrupt": (lambda c: (c.root / "0.png").write_bytes(b"\x89PNG nothing"), "0.png is not an image"),
    "cut short": (lambda c: _halve(c.root / "0.png"), "0.png is truncated or damaged"),
    "another size": (lambda c: drawn(0, size=(30, 20)).save(c.root / "0.png"), "30×20 pixels, and its annotation says"),
    "bomb": (lambda c: _bomb(c.root / "0.png"), "decompression bomb|more than the 100,000,000"),
    "id twice": (lambda c: c.image(99, id=0), "has the id 0 in annotations.json, which is another image's too"),
    "out of the folder": (lambda c: c.content["images"][0].update(file_name="../0.png"), "leads out of the folder"),
    "absolute": (lambda c: c.content["images"][0].update(file_name="/etc/passwd"), "leads out of the folder"),
}


def _halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def _bomb(path: Path) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0")))


@pytest.mark.parametrize("what", UNUSABLE)
def test_an_image_that_cannot_be_used_is_left_out_and_said_or_stops(what: str, coco: Coco) -> None:
    import re

    spoil, sentence = UNUSABLE[what]
    spoil(coco)
    data = coco.read()
    assert re.search(sentence, said(data.report.skipped))
    assert "0.png" not in every(data)
    assert len(every(data)) == 9
    with pytest.raises(DataError, match=sentence):
        coco.read(on_error="stop")


def test_an_image_listed_twice_is_read_once(coco: Coco) -> None:
    coco.content["images"].append(dict(coco.content["images"][0]))
    coco.content["images"].append({**coco.content["images"][1], "id": 500})
    coco.box(500, [1, 1, 4, 4])
    coco.content["annotations"][3]["id"] = 2
    data = coco.read()
    assert len(every(data)) == 10
    assert len(every(data)["1.png"].boxes) == 2
    assert set(data.report.changed) == {
        "images listed twice, read once",
        "images listed under two ids, their boxes joined",
    }
    assert "ids to several annotations, such as 2" in said(data.report.warnings)


def test_files_that_number_their_classes_otherwise_agree_by_name(tmp_path: Path) -> None:
    for split, ids in (("train", (7, 3)), ("valid", (3, 7)), ("test", (1, 2))):
        one = Coco(tmp_path / split, 2)
        one.content["categories"] = [{"id": ids[0], "name": "cat"}, {"id": ids[1], "name": "dog"}]
        for entry in one.content["annotations"]:
            entry["category_id"] = ids[0]
        (one.root / "_annotations.coco.json").write_text(json.dumps(one.content))
    data = box_folder(tmp_path)
    assert data.classes == ("cat",)
    assert "classes without a box were left out: dog" in said(data.report.warnings)
    assert [sum(one.values()) for one in data.report.counts.values()] == [2, 2, 2]


def test_half_a_character_in_a_name_is_survived(coco: Coco) -> None:
    coco.content["images"][0]["file_name"] = "\ud800.png"
    coco.content["categories"].append({"id": 50, "name": "\udfff"})
    coco.box(1, [1, 1, 4, 4], 50)
    data = coco.read()
    assert len(data.report.skipped) == 1
    assert len(data.classes) == 2
    data.report.lines()[0].encode()


def test_an_xml_nested_without_end_is_survived(voc: Voc) -> None:
    depth = 100_000
    (voc.root / "Annotations" / "train0.xml").write_text(
        "<annotation>" + "<a>" * depth + "</a>" * depth + "</annotation>"
    )
    assert box_folder(voc.root).report.empty["train"] == 1


def test_crowds_are_kept_apart(coco: Coco) -> None:
    coco.box(0, [0, 0, 60, 40], iscrowd=1)
    data = coco.read()
    assert every(data)["0.png"].crowd.tolist() == [False, True]
    assert sum(sum(one.values()) for one in data.report.counts.values()) == 10  # crowds are counted apart
    assert any("crowds" in change for change in data.report.changed)


@pytest.mark.parametrize(
    ("turn", "seen"), [*((turn, True) for turn in range(2, 9)), *((turn, False) for turn in range(5, 9))]
)
def test_boxes_are_on_the_turned_image_whoever_drew_them(turn: int, seen: bool, coco: Coco) -> None:
    """Drawn on what one sees, or, where the size in the annotation says so, on the image as it is stored."""
    stored = drawn(0)
    exif = Image.Exif()
    exif[0x0112] = turn
    stored.save(coco.root / "0.png", exif=exif)
    entry, box = coco.content["images"][0], coco.content["annotations"][0]
    if seen:
        from PIL import ImageOps

        with Image.open(coco.root / "0.png") as image:
            upright = ImageOps.exif_transpose(image)
        left, top, right, bottom = white(torch.frombuffer(bytearray(upright.tobytes()), dtype=torch.uint8)
                                         .reshape(upright.height, upright.width, 3).permute(2, 0, 1))  # fmt: skip
        entry.update(width=upright.width, height=upright.height)
        box["bbox"] = [left, top, right - left, bottom - top]
    data = coco.read()
    for split in (data.train, data.validation, data.test):
        if "0.png" in split.names:
            image, boxes = split[split.names.index("0.png")]
            assert boxes.boxes[0].tolist() == white(image)
            assert image.shape[1:] == ((60, 40) if turn >= 5 else (40, 60))
    how = "taken as drawn on what one sees" if seen else "their boxes with them"
    assert [how in change for change in data.report.changed] == [True]


def test_the_fingerprint_follows_boxes_and_splits(coco: Coco) -> None:
    first = coco.read().fingerprint
    assert coco.read().fingerprint == first
    assert coco.read(seed=1).fingerprint != first
    coco.content["annotations"][0]["bbox"][0] += 1
    moved = coco.read().fingerprint
    coco.content["annotations"][0]["category_id"] = 3
    assert len({first, moved, coco.read().fingerprint}) == 3


def test_copies_in_two_splits_are_said(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        one = Coco(tmp_path / split, 2)
        (one.root / "_annotations.coco.json").write_text(json.dumps(one.content))
    report = box_folder(tmp_path).report
    assert "byte for byte in train too: 2" in said(report.warnings)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "truncated or damaged"),
        ("[" * 100_000, "truncated or damaged"),
        ('{"images": []}', "holds no annotations"),
    ],
)
def test_a_json_that_is_none_is_said(content: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text(content)
    with pytest.raises(DataError, match=sentence):
        box_folder(tmp_path)


def test_a_json_too_large_is_refused(coco: Coco, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foveate.data.boxes.coco.LARGEST_FILE", 100)
    with pytest.raises(DataError, match="more than the 100 that are read"):
        coco.read()


def test_two_annotations_of_one_split_are_refused(coco: Coco) -> None:
    coco.read()
    (coco.root / "others.json").write_text(json.dumps(coco.content))
    with pytest.raises(DataError, match="several annotations that name no split: annotations.json, others.json"):
        box_folder(coco.root)


def test_too_few_images_are_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="too few usable images"):
        Coco(tmp_path / "few", 2).read()


class Voc:
    """A folder in VOC's layout."""

    def __init__(self, root: Path, **splits: int) -> None:
        self.root, number = root, 0
        for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
            (root / folder).mkdir(parents=True)
        for split, count in splits.items():
            names = [f"{split}{index}" for index in range(count)]
            (root / "ImageSets/Main" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
            for name in names:
                number += 1
                drawn(number).save(root / "JPEGImages" / f"{name}.png")
                self.note(name, self.thing(11, 6, 30, 25))

    def thing(self, *box: Any, name: str = "cat", difficult: int = 0) -> str:
        corners = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=False))
        return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{corners}</bndbox></object>"

    def note(self, name: str, *things: str, before: str = "") -> None:
        size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
        text = f"{before}<annotation>{size}{''.join(things)}</annotation>"
        (self.root / "Annotations" / f"{name}.xml").write_text(text)


@pytest.fixture
def voc(tmp_path: Path) -> Voc:
    return Voc(tmp_path / "voc", train=3, val=2, test=2)


def test_voc_pixels_from_1_are_edges_from_0_and_official_splits_hold(voc: Voc) -> None:
    """The rectangle covers pixels 11 to 30, counted from 1: its edges are 10 and 30."""
    data = box_folder(voc.root)
    assert data.train.names == tuple(f"JPEGImages/train{n}.png" for n in range(3))
    assert (len(data.validation), len(data.test), data.report.split) == (2, 2, "as the lists say")
    for index in range(3):
        image, boxes = data.train[index]
        assert boxes.boxes.tolist() == [white(image)] == [[10, 5, 30, 25]]
    assert "counted from 1" in said(data.report.conventions)


def test_voc_lists_may_have_a_number_behind_each_name_or_train_and_val_together(voc: Voc) -> None:
    lists = voc.root / "ImageSets" / "Main"
    (lists / "trainval.txt").write_text("".join(f"train{n}  {1 - 2 * (n % 2)}\n" for n in range(3)))
    (lists / "train.txt").unlink()
    data = box_folder(voc.root)
    assert {*data.train.names, *data.validation.names} == {f"JPEGImages/train{n}.png" for n in range(3)}
    assert len(data.test) == 2


@pytest.mark.parametrize(
    ("things", "sentence"),
    [
        ((20, 20, 20, 30), "last pixel does not lie behind its first"),
        ((30, 20, 20, 30), "last pixel does not lie behind its first"),
        ((1, 2, 3), "four numbers"),
        (("a", 2, 3, 4), "four numbers"),
        ((100, 5, 110, 9), "lies outside"),
    ],
)
def test_voc_boxes_that_cannot_be_used(things: tuple[Any, ...], sentence: str, voc: Voc) -> None:
    voc.note("train0", voc.thing(11, 6, 30, 25), voc.thing(*things))
    data = box_folder(voc.root)
    assert sentence in said(data.report.dropped)
    assert len(data.train[0][1].boxes) == 1
    with pytest.raises(DataError, match=sentence):
        box_folder(voc.root, on_error="stop")


def test_voc_difficult_things_are_neither_learned_nor_counted(voc: Voc) -> None:
    voc.note("train0", voc.thing(11, 6, 30, 25, difficult=1))
    data = box_folder(voc.root)
    assert data.train[0][1].crowd.tolist() == [True]
    assert data.report.counts["train"] == {"cat": 2}


def test_voc_boxes_from_0_are_said(voc: Voc) -> None:
    voc.note("train0", voc.thing(0, 6, 30, 25))
    assert "1 boxes begin at pixel 0" in said(box_folder(voc.root).report.warnings)


def test_voc_files_that_are_missing_are_said(voc: Voc) -> None:
    (voc.root / "Annotations" / "train0.xml").unlink()
    (voc.root / "JPEGImages" / "val0.png").unlink()
    (voc.root / "Annotations" / "test0.xml").write_text("<annotation><size>")
    (voc.root / "ImageSets/Main/test.txt").write_text("test0\ntest1\n../../secret\n")
    skipped = said(box_folder(voc.root).report.skipped)
    for sentence in ("train0.png has no Annotations", "has no image val0", "test0.xml is truncated", "leads out"):
        assert sentence in skipped


def test_a_class_that_training_lacks_is_said(voc: Voc) -> None:
    voc.note("val0", voc.thing(11, 6, 30, 25, name="yak"))
    assert "train does not have cannot be learned: yak" in said(box_folder(voc.root).report.warnings)


BOMB = '<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;">]>'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("before", [BOMB, '<!DOCTYPE a SYSTEM "file:///etc/passwd">', "<!doctype a>"])
def test_entities_are_never_declared(before: str, encoding: str) -> None:
    with pytest.raises(DataError, match="declares a document type|no XML"):
        parse_xml(f"{before}<a>&c;</a>".encode(encoding))


def test_an_xml_with_a_document_type_is_left_out(voc: Voc) -> None:
    voc.note("train0", voc.thing(11, 6, 30, 25), before=BOMB)
    data = box_folder(voc.root)
    assert "train0.xml declares a document type" in said(data.report.skipped)
    assert len(data.train) == 2


@pytest.mark.parametrize("name", ["a/../../b", "..", "", "/a", "\\\\host\\a", "C:/a", "a\0b"])
def test_paths_stay_inside(name: str) -> None:
    assert within(name) is None


def test_a_folder_without_annotations_says_what_is_meant(voc: Voc) -> None:
    with pytest.raises(DataError, match="voc may be meant"):
        box_folder(voc.root.parent)


def test_scenes_have_a_box_around_each_thing() -> None:
    data = scene_boxes()
    assert (len(data.train), len(data.validation), len(data.test)) == (240, 40, 80)
    assert scene_boxes().fingerprint == data.fingerprint != scene_boxes(1).fingerprint
    image, boxes = data.train[0]
    image.zero_(), boxes.boxes.zero_()
    assert bool(data.train[0][0].any())
    assert bool(data.train[0][1].boxes.any())
