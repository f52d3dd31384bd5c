"""Meetings: where a network joins two maps, so that what takes two can join them in its place.

The addition itself is in the host's code, which nothing here touches. What a fusion changes is the operand that comes
last, by as much as the fusion differs from the sum; the other operand was seen before. Where the last operand is no
module's output and the sum is, the fusion changes the sum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from foveate.surgery.partner import Partner
from foveate.surgery.places.passes import Call, Pass, Value
from foveate.surgery.places.residuals import joins
from foveate.surgery.places.spots import (
    ADDITIONS,
    JOINS,
    Found,
    Spot,
    at_input,
    at_output,
    host_of,
    inside,
    known_as,
    nested,
    outermost,
    usable,
    within,
    within_attention,
)

_IN_PLACE = {"add_", "__iadd__", "iadd"}


def fused_residual(seen: Pass) -> Found:
    """Every residual addition: the branch first, the shortcut second."""
    spots, unusable = list[Spot](), list[str]()
    for join in joins(seen):
        if join.branch.is_map and len(join.branch.shape) == seen.axes:
            _sort(_meeting(seen, join.branch, join.shortcut, join.total, join.block), spots, unusable)
    return _whole(seen, spots, unusable)


def fused_skip(seen: Pass) -> Found:
    """Every addition of an encoder's map in a decoder: the encoder's first, what came up second."""
    spots, unusable = list[Spot](), list[str]()
    for total, skip, up in _skips(seen, ADDITIONS):
        if total.call is not None and len(total.sources) == 2 and skip.shape == up.shape == total.shape:
            _sort(_meeting(seen, skip, up, total, total.call), spots, unusable)
    if not spots and not unusable and _skips(seen, JOINS):
        unusable.append(
            "its decoder joins the skips by concatenation, which keeps both maps, and a fusion stands for an addition; "
            "attention_gate gates a skip"
        )
    return _whole(seen, spots, unusable)


def fused_neck(seen: Pass) -> Found:
    """Every addition of a pyramid's top-down way: the map of this level first, what came up second."""
    spots, unusable = list[Spot](), list[str]()
    for total in _outside_attention(seen):
        parts = [value for value in total.sources if value.is_map]
        up = [value for value in parts if value.came_up]
        alike = len({value.shape for value in total.sources}) == 1 and len(total.shape) == seen.axes
        if total.operation in ADDITIONS and len(parts) == len(total.sources) == 2 and len(up) == 1 and alike:
            lateral = next(value for value in parts if value is not up[0])
            if total.call is not None and lateral.depth:
                _sort(_meeting(seen, lateral, up[0], total, total.call), spots, unusable)
    return _whole(seen, spots, unusable)


def gated_skip(seen: Pass) -> Found:
    """The encoder's map in every join of a decoder with it, guided by the map that it is to join."""
    for operations in (JOINS, ADDITIONS):
        spots, unusable = list[Spot](), list[str]()
        for total, skip, up in _skips(seen, operations):
            _sort(_gated(seen, skip, up, total), spots, unusable)
        if spots or unusable:
            return _whole(seen, spots, unusable)
    return Found([], [])


PAIRED: dict[str, dict[str, Callable[[Pass], Found]]] = {
    "fusion": {"residual": fused_residual, "skip": fused_skip, "neck": fused_neck},
    "gate": {"skip": gated_skip},
}


def _sort(found: Spot | str, spots: list[Spot], unusable: list[str]) -> None:
    if isinstance(found, Spot):
        spots.append(found)
    else:
        unusable.append(found)


def _outside_attention(seen: Pass) -> Iterable[Value]:
    return (total for total in seen.values if not within_attention(seen, total.call, itself=True))


def _skips(seen: Pass, operations: set[str]) -> list[tuple[Value, Value, Value]]:
    """Joins of a decoder with maps of its encoder: the joined map, the encoder's, and what came up."""
    found = list[tuple[Value, Value, Value]]()
    for total in _outside_attention(seen):
        if total.operation not in operations or len(total.shape) != seen.axes or total.call is None:
            continue
        parts = [value for value in total.sources if value.is_map]
        up = [value for value in parts if value.came_up]
        for value in parts:
            deeper = [other for other in up if other.reach > value.reach]
            if value not in up and value.depth and deeper:
                found.append((total, value, max(deeper, key=lambda other: other.reach)))
    return found


def _meeting(seen: Pass, lead: Value, other: Value, total: Value, block: Call) -> Spot | str:
    """Where a fusion acts for one addition, or why it cannot."""
    inside = f"'{known_as(block.path)}'" if block.path else "the network's own forward"
    where = f"the addition in {inside}"
    if lead is other:
        return f"{where} adds a map to itself"
    copied = total if total.operation in _IN_PLACE else None
    earlier, later = sorted((lead, other), key=lambda value: _since(value, block))
    # what an identity hands on comes late, and was there before: the block was given it
    for last, first in ((later, earlier), (earlier, later)):
        call = _handed_on(seen, last, block)
        if call is not None and last.uses == [total]:
            partner = _seen_at(seen, first, block, copied, leads=first is lead, before=call)
            if partner is not None:
                return _paired(at_output(seen, call, last), partner, first)
    around = _returning(seen, total, block)
    if around is not None:
        for known in (later, earlier):
            partner = _seen_at(seen, known, block, copied, leads=known is lead)
            if partner is not None:
                return _paired(at_output(seen, around, total), replace(partner, summed=True), known)
    call = _handed_on(seen, later, block)
    if call is not None and later.uses != [total]:
        return f"the map that comes last to {where} goes elsewhere too, where it has to stay as it is"
    if call is None:
        return f"the map that comes last to {where} is what an operation made, not a module, and so is their sum"
    return f"the map that comes first to {where} is neither what a module returned nor what the block was given"


