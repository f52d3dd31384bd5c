"""Loading an adapter: saved attention into a fresh host, or its tensors into attention that is there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from foveate.errors import DataError, FoveateError, OptionError, PlaceError
from foveate.registry import Spec, get
from foveate.surgery.adapters.folder import folder_called, read_adapter
from foveate.surgery.adapters.manifest import Manifest, SeatEntry
from foveate.surgery.adapters.rebuild import Factories, made, maker_of, prefix_of
from foveate.surgery.adapters.recognise import check_host
from foveate.surgery.attended import attachments, attended_places
from foveate.surgery.fingerprint import host_tensors, shown
from foveate.surgery.insert import put_in
from foveate.surgery.point import Seat
from foveate.surgery.request import check_request, free_name
from foveate.surgery.status import seats_of
from foveate.surgery.unwrap import unwrapped


def load(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    strict: bool = True,
    factories: Factories | None = None,
) -> nn.Module:
    """Put saved attention into a fresh host, in place: the network then returns what the saved one did, bit for bit.

    A network that carries an attachment of that name with the same structure gets the tensors alone, in place: a
    compiled network goes on without being compiled again, unless what was saved acts in another order or is switched
    otherwise. Everything is checked before the first change.

    Args:
        model: The host that the adapter was made for, with its weights.
        path: A folder that :func:`save` wrote.
        name: Another name for the attachment, if there is one alone.
        strict: Whether a host of another class, with other tensors or with other weights is refused. Otherwise a
            warning says what differs, and the outputs will not be those of the network that was saved.
        factories: For attention made by functions: the functions, by the names they had.

    Returns:
        The same network. Its attention has the type, device and training flag of the places where it sits.

    Raises:
        DataError: If the folder is not there, damaged, or of a future format.
        FoveateError: If the host is another one, or something else of the name is attached.
        OptionError: If a function is missing, a name cannot be given, or there is no network or no path.
        PlaceError: If the host has no such place.
    """
    inner = unwrapped(model)
    folder = folder_called(path)
    manifest, tensors = read_adapter(folder)
    if name is not None:
        manifest = _renamed(manifest, name)
    for entry in manifest.seats:
        check_request(inner, maker_of(entry, factories or {}))
    with torch.inference_mode(False), torch.no_grad():
        check_host(inner, manifest, strict)
        parts = [_Part(entry, made(entry, factories or {})) for entry in manifest.seats]
        _fill(parts, manifest, tensors, folder)
        there = attachments(inner)
        for attachment in manifest.attachments:
            if attachment in there:
                _check_same(inner, attachment, parts)
            else:
                free_name(inner, nn.Identity, attachment)
        new = [part for part in parts if part.entry.seat.attachment not in there]
        for part in new:
            # no new parameters inside data-parallel training
            check_request(model, maker_of(part.entry, factories or {}))
            _check_place(inner, part.entry.place)
            if part.entry.seat.point.partner is not None:
                _check_place(inner, part.entry.seat.point.partner.path)

        if new:
            seats = [part.entry.seat for part in new]
            put_in(inner, [part.entry.place for part in new], seats, [part.module for part in new])
        for attachment in set(manifest.attachments) & set(there):
            for (*_, module), part in zip(seats_of(inner, attachment), _of(attachment, parts), strict=True):
                _copy(part.module.state_dict(), module.state_dict())
        _settle(inner, manifest)
        host = host_tensors(inner)
        _copy({key: tensors[key] for key in manifest.saved}, host)
    return model


@dataclass(frozen=True)
class _Part:
    """A module of attention, built as the folder says, that is not in the network yet."""

    entry: SeatEntry
    module: nn.Module


def _of(attachment: str, parts: list[_Part]) -> list[_Part]:
    return [part for part in parts if part.entry.seat.attachment == attachment]


def _renamed(manifest: Manifest, name: str) -> Manifest:
    if len(manifest.attachments) > 1:
        raise OptionError(
            f"the folder holds {', '.join(manifest.attachments)}, which cannot all be called '{name}': leave name out"
        )
    seats = (replace(entry, seat=replace(entry.seat, attachment=name)) for entry in manifest.seats)
    return replace(manifest, seats=tuple(seats))


def _fill(parts: list[_Part], manifest: Manifest, tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Give the built modules their tensors, if the file holds these and no others."""
    wanted = {
        prefix_of(part.entry) + key: value.shape for part in parts for key, value in part.module.state_dict().items()
    }
    wanted |= {key: torch.Size(manifest.host[key].shape) for key in manifest.saved}
    missing = [key for key in wanted if key not in tensors]
    unexpected = [key for key in tensors if key not in wanted]
    reshaped = [key for key, shape in wanted.items() if key in tensors and tensors[key].shape != shape]
    problems = [
        f"{what} {shown(keys)}"
        for what, keys in (("misses", missing), ("has an unexpected", unexpected), ("has another shape of", reshaped))
        if keys
    ]
    if problems:
        raise DataError(f"'{folder}' does not hold what its json says, nothing was loaded: it {' and '.join(problems)}")
    for part in parts:
        start = prefix_of(part.entry)
        state = {key: tensors[start + key].clone() for key in part.module.state_dict()}
        part.module.load_state_dict(state, assign=True)


