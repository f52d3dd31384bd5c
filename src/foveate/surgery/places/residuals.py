"""Residual blocks: where a branch meets its shortcut, and the four positions around it of the SE paper."""

from __future__ import annotations

from dataclasses import dataclass

from foveate.surgery.attended import Attended
from foveate.surgery.places.passes import Call, Pass, Value
from foveate.surgery.places.spots import (
    ADDITIONS,
    Found,
    Spot,
    at_input,
    at_output,
    bare,
    host_of,
    inside,
    known_as,
    made_by,
    nested,
    outermost,
    point_at,
    pointwise_after,
    rewriter,
    rewrites,
    usable,
    within,
    within_attention,
)

# what a block calls the module on its shortcut, where it can have one and has none
_SHORTCUTS = ("downsample", "shortcut", "proj", "skip", "identity", "conv_skip", "residual", "skip_connection")


@dataclass(frozen=True, eq=False)
class Join:
    """A residual addition: the block that adds, its shortcut, its branch, and their sum."""

    block: Call
    shortcut: Value
    branch: Value
    total: Value


def residual(seen: Pass) -> Found:
    """After the last module of each residual branch."""
    spots, unusable = list[Spot](), list[str]()
    for join in joins(seen):
        if not join.branch.is_map or len(join.branch.shape) != seen.axes:
            continue
        found = made_by(seen, join.branch, join.block)
        if found is None:
            unusable.append(_why_not(seen, join, "ends in an operation, not in a module"))
        else:
            spots.append(found)
    return Found(spots, unusable)


def pre(seen: Pass) -> Found:
    """Before the first module of each residual branch."""
    spots, unusable = list[Spot](), list[str]()
    for join in joins(seen):
        if not join.branch.is_map:
            continue
        on_shortcut = _ancestors(join.shortcut, join.block)
        on_branch = _ancestors(join.branch, join.block)
        fork = max(on_shortcut & on_branch, key=lambda value: value.serial, default=join.block.first)
        takers = outermost(
            call
            for call in seen.calls
            if call.start >= join.block.start
            and inside(call, join.block)
            and fork is call.first
            and on_branch & set(call.returned)
            and not on_shortcut & set(call.returned)
        )
        able = fork is not None and len(takers) == 1 and fork.is_map and usable(seen, takers[0])
        spot = at_input(seen, takers[0], fork) if able and fork is not None else None
        if spot is not None:
            spots.append(spot)
        else:
            what = "no one module that is given its map by itself" if len(takers) < 2 else f"{len(takers)} modules"
            unusable.append(_why_not(seen, join, f"begins with {what}"))
    return Found(spots, unusable)


def _why_not(seen: Pass, join: Join, otherwise: str) -> str:
    around = join.block if rewrites(seen, join.block) else rewriter(seen, join.block)
    if around is None:
        return f"the branch of '{known_as(join.block.path)}' {otherwise}"
    return f"'{known_as(around.path)}' rewrites itself for inference, and would drop what is attached inside"


def post(seen: Pass) -> Found:
    """What each residual block returns."""
    spots, unusable = list[Spot](), list[str]()
    last = {id(join.block): join for join in joins(seen) if join.total.is_map}
    for join in last.values():
        call = join.block
        if call.parent is not None and call.alone and call.returned[0].shape == join.total.shape:
            spots.append(at_output(seen, call, call.returned[0]))
            continue
        after = pointwise_after(join.total)
        made = next((spot for value in after if (spot := made_by(seen, value, call, through=False))), None)
        if made is None:
            unusable.append(f"what follows the addition in '{known_as(call.path)}' is no module")
        else:
            spots.append(made)
    return Found(spots, unusable)


def identity(seen: Pass) -> Found:
    """The shortcut of each residual block."""
    spots, unusable = list[Spot](), list[str]()
    for join in joins(seen):
        if not join.shortcut.is_map:
            continue
        block, value = join.block, join.shortcut
        argument = next((key for key, given in block.given.items() if given is value), None)
        if argument is None:
            spot = made_by(seen, value, block)
        elif nested(argument):
            spot = None
        elif all(use is join.total for use in value.uses if within(use, block)):  # handed to the block for this alone
            spot = at_input(seen, block, value, argument)
        elif block.parent is not None and block.alone and join.total in block.returned:
            spot = Spot(host_of(block.path), point_at("shortcut", value, argument), value)
        else:
            absent = _absent_shortcut(seen, block)
            point = point_at("output", value)
            spot = None if absent is None else Spot(f"{host_of(block.path)}.{absent}".lstrip("."), point, value)
        if spot is not None:
            spots.append(spot)
        else:
            where = known_as(block.path)
            unusable.append(f"the shortcut of '{where}' is no module, and an operation follows the addition")
    return Found(spots, unusable)


def joins(seen: Pass) -> list[Join]:
    """The residual additions: both maps come from the input of the block that adds them, one through more layers."""
    found, totals = list[Join](), set[Value]()
    for total in seen.values:
        block = total.call
        if total.operation not in ADDITIONS or len(total.sources) != 2 or block is None or not block.given:
            continue
        # what attention adds to its input is no join of the host's
        if isinstance(seen.modules[block.path], Attended) or within_attention(seen, block, itself=True):
            continue
        # a branch of as many layers as its shortcut, such as a pooling, differs by not being the block's input; the sum
        # of a join before is the shortcut of the next, as in x + f(x) + g(x)
        first = block.first
        order = sorted(total.sources, key=lambda value: (value not in totals, value.depth, value is not first))
        shortcut, branch = order
        plain = shortcut is first or shortcut in totals
        same_depth = shortcut.depth == branch.depth and (not plain or branch is first or branch in totals)
        if shortcut.shape != branch.shape or len(total.shape) < 3 or same_depth:
            continue
        # an addition of other maps inside a block joins groups of channels, not a branch with its shortcut
        if block.returned and len(block.returned[0].shape) >= 3 and block.returned[0].shape != total.shape:
            continue
        above = _ancestors(shortcut, block)
        given_apart = block.first not in above and any(value in above for value in block.given.values())
        # a decoder that adds an encoder's map comes from coarser ones; where there is a block of its own, it may
        up = branch.came_up and (given_apart or block.parent is None)
        if (block.first in above or given_apart) and not up and block.first in _ancestors(branch, block):
            found.append(Join(block, shortcut, branch, total))
            totals.add(total)
    return found


def _ancestors(value: Value, block: Call) -> set[Value]:
    """A value and what it was made from since a block began, and the block's inputs among that."""
    given = set(block.given.values())
    reached, ahead = set[Value](), [value]
    while ahead:
        one = ahead.pop()
        if one in reached or not (one.serial >= block.start or one in given):
            continue
        reached.add(one)
        if one not in given:
            ahead += one.sources
    return reached


def _absent_shortcut(seen: Pass, block: Call) -> str | None:
    module = bare(seen.modules[block.path])
    has = {*vars(module), *(name for name, _ in module.named_children())}
    return next((name for name in _SHORTCUTS if name in has and getattr(module, name) is None), None)
