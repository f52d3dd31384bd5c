"""Convolution with a kernel for each sample, and kernels mixed for each sample."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from foveate.ops.layout import laid_like

Pair = tuple[int, int]


def mix_kernels(weights: Float[Tensor, "b n"], kernels: Float[Tensor, "n o j kh kw"]) -> Float[Tensor, "b o j kh kw"]:
    """A weighted sum of kernels for each sample.

    Example:
        >>> mix_kernels(torch.tensor([[0.5, 2.0]]), torch.ones(2, 1, 1, 1, 1)).flatten()
        tensor([2.5000])
    """
    mixed = weights.to(kernels.dtype) @ kernels.flatten(1)
    return mixed.unflatten(1, kernels.shape[1:])


def convolve_each(
    x: Float[Tensor, "b i h w"],
    weight: Float[Tensor, "b o j kh kw"],
    bias: Float[Tensor, "b o"] | None = None,
    *,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Float[Tensor, "b o p q"]:
    """Convolve every sample with a kernel of its own: one grouped convolution, a group a sample.

    The kernels are rounded to the features' type, and channels_last memory stays so.

    Example:
        >>> x, weight = torch.randn(2, 4, 5, 5), torch.randn(2, 8, 4, 3, 3)
        >>> y = convolve_each(x, weight, padding=(1, 1))
        >>> torch.allclose(y[1:], F.conv2d(x[1:], weight[1], padding=1), atol=1e-5)
        True
    """
    return _convolve_each(x, weight, bias, stride, padding, dilation, groups)


def convolve_mixed(
    x: Float[Tensor, "b i h w"],
    weights: Float[Tensor, "b n"],
    kernels: Float[Tensor, "n o j kh kw"],
    biases: Float[Tensor, "n o"] | None = None,
    *,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Float[Tensor, "b o p q"]:
    """Convolve every sample with its own weighted sum of the same kernels, and of their biases.

    Example:
        >>> x, kernels = torch.ones(1, 1, 1, 1), torch.ones(2, 1, 1, 1, 1)
        >>> convolve_mixed(x, torch.tensor([[0.5, 2.0]]), kernels, torch.ones(2, 1)).flatten()
        tensor([5.])
    """
    bias = None if biases is None else weights.to(biases.dtype) @ biases
    return _convolve_each(x, mix_kernels(weights, kernels), bias, stride, padding, dilation, groups)


def _convolve_each(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Tensor:
    if torch.onnx.is_in_onnx_export():  # where the number of groups is a constant, and so the batch would be
        y = _tap_by_tap(x, weight.to(x.dtype), stride, padding, dilation, groups)
        return y if bias is None else y + bias[:, :, None, None].to(x.dtype)
    batch, channels, height, width = x.shape
    y = F.conv2d(
        x.reshape(1, batch * channels, height, width),
        weight.flatten(0, 1).to(x.dtype),
        None if bias is None else bias.flatten().to(x.dtype),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=batch * groups,
    )
    y = y.reshape(batch, weight.shape[1], y.shape[2], y.shape[3])
    return laid_like(y, x)  # the samples' channels were laid side by side, which undoes channels_last


def _tap_by_tap(x: Tensor, weight: Tensor, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> Tensor:
    """The same as a sum of matrix products, one for each cell of the kernel."""
    out, rows, columns = weight.shape[1], weight.shape[3], weight.shape[4]
    x = F.pad(x, (padding[1], padding[1], padding[0], padding[0]))
    height = (x.shape[2] - dilation[0] * (rows - 1) - 1) // stride[0] + 1
    width = (x.shape[3] - dilation[1] * (columns - 1) - 1) // stride[1] + 1
    parts: list[Tensor] = []
    for row in range(rows):
        for column in range(columns):
            top, left = row * dilation[0], column * dilation[1]
            seen = x[
                :,
                :,
                top : top + stride[0] * (height - 1) + 1 : stride[0],
                left : left + stride[1] * (width - 1) + 1 : stride[1],
            ]
            values = seen.flatten(2).unflatten(1, (groups, x.shape[1] // groups))
            parts.append(weight[:, :, :, row, column].unflatten(1, (groups, out // groups)) @ values)
    return sum(parts[1:], parts[0]).flatten(1, 2).unflatten(2, (height, width))


torch.fx.wrap("_convolve_each")  # FX cannot follow the sizes that it computes with
