"""Small networks whose attention is known."""

import torch
from torch import nn

from foveate import hosts
from foveate.attention import Gate, Map
from foveate.registry import parse
from foveate.surgery.put import put


def attended(spec="cbam", seed=0, classes=4, at=None):
    """A random network, its gates away from where they start."""
    torch.manual_seed(seed)
    host = hosts.build("foveate/resnet8", classes=classes)
    model = put(host, parse(spec), at=at, start="paper", example=torch.zeros(1, 3, 32, 32))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return model.eval()


def images(count=4, seed=1):
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


class Which(Gate):
    """A gate of two channels that opens the first for bright images and the second for dark ones."""

    def __init__(self):
        super().__init__()
        self.map = Map("c")

    def gather(self, x):
        return x.mean((1, 2, 3))

    def weigh(self, context):
        bright = (context > 0).float()
        return torch.stack([bright, 1 - bright], 1)[:, :, None, None]

    def reset_parameters(self):
        pass


class Decides(nn.Module):
    """What it says is what its gate says: the features themselves are the same for every image."""

    def __init__(self):
        super().__init__()
        self.gate = Which()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        features = torch.sign(x.mean((1, 2, 3), keepdim=True)) * torch.ones(len(x), 2, 2, 2)
        gated = self.gate(features)
        return self.scale * gated.abs().mean((2, 3))
