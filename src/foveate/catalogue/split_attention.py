"""Split attention: several convolutions side by side, and a choice among them for every channel."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Map
from foveate.errors import OptionError, check_at_least
from foveate.ops.norm import BatchNorm2d
from foveate.ops.pool import global_mean
from foveate.ops.precision import full_precision
from foveate.ops.softmax import full_softmax
from foveate.registry import Card, Paper, mechanism
from foveate.replacement import ConvShape, Replacement


@mechanism(
    Card(
        name="split_attention",
        title="Split Attention",
        paper=Paper(
            "ResNeSt: Split-Attention Networks",
            "Zhang, Wu, Zhang, Zhu, Lin, Zhang, Sun, He, Mueller, Manmatha, Li, Smola",
            "CVPR Workshops 2022",
            "2004.08955",
        ),
        equation=(
            "y = Σᵣ aᵣ · Uᵣ, U = ReLU(BN(conv(x))) in R parts, a = softmax_r(fc(ReLU(BN(fc(mean_hw(Σᵣ Uᵣ)))))), or σ "
            "for one part"
        ),
        aliases=("splat",),
        reference="zhanghang1989/ResNeSt @ 1dfb3e8, resnest/torch/models/splat.py",
        differences=(
            "Hidden units are as many as the groups can share equally, at least; the authors' module raises where they "
            "cannot.",
            "A training batch of one sample is normalised with the running statistics instead of raising.",
        ),
        evidence=(
            "ImageNet top-1 of 81.13% with ResNeSt-50 at 224×224. In place of ResNet-50 it takes Faster R-CNN on COCO "
            "from 39.3 to 42.3 mAP and DeepLabV3 on ADE20K from 42.1 to 45.1 mIoU. In the authors' ablation, the fast "
            "network with two splits has 80.53% with 27.5 M parameters and 4.34 GFLOPs, with one split 80.33%, 26.3 M "
            "and 4.34."
        ),
    )
)
class SplitAttention(Replacement):
    """Split attention: R convolutions of parts of the input, weighed against one another for every channel.

    One convolution with R times the output channels and R times the groups, batch normalisation and a ReLU; the mean
    of the parts' sum goes through a bottleneck, and a softmax over the parts gives each channel its mixture.

    It cannot keep what a convolution computes, because every part ends in a ReLU and sees a part of the input: it
    has to be trained. In ResNeSt it stands for a convolution with the norm and ReLU behind it, which here stay
    where they are.

    Source: Zhang et al., ResNeSt, section 3.

    Args:
        shape: The convolution whose place it takes.
        radix: How many parts there are; with one, a sigmoid takes the softmax's place.
        reduction: The bottleneck has ``radix / reduction`` of the input's channels.
        min_hidden: The fewest units that it has.

    Shape:
        That of the convolution; the map has the axes ``branch`` and ``c``, of one part ``c`` alone.

    Raises:
        OptionError: If the input's channels cannot be split into the parts of all groups, or an option cannot work.

    Example:
        >>> import torch
        >>> from foveate.catalogue import SplitAttention
        >>> split = SplitAttention(ConvShape(16, 32, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1)))
        >>> split(torch.randn(2, 16, 9, 9)).shape
        torch.Size([2, 32, 5, 5])
    """

    def __init__(self, shape: ConvShape, *, radix: int = 2, reduction: int = 4, min_hidden: int = 32) -> None:
        super().__init__(shape)
        check_at_least("radix", radix, 1)
        check_at_least("reduction", reduction, 1)
        check_at_least("min_hidden", min_hidden, 1)
        groups, parts = shape.groups, shape.groups * radix
        if shape.in_channels % parts:
            below, above = shape.in_channels // parts * parts, -(-shape.in_channels // parts) * parts
            can = f"{below} and {above}" if below else str(above)
            raise OptionError(
                f"{shape.in_channels} channels cannot be split into {parts} parts; the nearest that can: {can}"
            )
        hidden = max(shape.in_channels * radix // reduction, min_hidden)
        hidden = -(-hidden // groups) * groups
        out = shape.out_channels
        self.radix = radix
        self.conv = nn.Conv2d(
            shape.in_channels,
            out * radix,
            shape.kernel_size,
            stride=shape.stride,
            padding=shape.padding,
            dilation=shape.dilation,
            groups=parts,
            bias=shape.bias,
        )
        self.norm = BatchNorm2d(out * radix)
        self.fc1 = nn.Conv2d(out, hidden, 1, groups=groups)
        self.norm1 = BatchNorm2d(hidden)
        self.fc2 = nn.Conv2d(hidden, out * radix, 1, groups=groups)
        self.map = Map("branch", "c") if radix > 1 else Map("c")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """He's initialisation of all convolutions, as in the authors' networks; biases at PyTorch's default."""
        for layer in (self.conv, self.fc1, self.fc2):
            layer.reset_parameters()
            fan_out = layer.weight[0, 0].numel() * layer.out_channels
            nn.init.normal_(layer.weight, std=(2 / fan_out) ** 0.5)
        self.norm.reset_parameters()
        self.norm1.reset_parameters()

    @torch.no_grad()
    def take_over(self, conv: nn.Conv2d) -> str:
        """Of one part, it begins with the convolution's kernel."""
        if self.radix == 1:
            self.conv.load_state_dict(conv.state_dict())
        return "each of its parts ends in a norm and a ReLU, which a convolution has not"

    def gather(self, parts: Float[Tensor, "b r c p q"]) -> Float[Tensor, "b c"]:
        """The mean of the parts' sum."""
        return global_mean(parts.sum(1))

    def weigh(self, context: Float[Tensor, "b c"]) -> Float[Tensor, "b r c 1 1"]:
        """The share of each part in each channel."""
        hidden = torch.relu(self.norm1(self.fc1(context[:, :, None, None])))
        logits = self.fc2(hidden).flatten(1)
        if self.radix == 1:
            return self.map(torch.sigmoid(full_precision(logits))[:, :, None, None])[:, None]
        # within a group, first by part and then by channel
        each = logits.unflatten(1, (self.shape.groups, self.radix, -1)).transpose(1, 2).flatten(2)
        return self.map(full_softmax(each, 1))[..., None, None]

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b c p q"]:
        """Convolve, weigh the parts, and add them up."""
        features = torch.relu(self.norm(self.conv(x)))
        parts = features.unflatten(1, (self.radix, -1))
        weights = self.weigh(self.gather(parts)).to(features.dtype)
        mixed = [parts[:, number] * weights[:, number] for number in range(self.radix)]
        return sum(mixed[1:], mixed[0])
