"""The natural picture of one map: channels as bars, positions over the image, relations from an asked point."""

from __future__ import annotations

from torch import Tensor

from foveate.explain.overlay import Scale
from foveate.explain.pictures import kernels, lines, positions, relations, weights
from foveate.explain.pictures.heatmaps import Image, check_image
from foveate.explain.pictures.parts import Parts
from foveate.explain.pictures.picture import Picture, said
from foveate.explain.pictures.telling import NOT_WHY, joined, one_of, title_of
from foveate.explain.record import AttentionMap


def draw(
    found: AttentionMap,
    image: Image | None = None,
    sample: int = 0,
    *,
    prediction: object = None,
    label: object = None,
    point: tuple[int, int] | None = None,
    rest: float | Tensor | None = None,
    scale: Scale | None = None,
) -> Picture:
    """The natural picture of one map, for one image.

    ==============================================  =================================================================
    map                                             picture
    ==============================================  =================================================================
    channels, kernels, branches, taps, ...          bars; the highest and the lowest by number
    positions, with or without channels             over the image; of several channels the mean and what varies most
    rows or columns                                 bands over the image, and their curve beside it
    pairs of positions                              from one asked point: where it collects from, where it gives to
    pairs of channels; branches of channels         a matrix
    a kernel for every position                     how large each is, and the one of the asked point
    ==============================================  =================================================================

    Args:
        found: One map of a recording.
        image: What the network was shown, in bytes, before it was normalised; without it the map is drawn alone.
        sample: Which image of the recording.
        prediction: What the network said of it, to be written into the picture.
        label: What it is.
        point: Row and column of a position of the map that is asked about; its middle if ``None``.
        rest: What the values are compared with, such as their mean over a data set: a number, or one for each value.
        scale: Which values the colours stand for, so that several pictures can be compared; this map's own if ``None``.

    Raises:
        OptionError: If the image is none, or there is no such sample or point.
        FoveateError: If values of the map are not finite numbers.
        MissingExtraError: If matplotlib is not installed.

    Example:
        >>> import torch
        >>> gate = AttentionMap("layer1", "se", "", ("c",), torch.tensor([0.2, 0.9]).reshape(1, 2, 1, 1))
        >>> draw(gate, prediction="cat").alt
        'layer1: se. Bars of 2 channels, from 0.2 to 0.9. channels: 0 (0.2), 1 (0.9). predicted: cat'
    """
    check_image(image)
    if found.size is not None and len(found.size) == 2:  # asked at a point, so that no matrix of all pairs is built
        parts = relations.asked(found, image, sample, point=point, scale=scale)
    else:
        values = one_of(found.values, found.place, sample)
        parts = _parts(found, values, image, point=point, rest=rest, scale=scale)
    title, answer = title_of(found), said(prediction, label)
    alt = ". ".join(part for part in (title, parts.alt, answer) if part)
    return Picture(title, joined(*parts.sentences, NOT_WHY), alt, answer, parts.placed)


def _parts(
    found: AttentionMap,
    values: Tensor,
    image: Image | None,
    *,
    point: tuple[int, int] | None,
    rest: float | Tensor | None,
    scale: Scale | None,
) -> Parts:
    axes = set(found.axes)
    if found.size is not None:
        return weights.matrix(found, values, scale=scale)
    if {"tap", "h", "w"} <= axes:
        return kernels.kernels(found, values, image, point=point)
    if axes <= {"c", "h", "w"} and values.ndim > 1 and all(side == 1 for side in values.shape[1:]):
        return weights.bars(found, values.flatten(), rest=rest)
    if {"h", "w"} <= axes and values.ndim == 3:
        if 1 in values.shape[1:]:  # a signal, or a map of one row
            return lines.lines(found, values, image, scale=scale)
        return positions.positions(found, values, image, scale=scale)
    if axes <= {"c", "h", "w"} and values.ndim == 3:
        return lines.lines(found, values, image, scale=scale)
    if values.squeeze().ndim == 2:
        return weights.matrix(found, values.squeeze(), scale=scale)
    return weights.bars(found, values.flatten(), rest=rest)
