"""A module of the host network and the attention that acts on what it returns, or on what it is given.

Why a wrapper, and not a forward hook: compiled and exported graphs skip hooks silently. Why not a swapped class: it
does not pickle, and is lost when a norm is converted to another. The price of the wrapper is that
``named_parameters()`` says ``bn.foveate_host.weight`` where ``state_dict()`` says ``bn.weight``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from foveate.errors import FoveateError
from foveate.surgery.partner import Slot, Tap
from foveate.surgery.point import Seat, Side

# where the attention of a place stands in its state dict: `bn.weight` is the host's, `bn.foveate.cbam...` is ours
ATTENTION = "foveate"
HOST = "foveate_host"
# what rewrites a module for inference: whoever goes through the network finds the host itself, and would call it twice,
# or put what it returns in the wrapper's place
_REWRITES = ("fuse", "reparameterize", "switch_to_deploy")
_HOST = f"{HOST}."


class Attended(nn.Module):
    """A host module with attention at its input, output or shortcut, or in its place; it keeps the host's keys.

    Everything else that is asked of it, its attributes too, the host answers; so nothing here has a name that a host
    could have.

    Attributes:
        foveate_host: The module that stood here before.
        foveate: The attention, in the order in which it was attached.
        foveate_seats: For each of them, by the same key, where it acts and which attachment it belongs to.
        foveate_disabled: Names of the attachments that do not act at present.
        foveate_slots: Of attention that takes a second map, by its key, where that map waits for it.
        foveate_taps: What is seen here for attention elsewhere, or here, that takes a second map.
        foveate_resting: Names of the host's parameters that would be trained if nothing stood in its place.
    """

    def __init__(self, host: nn.Module) -> None:
        super().__init__()
        if hasattr(host, ATTENTION):
            raise FoveateError(f"{type(host).__name__} has a '{ATTENTION}' of its own: it cannot carry attention")
        self.foveate_host = host
        self.foveate = nn.ModuleDict().train(host.training)
        self.foveate_seats: dict[str, Seat] = {}
        self.foveate_disabled: frozenset[str] = frozenset()
        self.foveate_slots: dict[str, Slot] = {}
        self.foveate_taps: tuple[Tap, ...] = ()
        self.foveate_resting: tuple[str, ...] = ()
        self.training = host.training
        if "type" in vars(host):  # an attribute under the name of a method, as ultralytics sets it
            self.__dict__["type"] = host.type
        self.register_state_dict_post_hook(_hide_host)
        self.register_load_state_dict_pre_hook(_find_host)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Attend to the input, run the host or what stands in its place, attend to the shortcut and to the output."""
        for seat, attention in _acting(self, "input"):
            args, kwargs = seat.point.act_on_argument(attention, args, kwargs)
        self._foveate_tap("input", args, kwargs)
        for seat, attention in _joining(self, "input"):  # last, to join what the network would have joined
            args, kwargs = seat.point.act_on_argument(attention, args, kwargs)
        # before the host, which may change its input in place
        shortcuts = [seat.point.change(attention, args, kwargs) for seat, attention in _acting(self, "shortcut")]
        instead = _acting(self, "instead")
        y = instead[-1][1](*args, *kwargs.values()) if instead else self.foveate_host(*args, **kwargs)
        for change in shortcuts:
            y = y + change
        for seat, attention in _acting(self, "output"):
            y = seat.point.act(attention, y)
        for seat, attention in _joining(self, "output"):
            y = seat.point.act(attention, y)
        for one in self.foveate_taps:
            if one.partner.side == "input":  # a block that passed its branch by, as stochastic depth does, took nothing
                one.slot.clear()
        self._foveate_tap("output", (y,), {})
        return y

    def _foveate_tap(self, side: Side, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for tap in self.foveate_taps:
            if tap.partner.side == side and tap.attachment not in self.foveate_disabled:
                at = tap.partner.argument
                tap.slot.put(tap.partner.seen_in(kwargs[at] if isinstance(at, str) else args[at]))

    def _replicate_for_data_parallel(self) -> Any:
        if self.foveate_slots or self.foveate_taps:
            raise FoveateError(
                "nn.DataParallel runs its copies of a network at once, and a fusion's two maps would meet across them: "
                "use DistributedDataParallel"
            )
        return super()._replicate_for_data_parallel()  # type: ignore[misc]

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            host = self.__dict__.get("_modules", {}).get(HOST)
            # being built, copied or unpickled; what Python itself asks for is the wrapper's to answer or not
            if host is None or name in _REWRITES or name.startswith("__"):
                raise
            return getattr(host, name)

    def __setattr__(self, name: str, value: Any) -> None:
        host = self.__dict__.get("_modules", {}).get(HOST)
        ours = name in self.__dict__ or name.startswith(ATTENTION) or hasattr(nn.Module, name)
        if host is None or ours or not hasattr(host, name):
            super().__setattr__(name, value)
        else:
            setattr(host, name, value)


class AttendedContainer(Attended):
    """The same for a host that is indexed, measured and iterated, such as ``nn.Sequential``."""

    def __len__(self) -> int:
        return len(self.foveate_host)  # type: ignore[arg-type]

    def __getitem__(self, index: Any) -> Any:
        return self.foveate_host[index]  # type: ignore[index]

    def __setitem__(self, index: Any, module: nn.Module) -> None:
        self.foveate_host[index] = module  # type: ignore[index]

    def __delitem__(self, index: Any) -> None:
        del self.foveate_host[index]  # type: ignore[attr-defined]

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(self.foveate_host)  # type: ignore[call-overload]


def attachments(model: nn.Module) -> list[str]:
    """The names of what is attached, in the order in which the network's modules carry it."""
    seats = [how for place in attended_places(model).values() for how in place.foveate_seats.values()]
    return list(dict.fromkeys(how.attachment for how in seats))


def _acting(place: Attended, side: Side) -> list[tuple[Seat, nn.Module]]:
    return [
        (how, place.foveate[key])
        for key, how in place.foveate_seats.items()
        if how.point.side == side and how.point.partner is None and how.attachment not in place.foveate_disabled
    ]


def _joining(place: Attended, side: Side) -> Iterator[tuple[Seat, Any]]:
    """What takes two maps, as what takes one: the other is taken when it acts."""
    for key, how in place.foveate_seats.items():
        if how.point.side == side and how.point.partner is not None and how.attachment not in place.foveate_disabled:
            yield how, how.point.with_other(place.foveate[key], place.foveate_slots[key].take())


class Absent(nn.Identity):
    """Stands where a host may have a module and has ``None``, such as the shortcut of a residual block."""


class Blended(nn.Module):
    """A stranger's module that starts as the identity: x + blend · (module(x) - x), blend starting at zero."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.blend = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Blend the module's output with its input."""
        return x + self.blend * (self.module(x) - x)


def wrap(host: nn.Module) -> Attended:
    """The host with room for attention; the host itself if it has some already."""
    if isinstance(host, Attended):
        return host
    return AttendedContainer(host) if hasattr(host, "__getitem__") else Attended(host)


def attended_places(model: nn.Module) -> dict[str, Attended]:
    """The attended modules of a network, by their path in it."""
    return {path: module for path, module in model.named_modules() if isinstance(module, Attended)}


def host_path(model: nn.Module, path: str) -> str:
    """A path as the host network knew it, and as ``state_dict`` says it: without the wrappers' own level."""
    module, names = model, list[str]()
    for name in filter(None, path.split(".")):
        if not (isinstance(module, Attended) and name == HOST):
            names.append(name)
        module = module.get_submodule(name)
    return ".".join(names)


def _hide_host(_module: nn.Module, state_dict: dict[str, Any], prefix: str, _: Any) -> None:
    """After the wrapper wrote its state: say ``bn.weight`` for ``bn.host.weight``, at the same place in the order."""
    start = prefix + _HOST
    moved = [(prefix + key.removeprefix(start) if key.startswith(start) else key, key) for key in state_dict]
    values = [(new, state_dict[old]) for new, old in moved]
    state_dict.clear()
    state_dict.update(values)
    metadata = getattr(state_dict, "_metadata", None)
    if metadata is not None:
        for key in [key for key in metadata if (key + ".").startswith(start)]:
            metadata[(prefix + (key + ".").removeprefix(start)).rstrip(".")] = metadata.pop(key)


def _find_host(_module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Before the wrapper reads its state: say ``bn.foveate_host.weight`` again, unless it is said already.

    ``named_parameters()`` says it, and what is made from it, such as an average of weights by hand, does too.
    """
    ours = (f"{prefix}{ATTENTION}.", prefix + _HOST)
    for key in [key for key in state_dict if key.startswith(prefix) and not key.startswith(ours)]:
        state_dict[prefix + _HOST + key.removeprefix(prefix)] = state_dict.pop(key)