def _check_same(model: nn.Module, attachment: str, parts: list[_Part]) -> None:
    """Refuse to exchange tensors with an attachment that is built in another way."""
    mine = [(path, seat, module) for path, _, _, seat, module in seats_of(model, attachment)]
    theirs = [(part.entry.place, part.entry.seat, part.module) for part in _of(attachment, parts)]
    if [_structure(*one) for one in mine] != [_structure(*one) for one in theirs]:
        raise FoveateError(
            f"there is an attachment called '{attachment}' already, of another structure ({mine[0][1].attention} at "
            f"{len(mine)} places, not {theirs[0][1].attention} at {len(theirs)}): detach it, or load with name='...'"
        )


def _structure(path: str, seat: Seat, module: nn.Module) -> tuple[object, ...]:
    attention: object = seat.attention
    if isinstance(seat.attention, Spec):
        options = {option.name: option.default for option in get(seat.attention.name).options.values()}
        attention = seat.attention.name, {**options, **dict(seat.attention.options)}
    shapes = {key: value.shape for key, value in module.state_dict().items()}
    return path, attention, seat.start, seat.point, seat.shape, getattr(module, "fixed_size", None), shapes


def _check_place(model: nn.Module, path: str) -> None:
    """Refuse a place that the host does not have, before the first module is put in."""
    parent, _, name = path.rpartition(".")
    try:
        owner = model.get_submodule(parent)
        there = getattr(owner, name)
    except AttributeError:
        raise PlaceError(f"this network has no module '{path}' to put the attention at; nothing was loaded") from None
    if there is not None and not isinstance(there, nn.Module):
        raise PlaceError(f"'{path}' of this network is no module; nothing was loaded")


def _settle(model: nn.Module, manifest: Manifest) -> None:
    """Order and switch what was loaded as it was saved; what else is at a place keeps its position and its switch."""
    at = [(model.get_submodule(entry.place), entry) for entry in manifest.seats]
    resting = {entry.seat.attachment for entry in manifest.seats if not entry.enabled}
    for place in attended_places(model).values():
        entries = [entry for module, entry in at if module is place]
        keys: dict[str, list[str]] = {}
        for key, seat in place.foveate_seats.items():
            keys.setdefault(seat.attachment, []).append(key)
        saved = [keys[entry.seat.attachment].pop(0) for entry in entries]
        following = iter(saved)
        order = [next(following) if key in saved else key for key in place.foveate]
        if order != list(place.foveate):
            modules, seats = dict(place.foveate), place.foveate_seats
            place.foveate.clear()
            place.foveate.update({key: modules[key] for key in order})
            place.foveate_seats = {key: seats[key] for key in order}
        off = frozenset(entry.seat.attachment for entry in entries if not entry.enabled)
        switched = (place.foveate_disabled - {entry.seat.attachment for entry in entries}) | off
        seen_for = {one.attachment for one in place.foveate_taps} & set(manifest.attachments)
        switched = (switched - seen_for) | (seen_for & resting)
        if switched != place.foveate_disabled:
            place.foveate_disabled = switched


def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    for key, value in source.items():
        target[key].copy_(value)
