"""Which folders are understood, and what is said about those that are not."""

from __future__ import annotations

import pytest

from foveate.data import image_folder
from foveate.data.layout import read_layout
from foveate.errors import DataError, MissingExtraError, OptionError


def counts(data):
    return {split: list(of_class.values()) for split, of_class in data.report.counts.items()}


def test_class_folders_are_dealt_70_15_15(folder):
    data = image_folder(folder.fill(dog=40, cat=20).root)
    assert data.classes == ("cat", "dog")
    assert counts(data) == {"train": [14, 28], "validation": [3, 6], "test": [3, 6]}
    assert data.report.split == "in every class 15 % validation, 15 % test, the rest train, by seed 0"
    assert data.report.warnings == ()


def test_three_images_a_class_are_enough(folder):
    data = image_folder(folder.fill(cat=3, dog=7).root)
    assert counts(data) == {"train": [1, 5], "validation": [1, 1], "test": [1, 1]}
    assert data.report.warnings == (
        "classes with fewer than 20 images decide little: "
        "cat (1 train, 1 validation, 1 test), dog (5 train, 1 validation, 1 test)",
    )


def test_two_images_a_class_are_not(folder):
    folder.fill(cat=2, dog=9).put("cat/x.jpg", b"")
    with pytest.raises(DataError, match=r"too few .*: cat has 2, needs 3 \(1 unusable, such as cat/x.jpg is empty"):
        image_folder(folder.root)


@pytest.mark.parametrize("validation", ["val", "valid", "validation", "Val"])
def test_given_splits_stay_as_they_are(folder, validation):
    folder.fill(train__cat=5, train__dog=4, test__cat=1, test__dog=2)
    folder.fill(**{f"{validation}__cat": 3, f"{validation}__dog": 2})
    data = image_folder(folder.root)
    assert counts(data) == {"train": [5, 4], "validation": [3, 2], "test": [1, 2]}
    assert set(data.validation.names) == {f"{validation}/{name}.png" for name in ("cat/000", "cat/001", "cat/002")} | {
        f"{validation}/{name}.png" for name in ("dog/000", "dog/001")
    }
    assert data.report.split == "as the folders say"
    assert data.fingerprint == image_folder(folder.root, seed=1).fingerprint


def test_missing_validation_is_split_off_train(folder):
    data = image_folder(folder.fill(train__cat=20, train__dog=20, test__cat=2, test__dog=2).root)
    assert counts(data) == {"train": [17, 17], "validation": [3, 3], "test": [2, 2]}
    assert all(name.startswith("train/") for name in data.validation.names)
    assert data.report.split == "as the folders say, and 15 % validation split off every class of train, by seed 0"


def test_missing_test_is_split_off_train(folder):
    data = image_folder(folder.fill(train__cat=20, train__dog=20, val__cat=2, val__dog=2).root)
    assert counts(data) == {"train": [17, 17], "validation": [2, 2], "test": [3, 3]}
    assert all(name.startswith("train/") for name in data.test.names)


def test_train_alone_is_dealt_like_class_folders(folder):
    data = image_folder(folder.fill(train__cat=20, train__dog=20).root)
    assert counts(data) == {"train": [14, 14], "validation": [3, 3], "test": [3, 3]}


def test_a_class_may_be_called_train(folder):
    data = image_folder(folder.fill(train=4, bus=4, test=4).root)
    assert data.classes == ("bus", "test", "train")


