"""Finding the convolutions that a mechanism can stand in the place of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from foveate.errors import PlaceError, nearest
from foveate.surgery.attended import host_path
from foveate.surgery.places.example import default_example
from foveate.surgery.places.lasting import lasting
from foveate.surgery.places.passes import Call, Pass
from foveate.surgery.places.patterns import At, host_modules, listed, shown, whole, wider
from foveate.surgery.places.place import Place, of_stages
from foveate.surgery.places.presets import PRESETS
from foveate.surgery.places.resolutions import resolutions, stage_of
from foveate.surgery.places.spots import Found, Spot, bare, known_as, point_at, within_attention
from foveate.surgery.places.watch import watch


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
        stages: Only convolutions of these stages, by the resolution of what they return.
        exclude: Patterns of convolutions to leave out.

    Returns:
        Their places, of the maps that they are given; and in sentences what is left out because it would not last.

    Raises:
        PlaceError: If a pattern names none, with the nearest names.
    """
    seen = watch(model, default_example(model) if example is None else example)
    names = {path: host_path(model, path) for path in host_modules(model)}
    calls = [seen.calls_of(path)[0] for path in names if _convolves(seen, path)]
    calls.sort(key=lambda call: call.returned[0].serial)
    without = {call.path for pattern in listed(exclude) for call in _convolutions_named(pattern, seen, names, calls)}
    named = {call.path for pattern in listed(at) for call in _convolutions_named(pattern, seen, names, calls)}
    chosen = [call for call in calls if call.path in named - without]
    if not chosen:
        raise PlaceError("nothing is left: `at` names nothing" + (" that is not excluded" if named else ""))
    kept = lasting(seen, Found([_in_place_of(call) for call in chosen], []))
    known = resolutions(seen)
    stage = {call.path: stage_of(call.returned[0].positions, known) for call in chosen}
    places = [
        Place(names[spot.path], spot.point, spot.value.shape, spot.value.dtype, spot.value.device, stage[spot.path])
        for spot in kept.spots
    ]
    return places if stages is None else of_stages(places, stages, len(known)), kept.unusable


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
        raise PlaceError(f"'{known_as(call.path)}' is given no map")
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
        found = [call for call in calls if pattern(names[call.path], bare(seen.modules[call.path]))]
    else:
        expression = whole(pattern)
        found = [call for call in calls if expression.fullmatch(names[call.path])]
    if not found:
        known = [names[call.path] for call in calls]
        near = wider(pattern, known) or (
            nearest(pattern, dict.fromkeys(("conv", *known))) if isinstance(pattern, str) else ""
        )
        raise PlaceError(f"{shown(pattern)} matches no two-dimensional convolution that ran; {near}".rstrip("; "))
    return found
