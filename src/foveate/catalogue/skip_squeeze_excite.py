"""Skip-Squeeze-Excitation: normalised features, weighed by one layer on their means."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Map, Transform
from foveate.ops.norm import BatchNorm2d
from foveate.ops.pool import global_mean
from foveate.registry import Card, Paper, mechanism


class Normalised(NamedTuple):
    """What is weighed, and what it is judged by.

    Attributes:
        features: The normalised features.
        means: The mean of each of their channels.
    """

    features: Float[Tensor, "b c h w"]
    means: Float[Tensor, "b c"]


@mechanism(
    Card(
        name="skip_squeeze_excite",
        aliases=("sse",),
        title="Skip-Squeeze-Excitation",
        paper=Paper("Non-deep Networks", "Goyal, Bochkovskiy, Deng, Koltun", "NeurIPS 2022", "2110.07641"),
        equation="y = z · σ(W mean_hw(z)), z = norm(x)",
        reference=(
            "imankgoyal/NonDeepNetworks @ 777b286, imagenet/timm/models/simplenet_impl/utils.py (SE1) and repvgg.py "
            "(the skip connection of RepVGGBlock)"
        ),
        differences=(
            "The skip connection alone: in a ParNet block the outputs of a 3×3 and a 1×1 convolution are added to it.",
            "A training batch of one value per channel is normalised with the running statistics.",
        ),
        evidence=(
            "Part of ParNet, which with a depth of 12 reaches over 80% top-1 on ImageNet, 96% on CIFAR-10 and 81% on "
            "CIFAR-100, and 48 AP on COCO as a backbone. The abstract gives no figure for this part alone and no "
            "cost."
        ),
    )
)
class SkipSqueezeExcite(Transform):
    """Skip-Squeeze-Excitation: a gate for each channel of the normalised features, from their means.

    ParNet's blocks are shallow, and so is their attention: batch normalisation, the mean of every channel, one fully
    connected layer without a bottleneck, and a sigmoid. It takes the place of a block's skip connection.

    Source: Goyal et al., Non-deep Networks, section 3.1; norm and layer from the authors' code.

    Args:
        channels: Channels of the feature map.

    Shape:
        ``(b, c, h, w)`` in and out; the map has the axis ``c``.

    Example:
        >>> import torch
        >>> from foveate.catalogue import SkipSqueezeExcite
        >>> SkipSqueezeExcite(64)(torch.randn(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])
    """

    unordered = True

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = BatchNorm2d(channels)
        self.fc = nn.Linear(channels, channels, bias=False)
        self.map = Map("c")

    def reset_parameters(self) -> None:
        """PyTorch's default for both layers, as in the authors' code."""
        self.norm.reset_parameters()
        self.fc.reset_parameters()

    def gather(self, x: Float[Tensor, "b c h w"]) -> Normalised:
        """The normalised features, and the mean of each of their channels."""
        features = self.norm(x)
        return Normalised(features, global_mean(features))

    def weigh(self, context: Normalised) -> Float[Tensor, "b c 1 1"]:
        """A gate for each channel."""
        return self.map(torch.sigmoid(self.fc(context.means))[:, :, None, None])

    def recalibrate(
        self,
        x: Float[Tensor, "b c h w"],  # noqa: ARG002
        weights: Float[Tensor, "b c 1 1"],
        context: Normalised,
    ) -> Float[Tensor, "b c h w"]:
        """Multiply the normalised features, not the features."""
        return context.features * weights
