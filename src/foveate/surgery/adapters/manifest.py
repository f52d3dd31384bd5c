"""What an adapter says about itself: what sits where, and which host it was made for."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version

from foveate.surgery.point import Seat


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
