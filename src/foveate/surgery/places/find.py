"""Places: where in a network attention can go, named by what the network does there or by a pattern."""

from __future__ import annotations

import fnmatch
import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from foveate import hosts
from foveate.errors import FoveateWarning, OptionError, PlaceError, nearest
from foveate.surgery.attended import ATTENTION, HOST, Attended, host_path
from foveate.surgery.places.meetings import PAIRED
from foveate.surgery.places.presets import PRESETS
from foveate.surgery.places.spots import Found, Spot, bare, made_by_call, point_at, rewriter, within_attention
from foveate.surgery.places.watch import Call, Pass, watch
from foveate.surgery.point import Point

# what Python's translation of a glob puts around it, which differs between its versions
_OPENS = fnmatch.translate("x").index("x")
_CLOSES = len(fnmatch.translate("x")) - _OPENS - 1
_OTHERS = ("residual", "post", "stage", "conv")  # what to suggest in place of a preset that finds nothing
At = str | re.Pattern[str] | Callable[[str, nn.Module], bool]
Kind = Literal["attention", "fusion", "gate"]
Presets = Mapping[str, Callable[[Pass], Found]]


@dataclass(frozen=True)
class Place:
    """A point of the network where attention can act.

    Attributes:
        path: The module's path in the network, as the host's ``state_dict`` has it.
        point: Where at the module: its output, an input, its shortcut.
        shape: The feature map's shape when the network was watched: batch, channels, then the axes of positions.
        dtype: Its type.
        device: Where it was.
        stage: Which of the network's resolutions it has, counted from 1 among the places found.
        partner: The shape of the second map, batch, channels, then positions, of a place for what takes two.
    """

    path: str
    point: Point
    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    stage: int
    partner: tuple[int, ...] | None = None

    @property
    def channels(self) -> int:
        """Channels of the feature map."""
        return self.shape[1]

    @property
    def size(self) -> tuple[int, ...]:
        """The lengths of the feature map's axes of positions, when the network was watched: height and width."""
        return self.shape[2:]

    @property
    def positions(self) -> int:
        """How many positions the feature map has."""
        return math.prod(self.size)

    def __str__(self) -> str:
        """The path, and what at the module is meant if it is not the output."""
        if self.point.side in ("output", "instead"):
            return self.path
        argument = self.point.argument
        what = self.point.side if argument == 0 or self.point.side != "input" else f"input {argument}"
        return f"{self.path} ({what})"


def find_places(
    model: nn.Module,
    at: At | Sequence[At],
    example: Any = None,
    stages: int | Iterable[int] | None = None,
    exclude: At | Sequence[At] = (),
    kind: Kind = "attention",
) -> list[Place]:
    """The places that the patterns name, in the order in which the network comes to them.

    Args:
        model: The network.
        at: A preset (:mod:`foveate.surgery.places.presets`): ``"residual"``, ``"pre"``, ``"post"``, ``"identity"``,
            ``"stage"``, ``"skip"``, ``"neck"`` or ``"conv"``; or a path or glob (``*`` stays within one level, ``**``
            crosses levels), a compiled regular expression that matches whole paths, a function of path and module,
            which name modules by what they return; or a list of such. A module that is called as a preset is meant by
            ``re.compile("conv")``.
        example: An input to watch one forward pass with.
        stages: Only places of these stages, counted from 1 by resolution.
        exclude: Patterns of places to leave out.
        kind: What is to act there. Places of what takes two maps are where a network joins them, known as
            ``"residual"``, ``"skip"`` and ``"neck"``; any other pattern names those at a module, or within it.

    Raises:
        PlaceError: If a pattern matches nothing, or only what cannot carry attention; with the nearest names.
    """
    seen = watch(model, default_example(model) if example is None else example)
    names = {path: host_path(model, path) for path in _host_modules(model)}
    presets = PRESETS if kind == "attention" else PAIRED[kind]

    def matching(pattern: At, *, leave: bool = False) -> list[Spot]:
        if kind != "attention" and not (isinstance(pattern, str) and pattern in presets):
            return _meeting(pattern, seen, presets)
        return _matching(pattern, seen, names, presets, leave=leave)

    chosen = [spot for pattern in _listed(at) for spot in matching(pattern)]
    without: set[Any] = set()
    for pattern in _listed(exclude):  # a preset leaves out its own points, a pattern all points of a module
        left_out = matching(pattern, leave=True)
        by_point = isinstance(pattern, str) and pattern in presets
        without |= {_identity(spot) if by_point else spot.path for spot in left_out}
    kept = [spot for spot in chosen if spot.path not in without and _identity(spot) not in without]
    spots = list({_identity(spot): spot for spot in kept}.values())
    if not spots:
        raise PlaceError("nothing is left: `at` names nothing" + (" that is not excluded" if chosen else ""))
    spots.sort(key=lambda spot: spot.value.serial)
    places = [_place(_named(spot, model), seen, _host_name(model, spot.path)) for spot in spots]
    sizes = list(dict.fromkeys(place.size for place in places))
    staged = [replace(place, stage=sizes.index(place.size) + 1) for place in places]
    return staged if stages is None else _of_stages(staged, stages, len(sizes))


