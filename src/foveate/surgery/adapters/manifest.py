"""What an adapter's folder says about itself: read without trust, written all at once."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from foveate.errors import DataError, FoveateError, OptionError
from foveate.registry import Spec, spec
from foveate.replacement import ConvShape
from foveate.surgery.partner import Partner
from foveate.surgery.point import Point, Seat, Side

# 2 has seats in the place of convolutions, and of what takes two maps; without either, 1 is written, which older
# versions read
FORMAT = 2
JSON, TENSORS = "attention.json", "attention.safetensors"
_HOST_TENSOR = re.compile(r"(\w+) (scalar|\d+(?:x\d+)*) (saved|[0-9a-f]{16})")
T = TypeVar("T")


@dataclass(frozen=True)
class SeatEntry:
    """One module of attention in the folder.

    Attributes:
        place: The module of the host, as its ``state_dict`` has it.
        key: The attention's key among the place's attention when it was saved: its tensors are named by it.
        seat: How it sits there.
        enabled: Whether it acted.
    """

    place: str
    key: str
    seat: Seat
    enabled: bool


@dataclass(frozen=True)
class HostEntry:
    """One tensor of the host.

    Attributes:
        dtype: Its type, such as ``"float32"``.
        shape: Its shape.
        digest: Its fingerprint; ``None`` if the tensor itself is in the folder, because it changed.
    """

    dtype: str
    shape: tuple[int, ...]
    digest: str | None


@dataclass(frozen=True)
class Manifest:
    """What is in the folder, and which host it was made for.

    Attributes:
        foveate: The version that wrote it.
        seats: The attention, in the order in which the network's modules carry it.
        host_class: The class of the host.
        host: Every tensor of the host's ``state_dict``.
    """

    foveate: str
    seats: tuple[SeatEntry, ...]
    host_class: str
    host: dict[str, HostEntry]

    @property
    def attachments(self) -> tuple[str, ...]:
        """The names of what was attached."""
        return tuple(dict.fromkeys(entry.seat.attachment for entry in self.seats))

    @property
    def saved(self) -> tuple[str, ...]:
        """The keys of the host's tensors that are in the folder."""
        return tuple(key for key, entry in self.host.items() if entry.digest is None)


def this_version() -> str:
    """The version of foveate that is running."""
    return version("foveate")


def write_adapter(folder: Path, manifest: Manifest, tensors: Mapping[str, Tensor], *, overwrite: bool) -> None:
    """Write a folder under a name beside it, then give it its own.

    Raises:
        FoveateError: If something is there that may not be replaced.
    """
    _check_free(folder, overwrite)
    folder.parent.mkdir(parents=True, exist_ok=True)
    token = secrets.token_hex(4)
    partial, old = (folder.with_name(f".{folder.name}.{token}.{what}") for what in ("partial", "old"))
    try:
        partial.mkdir()
        content = tensors_to_bytes(dict(tensors), metadata={"format": "pt"})
        (partial / TENSORS).write_bytes(content)
        (partial / JSON).write_text(_to_json(manifest, hashlib.sha256(content).hexdigest()), encoding="utf-8")
        if folder.exists():
            folder.replace(old)
        try:
            partial.replace(folder)
        except OSError:
            if old.exists():
                old.replace(folder)
            raise
    finally:
        for left in (partial, old):
            shutil.rmtree(left, ignore_errors=True)


def read_adapter(folder: Path) -> tuple[Manifest, dict[str, Tensor]]:
    """Read a folder completely, or say what is wrong with it. No program in it could run.

    Raises:
        DataError: If it is not there, not a folder, damaged, or of a future format.
    """
    if not folder.is_dir():
        what = "is a file; an adapter is the folder that `save` wrote" if folder.exists() else "does not exist"
        raise DataError(f"'{folder}' {what}")
    absent = [name for name in (JSON, TENSORS) if not (folder / name).is_file()]
    if absent:
        raise DataError(f"'{folder}' is no adapter, or a part of one: it has no {' and no '.join(absent)}")
    manifest, checksum = _from_json(folder / JSON)
    content = (folder / TENSORS).read_bytes()
    if hashlib.sha256(content).hexdigest() != checksum:
        raise DataError(f"'{folder / TENSORS}' is not the file that {JSON} was written with: truncated, or changed")
    try:
        return manifest, tensors_from_bytes(content)
    except (SafetensorError, ValueError, RuntimeError, KeyError) as error:
        raise DataError(f"'{folder / TENSORS}' is no safetensors file: {error}") from error


