"""What an arm attends to, in strips of one map over the same images: each says what its values are, and its scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from foveate.explain.overlay import FLOOR, Scale, overlay, scale_of
from foveate.explain.pictures.numbers import ends
from foveate.study.pictures import Picture, encoded, is_photo, shown

ALPHA = 0.65
WEIGHED = {
    "kernel": "kernels",
    "tap": "cells of the kernel",
    "in": "input channels",
    "out": "output channels",
    "branch": "branches",
}


@dataclass(frozen=True)
class Bars:
    """The gate of every channel, in channel order, as one path in a box of ``channels`` by 100 units."""

    channels: int
    path: str
    line: float
    alt: str


@dataclass(frozen=True)
class Strip:
    """One map for all images, on one scale.

    Attributes:
        name: Which map it is.
        what: What its values are.
        cells: One drawing an image.
        low: The value at the low end of the scale, written.
        high: The value at the high end.
        gradient: The colours from low to high, for pictures; bars have an axis instead.
        note: A sentence about this map: how far it depends on the image, or why there is nothing to draw.
    """

    name: str
    what: str
    cells: Sequence[Picture | Bars] = ()
    low: str = ""
    high: str = ""
    gradient: Sequence[str] = ()
    note: str = ""


@dataclass(frozen=True)
class PlacePictures:
    """The maps of one place in the network."""

    path: str
    number: int
    places: int
    strips: Sequence[Strip]


def places(
    images: UInt8[Tensor, "n c h w"], tensors: Mapping[str, Tensor], entries: Sequence[Mapping[str, Any]]
) -> list[PlacePictures]:
    """The maps at the first, the middle and the last place of an arm; at all of them, if there are three or fewer.

    Args:
        images: The images, as the data holds them.
        tensors: The maps by name.
        entries: What each map is, places in the order of the network.

    Raises:
        MissingExtraError: If matplotlib or Pillow is not installed.

    Example:
        >>> entry = {"tensor": "gate/stem/se/", "what": "gate", "place": "stem", "step": "", "size": None}
        >>> gates = {"gate/stem/se/": torch.full((1, 4, 1, 1), 0.5)}
        >>> [place] = places(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), gates, [entry])
        >>> place.strips[0].what
        'What each of 4 channels is multiplied by. Bars from 0, which silences a channel.'
    """
    paths = list(dict.fromkeys(entry["place"] for entry in entries))
    chosen = sorted({0, len(paths) // 2, len(paths) - 1}) if paths else []
    displayed = [shown(image) for image in images]
    photo = bool(len(images)) and is_photo(images[0])
    found: list[PlacePictures] = []
    for index in chosen:
        here = [entry for entry in entries if entry["place"] == paths[index] and _named(entry)]
        strips = [_strip(displayed, tensors[entry["tensor"]].float(), entry, photo) for entry in here]
        found.append(PlacePictures(paths[index], index + 1, len(paths), strips))
    return found


def pictured(tensors: Mapping[str, Tensor], entries: Sequence[Mapping[str, Any]]) -> list[Strip]:
    """Of work other than classification: what was said of each image, and what attention did to its positions.

    Args:
        tensors: Pictures as ``picture/N``, maps as ``heat/N``, what they are drawn over as ``seen/N``.
        entries: What each map is, and at which place.

    Raises:
        MissingExtraError: If matplotlib or Pillow is not installed.

    Example:
        >>> [strip] = pictured({"picture/0": torch.zeros(3, 8, 8, dtype=torch.uint8)}, [])
        >>> strip.cells[0].alt
        'test image 1 with what this arm says of it'
    """
    numbers = sorted(int(name.partition("/")[2]) for name in tensors if name.startswith("picture/"))
    said = [
        Picture(_small(tensors[f"picture/{number}"]), f"test image {number + 1} with what this arm says of it")
        for number in numbers
    ]
    strips = [Strip("Images and answers", "What this arm says of each image, drawn on it.", said)]
    heats = {number: tensors[f"heat/{number}"].float() for number in numbers if f"heat/{number}" in tensors}
    if not heats:
        return strips
    own = {entry["tensor"]: entry for entry in entries}
    diverging = any(own.get(f"heat/{number}", {}).get("what") == "emphasis" for number in heats)
    place = next((entry["place"] for entry in entries), "")
    at = f" At {place}." if place else ""
    what = (
        f"Share of the feature energy, turned up (red) or down (blue); logarithm.{at}"
        if diverging
        else f"How much attention takes from every position.{at}"
    )
    if not all(bool(torch.isfinite(heat).all()) for heat in heats.values()):
        return [
            *strips,
            Strip("emphasis", what, note="Some of its values are not finite numbers, so there is no picture."),
        ]
    scale = _visible(scale_of(*heats.values(), diverging=diverging), 0.1 if diverging else 0.0)
    cells = [
        Picture(
            encoded(
                overlay(shown(tensors[f"seen/{number}"]), heat, diverging=diverging, alpha=ALPHA, scale=scale),
                photo=True,
            ),
            f"attention over test image {number + 1}: from {heat.min():.3g} to {heat.max():.3g}",
        )
        for number, heat in heats.items()
    ]
    low, high = ends(scale.low, scale.high)
    return [*strips, Strip("emphasis" if diverging else "attention", what, cells, low, high, _gradient(scale))]


def _small(image: Tensor) -> str:
    return encoded(shown(image), photo=is_photo(image))


def _strip(displayed: Sequence[Tensor], values: Tensor, entry: Mapping[str, Any], photo: bool) -> Strip:
    name, what = _words(values, entry)
    if not torch.isfinite(values).all():
        return Strip(name, what, note="Some of its values are not finite numbers, so there is no picture of it.")
    if entry["what"] == "weights" or (entry["what"] == "gate" and values.shape[2:] == (1, 1)):
        return _bars(values.flatten(1), name, what, gates=entry["what"] == "gate")
    heats = values.mean(1) if values.ndim == 4 else values
    diverging = entry["what"] == "emphasis"
    if diverging:
        # a few positions with almost no energy before have changes that would leave all others pale
        limit = float(heats.abs().flatten().quantile(0.98))
        scale = _visible(Scale(-limit, limit, diverging=True), 0.1)
    else:
        scale = _visible(scale_of(heats), _even(heats) if entry["size"] else 0.1)
    mark = None
    if entry.get("query") and entry.get("size"):
        (row, column), (height, width) = entry["query"], entry["size"]
        mark = (100 * (column + 0.5) / width, 100 * (row + 0.5) / height)
    cells = [
        Picture(
            encoded(overlay(image, heat, diverging=diverging, alpha=ALPHA, scale=scale), photo=photo),
            f"{name} over image {number}: from {heat.min():.3g} to {heat.max():.3g}",
            mark,
        )
        for number, (image, heat) in enumerate(zip(displayed, heats, strict=True), 1)
    ]
    low, high = ends(scale.low, scale.high)
    if diverging:
        low, high = f"≤ {low}", f"≥ {high}"
    return Strip(name, what, cells, low, high, _gradient(scale))


def _visible(scale: Scale, least: float) -> Scale:
    """A scale wide enough that differences too small to matter stay too small to see."""
    if scale.high - scale.low >= least:
        return scale
    middle = (scale.low + scale.high) / 2
    return Scale(middle - least / 2, middle + least / 2, scale.diverging)


def _even(relations: Tensor) -> float:
    """The weight of every position where attention is spread evenly."""
    return 1 / (relations.shape[-2] * relations.shape[-1])


def _named(entry: Mapping[str, Any]) -> bool:
    """Whether an affinity's map is the one its step is named for: what *distribute* gives, what others take."""
    return entry["what"] not in ("takes", "gives") or (entry["what"] == "gives") == (entry["step"] == "distribute")


