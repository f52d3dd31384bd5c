"""Attach and detach: the network in, the network out, in place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, Never

import torch
from torch import nn

from foveate.errors import PlaceError, check_choice
from foveate.registry import Spec
from foveate.surgery.acting import check_that_it_acts
from foveate.surgery.attended import ATTENTION, attachments, attended_places, host_path
from foveate.surgery.build import build, point_for
from foveate.surgery.insert import put_in, take_out
from foveate.surgery.places import At, default_example, find_places
from foveate.surgery.point import Seat
from foveate.surgery.rebuilders import warn_of_rebuild
from foveate.surgery.request import (
    What,
    check_acts_on_a_map,
    check_no_more,
    check_request,
    factory_name,
    free_name,
    kind_of_place,
    usual_place,
    warn_of_size,
)
from foveate.surgery.status import attachment_names
from foveate.surgery.unwrap import unwrapped


def attach(
    model: nn.Module,
    attention: What,
    *,
    at: At | Sequence[At] | None = None,
    start: Literal["identity", "paper"] = "identity",
    example: Any = None,
    stages: int | Iterable[int] | None = None,
    exclude: At | Sequence[At] = (),
    name: str | None = None,
    **more: Never,
) -> nn.Module:
    """Put attention into a network, in place.

    With ``start="identity"`` the network's outputs are what they were, bit for bit, until training moves the
    attention. Its state dict keeps the host's keys and gains ``<place>.foveate.<name>.…``; the host's original
    checkpoint loads before and after. Nothing happens if anything cannot work: all places are found, and all modules
    built, before the first is put in.

    Args:
        model: The network; no copy is made.
        attention: A mechanism's name, ``"name:option=value"``, a :class:`~foveate.registry.Spec`, or a function from
            channels to a module that keeps the shape of a feature map.
        at: Where: a preset (``"residual"``, ``"pre"``, ``"post"``, ``"identity"``, ``"stage"``, ``"skip"``, ``"neck"``,
            ``"conv"``; :mod:`foveate.surgery.places.presets`), a path, glob, regular expression or function, or several
            (:func:`foveate.surgery.places.find_places`). What takes two maps joins them where the network does: a
            fusion at ``"residual"``, ``"skip"`` or ``"neck"``, a guided gate at ``"skip"``, or at those within a path.
            ``None`` is ``"residual"``, and for a guided gate ``"skip"``.
        start: ``"identity"``, for a trained network; or ``"paper"``, the paper's initialisation, for training from
            scratch.
        example: An input, batch first, to watch one forward pass with; a tuple of positional or a dictionary of
            keyword arguments for a network that takes several. Needed where the network does not run on the usual
            image, and for attention tied to a map's size.
        stages: Only places of these stages: the network's resolutions, counted from 1 where its stem ends, which is 0.
        exclude: Patterns of places to leave out.
        name: What to call this attachment, where several sets live in one network; the mechanism's name if ``None``.
        **more: Nothing: options of the mechanism are written with its name.

    Returns:
        The same network.

    Raises:
        OptionError: If the mechanism, an option or ``start`` cannot work.
        PlaceError: If a pattern matches nothing, or a place cannot carry attention.

    Example:
        >>> import torch
        >>> from foveate import hosts
        >>> model = hosts.build("foveate/resnet8", classes=10).eval()
        >>> images = torch.randn(1, 3, 32, 32)
        >>> before = model(images)
        >>> torch.equal(attach(model, "cbam")(images), before)
        True
    """
    check_no_more("attach", attention, more)
    check_choice("start", start, ("identity", "paper"))
    attention = check_request(model, attention)
    check_acts_on_a_map(attention)
    inner = unwrapped(model)
    warn_of_rebuild(inner)
    name = free_name(inner, attention, name)
    watched_with = default_example(inner) if example is None else example
    where = usual_place(attention) if at is None else at
    with torch.inference_mode(False):
        places = find_places(inner, where, watched_with, stages, exclude, kind=kind_of_place(attention))
        with torch.random.fork_rng(devices=[]):
            modules = [build(attention, place, start) for place in places]
        label = attention if isinstance(attention, Spec) else factory_name(attention)
        seats = [
            Seat(name, label, start, point_for(place, module), place.channels, place.size)
            for place, module in zip(places, modules, strict=True)
        ]
        put_in(inner, [place.path for place in places], seats, modules)
        check_that_it_acts(inner, name, watched_with)
    if example is None:
        warn_of_size(attention, modules, watched_with)
    return model


def detach(model: nn.Module, name: str | None = None) -> nn.Module:
    """Take attention out again, in place: what is left is the host, bit for bit.

    Args:
        model: An attended network.
        name: The attachment to take out; ``None`` takes out all.

    Returns:
        The same network.

    Raises:
        PlaceError: If nothing of that name is attached.
        FoveateError: If the network is a module that carries attention, out of a larger network.

    Example:
        >>> from foveate import hosts
        >>> model = attach(hosts.build("foveate/resnet8", classes=10), "se")
        >>> any("foveate" in key for key in detach(model).state_dict())
        False
    """
    inner = unwrapped(model)
    attached = attachments(inner)
    if not attached and name is None:
        raise PlaceError("no attachment in this network; attached: nothing")
    meant = attachment_names(inner, () if name is None else (name,))
    take_out(inner, [one for one in attached if one in meant])
    return model


def attention_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters that attach added, named as in ``state_dict``; for a learning rate of their own.

    Example:
        >>> from foveate import hosts
        >>> model = attach(hosts.build("foveate/resnet8", classes=10), "eca")
        >>> [name for name, _ in attention_parameters(model)][:2]
        ['layer1.0.bn2.foveate.eca.blend', 'layer1.0.bn2.foveate.eca.conv.weight']
    """
    model = unwrapped(model)
    for path, place in attended_places(model).items():
        for name, parameter in place.foveate.named_parameters():
            yield f"{host_path(model, path)}.{ATTENTION}.{name}", parameter
