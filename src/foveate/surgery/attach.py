"""Attach and detach: the network in, the network out, in place."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from keyword import iskeyword
from typing import Any, Literal

import torch
from torch import Tensor, nn

from foveate.attention import Attention
from foveate.errors import FoveateError, OptionError, PlaceError, check_choice
from foveate.fusion import GuidedGate, Pair
from foveate.registry import Spec, aliases, get, parse
from foveate.surgery.adapters.fingerprint import forget_host, note_host
from foveate.surgery.attended import (
    ANSWERED,
    ATTENTION,
    HOST,
    Absent,
    Attended,
    Blended,
    attachments,
    attended_places,
    host_path,
    keep_absent_attention,
    name_keys_as_saved,
    present,
    replacement_at,
    rest,
    seat,
    tap,
    unseat,
    wrap,
)
from foveate.surgery.places import At, Place, default_example, find_places
from foveate.surgery.places.find import Kind
from foveate.surgery.places.residuals import joins
from foveate.surgery.places.watch import Pass, watch
from foveate.surgery.point import Point, Seat
from foveate.surgery.rebuilders import warn_of_rebuild
from foveate.surgery.unwrap import unwrapped

Factory = Callable[[int], nn.Module]
What = str | Spec | Factory
Owners = dict[int, list[tuple[nn.Module, str]]]
HOOKS = "_foveate_hooks"
_PARALLEL = (nn.parallel.DistributedDataParallel, nn.DataParallel)


def attach(
    model: nn.Module,
    attention: What,
    *,
    at: At | Sequence[At] = "residual",
    start: Literal["identity", "paper"] = "identity",
    example: Any = None,
    stages: int | Iterable[int] | None = None,
    exclude: At | Sequence[At] = (),
    name: str | None = None,
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
        start: ``"identity"``, for a trained network; or ``"paper"``, the paper's initialisation, for training from
            scratch.
        example: An input, batch first, to watch one forward pass with; a tuple of positional or a dictionary of
            keyword arguments for a network that takes several. Needed where the network does not run on the usual
            image, and for attention tied to a map's size.
        stages: Only places of these stages, counted from 1 by resolution.
        exclude: Patterns of places to leave out.
        name: What to call this attachment, where several sets live in one network; the mechanism's name if ``None``.

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
    attention = check_request(model, attention)
    check_acts_on_a_map(attention)
    inner = unwrapped(model)
    warn_of_rebuild(inner)
    name = free_name(inner, attention, name)
    watched_with = default_example(inner) if example is None else example
    with torch.inference_mode(False):
        places = find_places(inner, at, watched_with, stages, exclude, kind=kind_of_place(attention))
        with torch.random.fork_rng(devices=[]):
            modules = [build(attention, place, start, guessed=example is None) for place in places]
        label = attention if isinstance(attention, Spec) else factory_name(attention)
        seats = [
            Seat(name, label, start, point_for(place, module), place.channels, place.size)
            for place, module in zip(places, modules, strict=True)
        ]
        put_in(inner, [place.path for place in places], seats, modules)
        check_that_it_acts(inner, name, watched_with)
    return model


def check_that_it_acts(model: nn.Module, name: str, example: Any) -> None:
    """Watch the network with its attention; take it out again where it does not do what was promised.

    Raises:
        PlaceError: If the network no longer runs, or calls a module past its place, or attention past its branch.
    """
    try:
        seen = watch(model, example)
        wrong = next(_wrongs(model, name, seen), None)
    except PlaceError as error:
        detach(model, name)
        raise PlaceError(f"with attention in it this network no longer runs; nothing was attached. {error}") from error
    if wrong is not None:
        detach(model, name)
        raise PlaceError(f"{wrong}; nothing was attached")


def _wrongs(model: nn.Module, name: str, seen: Pass) -> Iterator[str]:
    shortcuts = {value for join in joins(seen) for value in (join.shortcut,)}
    for path, place in attended_places(model).items():
        keys = [key for key, how in place.foveate_seats.items() if how.attachment == name]
        where = host_path(model, path)
        calls = seen.calls_of(path)
        if keys and (not calls or len(calls) < len(seen.calls_of(f"{path}.{HOST}".lstrip(".")))):
            yield (
                f"the network calls '{where}' through another reference than its place among the modules, such as a "
                "list of its own, so attention there would not always run"
            )
        if any(f"{path}.{ATTENTION}.{key}".lstrip(".") not in seen.acted for key in keys):
            yield f"attention at '{where}' is never given the map that it should act on"
        absent = isinstance(place.foveate_host, Absent)
        if keys and absent and not any(value in shortcuts for call in calls for value in call.returned):
            yield f"the network puts '{where}' somewhere else than on its shortcut"


def put_in(model: nn.Module, paths: Iterable[str], seats: Iterable[Seat], modules: Iterable[nn.Module]) -> None:
    """Seat modules at places that are known: as they were found, or as a file says.

    Each takes device, type, memory format and training flag from where it comes to stand.

    Args:
        model: The network.
        paths: The modules to attend, as the host's ``state_dict`` has them.
        seats: How each attention module sits there.
        modules: The attention.

    Raises:
        FoveateError: If a module cannot carry attention; nothing was changed.
    """
    listed = list(zip(paths, seats, modules, strict=True))
    for path, how, _ in listed:
        place = wrap(_prepared(model, path))  # refuses here, before the first change
        if how.point.partner is not None:
            wrap(_prepared(model, how.point.partner.path))
        there = replacement_at(place) if how.point.side == "instead" else None
        if there is not None:
            raise FoveateError(f"'{there}' stands in the place of '{path}' already: detach it first")
    note_host(model)
    channels_last = _is_channels_last(model)
    owners = _owners(model)
    for path, how, module in listed:
        host = _prepared(model, path)
        if isinstance(host, Absent):
            parent, _, attribute = path.rpartition(".")
            setattr(model.get_submodule(parent), attribute, host)
        like = _nearest_parameter(model, path)
        if like is not None:
            module.to(device=like.device, dtype=like.dtype)
        if channels_last:
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        attended = wrap(host)
        key = seat(attended, module.train(host.training), how)
        if how.point.side == "instead":
            rest(model, attended)
        if attended is not host:
            replace_module(model, host, attended, None if isinstance(host, Absent) else owners)
        if how.point.partner is not None:
            bare = _prepared(model, how.point.partner.path)
            seen_at = wrap(bare)
            tap(attended, key, seen_at)
            if seen_at is not bare:
                replace_module(model, bare, seen_at, owners)
    _watch_loading(model)
    model.__dict__.setdefault(ANSWERED, set()).update(how.attachment for _, how, _ in listed)


def point_for(place: Place, module: nn.Module) -> Point:
    """The point of a place, for a module: whether a map of signals or volumes is folded to a map of images."""
    fold = len(place.shape) != 4 and getattr(module, "unordered", False)
    return replace(place.point, fold=fold)


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
    inner = unwrapped(model)
    places = attended_places(inner)
    attached = attachments(inner)
    if name is not None and name not in attached and name in aliases():
        name = get(name).card.name
    if not attached or (name is not None and name not in attached):
        there = ", ".join(attached) or "nothing"
        raise PlaceError(f"no attachment {f'called {name!r} ' if name else ''}in this network; attached: {there}")
    owners = _owners(inner)
    for place in places.values():
        for found in attached:
            if name in (None, found):
                unseat(place, found)
        if not present(place):
            replace_module(inner, place, place.foveate_host, owners)
    for path, module in list(inner.named_modules()):
        parent, _, attribute = path.rpartition(".")
        owner = inner.get_submodule(parent)
        if isinstance(module, Absent) and not isinstance(owner, Attended):  # where the host had nothing
            delattr(owner, attribute)
            setattr(owner, attribute, None)
    for module in inner.modules():
        if not attended_places(module):
            forget_host(module)
        if HOOKS in module.__dict__ and not attended_places(module):
            for hook in module.__dict__.pop(HOOKS):
                hook.remove()
            module.__dict__.pop(ANSWERED, None)
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


def check_request(model: nn.Module, attention: What) -> Spec | Factory:
    """Refuse what is no network or no attention, before anything runs.

    Raises:
        OptionError: If the mechanism or an option does not exist, or something else was given.
        FoveateError: If the network cannot be changed.
    """
    if not isinstance(model, nn.Module):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise OptionError(f"a network is a torch.nn.Module, not {type(model).__name__}")
    if isinstance(model, torch.jit.ScriptModule):
        raise FoveateError("a TorchScript network cannot be changed: attach to the Python network it was made from")
    if isinstance(model, _PARALLEL):
        raise FoveateError(
            f"{type(model).__name__} has counted its parameters already, so attention put in now would not be trained: "
            "attach first, wrap then"
        )
    if isinstance(attention, str):
        return parse(attention)
    if isinstance(attention, nn.Module) or not (isinstance(attention, Spec) or callable(attention)):
        raise OptionError(
            "attention is a name, a spec, or a function from channels to a module, because every place needs a module "
            f"of its own; not {type(attention).__name__}"
        )
    return attention


def check_acts_on_a_map(attention: Spec | Factory) -> None:
    """Refuse a mechanism that stands in a convolution's place, and say where it belongs.

    Raises:
        OptionError: If it is one.
    """
    if isinstance(attention, Spec) and get(attention.name).protocol == "replacement":
        raise OptionError(
            f"{attention.name} stands in a convolution's place: foveate.replace(model, '{attention}') puts it there"
        )


def kind_of_place(attention: Spec | Factory) -> Kind:
    """What kind of place a mechanism acts at: at a map, where two are added, or where one skips to another."""
    if not isinstance(attention, Spec) or get(attention.name).protocol != "fusion":
        return "attention"
    return "gate" if issubclass(get(attention.name).build, GuidedGate) else "fusion"


def build(attention: Spec | Factory, place: Place, start: str, *, guessed: bool) -> nn.Module:
    """The module for one place, started as asked for.

    Args:
        attention: What to build.
        place: Where it will stand.
        start: ``"identity"`` or ``"paper"``.
        guessed: Whether the place's size is that of an image that nobody gave.

    Raises:
        OptionError: If it cannot work there.
    """
    if isinstance(attention, Spec):
        partner = place.point.partner
        width = None if partner is None else partner.width
        module = attention.create(place.channels, size=place.size, partner_channels=width)
        if guessed and module.fixed_size is not None:
            raise OptionError(
                f"{attention} is tied to the size of the map, and the size of your images is not known: give one as "
                "example=torch.zeros(1, channels, height, width)"
            )
    else:
        module = attention(place.channels)
        _check_shape(module, place)
    if start == "paper":
        return module
    if isinstance(module, Attention | Pair):
        module.start_at_identity()
        return module
    return Blended(module)


def _check_shape(module: object, place: Place) -> None:
    if not isinstance(module, nn.Module):
        raise OptionError(f"the function given as attention must return a module, not {type(module).__name__}")
    if isinstance(module, Pair):
        raise OptionError(
            f"{type(module).__name__} takes two maps: register it with @foveate.mechanism, and attach it by its name"
        )
    shape = (1, *place.shape[1:])
    x = torch.randn(shape, generator=None if torch.get_default_device().type == "meta" else torch.Generator())
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


def _watch_loading(model: nn.Module) -> None:
    """Once for a network: its own checkpoint keeps loading, and keys are reported as they are saved."""
    if HOOKS not in model.__dict__:
        model.__dict__[HOOKS] = (
            model.register_load_state_dict_pre_hook(keep_absent_attention),
            model.register_load_state_dict_post_hook(name_keys_as_saved),
        )


def _nearest_parameter(model: nn.Module, path: str) -> nn.Parameter | None:
    """A parameter of the module at a place, or of the smallest module around it that has one."""
    names = path.split(".")
    for end in range(len(names), -1, -1):
        module = model.get_submodule(".".join(names[:end]))
        for parameter in module.parameters():
            if parameter.is_floating_point():
                return parameter
    return None


def _prepared(model: nn.Module, path: str) -> nn.Module:
    """The module at a place; an :class:`Absent` to be put where the host has an attribute that is ``None``."""
    parent, _, name = path.rpartition(".")
    owner = model.get_submodule(parent)
    if getattr(owner, name, owner) is None:
        return Absent().train(owner.training)
    return model.get_submodule(path)


def factory_name(attention: Callable[..., Any]) -> str:
    """What a function that makes attention is called."""
    return getattr(attention, "__name__", type(attention).__name__)


def free_name(model: nn.Module, attention: Spec | Factory, wanted: str | None) -> str:
    """What an attachment will be called: as was asked for, or the first free name from the mechanism's.

    Raises:
        OptionError: If the name that was asked for is taken, or is no plain word.
    """
    taken = attachments(model)
    reserved = nn.ModuleDict()  # an instance: it has attributes that the class has not
    if wanted is not None:
        is_word = isinstance(wanted, str) and wanted.isidentifier()  # pyright: ignore[reportUnnecessaryIsInstance]
        plain = is_word and not iskeyword(wanted) and "__" not in wanted
        if not plain or hasattr(reserved, wanted):
            raise OptionError(f"an attachment is named by a plain word such as 'day' or 'set_2', not {wanted!r}")
        if wanted in taken:
            raise OptionError(f"there is an attachment called '{wanted}' already: choose another name or detach it")
        return wanted
    if isinstance(attention, Spec):
        name = attention.name
    else:
        name = re.sub(r"\W+|__+", "_", factory_name(attention)).strip("_").lower() or "attention"
    number = 2
    free = name
    while free in taken or hasattr(reserved, free) or iskeyword(free):
        free, number = f"{name}_{number}", number + 1
    return free


def _is_channels_last(model: nn.Module) -> bool:
    maps = [p for p in model.parameters() if p.ndim == 4 and min(p.shape[1], p.shape[2] * p.shape[3]) > 1]
    return bool(maps) and all(p.is_contiguous(memory_format=torch.channels_last) for p in maps)


def replace_module(model: nn.Module, old: nn.Module, new: nn.Module, owners: Owners | None = None) -> None:
    """Put a module where another stands, everywhere it stands in the host."""
    for parent, name in (owners or _owners(model))[id(old)]:
        parent.add_module(name, new)


def _owners(model: nn.Module) -> Owners:
    """Who holds each module, and under which names."""
    owners: Owners = {}
    for parent in model.modules():
        for name, child in vars(parent)["_modules"].items():
            owners.setdefault(id(child), []).append((parent, name))
    return owners