def _named(spot: Spot, model: nn.Module) -> Spot:
    """The same, its partner's module called as the host knows it."""
    partner = spot.point.partner
    if partner is None:
        return spot
    return replace(spot, point=replace(spot.point, partner=replace(partner, path=_host_name(model, partner.path))))


def _meeting(pattern: At, seen: Pass, presets: Presets) -> list[Spot]:
    """The places for what takes two maps at the modules that a pattern names, or within them."""
    if isinstance(pattern, str) and pattern in PRESETS:
        known = ", ".join(f"'{name}'" for name in presets)
        raise PlaceError(f"what takes two maps stands where a network joins two, at {known}; not at '{pattern}'")
    found = [_leading(seen, _lasting(seen, preset(seen))) for preset in presets.values()]
    spots = list({_identity(spot): spot for one in found for spot in one.spots}.values())
    whole = None if callable(pattern) else re.compile(_glob(pattern)) if isinstance(pattern, str) else pattern

    def named(path: str) -> bool:
        name = ".".join(part for part in path.split(".") if part != HOST)
        if whole is not None:
            return whole.fullmatch(name) is not None
        return callable(pattern) and path in seen.modules and bool(pattern(name, bare(seen.modules[path])))

    def around(path: str) -> list[str]:
        parts = path.split(".")
        return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]

    matched = [spot for spot in spots if any(map(named, around(spot.path)))]
    if not matched:
        shown = pattern if isinstance(pattern, str) else getattr(pattern, "pattern", getattr(pattern, "__name__", ""))
        reason = next((one.unusable[0] for one in found if one.unusable), "")
        known = ", ".join(dict.fromkeys([*presets, *(spot.path for spot in spots[:3])]))
        raise PlaceError(
            f"'{shown}' names no module where two maps are joined; known: {known}{f'; {reason}' if reason else ''}"
        )
    return matched


