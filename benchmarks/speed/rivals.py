"""The forms that people copy, in plain PyTorch: what the authors or the usual tutorials write, parameters included.

They are what foveate is timed against where timm has no such module. Weights do not matter here, only the work.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SE(nn.Module):
    """Squeeze-and-Excitation as tutorials write it: adaptive pooling, two linear layers, expand."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(channels, channels // 16), nn.ReLU(), nn.Linear(channels // 16, channels), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Attend."""
        batch, channels = x.shape[:2]
        gate = self.layers(F.adaptive_avg_pool2d(x, 1).view(batch, channels)).view(batch, channels, 1, 1)
        return x * gate.expand_as(x)


class CBAM(nn.Module):
    """CBAM as tutorials write it: pooled 1×1 convolutions, maximum and mean over channels, concatenated."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Conv2d(channels, channels // 16, 1), nn.ReLU(), nn.Conv2d(channels // 16, channels, 1)
        )
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Attend."""
        gate = self.mlp(F.adaptive_avg_pool2d(x, 1)) + self.mlp(F.adaptive_max_pool2d(x, 1))
        x = x * torch.sigmoid(gate)
        stacked = torch.cat([x.max(1, keepdim=True).values, x.mean(1, keepdim=True)], 1)
        return x * torch.sigmoid(self.conv(stacked))


class SimAM(nn.Module):
    """SimAM as its authors write it."""

    def forward(self, x: Tensor) -> Tensor:
        """Attend."""
        others = x.shape[2] * x.shape[3] - 1
        squares = (x - x.mean(dim=[2, 3], keepdim=True)).pow(2)
        energy = squares / (4 * (squares.sum(dim=[2, 3], keepdim=True) / others + 1e-4)) + 0.5
        return x * torch.sigmoid(energy)


class PositionAttention(nn.Module):
    """DANet's position attention and the non-local block as they are released: the whole matrix of pairs."""

    def __init__(self, channels: int, hidden: int, values: int, *, transform: bool) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, hidden, 1)
        self.key = nn.Conv2d(channels, hidden, 1)
        self.value = nn.Conv2d(channels, values, 1)
        self.out = nn.Sequential(nn.Conv2d(values, channels, 1), nn.BatchNorm2d(channels)) if transform else None
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Attend."""
        batch, _, height, width = x.shape
        query = self.query(x).flatten(2).transpose(1, 2)
        weights = torch.softmax(torch.bmm(query, self.key(x).flatten(2)), -1)
        if self.out is None:
            mixed = torch.bmm(self.value(x).flatten(2), weights.transpose(1, 2))
            return self.gamma * mixed.view(batch, -1, height, width) + x
        mixed = torch.matmul(weights, self.value(x).flatten(2).transpose(1, 2))
        return self.out(mixed.transpose(1, 2).reshape(batch, -1, height, width)) + x


class CrissCross(nn.Module):
    """Criss-cross attention as its authors write it in plain PyTorch, one application."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, channels // 8, 1)
        self.key = nn.Conv2d(channels, channels // 8, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Attend."""
        batch, _, height, width = x.shape
        query, key, value = self.query(x), self.key(x), self.value(x)
        query_h = query.permute(0, 3, 1, 2).reshape(batch * width, -1, height).permute(0, 2, 1)
        query_w = query.permute(0, 2, 1, 3).reshape(batch * height, -1, width).permute(0, 2, 1)
        key_h, value_h = (part.permute(0, 3, 1, 2).reshape(batch * width, -1, height) for part in (key, value))
        key_w, value_w = (part.permute(0, 2, 1, 3).reshape(batch * height, -1, width) for part in (key, value))
        itself = torch.diag(torch.full((height,), float("-inf")))
        down = (torch.bmm(query_h, key_h) + itself).view(batch, width, height, height).permute(0, 2, 1, 3)
        along = torch.bmm(query_w, key_w).view(batch, height, width, width)
        weights = torch.softmax(torch.cat([down, along], 3), 3)
        down = weights[..., :height].permute(0, 2, 1, 3).reshape(batch * width, height, height)
        along = weights[..., height:].reshape(batch * height, width, width)
        out_h = torch.bmm(value_h, down.permute(0, 2, 1)).view(batch, width, -1, height).permute(0, 2, 3, 1)
        out_w = torch.bmm(value_w, along.permute(0, 2, 1)).view(batch, height, -1, width).permute(0, 2, 1, 3)
        return self.gamma * (out_h + out_w) + x


def psa_mix(value: Tensor, logits: Tensor, *, collect: bool) -> Tensor:
    """PSANet's attention as published: lay the masks over the map, softmax, multiply by the matrix of all pairs.

    The released operator lays the masks in loops compiled for it; here they are laid by one strided copy, which is
    quicker than those.
    """
    batch, _, height, width = value.shape
    masks = logits.reshape(batch, 2 * height - 1, 2 * width - 1, height, width).flip(3, 4)
    step = masks.stride()
    laid = masks.as_strided((batch, height, width, height, width), (*step[:3], step[3] + step[1], step[4] + step[2]))
    pairs = laid.flip(3, 4).reshape(batch, height * width, height * width)
    if not collect:
        pairs = pairs.transpose(1, 2)
    return (value.flatten(2) @ torch.softmax(pairs, 1)).reshape(value.shape)
