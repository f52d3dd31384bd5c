"""PSANet's segmentation network: published counts and keys, and the numbers that the authors' network gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from foveate.errors import OptionError
from foveate.hosts import PSANetHost, load_weights, read_weights
from foveate.measure import count_parameters


def on_meta(*arguments, **options) -> PSANetHost:
    with torch.device("meta"):
        return PSANetHost(*arguments, **options)


@pytest.mark.parametrize(
    ("layers", "classes", "size", "parameters"),
    [
        (50, 150, 465, 50_875_478),  # ADE20K
        (50, 21, 465, 50_809_301),  # PASCAL VOC 2012
        (50, 19, 705, 55_354_835),  # Cityscapes
        (101, 150, 465, 69_867_606),
        (101, 21, 465, 69_801_429),
        (101, 19, 705, 74_346_963),
    ],
)
def test_published_parameters(layers: int, classes: int, size: int, parameters: int):
    assert count_parameters(on_meta(layers, classes=classes, size=size, auxiliary=False)) == parameters
    auxiliary = 1024 * 256 * 9 + 2 * 256 + 256 * classes + classes
    net = on_meta(layers, classes=classes, size=size)
    assert count_parameters(net) == parameters + auxiliary
    assert count_parameters(net.psa) == {465: 8_291_328, 705: 12_837_888}[size]
    assert net.input_shape == (3, size, size)


def test_the_published_total_with_the_auxiliary_head():
    assert count_parameters(on_meta(50, classes=150)) == 53_273_836


def layers_of(prefix: str, convolutions: list[int], norms: list[int], biased: int | None = None) -> set[str]:
    keys = {f"{prefix}.{i}.weight" for i in convolutions}
    for i in norms:
        keys |= {f"{prefix}.{i}.{k}" for k in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")}
    return keys if biased is None else keys | {f"{prefix}.{biased}.weight", f"{prefix}.{biased}.bias"}


def test_the_published_keys():
    expected = layers_of("layer0", [0, 3, 6], [1, 4, 7])
    for branch in ("", "_p"):
        expected |= layers_of(f"psa.reduce{branch}", [0], [1])
        expected |= layers_of(f"psa.attention{branch}", [0, 3], [1])
    expected |= layers_of("psa.proj", [0], [1])
    expected |= layers_of("cls", [0], [1], biased=4) | layers_of("aux", [0], [1], biased=4)
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    for stage, blocks in enumerate((3, 4, 6, 3), start=1):
        for block in range(blocks):
            here = f"layer{stage}.{block}"
            expected |= {f"{here}.conv{i}.weight" for i in (1, 2, 3)}
            expected |= {f"{here}.bn{i}.{key}" for i in (1, 2, 3) for key in norm}
            if block == 0:
                expected |= layers_of(f"{here}.downsample", [0], [1])
    assert set(on_meta(50, classes=150).state_dict()) == expected


def test_one_eighth_of_the_resolution_by_dilation():
    net = on_meta(50, classes=2)
    for stage, dilation in ((net.layer3, 2), (net.layer4, 4)):
        for block in stage:
            assert block.conv2.stride == (1, 1)
            assert block.conv2.dilation == block.conv2.padding == (dilation, dilation)
        assert stage[0].downsample[0].stride == (1, 1)
    assert net.layer2[0].conv2.stride == (2, 2)
    assert net.layer2[0].conv1.stride == (1, 1)  # the stride is in the 3×3


def filled(net: PSANetHost, seed: int) -> PSANetHost:
    """The weights that the authors' network had when its numbers were recorded, from NumPy's frozen generator."""
    random = np.random.RandomState(seed)
    state = net.to_empty(device="cpu").state_dict()
    for key in sorted(state):
        shape = tuple(state[key].shape)
        if key.endswith("num_batches_tracked"):
            state[key].zero_()
            continue
        if key.endswith("running_var"):
            values = 0.5 + random.random_sample(shape)
        elif key.endswith("running_mean"):
            values = 0.2 * random.standard_normal(shape)
        elif len(shape) == 4:
            values = random.standard_normal(shape) * np.sqrt(2 / (shape[1] * shape[2] * shape[3]))
        elif key.endswith("weight"):
            values = 0.3 + 0.4 * random.random_sample(shape)
        else:
            values = 0.2 * random.standard_normal(shape)
        if key in ("psa.attention.3.weight", "psa.attention_p.3.weight"):
            values = 30 * values  # attention far from uniform
        state[key].copy_(torch.from_numpy(values))
    return net


@pytest.fixture(scope="module")
def twin() -> PSANetHost:
    # the weights were float32 there too, the computation float64
    return filled(on_meta(50, classes=3, size=(97, 81), dropout=0.0, zoom=1), seed=7).double()


@pytest.fixture
def authors_twin(twin: PSANetHost) -> Iterator[PSANetHost]:
    statistics = [buffer.clone() for buffer in twin.buffers()]
    yield twin
    for buffer, before in zip(twin.buffers(), statistics, strict=True):
        buffer.copy_(before)


@pytest.fixture
def image() -> torch.Tensor:
    return torch.from_numpy(np.random.RandomState(1).standard_normal((2, 3, 97, 81)))


def test_the_authors_network_gives_the_same_numbers(authors_twin: PSANetHost, image: torch.Tensor):
    recorded = np.load(Path(__file__).parent / "psanet50_authors.npz")
    with torch.no_grad():
        evaluation = authors_twin.eval()(image)
        training, auxiliary = authors_twin.train()(image)
    # float32 differs from float64 by 3e-4 here (53 layers of batch statistics), so that float64 sums in another
    # order differ by about 3e-4 · 2^-29 = 5e-13; every wrong part tried (dilation, branch, mask) moves 1e-2 or more
    for ours, name in ((evaluation, "evaluation"), (training, "training"), (auxiliary, "auxiliary")):
        assert ours.shape == recorded[name].shape == (2, 3, 13, 11)
        assert np.abs(ours.numpy() - recorded[name]).max() < 1e-9


def test_zoom_resizes_between_fixed_corners(authors_twin: PSANetHost, image: torch.Tensor):
    net = authors_twin.eval()
    with torch.no_grad():
        coarse = net(image)
        net.zoom = 8
        fine = net(image)
        net.zoom = 1
    assert fine.shape == (2, 3, 97, 81)
    assert torch.allclose(fine[:, :, ::8, ::8], coarse, rtol=0, atol=1e-12)
    between = (coarse[:, :, 0, 0] + coarse[:, :, 0, 1]) / 2
    assert torch.allclose(fine[:, :, 0, 4], between, rtol=0, atol=1e-12)


def test_both_heads_learn(authors_twin: PSANetHost, image: torch.Tensor):
    net = authors_twin.train()
    main, auxiliary = net(image[:, :, :33, :33])
    (F.cross_entropy(main, main.argmin(1)) + 0.4 * F.cross_entropy(auxiliary, auxiliary.argmin(1))).backward()
    still = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    net.zero_grad()
    assert still == []


def test_the_auxiliary_head_teaches_the_backbone_up_to_the_third_stage(authors_twin: PSANetHost):
    net = authors_twin.train()
    net(torch.ones(2, 3, 17, 17, dtype=torch.float64))[1].square().sum().backward()
    taught = {name.partition(".")[0] for name, p in net.named_parameters() if p.grad is not None}
    net.zero_grad()
    assert taught == {"layer0", "layer1", "layer2", "layer3", "aux"}


def test_a_published_file_loads_with_its_prefix(tmp_path: Path):
    options = {"classes": 2, "size": 17, "psa": "psanet:branches=collect"}
    trained = filled(on_meta(50, **options), seed=1)
    file = tmp_path / "train_epoch_100.pth"
    torch.save({"epoch": 100, "state_dict": {f"module.{k}": v for k, v in trained.state_dict().items()}}, file)
    net = on_meta(50, **options).to_empty(device="cpu")
    assert load_weights(net, read_weights(file)) == ()
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), trained.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(net.buffers(), trained.buffers(), strict=True))


def test_without_attention_it_is_the_papers_baseline():
    net = on_meta(50, classes=150, psa=None, auxiliary=False)
    whole = on_meta(50, classes=150, auxiliary=False)
    # without the module, and without the classifier's second 2,048 channels
    assert count_parameters(whole) - count_parameters(net) == 8_291_328 + 2048 * 512 * 9
    assert not any(key.startswith("psa") for key in net.state_dict())
    out = net(torch.empty(2, 3, 33, 41, device="meta"))  # in training mode, but with one head
    assert out.shape == (2, 150, 33, 41)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (709, "the height of an image here .* 709 is not, 705 and 713 are"),
        ((465, 464), "the width of an image here .* 464 is not, 457 and 465 are"),
        ((1, 9), "1 is not, 9 is the smallest that is"),
    ],
)
def test_sizes_that_do_not_fit(size, message: str):
    with pytest.raises(OptionError, match=message):
        on_meta(50, classes=2, size=size)


def test_an_image_of_another_size_is_refused_with_the_nearest():
    net = on_meta(50, classes=2, size=17, psa=None)
    with pytest.raises(OptionError, match=r"height .* 224 is not, 217 and 225 are"):
        net(torch.empty(1, 3, 224, 225, device="meta"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": 34}, "layers must be one of 50, 101, 152"),
        ({"zoom": 3}, "zoom must be one of 1, 2, 4, 8"),
        ({"classes": 0}, "classes"),
        ({"psa": "cbam"}, "built around 'psanet', not 'cbam'"),
        ({"psa": "psanet:fusion=add"}, "leave `fusion` out"),
        ({"psa": "psanet:shrnk=1"}, "did you mean 'shrink'"),
        ({"auxiliary": 1}, "auxiliary must be true or false"),
    ],
)
def test_options_that_cannot_work(options: dict[str, object], message: str):
    with pytest.raises(OptionError, match=message):
        on_meta(**{"classes": 2, **options})


def test_options_of_the_mechanism_reach_it():
    net = on_meta(50, classes=2, size=(97, 81), psa="psanet:compact=true,shrink=1,branches=distribute")
    assert net.psa.attention[3].out_channels == 13 * 11
    assert not hasattr(net.psa, "reduce_p")
    assert isinstance(net.cls[3], nn.Dropout2d)
    assert net.cls[3].p == net.aux[3].p == 0.1
