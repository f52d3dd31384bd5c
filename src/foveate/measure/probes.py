"""Small operations of every kind, at several sizes, that a machine is measured with."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

Probe = Callable[[], object]

# feature maps: of few and of many positions, from what one call costs alone to what no cache holds
MAPS = ((1, 16, 7, 7), (1, 64, 14, 14), (1, 256, 14, 14), (1, 1024, 7, 7), (8, 64, 7, 7), (1, 64, 56, 56),
        (8, 512, 7, 7), (8, 64, 28, 28), (8, 256, 14, 14), (8, 64, 56, 56), (8, 256, 56, 56))  # fmt: skip
# rows, reduced length and columns of matrix products: square, flat and thin ones
PRODUCTS = ((64, 64, 64), (196, 32, 784), (784, 16, 784), (784, 256, 256), (784, 16, 3072), (512, 512, 512))
WIDEST = 1 << 20  # values of a map; with larger ones only what is done to maps is measured
TURN = 18  # operations that are run in turn, about as many as a module has


def groups(device: torch.device, dtype: torch.dtype = torch.float32) -> Iterator[tuple[list[Probe], int]]:
    """Calls of one operation each, some that are run in turn, and the bytes that these go through.

    So each finds caches as the operations of a module leave them: with what it needs, and with the code of others.
    Calls of modules and views come several times in every module, and are in turn with nothing but each other.
    """
    for shape in MAPS:
        x = torch.randn(shape, device=device, dtype=dtype)
        probes = list(_of_map(x))
        if x.numel() <= WIDEST:
            probes += [*_of_vector(x[:, :, 0, 0].contiguous()), *_of_convolutions(x)]
        for start in range(0, len(probes), TURN):
            yield probes[start : start + TURN], 2 * x.nbytes
    yield list(_of_calls(torch.randn(1, 1, 1, 1, device=device, dtype=dtype))), 0
    for n, k, m in PRODUCTS:
        x = torch.randn(n, k, device=device, dtype=dtype)
        yield list(_of_products(x, m)), x.nbytes + (k + n) * m * x.element_size()


def _of_map(x: Tensor) -> Iterator[Probe]:
    b, c, h, w = x.shape
    channel, position = x.new_ones(b, c, 1, 1), x.new_ones(b, 1, h, w)
    yield lambda: x.mean((2, 3))
    yield lambda: x.flatten(2).amax(2)
    yield lambda: x * channel
    yield lambda: x.mean(1)
    yield lambda: x.amax(1)
    yield lambda: x * position
    yield lambda: x.max(1)
    yield lambda: x + x
    yield lambda: torch.relu(x)
    yield lambda: torch.sigmoid(x)
    yield lambda: torch.softmax(x.flatten(2), 2)
    yield lambda: torch.softmax(x.flatten(2), 1)
    yield lambda: x.clone()
    yield lambda: torch.cat((x, x), 1)
    yield lambda: x[:, :, 1:, 1:].contiguous()
    yield lambda: x.flip(2, 3)
    yield lambda: x.transpose(1, 3).contiguous()
    yield lambda: channel.expand(x.shape).contiguous()
    mean, deviation = x.new_zeros(c), x.new_ones(c)
    yield lambda: F.batch_norm(x, mean, deviation, deviation, mean)
    yield lambda: F.avg_pool2d(x, 3, 2, 1)
    yield lambda: F.interpolate(x, size=(-(-h // 2), -(-w // 2)), mode="bilinear", align_corners=True)
    two, seven = x[:, :2].contiguous(), x.new_ones(1, 2, 7, 7)
    yield lambda: F.conv2d(two, seven, padding=3)
    each = x.new_ones(c, 1, 3, 3)
    yield lambda: F.conv2d(x, each, padding=1, groups=c)
    yield lambda: F.conv2d(x, each, stride=2, padding=1, groups=c)


def _of_convolutions(x: Tensor) -> Iterator[Probe]:
    c = x.shape[1]
    quarter, less = x.new_ones(max(8, c // 4), c, 1, 1), x.new_ones(8, c, 3, 3)
    yield lambda: F.conv2d(x, quarter)
    yield lambda: F.conv2d(x, less, padding=1)


def _of_vector(x: Tensor) -> Iterator[Probe]:
    b, c = x.shape
    few = max(1, c // 16)
    down, up, hidden = x.new_ones(few, c), x.new_ones(c, few), x.new_ones(b, few)
    yield lambda: F.linear(x, down, hidden[0])
    yield lambda: torch.relu(hidden)
    yield lambda: F.linear(hidden, up, x[0])
    yield lambda: torch.sigmoid(x)
    yield lambda: torch.stack((x, x), 1)
    yield lambda: x.sum(1)
    row, kernel = x[:, None], x.new_ones(1, 1, 5)
    yield lambda: F.conv1d(row, kernel, padding=2)


def _of_calls(x: Tensor) -> Iterator[Probe]:
    module = torch.nn.Identity()
    yield lambda: module(x)
    yield lambda: x.flatten(2)
    yield lambda: x.unsqueeze(0)


def _of_products(x: Tensor, columns: int) -> Iterator[Probe]:
    n, k = x.shape
    weight = x.new_ones(columns, k)
    many, other = x.expand(4, n, k).contiguous(), weight.T.expand(4, k, columns).contiguous()
    image, rows = x.T[None, :, :, None].contiguous(), weight[:, :, None, None]
    table = x.new_ones(n, columns)
    yield lambda: x @ weight.T
    yield lambda: many @ other
    yield lambda: F.conv2d(image, rows)
    yield lambda: torch.softmax(table, 1)
    yield lambda: torch.softmax(table, 0)
    yield lambda: torch.exp(table)
    yield lambda: table.T.contiguous()
    yield lambda: table.flip(1)