def _since(value: Value, block: Call) -> int:
    """When a map is there for a block: when it was made, or handed on by a module of the block."""
    handed = [call.end for call in value.returned_by if inside(call, block)]
    return max([value.serial, *handed])


def _paired(spot: Spot, partner: Partner, value: Value) -> Spot:
    return replace(spot, point=replace(spot.point, partner=partner), partner=value)


def _handed_on(seen: Pass, value: Value, block: Call) -> Call | None:
    """The last module within a block that returned a map as it is: after a dropout, which is none in evaluation."""
    calls = [call for call in value.returned_by if inside(call, block) and call.alone]
    if not calls or not usable(seen, calls[-1]):
        return None
    return calls[-1]


def _returning(seen: Pass, total: Value, block: Call) -> Call | None:
    """The module that returns a sum as it is, where nothing else is made of the sum inside of it."""
    call = block
    if call.parent is None or call.returned != [total] or not call.alone or not usable(seen, call):
        return None
    return None if any(within(use, call) for use in total.uses) else call


def _seen_at(
    seen: Pass, value: Value, block: Call, copied: Value | None, *, leads: bool, before: Call | None = None
) -> Partner | None:
    """Where a map is seen within a block: what a module in it returned, or what the block was given."""
    into = copied is not None and copied.sources[0] is value
    argument = next((key for key, given in block.given.items() if given is value), None)
    call = _handed_on(seen, value, block)
    if call is not None and (before is None or seen.calls.index(call) < seen.calls.index(before)):
        path = at_output(seen, call, value).path
        return Partner(path, "output", value.channels, axis=value.axis, leads=leads, copied=into)
    if argument is None or nested(argument) or block.parent is None or not usable(seen, block):
        return None
    return Partner(host_of(block.path), "input", value.channels, argument, value.axis, leads=leads, copied=into)


def _gated(seen: Pass, skip: Value, up: Value, total: Value) -> Spot | str:
    """Where a gate acts on a skip as it enters a join and nowhere else, and where its guide is seen before."""
    block = total.call
    while block is not None and block.parent is not None:  # an argument of a decoder block that only joins it
        argument = next((key for key, given in block.given.items() if given is skip), None)
        if argument is not None and not nested(argument) and usable(seen, block):
            only = all(use is total for use in skip.uses if within(use, block))
            guides = {key: value for key, value in block.given.items() if value is not skip and value.is_map}
            above = _made_from(up)
            guide = next((key for key, value in guides.items() if value in above and not nested(key)), None)
            spot = at_input(seen, block, skip, argument) if only and guide is not None else None
            if spot is not None and guide is not None and spot.path == host_of(block.path):
                coarse = guides[guide]
                return _paired(spot, Partner(spot.path, "input", coarse.channels, guide, coarse.axis), coarse)
        block = block.parent
    if total.operation in JOINS and total.axis == skip.axis == up.axis:
        spot = _in_joined(seen, skip, up, total)
        if spot is not None:
            return spot
    block = total.call if total.call is not None else seen.root
    made = _handed_on(seen, skip, block)
    guide = _seen_at(seen, up, block, None, leads=False)
    if made is not None and guide is not None and skip.uses == [total] and _since(up, block) < _since(skip, block):
        return _paired(at_output(seen, made, skip), guide, up)
    where = f"in '{known_as(block.path)}'" if block.path else "in the network's own forward"
    return f"no module sees the skip that meets the decoder {where} together with what guides it"


def _in_joined(seen: Pass, skip: Value, up: Value, total: Value) -> Spot | None:
    """The skip's channels in what the next module is given, and the guide's beside them."""
    if sum(part.channels for part in total.sources) != total.channels:  # joined along another axis
        return None
    ranges: dict[Value, tuple[int, int]] = {}
    first = 0
    for part in total.sources:
        ranges.setdefault(part, (first, first + part.channels))
        first += part.channels
    takers = outermost(call for call in seen.calls if call.start > total.serial and call.first is total)
    if len(takers) != 1 or not all(within(use, takers[0]) for use in total.uses) or not usable(seen, takers[0]):
        return None
    spot = at_input(seen, takers[0], skip, channels=ranges[skip])
    if spot is None:
        return None
    seen_there = Partner(spot.path, "input", up.channels, spot.point.argument, up.axis, channels=ranges[up])
    return _paired(spot, seen_there, up)


def _made_from(value: Value) -> set[Value]:
    """A map and all that it was made from."""
    reached, ahead = set[Value](), [value]
    while ahead:
        one = ahead.pop()
        if one not in reached:
            reached.add(one)
            ahead += one.sources
    return reached


def _whole(seen: Pass, spots: list[Spot], unusable: list[str]) -> Found:
    """Without the places where modules run more often than the maps of one meeting pass."""
    kept = list[Spot]()
    for spot in spots:
        alike = [one for one in spots if one.path == spot.path and one.point == spot.point]
        partner = spot.point.partner
        paths = (spot.path,) if partner is None else (spot.path, partner.path)
        often = [path for path in paths if len(seen.calls_of(path)) != len(alike)]
        if often:
            unusable.append(f"'{often[0]}' runs elsewhere too, and would hand over the wrong map")
        else:
            kept.append(spot)
    return Found(kept, unusable)
