"""Relations of positions, asked at a point: where it collects from, and where it gives to."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from foveate.errors import OptionError, check_at_least
from foveate.explain.overlay import Scale, scale_of
from foveate.explain.pictures.heatmaps import Image, check_image, heatmaps, widened
from foveate.explain.pictures.numbers import number
from foveate.explain.pictures.page import below, tiles
from foveate.explain.pictures.panels import ColourBar
from foveate.explain.pictures.parts import Parts
from foveate.explain.pictures.picture import Picture, said
from foveate.explain.pictures.positions import bar_alpha, size_note
from foveate.explain.pictures.telling import NOT_WHY, constant, joined, one_of, scale_note, title_of
from foveate.explain.record import AttentionMap

HEADS = 6


def asked(
    found: AttentionMap,
    image: Image | None,
    sample: int,
    *,
    point: tuple[int, int] | None = None,
    scale: Scale | None = None,
) -> Parts:
    """One asked point: what it takes from every position, and what every position takes from it; heads apart."""
    height, width = _size(found)
    row, column = point or (height // 2, width // 2)
    takes, gives = collects(found, sample, row, column), distributes(found, sample, row, column)
    heats, names = [takes.mean(0), gives.mean(0)], ["it collects from", "it gives to"]
    if len(takes) > 1:
        names = [f"{name}, mean of {len(takes)} heads" for name in names]
        varying = takes.flatten(1).std(1).argsort(descending=True, stable=True)[:HEADS].tolist()
        heats += [takes[index] for index in sorted(varying)]
        names += [f"collects: head {index}" for index in sorted(varying)]
    even = 1 / (height * width)
    own = scale or scale_of(*heats, diverging=any(bool(heat.min() < 0) for heat in heats))
    wide = own if scale or own.diverging or own.constant else widened(own, even)
    ring = (_at(row, column, (height, width)),)
    first = image is not None and len(heats) == 2
    columns = 3 if first or len(heats) > 2 else 2
    panels = heatmaps(image, heats, wide, names=names, rings=[ring] * len(heats), columns=columns, picture=first)
    sentences = (
        f"The ringed point, row {row} and column {column} of {height}×{width} positions (counted from 0): how much it "
        "takes from every position, and how much every position takes from it.",
        f"Spread evenly, a weight would be {number(even)}.",
        "What it takes is constant: the same from everywhere." if constant(takes.mean(0)) else "",
        scale_note(wide, widened=wide != own),
        size_note((height, width), image),
    )
    bar = ColourBar(wide, "weight of the relation", bar_alpha(image))
    peak = int(heats[0].argmax())
    alt = (
        f"Point ({row}, {column}) of {height}×{width}: it takes most from ({peak // width}, {peak % width}), "
        f"{number(float(heats[0].max()))}, where even shares are {number(even)}"
    )
    return Parts(below(tiles(panels, columns), tiles([bar], 1)), sentences, alt)


def field(
    found: AttentionMap,
    image: Image | None = None,
    sample: int = 0,
    *,
    grid: int = 3,
    gives: bool | None = None,
    prediction: object = None,
    label: object = None,
) -> Picture:
    """A relation of positions asked at several points on a grid, all on one scale.

    Args:
        found: A map of pairs of positions.
        image: What the network was shown, in bytes.
        sample: Which image of the recording.
        grid: How many points a side, from 1 to 4.
        gives: Whether it is drawn where points give to, not where they collect from; ``None`` takes what the map's
            step is named for, as PSANet's *distribute*.
        prediction: What the network said of the image.
        label: What it is.

    Raises:
        OptionError: If the map relates no positions, or there is no such sample or grid.
        FoveateError: If values are not finite numbers.

    Example:
        >>> import torch
        >>> even = AttentionMap("a", "", "", ("hw->hw",), torch.full((1, 4, 4), 0.25), (2, 2))
        >>> field(even, grid=2).caption[:62]
        'Where each ringed point collects from, in a map of 2×2 positio'
    """
    check_image(image)
    check_at_least("grid", grid, 1)
    if grid > 4:
        raise OptionError(f"more than 4 points a side are too small to see: grid is from 1 to 4, not {grid}")
    height, width = _size(found)
    gives = found.step.endswith("distribute") if gives is None else gives
    ask = distributes if gives else collects
    rows, columns = (_spread(side, grid) for side in (height, width))
    points = [(row, column) for row in rows for column in columns]
    heats = [ask(found, sample, row, column).mean(0) for row, column in points]
    even = 1 / (height * width)
    own = scale_of(*heats, diverging=any(bool(heat.min() < 0) for heat in heats))
    wide = own if own.diverging or own.constant else widened(own, even)
    panels = heatmaps(
        image,
        heats,
        wide,
        names=[f"({row}, {column})" for row, column in points],
        rings=[(_at(row, column, (height, width)),) for row, column in points],
        columns=len(columns),
        picture=False,
    )
    bar = ColourBar(wide, "weight of the relation", bar_alpha(image))
    verb = "gives to" if gives else "collects from"
    caption = joined(
        f"Where each ringed point {verb}, in a map of {height}×{width} positions; row and column are above it, counted "
        f"from 0. Spread evenly, a weight would be {number(even)}.",
        "Each is constant: the same for every position." if all(constant(heat) for heat in heats) else "",
        scale_note(wide, widened=wide != own),
        NOT_WHY,
    )
    title, answer = title_of(found), said(prediction, label)
    low, high = number(own.low), number(own.high)
    alt = f"{title}. {len(points)} points {'give' if gives else 'collect'} with weights from {low} to {high}. {answer}"
    return Picture(title, caption, alt.rstrip(". "), answer, below(tiles(panels, len(columns)), tiles([bar], 1)))


def collects(found: AttentionMap, sample: int, row: int, column: int) -> Float[Tensor, "heads h w"]:
    """What a position takes from every position, for every head.

    Example:
        >>> import torch
        >>> taken = AttentionMap("a", "", "", ("hw->hw",), torch.arange(4.0).reshape(1, 2, 2), (1, 2))
        >>> collects(taken, 0, 0, 1).tolist(), distributes(taken, 0, 0, 1).tolist()
        ([[[1.0, 3.0]]], [[[2.0, 3.0]]])
    """
    return _heads(found.attends_to(row, column), found, sample)


def distributes(found: AttentionMap, sample: int, row: int, column: int) -> Float[Tensor, "heads h w"]:
    """What every position takes from one, for every head."""
    return _heads(found.attended_by(row, column), found, sample)


def _heads(maps: Float[Tensor, "b *head h w"], found: AttentionMap, sample: int) -> Tensor:
    own = one_of(maps, found.place, sample)
    return own if own.ndim == 3 else own[None]


def _size(found: AttentionMap) -> tuple[int, int]:
    if found.size is None or len(found.size) != 2:
        raise OptionError(f"'{found.place}' relates no positions, and has no point to ask about: see foveate's draw")
    return found.size[0], found.size[1]


def _at(row: int, column: int, size: tuple[int, int]) -> tuple[float, float]:
    return (column + 0.5) / size[1], (row + 0.5) / size[0]


def _spread(side: int, count: int) -> list[int]:
    """Positions in the middle of equal parts of a side.

    Example:
        >>> _spread(8, 3), _spread(2, 3)
        ([1, 4, 6], [0, 1])
    """
    return sorted({int((2 * index + 1) * side / (2 * count)) for index in range(count)})
