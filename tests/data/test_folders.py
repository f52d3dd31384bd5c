"""What a folder becomes: pixels, splits, fingerprint, and a report of everything else."""

from __future__ import annotations

import json
import os
import pickle
import shutil

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from foveate.data import ImageClassification, image_folder, reading
from foveate.errors import DataError

SPLITS = ("train", "validation", "test")


def names(data: ImageClassification) -> dict[str, tuple[str, ...]]:
    return {split: getattr(data, split).names for split in SPLITS}


def test_images_and_labels_belong_together(folder, picture):
    data = image_folder(folder.fill(cat=10, dog=10).root)
    assert data.shape == (3, 40, 40)
    for split in SPLITS:
        images = getattr(data, split)
        assert len(images) == len(images.names) == len(images.labels)
        for (pixels, label), name in zip(images, images.names, strict=True):
            owner, number = name.removesuffix(".png").split("/")
            expected = picture(1000 * ("cat", "dog").index(owner) + int(number))
            assert data.classes[label] == owner
            assert torch.equal(pixels[:, 20, 20], torch.tensor(expected.getpixel((20, 20)), dtype=torch.uint8))


def test_no_image_is_in_two_splits_and_none_is_lost(folder):
    data = image_folder(folder.fill(cat=33, dog=21).root)
    everything = [name for of_split in names(data).values() for name in of_split]
    assert len(everything) == len(set(everything)) == 54


def test_splits_depend_on_the_seed_and_nothing_else(folder, tmp_path):
    root = folder.fill(cat=20, dog=20).root
    first, again, other = image_folder(root), image_folder(root), image_folder(root, seed=1)
    assert names(first) == names(again)
    assert names(first) != names(other)
    # a copy elsewhere, written in another order and at another time
    copy = tmp_path / "elsewhere" / "copy"
    for path in sorted(root.rglob("*.png"), reverse=True):
        target = copy / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        os.utime(target, (1, 1))
    moved = image_folder(copy)
    assert names(moved) == names(first)
    assert moved.fingerprint == first.fingerprint


def test_the_fingerprint_follows_pixels_and_splits(folder, picture):
    root = folder.fill(cat=5, dog=5).root
    seen = {"at first": image_folder(root).fingerprint}
    folder.put("notes.txt", b"about the data")
    folder.put("cat/broken.png", b"")
    assert image_folder(root).fingerprint == seen["at first"]
    assert image_folder(root, size=40).fingerprint == seen["at first"]  # the default, said aloud
    seen["seed"] = image_folder(root, seed=1).fingerprint
    seen["size"] = image_folder(root, size=32).fingerprint
    folder.put("cat/000.png", picture(555))
    seen["content"] = image_folder(root).fingerprint
    (root / "cat" / "001.png").rename(root / "cat" / "renamed.png")
    seen["name"] = image_folder(root).fingerprint
    (root / "cat" / "renamed.png").rename(root / "dog" / "001b.png")
    seen["class"] = image_folder(root).fingerprint
    assert len(set(seen.values())) == len(seen)


def test_default_size_is_the_median_shorter_side(folder):
    for index, (width, height) in enumerate([(90, 70), (60, 300), (75, 75), (10, 10), (500, 500), (71, 90)]):
        folder.put(f"{'cat' if index % 2 else 'dog'}/{index}.png", Image.new("RGB", (width, height), (index, 0, 0)))
    assert image_folder(folder.root).shape == (3, 64, 64)  # the median of 10, 60, 70, 71, 75, 500 is 70.5
    assert image_folder(folder.root, size=20).shape == (3, 20, 20)


def test_a_changed_image_is_the_callers_own(folder):
    data = image_folder(folder.fill(cat=3, dog=3).root)
    before = data.train[0][0].clone()
    data.train[0][0].zero_()
    assert torch.equal(data.train[0][0], before)


def test_large_sets_stay_on_disk_and_are_the_same(folder, monkeypatch):
    root = folder.fill(cat=6, dog=6).root
    kept = image_folder(root)
    bound = 12 * 3 * 40 * 40
    monkeypatch.setattr(reading, "MEMORY_LIMIT", bound)
    assert isinstance(image_folder(root).train._pixels, torch.Tensor)
    monkeypatch.setattr(reading, "MEMORY_LIMIT", bound - 1)
    on_disk = pickle.loads(pickle.dumps(image_folder(root)))
    assert not isinstance(on_disk.train._pixels, torch.Tensor)
    assert on_disk.fingerprint == kept.fingerprint
    for split in SPLITS:
        ((here, its),) = DataLoader(getattr(kept, split), batch_size=100)
        ((there, their),) = DataLoader(getattr(on_disk, split), batch_size=100)
        assert torch.equal(here, there)
        assert torch.equal(its, their)


