"""What attention a network has: attached by us, built in by another library, or a module of ours in its own code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from foveate.attention import Attention
from foveate.errors import FoveateError
from foveate.fusion import Pair
from foveate.registry import Card, Spec, get, names
from foveate.replacement import Replacement
from foveate.surgery.attended import ATTENTION, Attended, Blended, host_path
from foveate.surgery.foreign import Entry, card_of, library, note_on, recognise
from foveate.surgery.point import Side
from foveate.surgery.unwrap import unwrapped


@dataclass(frozen=True)
class AttachedAttention:
    """One attention module of a network.

    Attributes:
        place: The module whose output it acts on, or in whose place it stands, as the host's ``state_dict`` has it;
            for attention that is a part of the network, its own path.
        attachment: The name of the attachment; empty for a part of the network.
        card: The mechanism's card; ``None`` for a stranger's module.
        origin: ``"foveate"``, or the package of its class: ``"timm"``, ``"torchvision"``, ...
        note: Where it differs from the paper on the card, beyond what the card says; empty where it does not.
        parameters: How many parameters it has.
        module: The module.
    """

    place: str
    attachment: str
    card: Card | None
    origin: str
    note: str
    parameters: int
    module: nn.Module

    @property
    def mechanism(self) -> str:
        """The mechanism's name, or the class of a stranger's module."""
        if self.card:
            return self.card.name
        return type(self.module.module if isinstance(self.module, Blended) else self.module).__name__


@dataclass(frozen=True)
class Found:
    """An attention module where it was found.

    Attributes:
        place: As in :class:`AttachedAttention`.
        key: The key at that place; empty for a part of the network.
        attachment: The attachment's name.
        inside: The module's path within its attachment.
        module: The module.
        card: Its card.
        entry: Its row in the tables of other libraries' attention, if it is one of theirs.
        side: Where at its place it acts, as in :class:`~foveate.surgery.point.Point`; a part of the network returns it.
    """

    place: str
    key: str
    attachment: str
    inside: str
    module: nn.Module
    card: Card | None
    entry: Entry | None
    side: Side = "output"


def attached(model: nn.Module) -> list[AttachedAttention]:
    """All attention of a network: what was attached, what other libraries built in, and modules of the catalogue.

    Attention within attention is one: a CBAM's two halves are its own affair. The modules of timm, torchvision,
    segmentation-models-pytorch, MONAI and ultralytics are recognised by the names of their classes and of the classes
    that they extend.

    Args:
        model: The network; compiled and distributed ones are seen through.

    Returns:
        One entry a module, in the order of the network's modules.

    Example:
        >>> import foveate
        >>> model = foveate.attach(foveate.hosts.build("foveate/resnet8", classes=10), "se")
        >>> [(a.place, a.mechanism, a.origin) for a in attached(model)][0]
        ('layer1.0.bn2', 'squeeze_excite', 'foveate')
    """
    return [
        AttachedAttention(
            found.place,
            found.attachment,
            found.card,
            library(found.module) if found.entry else _package(found.module),
            note_on(found.module, found.entry) if found.entry else "",
            sum(parameter.numel() for parameter in found.module.parameters()),
            found.module,
        )
        for found in find_attention(unwrapped(model))
    ]


def find_attention(model: nn.Module) -> Iterator[Found]:
    """The outermost attention modules of a network, in the order of its modules."""
    outer: list[tuple[str, tuple[str, str] | None]] = []
    for path, module in model.named_modules():
        place, key, inside = _seat(model, path)
        seat = (place, key) if key else None
        ours = isinstance(module, Attention | Pair | Replacement)
        entry = None if ours else recognise(module)
        stranger = bool(key) and not inside and not any(map(_is_known, module.modules()))
        if not (entry or stranger or ours):
            continue
        # what is attached to a part of attention is no part of it
        if any(seat == its_seat and (f"{path}.".startswith(f"{at}.") or not at) for at, its_seat in outer):
            continue
        outer.append((path, seat))
        card = card_of(entry.card) if entry else _card(module)
        if seat is None:
            yield Found(host_path(model, path), "", "", "", module, card, entry)
        else:
            how = _attended(model, place).foveate_seats[key]
            if card is None and isinstance(how.attention, Spec):
                card = card_of(how.attention.name)
            bare = (
                inside.removeprefix("module").strip(".") if entry else inside
            )  # a stranger's module stands in a blend
            yield Found(host_path(model, place), key, how.attachment, bare, module, card, entry, how.point.side)


def _is_known(module: nn.Module) -> bool:
    return isinstance(module, Attention | Pair | Replacement) or recognise(module) is not None


def _seat(model: nn.Module, path: str) -> tuple[str, str, str]:
    """Place, key, and path within, of the innermost attachment that a module belongs to; empty if it is the host's."""
    parts = path.split(".")
    for at in range(len(parts) - 2, 0, -1):
        place = ".".join(parts[:at])
        if parts[at] == ATTENTION and isinstance(model.get_submodule(place), Attended):
            return place, parts[at + 1], ".".join(parts[at + 2 :])
    return "", "", ""


def _attended(model: nn.Module, path: str) -> Attended:
    module = model.get_submodule(path)
    if not isinstance(module, Attended):
        raise FoveateError(f"'{path}' carries no attention")
    return module


def _card(module: nn.Module) -> Card | None:
    builds = {get(name).build: get(name).card for name in names()}
    return next((builds[kind] for kind in type(module).__mro__ if kind in builds), None)


def _package(module: nn.Module) -> str:
    if isinstance(module, Blended):
        module = module.module
    return type(module).__module__.partition(".")[0]
