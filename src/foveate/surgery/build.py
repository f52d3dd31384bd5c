"""The module for one place: built for its map, started as was asked for, and a stranger's tried there first."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from foveate.attention import Attention
from foveate.errors import OptionError
from foveate.fusion import Pair
from foveate.registry import Spec
from foveate.surgery.attended import Blended
from foveate.surgery.places import Place
from foveate.surgery.point import Point
from foveate.surgery.request import Factory


def build(attention: Spec | Factory, place: Place, start: str) -> nn.Module:
    """The module for one place, started as asked for.

    Args:
        attention: What to build.
        place: Where it will stand.
        start: ``"identity"`` or ``"paper"``.

    Raises:
        OptionError: If it cannot work there.
    """
    if isinstance(attention, Spec):
        partner = place.point.partner
        width = None if partner is None else partner.width
        module = attention.create(place.channels, size=place.size, partner_channels=width)
    else:
        module = attention(place.channels)
        _check_shape(module, place)
    return started(module, start)


def started(module: nn.Module, start: str) -> nn.Module:
    """A module with its paper's initialisation, as it is; or as the identity, a stranger's with a blend around it."""
    if start == "paper":
        return module
    if isinstance(module, Attention | Pair):
        module.start_at_identity()
        return module
    return Blended(module)


def point_for(place: Place, module: nn.Module) -> Point:
    """The point of a place, for a module: whether a map of signals or volumes is folded to a map of images."""
    fold = len(place.shape) != 4 and getattr(module, "unordered", False)
    return replace(place.point, fold=fold)


def _check_shape(module: object, place: Place) -> None:
    if not isinstance(module, nn.Module):
        raise OptionError(f"the function given as attention must return a module, not {type(module).__name__}")
    if isinstance(module, Pair):
        raise OptionError(
            f"{type(module).__name__} takes two maps: register it with @foveate.mechanism, and attach it by its name"
        )
    shape = (1, *place.shape[1:])
    like = next((p for p in module.parameters() if p.is_floating_point()), torch.zeros(()))
    x = torch.randn(shape, generator=torch.Generator("cpu"), device="cpu").to(device=like.device, dtype=like.dtype)
    before, training = x.clone(), module.training
    try:
        with torch.no_grad():
            out = module.eval()(x)
    except Exception as error:  # whatever a stranger's module raises, the place belongs to the sentence
        raise OptionError(
            f"{type(module).__name__} does not run on the map of '{place}', {'×'.join(map(str, shape))} "
            f"({type(error).__name__}: {error})"
        ) from error
    module.train(training)
    if not x.is_meta and not torch.equal(x, before):
        raise OptionError(f"attention leaves its input as it is, and {type(module).__name__} changes it in place")
    if not isinstance(out, Tensor) or tuple(out.shape) != shape:
        got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise OptionError(f"attention keeps the shape of its input; at '{place}' {shape} became {got}")
