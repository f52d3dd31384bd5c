"""Resolutions: the stages of a network's way down, the skips of its way up, the levels of its pyramid."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from foveate.surgery.attended import ATTENTION, Attended
from foveate.surgery.places.passes import Call, Pass, Value
from foveate.surgery.places.residuals import joins
from foveate.surgery.places.spots import (
    ADDITIONS,
    CONVOLUTIONS,
    JOINS,
    Found,
    Spot,
    at_input,
    at_output,
    bare,
    known_as,
    made_by,
    nested,
    outermost,
    usable,
    within,
    within_attention,
)

_Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d


def stage(seen: Pass) -> Found:
    """The end of each resolution, on the network's way down."""
    runs: list[list[tuple[Call, Value]]] = []
    for call, value in _chain(seen, seen.root):
        if (
            not call.alone
            or _is_answer(seen, value)
            or len(value.shape) != seen.axes
            or (runs and value.positions == 1)
        ):
            continue
        if runs and value.positions > runs[-1][-1][1].positions:
            break  # the way up again
        if runs and value.positions == runs[-1][-1][1].positions:
            runs[-1].append((call, value))
        else:
            runs.append([(call, value)])
    joined = [join.total.positions for join in joins(seen) if join.total.is_map]
    spots = list[Spot]()
    for number, run in enumerate(runs):
        layers = sum(len(_convolved(seen, call)) for call, _ in run)
        stem = number == 0 and layers < 2
        if layers and (run[0][1].positions in joined if joined else not stem):
            call, value = next(((c, v) for c, v in reversed(run) if usable(seen, c)), run[-1])
            spots.append(at_output(seen, call, value))
    return Found(spots, [])


def resolutions(seen: Pass) -> list[int]:
    """How many positions the maps of each of the network's stages have, stage 1 first.

    A stage is one resolution of the whole network: one at which its convolutions return maps. Stage 1 is the one at
    which the preset ``"stage"`` finds its first end; what is finer than that is a stem, or the end of a decoder.
    """
    made = [value for value in seen.values if value.operation in CONVOLUTIONS]
    inside = {value.call for value in made if value.call and isinstance(seen.modules.get(value.call.path), Attended)}
    kept = [v for v in made if v.call is not None and v.call not in inside and not _of_attention(seen, v.call)]
    for call in seen.calls:  # where something stands in a convolution's place, it may compute its map in another way
        if isinstance(bare(seen.modules[call.path]), _Convolution) and not _of_attention(seen, call):
            kept += call.returned
    maps = [value for value in kept if value.is_map and len(value.shape) == seen.axes]
    found = sorted({value.positions for value in maps if value.positions > 1}, reverse=True)
    first = max((spot.value.positions for spot in stage(seen).spots), default=0)
    return [positions for positions in found if positions <= first] or found or [1]


def _of_attention(seen: Pass, call: Call) -> bool:
    """Whether a call is one of attention, the network's own or attached: its maps need no resolution of the network."""
    return ATTENTION in call.path.split(".") or within_attention(seen, call, itself=True)


def stage_of(positions: int, stages: list[int]) -> int:
    """The stage of a map: that of its resolution, or of the next finer one; 0 for what is finer than stage 1."""
    return sum(positions <= one for one in stages)


def _chain(seen: Pass, call: Call) -> Iterator[tuple[Call, Value]]:
    """The modules that a network runs one after the other, each with the one resolution that it ends at."""
    for child in call.children:
        if within_attention(seen, child):
            continue
        given = {value.positions for value in child.given.values() if value.positions}
        own = [value for value in child.returned if value.is_map]
        ends = {value.positions for value in own}
        # one position is no resolution, but a pooled map inside a gate
        inside = {value.positions for value in _convolved(seen, child) if value.positions > 1}
        down_and_up = bool(inside and ends) and min(inside) < min(ends | given)
        if len(inside - given) > 1 or len(ends) > 1 or down_and_up:
            yield from _chain(seen, child)
        elif own:
            yield child, own[0]


def _convolved(seen: Pass, call: Call) -> list[Value]:
    """What the convolutions inside a call returned."""
    made = seen.values[call.start : call.end]
    return [value for value in made if value.operation in CONVOLUTIONS and len(value.shape) == seen.axes]


