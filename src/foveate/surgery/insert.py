"""Modules put into places of a network, and taken out again."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import torch
from torch import nn

from foveate.errors import FoveateError
from foveate.surgery.attended import HOST, Absent, Attended, attended_places, wrap
from foveate.surgery.checkpoint import answer_for, answer_no_more
from foveate.surgery.fingerprint import forget_host, note_host
from foveate.surgery.point import Seat
from foveate.surgery.seats import present, replacement_at, rest, seat, tap, unseat

Owners = dict[int, list[tuple[nn.Module, str]]]
# of a network that is a wrapper itself: nothing that is seen here holds it, so nothing can stand in its place
PART = "this module carries attention itself, as a part of a larger network: give the network that it is a part of"


def put_in(model: nn.Module, paths: Iterable[str], seats: Iterable[Seat], modules: Iterable[nn.Module]) -> None:
    """Seat modules at places that are known: as they were found, or as a file says.

    Each takes device, type, memory format and training flag from where it comes to stand.

    Args:
        model: The network.
        paths: The modules to attend, as the host's ``state_dict`` has them.
        seats: How each attention module sits there.
        modules: The attention.

    Raises:
        FoveateError: If a module cannot carry attention; nothing was changed.
    """
    listed = list(zip(paths, seats, modules, strict=True))
    for path, how, _ in listed:
        place = wrap(_prepared(model, path))  # refuses here, before the first change
        if how.point.partner is not None:
            wrap(_prepared(model, how.point.partner.path))
        there = replacement_at(place) if how.point.side == "instead" else None
        if there is not None:
            raise FoveateError(f"'{there}' stands in the place of '{path}' already: detach it first")
    note_host(model)
    channels_last = _is_channels_last(model)
    owners = _owners(model)
    for path, how, module in listed:
        host = _prepared(model, path)
        if isinstance(host, Absent):
            parent, _, attribute = path.rpartition(".")
            setattr(model.get_submodule(parent), attribute, host)
        like = _nearest_parameter(model, path)
        if like is not None:
            module.to(device=like.device, dtype=like.dtype)
        if channels_last:
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        attended = wrap(host)
        key = seat(attended, module.train(host.training), how)
        if how.point.side == "instead":
            rest(model, attended)
        if attended is not host:
            replace_module(model, host, attended, None if isinstance(host, Absent) else owners)
        if how.point.partner is not None:
            bare = _prepared(model, how.point.partner.path)
            seen_at = wrap(bare)
            tap(attended, key, seen_at)
            if seen_at is not bare:
                replace_module(model, bare, seen_at, owners)
    answer_for(model, (how.attachment for _, how, _ in listed))


def take_out(model: nn.Module, names: Collection[str]) -> None:
    """Take attachments out of a network, and the wrapper off each module that carries nothing any more.

    Raises:
        FoveateError: If the network is such a module itself; nothing was changed.
    """
    if isinstance(model, Attended) and present(model) <= set(names):
        raise FoveateError(PART)
    places = attended_places(model)
    owners = _owners(model)
    for place in places.values():
        for name in names:
            unseat(place, name)
        if not present(place):
            replace_module(model, place, place.foveate_host, owners)
    for path, module in list(model.named_modules()):
        parent, _, attribute = path.rpartition(".")
        owner = model.get_submodule(parent)
        if isinstance(module, Absent) and not isinstance(owner, Attended):  # where the host had nothing
            delattr(owner, attribute)
            setattr(owner, attribute, None)
    for module in model.modules():
        if not attended_places(module):
            forget_host(module)
            answer_no_more(module)


def _prepared(model: nn.Module, path: str) -> nn.Module:
    """The module at a place; an :class:`Absent` to be put where the host has an attribute that is ``None``."""
    if path == HOST and isinstance(model, Attended):
        raise FoveateError(PART)
    parent, _, name = path.rpartition(".")
    owner = model.get_submodule(parent)
    if getattr(owner, name, owner) is None:
        return Absent().train(owner.training)
    return model.get_submodule(path)


def _nearest_parameter(model: nn.Module, path: str) -> nn.Parameter | None:
    """A parameter of the module at a place, or of the smallest module around it that has one."""
    names = path.split(".")
    for end in range(len(names), -1, -1):
        module = model.get_submodule(".".join(names[:end]))
        for parameter in module.parameters():
            if parameter.is_floating_point():
                return parameter
    return None


def _is_channels_last(model: nn.Module) -> bool:
    maps = [p for p in model.parameters() if p.ndim == 4 and min(p.shape[1], p.shape[2] * p.shape[3]) > 1]
    return bool(maps) and all(p.is_contiguous(memory_format=torch.channels_last) for p in maps)


def replace_module(model: nn.Module, old: nn.Module, new: nn.Module, owners: Owners | None = None) -> None:
    """Put a module where another stands, everywhere it stands in the host."""
    for parent, name in (owners or _owners(model))[id(old)]:
        parent.add_module(name, new)


def _owners(model: nn.Module) -> Owners:
    """Who holds each module, and under which names."""
    owners: Owners = {}
    for parent in model.modules():
        for name, child in vars(parent)["_modules"].items():
            owners.setdefault(id(child), []).append((parent, name))
    return owners
