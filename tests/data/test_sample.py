"""The embedded sample, and the script that built it."""

from __future__ import annotations

import gzip
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from foveate.data import fashion_mnist, sample
from foveate.errors import DataError, OptionError

ROOT = Path(__file__).parents[2]
FILES = ["test-images.idx.gz", "test-labels.idx.gz", "train-images.idx.gz", "train-labels.idx.gz"]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("build_fashion_mnist", ROOT / "tools/build_fashion_mnist.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def original(script, name: str) -> bytes:
    path = script.DEBIAN / name
    if not path.is_file():
        pytest.skip("Debian's dataset-fashion-mnist is not installed")
    return gzip.decompress(path.read_bytes())


def stacked(images) -> torch.Tensor:
    return torch.stack([pixels for pixels, _ in images])


def test_every_split_is_balanced():
    data = fashion_mnist()
    for images, each in ((data.train, 180), (data.validation, 20), (data.test, 50)):
        assert torch.bincount(images.labels).tolist() == [each] * 10
        assert images[0][0].shape == data.shape == (1, 28, 28)
        assert images[0][0].dtype == torch.uint8
    assert data.report.counts["validation"]["Ankle boot"] == 20


def test_splits_do_not_overlap_and_cover_everything():
    data = fashion_mnist()
    assert sorted(data.train.names + data.validation.names) == sorted(f"train/{i}" for i in range(2000))
    everything = torch.cat([stacked(images).flatten(1) for images in (data.train, data.validation, data.test)])
    assert len(torch.unique(everything, dim=0)) == 2500


def test_the_seed_decides_validation_and_nothing_else():
    first, again, other = fashion_mnist(), fashion_mnist(0), fashion_mnist(1)
    assert first.validation.names == again.validation.names
    assert first.fingerprint == again.fingerprint
    assert first.validation.names != other.validation.names
    assert first.fingerprint != other.fingerprint
    assert torch.equal(stacked(first.test), stacked(other.test))


def test_this_version_splits_as_it_always_did():
    """Results are named by the fingerprint: a change of the sample or the split must be meant."""
    assert fashion_mnist().fingerprint == "db3ea3c65d40dac70936543c9dadbbae43e6a09688fdbad2824f5c3fbe830c90"
    with pytest.raises(OptionError, match="seed"):
        fashion_mnist(seed=-1)


def test_the_sample_is_the_first_of_each_class_of_the_original(script):
    """With the choice made another way than in the script: by sorting."""
    data = fashion_mnist()
    names = dict(zip(data.train.names + data.validation.names, [*data.train, *data.validation], strict=True))
    ours = {"train": [names[f"train/{i}"] for i in range(2000)], "test": list(data.test)}
    for part, prefix, each in (("train", "train", 200), ("test", "t10k", 50)):
        labels = torch.frombuffer(bytearray(original(script, f"{prefix}-labels-idx1-ubyte.gz")[8:]), dtype=torch.uint8)
        pixels = torch.frombuffer(bytearray(original(script, f"{prefix}-images-idx3-ubyte.gz")[16:]), dtype=torch.uint8)
        chosen = torch.cat([(labels == label).nonzero()[:each, 0] for label in range(10)]).sort().values
        assert torch.equal(stacked(ours[part]), pixels.reshape(-1, 1, 28, 28)[chosen])
        assert [label for _, label in ours[part]] == labels[chosen].tolist()


def test_building_again_gives_the_same(script, tmp_path):
    original(script, "t10k-labels-idx1-ubyte.gz")
    script.build(script.DEBIAN, tmp_path / "once")
    script.build(script.DEBIAN, tmp_path / "twice")
    for name in FILES:
        once = (tmp_path / "once" / name).read_bytes()
        assert once == (tmp_path / "twice" / name).read_bytes()
        # another zlib may pack otherwise: what must be the same is the content
        assert gzip.decompress(once) == gzip.decompress((sample.FOLDER / name).read_bytes())
        assert once[4:8] == bytes(4)  # no time stamp


def test_the_rule_keeps_the_order_of_the_file(script):
    labels = bytes([3, 3, 1, 0, 3, 1, 2, 4, 5, 6, 7, 8, 9, 0, 0, *range(10)])
    assert script.first_of_each_class(labels, 2) == [
        0,
        1,
        2,
        3,
        5,
        6,
        7,
        8,
        9,
        10,
        11,
        12,
        13,
        17,
        19,
        20,
        21,
        22,
        23,
        24,
    ]
    with pytest.raises(SystemExit, match="a class has only 2 images, 3 are needed"):
        script.first_of_each_class(labels, 3)


def test_without_the_original_the_script_says_what_to_install(script, tmp_path):
    with pytest.raises(SystemExit, match="apt install dataset-fashion-mnist"):
        script.build(tmp_path, tmp_path / "out")


def test_the_licence_lies_beside_the_files():
    assert sorted(path.name for path in sample.FOLDER.iterdir()) == ["LICENSE", *FILES]
    licence = (sample.FOLDER / "LICENSE").read_text(encoding="utf-8")
    assert licence.startswith("The MIT License (MIT) Copyright © 2017 Zalando SE, https://tech.zalando.com\n")


@pytest.mark.parametrize("kept", [0, 1000, 200_000])
def test_a_damaged_installation_is_named(tmp_path, monkeypatch, kept):
    for path in sample.FOLDER.iterdir():
        shutil.copy(path, tmp_path)
    broken = tmp_path / "test-images.idx.gz"
    broken.write_bytes(broken.read_bytes()[:kept])
    monkeypatch.setattr(sample, "FOLDER", tmp_path)
    with pytest.raises(
        DataError, match=r"the embedded sample is damaged \(test-images.idx.gz: .*install foveate again"
    ):
        fashion_mnist()
    broken.unlink()
    with pytest.raises(DataError, match="the embedded sample is damaged"):
        fashion_mnist()


def test_the_sample_needs_torch_only():
    code = (
        "import sys\n"
        "for name in ('PIL', 'torchvision', 'numpy', 'scipy'): sys.modules[name] = None\n"
        "from foveate.data import fashion_mnist\n"
        "print(len(fashion_mnist().train))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "1800\n", done.stderr
