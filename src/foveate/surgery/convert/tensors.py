"""Tensors from one naming to another, and back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from foveate.attention import Attention
from foveate.errors import FoveateError, OptionError, nearest
from foveate.surgery.convert.layouts import LAYOUTS, REFUSED, Layout, Part
from foveate.surgery.convert.meaning import State, spec_for
from foveate.surgery.fingerprint import shown


def layout_called(name: str) -> Layout:
    """A layout by its name.

    Raises:
        OptionError: If there is none, with the nearest names.
    """
    if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise OptionError(f"a layout is named by a word such as 'timm.se', not {type(name).__name__}")
    if name not in LAYOUTS:
        raise OptionError(f"there is no layout called '{name}'; {nearest(name, LAYOUTS)}")
    return LAYOUTS[name]


def fits(layout: Layout, keys: Iterable[str]) -> bool:
    """Whether keys are those of a layout: all that it needs, and none that it has not."""
    there = set(keys)
    needed = {part.theirs for part in layout.parts if part.need == "always"}
    known = {part.theirs for part in layout.parts if part.need != "never"}
    whole = not layout.together or len({name in there for name in layout.together}) == 1
    return needed <= there <= known and whole


def layout_of(state: State) -> Layout:
    """The layout that the keys of one module belong to.

    Raises:
        FoveateError: If there is none, with what is known of the keys.
    """
    refuse_known(state)
    found = next((layout for layout in LAYOUTS.values() if fits(layout, state)), None)
    if found is None:
        raise FoveateError(f"no known layout has the keys {quoted(state)}; layouts: {', '.join(LAYOUTS)}")
    return found


def refuse_known(keys: Iterable[str]) -> None:
    """Refuse keys that look familiar and mean something else.

    Raises:
        FoveateError: With the reason.
    """
    for key in keys:
        for pattern, reason in REFUSED:
            if re.search(pattern, key):
                raise FoveateError(f"'{key}' cannot be converted: {reason}")


def read(
    state: State,
    layout: Layout,
    options: Mapping[str, Any],
    channels: int = 0,
    size: tuple[int, ...] | None = None,
) -> Attention:
    """Our module with their weights.

    Args:
        state: The tensors of one module, with their names.
        layout: Which names these are.
        options: Options of the mechanism that the tensors do not tell.
        channels: How many channels there are, where that is known.
        size: The map's size, for mechanisms tied to one.

    Raises:
        FoveateError: If the weights have no meaning in our mechanism.
    """
    if not fits(layout, state):
        raise FoveateError(f"the layout {layout.name} does not have the keys {quoted(state)}")
    ours = {part.ours: _as_ours(state[part.theirs], part) for part in layout.parts if part.theirs in state}
    excess = ours.pop("", None)
    if excess is not None and excess.any():
        raise FoveateError(
            f"{layout.mechanism} has no bias, and this one has one of {float(excess.abs().max()):.3g}, which cannot be "
            "expressed; set it to zero and train on, or accept other outputs"
        )
    chosen, made_for = spec_for(layout.mechanism, ours, options)
    if channels and made_for and channels != made_for:
        raise FoveateError(f"these weights are for {made_for} channels, and there are {channels}")
    like = next(value for value in ours.values() if value.is_floating_point())
    module = chosen.create(channels or made_for or 1, size=size, device=like.device, dtype=like.dtype)
    if not isinstance(module, Attention):
        raise FoveateError(f"{chosen} takes two maps, and these weights are of attention, which takes one")
    own = module.state_dict()
    # biases that theirs does not have are zero; a counter of batches that old files lack starts at none
    filled = {key: torch.zeros_like(own[key]) for key in own if key not in ours and key.endswith(("bias", "tracked"))}
    complete = {**ours, **filled}
    if wrong := sorted(set(own) ^ set(complete)):
        raise FoveateError(f"{layout.mechanism} cannot be made of these weights: {', '.join(wrong[:3])} would be unset")
    if unlike := [key for key in own if own[key].shape != complete[key].shape]:
        raise FoveateError(
            f"'{unlike[0]}' has the shape {tuple(complete[unlike[0]].shape)}, where {chosen} with "
            f"{channels or made_for} channels has {tuple(own[unlike[0]].shape)}"
        )
    module.load_state_dict(complete)
    return module


def write(module: Attention, layout: Layout) -> dict[str, Tensor]:
    """Our module's weights with their names.

    Raises:
        FoveateError: If they have no place for some of ours.
    """
    own = dict(module.state_dict())
    for name in [key for key in own if key.rpartition(".")[2] == "blend"]:
        blend = float(own.pop(name))
        if blend != 1:
            raise FoveateError(
                f"'{name}' is {blend:.3g}: such attention multiplies by 1 + {blend:.3g} · (weights - 1), for which "
                f"{layout.name} has no place; only a blend of 1 is the published mechanism"
            )
    theirs: dict[str, Tensor] = {}
    rare = any(bool(own[part.ours].any()) for part in layout.parts if part.need == "rarely" and part.ours in own)
    for part in layout.parts:
        value = own.pop(part.ours, None)
        if value is None and part.need == "always":
            if not part.theirs.endswith("bias"):
                raise FoveateError(f"{layout.name} needs '{part.theirs}', which this module does not have")
            value = _bias_for(part, theirs)
        if value is None or (part.need == "rarely" and not rare):
            continue
        if part.need == "never":
            if value.any():
                raise FoveateError(
                    f"{layout.name} has no place for '{part.ours}', which is not zero (up to "
                    f"{float(value.abs().max()):.3g})"
                )
            continue
        theirs[part.theirs] = _as_theirs(value, part)
    if own:
        raise FoveateError(f"{layout.name} has no place for {quoted(own)}")
    if layout.together and len({name in theirs for name in layout.together}) > 1:
        raise FoveateError(f"{layout.name} has {' and '.join(layout.together)} together, and this module has only one")
    return theirs


def quoted(keys: Iterable[str]) -> str:
    """The first few keys in quotation marks, for a sentence."""
    return shown(f"'{key}'" for key in sorted(keys)) or "none"


def _as_ours(value: Tensor, part: Part) -> Tensor:
    if part.form == "swapped":
        return value.flip(1)
    if part.form == "pointwise":
        return value.flatten(1) if value.shape[2:].numel() == 1 else value
    return value


def _as_theirs(value: Tensor, part: Part) -> Tensor:
    if part.form == "swapped":
        return value.flip(1)
    return value[:, :, None, None].clone() if part.form == "pointwise" else value.clone()


def _bias_for(part: Part, theirs: Mapping[str, Tensor]) -> Tensor:
    weight = theirs[part.theirs.removesuffix("bias") + "weight"]
    return weight.new_zeros(weight.shape[0])
