"""ResNet for small images: published counts, option A by hand, published weights on real images."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from foveate.errors import OptionError
from foveate.hosts import ResNet, build
from foveate.hosts.resnet import Block
from foveate.measure import count_macs, count_parameters, inference

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"


@pytest.mark.parametrize(
    ("depth", "parameters"),
    # the paper's table 6: 0.27M, 0.46M, 0.66M, 0.85M, 1.7M
    [(20, 269_722), (32, 464_154), (44, 658_586), (56, 853_018), (110, 1_727_962)],
)
def test_parameters_of_the_paper(depth: int, parameters: int):
    with torch.device("meta"):
        assert count_parameters(ResNet(depth)) == parameters


def test_parameters_and_macs_in_closed_form():
    n, classes, channels = 3, 7, 2
    stages = [(16, 16, 32), (16, 32, 16), (32, 64, 8)]  # channels in and out, side of the map out
    weights = channels * 16 * 9
    macs = weights * 32 * 32
    norms = 2 * 16
    for inputs, outputs, side in stages:
        here = inputs * outputs * 9 + (2 * n - 1) * outputs * outputs * 9
        weights, macs, norms = weights + here, macs + here * side * side, norms + 2 * n * 2 * outputs
    net = ResNet(6 * n + 2, classes=classes, in_channels=channels)
    assert count_parameters(net) == weights + norms + 64 * classes + classes
    assert count_macs(net, torch.zeros(1, channels, 32, 32)) == macs + 64 * classes
    assert net.input_shape == (channels, 32, 32)


def test_a_block_is_its_branch_plus_option_a():
    torch.manual_seed(0)
    block = Block(3, 8, stride=2).eval()
    x = torch.randn(2, 3, 7, 5)
    with torch.no_grad():
        out = block(x)
        block.bn2.weight.zero_()
        block.bn2.bias.zero_()
        only_shortcut = block(x)
    # every other position; 5 new channels, 2 before and 3 behind
    expected = torch.zeros(2, 8, 4, 3)
    expected[:, 2:5] = x[:, :, ::2, ::2].relu()
    assert torch.equal(only_shortcut, expected)
    assert not torch.equal(out, expected)


def test_initialisation_keeps_the_variance_that_he_prescribes():
    torch.manual_seed(0)
    weight = ResNet(20).layer3[1].conv1.weight
    # the standard error of a deviation from 36,864 draws is 0.4 %; 2 % is five of them
    assert weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)


@pytest.mark.parametrize(
    ("depth", "message"),
    [(21, "21 is not, 20 and 26 are"), (2, "at least 8"), (20.0, "whole number")],
)
def test_depths_that_do_not_exist(depth: float, message: str):
    with pytest.raises(OptionError, match=message):
        ResNet(depth)


@pytest.fixture(scope="module")
def images() -> tuple[torch.Tensor, torch.Tensor]:
    """The 5,000 test images of CIFAR-10 as JPEG, normalised, ordered by class, and their labels."""
    image = pytest.importorskip("PIL.Image", reason="pillow is not installed")
    path = SHARED / "cifar10-jpeg" / "test.npz"
    if not path.is_file():
        pytest.skip("the CIFAR-10 test images (../shared/data/cifar10-jpeg) are not here")
    table = np.load(path)
    offset, data = table["offset"], table["jpeg"].tobytes()
    files = (io.BytesIO(data[start:end]) for start, end in itertools.pairwise(offset))
    pixels = torch.from_numpy(np.stack([np.asarray(image.open(file)) for file in files]))
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = ((pixels.float() / 255 - mean) / deviation).permute(0, 3, 1, 2).contiguous()
    return x, torch.from_numpy(table["label"].astype(np.int64))


def trained(depth: int) -> ResNet:
    weights = SHARED / "cifar10-resnets" / f"resnet{depth}.safetensors"
    if not weights.is_file():
        pytest.skip("the weights (../shared/data/cifar10-resnets) are not here")
    net = build(f"foveate/resnet{depth}", classes=10, weights=weights)
    assert isinstance(net, ResNet)
    return net


def accuracy(net: ResNet, images: tuple[torch.Tensor, torch.Tensor], every: int) -> float:
    x, y = images[0][::every], images[1][::every]
    with inference(net):
        predicted = torch.cat([net(part).argmax(1) for part in x.split(500)])
    return (predicted == y).float().mean().item()


def test_resnet20_reaches_its_accuracy_on_all_5000_images(images):
    # 81.0 %, 4,050 images, when it was measured; another JPEG decoder may move a few
    assert accuracy(trained(20), images, every=1) == pytest.approx(0.810, abs=0.002)


def test_resnet56_reaches_its_accuracy_on_every_tenth_image(images):
    # 415 of these 500 when it was measured
    assert accuracy(trained(56), images, every=10) == pytest.approx(0.830, abs=0.006)


@pytest.mark.slow
def test_resnet56_reaches_its_accuracy_on_all_5000_images(images):
    # 83.12 %, 4,156 images, when it was measured
    assert accuracy(trained(56), images, every=1) == pytest.approx(0.831, abs=0.002)


def test_padding_on_one_side_would_not_have_been_option_a_of_the_published_weights(images):
    net = trained(20)
    for block in net.modules():
        if isinstance(block, Block) and block.added:
            block.shortcut = lambda x, added=block.added: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, added))
    assert accuracy(net, images, every=20) < 0.6
