"""Baking: an attended network as plain modules that need nothing but PyTorch."""

from __future__ import annotations

import copy
import inspect
import operator
from collections.abc import Hashable, Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim
from torch.fx.proxy import GraphAppendingTracer
from torch.utils._pytree import tree_leaves, tree_map

from foveate.errors import FoveateError, PlaceError
from foveate.registry import Spec
from foveate.surgery.attach import HOOKS, replace_module
from foveate.surgery.attended import Absent, attachments, attended_places, host_path
from foveate.surgery.places.watch import arguments
from foveate.surgery.point import Seat, Side
from foveate.surgery.unwrap import unwrapped

_OURS = __name__.partition(".")[0]
_NOTES = f"_{_OURS}"
Signature = tuple[int, tuple[str, ...]]  # how a module was called: so many arguments by position, these by keyword


def bake(model: nn.Module, example: Any = None) -> nn.Module:
    """A copy of an attended network for people who do not have foveate: plain modules, the same outputs bit for bit.

    Every attended module becomes an FX graph of PyTorch's own operations around the host's module, or in its place:
    a convolution that is replaced is not in the copy. The copy pickles, with ``torch.save(baked, file)``, and runs
    where foveate is not installed. It is for inference: batch normalisation inside attention uses its statistics for
    good. Attachments that are disabled are left out.

    Attention cannot be folded into the host's weights, as a norm can: its weights depend on the input.

    A graph belongs to the device and the type of the network when it was baked. The keys of the host's modules that
    carry attention gain a level, ``bn.host.weight``; all others stay.

    Args:
        model: An attended network; it is left as it is.
        example: An input, to compare the two networks with at the end; a tuple of positional or a dictionary of
            keyword arguments for a network that takes several. Needed where an attended module takes ``*args``,
            ``**kwargs`` or a default that no graph can hold: the copy's is then called as in the example, and only so.

    Returns:
        The copy, in evaluation mode.

    Raises:
        OptionError: If it is no network.
        PlaceError: If nothing is attached.
        FoveateError: If attention cannot be captured exactly, the host itself needs foveate, or it is not known how an
            attended module is called.

    Example:
        >>> import foveate, torch
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()).eval()
        >>> images = torch.randn(2, 3, 9, 9)
        >>> baked = bake(foveate.attach(model, "se", at="0", start="paper", example=images))
        >>> torch.equal(baked(images), model(images)), type(baked[1]).__name__
        (True, 'ReLU')
    """
    inner = unwrapped(model)
    if not attachments(inner):
        raise PlaceError("nothing is attached to this network, so there is nothing to bake")
    joined = next((path for path, place in attended_places(inner).items() if place.foveate_slots), None)
    if joined is not None:
        raise FoveateError(
            f"'{host_path(inner, joined)}' carries what joins two maps, of which another module has the other, and a "
            "graph of one module cannot hold that: export the whole network with torch.export"
        )
    expected, calls = _run(inner, example) if example is not None else ([], {})
    baked = copy.deepcopy(inner).eval()
    graphs: dict[Hashable, fx.GraphModule] = {}
    with torch.inference_mode(False), torch.no_grad():
        for path, place in sorted(attended_places(baked).items(), key=lambda item: -item[0].count(".")):
            where = host_path(baked, path)
            acting = [
                (key, seat)
                for key, seat in place.foveate_seats.items()
                if seat.attachment not in place.foveate_disabled
            ]
            captured = [(key, seat, _captured(place.foveate[key], seat, where, graphs)) for key, seat in acting]
            host = nn.Identity() if isinstance(place.foveate_host, Absent) else place.foveate_host
            replace_module(baked, place, _joined(host, captured, where, calls.get(path)) if captured else host)
    _forget(baked)
    strangers = [path for path, module in baked.named_modules() if type(module).__module__.partition(".")[0] == _OURS]
    if strangers:
        raise FoveateError(
            f"the host itself is made of foveate's modules, such as '{strangers[0] or type(baked).__name__}', and "
            "cannot be freed of foveate"
        )
    if example is not None:
        _compare(expected, _run(baked, example)[0])
    return baked


def _captured(attention: nn.Module, seat: Seat, where: str, graphs: dict[Hashable, fx.GraphModule]) -> fx.GraphModule:
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


