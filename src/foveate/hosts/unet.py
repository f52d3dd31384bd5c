"""A U-Net: down to coarse features, and up again beside what was seen on the way down."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from foveate.errors import check_at_least


class UNet(nn.Module):
    """The segmentation network of Ronneberger et al., small by default.

    Each level down halves the map and doubles the channels; each level up doubles the map, halves the channels and
    joins the map that the same level had on the way down. As published with ``width=64``; besides that, convolutions
    are padded, so that as many pixels come out as go in, and each is followed by a batch normalisation, as is usual
    today.

    Source: Ronneberger, Fischer, Brox, U-Net: Convolutional Networks for Biomedical Image Segmentation, MICCAI 2015,
    figure 1.

    Args:
        classes: Logits for every pixel.
        in_channels: Channels of the images.
        width: Channels of the first level; 64 as published.
        depth: Levels below the first.

    Attributes:
        input_shape: Channels, height and width of an image that it can take: any are, of ``2 ** depth`` pixels or more.

    Shape:
        ``(b, in_channels, h, w)`` in, ``(b, classes, h, w)`` out.

    Raises:
        OptionError: If a number is too small.

    Example:
        >>> UNet(classes=5)(torch.zeros(1, 3, 97, 70)).shape
        torch.Size([1, 5, 97, 70])
    """

    def __init__(self, *, classes: int, in_channels: int = 3, width: int = 16, depth: int = 4) -> None:
        super().__init__()
        for name, value in (("classes", classes), ("in_channels", in_channels), ("width", width), ("depth", depth)):
            check_at_least(name, value, 1)
        self.input_shape = (in_channels, 8 * 2**depth, 8 * 2**depth)
        widths = [width * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList(
            _double(inputs, outputs) for inputs, outputs in zip([in_channels, *widths], widths, strict=False)
        )
        self.rise = nn.ModuleList(
            nn.ConvTranspose2d(2 * outputs, outputs, 2, stride=2) for outputs in reversed(widths[:-1])
        )
        self.up = nn.ModuleList(_double(2 * outputs, outputs) for outputs in reversed(widths[:-1]))
        self.head = nn.Conv2d(width, classes, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes h w"]:
        """Segment."""
        seen: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else F.max_pool2d(x, 2))
            seen.append(x)
        x = seen.pop()
        for rise, block in zip(self.rise, self.up, strict=True):
            beside, x = seen.pop(), rise(x)
            rows, columns = beside.shape[2] - x.shape[2], beside.shape[3] - x.shape[3]
            if rows or columns:  # halving an odd side lost a row
                x = F.pad(x, (0, columns, 0, rows), mode="replicate")
            x = block(torch.cat([beside, x], 1))
        return self.head(x)


def _double(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)
