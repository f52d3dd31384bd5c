"""Which network an album is about, which attention it has, and what has to be said before anybody looks at a map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from foveate.data.report import enumerated
from foveate.errors import OptionError
from foveate.explain.album.seen import Seen
from foveate.explain.recording.hearing import unseen
from foveate.explain.scores import answers
from foveate.registry import Card, get, parse
from foveate.surgery import attached, disable, status
from foveate.surgery.attached import AttachedAttention
from foveate.surgery.status import BlendRange

HARDLY = 0.1  # of the way to the published mechanism: what has gone less hardly acts


@dataclass(frozen=True)
class Origin:
    """Where a network is from, as the one who asks for an album knows it.

    Attributes:
        name: What it is called, such as ``"timm/lcnet_100"``.
        weights: Where its weights are from, as a sentence's end.
        trained: Whether the network was trained.
        attention_trained: Whether its attention was, where any is attached.
        notes: What else has to be said first, as sentences.
    """

    name: str
    weights: str
    trained: bool = True
    attention_trained: bool = True
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mechanism:
    """One mechanism and everywhere it acts.

    Attributes:
        title: As people call it.
        name: As foveate calls it; a stranger's class.
        kind: Channel, spatial, hybrid, …; empty where it is not known.
        origin: ``"foveate"``, or the library that built it in.
        attachment: What it is attached as; empty where it is a part of the network.
        options: The options that it was attached with.
        places: The modules where it acts.
        parameters: Of all of them.
        equation: As on the card; empty for a stranger's.
        paper: Authors, title, venue; empty for a stranger's.
        url: Of the paper.
        notes: Where it differs from the paper.
        blend: How far it has learned to act, from 0, the identity, to 1, the published mechanism.
    """

    title: str
    name: str
    kind: str
    origin: str
    attachment: str
    options: str
    places: tuple[str, ...]
    parameters: int
    equation: str
    paper: str
    url: str
    notes: tuple[str, ...]
    blend: BlendRange | None

    def sentence(self) -> str:
        """What it is, where, and from whom."""
        count = len(self.places)
        where = f"at {count} places" if count > 1 else f"at {self.places[0] or 'the network itself'}"
        whose = "attached by foveate" if self.attachment else f"built in by {self.origin}"
        kind = f", {self.kind}" if self.kind else ""
        return f"{self.title} ({whose}{kind}) {where}, {self.parameters:,} parameters"


@dataclass(frozen=True)
class About:
    """A network.

    Attributes:
        origin: Where it is from.
        parameters: How many it has.
        mechanisms: Its attention.
        visible: Whether the maps of any of it can be recorded.
        identity: Whether all attached attention leaves every answer as it is, bit for bit, as measured on the images.
        cautions: What has to be said first, as sentences.
    """

    origin: Origin
    parameters: int
    mechanisms: tuple[Mechanism, ...]
    visible: bool
    identity: bool
    cautions: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


def about(network: nn.Module, origin: Origin, seen: Sequence[Seen]) -> About:
    """Read everything from a network, and try whether its attention does anything.

    Args:
        network: In evaluation mode, unwrapped.
        origin: Where it is from.
        seen: Images of one size to try it on.
    """
    mechanisms = tuple(_mechanisms(network))
    identity = _is_identity(network, seen)
    hidden = unseen(network)
    return About(
        origin,
        sum(parameter.numel() for parameter in network.parameters()),
        mechanisms,
        len(attached(network)) > len(hidden),
        identity,
        (*_cautions(origin, mechanisms, identity), *_hidden(hidden)),
    )


def _mechanisms(network: nn.Module) -> list[Mechanism]:
    groups: dict[tuple[str, str, str], list[AttachedAttention]] = {}
    for one in attached(network):
        groups.setdefault((one.attachment, one.mechanism, one.origin), []).append(one)
    entries = {entry.name: entry for entry in status(network).attachments}
    return [_mechanism(several, entries.get(attachment), attachment) for (attachment, _, _), several in groups.items()]


def _mechanism(several: Sequence[AttachedAttention], entry: Any, attachment: str) -> Mechanism:
    first = several[0]
    card = first.card
    return Mechanism(
        title=card.title if card else first.mechanism,
        name=first.mechanism,
        kind=_kind(card, "" if entry is None else entry.attention),
        origin=first.origin,
        attachment=attachment,
        options="" if entry is None else entry.attention,
        places=tuple(dict.fromkeys(one.place for one in several)),
        parameters=sum(one.parameters for one in several),
        equation=card.equation if card else "",
        paper=f"{card.paper.authors}: {card.paper.title}. {card.paper.venue}." if card else "",
        url=card.paper.url if card and card.paper.url else "",
        notes=tuple(dict.fromkeys(one.note for one in several if one.note)),
        blend=None if entry is None else entry.blend,
    )


def _kind(card: Card | None, options: str) -> str:
    """Of a mechanism of the catalogue, with the options that it was attached with; others' are not computed."""
    with suppress(OptionError):
        if card is not None:
            spec = parse(options) if options else None
            known = spec is not None and get(spec.name).card.name == card.name
            return get(card.name).kind(**dict(spec.options) if spec is not None and known else {})
    return ""