def _check_free(folder: Path, overwrite: bool) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise FoveateError(f"'{folder}' is a file: an adapter is a folder, give it another name")
    others = sorted(child.name for child in folder.iterdir() if child.name not in (JSON, TENSORS))
    if others:
        raise FoveateError(f"'{folder}' holds other things than an adapter, such as '{others[0]}': nothing was saved")
    if not overwrite and any(folder.iterdir()):
        raise FoveateError(f"'{folder}' exists: replace it with overwrite=True, or save under another name")


def _to_json(manifest: Manifest, checksum: str) -> str:
    attachments = {
        entry.seat.attachment: {"attention": _attention_to_json(entry.seat.attention), "start": entry.seat.start}
        for entry in manifest.seats
    }
    seats = [
        {
            "place": entry.place,
            "attachment": entry.seat.attachment,
            "key": entry.key,
            "channels": entry.seat.channels,
            "size": list(entry.seat.size),
            "point": _point_to_json(entry.seat.point),
            "enabled": entry.enabled,
            **({} if entry.seat.shape is None else {"convolution": asdict(entry.seat.shape)}),
        }
        for entry in manifest.seats
    ]
    tensors = {
        key: f"{entry.dtype} {'x'.join(map(str, entry.shape)) or 'scalar'} {entry.digest or 'saved'}"
        for key, entry in manifest.host.items()
    }
    whole = {
        "format": FORMAT if any(entry.seat.shape or entry.seat.point.partner for entry in manifest.seats) else 1,
        "foveate": manifest.foveate,
        "attachments": attachments,
        "seats": seats,
        "host": {"class": manifest.host_class, "tensors": tensors},
        "sha256": checksum,
    }
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def _point_to_json(point: Point) -> dict[str, Any]:
    table = asdict(point)
    if point.partner is None:
        del table["partner"]
    return table


def _attention_to_json(attention: Spec | str) -> dict[str, Any]:
    if isinstance(attention, str):
        return {"factory": attention}
    return {"mechanism": attention.name, "options": dict(attention.options)}


def _from_json(file: Path) -> tuple[Manifest, str]:
    try:
        whole = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(whole, dict):
            raise TypeError("it holds no table")
        written = _of(whole, "format", int)
        if written > FORMAT:
            raise DataError(
                f"'{file}' has format {written}, from foveate {whole.get('foveate')}; this is foveate "
                f"{this_version()}, which reads formats up to {FORMAT}: upgrade it"
            )
        host = _of(whole, "host", dict)
        attachments = _of(whole, "attachments", dict)
        manifest = Manifest(
            foveate=_of(whole, "foveate", str),
            seats=tuple(_seat(entry, attachments) for entry in _of(whole, "seats", list)),
            host_class=_of(host, "class", str),
            host={key: _host_entry(text) for key, text in _of(host, "tensors", dict).items()},
        )
        if not manifest.seats:
            raise ValueError("it names no attention")
        return manifest, _of(whole, "sha256", str)
    except OptionError as error:
        raise DataError(
            f"'{file}' names attention that cannot be built here: {error}; a mechanism of another package is known "
            "after that package is imported"
        ) from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:  # json's and unicode's errors are ValueErrors
        raise DataError(f"'{file}' is damaged or no adapter's: {error}") from error


