"""Finding places: where in a network attention can go, named by what the network does there or by a pattern."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from torch import nn

from foveate.errors import FoveateWarning, PlaceError, nearest
from foveate.surgery.attended import host_path
from foveate.surgery.places.example import default_example
from foveate.surgery.places.lasting import lasting, leading
from foveate.surgery.places.meetings import PAIRED
from foveate.surgery.places.passes import Call, Pass
from foveate.surgery.places.patterns import At, host_modules, host_name, listed, shown, whole, wider
from foveate.surgery.places.place import Place, of_stages
from foveate.surgery.places.presets import PRESETS
from foveate.surgery.places.resolutions import resolutions, stage_of
from foveate.surgery.places.spots import Found, Spot, bare, known_as, made_by_call
from foveate.surgery.places.watch import watch
from foveate.surgery.point import Point

_OTHERS = ("residual", "post", "stage", "conv")  # what to suggest in place of a preset that finds nothing
Kind = Literal["attention", "fusion", "gate"]
Presets = Mapping[str, Callable[[Pass], Found]]


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
        stages: Only places of these stages: the network's resolutions, counted from 1 where its stem ends.
        exclude: Patterns of places to leave out.
        kind: What is to act there. Places of what takes two maps are where a network joins them, known as
            ``"residual"``, ``"skip"`` and ``"neck"``; any other pattern names those at a module, or within it.

    Raises:
        PlaceError: If a pattern matches nothing, or only what cannot carry attention; with the nearest names.
    """
    seen = watch(model, default_example(model) if example is None else example)
    names = {path: host_path(model, path) for path in host_modules(model)}
    presets = PRESETS if kind == "attention" else PAIRED[kind]

    def matching(pattern: At, *, leave: bool = False) -> list[Spot]:
        if kind != "attention" and not (isinstance(pattern, str) and pattern in presets):
            return _meeting(pattern, seen, presets)
        return _matching(pattern, seen, names, presets, leave=leave)

    chosen = list[Spot]()
    for pattern in listed(at):  # no comprehension: it would stand between a warning and the call that it is about
        chosen += matching(pattern)
    without: set[Any] = set()
    for pattern in listed(exclude):  # a preset leaves out its own points, a pattern all points of a module
        left_out = matching(pattern, leave=True)
        by_point = isinstance(pattern, str) and pattern in presets
        without |= {_identity(spot) if by_point else spot.path for spot in left_out}
    kept = [spot for spot in chosen if spot.path not in without and _identity(spot) not in without]
    spots = list({_identity(spot): spot for spot in kept}.values())
    if not spots:
        raise PlaceError("nothing is left: `at` names nothing" + (" that is not excluded" if chosen else ""))
    spots.sort(key=lambda spot: spot.value.serial)
    places = [_place(_named(spot, model), seen, host_name(model, spot.path)) for spot in spots]
    known = resolutions(seen)
    staged = [replace(place, stage=stage_of(place.positions, known)) for place in places]
    return staged if stages is None else of_stages(staged, stages, len(known))


def _named(spot: Spot, model: nn.Module) -> Spot:
    """The same, its partner's module called as the host knows it."""
    partner = spot.point.partner
    if partner is None:
        return spot
    return replace(spot, point=replace(spot.point, partner=replace(partner, path=host_name(model, partner.path))))


def _identity(spot: Spot) -> tuple[str, Point]:
    return spot.path, spot.point


def _matching(
    pattern: At, seen: Pass, names: dict[str, str], presets: Presets = PRESETS, *, leave: bool = False
) -> list[Spot]:
    """The places that a pattern names; of those that are only to be left out, also the ones that would not last."""
    if isinstance(pattern, str) and pattern in presets:
        found = leading(seen, lasting(seen, presets[pattern](seen)))
        if not found.spots:
            reason = f": {found.unusable[0]}" if found.unusable else ""
            kinds = _OTHERS if presets is PRESETS else presets
            others = [name for name in kinds if name != pattern and lasting(seen, presets[name](seen)).spots]
            instead = "try " + " or ".join(f"at='{name}'" for name in others)
            if not others and presets is PRESETS:
                instead = f"try a pattern such as at='{next(iter(names.values()), '*')}'"
            elif not others:
                instead = (
                    "what takes two maps needs a network that joins two, and this one does so nowhere that is seen"
                )
            raise PlaceError(f"no place of the kind '{pattern}' was seen in this network{reason}; {instead}")
        if found.unusable:
            warnings.warn(
                f"'{pattern}' leaves {len(found.unusable)} out and finds {len(found.spots)}: {found.unusable[0]}",
                FoveateWarning,
                stacklevel=5,
            )
        return found.spots
    maps = {path: [call for call in seen.calls_of(path) if _returns_map(call)] for path in names}
    candidates = {names[path]: path for path, calls in maps.items() if calls}
    if callable(pattern):
        modules = {name: seen.modules[path] for name, path in candidates.items()}
        matched = [name for name, module in modules.items() if pattern(name, bare(module))]
        without_map = list[str]()
    else:
        expression = whole(pattern)
        matched = [name for name in candidates if expression.fullmatch(name)]
        without_map = [name for name in names.values() if expression.fullmatch(name) and name not in candidates]
    if not matched and without_map:
        raise PlaceError(
            f"{shown(pattern)} matches {', '.join(without_map[:3])}, which returned no feature map "
            "(batch, channels, height, width) in the pass that was watched"
        )
    if not matched:
        near = wider(pattern, list(candidates))
        near = near or (nearest(pattern, dict.fromkeys((*PRESETS, *candidates))) if isinstance(pattern, str) else "")
        raise PlaceError(f"{shown(pattern)} matches no module of this network; {near}".rstrip("; "))
    spots = [made_by_call(seen, maps[candidates[name]][0]) for name in matched]
    found = lasting(seen, Found(spots, []))
    if leave:
        return spots
    if found.unusable:
        raise PlaceError(f"{shown(pattern)} matches what will not last: {found.unusable[0]}")
    return found.spots


def _returns_map(call: Call) -> bool:
    return call.alone and len(call.returned[0].shape) >= 3


def _meeting(pattern: At, seen: Pass, presets: Presets) -> list[Spot]:
    """The places for what takes two maps at the modules that a pattern names, or within them."""
    if isinstance(pattern, str) and pattern in PRESETS:
        known = ", ".join(f"'{name}'" for name in presets)
        raise PlaceError(f"what takes two maps stands where a network joins two, at {known}; not at '{pattern}'")
    found = [leading(seen, lasting(seen, preset(seen))) for preset in presets.values()]
    spots = list({_identity(spot): spot for one in found for spot in one.spots}.values())
    expression = None if callable(pattern) else whole(pattern)

    def named(path: str) -> bool:
        name = known_as(path)
        if expression is not None:
            return expression.fullmatch(name) is not None
        return callable(pattern) and path in seen.modules and bool(pattern(name, bare(seen.modules[path])))

    def around(path: str) -> list[str]:
        parts = path.split(".")
        return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]

    matched = [spot for spot in spots if any(map(named, around(spot.path)))]
    if not matched:
        called = pattern if isinstance(pattern, str) else getattr(pattern, "pattern", getattr(pattern, "__name__", ""))
        reason = next((one.unusable[0] for one in found if one.unusable), "")
        known = ", ".join(dict.fromkeys([*presets, *(known_as(spot.path) for spot in spots[:3])]))
        raise PlaceError(
            f"'{called}' names no module where two maps are joined; known: {known}{f'; {reason}' if reason else ''}"
        )
    return matched


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
