"""Gather-Excite: where and which channels matter, judged from a neighbourhood of chosen extent."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Gate, Map
from foveate.errors import OptionError, check_choice
from foveate.ops.gate import gate
from foveate.ops.nearest import gate_nearest, neighbourhood_means
from foveate.ops.norm import BatchNorm2d
from foveate.ops.pool import global_mean
from foveate.ops.size import only_size
from foveate.registry import Card, Paper, mechanism

# The paper's excite network for θ+ has the bottleneck of Squeeze-and-Excitation, and varies it nowhere.
REDUCTION = 16


@mechanism(
    Card(
        name="gather_excite",
        aliases=("ge",),
        title="Gather-Excite",
        paper=Paper(
            "Gather-Excite: Exploiting Feature Context in Convolutional Neural Networks",
            "Hu, Shen, Albanie, Sun, Vedaldi",
            "NeurIPS 2018",
            "1810.12348",
        ),
        equation="y = x · σ(nearest(ξ_G(x))); θ⁻: ξ_G = avgpool_E; θ: depthwise convolutions; θ⁺: 1×1 excite after θ",
        reference=(
            "hujie-frank/GENet @ ae791f8, models/RN50-GEPF, -GEP and -GEPP.prototxt (Caffe, global extent; "
            "no weights and no code for extents 2, 4 and 8 were ever released)"
        ),
        differences=(
            "The default is θ with extent 8, which runs at any size; the paper's headline is θ⁺ with global extent, "
            "whose depthwise kernel is as large as the map and fixes its size.",
            "Nearest-neighbour interpolation is PyTorch's, which rounds its scale: at some sides above 190 (122 with "
            "extent 8) a few positions get their neighbour's gate.",
            "At least one hidden unit in θ⁺'s excite network, where C // 16 is zero.",
            "A training batch of one value per channel (global θ with batch 1, or a map pooled to 1×1) is normalised "
            "with the running statistics, where batch normalisation has no variance to estimate.",
        ),
        evidence=(
            "ImageNet top-1 error of ResNet-50: 23.30% plain, 22.14% with global extent and no parameters "
            "(ResNet-101: 22.20% plain), 22.00% with gathering convolutions and 21.88% with excitation too (SE "
            "22.12%). These have 25.6 M, 25.6 M, 31.2 M and 33.7 M parameters, all within 3.86 to 3.87 GFLOPs."
        ),
    )
)
class GatherExcite(Gate):
    """Gather-Excite: a gate for each channel and position from the features around it.

    *Gather* summarises each channel over neighbourhoods of the given extent; *excite* brings the summary back to
    the map's size by nearest-neighbour interpolation, and a sigmoid makes it a gate. Average pooling gathers
    without parameters (θ⁻), strided depthwise 3×3 convolutions with them (θ); θ⁺ adds a bottleneck of 1×1
    convolutions to excite.

    Source: Hu et al., Gather-Excite, sections 2 and 3.

    Args:
        channels: Channels of the feature map.
        variant: ``"theta_minus"``, ``"theta"`` or ``"theta_plus"``.
        extent: 2, 4, 8, or ``"global"``.
        size: Height and width of the map. Only θ and θ⁺ with global extent need it: their depthwise kernel is as
            large as the map, and they run at no other size.

    Shape:
        ``(b, c, h, w)`` in and out; the map has the axes ``c``, ``h``, ``w``, at the gathered resolution, or ``c``
        alone with global extent.

    Raises:
        OptionError: If an option's value cannot work, or a size is needed and missing.
        FoveateError: In ``forward``, if the map has another size than the one it is tied to.

    Example:
        >>> import torch
        >>> from foveate.catalogue import GatherExcite
        >>> GatherExcite(64, variant="theta_minus", extent="global")(torch.randn(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])
    """

    def __init__(
        self,
        channels: int,
        *,
        variant: Literal["theta_minus", "theta", "theta_plus"] = "theta",
        extent: Literal[2, 4, 8, "global"] = 8,
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        check_choice("variant", variant, ("theta_minus", "theta", "theta_plus"))
        check_choice("extent", extent, (2, 4, 8, "global"))
        self.extent: int | None = None if extent == "global" else extent
        self.smallest = 1 if self.extent is None else self.extent + 1
        self.pool: nn.Sequential | None = None
        self.excite: nn.Sequential | None = None
        if variant != "theta_minus":
            if extent == "global":
                if size is None:
                    raise OptionError(
                        f"gather_excite with variant={variant} and extent=global has a kernel as large as the map: "
                        "give the map's size, or an example input to attach with"
                    )
                self.fixed_size = size
            self.pool = nn.Sequential(*_depthwise(channels, extent, size))
        if variant == "theta_plus":
            hidden = max(1, channels // REDUCTION)
            self.zeros = ("excite.1.bias",)
            self.excite = nn.Sequential(
                nn.ReLU(), nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1)
            )
        self.map = Map("c") if extent == "global" else Map("c", "h", "w")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Depthwise weights as He et al. (fan in), 1×1 weights of deviation 0.01, as in the authors' prototxt."""
        for layer in self.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.reset_parameters()
            elif isinstance(layer, nn.Conv2d) and layer.groups == 1:
                nn.init.normal_(layer.weight, std=0.01)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
            elif isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def gather(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c _ _"]:
        """Summarise each channel over neighbourhoods."""
        x = only_size(
            x,
            self.fixed_size,
            "the depthwise kernel of gather_excite with extent=global is as large as the map that it was made for; "
            "extents 2, 4 and 8, or variant=theta_minus, run at any size",
        )
        if self.pool is not None:
            return self.pool(x)
        if self.extent is None:
            return global_mean(x)[:, :, None, None]
        return neighbourhood_means(x, self.extent)

    def weigh(self, context: Float[Tensor, "b c s t"]) -> Float[Tensor, "b c s t"]:
        """A gate for each channel and neighbourhood."""
        return torch.sigmoid(context if self.excite is None else self.excite(context))

    def recalibrate(
        self,
        x: Float[Tensor, "b c h w"],
        weights: Float[Tensor, "b c s t"],
        context: Tensor,  # noqa: ARG002
    ) -> Float[Tensor, "b c h w"]:
        """Bring the gates to the map's size and multiply."""
        if self.extent is None:
            return gate(x, weights)
        return gate_nearest(x, weights)


def _depthwise(channels: int, extent: int | str, size: tuple[int, int] | None) -> list[nn.Module]:
    if size is not None and extent == "global":
        return [nn.Conv2d(channels, channels, size, groups=channels, bias=False), BatchNorm2d(channels)]
    layers: list[nn.Module] = []
    for _ in range(int(extent).bit_length() - 1):
        convolution = nn.Conv2d(channels, channels, 3, stride=2, padding=1, groups=channels, bias=False)
        layers += [convolution, BatchNorm2d(channels), nn.ReLU()]
    return layers[:-1]  # the last norm feeds the sigmoid
