"""Questions to the watched pass: which norms follow a convolution at once, and where a gated map meets its shortcut."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _NormBase  # pyright: ignore[reportPrivateUsage]
from torch.nn.modules.conv import _ConvNd  # pyright: ignore[reportPrivateUsage]

from foveate.attention import Gate, Sequence
from foveate.surgery.attended import Attended, attended_places, host_path
from foveate.surgery.optimize.folding import foldable
from foveate.surgery.places.passes import Call, Pass, Value
from foveate.surgery.places.residuals import joins
from foveate.surgery.places.spots import ADDITIONS, known_as, outermost, within

_RELU = {"relu", "relu_"}


@dataclass(frozen=True)
class Pair:
    """A norm and the convolution whose output it alone reads."""

    path: str
    norm: nn.Module
    conv: nn.Module


@dataclass(frozen=True)
class Ending:
    """A gate whose product is added to a shortcut, and whether ReLU follows."""

    path: str
    gate: Gate
    relu: bool


def pairs(seen: Pass) -> Iterator[Pair | str]:
    """Norms that can run within the convolution before them; in a sentence, why another cannot."""
    makers = {id(value): call for call in seen.calls if not call.children for value in call.returned[:1]}
    for path, norm in seen.modules.items():
        calls = seen.calls_of(path)
        if not isinstance(norm, _NormBase) or not calls:
            continue
        before = [makers.get(id(call.first)) for call in calls]
        paths = {call.path for call in before if call}
        conv = seen.modules[paths.pop()] if len(paths) == 1 else None
        made = [call for call in seen.calls if conv is not None and seen.modules[call.path] is conv]
        if not isinstance(conv, _ConvNd) or len(made) != len(calls):
            yield f"'{known_as(path)}': what it is given is not one convolution's, and that one's alone"
        elif not all(_at_once(one, call) for one, call in zip(before, calls, strict=True)):
            yield f"'{known_as(path)}': something comes between the convolution and it, or reads what it reads"
        elif not foldable(conv, norm):
            yield f"'{known_as(path)}': {type(norm).__name__} after {type(conv).__name__} has ways of its own"
        else:
            yield Pair(known_as(path), norm, conv)


def _at_once(conv: Call | None, norm: Call) -> bool:
    """Whether nothing was computed between the two, and nobody else reads what the first returned."""
    if conv is None or norm.first is None or norm.start != conv.end:
        return False
    return all(within(use, norm) for use in norm.first.uses)


def endings(seen: Pass, model: nn.Module) -> Iterator[Ending | str]:
    """Attended places whose last gate can be computed with the addition after it; in a sentence, why another cannot."""
    for path, place in attended_places(model).items():
        calls, where = seen.calls_of(path), f"'{host_path(model, path)}'"
        last = _last_key(place)
        if last is None or not calls:
            continue
        gate = _last_gate(place, last)
        ends = [_ending(call) for call in calls]
        if gate is None:
            yield f"{where}: its attention is not applied as a gate's is, by a product with one set of weights"
        elif None in ends or len(set(ends)) > 1:
            yield f"{where}: what its attention returns is not added to a map at once"
        else:
            yield Ending(where.strip("'"), gate, bool(ends[0]))


def _last_key(place: Attended) -> str | None:
    """The attention that acts on a place's output last; what joins two maps does so after all others."""
    seats = {key: how for key, how in place.foveate_seats.items() if how.point.side == "output"}
    acting = [key for key, how in seats.items() if how.attachment not in place.foveate_disabled]
    return max(acting, key=lambda key: (seats[key].point.partner is not None, acting.index(key)), default=None)


def _last_gate(place: Attended, key: str) -> Gate | None:
    """The gate whose product a place returns as it is."""
    point, last = place.foveate_seats[key].point, place.foveate[key]
    if point.side != "output" or point.partner or point.channels or point.axis != 1 or place.foveate_taps:
        return None
    if point.fold and point.axes != 4:
        return None
    while isinstance(last, Sequence):
        *_, (_, last) = last.steps()
    if not isinstance(last, Gate) or "recalibrate" in vars(last):
        return None
    as_all = type(last).recalibrate is Gate.recalibrate and type(last).forward is Gate.forward
    return last if as_all else None


def _ending(call: Call) -> bool | None:
    """Whether ReLU follows the addition of what a place returned; ``None`` if that is not what comes next."""
    product = call.returned[0] if call.alone else None
    if product is None or len(product.uses) != 1:
        return None
    total = product.uses[0]
    if total.operation not in ADDITIONS or len(total.sources) != 2:
        return None
    shortcut = next((one for one in total.sources if one is not product), product)
    if shortcut.shape != product.shape or not _at_rest(product, total):
        return None
    after = total.uses[0] if len(total.uses) == 1 else None
    return after is not None and after.operation in _RELU and after.serial == total.serial + 1


def _at_rest(product: Value, total: Value) -> bool:
    """Whether nobody touches what the product is made from before the addition, so that it can be computed then."""
    return all(use.serial <= product.serial or use.serial > total.serial for one in product.sources for use in one.uses)


def regions(seen: Pass, model: nn.Module) -> list[nn.Module]:
    """What is worth compiling by itself: residual blocks, or where there are none, attention."""
    blocks = outermost(join.block for join in joins(seen) if join.block.parent is not None)
    if blocks:
        return list({id(module): module for call in blocks for module in [seen.modules[call.path]]}.values())
    return [attention for place in attended_places(model).values() for attention in place.foveate.values()]