def find_convolutions(
    model: nn.Module,
    at: At | Sequence[At],
    example: Any = None,
    stages: int | Iterable[int] | None = None,
    exclude: At | Sequence[At] = (),
) -> tuple[list[Place], list[str]]:
    """The two-dimensional convolutions that the patterns name, in the order in which the network comes to them.

    Args:
        model: The network.
        at: ``"conv"``, every convolution of more than one position outside of the network's own attention; or patterns
            as in :func:`find_places`, of which other modules than convolutions are passed over.
        example: An input to watch one forward pass with.
        stages: Only convolutions of these stages, counted from 1 by the resolution of what they return.
        exclude: Patterns of convolutions to leave out.

    Returns:
        Their places, of the maps that they are given; and in sentences what is left out because it would not last.

    Raises:
        PlaceError: If a pattern names none, with the nearest names.
    """
    seen = watch(model, default_example(model) if example is None else example)
    names = {path: host_path(model, path) for path in _host_modules(model)}
    calls = [seen.calls_of(path)[0] for path in names if _convolves(seen, path)]
    calls.sort(key=lambda call: call.returned[0].serial)
    without = {call.path for pattern in _listed(exclude) for call in _convolutions_named(pattern, seen, names, calls)}
    named = {call.path for pattern in _listed(at) for call in _convolutions_named(pattern, seen, names, calls)}
    chosen = [call for call in calls if call.path in named - without]
    if not chosen:
        raise PlaceError("nothing is left: `at` names nothing" + (" that is not excluded" if named else ""))
    lasting = _lasting(seen, Found([_in_place_of(call) for call in chosen], []))
    sizes = list(dict.fromkeys(call.returned[0].size for call in chosen))
    stage = {call.path: sizes.index(call.returned[0].size) + 1 for call in chosen}
    places = [
        Place(names[spot.path], spot.point, spot.value.shape, spot.value.dtype, spot.value.device, stage[spot.path])
        for spot in lasting.spots
    ]
    return places if stages is None else _of_stages(places, stages, len(sizes)), lasting.unusable


def _convolves(seen: Pass, path: str) -> bool:
    calls = seen.calls_of(path)
    if not calls or not isinstance(bare(seen.modules[path]), nn.Conv2d):
        return False
    given, returned = calls[0].first, calls[0].returned
    return given is not None and len(given.shape) == 4 and len(returned) == 1


def _is_wide(conv: nn.Module) -> bool:
    return isinstance(conv, nn.Conv2d) and max(conv.kernel_size) > 1


def _in_place_of(call: Call) -> Spot:
    given = call.first
    if given is None:
        raise PlaceError(f"'{call.path}' is given no map")
    return Spot(call.path, point_at("instead", given), given)


def _convolutions_named(pattern: At, seen: Pass, names: dict[str, str], calls: list[Call]) -> list[Call]:
    if isinstance(pattern, str) and pattern in PRESETS:
        if pattern != "conv":
            raise PlaceError(
                f"'{pattern}' names maps, and what is replaced are convolutions: at='conv', or a pattern of their names"
            )
        own = [call for call in calls if not within_attention(seen, call, itself=True)]
        live = [call for call in own if call.returned[0] in seen.live] or own
        wide = [call for call in live if _is_wide(bare(seen.modules[call.path]))]
        if not live:
            raise PlaceError("no two-dimensional convolution was seen in this network")
        return wide or live
    if callable(pattern):
        shown = f"the function {getattr(pattern, '__name__', '')}".strip()
        found = [call for call in calls if pattern(names[call.path], bare(seen.modules[call.path]))]
    else:
        shown = f"'{pattern if isinstance(pattern, str) else pattern.pattern}'"
        whole = re.compile(_glob(pattern)) if isinstance(pattern, str) else pattern
        found = [call for call in calls if whole.fullmatch(names[call.path])]
    if not found:
        near = nearest(pattern, ("conv", *(names[call.path] for call in calls))) if isinstance(pattern, str) else ""
        raise PlaceError(f"{shown} matches no two-dimensional convolution that ran; {near}".rstrip("; "))
    return found


def _host_name(model: nn.Module, path: str) -> str:
    parent, _, name = path.rpartition(".")
    return ".".join(filter(None, (host_path(model, parent), name)))


def _identity(spot: Spot) -> tuple[str, Point]:
    return spot.path, spot.point


def _host_modules(model: nn.Module) -> list[str]:
    """The host's modules by their present path; one that carries attention is its wrapper, so that more can follow."""
    wrappers = [path for path, module in model.named_modules() if isinstance(module, Attended)]
    inner = tuple(f"{path}.{ATTENTION}" for path in wrappers)
    wrapped = {f"{path}.{HOST}" for path in wrappers}
    return [
        path
        for path, _ in model.named_modules()
        if path and path not in wrapped and not any(path == i or path.startswith(f"{i}.") for i in inner)
    ]


