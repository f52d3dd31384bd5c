"""A kernel made anew at every position, as involution has it: how large each is, and the one of an asked point."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

from foveate.errors import OptionError
from foveate.explain.overlay import scale_of
from foveate.explain.pictures.heatmaps import Image, heatmaps
from foveate.explain.pictures.numbers import number
from foveate.explain.pictures.page import below, tiles
from foveate.explain.pictures.panels import ColourBar, Pixels
from foveate.explain.pictures.parts import Parts
from foveate.explain.pictures.picture import SHARPNESS
from foveate.explain.pictures.positions import bar_alpha, size_note
from foveate.explain.pictures.telling import constant_note, nouns, scale_note, spread_note
from foveate.explain.record import AttentionMap


def kernels(
    found: AttentionMap,
    values: Float[Tensor, "*axes"],
    image: Image | None,
    *,
    point: tuple[int, int] | None = None,
) -> Parts:
    """The root of the sum of squares of each position's kernel, and the kernel of one position, means over groups."""
    axes = list(found.axes)
    several = values.movedim(axes.index("tap"), -1).flatten(0, -4) if values.ndim > 3 else values.movedim(0, -1)[None]
    height, width, taps = several.shape[1:]
    row, column = point or (height // 2, width // 2)
    if not (0 <= row < height and 0 <= column < width):
        raise OptionError(f"position ({row}, {column}) lies outside the map of {height}×{width}")
    sizes = several.square().sum(-1).sqrt().mean(0)
    own = several[:, row, column].mean(0)
    side = math.isqrt(taps)
    cells = own.reshape(side, side) if side * side == taps else own[None]
    large, signed = scale_of(sizes), scale_of(cells, diverging=True)
    ring = ((column + 0.5) / width, (row + 0.5) / height)
    panels = heatmaps(image, [sizes], large, names=["size of the kernels"], rings=[(ring,)], columns=3)
    one = panels[-1]
    edge = one.width if isinstance(one, Pixels) else 0
    drawn = signed.colours(cells).permute(2, 0, 1)
    times = max(1, SHARPNESS * edge // max(drawn.shape[1:]))
    kernel = Pixels(drawn.repeat_interleave(times, 1).repeat_interleave(times, 2), edge, "the ringed one")
    bars = (
        ColourBar(large, "size of a kernel: root of the sum of squares", bar_alpha(image)),
        ColourBar(signed, "weights of the kernel of the ringed position", alpha=1.0),
    )
    groups = f", mean over {len(several)} {nouns('group')}" if len(several) > 1 else ""
    sentences = (
        f"The kernel of {taps} cells that every position makes for itself{groups}: how large it is, and the one of row "
        f"{row}, column {column}.",
        constant_note(values, gate=False),
        scale_note(large, of="Sizes"),
        scale_note(signed, of="Weights"),
        size_note((height, width), image),
        spread_note(found),
    )
    low, high = number(float(sizes.min())), number(float(sizes.max()))
    alt = f"Kernels of {height}×{width} positions, of size {low} to {high}"
    placed = tiles([*panels, kernel], 3)
    return Parts(below(placed, *(tiles([bar], 1) for bar in bars)), sentences, alt)
