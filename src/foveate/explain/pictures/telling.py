"""What the values of a map are, in sentences: what was done to the features, never why the network decided."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from foveate.attention import Update
from foveate.errors import FoveateError, OptionError
from foveate.explain.overlay import Scale
from foveate.explain.pictures.numbers import number
from foveate.explain.record import AttentionMap
from foveate.registry import get, names

NOT_WHY = "This is what was done to the features, not why the network decided."
NOUNS = {
    "c": "channel",
    "h": "row",
    "w": "column",
    "in": "input channel",
    "out": "output channel",
    "tap": "kernel cell",
    "slot": "slot",
    "kernel": "kernel",
    "branch": "branch",
    "group": "group",
    "head": "head",
}
# what differs by less than float32 keeps apart after some thousand additions counts as one value
_ROUNDING = 1e-5


def title_of(found: AttentionMap) -> str:
    """Which map it is, in a line.

    Example:
        >>> import torch
        >>> title_of(AttentionMap("layer1.0.bn2", "cbam", "spatial", ("h", "w"), torch.ones(1, 1, 2, 2)))
        'layer1.0.bn2: cbam, spatial'
    """
    name = found.card.name if found.card else found.attachment
    again = f"run {found.run + 1}" if found.run else ""
    what = ", ".join(part for part in (name, found.step, again) if part)
    return f"{found.place}: {what}" if what and found.place else found.place or what or "attention"


def nouns(axis: str) -> str:
    """What an axis counts, several of it.

    Example:
        >>> nouns("c"), nouns("branch")
        ('channels', 'branches')
    """
    noun = NOUNS.get(axis, axis)
    return noun + ("es" if noun.endswith("ch") else "s")


def multiplies(found: AttentionMap) -> bool:
    """Whether the features were multiplied by this map; what adds to them weighs what it adds."""
    if set(found.axes) - {"c", "h", "w"}:
        return False
    return found.card is None or found.card.name not in names() or not issubclass(get(found.card.name).build, Update)


def meaning(found: AttentionMap) -> str:
    """What one value of a gate, or of another weight, is.

    Example:
        >>> import torch
        >>> meaning(AttentionMap("a", "", "", ("c",), torch.ones(1, 64, 1, 1)))
        'What the features of each of 64 channels were multiplied by.'
    """
    sizes = found.values.shape[1:]
    if multiplies(found):
        several = [
            f"each of {size} {nouns(axis)}"
            for axis, size in zip("chw", sizes, strict=False)
            if axis in "c" and size > 1
        ]
        where = {"hw": "at every position", "h": "in every row", "w": "in every column"}.get(
            "".join(axis for axis in "hw" if axis in found.axes and _along(found, axis) > 1), ""
        )
        of = f" of {several[0]}" if several else ""
        return f"What the features{of}{' ' + where if where else ''} were multiplied by."
    if set(found.axes) <= {"c", "h", "w"}:
        counted = " and ".join(nouns(axis) for axis in found.axes)
        return f"How the mechanism weighs {counted} in what it adds to the features."
    counted = " and ".join(nouns(axis) for axis in found.axes if axis not in "hw")
    where = " at every position" if {"h", "w"} <= set(found.axes) else ""
    return f"How {counted} were weighed{where}."


def _along(found: AttentionMap, axis: str) -> int:
    return found.values.shape["bchw".index(axis)] if found.values.ndim == 4 else 2


def one_of(values: Tensor, place: str, sample: int) -> Tensor:
    """The values of a place for one image, checked.

    Raises:
        OptionError: If there is no such image.
        FoveateError: If a value is not a finite number.
    """
    if not 0 <= sample < len(values):
        raise OptionError(f"'{place}' was recorded for {len(values)} images, numbered from 0: there is no {sample}")
    values = values[sample].detach().cpu().float()
    bad = int((~values.isfinite()).sum())
    if bad or values.numel() == 0:
        what = f"{bad} of its {values.numel()} values are not finite numbers" if bad else "it has no values"
        raise FoveateError(f"the map at '{place}' has no picture: {what}; look at the network's weights and inputs")
    return values


def constant(values: Float[Tensor, "*axes"]) -> bool:
    """Whether all values are one, but for rounding.

    Example:
        >>> import torch
        >>> constant(torch.tensor([0.5, 0.5 + 1e-7])), constant(torch.tensor([0.5, 0.501]))
        (True, False)
    """
    low, high = float(values.min()), float(values.max())
    return high - low <= _ROUNDING * max(abs(low), abs(high))


def constant_note(values: Float[Tensor, "*axes"], *, gate: bool) -> str:
    """The sentence about a map of one value; empty for others."""
    if not constant(values):
        return ""
    value = number(float(values.mean()))
    if gate and value == "1":
        return "This map is constant: 1 everywhere, which leaves the features as they are."
    return f"This map is constant: {value} everywhere. It tells no part of the image from another."


def spread_note(found: AttentionMap) -> str:
    """How far the values move from image to image; empty where one image was recorded."""
    values = found.values.float()
    if len(values) < 2:
        return ""
    moves = float(values.std(0).mean())
    if moves < 0.005 * max(1e-12, float(values.abs().mean())):
        return f"Over the {len(values)} images recorded it hardly moves."
    return f"Over the {len(values)} images recorded a value moves by {number(moves)} (mean standard deviation)."


def scale_note(scale: Scale, *, widened: bool = False, of: str = "Colours") -> str:
    """The sentence about a scale."""
    note = f"{of}: {scale.note()}." if not scale.constant else ""
    return note + (" The scale is made wider than the values, so that small differences look small." if widened else "")


def joined(*sentences: str) -> str:
    """Sentences that are there, in one paragraph."""
    return " ".join(sentence for sentence in sentences if sentence)
