"""Counts against closed forms."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import foveate
from foveate.errors import FoveateError
from foveate.measure import count_bytes, count_macs, count_parameters, inference


def meta(*shape: int) -> torch.Tensor:
    return torch.empty(*shape, device="meta")


def test_shared_parameters_count_once_and_frozen_ones_only_if_asked():
    net = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7))
    assert count_parameters(net) == 5 * 7 + 7 + 2 * 7
    net.append(net[0])
    assert count_parameters(net) == 5 * 7 + 7 + 2 * 7
    net[0].requires_grad_(False)
    assert count_parameters(net, trainable=True) == 2 * 7


def test_a_lazy_parameter_is_named():
    with pytest.raises(FoveateError, match=r"'1\.weight' has no shape yet"):
        count_parameters(nn.Sequential(nn.ReLU(), nn.LazyLinear(3)))


@pytest.mark.parametrize(
    ("layer", "size", "macs"),
    [
        (nn.Conv2d(6, 8, 3, stride=2, padding=1, groups=2), (2, 6, 9, 7), 2 * 8 * 5 * 4 * 3 * 9),
        (nn.Conv2d(4, 4, 5, padding=4, dilation=2, groups=4, bias=False), (1, 4, 6, 6), 4 * 6 * 6 * 25),
        # every input position is multiplied with the whole kernel, whatever the stride
        (nn.ConvTranspose2d(3, 5, 2, stride=2), (2, 3, 4, 4), 2 * 4 * 4 * 3 * 5 * 4),
        (nn.Conv1d(1, 1, 3, padding=1, bias=False), (2, 1, 10), 2 * 10 * 3),
        (nn.Linear(11, 13), (4, 11), 4 * 11 * 13),
        (nn.Linear(11, 13), (2, 4, 11), 2 * 4 * 11 * 13),
        (nn.BatchNorm2d(3), (2, 3, 4, 4), 0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_macs_of_one_layer(layer: nn.Module, size: tuple[int, ...], macs: int):
    assert count_macs(layer, torch.zeros(size)) == macs
    assert count_macs(layer.to("meta"), meta(*size)) == macs


@pytest.mark.parametrize(
    ("name", "parameters", "macs"),
    [("resnet18", 11_689_512, 1.8141), ("resnet50", 25_557_032, 4.0892), ("resnet101", 44_549_160, 7.8014)],
)
def test_residual_networks_at_224(name: str, parameters: int, macs: float):
    models = pytest.importorskip("torchvision.models", reason="torchvision is not installed")
    with torch.device("meta"):
        net = models.get_model(name)
    assert count_parameters(net) == parameters
    assert round(count_macs(net, meta(1, 3, 224, 224)) / 1e9, 4) == macs


def test_squeeze_excite_adds_the_macs_of_its_two_layers():
    conv = nn.Conv2d(8, 64, 3, padding=1)
    x = torch.zeros(3, 8, 10, 10)
    with_attention = nn.Sequential(conv, foveate.create("squeeze_excite", 64, reduction=4))
    assert count_macs(with_attention, x) - count_macs(conv, x) == 3 * (64 * 16 + 16 * 64)


def test_psanet_mixes_every_pair_of_positions_in_each_branch():
    module = foveate.create("psanet", 32, size=(9, 7), shrink=1)
    positions, reduced, cells = 9 * 7, 8, 17 * 13
    branch = positions * (32 * reduced + reduced * reduced + reduced * cells + reduced * positions)
    macs = 2 * branch + positions * 2 * reduced * 32
    assert count_macs(module, torch.zeros(1, 32, 9, 7)) == macs
    assert count_macs(module.to("meta"), meta(1, 32, 9, 7)) == macs


def test_bytes_of_a_chain():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
    image, features = 2 * 3 * 6 * 5, 2 * 8 * 6 * 5
    convolution = image + (8 * 3 * 9 + 8) + features
    norm = features + 4 * 8 + features  # weight, bias, running mean and variance
    relu = features + features
    assert count_bytes(net, torch.zeros(2, 3, 6, 5)) == 4 * (convolution + norm + relu)
    # on meta the normalisation has its statistics as outputs, which are empty elsewhere
    assert count_bytes(net.to("meta"), meta(2, 3, 6, 5)) == 4 * (convolution + norm + 2 * 8 + relu)


class Call(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


@pytest.mark.parametrize(
    ("function", "values"),
    [
        pytest.param(lambda x: x[:, 1:].flatten(2, 3).transpose(1, 2).unsqueeze(1), 0, id="views"),
        pytest.param(lambda x: x.transpose(2, 3).reshape(2, 4, -1), 2 * 240, id="a copy"),
        pytest.param(lambda x: x * x, 240 + 240, id="one operand twice"),
        pytest.param(lambda x: x * x[:, :, :1, :1], 240 + 8 + 240, id="a gate"),
        pytest.param(lambda x: x * x[:, :, :1, :1].expand_as(x), 240 + 8 + 240, id="an expanded gate"),
        pytest.param(lambda x: torch.empty_like(x), 0, id="unwritten memory"),
        pytest.param(lambda x: x.mean((2, 3)), 240 + 8, id="a mean"),
        pytest.param(
            lambda x: torch.cat((x, x.neg()), 1), (240 + 240) + (240 + 240 + 480), id="three reads, one write"
        ),
    ],
)
def test_bytes_of_one_operation(function, values: int):
    assert count_bytes(Call(function), torch.zeros(2, 4, 6, 5)) == 4 * values
    assert count_bytes(Call(function), torch.zeros(2, 4, 6, 5, dtype=torch.float64)) == 8 * values


def test_an_input_made_in_inference_mode_counts_the_same():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 4 * 4, 5))
    x = torch.zeros(2, 3, 6, 6)
    with torch.inference_mode():
        y = torch.zeros(2, 3, 6, 6)
    assert count_bytes(net, y) == count_bytes(net, x)
    copy = Call(lambda z: z.transpose(2, 3).reshape(2, 3, -1))  # an operation that is a view only sometimes
    assert count_bytes(copy, y) == count_bytes(copy, x) == 2 * x.nbytes
    assert count_macs(net, y) == count_macs(net, x)


def test_simam_like_attention_is_free_in_macs_but_not_in_bytes():
    gate = Call(lambda x: x * torch.sigmoid((x - x.mean((2, 3), keepdim=True)) ** 2))
    x = torch.zeros(1, 16, 8, 8)
    n = x.numel()
    assert count_macs(gate, x) == 0
    # mean, difference, square, sigmoid, product
    assert count_bytes(gate, x) == 4 * ((n + 16) + (n + 16 + n) + 2 * n + 2 * n + 3 * n)


def test_training_flags_come_back_one_by_one_even_after_an_error():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4).eval(), nn.Dropout())
    before = [module.training for module in net.modules()]
    running = net[1].running_mean.clone()
    count_macs(net, torch.ones(2, 3, 4, 4))
    count_bytes(net, torch.ones(2, 3, 4, 4))
    assert [module.training for module in net.modules()] == before == [True, True, False, True]
    assert torch.equal(net[1].running_mean, running)
    with pytest.raises(RuntimeError, match="expected input"):
        count_bytes(net, torch.ones(2, 5, 4, 4))
    assert [module.training for module in net.modules()] == before
    assert torch.is_grad_enabled()


def test_inference_switches_dropout_and_gradients_off_inside():
    net = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.9))
    with inference(net):
        out = net(torch.ones(1, 4))
    assert not out.requires_grad
    assert torch.equal(out, net[0](torch.ones(1, 4)))
