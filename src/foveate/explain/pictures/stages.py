"""Stage by stage: what every place did to the positions of one image, in the order of the network."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

from foveate.errors import FoveateError
from foveate.explain.pictures.heatmaps import Image, check_image, heatmaps
from foveate.explain.pictures.numbers import number
from foveate.explain.pictures.page import Panel, below, tile_width, tiles
from foveate.explain.pictures.panels import ColourBar, Pixels, Words, fitted, levelled
from foveate.explain.pictures.picture import SHARPNESS, Picture, said
from foveate.explain.pictures.positions import bar_alpha
from foveate.explain.pictures.sources import CHANGED, TAKEN, emphases, scale_for
from foveate.explain.pictures.telling import NOT_WHY, constant, joined, one_of, scale_note
from foveate.explain.record import Recording

BESIDE = 4


def strip(
    recording: Recording,
    image: Image | None = None,
    sample: int = 0,
    *,
    prediction: object = None,
    label: object = None,
) -> Picture:
    """What attention did to the positions of one image at every place, in the order of the network, on one scale.

    Whatever kind of attention a place has, it is drawn by how it changed each position's share of the feature energy;
    of relations that return no map like the one they are given, by what all positions take from each. Places without a
    map of positions are named below.

    Args:
        recording: What was recorded.
        image: What the network was shown, in bytes.
        sample: Which image of the recording.
        prediction: What the network said of it.
        label: What it is.

    Raises:
        OptionError: If the image is none, or there is no such sample.
        FoveateError: If no place has a map of positions.

    Example:
        >>> import torch
        >>> from foveate import attach, hosts, record
        >>> model = attach(hosts.build("foveate/resnet8", classes=10), "se").eval()
        >>> with torch.no_grad(), record(model) as maps:
        ...     scores = model(torch.randn(1, 3, 32, 32))
        >>> strip(maps).alt
        'Attention, stage by stage. 3 places: layer1.0.bn2 unchanged; layer2.0.bn2 unchanged; layer3.0.bn2 unchanged'
    """
    check_image(image)
    found, changed = emphases(recording)
    if not found:
        raise FoveateError("what was recorded has no map of positions: see draw for each map, or slices for volumes")
    heats = {place: one_of(values, place, sample) for place, values in found.items()}
    scale, bounded = scale_for(list(heats.values()), diverging=changed)
    notes = [_note(heat, changed=changed) for heat in heats.values()]
    names = [f"{index}. {place}" for index, place in enumerate(heats, 1)]
    width = tile_width(BESIDE)
    lines = levelled([*names, "image"], width)
    panels: list[Panel] = []
    if image is not None:
        height = SHARPNESS * max(1, round(width * image.shape[1] / image.shape[2]))
        pixels = fitted(image, SHARPNESS * width, height)
        panels.append(Pixels(pixels, width, "image", " ", lines=lines))
    panels += heatmaps(
        image, list(heats.values()), scale, names=names, notes=notes, columns=BESIDE, picture=False, lines=lines
    )
    every = dict.fromkeys(one.place for one in recording)
    without = [place for place in every if not any(place == one or one.startswith(f"{place} (run") for one in heats)]
    groups = [tiles(panels, BESIDE)]
    groups.append(tiles([ColourBar(scale, _LABEL[changed], bar_alpha(image), bounded=bounded)], 1))
    if without:
        groups.append(tiles([Words(f"without a map of positions: {', '.join(without)}")], 1))
    even = all(constant(heat) or _still(heat, changed=changed) for heat in heats.values())
    caption = joined(
        f"{len(heats)} places in the order of the network, all on one scale.",
        CHANGED if changed else TAKEN,
        "Nothing is changed anywhere: attention leaves the positions as they are." if even and changed else "",
        scale_note(scale),
        "Beyond its ends colours stay the same." if bounded else "",
        NOT_WHY,
    )
    title, answer = "Attention, stage by stage", said(prediction, label)
    told = "; ".join(f"{place} {note}" for place, note in zip(heats, notes, strict=True))
    alt = ". ".join(part for part in (title, f"{len(heats)} places: {told}", answer) if part)
    return Picture(title, caption, alt, answer, below(*groups))


_LABEL = {True: "logarithm of the factor by which a position's share changed", False: "weight taken from a position"}


def _still(heat: Tensor, *, changed: bool) -> bool:
    return changed and float(heat.abs().max()) < 1e-4  # float32's rounding in a logarithm of sums over channels


def _note(heat: Float[Tensor, "h w"], *, changed: bool) -> str:
    """The range of one place: of logarithms, the factors."""
    if _still(heat, changed=changed):
        return "unchanged"
    if constant(heat):
        return f"{number(float(heat.mean()))} everywhere"
    low, high = float(heat.min()), float(heat.max())
    return f"×{_factor(low)} to ×{_factor(high)}" if changed else f"{number(low)} to {number(high)}"


def _factor(logarithm: float) -> str:
    return f"{math.exp(logarithm):.2g}"
