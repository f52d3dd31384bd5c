"""A module of the host network and the attention that acts on what it returns.

Why a wrapper, and not a forward hook: compiled and exported graphs skip hooks silently. Why not a swapped class: it
does not pickle, and is lost when a norm is converted to another. The price of the wrapper is that
``named_parameters()`` says ``bn.host.weight`` where ``state_dict()`` says ``bn.weight``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from foveate.errors import FoveateError

# where the attention of a place stands in its state dict: `bn.weight` is the host's, `bn.foveate.cbam...` is ours
ATTENTION = "foveate"
_HOST = "host."


class Attended(nn.Module):
    """A host module followed by attention, which keeps the host's keys and attributes.

    Attributes:
        host: The module that stood here before.
        foveate: What acts on its output, in order, by the name of the attachment.
    """

    def __init__(self, host: nn.Module) -> None:
        super().__init__()
        if any(name == ATTENTION for name, _ in host.named_children()):
            raise FoveateError(f"{type(host).__name__} has a child called '{ATTENTION}': it cannot carry attention")
        self.host = host
        self.foveate = nn.ModuleDict().train(host.training)
        self.training = host.training
        self.register_state_dict_post_hook(_hide_host)
        self.register_load_state_dict_pre_hook(_find_host)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the host, then the attention on its output."""
        y = self.host(*args, **kwargs)
        for attention in self.foveate.values():
            y = attention(y)
        return y

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            host = self.__dict__.get("_modules", {}).get("host")
            if host is None:  # being built, copied or unpickled
                raise
            return getattr(host, name)

    def __setattr__(self, name: str, value: Any) -> None:
        host = self.__dict__.get("_modules", {}).get("host")
        ours = name in self.__dict__ or name in {"host", "foveate"} or hasattr(nn.Module, name)
        if host is None or ours or not hasattr(host, name):
            super().__setattr__(name, value)
        else:
            setattr(host, name, value)


class AttendedContainer(Attended):
    """The same for a host that is indexed, measured and iterated, such as ``nn.Sequential``."""

    def __len__(self) -> int:
        return len(self.host)  # type: ignore[arg-type]

    def __getitem__(self, index: Any) -> Any:
        return self.host[index]  # type: ignore[index]

    def __setitem__(self, index: Any, module: nn.Module) -> None:
        self.host[index] = module  # type: ignore[index]

    def __delitem__(self, index: Any) -> None:
        del self.host[index]  # type: ignore[attr-defined]

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(self.host)  # type: ignore[call-overload]


class Blended(nn.Module):
    """A stranger's module that starts as the identity: x + blend · (module(x) - x), blend starting at zero."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.blend = nn.Parameter(torch.zeros(()))

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
        if not (isinstance(module, Attended) and name == "host"):
            names.append(name)
        module = module.get_submodule(name)
    return ".".join(names)


def keep_absent_attention(
    model: nn.Module,
    state_dict: dict[str, Any],
    prefix: str,
    *_: Any,
) -> None:
    """Before a network loads a state dict: leave alone an attachment of which it holds nothing at all.

    So a host's original checkpoint loads strictly into the attended network. An attachment of which only a part is
    there stays an error, because that checkpoint is damaged.
    """
    current = model.state_dict(keep_vars=True)
    ours: dict[str, list[str]] = {}
    for path, place in model.named_modules(remove_duplicate=False):  # a module with two names has two keys
        if isinstance(place, Attended):
            for name in place.foveate:
                start = f"{host_path(model, path)}.{ATTENTION}.{name}."
                ours.setdefault(name, []).extend(key for key in current if key.startswith(start))
    for keys in ours.values():
        there = any(prefix + key in state_dict for key in keys)
        if not there and not any(current[key].is_meta for key in keys):  # on the meta device there is nothing to keep
            state_dict.update({prefix + key: current[key] for key in keys})


def name_keys_as_saved(model: nn.Module, incompatible: Any) -> None:
    """After a network loaded a state dict: report keys as ``state_dict`` has them, without the wrappers' level."""
    inner = {f"{path}.{_HOST}": f"{host_path(model, path)}." for path in attended_places(model)}
    for keys in (incompatible.missing_keys, incompatible.unexpected_keys):
        for index, key in enumerate(keys):
            for wrapped in sorted(inner, key=len, reverse=True):
                key = key.replace(wrapped, inner[wrapped])
            keys[index] = key


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


def _find_host(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Before the wrapper reads its state: say ``bn.host.weight`` again, unless it is said already.

    ``named_parameters()`` says it, and what is made from it, such as an average of weights by hand, does too.
    """
    ours = (f"{prefix}{ATTENTION}.",)
    if not any(name == "host" for name, _ in module.get_submodule("host").named_children()):
        ours += (prefix + _HOST,)
    for key in [key for key in state_dict if key.startswith(prefix) and not key.startswith(ours)]:
        state_dict[prefix + _HOST + key.removeprefix(prefix)] = state_dict.pop(key)
