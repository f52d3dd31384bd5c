"""What is attached to a network, whether it acts, and switching it on and off."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Literal

from torch import nn

from foveate.attention import Attention
from foveate.errors import OptionError, PlaceError, nearest
from foveate.fusion import Pair
from foveate.ops.anneal import Temperature
from foveate.registry import get
from foveate.surgery.attended import Attended, Blended, attachments, attended_places, host_path
from foveate.surgery.point import Seat
from foveate.surgery.seats import present
from foveate.surgery.unwrap import unwrapped

Flag = bool | Literal["irregular"]


@dataclass(frozen=True)
class BlendRange:
    """The learned blends of an attachment: 0 does nothing, 1 is the published mechanism.

    Attributes:
        smallest: The smallest over all places and steps.
        mean: Their mean.
        largest: The largest.
    """

    smallest: float
    mean: float
    largest: float


@dataclass(frozen=True)
class Schedule:
    """A temperature that falls while an attachment is trained; of its places the one that is least far.

    Attributes:
        start: The first value; the last one is 1.
        present: The present value.
        done: Steps taken: forward passes in training mode.
        steps: Steps until it is 1.
    """

    start: float
    present: float
    done: int
    steps: int

    def __str__(self) -> str:
        """As a person reads it."""
        return f"{self.present:.1f} of {self.start:g} → 1, {self.done:,} of {self.steps:,} steps"


@dataclass(frozen=True)
class AttachmentStatus:
    """One attachment as it stands.

    Attributes:
        name: What it is called.
        attention: The mechanism with its options, or the function that made it.
        start: How it started: ``"identity"`` or ``"paper"``.
        places: The modules where it acts, as the host's ``state_dict`` has them.
        parameters: Parameters that it added.
        trainable: How many of them are trained.
        enabled: Whether it acts; ``"irregular"`` if places disagree.
        training: Whether it is in training mode; ``"irregular"`` if modules disagree.
        blend: Its learned blends; ``None`` if it has none, or they are on the meta device.
        devices: Where its parameters and buffers are.
        dtypes: Their floating-point types.
        temperature: How far its temperature has fallen; ``None`` if it has none, or it is on the meta device.
    """

    name: str
    attention: str
    start: str
    places: tuple[str, ...]
    parameters: int
    trainable: int
    enabled: Flag
    training: Flag
    blend: BlendRange | None
    devices: tuple[str, ...]
    dtypes: tuple[str, ...]
    temperature: Schedule | None = None


@dataclass(frozen=True)
class Status:
    """All that is attached to a network, in the order in which the network's modules carry it."""

    attachments: tuple[AttachmentStatus, ...]

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        """A table for reading."""
        if not self.attachments:
            return "nothing is attached"
        head = ("attachment", "attention", "places", "parameters", "trainable", "enabled", "training")
        head = (*head, "blend (least, mean, most)", "device", "dtype")
        rows = [head, *(_row(entry) for entry in self.attachments)]
        if any(entry.temperature is not None for entry in self.attachments):
            falling = ["temperature", *(str(entry.temperature or "-") for entry in self.attachments)]
            rows = [(*row, cell) for row, cell in zip(rows, falling, strict=True)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


class Switched:
    """What was switched, to be switched back at the end of a ``with``; forgotten without one.

    Only the attachments that were switched are put back, as they were at each place.
    """

    def __init__(self, places: Iterable[Attended], names: set[str]) -> None:
        self._names = names
        self._before = [(place, place.foveate_disabled & names) for place in places]

    def __enter__(self) -> None:
        """Nothing more: it is switched already."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Switch back."""
        for place, disabled in self._before:
            place.foveate_disabled = (place.foveate_disabled - self._names) | (disabled & present(place))


def enable(model: nn.Module, *names: str) -> Switched:
    """Let attachments act; at once, and in a ``with`` until it ends.

    A network that was compiled sees it too: the graph for each setting is compiled once and kept.

    Args:
        model: An attended network; also one that is wrapped by ``torch.compile`` or for data-parallel training.
        names: The attachments; none means all.

    Returns:
        A context manager that puts the named attachments back as they were.

    Raises:
        OptionError: If it is no network.
        PlaceError: If nothing of a name is attached.

    Example:
        >>> import foveate
        >>> model = foveate.attach(foveate.hosts.build("foveate/resnet8", classes=10), "se")
        >>> _ = disable(model)
        >>> with enable(model, "se"):
        ...     status(model).attachments[0].enabled
        True
        >>> status(model).attachments[0].enabled
        False
    """
    inner = unwrapped(model)
    return _switch(inner, on=attachment_names(inner, names))


def disable(model: nn.Module, *names: str) -> Switched:
    """Let attachments rest; at once, and in a ``with`` until it ends. With all of them at rest, the host is bare.

    Their parameters get no gradient meanwhile.

    Args:
        model: An attended network; also one that is wrapped by ``torch.compile`` or for data-parallel training.
        names: The attachments; none means all.

    Returns:
        A context manager that puts the named attachments back as they were.

    Raises:
        OptionError: If it is no network.
        PlaceError: If nothing of a name is attached.

    Example:
        >>> import foveate, torch
        >>> model = foveate.hosts.build("foveate/resnet8", classes=10).eval()
        >>> images = torch.randn(1, 3, 32, 32)
        >>> before = model(images)
        >>> with disable(foveate.attach(model, "se", start="paper")):
        ...     torch.equal(model(images), before)
        True
    """
    inner = unwrapped(model)
    return _switch(inner, off=attachment_names(inner, names))


def use(model: nn.Module, *names: str) -> Switched:
    """Let only these attachments act, at once, and in a ``with`` until it ends; without a name, the bare host.

    Args:
        model: An attended network; also one that is wrapped by ``torch.compile`` or for data-parallel training.
        names: The attachments that act.

    Returns:
        A context manager that puts all attachments back as they were.

    Raises:
        OptionError: If it is no network.
        PlaceError: If nothing of a name is attached.

    Example:
        >>> import foveate
        >>> model = foveate.hosts.build("foveate/resnet8", classes=10)
        >>> for name in ("day", "night"):
        ...     _ = foveate.attach(model, "eca", name=name)
        >>> with use(model, "night"):
        ...     [entry.name for entry in status(model).attachments if entry.enabled]
        ['night']
    """
    inner = unwrapped(model)
    on = attachment_names(inner, names) if names else set[str]()
    return _switch(inner, on=on, off=set(attachments(inner)) - on)


def status(model: nn.Module) -> Status:
    """What is attached to a network, and in which state.

    Example:
        >>> import foveate
        >>> model = foveate.attach(foveate.hosts.build("foveate/resnet8", classes=10), "eca")
        >>> entry = status(model).attachments[0]
        >>> entry.name, entry.parameters, entry.enabled, entry.blend
        ('eca', 12, True, BlendRange(smallest=0.0, mean=0.0, largest=0.0))
    """
    inner = unwrapped(model)
    return Status(tuple(_status(inner, name) for name in attachments(inner)))


def attachment_names(model: nn.Module, names: Iterable[str]) -> set[str]:
    """The attachments that are meant: a mechanism is known by every name that is its own, and nothing means all.

    Raises:
        PlaceError: If nothing of a name is attached, with what is.
    """
    there = attachments(model)
    meant: set[str] = set()
    for name in names:
        full = name
        if name not in there:
            with suppress(OptionError):  # a name of somebody's own, or one that several mechanisms share
                full = get(name).card.name
        if full not in there:
            known = nearest(str(name), there) if there else "nothing is attached"
            raise PlaceError(f"no attachment called {name!r} in this network; {known}")
        meant.add(full)
    return meant or set(there)


def seats_of(model: nn.Module, name: str) -> list[tuple[str, Attended, str, Seat, nn.Module]]:
    """Where an attachment sits: the host's path, the wrapper, the key there, the seat and the attention."""
    return [
        (host_path(model, path), place, key, seat, place.foveate[key])
        for path, place in attended_places(model).items()
        for key, seat in place.foveate_seats.items()
        if seat.attachment == name
    ]


def _switch(model: nn.Module, *, on: set[str] = frozenset(), off: set[str] = frozenset()) -> Switched:  # type: ignore[assignment]
    places = list(attended_places(model).values())
    switched = Switched(places, set(on) | set(off))
    for place in places:
        place.foveate_disabled = frozenset((place.foveate_disabled - on) | (present(place) & off))
    return switched


def _status(model: nn.Module, name: str) -> AttachmentStatus:
    seats = seats_of(model, name)
    first = seats[0][3]
    modules = [attention for *_, attention in seats]
    parameters = {id(p): p for module in modules for p in module.parameters()}.values()
    tensors = [*parameters, *(b for module in modules for b in module.buffers())]
    return AttachmentStatus(
        name=name,
        attention=str(first.attention),
        start=first.start,
        places=tuple(path for path, *_ in seats),
        parameters=sum(p.numel() for p in parameters),
        trainable=sum(p.numel() for p in parameters if p.requires_grad),
        enabled=_agreed(name not in place.foveate_disabled for _, place, *_ in seats),
        training=_agreed(part.training for module in modules for part in module.modules()),
        blend=_blends(modules),
        devices=tuple(dict.fromkeys(str(t.device) for t in tensors)),
        dtypes=tuple(dict.fromkeys(str(t.dtype).removeprefix("torch.") for t in tensors if t.is_floating_point())),
        temperature=_schedule(modules),
    )


def _agreed(flags: Iterable[bool]) -> Flag:
    found = set(flags)
    return found.pop() if len(found) == 1 else "irregular"


def _blends(modules: Iterable[nn.Module]) -> BlendRange | None:
    parts = [part for module in modules for part in module.modules() if isinstance(part, Attention | Pair | Blended)]
    blends = [part.blend.detach() for part in parts if part.blend is not None]
    if not blends or any(blend.is_meta for blend in blends):
        return None
    values = [float(getattr(blend, "full_tensor", lambda blend=blend: blend)()) for blend in blends]
    return BlendRange(min(values), sum(values) / len(values), max(values))


def _schedule(modules: Iterable[nn.Module]) -> Schedule | None:
    falling = [part for module in modules for part in module.modules() if isinstance(part, Temperature)]
    known = [
        Schedule(part.start, part.present, part.done, part.steps)
        for part in falling
        if part.present is not None and part.done is not None
    ]
    return min(known, key=lambda one: one.done / one.steps, default=None)


def _row(entry: AttachmentStatus) -> tuple[str, ...]:
    blend = "-"
    if entry.blend is not None:
        blend = f"{entry.blend.smallest:.3f}, {entry.blend.mean:.3f}, {entry.blend.largest:.3f}"
    return (
        entry.name,
        entry.attention,
        str(len(entry.places)),
        f"{entry.parameters:,}",
        f"{entry.trainable:,}",
        _word(entry.enabled),
        _word(entry.training),
        blend,
        ", ".join(entry.devices) or "-",
        ", ".join(entry.dtypes) or "-",
    )


def _word(flag: Flag) -> str:
    return flag if isinstance(flag, str) else ("yes" if flag else "no")
