"""What an attachment would add, place by place, without touching anything."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Never

import torch
from torch import Tensor, nn

from foveate.attention import maps_of
from foveate.errors import check_at_least, check_choice
from foveate.measure import Conditions, count_bytes, count_macs, count_parameters, inference, measure_latency
from foveate.registry import Spec, get
from foveate.surgery.attached import AttachedAttention, attached
from foveate.surgery.build import build, point_for
from foveate.surgery.places import At, Place, default_example, find_places
from foveate.surgery.replace import Convolution, check_replaces, convolutions, like, made_for
from foveate.surgery.request import What, check_no_more, check_request, kind_of_place, made_for_size, usual_place
from foveate.surgery.unwrap import unwrapped

# an affinity's weights, one number for each pair of positions: above this many bytes an image, training will not fit
_LARGE = 1 << 30


@dataclass(frozen=True)
class PlannedPlace:
    """One place and what the attention there would add.

    What stands in a convolution's place adds what it has and does beyond that convolution, which may be less than
    nothing. The convolution's own parameters stay in the network, at rest.

    Attributes:
        path: The module at which it would act.
        side: What of the module it would act on: ``"output"``, ``"input"`` or ``"shortcut"``; ``"instead"`` for what
            would stand in its place.
        channels: Channels of the feature map.
        size: Height and width of the feature map for the example watched; the length of a signal; depth, height and
            width of a volume.
        stage: Which of the network's resolutions it has, counted from 1 where its stem ends, which is 0.
        parameters: Trainable parameters added.
        macs: Multiply-accumulates added, for one image, of convolutions and matrix products.
        bytes: Bytes that its operations read and write, for one image.
        pairs: Bytes that its matrices of all pairs of positions take for one image, in the features' type; 0 for a
            gate.
        latency: The median duration for one image, in seconds; ``None`` where it was not measured.
    """

    path: str
    side: str
    channels: int
    size: tuple[int, ...]
    stage: int
    parameters: int
    macs: int
    bytes: int
    pairs: int
    latency: float | None = None

    def __str__(self) -> str:
        """The path, and what at the module is meant if it is not the output."""
        return self.path if self.side in ("output", "instead") else f"{self.path} ({self.side})"


@dataclass(frozen=True)
class Plan:
    """All places of an attachment, and their sums.

    Attributes:
        attention: The mechanism with its options.
        places: The places, in the order in which the network comes to them.
        host_parameters: Trainable parameters of the network as it is.
        present: Attention that the network has already, its own or attached.
        warnings: What will hurt, in sentences.
        conditions: Under which conditions the latencies were measured; ``None`` if they were not.
    """

    attention: str
    places: tuple[PlannedPlace, ...]
    host_parameters: int
    present: tuple[AttachedAttention, ...] = ()
    warnings: tuple[str, ...] = ()
    conditions: Conditions | None = None

    @property
    def parameters(self) -> int:
        """Trainable parameters added."""
        return sum(place.parameters for place in self.places)

    @property
    def macs(self) -> int:
        """Multiply-accumulates added, for one image."""
        return sum(place.macs for place in self.places)

    @property
    def bytes(self) -> int:
        """Bytes read and written by what is added, for one image."""
        return sum(place.bytes for place in self.places)

    @property
    def latency(self) -> float | None:
        """The sum of the medians, in seconds; each was measured alone, so the whole may differ."""
        measured = [place.latency for place in self.places if place.latency is not None]
        return sum(measured) if measured else None

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        return {
            "attention": self.attention,
            "places": [asdict(place) for place in self.places],
            "host_parameters": self.host_parameters,
            "parameters": self.parameters,
            "macs": self.macs,
            "bytes": self.bytes,
            "latency": self.latency,
            "present": [{"place": one.place, "attention": one.mechanism, "note": one.note} for one in self.present],
            "warnings": list(self.warnings),
            "conditions": None if self.conditions is None else self.conditions.as_dict(),
        }

    def __str__(self) -> str:
        """A table for reading."""
        timed = self.latency is not None
        width = max([len("place"), *(len(str(place)) for place in self.places)])
        head = f"{'place':<{width}}  stage  channels  {'map':<11}  parameters         MACs       bytes"
        lines = [head + ("   latency" if timed else "")]
        for place in self.places:
            shape = "×".join(map(str, place.size))
            line = (
                f"{place!s:<{width}}  {place.stage:>5}  {place.channels:>8}  {shape:<11}  {place.parameters:>10,}"
                f"  {place.macs:>11,}  {_bytes(place.bytes):>10}"
            )
            lines.append(line + (f"  {place.latency * 1e3:>5.2f} ms" if place.latency is not None else ""))
        share = self.parameters / max(1, self.host_parameters)
        places = "1 place" if len(self.places) == 1 else f"{len(self.places)} places"
        total = (
            f"{self.attention}: {places}, {self.parameters:,} parameters "
            f"({share:+.1%} of {self.host_parameters:,}), {self.macs:,} MACs, {_bytes(self.bytes)} moved"
        )
        lines.append(total + (f", {self.latency * 1e3:.2f} ms" if self.latency is not None else ""))
        kinds: dict[str, int] = {}
        for one in self.present:
            kinds[one.mechanism] = kinds.get(one.mechanism, 0) + 1
        lines += [f"there already: {count} × {name}" for name, count in kinds.items()]
        lines += [f"warning: {warning}" for warning in _folded(self.warnings)]
        return "\n".join(lines)


def plan(
    model: nn.Module,
    attention: What,
    *,
    at: At | Sequence[At] | None = None,
    start: Literal["identity", "paper"] = "identity",
    example: Any = None,
    stages: int | Iterable[int] | None = None,
    exclude: At | Sequence[At] = (),
    latency: bool = False,
    rounds: int = 10,
    **more: Never,
) -> Plan:
    """Where attention would go and what it would add; the network stays as it is.

    Args:
        model: The network.
        attention: What would be attached, as in :func:`foveate.attach`; or the name or spec of a mechanism that would
            stand in the place of convolutions, as in :func:`foveate.replace`.
        at: Where, as there; as those two have it by themselves, if ``None``.
        start: How it would start; the identity has a blend of one parameter for each step.
        example: An input to watch one forward pass with.
        stages: Only places of these stages, as there.
        exclude: Patterns of places to leave out.
        latency: Whether to build each module on the network's device and time it on one map of its place.
        rounds: How many times to time each.
        **more: Nothing: options of the mechanism are written with its name.

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
    check_no_more("plan", attention, more)
    check_choice("start", start, ("identity", "paper"))
    check_at_least("rounds", rounds, 1)
    chosen = check_request(model, attention)
    inner = unwrapped(model)
    guessed, rounds, warned = example is None, rounds if latency else 0, list[str]()
    watched_with = default_example(inner) if example is None else example
    where = usual_place(chosen) if at is None else at
    if isinstance(chosen, Spec) and get(chosen.name).protocol == "replacement":
        check_replaces(chosen)
        found, warned = convolutions(inner, chosen, where, watched_with, stages, exclude)
        places = [one.place for one in found]
        planned = [_priced_instead(chosen, one, rounds) for one in found]
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            first = made_for(found[0], chosen)
    else:
        places = find_places(inner, where, watched_with, stages, exclude, kind=kind_of_place(chosen))
        planned = [_priced(chosen, place, start, rounds) for place in places]
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            first = build(chosen, places[0], start)
    tied = made_for_size(chosen, [first], watched_with) if guessed else None
    conditions = Conditions.here(places[0].device, places[0].dtype) if latency else None
    name = str(chosen) if isinstance(chosen, Spec) else getattr(chosen, "__name__", type(chosen).__name__)
    present = tuple(attached(inner))
    warned += [*_warnings(planned, guessed), *filter(None, [tied])]
    return Plan(name, tuple(planned), count_parameters(model), present, tuple(warned), conditions)


