"""Learning-curve fractions and resplits: nested, stratified, by group, and never an official split unasked."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from foveate.data import fashion_mnist, fraction, image_folder, mask_folder, resplit, scene_boxes, scene_masks
from foveate.data.boxes.detection import Boxes, BoxImages
from foveate.data.classification import Images
from foveate.data.medical.cases import Case, Shelf
from foveate.data.medical.data import Cases, Medical
from foveate.data.medical.report import MedicalReport
from foveate.errors import DataError, OptionError
from foveate.train.kinds import kind_of
from tests.data.test_shift import boxed, masked

SHARES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0)
SPLITS = ("train", "validation", "test")


def medical(
    people: list[tuple[int, int | None]], splits: dict[str, list[int]], official: tuple[str, ...] = ()
) -> Medical:
    """Two cases a patient, by number and label; each image is full of its patient's number."""
    shelf = Shelf()
    made: dict[str, Cases] = {}
    for split, whose in splits.items():
        cases, numbers = [], []
        for person in whose:
            number, label = people[person]
            for part in "ab":
                name = f"p{number}{part}"
                shelf.keep(name, torch.full((1, 8, 8), float(number)), None if label is not None else torch.ones(8, 8))  # type: ignore[arg-type]
                cases.append(
                    Case(
                        name,
                        name,
                        name,
                        None,
                        None,
                        str(number),
                        None,
                        name,
                        name,
                        (1, 8, 8),
                        None,
                        None,
                        number % 2 == 0,
                        label,
                    )  # type: ignore[arg-type]
                )
                numbers.append(number)
        made[split] = Cases(shelf, cases, [str(n) for n in numbers], numbers)
    task = "segmentation" if people[0][1] is None else "classification"
    report = MedicalReport("m", task, "1×8×8", {}, "as made", "by number")
    return Medical("m", task, ("well", "ill"), 2, **made, unit="mm", fingerprint="f", report=report, official=official)


@pytest.mark.parametrize("seed", [0, 1])
def test_fractions_are_nested_and_have_every_class(seed):
    train = fashion_mnist().train
    parts = [fraction(train, share, seed) for share in SHARES]
    for share, part, larger in zip(SHARES, parts, [*parts[1:], train], strict=True):
        assert set(part.names) <= set(larger.names)
        # of 180 a class, rounded
        assert part.labels.bincount(minlength=10).tolist() == [max(1, int(180 * share + 0.5))] * 10
        by_name = dict(zip(train.names, range(len(train)), strict=True))
        assert all(torch.equal(part[n][0], train[by_name[name]][0]) for n, name in enumerate(part.names[:5]))
    assert parts[-1].names == train.names
    assert fraction(train, 0.1, seed).names == parts[2].names


def test_another_seed_is_another_part():
    train = fashion_mnist().train
    a, b = (set(fraction(train, 0.1, seed).names) for seed in (0, 1))
    # 18 of 180 of each class: 1.8 in common on average, a deviation of 1.2; 18 and 3.7 in all
    assert len(a & b) < 18 + 6 * 3.7


def test_rare_classes_keep_one():
    labels = [0] * 97 + [1, 2, 2]
    images = Images(torch.zeros(100, 1, 8, 8, dtype=torch.uint8), range(100), labels, [str(n) for n in range(100)])
    assert fraction(images, 0.01).labels.bincount().tolist() == [1, 1, 1]


def test_names_need_not_differ():
    images = Images(torch.arange(20, dtype=torch.uint8).reshape(20, 1, 1, 1), range(20), [0] * 20, [""] * 20)
    parts = [{int(pixels) for pixels, _ in fraction(images, share)} for share in (0.2, 0.5)]
    assert [len(part) for part in parts] == [4, 10]
    assert parts[0] < parts[1]


def test_boxes_by_the_rarest_class_on_each():
    def things(*labels: int) -> Boxes:
        count = len(labels)
        return Boxes(
            torch.zeros(count, 4), torch.tensor(labels, dtype=torch.int64), torch.zeros(count, dtype=torch.bool)
        )

    boxes = [things(0)] * 40 + [things(0, 1)] * 4 + [things()] * 4
    images = BoxImages(
        torch.zeros(48, 3, 8, 8, dtype=torch.uint8), range(48), boxes, [str(n) for n in range(48)], [(8, 8)] * 48
    )
    part = fraction(images, 0.25)
    assert Counter(tuple(one.labels.tolist()) for one in part.boxes) == {(0,): 10, (0, 1): 1, (): 1}
    assert len(part.sizes) == len(part) == 12


def test_masks_of_scenes():
    train = scene_masks().train
    small, large = fraction(train, 0.1), fraction(train, 0.3)
    assert (len(small), len(large)) == (24, 72)
    assert set(small.names) < set(large.names)
    assert torch.equal(small[0][1], train[train.names.index(small.names[0])][1])