def _seat(entry: Any, attachments: dict[str, Any]) -> SeatEntry:
    name = _of(entry, "attachment", str)
    made = _of(attachments, name, dict)
    start = _of(made, "start", str)
    if start not in ("identity", "paper"):
        raise ValueError(f"'{name}' starts as '{start}'")
    place, key = _of(entry, "place", str), _of(entry, "key", str)
    if not place or not key:
        raise ValueError(f"'{name}' sits nowhere")
    size = _of(entry, "size", list)
    channels = _of(entry, "channels", int)
    if channels < 1 or not all(_is_count(side) and side > 0 for side in size):
        raise ValueError(f"attention for {channels} channels of {size}")
    attention = _attention(_of(made, "attention", dict))
    point = _point(_of(entry, "point", dict))
    shape = _convolution(_of(entry, "convolution", dict)) if point.side == "instead" else None
    seat = Seat(name, attention, start, point, channels, tuple(size), shape)
    return SeatEntry(place, key, seat, _of(entry, "enabled", bool))


def _convolution(table: dict[str, Any]) -> ConvShape:
    pairs: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    return ConvShape(**pairs)


def _attention(table: dict[str, Any]) -> Spec | str:
    if "factory" in table:
        return _of(table, "factory", str)
    return spec(_of(table, "mechanism", str), **_of(table, "options", dict))


def _point(table: dict[str, Any]) -> Point:
    known = {field.name for field in fields(Point)}
    if set(table) | {"partner"} != known:
        raise ValueError(f"a point has the fields {', '.join(sorted(known))}")
    argument, channels = table["argument"], table["channels"]
    if table["side"] not in get_args(Side) or not (isinstance(argument, str) or _is_count(argument)):
        raise ValueError(f"no such point: {table['side']!r}, {argument!r}")
    if channels is not None and not (
        isinstance(channels, list) and len(channels) == 2 and all(map(_is_count, channels))
    ):
        raise ValueError(f"no such channels: {channels!r}")
    return Point(
        side=table["side"],
        argument=argument,
        axis=_of(table, "axis", int),
        axes=_of(table, "axes", int),
        fold=_of(table, "fold", bool),
        channels=_range(channels),
        partner=_partner(_of(table, "partner", dict)) if "partner" in table else None,
    )


def _partner(table: dict[str, Any]) -> Partner:
    known = {field.name for field in fields(Partner)}
    if set(table) != known:
        raise ValueError(f"a partner has the fields {', '.join(sorted(known))}")
    side, argument, width = table["side"], table["argument"], _of(table, "width", int)
    if side not in ("output", "input") or not (isinstance(argument, str) or _is_count(argument)) or width < 1:
        raise ValueError(f"no such partner: {side!r}, {argument!r}, {width}")
    return Partner(
        path=_of(table, "path", str),
        side=side,
        width=width,
        argument=argument,
        axis=_of(table, "axis", int),
        channels=_range(table["channels"]),
        leads=_of(table, "leads", bool),
        summed=_of(table, "summed", bool),
        copied=_of(table, "copied", bool),
    )


def _range(channels: Any) -> tuple[int, int] | None:
    if channels is None:
        return None
    if not (isinstance(channels, list) and len(channels) == 2 and all(map(_is_count, channels))):
        raise ValueError(f"no such channels: {channels!r}")
    return channels[0], channels[1]


def _host_entry(text: Any) -> HostEntry:
    found = _HOST_TENSOR.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f"a tensor of the host is described as {text!r}")
    dtype, shape, digest = found.groups()
    if not isinstance(getattr(torch, dtype, None), torch.dtype):
        raise ValueError(f"a tensor of the host has the type {dtype!r}")
    sides = () if shape == "scalar" else tuple(int(side) for side in shape.split("x"))
    return HostEntry(dtype, sides, None if digest == "saved" else digest)


def _of(table: Any, key: str, kind: type[T]) -> T:
    """A value of a table, if it is of the kind that belongs there."""
    value = table.get(key) if isinstance(table, dict) else None
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"'{key}' is missing or of the wrong kind")
    return value


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
