"""Replace: what stands in a convolution's place, the convolution kept beside it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Never

import torch
from torch import Tensor, nn

from foveate.errors import FoveateWarning, OptionError, PlaceError, check_choice
from foveate.ops.anneal import Temperature
from foveate.registry import Spec, get, spec
from foveate.replacement import ConvShape
from foveate.surgery.acting import check_that_it_acts
from foveate.surgery.attended import Attended
from foveate.surgery.insert import put_in
from foveate.surgery.places import At, Place, default_example, find_convolutions
from foveate.surgery.point import Seat
from foveate.surgery.rebuilders import warn_of_rebuild
from foveate.surgery.request import check_no_more, check_request, factory_name, free_name, warn_of_size
from foveate.surgery.seats import replacement_at
from foveate.surgery.unwrap import unwrapped

Maker = Spec | Callable[[ConvShape], nn.Module]


def replace(
    model: nn.Module,
    attention: str | Spec | Callable[[ConvShape], nn.Module],
    *,
    at: At | Sequence[At] = "conv",
    start: Literal["identity", "paper"] = "identity",
    example: Any = None,
    stages: int | Iterable[int] | None = None,
    exclude: At | Sequence[At] = (),
    name: str | None = None,
    **more: Never,
) -> nn.Module:
    """Put mechanisms into the places of convolutions, in place.

    With ``start="identity"`` each takes over what its convolution computes, where its kind allows that: the network's
    outputs are then what they were up to rounding, because sums are taken in another order. Where it does not, a
    warning says so, and the network has to be trained again.

    The convolutions stay in the network, at rest: ``detach`` gives them back bit for bit, ``disable`` lets them run,
    and their keys stay in the state dict, beside the ``<place>.foveate.<name>.…`` of what stands in their places. The
    price is their memory, and their size in checkpoints (not in what ``save`` writes). They are not trained meanwhile.

    The original checkpoint loads before and after. After, what is still as it was when it took its convolution over
    takes over the one that is loaded; what has been trained keeps its weights, and a warning says so.

    Args:
        model: The network; no copy is made.
        attention: The name of a mechanism that stands in a convolution's place, ``"name:option=value"``, a
            :class:`~foveate.registry.Spec`, or a function from a :class:`~foveate.replacement.ConvShape` to a module.
        at: Which convolutions: ``"conv"``, all of more than one position (all, if none is); or a path, glob, regular
            expression or function of path and module, or several. Of what they name, two-dimensional convolutions that
            the mechanism can stand for are taken; a warning says which ones are left out and why.
        start: ``"identity"``, for a trained network; or ``"paper"``, the paper's initialisation, for training from
            scratch.
        example: An input, batch first, to watch one forward pass with, as in :func:`foveate.attach`.
        stages: Only convolutions of these stages, by what they return: the network's resolutions, counted from 1 where
            its stem ends, which is 0.
        exclude: Patterns of convolutions to leave out.
        name: What to call this attachment; the mechanism's name if ``None``.
        **more: Nothing: options of the mechanism are written with its name.

    Returns:
        The same network.

    Raises:
        OptionError: If the mechanism, an option or ``start`` cannot work, or it is a mechanism of another kind.
        PlaceError: If a pattern names no convolution that it can stand for.

    Example:
        >>> import torch
        >>> from foveate import hosts
        >>> model = hosts.build("foveate/resnet8", classes=10).eval()
        >>> images = torch.randn(1, 3, 32, 32)
        >>> before = model(images)
        >>> torch.allclose(replace(model, "odconv", at="layer3.**")(images), before, atol=1e-4)
        True
    """
    check_no_more("replace", attention, more)  # type: ignore[arg-type]
    check_choice("start", start, ("identity", "paper"))
    maker: Any = check_request(model, attention)  # type: ignore[arg-type]
    check_replaces(maker)
    inner = unwrapped(model)
    warn_of_rebuild(inner)
    name = free_name(inner, maker, name)
    label = maker if isinstance(maker, Spec) else factory_name(maker)
    watched_with = default_example(inner) if example is None else example
    with torch.inference_mode(False), torch.no_grad():
        found, left_out = convolutions(inner, maker, at, watched_with, stages, exclude)
        with torch.random.fork_rng(devices=[]):
            made = [like(one, made_for(one, maker)) for one in found]
        reasons = [
            _taken_over(one, module) if start == "identity" else None for one, module in zip(found, made, strict=True)
        ]
        seats = [
            Seat(name, label, start, one.place.point, one.shape.in_channels, one.place.size, one.shape) for one in found
        ]
        put_in(inner, [one.place.path for one in found], seats, made)
        check_that_it_acts(inner, name, watched_with)
    if example is None:
        warn_of_size(maker, made, watched_with)
    _warn_of_schedule(maker, made)
    if left_out:
        warnings.warn(
            f"{len(left_out)} convolutions are left out and {len(found)} replaced: {left_out[0]}",
            FoveateWarning,
            stacklevel=2,
        )
    lost = {one.place.path: reason for one, reason in zip(found, reasons, strict=True) if reason is not None}
    if lost:
        path, reason = next(iter(lost.items()))
        warnings.warn(
            f"{label} does not keep what {len(lost)} of {len(found)} convolutions did, such as '{path}', and starts as "
            f"its paper has it, so the network has to be trained again: {reason}",
            FoveateWarning,
            stacklevel=2,
        )
    return model


@dataclass(frozen=True)
class Convolution:
    """A convolution that can be replaced.

    Attributes:
        place: Where it is; the map is the one that it is given.
        conv: The convolution.
        shape: Its shape.
    """

    place: Place
    conv: nn.Conv2d
    shape: ConvShape


def convolutions(
    model: nn.Module,
    maker: Maker,
    at: At | Sequence[At],
    example: Any,
    stages: int | Iterable[int] | None,
    exclude: At | Sequence[At],
) -> tuple[list[Convolution], list[str]]:
    """The convolutions that are named and that a mechanism can stand for, and why others are left out.

    Raises:
        PlaceError: If there is none.
    """
    found: list[Convolution] = []
    places, left_out = find_convolutions(model, at, example, stages, exclude)
    for place in places:
        module = model.get_submodule(place.path)
        try:
            found.append(_convolution(place, module, maker))
        except OptionError as error:
            left_out.append(f"'{place.path}': {error}")
    if not found:
        raise PlaceError(f"none of {len(left_out)} convolutions can be replaced; {left_out[0]}")
    return found, left_out


def check_replaces(maker: Any) -> None:
    """Refuse a mechanism of another kind, or an option that cannot work, and say where it belongs.

    Raises:
        OptionError: If it cannot stand in any convolution's place.
    """
    if not isinstance(maker, Spec):
        return
    if get(maker.name).protocol != "replacement":
        raise OptionError(
            f"{maker.name} acts on a map and stands in no convolution's place: foveate.attach(model, '{maker}') puts "
            "it into a network"
        )
    with torch.device("meta"):
        maker.create(64, size=(8, 8))


def made_for(one: Convolution, maker: Maker) -> nn.Module:
    """The module that is to stand in a convolution's place.

    Raises:
        OptionError: If it cannot work there.
    """
    if isinstance(maker, Spec):
        return maker.create(one.shape, size=one.place.size)
    module: Any = maker(one.shape)
    _check_shape(module, one)
    return module


def like(one: Convolution, module: nn.Module) -> nn.Module:
    """The module on the convolution's device and of its type."""
    return module.to(device=one.conv.weight.device, dtype=one.conv.weight.dtype)