def test_folders_inside_a_class_belong_to_it_and_are_mentioned(folder, picture):
    folder.fill(cat=3, dog=3).put("cat/garden/deep/x.png", picture(77))
    data = image_folder(folder.root)
    assert sum(of_class["cat"] for of_class in data.report.counts.values()) == 4
    assert data.report.warnings[-1] == "folders inside class folders were read as part of the class: cat"


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, "is empty: it should hold"),
        ({"a.png": 1, "b.png": 2}, "has no class folders: put the images of each class"),
        ({".hidden/a.png": 1}, "has no class folders"),
        ({"cat/a.png": 1}, "has one class only, cat: telling classes apart needs two or more$"),
        ({"data/cat/a.png": 1}, "one class only, data.*; if its folders are the classes, give .*/data"),
        ({"train/cat/a.png": 1, "test/cat/a.png": 2}, "has one class only, cat"),
        ({"train/cat/a.png": 1, "dog/a.png": 2}, "mixes two layouts, the splits train and beside them dog"),
        ({"train/a.png": 1, "test/a.png": 2}, "has test, train, but no class folders in them"),
        ({"val/cat/a.png": 1, "test/cat/a.png": 2}, "has test, val, but no folder train"),
        ({"cat/train/a.png": 1, "dog/train/a.png": 2}, "cat/train is a split inside a class"),
        (
            {"train/cat/a.png": 1, "val/cat/a.png": 2, "valid/cat/a.png": 3},
            "has two folders for validation, val and valid: keep one",
        ),
        (
            {"train/cat/a.png": 1, "train/dog/a.png": 2, "test/cat/a.png": 3, "test/cow/a.png": 4},
            "test and train in .* have different classes: test lacks dog and has besides cow",
        ),
        (
            {"train/cat/a.png": 1, "train/dog/a.png": 2, "test/a.png": 3},
            "test in .* has no class folders: images without a class cannot be used",
        ),
        (
            {"train/cat/a.png": 1, "train/dog/a.png": 2, "test/cat/a.png": 3, "test/dog/a.txt": 4},
            "too few different images: cat in train has 1, needs 2, .*, dog in test has 0, needs 1",
        ),
    ],
)
def test_what_is_no_data_set(folder, picture, files, sentence):
    folder.root.mkdir()
    for name, number in files.items():
        folder.put(name, b"text" if name.endswith(".txt") else picture(number))
    with pytest.raises(DataError, match=sentence):
        image_folder(folder.root)


def test_what_is_no_folder(folder):
    with pytest.raises(DataError, match="does not exist"):
        image_folder(folder.root / "nowhere")
    with pytest.raises(DataError, match=r"is a file: .* unpack an archive first"):
        image_folder(folder.put("data.zip", b"PK"))


def test_what_cannot_be_reached(folder, monkeypatch):
    with pytest.raises(DataError, match=r"cannot be reached \(embedded null byte\)"):
        image_folder("a\0b")
    folder.fill(cat=1)

    def refused(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", refused)  # tests may run as root, who is never refused
    with pytest.raises(DataError, match=r"images cannot be listed: Permission denied"):
        image_folder(folder.root)


def test_options_are_checked(folder):
    for options, sentence in [
        ({"on_error": "ignore"}, "on_error must be one of 'skip', 'stop', not 'ignore'"),
        ({"size": 0}, "size must be a whole number of at least 1, not 0"),
        ({"seed": -1}, "seed must be a whole number of at least 0, not -1"),
    ]:
        with pytest.raises(OptionError, match=sentence):
            image_folder(folder.root, **options)


def test_without_pillow_the_extra_is_named(folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(MissingExtraError, match=r"'pillow': pip install 'foveate\[data\]'"):
        image_folder(folder.root)


def test_links_in_circles_do_not_trap(folder):
    root = folder.fill(cat=3, dog=3).root
    (root / "loop").symlink_to(root)
    (root / "self").symlink_to("self")
    (root / "cat" / "up").symlink_to(root)
    layout = read_layout(root)
    assert layout.classes == ("cat", "dog")
    assert layout.files["all"]["cat"] == ["cat/000.png", "cat/001.png", "cat/002.png"]
    assert [str(left_out) for left_out in layout.ignored] == [
        "loop is a link back to the folder it is in",
        "self lies outside the class folders",
        "cat/up is a link to a folder inside a class folder: not followed",
    ]


def test_a_split_that_links_to_its_own_parent_is_no_class(folder):
    root = folder.fill(train__cat=5, train__dog=5).root
    (root / "train" / "loop").symlink_to(root / "train")
    assert read_layout(root).classes == ("cat", "dog")


def test_class_folders_and_files_may_be_links(folder, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    root = folder.fill(cat=3, dog=3).root
    (root / "cat").rename(elsewhere)
    (root / "cat").symlink_to(elsewhere)
    (root / "dog" / "linked.png").symlink_to(elsewhere / "000.png")
    data = image_folder(root)
    assert counts(data) == {"train": [1, 2], "validation": [1, 1], "test": [1, 1]}
    assert any(
        "copies in another class: 1, such as dog/linked.png in dog of cat/000.png in cat" in warning
        for warning in data.report.warnings
    )
