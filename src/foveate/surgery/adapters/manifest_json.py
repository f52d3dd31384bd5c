"""A manifest as JSON: written, and read without trust."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar, get_args

import torch

from foveate.errors import DataError, OptionError
from foveate.registry import Spec, spec
from foveate.replacement import ConvShape
from foveate.surgery.adapters.manifest import HostEntry, Manifest, SeatEntry, this_version
from foveate.surgery.partner import Partner
from foveate.surgery.point import Point, Seat, Side

# 2 has seats in the place of convolutions, and of what takes two maps; without either, 1 is written, which older
# versions read
FORMAT = 2
_HOST_TENSOR = re.compile(r"(\w+) (scalar|\d+(?:x\d+)*) (saved|[0-9a-f]{16})")
T = TypeVar("T")


def to_json(manifest: Manifest, checksum: str) -> str:
    """A manifest as text, with the checksum of the tensors' file."""
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


def from_json(file: Path) -> tuple[Manifest, str]:
    """The manifest and the checksum that a file holds.

    Raises:
        DataError: If it is damaged, of a future format, or names attention that cannot be built here.
    """
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
    argument = table["argument"]
    if table["side"] not in get_args(Side) or not (isinstance(argument, str) or _is_count(argument)):
        raise ValueError(f"no such point: {table['side']!r}, {argument!r}")
    return Point(
        side=table["side"],
        argument=argument,
        axis=_of(table, "axis", int),
        axes=_of(table, "axes", int),
        fold=_of(table, "fold", bool),
        channels=_range(table["channels"]),
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
