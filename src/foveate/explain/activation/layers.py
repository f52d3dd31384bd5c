"""Which layer a class activation map is made of, for any host: read from one forward pass."""

from __future__ import annotations

from typing import Any

from torch import nn

from foveate.errors import PlaceError
from foveate.surgery.places.passes import LAYERS, Pass, Value
from foveate.surgery.places.watch import watch
from foveate.surgery.unwrap import unwrapped


def target_layer(network: nn.Module, example: Any) -> str:
    """The path of the module whose output a class activation map weighs.

    Of a network that pools, the last one that returns a map of more than one position before pooling. Of one that
    answers with maps or boxes, the turning point, where positions know most of what is around them: the coarsest map
    that something finer is made from, as a U-Net's bridge or the top of a pyramid. Where nothing becomes finer (SSD),
    the last map that all later layers are computed from. The outermost module that returns this map is taken, so that
    attention at its end is in it.

    Args:
        network: Any network on images.
        example: What it runs on, one image is enough; a list of images for a detector.

    Raises:
        PlaceError: If the network does not run on the example, or no module returns such a map.

    Example:
        >>> import torch
        >>> from foveate import hosts
        >>> target_layer(hosts.build("foveate/resnet8", classes=10), torch.zeros(1, 3, 32, 32))
        'layer3'
    """
    network = unwrapped(network)
    seen = watch(network, example)
    layer = _before_pooling(seen) if _answers_once(seen) else _turning(seen) or _narrowest(seen)
    if layer is None:
        raise PlaceError(
            "no module of this network returns a map of more than one position that its answer is made of; name the "
            "one to look at with layer="
        )
    return layer


def _answers_once(seen: Pass) -> bool:
    """Whether the answer is numbers, one set an image, and no map, list or dictionary."""
    return seen.root.alone and all(value.positions <= 1 for value in seen.root.returned)


def _before_pooling(seen: Pass) -> str | None:
    maps = (value for value in reversed(seen.values) if value in seen.live and value.is_map and value.positions > 1)
    return next((path for path in (_path(seen, value) for value in maps) if path), None)


def _turning(seen: Pass) -> str | None:
    """The coarsest map that something finer is made from, the last of several; pooled cells of a pyramid aside."""
    coarse = [
        source
        for value in seen.values
        if value in seen.live
        for source in value.sources
        if _same_axes(seen, source, value) and 1 < source.positions < value.positions and _unpooled(source)
    ]
    # what attention makes on the way to its gates may be coarser still, and is no module's answer
    first = sorted(set(coarse), key=lambda value: (value.positions, -value.serial))
    return next((path for value in first if (path := _made_by(seen, value))), None)


def _made_by(seen: Pass, value: Value) -> str | None:
    """The path of what made a map, or of what made the map of this size that it was made from."""
    deepest = max((value.depth for value in seen.root.returned), default=0)
    while value.depth >= deepest or not _path(seen, value):  # the answer itself, or made by no module
        before = [one for one in value.sources if one.is_map and one.positions == value.positions]
        if not before:
            return None
        value = max(before, key=lambda one: one.depth)
    return _path(seen, value)


def _narrowest(seen: Pass) -> str | None:
    """The last map that all layers after it are computed from, through whatever branches."""
    layers = [value for value in seen.values if value.from_input and value.operation in LAYERS]
    for value in reversed(seen.values):
        if value.is_map and value.positions > 1 and value in seen.live and _path(seen, value):
            after = {one for one in layers if one.serial > value.serial}
            if after and after <= _made_from(value):
                return _path(seen, value)
    return None


def _path(seen: Pass, value: Value) -> str:
    """The outermost module that returns the map alone and runs once; poolings and the network itself aside."""
    makers = [
        call
        for call in value.makers
        if call.alone
        and call is not seen.root
        and len(seen.calls_of(call.path)) == 1
        and "Pool" not in type(seen.modules[call.path]).__name__
    ]
    return min(reversed(makers), key=lambda call: call.start).path if makers else ""  # of several, the outer one


def _same_axes(seen: Pass, *values: Value) -> bool:
    """Whether all are maps with the axes of the network's first, and not those that a head rearranged."""
    return all(value.is_map and len(value.shape) == seen.axes for value in values)


def _unpooled(value: Value) -> bool:
    """Whether a way leads to it from the input that is not pooled to a fixed number of cells."""
    ahead, reached = [value], set[Value]()
    while ahead:
        one = ahead.pop()
        if one in reached or one.operation.startswith("adaptive_"):
            continue
        reached.add(one)
        before = [source for source in one.sources if source.from_input and source.positions > 1]
        if not before:
            return True
        ahead += before
    return False


def _made_from(value: Value) -> set[Value]:
    ahead, reached = [value], set[Value]()
    while ahead:
        one = ahead.pop()
        if one not in reached:
            reached.add(one)
            ahead += one.uses
    return reached
