"""Knowing a host again: by its class, its tensors' names, shapes and types, and the digests of their values."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from foveate.errors import FoveateError, FoveateWarning
from foveate.surgery.adapters.manifest import Manifest
from foveate.surgery.fingerprint import digests, host_tensors, kind_of, shown, sides


def check_host(model: nn.Module, manifest: Manifest, strict: bool) -> None:
    """Refuse another host than the one that an adapter was made for, or warn of it.

    Args:
        model: The network.
        manifest: What the adapter says of its host.
        strict: Whether every difference is refused; otherwise only one that leaves a saved tensor without a place.

    Raises:
        FoveateError: If the host is another one, with what differs.
    """
    here = host_tensors(model)
    sharded = [key for key, value in here.items() if hasattr(value, "full_tensor")]
    if sharded:
        raise FoveateError(
            f"'{sharded[0]}' is sharded over several processes, nothing was loaded: load first, shard then"
        )
    differences = _differences(model, manifest, here)
    if not differences:
        return
    unusable = [key for key in manifest.saved if key not in here or kind_of(here[key])[1] != manifest.host[key].shape]
    what = "; ".join(differences)
    if strict or unusable:
        relax = "" if unusable else "; strict=False puts the attention in all the same"
        raise FoveateError(f"this is not the host that the attention was saved from, nothing was loaded: {what}{relax}")
    warnings.warn(f"this is not the host that the attention was saved from: {what}", FoveateWarning, stacklevel=3)


def _differences(model: nn.Module, manifest: Manifest, here: Mapping[str, Tensor]) -> list[str]:
    found: list[str] = []
    if type(model).__name__ != manifest.host_class:
        found.append(f"it is a {type(model).__name__}, not a {manifest.host_class}")
    absent = [key for key in manifest.host if key not in here]
    other = [key for key in here if key not in manifest.host]
    if absent:
        found.append(f"it has no {shown(absent)}")
    if other:
        found.append(f"it has {shown(other)} besides")
    common = {key: entry for key, entry in manifest.host.items() if key in here}
    shapes = {key: (kind_of(here[key])[1], entry.shape) for key, entry in common.items()}
    reshaped = [f"{key} is {sides(now)}, not {sides(then)}" for key, (now, then) in shapes.items() if now != then]
    if reshaped:
        found.append(shown(reshaped))
    if found:
        return found
    if any(value.is_meta for value in here.values()):
        return ["it is on the meta device and has no weights yet"]
    comparable: dict[str, Tensor] = {}
    narrowed: list[str] = []
    for key, entry in common.items():
        then = getattr(torch, entry.dtype, here[key].dtype)
        if entry.digest is not None and torch.promote_types(then, here[key].dtype) == here[key].dtype:
            comparable[key] = here[key].to(then)  # a wider type holds the same numbers
        elif entry.digest is not None:
            narrowed.append(key)
    now = digests(comparable)
    changed = [key for key, value in now.items() if value != common[key].digest]
    if changed:
        found.append(f"other weights in {shown(changed)}")
    elif narrowed:
        was, is_now = common[narrowed[0]].dtype, kind_of(here[narrowed[0]])[0]
        warnings.warn(
            f"{shown(narrowed)} was {was} and is {is_now}, so it cannot be seen whether the host is the same: convert "
            "it after loading",
            FoveateWarning,
            stacklevel=4,
        )
    return found
