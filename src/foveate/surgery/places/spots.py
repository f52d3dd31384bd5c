"""Spots: from what was seen in a forward pass to the module where attention can sit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import nn

from foveate.surgery.attended import HOST, Attended
from foveate.surgery.places.passes import LAYERS, Call, Pass, Value
from foveate.surgery.point import Point, Side

ADDITIONS = {"add", "add_", "__add__", "__radd__", "__iadd__", "iadd"}
JOINS = {"cat", "concat", "concatenate"}
CONVOLUTIONS = {name for name in LAYERS if name.startswith("conv")}
# a module with one of these rewrites its own inside for inference, and would drop what was attached there
_REWRITES = ("forward_fuse", "reparameterize", "switch_to_deploy", "fuse")


@dataclass(frozen=True, eq=False)
class Spot:
    """A place that was found: at which module, where at it, and the map there.

    Attributes:
        path: The module's path in the network as it is now.
        point: Where at the module.
        value: The map that attention acts on.
        partner: The second map, of a place for what takes two.
    """

    path: str
    point: Point
    value: Value
    partner: Value | None = None


@dataclass(frozen=True)
class Found:
    """What a preset found, and what it saw but cannot use: sentences."""

    spots: list[Spot]
    unusable: list[str]


def made_by(seen: Pass, value: Value, block: Call, *, through: bool = True) -> Spot | None:
    """The module in a block that a map comes from last, operations on single values after it aside."""
    while value.serial >= block.start:
        if not value.is_map:
            return None
        for call in value.makers:
            inside = call is not block and call.start >= block.start
            if inside and call.alone and usable(seen, call):
                return at_output(seen, call, value)
        same = [one for one in value.sources if one.from_input and sorted(one.shape) == sorted(value.shape)]
        if len(same) != 1 or not through:
            return None
        value = same[0]
    return None


def usable(seen: Pass, call: Call) -> bool:
    """Whether attention at a module acts once, stays when the network rewrites itself, and is not inside attention."""
    shared = len(seen.calls_of(call.path)) > 1 and not any(True for _ in seen.modules[call.path].parameters())
    return not shared and rewriter(seen, call) is None and not within_attention(seen, call)


def within_attention(seen: Pass, call: Call | None, *, itself: bool = False) -> bool:
    """Whether a call happened inside attention that the network has of its own, or is one."""
    above = call if itself or call is None else call.parent
    while above is not None and above.parent is not None:
        if above.path in seen.attention:
            return True
        above = above.parent
    return False


def rewriter(seen: Pass, call: Call) -> Call | None:
    """The call around one, short of the network's own, of a module that rewrites its inside for inference.

    It would drop, or fold a norm through, what was attached there.
    """
    above = call.parent
    while above is not None and above.parent is not None:
        if rewrites(seen, above):
            return above
        above = above.parent
    return None


def rewrites(seen: Pass, call: Call) -> bool:
    """Whether a module has a method that rewrites its inside for inference."""
    module = bare(seen.modules[call.path])
    return call.parent is not None and any(callable(getattr(module, name, None)) for name in _REWRITES)


def pointwise_after(value: Value) -> Iterator[Value]:
    """A map and what single operations of one map make of it, in turn."""
    yield value
    while len(value.uses) == 1 and value.uses[0].shape == value.shape:
        value = value.uses[0]
        yield value


def within(value: Value, call: Call) -> bool:
    """Whether a value was made during a call."""
    inner = value.call
    while inner is not None and inner is not call:
        inner = inner.parent
    return inner is call


def inside(call: Call, block: Call) -> bool:
    """Whether a call happened during another."""
    above = call.parent
    while above is not None and above is not block:
        above = above.parent
    return above is block


def outermost(calls: Iterable[Call]) -> list[Call]:
    """The calls that did not happen during another of them."""
    listed = list(calls)
    return [call for call in listed if not any(inside(call, other) for other in listed)]


def made_by_call(seen: Pass, call: Call) -> Spot:
    """The place behind one module, whatever the network does there."""
    return at_output(seen, call, call.returned[0])


def at_output(seen: Pass, call: Call, value: Value) -> Spot:
    """The place behind a call: what it returned.

    What a plain ``nn.Sequential`` returns is its last child's: attention sits there, because code that goes through
    its children, as gradient checkpointing does, would pass the container by.
    """
    while type(bare(seen.modules[call.path])) is nn.Sequential and call.children:
        last = call.children[-1]
        if not last.alone or last.returned != [value] or not usable(seen, last) or _elsewhere(seen, last, call):
            break
        call = last
    return Spot(host_of(call.path), point_at("output", value), value)


def at_input(
    seen: Pass,
    call: Call,
    value: Value,
    argument: int | str | None = None,
    channels: tuple[int, int] | None = None,
) -> Spot | None:
    """The place before a call: an argument, or some channels of the first; before a Sequential, its first child.

    ``None`` for a map in a list or dictionary, which is no argument of its own.
    """
    while type(bare(seen.modules[call.path])) is nn.Sequential and call.children:
        first = call.children[0]
        if first.first is not call.first or not usable(seen, first) or _elsewhere(seen, first, call):
            break
        call = first
    if argument is None:
        argument = next(key for key, given in call.given.items() if channels or given is value)
    if nested(argument):
        return None
    return Spot(host_of(call.path), point_at("input", value, argument, channels), value)


def nested(argument: int | str) -> bool:
    """Whether what a call was given lies in a list or dictionary among its arguments."""
    return isinstance(argument, str) and "[" in argument


def _elsewhere(seen: Pass, child: Call, call: Call) -> bool:
    """Whether a child runs outside of the module that was called too."""
    return len(seen.calls_of(child.path)) > len(seen.calls_of(call.path))


def point_at(side: Side, value: Value, argument: int | str = 0, channels: tuple[int, int] | None = None) -> Point:
    """The point of a map at a module: its channels' axis and number of axes are those that were seen."""
    return Point(side, argument, value.axis, len(value.shape), channels=channels)


def host_of(path: str) -> str:
    """The wrapper's path where a wrapped host was seen, so that attention follows what is there already."""
    return path.removesuffix(f".{HOST}")


def known_as(path: str) -> str:
    """A present path as a person knows it, in a sentence: without the wrappers' own level."""
    return ".".join(part for part in path.split(".") if part != HOST)


def bare(module: nn.Module) -> nn.Module:
    """The host's own module, where it carries attention already."""
    return module.foveate_host if isinstance(module, Attended) else module
