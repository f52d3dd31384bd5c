"""Seats: what sits at one attended module, put in and taken out again, and the host at rest beneath it."""

from __future__ import annotations

from torch import nn

from foveate.surgery.attended import Attended
from foveate.surgery.partner import Slot, Tap
from foveate.surgery.point import Seat


def seat(place: Attended, attention: nn.Module, how: Seat) -> str:
    """Put attention in at a place, after what is there already. Returns its key among the place's attention."""
    wanted = how.attachment if how.point.side in ("output", "instead") else f"{how.attachment}__{how.point.side}"
    key, number = wanted, 2
    while key in place.foveate:
        key, number = f"{wanted}_{number}", number + 1
    place.foveate[key] = attention
    place.foveate_seats[key] = how
    return key


def tap(place: Attended, key: str, partner_place: Attended) -> None:
    """Let a place see the second map of attention that sits at a place, perhaps the same."""
    how = place.foveate_seats[key]
    if how.point.partner is not None:
        place.foveate_slots[key] = Slot()
        seen = Tap(how.attachment, how.point.partner, place.foveate_slots[key])
        partner_place.foveate_taps = (*partner_place.foveate_taps, seen)


def present(place: Attended) -> set[str]:
    """The attachments that have something at a place: attention, or a map that is seen there."""
    return {how.attachment for how in place.foveate_seats.values()} | {one.attachment for one in place.foveate_taps}


def unseat(place: Attended, attachment: str) -> None:
    """Take out of a place what belongs to one attachment."""
    for key in [key for key, how in place.foveate_seats.items() if how.attachment == attachment]:
        del place.foveate[key], place.foveate_seats[key]
        place.foveate_slots.pop(key, None)
    place.foveate_taps = tuple(one for one in place.foveate_taps if one.attachment != attachment)
    place.foveate_disabled -= {attachment}
    if not replacement_at(place):
        for name in place.foveate_resting:
            place.foveate_host.get_parameter(name).requires_grad_(True)
        place.foveate_resting = ()


def replacement_at(place: Attended) -> str | None:
    """The key of what stands in the host's place, acting or not; ``None`` if nothing does."""
    return next((key for key, how in place.foveate_seats.items() if how.point.side == "instead"), None)


def rest(model: nn.Module, place: Attended) -> None:
    """Stop training a host that something stands in the place of: it gets no gradient, and others wait for none.

    What the host shares with other modules is trained there, and stays as it is.
    """
    inside = {id(module) for module in place.foveate_host.modules()}
    shared = {
        id(parameter)
        for module in model.modules()
        if id(module) not in inside
        for parameter in module.parameters(recurse=False)
    }
    named = place.foveate_host.named_parameters()
    resting = {name: p for name, p in named if p.requires_grad and id(p) not in shared}
    for parameter in resting.values():
        parameter.requires_grad_(False)
    place.foveate_resting += tuple(resting)
