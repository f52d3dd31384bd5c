"""Attach and detach: the network in, the network out, in place."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from foveate.attention import Attention
from foveate.errors import FoveateError, OptionError, PlaceError, check_choice
from foveate.registry import Spec, parse
from foveate.surgery.attended import (
    ATTENTION,
    Blended,
    attended_places,
    host_path,
    keep_absent_attention,
    wrap,
)
from foveate.surgery.places import At, Place, find_places

What = str | Spec | Callable[[int], nn.Module]


def attach(
    model: nn.Module,
    attention: What,
    *,
    at: At | Sequence[At] = "residual",
    start: Literal["identity", "paper"] = "identity",
    example: Tensor | None = None,
    stages: Iterable[int] | None = None,
    exclude: At | Sequence[At] = (),
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
        at: Where: ``"residual"``, a path, glob, regular expression or function, or several
            (:func:`foveate.surgery.places.find_places`).
        start: ``"identity"``, for a trained network; or ``"paper"``, the paper's initialisation, for training from
            scratch.
        example: An input, batch first, to watch one forward pass with. Needed where the network does not run on the
            usual image, and for attention tied to a map's size.
        stages: Only places of these stages, counted from 1 by resolution.
        exclude: Patterns of places to leave out.

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
    check_choice("start", start, ("identity", "paper"))
    if isinstance(model, torch.jit.ScriptModule):
        raise FoveateError("a TorchScript network cannot be changed: attach to the Python network it was made from")
    places = find_places(model, at, example, stages, exclude)
    with torch.random.fork_rng(devices=[]):
        modules = [_build(attention, place, start, guessed=example is None) for place in places]
    name = _free_name(model, attention)
    if not attended_places(model):
        model._foveate_hook = model.register_load_state_dict_pre_hook(keep_absent_attention)  # type: ignore[assignment]
    channels_last = _is_channels_last(model)
    for place, module in zip(places, modules, strict=True):
        attended = wrap(place.module)
        module.to(device=place.output.device, dtype=place.output.dtype)
        if channels_last:
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        attended.foveate[name] = module.train(place.module.training)
        _replace(model, place.module, attended)
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

    Example:
        >>> from foveate import hosts
        >>> model = attach(hosts.build("foveate/resnet8", classes=10), "se")
        >>> any("foveate" in key for key in detach(model).state_dict())
        False
    """
    places = attended_places(model)
    attached = {found for place in places.values() for found in place.foveate}
    if not attached or (name is not None and name not in attached):
        there = ", ".join(sorted(attached)) or "nothing"
        raise PlaceError(f"no attachment {f'called {name!r} ' if name else ''}in this network; attached: {there}")
    for place in places.values():
        for found in [found for found in place.foveate if name in (None, found)]:
            del place.foveate[found]
        if not place.foveate:
            _replace(model, place, place.host)
    if not attended_places(model):
        model._foveate_hook.remove()  # type: ignore[operator]
        del model._foveate_hook
    return model


def attention_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters that attach added, named as in ``state_dict``; for a learning rate of their own.

    Example:
        >>> from foveate import hosts
        >>> model = attach(hosts.build("foveate/resnet8", classes=10), "eca")
        >>> [name for name, _ in attention_parameters(model)][:2]
        ['layer1.0.bn2.foveate.eca.blend', 'layer1.0.bn2.foveate.eca.conv.weight']
    """
    for path, place in attended_places(model).items():
        for name, parameter in place.foveate.named_parameters():
            yield f"{host_path(model, path)}.{ATTENTION}.{name}", parameter


def _build(attention: What, place: Place, start: str, *, guessed: bool) -> nn.Module:
    if isinstance(attention, str | Spec):
        chosen = parse(attention) if isinstance(attention, str) else attention
        module = chosen.create(place.channels, size=place.size)
        if guessed and module.fixed_size is not None:
            raise OptionError(
                f"{chosen} is tied to the size of the map, and the size of your images is not known: give one as "
                "example=torch.zeros(1, channels, height, width)"
            )
    else:
        module = attention(place.channels)
        _check_shape(module, place)
    if start == "paper":
        return module
    if isinstance(module, Attention):
        module.start_at_identity()
        return module
    return Blended(module)


def _check_shape(module: object, place: Place) -> None:
    if not isinstance(module, nn.Module):
        raise OptionError(f"the function given as attention must return a module, not {type(module).__name__}")
    shape = (1, *place.output.shape[1:])
    training = module.training
    with torch.no_grad():
        out = module.eval()(torch.zeros(shape))
    module.train(training)
    if not isinstance(out, Tensor) or tuple(out.shape) != shape:
        got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise OptionError(f"attention keeps the shape of its input; at '{place.path}' {shape} became {got}")


def _free_name(model: nn.Module, attention: What) -> str:
    if isinstance(attention, str | Spec):
        name = (parse(attention) if isinstance(attention, str) else attention).name
    else:
        name = re.sub(r"\W", "_", getattr(attention, "__name__", type(attention).__name__)).strip("_").lower()
    taken = {found for place in attended_places(model).values() for found in place.foveate}
    number = 2
    free = name
    while free in taken:
        free, number = f"{name}_{number}", number + 1
    return free


def _is_channels_last(model: nn.Module) -> bool:
    maps = [p for p in model.parameters() if p.ndim == 4 and min(p.shape[1], p.shape[2] * p.shape[3]) > 1]
    return bool(maps) and all(p.is_contiguous(memory_format=torch.channels_last) for p in maps)


def _replace(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put a module where another stands, everywhere it stands in the host."""
    for path, module in list(model.named_modules(remove_duplicate=False)):
        if module is old:
            parent, _, name = path.rpartition(".")
            model.get_submodule(parent).add_module(name, new)