def _priced(chosen: Any, place: Place, start: str, rounds: int) -> PlannedPlace:
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        module = build(chosen, place, start).eval()
        x = torch.zeros(1, *place.shape[1:])
    acting = _Acting(module, point_for(place, module).without_axis(), place.partner)
    relations = sum("hw->hw" in point.axes for point in maps_of(module).values())
    pairs = relations * place.positions**2 * place.dtype.itemsize
    time = None
    if rounds and place.device.type != "meta":
        with torch.random.fork_rng(devices=[]):
            real = build(chosen, place, start).eval().to(device=place.device, dtype=place.dtype)
        features = torch.zeros(1, *place.shape[1:], device=place.device, dtype=place.dtype)
        timed = _Acting(real, acting.point, place.partner)
        with inference(timed):
            measured = measure_latency({"it": lambda: timed(features)}, rounds=rounds, device=place.device)
        time = measured["it"].median
    return PlannedPlace(
        path=place.path,
        side=place.point.side,
        channels=place.channels,
        size=place.size,
        stage=place.stage,
        parameters=count_parameters(module),
        macs=count_macs(acting, x),
        bytes=count_bytes(acting, x),
        pairs=pairs,
        latency=time,
    )


def _priced_instead(chosen: Spec, one: Convolution, rounds: int) -> PlannedPlace:
    place = one.place
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        module, conv = made_for(one, chosen).eval(), one.shape.convolution().eval()
        x = torch.zeros(1, *place.shape[1:])
    relations = sum("hw->hw" in point.axes for point in maps_of(module).values())
    time = None
    if rounds and place.device.type != "meta":
        with torch.random.fork_rng(devices=[]):
            real = like(one, made_for(one, chosen)).eval()
            was = like(one, one.shape.convolution()).eval()
        features = torch.zeros(1, *place.shape[1:], device=place.device, dtype=place.dtype)
        with inference(real):
            measured = measure_latency(
                {"it": lambda: real(features), "was": lambda: was(features)}, rounds=rounds, device=place.device
            )
        time = measured["it"].median - measured["was"].median
    return PlannedPlace(
        path=place.path,
        side=place.point.side,
        channels=place.channels,
        size=place.size,
        stage=place.stage,
        parameters=count_parameters(module) - count_parameters(conv),
        macs=count_macs(module, x) - count_macs(conv, x),
        bytes=count_bytes(module, x) - count_bytes(conv, x),
        pairs=relations * place.positions**2 * place.dtype.itemsize,
        latency=time,
    )


