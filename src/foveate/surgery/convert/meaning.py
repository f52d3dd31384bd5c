"""What weights say about the mechanism that they belong to: its options, or why there are none that fit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from foveate.errors import FoveateError, OptionError
from foveate.registry import Spec, spec

State = Mapping[str, Tensor]


def spec_for(mechanism: str, state: State, options: Mapping[str, Any]) -> tuple[Spec, int]:
    """The spec that a state dict with our names belongs to, and how many channels it was made for.

    Args:
        mechanism: Which mechanism.
        state: Its tensors.
        options: What the tensors do not say and somebody knows.

    Raises:
        FoveateError: If the mechanism has no such form, with the reason.
    """
    read, channels = {"squeeze_excite": _squeeze_excite, "eca": _eca, "cbam": _cbam, "psanet": _psanet}[mechanism](
        state, options
    )
    return spec(mechanism, **{**read, **options}), channels


def _squeeze_excite(state: State, _: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    reduction, channels = _reduction(state["fc1.weight"], state["fc2.weight"])
    return {"reduction": reduction, "bias": any(key.endswith("bias") for key in state)}, channels


def _eca(state: State, _: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    weight = state["conv.weight"]
    if weight.ndim != 3 or weight.shape[:2] != (1, 1):
        raise FoveateError(
            f"eca has one convolution along the channels, of shape (1, 1, width); this one has {tuple(weight.shape)}"
        )
    return {"kernel_size": weight.shape[2]}, 0  # its parameters do not depend on the channels


def _cbam(state: State, _: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    reduction, channels = _reduction(state["channel.fc1.weight"], state["channel.fc2.weight"])
    read: dict[str, Any] = {"reduction": reduction}
    if "spatial.conv.weight" in state:
        read |= {"kernel_size": state["spatial.conv.weight"].shape[-1], "norm": "spatial.norm.weight" in state}
    else:
        read["parts"] = "channel"
    return read, channels


def _psanet(state: State, options: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    reduced, channels = state["reduce.0.weight"].shape[:2]
    cells, embedded = state["attention.3.weight"].shape[:2]
    side = math.isqrt(cells)
    square = side * side == cells and side % 2 == 1
    if cells == embedded and not square and not options.get("compact"):
        raise FoveateError(
            f"its attention has {cells} outputs, one a channel, so that it runs only where height · width is {cells}: "
            "it takes channels for positions. PSANet's masks have a cell for every position that another can reach, "
            "(2h - 1) · (2w - 1) of them: train one anew; or say compact=True, if its maps have that many positions"
        )
    read: dict[str, Any] = {"reduction": _ratio(channels, reduced), "fusion": "add"}
    if "reduce_p.0.weight" not in state and "branches" not in options:
        raise OptionError(
            "these weights have one branch, and do not say which: give branches='collect' or 'distribute'"
        )
    if "mask" not in options and not options.get("compact"):
        if not square:
            raise OptionError(
                f"{cells} is no odd number squared, so the mask is not a square one: give mask=(height, width), or "
                "compact=True"
            )
        read["mask"] = (side, side)
    return read, channels


def _reduction(first: Tensor, second: Tensor) -> tuple[int, int]:
    hidden, channels = first.shape[:2]
    if hidden == 0:
        raise FoveateError(
            f"its bottleneck is empty: {channels} channels are fewer than the reduction, so its gate is the same for "
            "every image, and there is nothing to convert; without it, multiply the features by that constant"
        )
    if second.shape[:2] != (channels, hidden):
        raise FoveateError(
            f"its two layers do not fit: {channels} channels to {hidden}, then {second.shape[1]} to {second.shape[0]}"
        )
    return _ratio(channels, hidden), channels


def _ratio(channels: int, hidden: int) -> int:
    """The reduction that gives so many hidden units; the usual 16 if it does."""
    for reduction in (16, channels // hidden):
        if reduction and max(1, channels // reduction) == hidden:
            return reduction
    if hidden > channels:
        raise FoveateError(f"a bottleneck of {hidden} is wider than its {channels} channels: no reduction gives that")
    low, high = channels // (channels // hidden + 1), channels // (channels // hidden)
    raise FoveateError(
        f"no reduction makes {hidden} hidden units of {channels} channels: the nearest are {low} "
        f"(reduction={channels // hidden + 1}) and {high} (reduction={channels // hidden})"
    )