def test_files_that_change_later_are_noticed(folder, picture, monkeypatch):
    monkeypatch.setattr(reading, "MEMORY_LIMIT", 0)
    data = image_folder(folder.fill(cat=3, dog=3).root)
    folder.put(data.train.names[0], picture(200))
    with pytest.raises(DataError, match=r"/\w+/\d+.png has changed since the folder was read: read the folder again"):
        data.train[0]
    (folder.root / data.test.names[0]).unlink()
    with pytest.raises(DataError, match="could be read before and now cannot be found"):
        data.test[0]


def bad_files(folder, picture, encoded):
    """A folder with one of each trouble; returns the files that should be images and are not."""
    folder.fill(cat=5, dog=5)
    jpeg = encoded(Image.effect_noise((64, 64), 90), "JPEG")
    folder.put("cat/truncated.jpg", jpeg[:900])
    folder.put("cat/empty.jpg", b"")
    folder.put("dog/text.png", b"not a picture")
    folder.put("dog/photo.heic", b"\0\0\0\x18ftypheic")
    folder.put("dog/.DS_Store", b"x")
    folder.put("dog/Thumbs.db", b"x")
    folder.put("dog/._000.png", b"x")
    folder.put("dog/notes.txt", b"x")
    folder.put("README.md", b"x")
    folder.put(".cache/a.png", picture(1))
    folder.put("__MACOSX/cat/a.png", picture(1))
    return ["cat/empty.jpg", "cat/truncated.jpg", "dog/photo.heic", "dog/text.png"]


def test_everything_left_out_is_reported(folder, picture, encoded):
    skipped = bad_files(folder, picture, encoded)
    report = image_folder(folder.root).report
    reasons = {left_out.name: left_out.reason for left_out in report.skipped}
    assert sorted(reasons) == skipped
    assert "truncated or damaged" in reasons["cat/truncated.jpg"]
    assert reasons["cat/empty.jpg"] == "is empty (0 bytes)"
    assert "is not an image" in reasons["dog/text.png"]
    assert "is not an image" in reasons["dog/photo.heic"]
    ignored = {left_out.name: left_out.reason for left_out in report.ignored}
    assert ignored.pop("dog/notes.txt").startswith("is not an image")
    assert ignored.pop("README.md") == "lies outside the class folders"
    assert set(ignored) == {".cache", "__MACOSX", "dog/.DS_Store", "dog/Thumbs.db", "dog/._000.png"}
    assert set(ignored.values()) == {"is hidden or left by a system"}
    assert sum(sum(of_class.values()) for of_class in report.counts.values()) == 10


def test_stopping_names_the_file_and_the_reason(folder, picture, encoded):
    for name in bad_files(folder, picture, encoded):
        with pytest.raises(DataError, match=r"/\w+/\w+\.\w+ is (empty|truncated|not an image)"):
            image_folder(folder.root, on_error="stop")
        (folder.root / name).unlink()
    # what was never meant as an image stops nothing
    assert len(image_folder(folder.root, on_error="stop").report.ignored) == 7


def test_the_format_is_judged_by_content(folder, picture, encoded):
    folder.fill(cat=5, dog=5)
    folder.put("cat/a.png", encoded(picture(500), "JPEG"))
    folder.put("cat/b.txt", encoded(picture(501), "PNG"))
    folder.put("cat/c", encoded(picture(502), "BMP"))
    data = image_folder(folder.root)
    assert sum(of_class["cat"] for of_class in data.report.counts.values()) == 8
    assert data.report.skipped == data.report.ignored == ()


def test_an_image_by_content_that_breaks_off_is_skipped_whatever_its_name(folder, encoded):
    folder.fill(cat=5, dog=5)
    folder.put("cat/a.dat", encoded(Image.effect_noise((64, 64), 90), "JPEG")[:900])
    assert [left_out.name for left_out in image_folder(folder.root).report.skipped] == ["cat/a.dat"]