class _Acting(nn.Module):
    """Attention as it acts at its point, folded where it is folded; with a second map where it takes one."""

    def __init__(self, module: nn.Module, point: Any, partner: tuple[int, ...] | None) -> None:
        super().__init__()
        self.module, self.point, self.partner = module, point, partner

    def forward(self, x: Tensor) -> Tensor:
        if self.partner is None:
            return self.point.act(self.module, x)
        other = x.new_zeros(1, *self.partner[1:])
        return self.point.act(self.point.with_other(self.module, other), x)


def _warnings(places: list[PlannedPlace], guessed: bool) -> list[str]:
    """What will hurt: affinities between very many positions, and places that one picture size does not tell."""
    found = list[str]()
    large = [place for place in places if place.pairs >= _LARGE]
    if large:
        worst = max(large, key=lambda place: place.pairs)
        shape = "×".join(map(str, worst.size))
        others = f" and {len(large) - 1} more places relate" if len(large) > 1 else " relates"
        found.append(
            f"'{worst}'{others} all pairs of positions: of {shape} that is {_bytes(worst.pairs)} for one image "
            "wherever their matrix is built, as in compiled and exported graphs; choose deeper stages, or a smaller map"
        )
    single = [place for place in places if all(side == 1 for side in place.size)]
    if single and not guessed:
        found.append(
            f"{len(single)} of {len(places)} places have a map of one position, such as '{single[0]}': nothing is left "
            "to choose between there, and a norm sees the batch alone"
        )
    return found


def _folded(warnings: Iterable[str]) -> list[str]:
    """One line for all that say the same of different places, which they begin with in quotes."""
    said: dict[str, list[str]] = {}
    for warning in warnings:
        name, quote, rest = warning.removeprefix("'").partition("'") if warning.startswith("'") else ("", "", warning)
        said.setdefault(quote + rest, []).append(name)
    lines = list[str]()
    for rest, names in said.items():
        first = f"'{names[0]}" if names[0] else ""
        more = f" ({len(names) - 1} more alike)" if len(names) > 1 else ""
        lines.append(f"{first}{rest}{more}")
    return lines


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(count) < 1000 or unit == "TB":
            return f"{count:.0f} {unit}" if unit == "B" or abs(count) >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return ""
