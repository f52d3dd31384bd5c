"""CIFAR-C's arrays and ImageNet-C's folders, made small in the same layout."""

from __future__ import annotations

import pickle
import shutil

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from foveate.data import cifar_c, imagenet_c
from foveate.data.published_names import CIFAR10, CIFAR100
from foveate.errors import DataError, OptionError

COUNT = 6


@pytest.fixture
def arrays(tmp_path):
    """Six test images in five strengths: every byte of image n at strength s is 10 * s + n."""
    root = tmp_path / "CIFAR-10-C"
    root.mkdir()
    numbers = np.concatenate([10 * s + np.arange(COUNT) for s in range(1, 6)]).astype(np.uint8)
    images = np.broadcast_to(numbers[:, None, None, None], (5 * COUNT, 32, 32, 3)).copy()
    images[..., 2] += 100  # blue
    np.save(root / "fog.npy", images)
    np.save(root / "glass_blur.npy", images[::-1])
    np.save(root / "labels.npy", np.tile(np.array([3, 8, 8, 0, 6, 1], np.uint8), 5))
    return root


def test_strengths_are_in_order(arrays):
    found = cifar_c(arrays, CIFAR10)
    assert found.corruptions == ("fog", "glass_blur")
    for strength in range(1, 6):
        images = found.split("fog", strength)
        assert len(images) == COUNT
        assert images.labels.tolist() == [3, 8, 8, 0, 6, 1]
        assert images.names[2] == f"fog/{strength}/2"
        for number, (pixels, _) in enumerate(images):
            assert pixels.shape == (3, 32, 32)
            assert pixels.dtype == torch.uint8
            assert pixels[:, 5, 9].tolist() == [
                10 * strength + number,
                10 * strength + number,
                110 + 10 * strength + number - 10,
            ]
    assert found.split("glass_blur", 1)[0][0][0, 0, 0] == 55


def test_labels_are_the_networks(arrays):
    classes = ("ship", "extra", *(name for name in CIFAR10 if name != "ship"))
    images = cifar_c(arrays, classes).split("fog", 1)
    assert [classes[label] for label in images.labels.tolist()] == [
        "cat",
        "ship",
        "ship",
        "airplane",
        "frog",
        "automobile",
    ]


def test_other_processes_read_it_too(arrays):
    images = cifar_c(arrays, CIFAR10).split("fog", 2)
    assert images[1][0][0, 0, 0] == 21  # mapped here, and not sent
    assert len(pickle.dumps(images)) < 5000
    batches = list(DataLoader(images, batch_size=3, num_workers=1))
    assert [one[0][:, 0, 0, 0].tolist() for one in batches] == [[20, 21, 22], [23, 24, 25]]


def test_a_hundred_classes(arrays):
    assert len(CIFAR100) == 100
    assert list(CIFAR100) == sorted(set(CIFAR100))
    np.save(arrays / "labels.npy", np.tile(np.array([3, 8, 99, 0, 6, 1]), 5))
    images = cifar_c(arrays, CIFAR100).split("fog", 1)
    assert [CIFAR100[label] for label in images.labels.tolist()] == [
        "bear",
        "bicycle",
        "worm",
        "apple",
        "bee",
        "aquarium_fish",
    ]


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("labels.npy", np.arange(30), "other labels for one strength"),
        ("labels.npy", np.tile([0, 1, 200], 10), "labels from 0 to 200"),
        ("labels.npy", np.tile([0.5], 30), "float64 of shape"),
        ("labels.npy", np.tile([1], 29), "five times the labels"),
        ("labels.npy", np.array([{"a": 1}] * 30, dtype=object), "no array of numbers that NumPy can read"),
        ("labels.npy", b"text", "no array of numbers"),
        ("fog.npy", np.zeros((25, 32, 32, 3), np.uint8), r"of shape \(25, 32, 32, 3\), and uint8 of \(30, "),
        ("fog.npy", np.zeros((30, 32, 32, 3), np.float32), "has float32"),
        ("fog.npy", np.zeros((30, 3, 32, 32), np.uint8), r"shape \(30, 3, 32, 32\)"),
        ("fog.npy", b"", "no array of numbers"),
    ],
)  # fmt: skip
def test_damaged_arrays_are_said_to_be(arrays, file, content, words):
    if isinstance(content, bytes):
        (arrays / file).write_bytes(content)
    else:
        np.save(arrays / file, content, allow_pickle=True)
    with pytest.raises(DataError, match=words):
        cifar_c(arrays, CIFAR10).split("fog", 1)


def test_a_truncated_array(arrays):
    content = (arrays / "fog.npy").read_bytes()
    (arrays / "fog.npy").write_bytes(content[:-100])
    with pytest.raises(DataError, match=r"fog.npy is no array of numbers"):
        cifar_c(arrays, CIFAR10).split("fog", 1)


def test_what_is_not_there(arrays, tmp_path):
    with pytest.raises(
        DataError, match=r"classes that the training data does not have: airplane \(did you mean 'aeroplane'"
    ):
        cifar_c(arrays, ("aeroplane", *CIFAR10[1:]))
    found = cifar_c(arrays, CIFAR10)
    with pytest.raises(OptionError, match="has no corruption 'fgo'; did you mean 'fog'"):
        found.split("fgo", 1)
    with pytest.raises(OptionError, match="strength must be one of"):
        found.split("fog", 0)
    (arrays / "labels.npy").unlink()
    with pytest.raises(DataError, match=r"has no labels.npy: give the unpacked folder"):
        cifar_c(arrays, CIFAR10)
    with pytest.raises(DataError, match="does not exist"):
        cifar_c(tmp_path / "nowhere", CIFAR10)


def test_imagenet_c(folder, picture):
    classes = ("n01440764", "n01443537", "n01484850")
    for group in ("", "noise/"):
        for strength in range(1, 6):
            for number, name in enumerate(classes[:2]):
                folder.put(f"{group}{'shot' if group else 'fog'}/{strength}/{name}/a.JPEG", picture(90 * number, 40))
    found = imagenet_c(folder.root, classes, size=32)
    assert found.corruptions == ("fog", "shot")
    images = found.split("shot", 4)
    assert images.labels.tolist() == [0, 1]
    assert images.names == ("n01440764/a.JPEG", "n01443537/a.JPEG")
    assert images[1][0].shape == (3, 32, 32)
    assert abs(int(images[1][0][0, 16, 16]) - 90) < 4  # JPEG
    with pytest.raises(DataError, match="does not have: n01440764 "):
        imagenet_c(folder.root, ("n01443537", "n01484850")).split("fog", 1)
    for strength in (3, 5):
        shutil.rmtree(folder.root / "fog" / str(strength))
    with pytest.raises(DataError, match=r"lacks strengths of fog \(3, 5\)"):
        imagenet_c(folder.root, classes)


def test_a_folder_of_classes_is_no_imagenet_c(folder):
    with pytest.raises(DataError, match="no folder of a corruption with the strengths"):
        imagenet_c(folder.fill(cat=2, dog=2).root, ("cat", "dog"))