def _joined(
    host: nn.Module, captured: list[tuple[str, Seat, fx.GraphModule]], where: str, calls: set[Signature] | None
) -> fx.GraphModule:
    """The wrapper's forward pass, written out for what sits there."""
    graph = fx.Graph()
    tracer = GraphAppendingTracer(graph)
    root: dict[str, Any] = {}
    for key, _, module in captured:
        root[f"attention.{key}"] = module
    given, keywords = _parameters(host, where, calls)
    values: dict[str, Any] = {
        name: fx.Proxy(graph.placeholder(name, default_value=default), tracer) for name, default in given.items()
    }
    positions = [name for name in values if name not in keywords]

    def acting(side: Side) -> Iterator[tuple[Seat, Any]]:
        for key, seat, _ in captured:
            if seat.point.side == side:
                yield seat, lambda x, key=key: tracer.create_proxy("call_module", f"attention.{key}", (x,), {})

    def meant(seat: Seat) -> str:
        at = seat.point.argument
        return at if isinstance(at, str) else next(iter(positions[at:]), "")

    for seat, attention in acting("input"):
        if meant(seat) in values:
            values[meant(seat)] = seat.point.act(attention, values[meant(seat)])
    # before the host, which may change its input in place
    changes = [
        seat.point.act(attention, values[meant(seat)]) - values[meant(seat)] for seat, attention in acting("shortcut")
    ]
    args = tuple(values[name] for name in positions)
    y: Any = None
    for _, attention in acting("instead"):
        y = attention(values[positions[0]])
    if y is None:
        root["host"] = host
        y = tracer.create_proxy("call_module", "host", args, {name: values[name] for name in keywords})
    for change in changes:
        y = y + change
    for seat, attention in acting("output"):
        y = seat.point.act(attention, y)
    graph.output(y.node)
    return fx.GraphModule(root, graph)


def _parameters(host: nn.Module, where: str, calls: set[Signature] | None) -> tuple[dict[str, Any], list[str]]:
    """What a module takes, with defaults, and which of it by keyword alone; or how it was called."""
    declared = list(inspect.signature(host.forward).parameters.values())
    required = [one for one in declared if one.default is one.empty]
    open_ended = [one for one in declared if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    sayable = all(one.default is one.empty or _is_constant(one.default) for one in declared)
    if sayable and not open_ended and declared[: len(required)] == required:
        by_keyword = [one.name for one in declared if one.kind is one.KEYWORD_ONLY]
        return {one.name: one.default for one in declared}, by_keyword
    what = f"'{where}' ({type(host).__name__}) takes {inspect.signature(host.forward)}, which no graph can hold"
    if not calls:
        raise FoveateError(f"{what}: give bake an example, so that it is seen how it is called; it is not baked")
    if len(calls) > 1:
        raise FoveateError(f"{what}, and is called in several ways: it is not baked")
    count, keywords = next(iter(calls))
    names = [one.name for one in declared if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)][:count]
    more = (f"{one.name}_{number}" for one in open_ended for number in range(count))  # *args comes before **kwargs
    names += [next(more) for _ in range(count - len(names))]
    return dict.fromkeys([*names, *keywords], inspect.Parameter.empty), list(keywords)


def _is_constant(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_constant, value))
    return isinstance(value, bool | int | float | str | torch.dtype | None)


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


def _forget(model: nn.Module) -> None:
    """Remove what attaching, freezing and whatever else of ours left on the network beside the wrappers."""
    for module in model.modules():
        for hook in module.__dict__.pop(HOOKS, ()):
            hook.remove()
        for note in [key for key in module.__dict__ if key.startswith(_NOTES)]:
            del module.__dict__[note]


def _run(model: nn.Module, example: Any) -> tuple[list[Any], dict[str, set[Signature]]]:
    """What a network returns in evaluation, and how each attended module was called. The network stays as it was."""
    args, kwargs = tree_map(lambda value: value.clone() if isinstance(value, Tensor) else value, arguments(example))
    calls: dict[str, set[Signature]] = {}

    def noting(path: str) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            calls.setdefault(path, set()).add((len(args), tuple(sorted(kwargs))))

        return hook

    training = {module: module.training for module in model.modules()}
    places = attended_places(model).items()
    hooks = [place.register_forward_pre_hook(noting(path), with_kwargs=True) for path, place in places]
    try:
        with torch.no_grad():
            return tree_leaves(model.eval()(*args, **kwargs)), calls
    finally:
        for hook in hooks:
            hook.remove()
        for module, flag in training.items():
            module.training = flag


def _compare(expected: list[Any], found: list[Any]) -> None:
    pairs = list(zip(expected, found, strict=True))
    if not all(torch.equal(one, other) if isinstance(one, Tensor) else one == other for one, other in pairs):
        raise FoveateError("the baked network returns something else for the example: it was not baked")
