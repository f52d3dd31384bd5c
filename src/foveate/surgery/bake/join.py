"""The forward pass of one attended module, written out as a graph around the host's module."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, nn
from torch.fx.proxy import GraphAppendingTracer

from foveate.errors import FoveateError
from foveate.surgery.point import Seat, Side

Signature = tuple[int, tuple[str, ...]]  # how a module was called: so many arguments by position, these by keyword


def joined(
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