def test_conversions_are_counted(folder):
    folder.fill(cat=5, dog=5)
    for index in range(3):
        folder.put(f"cat/c{index}.jpg", Image.new("CMYK", (40, 40), (index * 40, 0, 0, 0)))
    folder.put("dog/small.png", Image.new("L", (1, 1)))
    folder.put("dog/deep.png", Image.new("I;16", (40, 40), 65535))
    folder.put("dog/dark.png", Image.new("I;16", (40, 40), 4000))
    report = image_folder(folder.root).report
    assert report.conversions == {
        "16-bit grey scaled to 8 bits": 1,
        "16-bit grey scaled to 8 bits, using less than a sixteenth of the range": 1,
        "CMYK to RGB": 3,
        "enlarged to 40×40": 1,
    }
    assert any(
        warning.startswith("16-bit images that use less than a sixteenth of their range: 1;")
        for warning in report.warnings
    )


def test_floats_of_two_scales_are_pointed_out(folder):
    folder.fill(cat=5, dog=5)
    folder.put("cat/one.tif", Image.new("F", (40, 40), 0.5))
    folder.put("dog/byte.tif", Image.new("F", (40, 40), 100.0))
    (warning,) = [w for w in image_folder(folder.root).report.warnings if "float" in w]
    assert warning == (
        "images of floats have different scales (floats of 0 to 1 to 8 bits and floats of 0 to 255 to 8 bits): "
        "save them alike"
    )


def test_leakage_between_given_splits_is_pointed_out(folder):
    folder.fill(train__cat=5, train__dog=5, val__cat=2, val__dog=2, test__cat=2, test__dog=2)
    folder.put("test/cat/again.png", (folder.root / "train/cat/003.png").read_bytes())
    (warning,) = [w for w in image_folder(folder.root).report.warnings if "byte for byte" in w]
    assert warning == (
        "images of test that are byte for byte in train too: 1, such as test/cat/again.png and train/cat/003.png; "
        "results on test will be too good"
    )


@pytest.mark.parametrize("seed", range(5))
def test_copies_go_the_same_way(folder, seed):
    folder.fill(cat=10, dog=10)
    for index in range(10):
        folder.put(f"cat/copy{index}.png", (folder.root / f"cat/{index:03}.png").read_bytes())
    data = image_folder(folder.root, seed=seed)
    for of_split in names(data).values():
        numbers = {name[4:7] for name in of_split if name.startswith("cat/0")}
        assert {f"00{name[8]}" for name in of_split if name.startswith("cat/copy")} == numbers
    assert data.report.counts["test"] == {"cat": 4, "dog": 2}
    assert "copies within a class: 10, such as cat/copy0.png of cat/000.png" in data.report.warnings
    assert not any("byte for byte" in warning for warning in data.report.warnings)


def test_names_that_cannot_be_printed_do_not_crash(folder, picture):
    folder.fill(cat=5, dog=5)
    folder.put(b"cat/k\xf6ter.png", picture(300))
    folder.put(b"dog/\x1b[2J\n.png", b"")
    data = image_folder(folder.root)
    assert r"cat/k\xf6ter.png" in data.train.names + data.validation.names + data.test.names
    assert [left_out.name for left_out in data.report.skipped] == [r"dog/\x1b[2J\n.png"]
    "\n".join(data.report.lines()).encode()
    json.dumps(data.report.as_dict(), ensure_ascii=False).encode()


def test_a_class_folder_that_cannot_be_printed(folder):
    folder.fill(cat=3)
    (folder.root / "cat").rename(folder.root / os.fsdecode(b"k\xf6ter"))
    data = image_folder(folder.fill(dog=3).root)
    assert data.classes == ("dog", r"k\xf6ter")
    assert json.loads(json.dumps(data.report.as_dict()))["counts"]["train"] == {"dog": 1, r"k\xf6ter": 1}


def test_progress_ends_at_all_images(folder):
    seen = []
    image_folder(folder.fill(cat=3, dog=4).root, progress=lambda done, total: seen.append((done, total)))
    assert seen[-7:] == [(done, 7) for done in range(1, 8)]


def test_ctrl_c_leaves_the_rest_unread(folder, monkeypatch):
    """In a run of a hundred, what the threads have in hand is finished and the rest dropped."""
    root = folder.fill(cat=50, dog=50).root
    decoded = []

    def interrupted(done, total):
        if (done, total) == (2, 100):
            raise KeyboardInterrupt

    def slow(path, size):
        decoded.append(path)
        __import__("time").sleep(0.01)
        return original(path, size)

    original = reading.decode
    monkeypatch.setattr(reading, "decode", slow)
    with pytest.raises(KeyboardInterrupt):
        image_folder(root, progress=interrupted)
    assert len(decoded) < 50
