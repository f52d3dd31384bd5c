"""Folders that are only tested with: classes by name, of every kind of data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from foveate.data import box_folder, fashion_mnist, image_folder, mask_folder, shifted, subject_folder
from foveate.errors import DataError, OptionError


def test_images_have_the_labels_size_and_channels_of_the_training_data(folder, tmp_path, picture):
    data = image_folder(folder.fill(bird=4, cat=4, dog=4).root)
    other = type(folder)(tmp_path / "other")
    other.put("dog/1.png", picture(7, 64))
    other.put("dog/deep/2.png", picture(8, 50))
    other.put("bird/1.png", picture(9, 90))
    other.put("bird/broken.png", b"\x89PNG")
    found = shifted(other.root, data)
    assert found.classes == data.classes
    assert [(found.classes[label], pixels.shape) for pixels, label in found.test] == [
        ("bird", (3, 40, 40)),
        ("dog", (3, 40, 40)),
        ("dog", (3, 40, 40)),
    ]
    assert found.test.names == ("bird/1.png", "dog/1.png", "dog/deep/2.png")
    assert found.report.counts == {"test": {"bird": 1, "cat": 0, "dog": 2}}
    assert found.report.warnings[0] == "classes without an image, of which nothing is tested: cat"
    assert "broken.png" in str(found.report.skipped[0])
    assert "\n".join(found.report.lines())
    again = shifted(other.root, data)
    assert again.fingerprint == found.fingerprint
    other.put("dog/1.png", picture(70, 64))
    assert shifted(other.root, data).fingerprint != found.fingerprint
    with pytest.raises(DataError, match=r"broken.png"):
        shifted(other.root, data, on_error="stop")
    with pytest.raises(OptionError):
        shifted(other.root, data, on_error="go on")  # type: ignore[arg-type]


def test_an_unknown_class_is_an_error_with_the_nearest_name(folder, tmp_path):
    data = image_folder(folder.fill(cat=4, dog=4).root)
    other = type(folder)(tmp_path / "other").fill(dogs=1, cat=1).root
    with pytest.raises(DataError, match=r"does not have: dogs \(did you mean 'dog'\?\); name them as there"):
        shifted(other, data)


def test_of_splits_only_test_is_read(folder, tmp_path):
    data = image_folder(folder.fill(cat=4, dog=4).root)
    other = type(folder)(tmp_path / "other").fill(train__cat=5, test__cat=2, val__dog=3).root
    found = shifted(other, data)
    assert len(found.test) == 2
    assert found.report.split == "what lies in test is tested with"
    with pytest.raises(DataError, match="train and no test"):
        shifted(type(folder)(tmp_path / "third").fill(train__cat=5).root, data)


def test_nothing_usable(folder, tmp_path):
    data = image_folder(folder.fill(cat=4, dog=4).root)
    other = type(folder)(tmp_path / "other")
    other.put("cat/1.png", b"\x89PNG")
    with pytest.raises(DataError, match=r"has no image that can be used \(1 unusable"):
        shifted(other.root, data)
    other.put("flat/1.png", b"")
    with pytest.raises(DataError, match="has no class folders"):
        shifted(other.root / "flat", data)
    with pytest.raises(DataError, match="does not exist"):
        shifted(tmp_path / "nowhere", data)


def test_grey_is_the_luma(folder, picture):
    folder.put("Bag/1.png", picture(200, 28))
    pixels, label = shifted(folder.root, fashion_mnist()).test[0]
    assert (pixels.shape, label) == ((1, 28, 28), 8)
    assert int(pixels[0, 14, 14]) == Image.new("RGB", (1, 1), (200, 0, 7)).convert("L").getpixel((0, 0))


def masked(root: Path, masks: list[list[int]], names: str | None) -> Path:
    """Images of 12×10 pixels whose masks have the given numbers, one in each column."""
    for number, columns in enumerate(masks):
        mask = torch.tensor(columns, dtype=torch.uint8).expand(12, len(columns)).numpy()
        for kind, image in (
            ("images", Image.new("RGB", mask.shape[::-1], (number, 0, 0))),
            ("masks", Image.fromarray(mask)),
        ):
            (root / kind).mkdir(parents=True, exist_ok=True)
            image.save(root / kind / f"{number}.png")
    if names:
        (root / "classes.txt").write_text(names)
    return root


def test_masks_are_renumbered_by_name(tmp_path):
    data = mask_folder(masked(tmp_path / "a", [[0, 1, 2]] * 8, "ground\nleaf\nstem\n"))
    other = masked(tmp_path / "b", [[0, 1, 255], [1, 1, 0]], "stem\nground\n")
    found = shifted(other, data)
    assert found.test[0][1][0].tolist() == [2, 0, 255]
    assert found.test[1][1][0].tolist() == [0, 0, 2]
    assert found.report.pixels == {"test": {"ground": 36, "leaf": 0, "stem": 24}}
    assert "classes without an pixel" not in str(found.report.warnings)
    assert found.report.warnings[0] == "classes without a pixel, of which nothing is tested: leaf"
    (other / "classes.txt").unlink()  # numbers mean what they mean in the training data
    assert shifted(other, data).test[0][1][0].tolist() == [0, 1, 255]
    (other / "classes.txt").write_text("steam\nground\n")
    with pytest.raises(DataError, match=r"steam \(did you mean 'stem'\?\)"):
        shifted(other, data)


def test_masks_with_unknown_numbers_are_left_out(tmp_path):
    data = mask_folder(masked(tmp_path / "a", [[0, 1, 2]] * 8, "ground\nleaf\nstem\n"))
    found = shifted(masked(tmp_path / "b", [[0, 1, 7], [1, 1, 0]], None), data)
    assert found.test.names == ("images/1.png",)
    assert "7" in str(found.report.skipped[0])


def boxed(root: Path, labels: list[str], split: str = "all") -> Path:
    """An image with one box for each label, as COCO annotates it."""
    root.mkdir(parents=True)
    names = sorted(set(labels))
    notes = {"images": [], "annotations": [], "categories": [{"id": n, "name": name} for n, name in enumerate(names)]}
    for n, label in enumerate(labels):
        Image.new("L", (40, 30), n).save(root / f"{n}.png")
        notes["images"].append({"id": n, "file_name": f"{n}.png", "width": 40, "height": 30})
        box = {"id": n, "image_id": n, "category_id": names.index(label), "bbox": [n, 5, 20, 10]}
        notes["annotations"].append(box)
    (root / f"{split}.json").write_text(json.dumps(notes))
    return root


def test_boxes_have_the_labels_of_the_training_data(tmp_path):
    data = box_folder(boxed(tmp_path / "a", ["bird", "cat", "dog"] * 5))
    found = shifted(boxed(tmp_path / "b", ["dog", "bird"]), data)
    assert [(data.classes[int(things.labels[0])], things.boxes[0].tolist()) for _, things in found.test] == [
        ("dog", [0, 5, 20, 15]),
        ("bird", [1, 5, 21, 15]),
    ]
    assert found.report.warnings[0] == "classes without a box, of which nothing is tested: cat"
    assert found.test.sizes == ((30, 40), (30, 40))
    with pytest.raises(DataError, match=r"dogs \(did you mean 'dog'\?\)"):
        shifted(boxed(tmp_path / "c", ["dogs"]), data)


def subjects(root: Path, values: list[int], names: str | None = None, labels: str | None = None) -> Path:
    """A folder a subject, each with an image and a mask with one number."""
    for number, value in enumerate(values):
        folder = root / f"p{number}"
        folder.mkdir(parents=True)
        Image.new("L", (16, 16), number + 1).save(folder / "image.png")
        if labels is None:
            mask = Image.new("L", (16, 16), 0)
            mask.paste(value, (4, 4, 8, 8))
            mask.save(folder / "mask.png")
    for file, text in (("classes.csv", names), ("labels.csv", labels)):
        if text:
            (root / file).write_text(text)
    return root


def test_subjects_have_the_numbers_of_the_training_data(tmp_path):
    data = subject_folder(subjects(tmp_path / "a", [1, 2, 3] * 4, "id,name\n1,organ\n2,lesion\n3,vessel\n"))
    other = subjects(tmp_path / "b", [9, 4], "id,name\n9,organ\n4,vessel\n")
    found = shifted(other, data)
    assert found.classes == ("background", "organ", "lesion", "vessel")
    assert [target.truth[5, 5].item() for _, target in found.test] == [1, 3]
    assert found.report.counts["test"]["patients"] == 2
    (other / "classes.csv").write_text("id,name\n9,organs\n4,vessel\n")
    with pytest.raises(DataError, match=r"organs \(did you mean 'organ'\?\)"):
        shifted(other, data)


def test_classes_of_patients(tmp_path):
    table = "subject,label\n" + "".join(f"p{n},{('ill', 'well')[n % 2]}\n" for n in range(12))
    data = subject_folder(subjects(tmp_path / "a", [0] * 12, labels=table), task="classification")
    other = subjects(tmp_path / "b", [0, 0], labels="subject,label\np0,well\np1,well\n")
    found = shifted(other, data)
    assert [int(target.truth) for _, target in found.test] == [1, 1]
    assert found.report.warnings == ("classes without a patient, of which nothing is tested: ill",)
    (other / "labels.csv").write_text("subject,label\np0,sick\np1,well\n")
    with pytest.raises(DataError, match="does not have: sick"):
        shifted(other, data)
