"""Hosts for the traps: their norms do something, so that a norm lost, doubled or misplaced shows."""

import pytest
import torch
from torch import nn

from foveate import hosts


def randomise_norms(network, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            with torch.no_grad():
                for tensor, low, high in [
                    (module.weight, 0.5, 1.5),
                    (module.bias, -0.5, 0.5),
                    (module.running_mean, -0.5, 0.5),
                    (module.running_var, 0.5, 1.5),
                ]:
                    drawn = torch.rand(tensor.shape, generator=generator) * (high - low) + low
                    tensor.copy_(drawn)
    return network


@pytest.fixture
def randomised():
    """A function: the network in evaluation mode, its batch norms far from the identity."""
    return lambda network, seed=0: randomise_norms(network, seed).eval()


@pytest.fixture
def resnet8(randomised):
    """A function from a seed to a small residual network."""

    def build(seed=0):
        torch.manual_seed(seed)
        return randomised(hosts.build("foveate/resnet8", classes=10), seed)

    return build


@pytest.fixture
def images():
    """A function from side and count to images."""
    return lambda side=32, count=2: torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def away_from_identity():
    """A function that moves every parameter of attention, so that attention at any start acts."""

    def move(network):
        generator = torch.Generator().manual_seed(7)
        for module in network.modules():
            if hasattr(module, "foveate_seats"):
                for parameter in module.foveate.parameters():
                    with torch.no_grad():
                        parameter.add_(torch.rand(parameter.shape, generator=generator).to(parameter) - 0.4)
        return network

    return move