def test_patients_stay_whole():
    people = [(number, int(number < 8)) for number in range(40)]
    train = medical(people, {"train": list(range(40)), "validation": [], "test": []}).train
    small, large = fraction(train, 0.25), fraction(train, 0.5)
    for part, count in ((small, 10), (large, 20)):
        assert set(Counter(part.patients).values()) == {2}
        assert len(set(part.patients)) == count
        assert Counter(part.labels) == {1: count * 2 // 5, 0: count * 8 // 5}
    assert set(small.names) < set(large.names)
    assert {target.subject for _, target in (small[n] for n in range(len(small)))} == set(small.patients)


@pytest.mark.parametrize("share", [0, 1.5, -1, float("nan"), True, "half"])
def test_shares_that_cannot_be(share):
    with pytest.raises(OptionError, match="share of the samples must be above 0 and at most 1"):
        fraction(fashion_mnist().train, share)


def test_an_official_test_split_stays_unless_asked():
    data = fashion_mnist()
    again = resplit(data, 3)
    assert again.test is data.test
    assert again.fingerprint != data.fingerprint
    assert set(again.train.names) | set(again.validation.names) == set(data.train.names) | set(data.validation.names)
    assert not set(again.train.names) & set(again.validation.names)
    counts = {"train": 180, "validation": 20, "test": 50}
    assert again.report.counts == {split: dict.fromkeys(data.classes, count) for split, count in counts.items()}
    assert again.report.split == "pooled and dealt anew by seed 3: train, validation; test as it was"
    asked = resplit(data, 3, official=True)
    assert {name.split("/")[0] for name in asked.test.names} == {"train", "test"}
    assert len({name for split in SPLITS for name in getattr(asked, split).names}) == 2500
    assert resplit(data, 3).train.names == again.train.names
    assert resplit(data, 4).train.names != again.train.names
    where = {name: (split, n) for split in SPLITS for n, name in enumerate(getattr(data, split).names)}
    for number, name in list(enumerate(asked.test.names))[::50]:
        split, place = where[name]
        pixels, label = getattr(data, split)[place]
        assert torch.equal(asked.test[number][0], pixels)
        assert asked.test[number][1] == label


def test_copies_stay_together(folder, picture):
    for name in ("cat", "dog"):
        for number in range(12):
            for copy in range(2):  # the same pixels in files that differ
                kind = "png" if copy else "bmp"
                folder.put(f"{name}/{number}.{kind}", picture(50 * (name == "dog") + number))
    data = image_folder(folder.root)
    for seed in range(5):
        again = resplit(data, seed)
        owner: dict[str, set[str]] = {}
        for split in SPLITS:
            for name in getattr(again, split).names:
                owner.setdefault(name.rsplit(".", 1)[0], set()).add(split)
        assert all(len(splits) == 1 for splits in owner.values())
        assert sum(len(getattr(again, split)) for split in SPLITS) == 48


def test_splits_that_came_with_the_data(folder):
    data = image_folder(folder.fill(train__cat=8, train__dog=8, val__cat=3, val__dog=3, test__cat=3, test__dog=3).root)
    assert data.official == ("validation", "test")
    with pytest.raises(DataError, match="official=True deals them anew"):
        resplit(data, 0)
    again = resplit(data, 0, official=True)
    assert [len(getattr(again, split)) for split in SPLITS] == [len(getattr(data, split)) for split in SPLITS]


def test_patients_are_on_one_side():
    people = [(number, number % 2) for number in range(20)]
    data = medical(people, {"train": list(range(12)), "validation": list(range(12, 16)), "test": list(range(16, 20))})
    sides: set[frozenset[int]] = set()
    for seed in range(6):
        again = resplit(data, seed)
        owners = [set(getattr(again, split).patients) for split in SPLITS]
        assert [len(one) for one in owners] == [12, 4, 4]
        assert len(set.union(*owners)) == 20
        assert again.report.counts["test"] == {"cases": 8, "patients": 4, "well": 2, "ill": 2}
        sides.add(frozenset(owners[2]))
        image, target = again.test[0]
        assert float(image[0, 0, 0]) == target.subject
    assert len(sides) > 3
    few = medical([(n, 0) for n in range(2)], {"train": [0], "validation": [1], "test": []})
    with pytest.raises(DataError, match="there are 2 different images or patients"):
        resplit(few, 0)


def test_masks_and_boxes(tmp_path):
    masks = mask_folder(masked(tmp_path / "m", [[0, n % 3] for n in range(20)], None))
    again = resplit(masks, 1)
    assert [len(getattr(again, split)) for split in SPLITS] == [14, 3, 3]
    table = {name: sum(one[name] for one in again.report.pixels.values()) for name in masks.classes}
    assert table == {name: sum(one[name] for one in masks.report.pixels.values()) for name in masks.classes}
    number = int(again.test.names[0].split("/")[1].split(".")[0])
    assert again.test[0][0][0, 0, 0] == number
    assert again.test[0][1][0].tolist() == [0, number % 3]
    boxes = kind_of("detection").data(
        boxed(tmp_path / "b", ["cat", "dog"] * 10), kind_of("detection").options(), seed=0
    )
    again = resplit(boxes, 1)
    assert sum(again.report.images.values()) == 20
    number = int(again.test.names[0].split(".")[0])
    assert again.test[0][0][0, 0, 0] == number
    assert again.test[0][1].boxes.tolist() == [[number, 5, number + 20, 15]]
    assert resplit(again, 2).test.names != again.test.names


@pytest.mark.parametrize("made", [scene_masks, scene_boxes])
def test_scenes_share_clothes(made):
    for official in (False, True):
        with pytest.raises(DataError, match="share parts with others of their split"):
            resplit(made(), 1, official=official)
