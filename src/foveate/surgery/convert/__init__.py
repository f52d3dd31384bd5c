"""Weights cross over: other people's attention into ours, and back."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from foveate.attention import Attention
from foveate.errors import FoveateError, OptionError
from foveate.registry import names, spec
from foveate.surgery.attached import find_attention
from foveate.surgery.convert.layouts import LAYOUTS as LAYOUTS
from foveate.surgery.convert.networks import read_network, write_network
from foveate.surgery.convert.tensors import layout_called, layout_of, read, write
from foveate.surgery.foreign import Entry, note_on, recognise
from foveate.surgery.places import At
from foveate.surgery.unwrap import unwrapped

__all__ = ["LAYOUTS", "convert", "convert_back"]

# in float64 the two do the same sums in another order
_ROUNDING = 1e-9


def convert(
    source: nn.Module | Mapping[str, Any],
    *,
    layout: str | None = None,
    host: nn.Module | None = None,
    at: At | Sequence[At] = "residual",
    example: Any = None,
    size: tuple[int, int] | None = None,
    **options: Any,
) -> nn.Module:
    """Turn other people's attention into ours, with equal outputs.

    Without a host, ``source`` is one attention module of another library or a tutorial, or its state dict, and what
    comes back is our module with its weights. A module is run beside ours before it is believed: an activation or an
    order that no weight shows is found out. A state dict cannot be run: it is taken to be what its layout's authors
    wrote, a CBAM to pool by mean and maximum.

    With a host, ``source`` is a whole network or its checkpoint. The host is the same network without attention: its
    weights are loaded, and attention stands at the end of the residual branch of each block that has some.

    Args:
        source: A module, or a state dict; one in a ``"state_dict"`` entry, or with ``module.`` before every key, too.
        layout: Which of :data:`LAYOUTS` the keys are in; found by the keys if ``None``.
        host: The network without attention, which is changed in place.
        at: Where in the host attention is to stand, as in :func:`foveate.attach`.
        example: An input of the host, as in :func:`foveate.attach`.
        size: Height and width of the map, for one module of a mechanism tied to a size.
        **options: Options of the mechanism that weights do not tell, as ``pools`` of a CBAM.

    Returns:
        Our attention module; the host, if there is one.

    Raises:
        OptionError: If there is no such layout, an option is missing, or something else than a module or a state dict
            was given.
        PlaceError: If the host has no place, or several, for a block's attention.
        FoveateError: If the weights cannot be meant by our mechanism, with the reason.

    Example:
        >>> torch.manual_seed(0)  # doctest: +ELLIPSIS
        <torch...>
        >>> tutorial = {"fc.0.weight": torch.randn(4, 64), "fc.2.weight": torch.randn(64, 4)}
        >>> ours = convert(tutorial)
        >>> x = torch.randn(2, 64, 7, 7)
        >>> hidden = torch.relu(x.mean((2, 3)) @ tutorial["fc.0.weight"].T)
        >>> torch.allclose(ours(x), x * torch.sigmoid(hidden @ tutorial["fc.2.weight"].T)[:, :, None, None], atol=1e-5)
        True
    """
    if not isinstance(source, nn.Module | Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise OptionError(f"what is converted is a module or a state dict, not {type(source).__name__}")
    if host is not None:
        unwrapped(host)  # refuses what is no network
        if isinstance(source, nn.Module):
            source = unwrapped(source)
            for found in find_attention(source):
                if found.entry is not None:
                    _named(found.place, found.module, layout, options)
            source = source.state_dict()
        return read_network(host, _tensors(source), layout, options, at, example)
    if isinstance(source, nn.Module):
        return _from_module(source, layout, options)
    tensors = _tensors(source)
    return read(tensors, layout_of(tensors) if layout is None else layout_called(layout), options, size=size)


def convert_back(ours: nn.Module, layout: str, *, attachment: str | None = None) -> dict[str, Tensor]:
    """Our attention's weights in another layout.

    Args:
        ours: One of our modules, for the state dict of theirs; or an attended network, for the whole checkpoint of
            theirs.
        layout: Which of :data:`LAYOUTS`.
        attachment: Which attachment of the network, if there are several of the mechanism.

    Returns:
        The state dict.

    Raises:
        OptionError: If there is no such layout.
        FoveateError: If the layout has no place for some of the weights, with the reason.

    Example:
        >>> import foveate
        >>> {key: tuple(value.shape) for key, value in convert_back(foveate.create("eca", 64), "timm.eca").items()}
        {'conv.weight': (1, 1, 3)}
    """
    chosen = layout_called(layout)
    if not isinstance(ours, Attention):
        return write_network(unwrapped(ours), chosen, attachment)
    return write(ours, chosen)


def _tensors(source: Mapping[str, Any]) -> dict[str, Tensor]:
    inner = source.get("state_dict", source)
    if not isinstance(inner, Mapping):
        raise OptionError(f"what is converted is a module or a state dict; its 'state_dict' is {type(inner).__name__}")
    found = {key: value for key, value in inner.items() if isinstance(value, Tensor)}
    if not found:
        raise OptionError("there is no tensor in this: a state dict maps names to tensors")
    return found


def _named(place: str, module: nn.Module, layout: str | None, options: Mapping[str, Any]) -> None:
    try:
        _from_module(module, layout, options)
    except FoveateError as error:
        raise type(error)(f"the attention at '{place}': {error}") from error


def _from_module(module: nn.Module, layout: str | None, options: Mapping[str, Any]) -> Attention:
    entry = recognise(module)
    if entry is not None and entry.card not in names():
        raise FoveateError(f"{type(module).__name__} is {entry.card}, which the catalogue does not have")
    note = note_on(module, entry) if entry else ""
    state = module.state_dict()
    chosen = None if layout is None else layout_called(layout)
    try:
        ours = _without_weights(module) or read(state, chosen or layout_of(state), options)
    except FoveateError as error:
        if not note:
            raise
        raise type(error)(f"{error}; of {type(module).__name__} is known: {note}") from error
    apart = _difference(module, ours, entry)
    if not apart <= _ROUNDING:
        reason = note or "an activation, a pool or an order of channels must differ"
        raise FoveateError(
            f"{type(module).__name__} cannot be converted: with its weights our {type(ours).__name__} gives other "
            f"outputs, by up to {apart:.3g}; {reason}"
        )
    return ours.train(module.training)


def _without_weights(module: nn.Module) -> Attention | None:
    """Gather-Excite without parameters, which only its options tell from others."""
    entry = recognise(module)
    if entry is None or entry.card != "gather_excite" or any(True for _ in module.parameters()):
        return None
    extent = getattr(module, "extent", 0)
    made = spec("gather_excite", variant="theta_minus", extent=extent or "global").create(1)
    return made if isinstance(made, Attention) else None


def _difference(theirs: nn.Module, ours: Attention, entry: Entry | None) -> float:
    """How far two modules' outputs are apart on a random map, relative to their size; in float64, in evaluation."""
    reference, candidate = (copy.deepcopy(module).double().cpu().eval() for module in (theirs, ours))
    layers = [layer for layer in ours.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    channels = next((layer.weight.shape[1] for layer in layers), 16)
    x = torch.randn(2, channels, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    volumes = any(type(part).__name__.endswith("3d") for part in theirs.modules())
    signals = any(type(part).__name__.endswith("Pool1d") for part in theirs.modules())
    given = x[:, :, None] if volumes else x.flatten(2) if signals else x
    with torch.no_grad():
        if entry is not None and entry.channels_last:
            out = reference(given.movedim(1, -1)).movedim(-1, 1)
        else:
            out = reference(given.clone())
        expected = out.reshape(x.shape)
        return float((candidate(x) - expected).abs().max() / expected.abs().max())
