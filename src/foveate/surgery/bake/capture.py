"""One attention module as a graph of PyTorch's operations, compared with it at many shapes."""

from __future__ import annotations

import copy
import operator
from collections.abc import Hashable, Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim
from torch.fx.proxy import GraphAppendingTracer

from foveate.errors import FoveateError
from foveate.registry import Spec
from foveate.surgery.point import Seat


def captured(attention: nn.Module, seat: Seat, where: str, graphs: dict[Hashable, fx.GraphModule]) -> fx.GraphModule:
    """The attention as a graph of PyTorch's operations; captured once where several are alike."""
    state = tuple((key, value.shape, value.dtype, value.device) for key, value in attention.state_dict().items())
    alike = (seat.attention, seat.start, seat.point, seat.channels, seat.size, seat.shape, state)
    known = graphs.get(alike) if isinstance(seat.attention, Spec) else None
    if known is None:
        known = _exported(attention, seat, where)
        graphs[alike] = known
    return _with_tensors_of(attention, known)


def _exported(attention: nn.Module, seat: Seat, where: str) -> fx.GraphModule:
    awake = _awake(attention)
    least, tied = int(getattr(attention, "smallest", 1)), getattr(attention, "fixed_size", None)
    fits = seat.shape.least if seat.shape else 1  # no kernel fits on less
    shapes = list(_shapes(seat, least, tied))
    sides = range(2, len(shapes[0]))
    dynamic: dict[int, Any] = {0: Dim.DYNAMIC, **{side: Dim.DYNAMIC for side in sides if tied is None}}
    static = {side for side in sides if all(shape[side] == 1 for shape in shapes)}
    x = _random(shapes[0], attention)
    try:
        dynamic = {axis: size for axis, size in dynamic.items() if axis not in static}
        whole: Any = torch.export.export(awake, (x,), dynamic_shapes=(dynamic,)).module()
    except Exception as error:
        raise FoveateError(
            f"the attention at '{where}' ({seat.attention}) cannot be captured as a graph, and is not baked: "
            f"{type(error).__name__}: {error}"
        ) from error
    graph = _with_tensors_of(awake, fx.GraphModule(whole, _plain(whole.graph)))
    fits_all = True
    for shape in shapes:
        if min(shape[2:]) < fits:
            continue
        x = _random(shape, attention)
        same = torch.equal(graph(x), awake(x))
        if not same and min(shape[2:]) >= least:
            raise FoveateError(
                f"the attention at '{where}' ({seat.attention}) gives other results as a graph, for a map of "
                f"{'×'.join(map(str, shape))}, and is not baked"
            )
        fits_all = fits_all and same
    if not fits_all:
        _refuse_below(graph.graph, least)
        graph.recompile()
    return graph


def _plain(graph: fx.Graph) -> fx.Graph:
    """The operations alone: one tensor in, one out, without the checks of the size it was captured at."""
    plain, copies = fx.Graph(), dict[fx.Node, fx.Node]()
    for node in graph.nodes:
        if node.op == "output":
            plain.output(copies[node.args[0][0]])
        elif node.op == "placeholder" or (node.users and node.target != "_guards_fn"):
            copies[node] = plain.node_copy(node, copies.__getitem__)
            copies[node].meta = {}
    return plain


def _with_tensors_of(attention: nn.Module, graph: fx.GraphModule) -> fx.GraphModule:
    """A graph with this attention's own parameters and buffers; what only the graph has, such as constants, stays."""
    root: dict[str, Any] = {}
    for node in graph.graph.nodes:
        if node.op in ("get_attr", "call_module"):
            read = operator.attrgetter(node.target)
            try:
                root[node.target] = read(attention)
            except AttributeError:
                root[node.target] = read(graph)
    return fx.GraphModule(root, copy.deepcopy(graph.graph))


def _refuse_below(graph: fx.Graph, least: int) -> None:
    """Check the map's size first: a graph gives wrong results where the attention would shrink the map to nothing."""
    x = next(node for node in graph.nodes if node.op == "placeholder")
    with graph.inserting_before(x.next):
        proxy = fx.Proxy(x, GraphAppendingTracer(graph))
        message = f"this attention was baked for maps of at least {least}×{least}"
        torch._assert(proxy.shape[2] >= least, message)  # type: ignore[arg-type]
        torch._assert(proxy.shape[3] >= least, message)  # type: ignore[arg-type]


def _awake(attention: nn.Module) -> nn.Module:
    """A copy with random parameters: one that starts as the identity would hide what a graph does wrong."""
    awake = copy.deepcopy(attention).eval()
    for parameter in awake.parameters():
        parameter.copy_(_random(tuple(parameter.shape), attention))
    return awake


def _shapes(seat: Seat, least: int, tied: tuple[int, int] | None) -> Iterator[tuple[int, ...]]:
    """Shapes to capture and compare at: the first looks like no other number in sight, the others are unlike it."""
    point, channels = seat.point, seat.channels
    if tied is not None:
        yield from ((batch, channels, *tied) for batch in (3, 1, 5))
        return
    count = 2 if point.fold else point.axes - 2
    signal = point.fold and point.axes == 3  # folded to a map of one column
    for batch, sides in (
        (3, (least + 10, least + 12, least + 14)),
        (1, (least, least, least)),
        (2, (least + 1, least + 4, least + 2)),
        (5, (least + 13, least + 3, least + 5)),
        (2, (1, 1, 1)),
        (1, (2, 3, 4)),
        (2, (7, 7, 7)),
    ):
        yield (batch, channels, sides[0], 1) if signal else (batch, channels, *sides[:count])


def _random(shape: tuple[int, ...], like: nn.Module) -> Tensor:
    parameter = next((p for p in like.parameters() if p.is_floating_point()), torch.zeros(()))
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return drawn.to(device=parameter.device, dtype=parameter.dtype)