def _words(values: Tensor, entry: Mapping[str, Any]) -> tuple[str, str]:
    """A map's name, and what its values are: what they do to the features, never why the network decided."""
    step, what = entry["step"], entry["what"]
    if what == "emphasis":
        return "emphasis", "Share of the feature energy, turned up (red) or down (blue); logarithm."
    if what in ("takes", "gives"):
        verb = "takes from" if what == "takes" else "gives to"
        even = f"{_even(values):.2g}"
        return step or what, f"What the ringed position {verb} every position; spread evenly, {even} each."
    if what == "weights":
        several = f"{values.shape[1]} {WEIGHED['branch' if 'branch' in entry['axes'] else entry['axes'][0]]}"
        mean = ", mean over channels" if "branch" in entry["axes"] else ""
        return step.removesuffix("_map") or what, f"How each of {several} is weighed{mean}."
    name = f"{step} gate".strip()
    channels = values.shape[1]
    if values.shape[2:] == (1, 1):
        return name, f"What each of {channels} channels is multiplied by."
    if channels > 1:
        return name, f"What every position is multiplied by, mean over {channels} channels."
    return name, "What every position is multiplied by."


def _bars(values: Float[Tensor, "n c"], name: str, what: str, *, gates: bool) -> Strip:
    low, high = float(values.min()), float(values.max())
    # gates about one, as after an identity start, are shown by how far they left it; others from zero
    line = 1.0 if gates and (low > 0.75 or high > 1) else 0.0
    low, high = (min(low, 1.0), max(high, 1.0)) if line else (min(low, 0.0), max(high, 1.0))
    span = high - low or 1.0
    channels = values.shape[1]
    at = 100 * (high - line) / span

    def path(heights: Tensor) -> str:
        tops = [100 * (high - value) / span for value in heights.tolist()]
        return "".join(f"M{index}.1 {at:.4g}V{top:.4g}h.8V{at:.4g}z" for index, top in enumerate(tops))

    cells = [
        Bars(channels, path(own), at, f"{name} for image {number}: from {own.min():.3g} to {own.max():.3g}")
        for number, own in enumerate(values, 1)
    ]
    if gates:
        what += " Bars from 1, which leaves a channel as it is." if line else " Bars from 0, which silences a channel."
    note = ""
    if len(values) > 1:
        moves = float(values.std(0).mean())
        one, all_of_them = ("a channel’s gate", "the gates") if gates else ("a weight", "the weights")
        note = (
            f"From image to image {one} moves by {moves:.2g} (mean standard deviation)."
            if moves >= 0.005
            else f"From image to image {all_of_them} hardly move: by less than 0.005."
        )
    return Strip(name, what, cells, *ends(low, high), note=note)


def _gradient(scale: Scale) -> list[str]:
    """The scale's colours as they look in a picture: over the grey in the middle of a lifted image."""
    values = torch.linspace(scale.low, scale.high, 9) if not scale.constant else torch.full((2,), scale.low)
    grey = (FLOOR + 255) / 2
    blended = ALPHA * scale.colours(values).float() + (1 - ALPHA) * grey
    return [f"rgb({red}, {green}, {blue})" for red, green, blue in blended.round().int().tolist()]
