"""PSANet as published: a network that segments scenes, its attention between the backbone and the classifier."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from foveate.errors import OptionError, check_at_least, check_bool, check_choice
from foveate.hosts.dilated import BLOCKS, deep_stem, stage
from foveate.registry import Spec, create, get, parse


class PSANetHost(nn.Module):
    """The segmentation network of PSANet: dilated ResNet, point-wise spatial attention, classifier, auxiliary head.

    The backbone keeps an eighth of the resolution. The attention's update is concatenated to its 2,048
    channels, and a classifier gives every position its logits, which are resized to the image. While it
    trains, an auxiliary head classifies the third stage's features. With another ``width`` than the published
    one all channels are fewer or more by that factor.

    The names of its parts are the authors', so that a file in their layout loads:
    ``load_weights(net, read_weights("train_epoch_100.pth"))``.

    Source: Zhao et al., PSANet: Point-wise Spatial Attention Network for Scene Parsing, ECCV 2018; the
    authors' PyTorch code, hszhao/semseg @ 4f274c3, model/psanet.py and model/resnet.py.

    Args:
        layers: Of the residual network: 50, 101 or 152.
        classes: Logits for every position.
        size: Height and width of the images that it trains on, or one number for both. The masks are made
            for it: 465 on ADE20K and VOC 2012, 705 on Cityscapes.
        psa: Options of the mechanism ``psanet``, as text (``"psanet:branches=collect"``) or a spec;
            ``None`` leaves the attention out, which is the paper's baseline.
        dropout: The share of channels that is dropped before the last layer of each head.
        zoom: What the logits' resolution, an eighth of the image's, is multiplied by: 1, 2, 4 or 8.
        auxiliary: Whether it has the auxiliary head.
        width: Channels of its first convolution, of which all other channels are multiples; 64 as published.

    Attributes:
        input_shape: Channels, height and width of the images that it trains on.

    Shape:
        ``(b, 3, h, w)`` in, h and w one more than a multiple of 8. In evaluation ``(b, classes, H, W)``
        out, with H = (h - 1) / 8 · zoom + 1. In training two of these, the second from the auxiliary head
        if there is one.

    Raises:
        OptionError: If an option's value cannot work; in ``forward``, if the size of the image cannot, with the
            nearest sizes that can.

    Example:
        >>> import torch
        >>> with torch.device("meta"):
        ...     net = PSANetHost(50, classes=150, size=465)
        >>> sum(parameter.numel() for parameter in net.parameters())
        53273836
    """

    def __init__(
        self,
        layers: int = 50,
        *,
        classes: int,
        size: int | tuple[int, int] = 465,
        psa: str | Spec | None = "psanet",
        dropout: float = 0.1,
        zoom: int = 8,
        auxiliary: bool = True,
        width: int = 64,
    ) -> None:
        super().__init__()
        check_choice("layers", layers, BLOCKS)
        check_choice("zoom", zoom, (1, 2, 4, 8))
        check_at_least("classes", classes, 1)
        check_at_least("width", width, 1)
        check_bool("auxiliary", auxiliary)
        rows, columns = (size, size) if isinstance(size, int) else size
        _check_size(rows, columns)
        self.zoom = zoom
        self.input_shape = (3, rows, columns)
        blocks = BLOCKS[layers]
        self.layer0 = deep_stem(width=width)
        self.layer1 = stage(2 * width, width, blocks[0])
        self.layer2 = stage(4 * width, 2 * width, blocks[1], stride=2)
        self.layer3 = stage(8 * width, 4 * width, blocks[2], dilation=2)
        self.layer4 = stage(16 * width, 8 * width, blocks[3], dilation=4)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        self.psa = None
        if psa is not None:
            chosen = _concatenating(psa)
            self.psa = create(chosen, 32 * width, size=((rows - 1) // 8 + 1, (columns - 1) // 8 + 1))
        self.cls = _head((32 if psa is None else 64) * width, 8 * width, classes, dropout)
        self.aux = _head(16 * width, 4 * width, classes, dropout) if auxiliary else None

    def forward(
        self, x: Float[Tensor, "b 3 h w"]
    ) -> Float[Tensor, "b classes _ _"] | tuple[Float[Tensor, "b classes _ _"], Float[Tensor, "b classes _ _"]]:
        """Segment."""
        height, width = x.shape[2:]
        _check_size(height, width)
        size = ((height - 1) // 8 * self.zoom + 1, (width - 1) // 8 * self.zoom + 1)
        x = self.layer2(self.layer1(self.layer0(x)))
        middle = self.layer3(x)
        x = self.layer4(middle)
        if self.psa is not None:
            x = self.psa(x)
        logits = self._resized(self.cls(x), size)
        if self.training and self.aux is not None:
            return logits, self._resized(self.aux(middle), size)
        return logits

    def _resized(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        if self.zoom == 1:
            return logits
        return F.interpolate(logits, size=size, mode="bilinear", align_corners=True)


def _head(inputs: int, hidden: int, classes: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, hidden, 3, padding=1, bias=False),
        nn.BatchNorm2d(hidden),
        nn.ReLU(),
        nn.Dropout2d(dropout),
        nn.Conv2d(hidden, classes, 1),
    )


def _concatenating(psa: str | Spec) -> Spec:
    chosen = parse(psa) if isinstance(psa, str) else psa
    name, options = get(chosen.name).card.name, dict(chosen.options)
    if name != "psanet":
        raise OptionError(f"this network is built around 'psanet', not '{name}'; psa=none leaves the attention out")
    if options.setdefault("fusion", "concat") != "concat":
        raise OptionError("this network concatenates what psanet brings, as published: leave `fusion` out")
    return Spec(name, tuple(sorted(options.items())))


def _check_size(height: int, width: int) -> None:
    for side, length in (("height", height), ("width", width)):
        if (length - 1) % 8 or length < 9:
            below = max(9, (length - 1) // 8 * 8 + 1)
            nearest = f"{below} and {below + 8} are" if length > 9 else "9 is the smallest that is"
            raise OptionError(
                f"the {side} of an image here must be one more than a multiple of 8: {length} is not, {nearest}"
            )