def _warn_of_schedule(maker: Maker, made: list[nn.Module]) -> None:
    """Say how long a temperature falls, where nobody said how long it should."""
    if not isinstance(maker, Spec) or any(option == "steps" for option, _ in maker.options):
        return
    falls = next((part for module in made for part in module.modules() if isinstance(part, Temperature)), None)
    if falls is not None:
        own = spec(maker.name, **dict(maker.options), steps=1000)
        warnings.warn(
            f"the temperature of {maker} falls from {falls.start:g} to 1 in {falls.steps:,} training steps, those of "
            f"its paper: in a shorter training it stays high, so give your own number, as '{own}'",
            FoveateWarning,
            stacklevel=3,
        )


def _taken_over(one: Convolution, module: nn.Module) -> str | None:
    """Let a module take its convolution over: ``None``, or in a sentence why it cannot."""
    take_over: Callable[[nn.Conv2d], str | None] | None = getattr(module, "take_over", None)
    if take_over is None:
        return f"{type(module).__name__} has no take_over(conv)"
    return take_over(one.conv)


def _convolution(place: Place, module: nn.Module, maker: Maker) -> Convolution:
    if isinstance(module, Attended):
        there = replacement_at(module)
        if there is not None:
            raise OptionError(f"'{there}' stands in its place already")
        module = module.foveate_host
    kind: Any = type(module)
    own = ("forward", "_conv_forward")
    if not isinstance(module, nn.Conv2d) or any(getattr(kind, name) is not getattr(nn.Conv2d, name) for name in own):
        raise OptionError(f"{kind.__name__} computes something else than nn.Conv2d does")
    shape = ConvShape.of(module)
    with torch.device("meta"):  # refuses here what it cannot stand for
        if isinstance(maker, Spec):
            maker.create(shape, size=place.size)
        elif isinstance(maker, type):
            maker(shape)
    return Convolution(place, module, shape)


def _check_shape(module: object, one: Convolution) -> None:
    if not isinstance(module, nn.Module):
        raise OptionError(f"the function given as attention must return a module, not {type(module).__name__}")
    given, due = (1, *one.place.shape[1:]), (1, one.shape.out_channels, *one.shape.out_size(_two(one.place.size)))
    near = next(module.parameters(), torch.zeros(()))
    training = module.training
    try:
        out = module.eval()(torch.zeros(given, device=near.device, dtype=near.dtype))
    except Exception as error:  # whatever a stranger's module raises, the place belongs to the sentence
        raise OptionError(
            f"{type(module).__name__} does not run on the map that '{one.place.path}' is given, "
            f"{'×'.join(map(str, given))} ({type(error).__name__}: {error})"
        ) from error
    module.train(training)
    if not isinstance(out, Tensor) or tuple(out.shape) != due:
        got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise OptionError(f"in the place of '{one.place.path}' {given} must become {due}, and became {got}")


def _two(size: tuple[int, ...]) -> tuple[int, int]:
    return size[0], size[1]