def _matching(
    pattern: At, seen: Pass, names: dict[str, str], presets: Presets = PRESETS, *, leave: bool = False
) -> list[Spot]:
    """The places that a pattern names; of those that are only to be left out, also the ones that would not last."""
    if isinstance(pattern, str) and pattern in presets:
        found = _leading(seen, _lasting(seen, presets[pattern](seen)))
        if not found.spots:
            reason = f": {found.unusable[0]}" if found.unusable else ""
            listed = _OTHERS if presets is PRESETS else presets
            others = [name for name in listed if name != pattern and _lasting(seen, presets[name](seen)).spots]
            if not others and presets is not PRESETS:
                raise PlaceError(f"no place of the kind '{pattern}' was seen in this network{reason}")
            instead = f"at='{others[0]}'" if others else f"a pattern such as at='{next(iter(names.values()), '*')}'"
            raise PlaceError(f"no place of the kind '{pattern}' was seen in this network{reason}; try {instead}")
        if found.unusable:
            warnings.warn(
                f"'{pattern}' leaves {len(found.unusable)} out and finds {len(found.spots)}: {found.unusable[0]}",
                FoveateWarning,
                stacklevel=4,
            )
        return found.spots
    maps = {path: [call for call in seen.calls_of(path) if _returns_map(call)] for path in names}
    candidates = {names[path]: path for path, calls in maps.items() if calls}
    if callable(pattern):
        shown = f"the function {getattr(pattern, '__name__', '')}".strip()
        modules = {name: seen.modules[path] for name, path in candidates.items()}
        bare = {name: m.foveate_host if isinstance(m, Attended) else m for name, m in modules.items()}
        matched = [name for name, module in bare.items() if pattern(name, module)]
        without_map = list[str]()
    else:
        shown = f"'{pattern if isinstance(pattern, str) else pattern.pattern}'"
        whole = re.compile(_glob(pattern)) if isinstance(pattern, str) else pattern
        matched = [name for name in candidates if whole.fullmatch(name)]
        without_map = [name for name in names.values() if whole.fullmatch(name) and name not in candidates]
    if not matched and without_map:
        raise PlaceError(
            f"{shown} matches {', '.join(without_map[:3])}, which returned no feature map "
            "(batch, channels, height, width) in the pass that was watched"
        )
    if not matched:
        near = nearest(pattern, (*PRESETS, *candidates)) if isinstance(pattern, str) else ""
        raise PlaceError(f"{shown} matches no module of this network; {near}".rstrip("; "))
    spots = [made_by_call(seen, maps[candidates[name]][0]) for name in matched]
    found = _lasting(seen, Found(spots, []))
    if leave:
        return spots
    if found.unusable:
        raise PlaceError(f"{shown} matches what will not last: {found.unusable[0]}")
    return found.spots


def _leading(seen: Pass, found: Found) -> Found:
    """Without the places in parts that a network runs for nothing: attention there would never have a gradient."""
    leading = [spot for spot in found.spots if spot.value in seen.live]
    if not leading:  # what the network returns hides where it comes from
        return found
    idle = [
        f"'{spot.path}' leads to nothing that the network returns"
        for spot in found.spots
        if spot.value not in seen.live
    ]
    return Found(leading, found.unusable + idle)


def _lasting(seen: Pass, found: Found) -> Found:
    """Without the places inside modules that rewrite their inside for inference: they would drop attention there."""
    spots, unusable = list[Spot](), list(found.unusable)
    for spot in found.spots:
        calls = seen.calls_of(spot.path)
        around = rewriter(seen, calls[0]) if calls else None
        if around is None:
            spots.append(spot)
        else:
            unusable.append(
                f"'{spot.path}' is inside '{around.path}', which rewrites its inside for inference and would drop or "
                f"distort what is attached there; name '{around.path}' as a whole"
            )
    return Found(spots, unusable)


