"""What an attachment would add, place by place, without touching anything."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from foveate.errors import check_choice
from foveate.measure import count_macs, count_parameters
from foveate.registry import Spec
from foveate.surgery.attach import What, build, check_request
from foveate.surgery.places import At, find_places


@dataclass(frozen=True)
class PlannedPlace:
    """One place and what the attention there would add.

    Attributes:
        path: The module whose output it would act on.
        channels: Channels of the feature map.
        height: Height of the feature map, for the example watched.
        width: Its width.
        stage: Which of the network's resolutions it is, from 1.
        parameters: Trainable parameters added.
        macs: Multiply-accumulates added, for one image, of convolutions and matrix products.
    """

    path: str
    channels: int
    height: int
    width: int
    stage: int
    parameters: int
    macs: int


@dataclass(frozen=True)
class Plan:
    """All places of an attachment, and their sums.

    Attributes:
        attention: The mechanism with its options.
        places: The places, in the order in which the network runs them.
        host_parameters: Trainable parameters of the network as it is.
    """

    attention: str
    places: tuple[PlannedPlace, ...]
    host_parameters: int

    @property
    def parameters(self) -> int:
        """Trainable parameters added."""
        return sum(place.parameters for place in self.places)

    @property
    def macs(self) -> int:
        """Multiply-accumulates added, for one image."""
        return sum(place.macs for place in self.places)

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        return {**asdict(self), "parameters": self.parameters, "macs": self.macs}

    def __str__(self) -> str:
        """A table for reading."""
        width = max([len("place"), *(len(place.path) for place in self.places)])
        head = f"{'place':<{width}}  stage  channels  map        parameters         MACs"
        lines = [
            f"{p.path:<{width}}  {p.stage:>5}  {p.channels:>8}  {f'{p.height}×{p.width}':<9}  {p.parameters:>10,}"
            f"  {p.macs:>11,}"
            for p in self.places
        ]
        share = self.parameters / max(1, self.host_parameters)
        places = "1 place" if len(self.places) == 1 else f"{len(self.places)} places"
        total = (
            f"{self.attention}: {places}, {self.parameters:,} parameters "
            f"(+{share:.1%} of {self.host_parameters:,}), {self.macs:,} MACs"
        )
        return "\n".join([head, *lines, total])


def plan(
    model: nn.Module,
    attention: What,
    *,
    at: At | Sequence[At] = "residual",
    start: Literal["identity", "paper"] = "identity",
    example: Tensor | None = None,
    stages: int | Iterable[int] | None = None,
    exclude: At | Sequence[At] = (),
) -> Plan:
    """Where attention would go and what it would add; the network stays as it is.

    Args:
        model: The network.
        attention: What would be attached, as in :func:`foveate.attach`.
        at: Where, as in :func:`foveate.attach`.
        start: How it would start; the identity has a blend of one parameter for each step.
        example: An input to watch one forward pass with.
        stages: Only places of these stages.
        exclude: Patterns of places to leave out.

    Raises:
        OptionError: If the mechanism or an option cannot work.
        PlaceError: If a pattern matches nothing, or a place cannot carry attention.

    Example:
        >>> from foveate import hosts
        >>> model = hosts.build("foveate/resnet8", classes=10)
        >>> planned = plan(model, "se:reduction=4")
        >>> [(place.path, place.channels, place.parameters) for place in planned.places][0]
        ('layer1.0.bn2', 16, 149)
    """
    check_choice("start", start, ("identity", "paper"))
    chosen = check_request(model, attention)
    places: list[PlannedPlace] = []
    for place in find_places(model, at, example, stages, exclude):
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            module = build(chosen, place, start, guessed=example is None).eval()
            x = torch.zeros(1, *place.output.shape[1:])
        places.append(
            PlannedPlace(
                place.path,
                place.channels,
                *place.size,
                place.stage,
                count_parameters(module),
                count_macs(module, x),
            )
        )
    name = str(chosen) if isinstance(chosen, Spec) else getattr(chosen, "__name__", type(chosen).__name__)
    return Plan(name, tuple(places), count_parameters(model))
