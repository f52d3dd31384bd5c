"""What an attended network does when a state dict is loaded into it, beside what each wrapper does with its own keys.

The wrappers keep the host's keys (:mod:`foveate.surgery.attended`). The network decides, attachment by attachment, what
a checkpoint without it means: here, because a wrapper sees its own keys only.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from foveate.errors import FoveateWarning
from foveate.surgery.attended import ATTENTION, HOST, Attended, attended_places, host_path
from foveate.surgery.seats import replacement_at

# under this name a module that attach was called with keeps the handles of its hooks
_HOOKS = "_foveate_hooks"
# under this one the attachments that it answers for when it is loaded
_ANSWERED = "_foveate_names"
# and under this one, while it is loaded, what is to take over the convolution that it stands in the place of once more
_UNTOUCHED = "_foveate_untouched"
_HOST = f"{HOST}."


def answer_for(model: nn.Module, attachments: Iterable[str]) -> None:
    """Let a network answer for attachments when it is loaded: its own checkpoint keeps loading, keys as saved."""
    if _HOOKS not in model.__dict__:
        model.__dict__[_HOOKS] = (
            model.register_load_state_dict_pre_hook(keep_absent_attention),
            model.register_load_state_dict_post_hook(name_keys_as_saved),
        )
    model.__dict__.setdefault(_ANSWERED, set()).update(attachments)


def answer_no_more(model: nn.Module) -> None:
    """Take the hooks and notes of :func:`answer_for` off a module, if it has them."""
    for hook in model.__dict__.pop(_HOOKS, ()):
        hook.remove()
    model.__dict__.pop(_ANSWERED, None)


def keep_absent_attention(
    model: nn.Module,
    state_dict: dict[str, Any],
    prefix: str,
    *_: Any,
) -> None:
    """Before a network loads a state dict: leave alone an attachment of which it holds nothing at all.

    So a host's original checkpoint loads strictly into the attended network. An attachment of which only a part is
    there stays an error, because that checkpoint is damaged.

    What stands in a convolution's place and still is as it took that convolution over will take over the one that is
    loaded; what has been trained since keeps its weights, and a warning says so.
    """
    current = model.state_dict(keep_vars=True)
    ours: dict[str, list[str]] = {}
    for path, place in model.named_modules(remove_duplicate=False):  # a module with two names has two keys
        if isinstance(place, Attended):
            for name, seat in place.foveate_seats.items():
                start = f"{host_path(model, path)}.{ATTENTION}.{name}."
                ours.setdefault(seat.attachment, []).extend(key for key in current if key.startswith(start))
    metadata = getattr(state_dict, "_metadata", None)
    if metadata is not None:  # a norm reads there whether its checkpoint is of the kind that may lack a counter
        for path in [path for path, _ in model.named_modules() if HOST in path.split(".")]:
            known = metadata.get(prefix + host_path(model, path))
            if known is not None:
                metadata.setdefault(prefix + path, known)
    inside = f"{prefix}{_HOST}" if isinstance(model, Attended) else prefix  # its own hook has renamed these by now
    for name, keys in ours.items():
        if name not in model.__dict__.get(_ANSWERED, ()):  # attached through another module, which sees all of it
            continue
        where = {key: (prefix if key.startswith(f"{ATTENTION}.") else inside) + key for key in keys}
        there = any(where[key] in state_dict for key in keys)
        if not there and not any(current[key].is_meta for key in keys):  # on the meta device there is nothing to keep
            state_dict.update({where[key]: current[key] for key in keys})
            _note_replaced(model, name)


def name_keys_as_saved(model: nn.Module, incompatible: Any) -> None:
    """After a network loaded a state dict: report keys as ``state_dict`` has them, without the wrappers' level."""
    inner = {f"{path}.{_HOST}": f"{host_path(model, path)}." for path in attended_places(model)}
    for keys in (incompatible.missing_keys, incompatible.unexpected_keys):
        for index, key in enumerate(keys):
            for wrapped in sorted(inner, key=len, reverse=True):
                key = key.replace(wrapped, inner[wrapped])
            keys[index] = key
    for place, key in model.__dict__.pop(_UNTOUCHED, ()):
        _taking_over(place.foveate[key])(place.foveate_host)


def _note_replaced(model: nn.Module, name: str) -> None:
    """Before a host's own checkpoint is loaded: note which convolutions are to be taken over once more."""
    kept: list[str] = []
    for path, place in attended_places(model).items():
        key = replacement_at(place)
        if key is None or place.foveate_seats[key].attachment != name:
            continue
        if _is_untouched(place, key):
            model.__dict__.setdefault(_UNTOUCHED, []).append((place, key))
        else:
            kept.append(host_path(model, path))
    if kept:
        warnings.warn(
            f"the checkpoint holds nothing of '{name}', which keeps its weights in the place of {len(kept)} "
            f"convolutions, such as '{kept[0]}': the kernels that are loaded there are not used",
            FoveateWarning,
            stacklevel=2,
        )


def _taking_over(module: nn.Module) -> Callable[[nn.Module], str | None]:
    take_over: Any = module.take_over  # a stranger's module may have one too
    return take_over


def _is_untouched(place: Attended, key: str) -> bool:
    """Whether a replacement is as it took its convolution over: to do so once more changes nothing."""
    module, how = place.foveate[key], place.foveate_seats[key]
    if how.start != "identity" or not hasattr(module, "take_over"):
        return False
    again = copy.deepcopy(module)
    if _taking_over(again)(place.foveate_host) is not None:
        return False
    now = module.state_dict()
    return all(torch.equal(value, now[name]) for name, value in again.state_dict().items())