def _is_identity(network: nn.Module, seen: Sequence[Seen]) -> bool:
    """Whether every answer is the same with attached attention at rest; what is built in acts in both cases."""
    if not status(network).attachments:
        return False
    images = torch.stack([one.given for one in seen])
    with torch.no_grad():
        acting = answers(network, images)
        with disable(network):
            resting = answers(network, images)
    return all(_same(one, other) for one, other in zip(acting, resting, strict=True))


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, Tensor):
        return (
            bool(torch.isclose(one, other, rtol=0, atol=0, equal_nan=True).all()) if one.shape == other.shape else False
        )
    return one == other


def _cautions(origin: Origin, mechanisms: Sequence[Mechanism], identity: bool) -> list[str]:
    found: list[str] = []
    if not origin.trained:
        found.append("The weights of this network are random: its answers, and every map below, are those of chance.")
    if not mechanisms:
        found.append(
            "This network has no attention: there is Grad-CAM to see, and nothing of what this page is for. Put some "
            "in with --attention, or train with it."
        )
    elif identity:
        untrained = "" if origin.attention_trained else " It was attached a moment ago and never trained."
        own = any(not one.attachment for one in mechanisms)
        which = "attention that was attached" if own else "attention of this network"
        found.append(
            f"The {which} changes nothing: without it, every answer is the same, bit for bit. It is the identity it "
            f"began as, and multiplies by exactly 1 (an affinity adds exactly 0).{untrained} {'Its' if own else 'The'} "
            "maps below say nothing about the images until it is trained."
        )
    elif not origin.attention_trained and any(one.attachment for one in mechanisms):
        found.append(
            "The attention of this network was never trained: what its maps show comes from random weights, and it "
            "changes the answers of a network that was trained without it."
        )
    if not identity:
        most = [(one.title, _largest(one.blend)) for one in mechanisms if one.blend is not None]
        found += [_hardly(title, largest) for title, largest in most if largest < HARDLY]
    return [*found, *origin.notes]


def _largest(blend: BlendRange) -> float:
    return max(abs(blend.smallest), abs(blend.largest))


def _hardly(title: str, most: float) -> str:
    """Of attention that is nearly the identity it began as: what follows from that, and what does not."""
    return (
        f"{title} hardly acts: nowhere has it gone more than {most:.1%} of the way from the "
        "identity, which it began as, to the published mechanism. Where numbers below say that replacing its maps "
        "changes nothing, that is why: the maps themselves may well differ from image to image."
    )


def _hidden(names: Sequence[str]) -> list[str]:
    if not names:
        return []
    return [f"How to see the maps of {enumerated(names)} is not known: what they do is not on this page."]