def _returns_map(call: Call) -> bool:
    return call.alone and len(call.returned[0].shape) >= 3


def _glob(pattern: str) -> str:
    """Translate a glob over dotted paths: ``*`` within a level, ``**`` across levels."""
    parts: list[str] = []
    for name in pattern.split("."):
        if name == "**":
            parts.append(r"[^.]+(?:\.[^.]+)*")
        else:
            parts.append(fnmatch.translate(name)[_OPENS:-_CLOSES].replace(".*", "[^.]*"))
    return r"\.".join(parts)


def _place(spot: Spot, seen: Pass, path: str) -> Place:
    """What is known of a place; refused where one module's attention would have to be several."""
    value, point = spot.value, spot.point
    calls = seen.calls_of(spot.path)  # none where the host has no module yet
    if len(calls) > 1:
        maps = [call.returned[0] if point.side == "output" else call.first for call in calls]
        channels = {one.channels for one in maps if one is not None and len(one.shape) == len(value.shape)}
        stateless = not any(True for _ in seen.modules[spot.path].parameters())
        if stateless or len(channels) > 1:
            why = (
                "has no weights that these share"
                if stateless
                else f"returns {min(channels)} to {max(channels)} channels"
            )
            raise PlaceError(
                f"'{path}' runs {len(calls)} times in one pass, on different features, and {why}, so one attention "
                "cannot serve them; name a module that runs once"
            )
    if not value.is_map:
        raise PlaceError(
            f"'{path}' returns {'×'.join(map(str, value.shape))} with channels last, a sequence of tokens; attention "
            "acts on feature maps (batch, channels, height, width)"
        )
    shape, other = (value.shape[0], value.channels, *value.size), spot.partner
    partner = None if other is None else (other.shape[0], other.channels, *other.size)
    return Place(path, point, shape, value.dtype, value.device, 0, partner)


def _of_stages(places: list[Place], wanted: int | Iterable[int], count: int) -> list[Place]:
    listed = [wanted] if isinstance(wanted, int) else list(wanted) if hasattr(wanted, "__iter__") else []
    if not listed or not all(isinstance(stage, int) for stage in listed):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise OptionError(f"stages are whole numbers, as [3, 4], not {wanted!r}")
    stages = set(listed)
    unknown = sorted(stages - set(range(1, count + 1)))
    if unknown:
        raise PlaceError(f"there is no stage {unknown[0]}; the places found lie in stages 1 to {count}")
    return [place for place in places if place.stage in stages]


def _listed(patterns: At | Sequence[At]) -> list[At]:
    listed = [patterns] if isinstance(patterns, str | re.Pattern) or callable(patterns) else patterns
    if not isinstance(listed, list | tuple | set) or not all(  # pyright: ignore[reportUnnecessaryIsInstance]
        isinstance(pattern, str | re.Pattern) or callable(pattern) for pattern in listed
    ):
        raise OptionError(
            f"a place is named by a preset, a path, a glob, a regular expression or a function, not {patterns!r}"
        )
    return list(listed)


def default_example(model: nn.Module) -> Tensor:
    """An input that the usual network of images, signals or volumes runs on.

    It has the channels of the first convolution; where the network does not run on so many, such as one that folds
    positions into channels before it, three.
    """
    like = next((p for p in model.parameters() if p.is_floating_point()), None)
    channels, *sides = hosts.input_shape(model)
    device, dtype = (None, None) if like is None else (like.device, like.dtype)
    guess = torch.zeros(1, channels, *sides, device=device, dtype=dtype)
    if channels > 4:
        try:
            watch(model, guess)
        except PlaceError:
            return torch.zeros(1, 3, *sides, device=device, dtype=dtype)
    return guess
