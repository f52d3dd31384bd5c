"""Adapters: what was added to a network, and what changed in it, as a folder of its own.

A folder holds ``attention.json``, which says what sits where and for which host it was made, and
``attention.safetensors``, the tensors: attention's parameters, blends and buffers, and those of the host that are no
longer what they were when attention came, such as a new head.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from foveate.attention import Attention
from foveate.errors import DataError, FoveateError, OptionError, PlaceError
from foveate.fusion import Pair
from foveate.registry import Spec, get
from foveate.surgery.adapters.fingerprint import changed_since_noted, digests, host_tensors, kind_of, shown
from foveate.surgery.adapters.manifest import HostEntry, Manifest, SeatEntry, read_adapter, this_version, write_adapter
from foveate.surgery.adapters.recognise import check_host
from foveate.surgery.attach import check_request, free_name, put_in
from foveate.surgery.attended import ATTENTION, Blended, attachments, attended_places, host_path
from foveate.surgery.point import Seat
from foveate.surgery.status import attachment_names, seats_of
from foveate.surgery.unwrap import unwrapped

Factory = Callable[[int], nn.Module]
Factories = Mapping[str, Factory]


def save(model: nn.Module, path: str | os.PathLike[str], *names: str, overwrite: bool = False) -> Path:
    """Save what was added to a network, and what changed in it since: a folder of json and safetensors.

    The host's unchanged tensors are not saved; their digests are, so that :func:`load` knows the host again. A network
    that got its weights after attention came has changed in every tensor, and all are saved.

    Args:
        model: An attended network; also one that is compiled or wrapped for data-parallel training.
        path: The folder to write. It appears when it is complete, or not at all.
        names: The attachments to save; none means all.
        overwrite: Whether an adapter that is there already is replaced.

    Returns:
        The folder.

    Raises:
        PlaceError: If nothing is attached, or nothing of a name.
        OptionError: If there is no network or no path.
        FoveateError: If something is in the way, or the attention could not be built again.

    Example:
        >>> import foveate, tempfile, torch
        >>> host = foveate.hosts.build("foveate/resnet8", classes=10).eval()
        >>> weights, images = {**host.state_dict()}, torch.randn(1, 3, 32, 32)
        >>> model = foveate.attach(host, "cbam", start="paper")
        >>> fresh = foveate.hosts.build("foveate/resnet8", classes=10).eval()
        >>> _ = fresh.load_state_dict(weights)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = save(model, folder + "/cbam")
        ...     torch.equal(load(fresh, file)(images), model(images))
        True
    """
    manifest, tensors = described(model, *names)
    folder = Path(os.path.abspath(folder_called(path)))  # noqa: PTH100 (resolve would follow a link to what is to be replaced)
    write_adapter(folder, manifest, tensors, overwrite=overwrite)
    return Path(path)


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
        check_request(inner, _maker(entry, factories or {}))
    with torch.inference_mode(False), torch.no_grad():
        check_host(inner, manifest, strict)
        parts = [_Part(entry, _made(entry, factories or {})) for entry in manifest.seats]
        _fill(parts, manifest, tensors, folder)
        there = attachments(inner)
        for attachment in manifest.attachments:
            if attachment in there:
                _check_same(inner, attachment, parts)
            else:
                free_name(inner, nn.Identity, attachment)
        new = [part for part in parts if part.entry.seat.attachment not in there]
        for part in new:
            check_request(model, _maker(part.entry, factories or {}))  # no new parameters inside data-parallel training
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


def folder_called(path: str | os.PathLike[str]) -> Path:
    """The folder that a path means.

    Raises:
        OptionError: If it is no path.
    """
    if not isinstance(path, str | os.PathLike):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise OptionError(f"the path of an adapter's folder is a string or a Path, not {type(path).__name__}")
    return Path(path)


def described(model: nn.Module, *names: str) -> tuple[Manifest, dict[str, Tensor]]:
    """What :func:`save` writes: the manifest and the tensors, on the CPU.

    Raises:
        PlaceError: If nothing is attached, or nothing of a name.
        FoveateError: If the attention could not be built again, or its tensors are not all here.
    """
    inner = unwrapped(model)
    meant = attachment_names(inner, names)
    if not meant:
        raise PlaceError("nothing is attached to this network, so there is nothing to save")
    entries: list[SeatEntry] = []
    tensors: dict[str, Tensor] = {}
    for path, place in attended_places(inner).items():
        for key, seat in place.foveate_seats.items():
            if seat.attachment in meant:
                enabled = seat.attachment not in place.foveate_disabled
                entry = SeatEntry(host_path(inner, path), key, seat, enabled)
                own = place.foveate[key].state_dict()
                _check_buildable(entry, own)
                tensors |= {f"{_prefix(entry)}{name}": value for name, value in own.items()}
                entries.append(entry)
    host = host_tensors(inner)
    _check_here({**tensors, **host})
    changed = changed_since_noted(inner)
    known = digests({key: value for key, value in host.items() if key not in changed})
    manifest = Manifest(
        foveate=this_version(),
        seats=tuple(entries),
        host_class=type(inner).__name__,
        host={key: HostEntry(*kind_of(value), known.get(key)) for key, value in host.items()},
    )
    tensors |= {key: host[key] for key in manifest.saved}
    return manifest, {key: _on_its_own(value) for key, value in tensors.items()}


@dataclass(frozen=True)
class _Part:
    """A module of attention, built as the folder says, that is not in the network yet."""

    entry: SeatEntry
    module: nn.Module


def _prefix(entry: SeatEntry) -> str:
    return f"{entry.place}.{ATTENTION}.{entry.key}."


def _of(attachment: str, parts: list[_Part]) -> list[_Part]:
    return [part for part in parts if part.entry.seat.attachment == attachment]


def _maker(entry: SeatEntry, factories: Factories) -> Spec | Factory:
    made_by = entry.seat.attention
    if isinstance(made_by, Spec):
        return made_by
    if made_by not in factories:
        raise OptionError(
            f"'{entry.seat.attachment}' was made by the function '{made_by}', which no file holds: give it as "
            f"factories={{'{made_by}': ...}}"
        )
    return factories[made_by]


def _made(entry: SeatEntry, factories: Factories) -> nn.Module:
    seat, maker = entry.seat, _maker(entry, factories)
    with torch.random.fork_rng(devices=[]):
        made_for: Any = seat.channels if seat.shape is None else seat.shape
        wide = None if seat.point.partner is None else seat.point.partner.width
        more: dict[str, Any] = {"size": seat.size, "partner_channels": wide}
        module = maker.create(made_for, **more) if isinstance(maker, Spec) else maker(made_for)
        if seat.start == "paper" or seat.shape is not None:
            return module
        if isinstance(module, Attention | Pair):
            module.start_at_identity()
            return module
        return Blended(module)


def _renamed(manifest: Manifest, name: str) -> Manifest:
    if len(manifest.attachments) > 1:
        raise OptionError(
            f"the folder holds {', '.join(manifest.attachments)}, which cannot all be called '{name}': leave name out"
        )
    seats = (replace(entry, seat=replace(entry.seat, attachment=name)) for entry in manifest.seats)
    return replace(manifest, seats=tuple(seats))


def _check_here(tensors: Mapping[str, Tensor]) -> None:
    for key, value in tensors.items():
        if value.is_meta:
            raise FoveateError(f"'{key}' is on the meta device and has no values: nothing was saved")
        if hasattr(value, "full_tensor"):
            raise FoveateError(
                f"'{key}' is sharded over several processes: gather the state dict, load it into an attended network "
                "that is not sharded, and save that"
            )


def _check_buildable(entry: SeatEntry, own: Mapping[str, Tensor]) -> None:
    """Refuse to save what could not be loaded, while there is still somebody who can do something about it."""
    seat = entry.seat
    if isinstance(seat.attention, str):
        return
    with torch.device("meta"):
        again = _made(entry, {}).state_dict()
    if {key: value.shape for key, value in again.items()} != {key: value.shape for key, value in own.items()}:
        raise FoveateError(
            f"the attention at '{entry.place}' is no longer what {seat.attention} builds, and could not be loaded: it "
            "was changed after it was attached"
        )


def _fill(parts: list[_Part], manifest: Manifest, tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Give the built modules their tensors, if the file holds these and no others."""
    wanted = {
        _prefix(part.entry) + key: value.shape for part in parts for key, value in part.module.state_dict().items()
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
        start = _prefix(part.entry)
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


def _on_its_own(value: Tensor) -> Tensor:
    """A copy on the CPU that shares memory with nothing, which safetensors asks for."""
    return value.detach().cpu().clone(memory_format=torch.contiguous_format)