def _is_answer(seen: Pass, value: Value) -> bool:
    """Whether the network returns it as it is or resized: class scores of each position, say."""
    return any(out.is_map and out.depth == value.depth for out in seen.root.returned)


def skip(seen: Pass) -> Found:
    """The encoder's map in every join of a decoder with it, and nowhere else."""
    for operations in (JOINS, ADDITIONS):  # a sum inside a network that joins by concatenation is no skip
        spots, unusable = list[Spot](), list[str]()
        for total in seen.values:
            if total.operation not in operations or len(total.shape) != seen.axes or total.call is None:
                continue
            parts = [value for value in total.sources if value.is_map]
            # from coarser maps that were looked at in space, as those of a pooling branch are not
            up = [value for value in parts if value.came_up]
            for value in parts:
                if value in up or value.depth == 0 or not any(other.reach > value.reach for other in up):
                    continue
                found = _only_way(seen, value, total)
                if found is None:
                    where = f"'{known_as(total.call.path)}'" if total.call.path else "the network's own forward"
                    unusable.append(f"no module sees the skip that meets the decoder in {where}")
                else:
                    spots.append(found)
        if spots or unusable:
            return Found(spots, unusable)
    return Found([], [])


def _only_way(seen: Pass, value: Value, total: Value) -> Spot | None:
    """Where attention acts on a map as it enters a join, and not where else the map goes."""
    made = made_by(seen, value, seen.root, through=False)
    if made is not None and value.uses == [total]:
        return made
    block = total.call
    while block is not None and block.parent is not None:  # an argument of a decoder block that only joins it
        if value in block.given.values() and all(use is total for use in value.uses if within(use, block)):
            argument = next(key for key, given in block.given.items() if given is value)
            if not nested(argument):
                return at_input(seen, block, value, argument)
        block = block.parent
    if total.operation in JOINS and total.axis == value.axis:  # its channels in what the next module is given
        if sum(part.channels for part in total.sources) != total.channels:  # joined along another axis
            return None
        takers = outermost(call for call in seen.calls if call.start > total.serial and call.first is total)
        first = 0
        for part in total.sources:
            if part is value:
                break
            first += part.channels
        if len(takers) == 1 and all(within(use, takers[0]) for use in total.uses):
            return at_input(seen, takers[0], value, channels=(first, first + value.channels))
    return None


def neck(seen: Pass) -> Found:
    """The maps of a feature pyramid: of several resolutions, handed on together, some made from coarser ones."""
    levels = next((group for group in _groups(seen) if _is_pyramid(group, seen.axes)), [])
    if not levels:  # nothing takes or returns the pyramid as a whole: the sums of its top-down way, of equal channels
        for total in seen.values:
            parts = [value for value in total.sources if value.is_map]
            up = [value for value in parts if value.came_up]
            if total.operation in ADDITIONS and len(parts) == 2 and len(up) == 1 and len(total.shape) == seen.axes:
                levels.append(total)
        if len({value.channels for value in levels}) != 1 or len(levels) < 2:
            return Found([], [])
    spots, unusable = list[Spot](), list[str]()
    for value in levels:
        made = made_by(seen, value, seen.root)
        if made is not None:
            spots.append(made)
        elif value.came_up:
            unusable.append(f"the level of {'×'.join(map(str, value.size))} is made by no module")
    return Found(spots, unusable)


def _groups(seen: Pass) -> Iterator[list[Value]]:
    """Maps that a module returns together, or is given in one argument."""
    for call in seen.calls:
        yield list(dict.fromkeys(call.returned))
        arguments: dict[str, list[Value]] = {}
        for key, value in call.given.items():
            name, nested, _ = str(key).partition("[")
            if nested:
                arguments.setdefault(name, []).append(value)
        yield from arguments.values()


def _is_pyramid(group: list[Value], axes: int) -> bool:
    sizes = {value.positions for value in group}
    whole = len(group) > 1 and all(value.is_map and len(value.shape) == axes for value in group)
    return whole and len(sizes) == len(group) and any(value.came_up for value in group)
