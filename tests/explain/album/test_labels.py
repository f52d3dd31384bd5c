"""What a person said of a picture is that of this picture, or it is refused."""

import pytest
import torch
from PIL import Image

from foveate.errors import DataError, OptionError
from foveate.explain.album import Frame, Labels, Seen, Square, read, read_classes
from foveate.explain.album.answers import Masks
from foveate.explain.album.files import find
from foveate.explain.scores import dice, mask_logit

CLASSES = ("cat", "dog")


@pytest.fixture
def folder(tmp_path):
    """Two folders whose pictures are called alike."""
    for name in ("cat/0.png", "cat/1.png", "dog/0.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (12, 10)).save(tmp_path / name)
    return tmp_path


def looked(folder, labels, measured=8):
    return read([folder], Square((8, 8), lambda pixels: pixels.float()), labels, most=1, measured=measured)


def truths(found):
    return {one.name: one.truth for one in found.seen}


@pytest.mark.parametrize("measured", [1, 8])  # also where only one of the two would be looked at
def test_a_bare_name_of_two_pictures_is_refused(folder, measured):
    with pytest.raises(DataError, match=r"'0\.png'.*cat/0\.png, dog/0\.png.*path"):
        looked(folder, Labels(CLASSES, {"0.png": "cat"}), measured)


def test_a_bare_name_is_refused_where_one_of_two_has_a_label_of_its_own(folder):
    with pytest.raises(DataError, match=r"'0\.png'.*cat/0\.png, dog/0\.png"):
        looked(folder, Labels(CLASSES, {"0.png": "cat", "dog/0.png": "dog"}))


def test_a_path_of_one_picture_is_no_bare_name_of_another(folder):
    Image.new("RGB", (12, 10)).save(folder / "0.png")
    found = looked(folder, Labels(CLASSES, {"0.png": "cat", "dog/0.png": "dog"}))
    assert truths(found) == {"0.png": 0, "cat/0.png": None, "cat/1.png": None, "dog/0.png": 1}
    assert found.notes == ()


def test_a_mask_of_two_pictures_is_refused(folder):
    (folder.parent / "masks").mkdir(exist_ok=True)
    Image.new("L", (12, 10)).save(folder.parent / "masks" / "0.png")
    with pytest.raises(DataError, match=r"cat/0\.png, dog/0\.png"):
        looked(folder, Labels(("ground", "cell"), masks=folder.parent / "masks"))


def test_paths_are_pairs_however_they_are_written(folder):
    found = looked(folder, Labels(CLASSES, {"./cat/0.png": "cat", "dog//0.png": "dog", "1.png": "dog"}))
    assert truths(found) == {"cat/0.png": 0, "cat/1.png": 1, "dog/0.png": 1}
    assert found.notes == ()


def test_rows_without_a_picture_are_counted_and_a_table_of_none_is_refused(folder):
    found = looked(folder, Labels(CLASSES, {"1.png": "dog", "2.png": "dog", "cat/9.png": "cat"}))
    assert found.notes == ("2 of the 3 labels are of no picture that was found.",)
    with pytest.raises(DataError, match=r"photos/cat/0\.png.*cat/0\.png"):
        looked(folder, Labels(CLASSES, {"photos/cat/0.png": "cat"}))


def test_two_rows_that_contradict_each_other_are_refused(tmp_path):
    (tmp_path / "labels.csv").write_text("a.png,cat\n./a.png,dog\n")
    with pytest.raises(DataError, match=r"two different things of 'a\.png'"):
        Labels.read(tmp_path / "labels.csv", CLASSES)


def test_a_name_of_two_classes_is_refused():
    with pytest.raises(DataError, match="'crane'.*0 or 2"):
        Labels(("crane", "cat", "crane"), {"a.png": "crane"}).truth("a.png", "")
    with pytest.raises(DataError, match="'crane'.*0 or 2"):
        Labels(("crane", "cat", "crane"), folders=True).truth("crane/a.png", "crane")


def test_pixels_of_no_class_are_no_part_of_any_number():
    mask = torch.tensor([[0, 1, 255, 255]])
    answer = torch.tensor([[[9.0, 0, 0, 0]], [[0.0, 9, 9, 9]]])  # class 1 on all of them: neither right nor wrong
    target = Masks(("ground", "cell")).target(mask, answer)
    assert float(dice(answer, target)) == 1.0
    assert float(mask_logit(answer, target)) == 9.0
    assert Masks(("ground", "cell")).true_words(mask) == "cell"
    one = Seen("a", torch.zeros(3, 1, 4).byte(), torch.zeros(3, 1, 4), mask)
    assert one.region().tolist() == [[False, True, False, False]]
    assert Masks().target(torch.tensor([[0, 255]]), torch.zeros(2, 1, 2)) is None
    framed = Frame((2, 4), lambda pixels: pixels.float())("a", torch.zeros(3, 1, 4).byte(), mask)
    assert framed.truth.tolist() == [[0, 1, 255, 255], [255] * 4]  # nobody says what the frame is


def test_masks_keep_what_is_of_no_class(tmp_path):
    from foveate.train.album import _truth

    Image.frombytes("L", (3, 1), bytes([0, 1, 255])).save(tmp_path / "a.png")
    assert Labels(("ground", "cell"), masks=tmp_path).truth("a.jpg", "").tolist() == [[0, 1, 255]]
    assert _truth(torch.tensor([[1, 255]])).tolist() == [[1, 255]]


def test_white_is_the_object_where_masks_are_black_and_white(tmp_path):
    for name, row in (("a", [0, 255]), ("b", [0, 0])):
        Image.frombytes("L", (2, 1), bytes(row)).save(tmp_path / f"{name}.png")
    names = ["a.jpg", "b.jpg"]
    labels = Labels(("ground", "cell"), masks=tmp_path)
    labels.pair(names)
    assert [labels.truth(name, "").tolist() for name in names] == [[[0, 1]], [[0, 0]]]
    # three classes, or a mask that numbers them: 255 is no class
    assert Labels(("ground", "cell", "rim"), masks=tmp_path).truth("a.jpg", "").tolist() == [[0, 255]]
    Image.frombytes("L", (2, 1), bytes([0, 1])).save(tmp_path / "b.png")
    labels = Labels(("ground", "cell"), masks=tmp_path)
    labels.pair(names)
    assert [labels.truth(name, "").tolist() for name in names] == [[[0, 255]], [[0, 1]]]


def test_a_mask_of_another_shape_is_refused():
    for prepare in (Square((8, 8), torch.Tensor.float), Frame((8, 8), torch.Tensor.float)):
        with pytest.raises(DataError, match=r"'a\.png' is 10 x 20 .* mask is 20 x 10"):
            prepare("a.png", torch.zeros(3, 10, 20).byte(), torch.zeros(20, 10).long())
        # half as large, rounded either way: 10.5 is 10 or 11
        for height in (10, 11):
            prepare("a.png", torch.zeros(3, 21, 40).byte(), torch.zeros(height, 20).long())


def test_a_folder_in_two_spellings_is_one(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert [name for name, *_ in find(["cat", "./cat", folder / "dog" / ".." / "cat"])] == ["0.png", "1.png"]


def test_counts_of_none_are_refused(folder):
    with pytest.raises(OptionError, match="measured must be a whole number of at least 1"):
        looked(folder, Labels(CLASSES), measured=0)


def test_names_of_classes_are_not_empty():
    assert read_classes("cat,") == ("cat",)
    with pytest.raises(DataError, match="number 1 has no name"):
        read_classes("cat,,dog")
