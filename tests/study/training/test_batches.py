"""Order and augmentation: functions of seed, epoch and index, and of nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from foveate.data import fashion_mnist
from foveate.data.chance import generator
from foveate.data.classification import Images
from foveate.study.training.batches import OrderedBatches, Part, TrainingBatches, mirror, shifted, statistics_of


@pytest.fixture
def numbered() -> Images:
    """50 images of 16×16 whose label is their number, no two pixels of one image equal in rows or columns."""
    pixels = torch.randint(1, 256, (50, 3, 16, 16), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)
    return Images(pixels, range(50), range(50), [str(n) for n in range(50)])


def epoch(images: Images, size: int = 8, **options: int) -> dict[int, Tensor]:
    settings = {"seed": 0, "epoch": 0, **options}
    batches = TrainingBatches(images, size, **settings)
    return {int(label): image for pixels, labels in batches for image, label in zip(pixels, labels, strict=True)}


def order(images: Images, **options: int) -> list[int]:
    settings = {"seed": 0, "epoch": 0, **options}
    return [int(label) for _, labels in TrainingBatches(images, 8, **settings) for label in labels]


def test_an_epoch_shows_each_image_at_most_once_and_leaves_out_a_small_last_batch(numbered: Images) -> None:
    shown = order(numbered)
    assert len(shown) == len(set(shown)) == 48  # 6 batches of 8; 2 of 50 are left out
    assert len(TrainingBatches(numbered, 8, seed=0, epoch=0)) == 6


def test_fewer_images_than_a_batch_are_one_batch(numbered: Images) -> None:
    batches = list(TrainingBatches(numbered, 64, seed=0, epoch=0))
    assert [len(labels) for _, labels in batches] == [50]


def test_seed_and_epoch_decide_the_order(numbered: Images) -> None:
    assert order(numbered) == order(numbered)
    orders = {tuple(order(numbered, seed=seed, epoch=number)) for seed in (0, 1, 2) for number in (0, 1)}
    assert len(orders) == 6


def test_what_happens_to_an_image_does_not_depend_on_its_batch(numbered: Images) -> None:
    by_five, by_ten = epoch(numbered, size=5), epoch(numbered, size=10)
    assert by_five.keys() == by_ten.keys()
    assert all(torch.equal(by_five[number], by_ten[number]) for number in by_five)


def test_another_epoch_changes_the_augmentation(numbered: Images) -> None:
    first, second = epoch(numbered, size=5), epoch(numbered, size=5, epoch=1)
    same = sum(torch.equal(first[number], second[number]) for number in first)
    # 2 mirrorings times 3 × 3 shifts: 50 / 18 = 3 equal by chance, and four deviations of 1.6 more
    assert same <= 9


def test_every_augmentation_is_one_of_those_allowed_and_all_occur(numbered: Images) -> None:
    seen = set()
    for number in range(8):
        for label, image in epoch(numbered, size=5, epoch=number).items():
            source, _ = numbered[label]
            found = [
                (flip, down, right)
                for flip in (False, True)
                for down in (-1, 0, 1)
                for right in (-1, 0, 1)
                if torch.equal(image, moved(source.flip(2) if flip else source, down, right))
            ]
            assert len(found) == 1, "not a mirroring and a shift of at most a pixel"
            seen.add(found[0])
    assert len(seen) == 18


def moved(image: Tensor, down: int, right: int) -> Tensor:
    """The same by padding and cropping."""
    padded = torch.nn.functional.pad(image, (1, 1, 1, 1))
    return padded[:, 1 - down : 17 - down, 1 - right : 17 - right]


def test_shifts_are_equally_likely() -> None:
    images = Images(torch.zeros(20_000, 1, 8, 8, dtype=torch.uint8), range(20_000), range(20_000), [""] * 20_000)
    images._pixels[:, :, 4, 4] = 255
    pixels, _ = next(iter(TrainingBatches(images, 20_000, seed=3, epoch=0)))
    rows = (pixels[:, 0].amax(2) == 255).int().argmax(1).bincount(minlength=8)
    # a third each; the deviation of a share of 20,000 is sqrt(2/9/20000) = 0.33 %, and four of them 1.3 %
    assert torch.allclose(rows[3:6] / 20_000, torch.full((3,), 1 / 3), atol=0.013)
    assert rows[[0, 1, 2, 6, 7]].sum() == 0


def test_large_images_are_shifted_further() -> None:
    images = Images(torch.ones(100, 1, 96, 64, dtype=torch.uint8), range(100), range(100), [""] * 100)
    pixels, _ = next(iter(TrainingBatches(images, 100, seed=0, epoch=0)))
    assert int((pixels.amax(3) == 0).sum(2).max()) == 3 and int((pixels.amax(2) == 0).sum(2).max()) == 2


def test_mirroring_and_shifting_are_separate_for_each_image() -> None:
    row = torch.tensor([1, 2, 3], dtype=torch.uint8).expand(2, 1, 1, 3)
    assert mirror(row, torch.tensor([False, True])).flatten().tolist() == [1, 2, 3, 3, 2, 1]
    assert shifted(row, torch.tensor([[0, 1], [0, -2]])).flatten().tolist() == [0, 1, 2, 3, 0, 0]


def test_without_augmentation_images_stay_as_they_are(numbered: Images) -> None:
    for pixels, labels in TrainingBatches(numbered, 8, seed=0, epoch=0, augment=False):
        for image, label in zip(pixels, labels, strict=True):
            assert torch.equal(image, numbered[int(label)][0])


def test_the_global_stream_is_left_alone(numbered: Images) -> None:
    before = torch.random.get_rng_state()
    list(TrainingBatches(numbered, 8, seed=0, epoch=0))
    generator("anything", 1)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_source_is_not_modified(numbered: Images) -> None:
    before = numbered._pixels.clone()
    list(TrainingBatches(numbered, 8, seed=0, epoch=0))
    assert torch.equal(numbered._pixels, before)


def test_ordered_batches_show_everything_in_order(numbered: Images) -> None:
    batches = list(OrderedBatches(numbered, 16))
    assert [len(labels) for _, labels in batches] == [16, 16, 16, 2] and len(OrderedBatches(numbered, 16)) == 4
    assert torch.equal(torch.cat([pixels for pixels, _ in batches]), numbered._pixels)


def test_a_part_shows_the_images_of_its_indices(numbered: Images) -> None:
    part = Part(numbered, (7, 3))
    assert part.labels.tolist() == [7, 3] and len(part) == 2
    assert torch.equal(part[1][0], numbered[3][0])


def test_statistics_equal_numpy() -> None:
    train = fashion_mnist().train
    pixels = np.stack([train[index][0].numpy() for index in range(len(train))]).astype(np.float64) / 255
    mean, deviation = statistics_of(train)
    # float64 sums of 1.4 million values: 1e-10 is far above their rounding
    assert mean[0] == pytest.approx(pixels.mean(), abs=1e-10)
    assert deviation[0] == pytest.approx(pixels.std(), abs=1e-10)


def test_statistics_keep_channels_apart_and_never_divide_by_zero() -> None:
    pixels = torch.zeros(2, 3, 2, 2, dtype=torch.uint8)
    pixels[1, 1] = 255
    pixels[:, 2] = 51
    mean, deviation = statistics_of(Images(pixels, range(2), [0, 1], ["", ""]))
    assert mean == pytest.approx((0, 0.5, 0.2))
    assert deviation == pytest.approx((1 / 255, 0.5, 1 / 255))
