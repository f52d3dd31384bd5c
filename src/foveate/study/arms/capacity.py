"""The capacity control: at the places of a mechanism as many parameters as it has, and no attention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from foveate.errors import check_at_least
from foveate.surgery.attach import attach
from foveate.surgery.attended import attended_places, host_path


class Capacity(nn.Module):
    """So many parameters, in 1×1 convolutions and a scale and a shift of channels: the same for every input.

    A residual bottleneck of two 1×1 convolutions has as many hidden channels as fit, without anything between the two;
    what is left over becomes a scale of the first channels, and then a shift of them. It starts as the identity, and
    every parameter has a gradient within two steps.

    Args:
        channels: Of the map.
        parameters: How many parameters it has, exactly.

    Example:
        >>> sum(one.numel() for one in Capacity(16, 100).parameters())
        100
    """

    def __init__(self, channels: int, parameters: int) -> None:
        super().__init__()
        check_at_least("channels", channels, 1)
        check_at_least("parameters", parameters, 0)
        hidden, rest = divmod(parameters, 2 * channels)
        self.channels, self.hidden = channels, hidden
        self.reduce = nn.Parameter(torch.empty(hidden, channels)) if hidden else None
        self.expand = nn.Parameter(torch.zeros(channels, hidden)) if hidden else None
        self.scale = nn.Parameter(torch.ones(min(rest, channels))) if rest else None
        self.shift = nn.Parameter(torch.zeros(rest - channels)) if rest > channels else None
        if self.reduce is not None:
            nn.init.kaiming_uniform_(self.reduce, a=5**0.5)  # as PyTorch starts a convolution

    def forward(self, x: Float[Tensor, "b c *positions"]) -> Float[Tensor, "b c *positions"]:
        """Scale, shift, and add what the bottleneck makes of the map."""
        positions = x.ndim - 2
        y = x
        if self.scale is not None:
            y = y * _filled(self.scale, self.channels, 1.0).reshape(-1, *(1,) * positions)
        if self.shift is not None:
            y = y + _filled(self.shift, self.channels, 0.0).reshape(-1, *(1,) * positions)
        if self.reduce is not None and self.expand is not None:
            mixed = F.linear(F.linear(x.movedim(1, -1), self.reduce), self.expand)
            y = y + mixed.movedim(-1, 1)
        return y

    def extra_repr(self) -> str:
        """Channels and parameters, as ``print(model)`` shows them."""
        return f"{self.channels}, parameters={sum(one.numel() for one in self.parameters())}"


@dataclass(frozen=True)
class Room:
    """What a mechanism has at one place of a network.

    Attributes:
        channels: Of the map there.
        parameters: That it added, less those of a convolution whose place it took.
    """

    channels: int
    parameters: int


def rooms_of(attended: nn.Module) -> dict[str, Room]:
    """How many parameters attention added to a network, by place as the host knows it.

    Example:
        >>> from foveate import hosts
        >>> rooms_of(attach(hosts.build("foveate/resnet8", classes=10), "se", start="paper"))["layer3.0.bn2"]
        Room(channels=64, parameters=580)
    """
    found: dict[str, Room] = {}
    for path, place in attended_places(attended).items():
        resting = set(place.foveate_resting)
        taken = sum(one.numel() for name, one in place.foveate_host.named_parameters() if name in resting)
        added = sum(one.numel() for one in place.foveate.parameters() if one.requires_grad) - taken
        channels = next(iter(place.foveate_seats.values())).channels if place.foveate_seats else 0
        if place.foveate_seats:
            found[host_path(attended, path)] = Room(channels, max(0, added))
    return found


def give_capacity(network: nn.Module, rooms: Mapping[str, Room], example: object = None) -> nn.Module:
    """Attach as many parameters at each place as a mechanism has there, in place.

    Args:
        network: The host.
        rooms: By place.
        example: An input to watch one forward pass with.

    Example:
        >>> from foveate import hosts
        >>> network = give_capacity(hosts.build("foveate/resnet8", classes=10), {"layer1.0.bn2": Room(16, 40)})
        >>> [one.numel() for one in network.layer1[0].bn2.foveate.parameters()]
        [16, 16, 8]
    """
    for number, (place, room) in enumerate(rooms.items(), 1):
        if room.parameters:

            def capacity(channels: int, count: int = room.parameters) -> nn.Module:
                return Capacity(channels, count)

            attach(network, capacity, at=place, start="paper", example=example, name=f"capacity{number}")
    return network


def _filled(values: Tensor, length: int, with_: float) -> Tensor:
    return values if len(values) == length else F.pad(values, (0, length - len(values)), value=with_)
