"""What a mechanism would add at one place: counted on shapes alone, predicted and timed where that is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from foveate.attention import maps_of
from foveate.measure import (
    Machine,
    Prediction,
    count_bytes,
    count_macs,
    count_parameters,
    inference,
    measure_latency,
    predict,
)
from foveate.registry import Spec
from foveate.surgery.build import build, point_for
from foveate.surgery.places import Place
from foveate.surgery.planned import PlannedPlace
from foveate.surgery.replace import Convolution, like, made_for


@dataclass(frozen=True)
class Asked:
    """What is wanted to be known besides counts.

    Attributes:
        batch: Images at once.
        rounds: How many times to time each module; 0 for not at all.
        machine: What to predict time with; ``None`` for no prediction.
    """

    batch: int = 1
    rounds: int = 0
    machine: Machine | None = None


def priced(chosen: Any, place: Place, start: str, asked: Asked) -> PlannedPlace:
    """What attention would add at a place."""

    def made() -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            return build(chosen, place, start).eval()

    with torch.device("meta"):
        module = made()
    point = point_for(place, module).without_axis()
    acting, x = _Acting(module, point, place.partner), _map(place, 1, "meta")
    return PlannedPlace(
        **_where(place),
        parameters=count_parameters(module),
        macs=count_macs(acting, x),
        bytes=count_bytes(acting, x),
        pairs=_pairs(module, place),
        predicted=_predicted(acting, place, asked),
        latency=_timed({"it": lambda: _Acting(_there(made(), place), point, place.partner)}, place, asked).get("it"),
    )


def priced_instead(chosen: Spec, one: Convolution, asked: Asked) -> PlannedPlace:
    """What a module in a convolution's place would add to what that convolution is and does."""
    place = one.place
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        module, conv = made_for(one, chosen).eval(), one.shape.convolution().eval()
    x = _map(place, 1, "meta")

    def made(module: Callable[[], nn.Module]) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            return like(one, module()).eval()

    times = _timed(
        {"it": lambda: made(lambda: made_for(one, chosen)), "was": lambda: made(one.shape.convolution)}, place, asked
    )
    new, old = (_predicted(each, place, asked) for each in (module, conv))
    return PlannedPlace(
        **_where(place),
        parameters=count_parameters(module) - count_parameters(conv),
        macs=count_macs(module, x) - count_macs(conv, x),
        bytes=count_bytes(module, x) - count_bytes(conv, x),
        pairs=_pairs(module, place),
        predicted=None if new is None or old is None else new.beyond(old),
        latency=times["it"] - times["was"] if times else None,
    )


def _where(place: Place) -> dict[str, Any]:
    return {
        "path": place.path,
        "side": place.point.side,
        "channels": place.channels,
        "size": place.size,
        "stage": place.stage,
    }


def _pairs(module: nn.Module, place: Place) -> int:
    relations = sum("hw->hw" in point.axes for point in maps_of(module).values())
    return relations * place.positions**2 * place.dtype.itemsize


def _predicted(module: nn.Module, place: Place, asked: Asked) -> Prediction | None:
    if asked.machine is None:
        return None
    x = _map(place, asked.batch, "meta", place.dtype)
    device = "cpu" if place.device.type == "meta" else place.device
    return predict(module.to(dtype=place.dtype), x, machine=asked.machine, device=device)


def _timed(makers: dict[str, Callable[[], nn.Module]], place: Place, asked: Asked) -> dict[str, float]:
    """The medians of modules that are built for it, side by side; nothing where it is not asked for, or cannot be."""
    if not asked.rounds or place.device.type == "meta":
        return {}
    modules = {name: make() for name, make in makers.items()}
    x = _map(place, asked.batch, place.device, place.dtype)
    with inference(*modules.values()):
        calls = {name: lambda module=module: module(x) for name, module in modules.items()}
        times = measure_latency(calls, rounds=asked.rounds, device=place.device)
    return {name: latency.median for name, latency in times.items()}


def _map(place: Place, batch: int, device: torch.device | str, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.zeros(batch, *place.shape[1:], device=device, dtype=dtype)


def _there(module: nn.Module, place: Place) -> nn.Module:
    return module.to(device=place.device, dtype=place.dtype)


class _Acting(nn.Module):
    """Attention as it acts at its point, folded where it is folded; with a second map where it takes one."""

    def __init__(self, module: nn.Module, point: Any, partner: tuple[int, ...] | None) -> None:
        super().__init__()
        self.module, self.point, self.partner = module, point, partner

    def forward(self, x: Tensor) -> Tensor:
        if self.partner is None:
            return self.point.act(self.module, x)
        other = x.new_zeros(x.shape[0], *self.partner[1:])
        return self.point.act(self.point.with_other(self.module, other), x)
