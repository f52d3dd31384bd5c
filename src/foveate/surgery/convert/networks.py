"""A whole network's checkpoint: the host's weights into the host, the attention's into attention at its places."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from foveate.attention import Attention
from foveate.errors import FoveateError, PlaceError
from foveate.registry import Spec, spec
from foveate.surgery.attended import ATTENTION, attachments, attended_places, host_path
from foveate.surgery.convert.layouts import LAYOUTS, Layout
from foveate.surgery.convert.meaning import State, spec_for
from foveate.surgery.convert.tensors import fits, layout_called, quoted, read, refuse_known, write
from foveate.surgery.insert import put_in
from foveate.surgery.places import At, Place, find_places
from foveate.surgery.point import Seat
from foveate.surgery.request import check_request, free_name
from foveate.surgery.unwrap import unwrapped


def read_network(
    model: nn.Module,
    state: State,
    layout: str | None,
    options: Mapping[str, Any],
    at: At | Sequence[At],
    example: Any,
) -> nn.Module:
    """Seat a checkpoint's attention in a host, and load the rest into the host. Nothing changes if anything fails.

    Raises:
        FoveateError: If a key, a shape or a place does not fit.
    """
    host = unwrapped(model)
    whole = _bare(state)
    own = host.state_dict()
    chosen, groups = _groups(whole, own, layout)
    places = find_places(host, at, example)
    seats: list[Seat] = []
    modules: list[Attention] = []
    paths: list[str] = []
    check_request(model, chosen.mechanism)  # no new parameters inside data-parallel training
    name = free_name(host, spec(chosen.mechanism), None)
    for prefix, tensors in groups.items():
        place = _place(prefix, places)
        try:
            module = read(tensors, chosen, options, place.channels, place.size)
        except FoveateError as error:
            raise type(error)(f"the attention at '{prefix}': {error}") from error
        if place.path in paths:
            raise PlaceError(f"the checkpoint has two attention modules for the place '{place.path}'")
        paths.append(place.path)
        modules.append(module)
        seats.append(Seat(name, _spec(module, chosen, options), "paper", place.point, place.channels, place.size))
    taken = {f"{prefix}.{key}".lstrip(".") for prefix, tensors in groups.items() for key in tensors}
    rest = _for_host({key: value for key, value in whole.items() if key not in taken}, own, chosen)
    before = {key: value.clone() for key, value in own.items()}
    try:
        host.load_state_dict(rest)
        with torch.inference_mode(False):
            put_in(host, paths, seats, modules)
    except BaseException:
        with torch.no_grad():
            for key, value in own.items():  # these share the host's memory
                value.copy_(before[key])
        raise
    return model


def write_network(model: nn.Module, layout: Layout, attachment: str | None) -> dict[str, Tensor]:
    """The whole state dict of an attended network with the attention's keys as in a layout.

    Raises:
        FoveateError: If there is no such attention, or the layout has no place for some of its weights.
    """
    attended = attended_places(model)
    found = [
        (path, key)
        for path, place in attended.items()
        for key, seat in place.foveate_seats.items()
        if attachment in (None, seat.attachment) and isinstance(seat.attention, Spec)
        if seat.attention.name == layout.mechanism
    ]
    if not found:
        raise FoveateError(
            f"nothing of {layout.mechanism} is attached to this network; attached: "
            f"{', '.join(attachments(model)) or 'nothing'}"
        )
    state = dict(model.state_dict())
    for path, key in found:
        module = attended[path].foveate[key]
        place = host_path(model, path)
        stands = ".".join(filter(None, (place.rpartition(".")[0], layout.stands)))
        if not isinstance(module, Attention):
            raise FoveateError(f"'{place}' carries a {type(module).__name__}, which is none of ours")
        for own in module.state_dict():
            del state[f"{place}.{ATTENTION}.{key}.{own}"]
        for name, value in write(module, layout).items():
            new = f"{stands}.{name}".lstrip(".")
            if new in state:
                raise FoveateError(f"two attention modules would have the key '{new}': name one attachment")
            state[new] = value
    return state


def _bare(state: State) -> dict[str, Tensor]:
    """A checkpoint's tensors without what DataParallel puts before every key."""
    wrapped = bool(state) and all(key.startswith("module.") for key in state)
    return {key.removeprefix("module.") if wrapped else key: value for key, value in state.items()}


def _groups(whole: State, own: State, layout: str | None) -> tuple[Layout, dict[str, dict[str, Tensor]]]:
    """The layout that explains every key that the host does not have, and the tensors of each module, by its path."""
    refuse_known(whole)
    candidates = [layout_called(layout)] if layout is not None else list(LAYOUTS.values())
    least: list[str] = list(whole)
    for candidate in candidates:
        foreign = {key: value for key, value in whole.items() if _renamed(key, own, candidate) not in own}
        groups: dict[str, dict[str, Tensor]] = {}
        left: list[str] = []
        names = sorted((part.theirs for part in candidate.parts), key=len, reverse=True)
        for key, value in foreign.items():
            name = next((name for name in names if f".{key}".endswith(f".{name}")), None)
            if name is None:
                left.append(key)
            else:
                groups.setdefault(key.removesuffix(name).rstrip("."), {})[name] = value
        left += [
            f"{prefix}.{name}".lstrip(".")
            for prefix, tensors in groups.items()
            if not fits(candidate, tensors)
            for name in tensors
        ]
        if groups and not left:
            return candidate, groups
        least = left if len(left) < len(least) and groups else least
    what = f"the layout {layout}" if layout is not None else "no known layout"
    explains = "does not explain" if layout is not None else "explains"
    raise FoveateError(
        f"{what} {explains} the keys that the host does not have, such as {quoted(least)}; "
        f"layouts: {', '.join(LAYOUTS)}"
    )


def _place(prefix: str, places: Sequence[Place]) -> Place:
    """The place in the smallest block around a module of theirs that has one."""
    names = prefix.split(".") if prefix else []
    for end in range(len(names), -1, -1):
        block = ".".join([*names[:end], ""])
        inside = [place for place in places if place.path.startswith(block)]
        if len(inside) == 1:
            return inside[0]
        if inside:
            choices = ", ".join(place.path for place in inside[:4])
            raise PlaceError(
                f"where the attention at '{prefix}' acts cannot be told: its block has the places {choices}; "
                "name one a block with at=..."
            )
    raise PlaceError(f"the host has no place for the attention at '{prefix}'")


def _for_host(rest: State, own: State, layout: Layout) -> dict[str, Tensor]:
    named = {_renamed(key, own, layout): value for key, value in rest.items()}
    counters = {key: value for key, value in own.items() if key.endswith("num_batches_tracked")}
    complete = {**counters, **named}  # files older than these counters lack them
    if missing := set(own) - set(complete):
        raise FoveateError(f"the checkpoint lacks {quoted(missing)}, which the host has")
    for key, value in complete.items():
        if value.shape != own[key].shape:
            raise FoveateError(
                f"'{key}' has the shape {tuple(value.shape)} in the checkpoint and {tuple(own[key].shape)} in the host"
            )
    return complete


def _renamed(key: str, own: State, layout: Layout) -> str:
    if key in own:
        return key
    for pattern, replacement in layout.renames:
        if (new := re.sub(pattern, replacement, key)) in own:
            return new
    return key


def _spec(module: Attention, layout: Layout, options: Mapping[str, Any]) -> Spec:
    return spec_for(layout.mechanism, module.state_dict(), options)[0]
