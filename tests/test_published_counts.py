"""Published sizes of networks with attention: parameters exactly, multiply-accumulates to the digits that were printed.

Counted twice: by building one mechanism for every residual block, with channels and map sizes worked out here; and end
to end, with `attach` on torchvision's networks. Networks stand on the meta device, so nothing is computed.
"""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import nn

import foveate
from foveate.hosts import PSANetHost
from foveate.measure import count_macs
from foveate.surgery import attach
from tests.support.oracles import collected

models = pytest.importorskip("torchvision.models")

PLAIN = {18: 11_689_512, 34: 21_797_672, 50: 25_557_032, 101: 44_549_160, 152: 60_192_808}
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
EXAMPLE = (1, 3, 224, 224)


def resnet(depth: int) -> nn.Module:
    with torch.device("meta"):
        return getattr(models, f"resnet{depth}")().eval()


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def places(depth: int) -> list[list[tuple[int, tuple[int, int]]]]:
    """Channels and map size of every residual block, stage by stage, for images of 224×224."""
    width = 4 if depth >= 50 else 1
    return [
        [(64 * 2**stage * width, (56 // 2**stage, 56 // 2**stage))] * count for stage, count in enumerate(BLOCKS[depth])
    ]


@cache
def size_of(spec: str, channels: int, size: tuple[int, int]) -> int:
    with torch.device("meta"):
        return parameters(foveate.create(spec, channels, size=size))


def added(spec: str, depth: int) -> int:
    return sum(size_of(spec, *place) for stage in places(depth) for place in stage)


COUNTS = [
    *((depth, None, count) for depth, count in PLAIN.items()),
    *(row for _, row in collected("RESNETS")),
]


@pytest.mark.parametrize(("depth", "spec", "count"), COUNTS)
def test_parameters_of_a_resnet(depth: int, spec: str | None, count: int) -> None:
    assert PLAIN[depth] + (added(spec, depth) if spec else 0) == count


@pytest.mark.parametrize(("depth", "spec", "count"), COUNTS)
def test_parameters_of_a_resnet_end_to_end(depth: int, spec: str | None, count: int) -> None:
    model = resnet(depth)
    if spec:
        attach(model, spec, start="paper", example=torch.empty(EXAMPLE, device="meta"))
    assert parameters(model) == count


# the authors' kernel sizes by stage, and the parameters that the paper and the repository print, in units of 2^20
ECA = {18: ((3, 5, 7, 7), 44, 11.15), 34: ((3, 3, 5, 7), 72, 20.79), 50: ((3, 5, 5, 7), 80, 24.37)}
ECA |= {101: ((3, 3, 5, 7), 157, 42.49), 152: ((3, 3, 5, 7), 234, 57.40)}


@pytest.mark.parametrize("depth", ECA)
def test_parameters_of_eca_with_the_authors_kernels(depth: int) -> None:
    kernels, count, printed = ECA[depth]
    spec = "eca:kernel_size={}".format
    assert count == sum(
        size_of(spec(kernel), *place) for kernel, stage in zip(kernels, places(depth), strict=True) for place in stage
    )
    model = resnet(depth)
    for stage, kernel in enumerate(kernels, 1):
        attach(model, spec(kernel), stages=(stage,), start="paper", example=torch.empty(EXAMPLE, device="meta"))
    assert parameters(model) == PLAIN[depth] + count
    assert round(parameters(model) / 2**20, 2) == printed


@pytest.mark.parametrize(
    ("variant", "stages", "printed"),
    [
        (None, (), 25.6),
        ("theta", (2,), 28.0),
        ("theta", (3,), 27.2),
        ("theta", (4,), 26.8),
        ("theta", (2, 3, 4, 5), 31.2),
        ("theta_plus", (2, 3, 4, 5), 33.7),
    ],
)
def test_gather_excite_by_stage_as_its_paper_counts(variant: str, stages: tuple[int, ...], printed: float) -> None:
    """In millions, running statistics included; stage 2 is the paper's name for the first with residual blocks."""
    model = resnet(50)
    if stages:
        spec = f"gather_excite:variant={variant},extent=global"
        ours = [stage - 1 for stage in stages]
        attach(model, spec, stages=ours, start="paper", example=torch.empty(EXAMPLE, device="meta"))
    statistics = sum(buffer.numel() for buffer in model.buffers() if buffer.dim())
    assert round((parameters(model) + statistics) / 1e6, 1) == printed


GE = "gather_excite:extent=global,variant="


@pytest.mark.parametrize(
    ("depth", "spec", "stride", "billions"),
    [
        (18, None, "3x3", "1.8141"),
        (34, None, "3x3", "3.6638"),
        (50, None, "3x3", "4.0892"),
        (101, None, "3x3", "7.8014"),
        (152, None, "3x3", "11.5136"),
        (50, "squeeze_excite", "3x3", "4.0917"),
        (50, "cbam", "3x3", "4.0956"),
        (50, f"{GE}theta_plus", "3x3", "4.0972"),
        (50, None, "1x1", "3.8580"),
        (101, None, "1x1", "7.5702"),
        (152, None, "1x1", "11.2824"),
        (50, "squeeze_excite", "1x1", "3.8605"),
        (50, "cbam", "1x1", "3.8644"),
        (50, f"{GE}theta", "1x1", "3.8635"),
        (50, f"{GE}theta_plus", "1x1", "3.8660"),
        # as CBAM's paper prints them
        (18, "cbam", "3x3", "1.815"),
        (34, "cbam", "3x3", "3.665"),
        (101, "cbam", "1x1", "7.581"),
        (101, "squeeze_excite", "1x1", "7.575"),
    ],
)
def test_multiply_accumulates_of_a_resnet(depth: int, spec: str | None, stride: str, billions: str) -> None:
    model, x = resnet(depth), torch.empty(EXAMPLE, device="meta")
    if stride == "1x1":
        stride_in_the_first_convolution(model)
    if spec:
        attach(model, spec, start="paper", example=x)
    digits = len(billions.partition(".")[2])
    assert f"{count_macs(model, x) / 1e9:.{digits}f}" == billions


def stride_in_the_first_convolution(model: nn.Module) -> None:
    """The papers' ResNet, which is Caffe's: a stage's stride stands in its first 1×1 convolution, not in its 3×3."""
    for block in model.modules():
        if isinstance(block, models.resnet.Bottleneck):
            block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride


@pytest.mark.parametrize(
    ("crop", "mask", "count"),
    [(465, 59, 8_291_328), (705, 89, 12_837_888)],
)
def test_parameters_of_the_psanet_module(crop: int, mask: int, count: int) -> None:
    features = (crop - 1) // 8 + 1
    for spec, size in (("psanet", (features, features)), (f"psanet:mask={mask}+{mask}", None)):
        with torch.device("meta"):
            assert parameters(foveate.create(spec, 2048, size=size)) == count


@pytest.mark.parametrize(
    ("depth", "classes", "crop", "auxiliary", "count"),
    [
        (50, 150, 465, False, 50_875_478),  # ADE20K
        (50, 150, 465, True, 53_273_836),
        (50, 21, 465, False, 50_809_301),  # VOC 2012
        (50, 19, 705, False, 55_354_835),  # Cityscapes
        (101, 150, 465, False, 69_867_606),
        (101, 21, 465, False, 69_801_429),
        (101, 19, 705, False, 74_346_963),
    ],
)
def test_parameters_of_the_psanet_network(depth: int, classes: int, crop: int, auxiliary: bool, count: int) -> None:
    with torch.device("meta"):
        assert parameters(PSANetHost(depth, classes=classes, size=crop, auxiliary=auxiliary)) == count
