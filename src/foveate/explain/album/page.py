"""An album as one HTML page that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foveate import __version__
from foveate.explain.album.telling import RULE
from foveate.explain.pages import pages
from foveate.explain.trust import GateStatistics
from foveate.explain.trust.assess import NAMES, Assessment
from foveate.explain.trust.effect import fixed

if TYPE_CHECKING:
    from foveate.explain.album.album import Album

NOTHING = "—"


@dataclass(frozen=True)
class Table:
    """A table of plain cells; on a phone every line of it is a card."""

    caption: str
    first: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    folded: str = ""
    note: str = ""


def page(album: Album) -> str:
    """The page.

    Raises:
        MissingExtraError: If Jinja2 is not installed.
    """
    found = album.trust.found
    sentences = album.trust.sentences()
    whole = found.sentences()[0] if found is not None and found.ablation is not None else ""
    template = pages("foveate.explain.album", "explain").get_template("album.html.j2")
    return template.render(
        album=album,
        version=__version__,
        headline=whole,
        sentences=sentences,
        place_rule=RULE if album.settings.get("place") is None else "which was asked for",
        tables=[] if found is None else tables(found),
    )


def tables(found: Assessment) -> list[Table]:
    """All measures of trust, and the gates."""
    return [_faithful(found), *_pointing(found), *_cascades(found), *_gates(found.statistics)]


def _faithful(found: Assessment) -> Table:
    values = found.faithful.values
    measures = [measure for measure in NAMES if any(measure in by for by in values.values())]
    names = {"uniform": "a random order", "centre": "the image’s middle"}
    rows = tuple(
        (names.get(which, which), tuple(_number(values[which].get(measure)) for measure in measures))
        for which in values
    )
    return Table(
        "Does the answer hang on what a map marks? Pixels are taken away, or given, in the map’s order.",
        "Map",
        tuple(NAMES[measure].capitalize() if measure != "road" else NAMES[measure] for measure in measures),
        rows,
        note="Means over the images. Deletion: less is better. Insertion and ROAD: more is better.",
    )


def _pointing(found: Assessment) -> list[Table]:
    if found.pointing is None:
        return []
    names = {"uniform": "an even map", "centre": "a Gaussian in the middle"}
    titles = {"pointing_hit": "Pointing game", "mass_inside": "Mass inside", "rank_accuracy": "Rank accuracy"}
    rows = tuple(
        (names.get(which, which), tuple(f"{found.pointing.mean(which, measure).mean:.0%}" for measure in titles))
        for which in found.pointing.values
    )
    caption = f"Does a map mark what a person marked? {len(found.pointing.images)} images."
    return [Table(caption, "Map", tuple(titles.values()), rows)]


def _cascades(found: Assessment) -> list[Table]:
    """How alike a map stays when layers are drawn anew."""
    if not found.cascades:
        return []
    count = max(len(one.stages) for one in found.cascades.values())
    columns = tuple(
        f"{next(iter(found.cascades.values())).stages[number].share:.0%} of parameters" for number in range(count)
    )
    rows = tuple(
        (name, tuple(_correlation(stage.correlation) for stage in one.stages)) for name, one in found.cascades.items()
    )
    return [
        Table(
            "Does a map show what was learned? Layers are drawn anew from the last to the first: the rank correlation "
            "of each map with itself.",
            "Map",
            columns,
            rows,
            note="A map that still correlates when nothing is left of what was learned shows the image and the "
            f"architecture. {NOTHING}: the map is the same everywhere, and has no order.",
        )
    ]


def _gates(statistics: Sequence[GateStatistics]) -> list[Table]:
    """The weights of every map."""
    rows = tuple(
        (
            str(one.name),
            (
                f"{one.mean:.3g}",
                f"{one.low:.3g} to {one.high:.3g}",
                f"{one.over_inputs:.2g}",
                _share(one.from_inputs),
                _share(one.closed),
                _share(one.open),
                _share(one.entropy),
            ),
        )
        for one in statistics
    )
    columns = (
        "Mean", "Range", "From image to image", "Variance between images", "Below 0.05", "Above 0.95", "Entropy",
    )  # fmt: skip
    return [
        Table(
            f"The weights of every map over {statistics[0].examples if statistics else 0} images.",
            "Map",
            columns,
            rows,
            folded=f"The weights of all {len(rows)} maps" if len(rows) > 4 else "",
            note="Range: the smallest and the largest weight. From image to image: how far one weight deviates. "
            "Variance between images: the rest is a pattern that all images share. Entropy: against that of equal "
            "weights."
            + (" Of relations: in multiples of an even share." if any(one.name.relates for one in statistics) else ""),
        )
    ]


def _number(values: Sequence[float] | None) -> str:
    return NOTHING if not values else fixed(sum(values) / len(values), 3).replace("-", "\N{MINUS SIGN}")


def _correlation(value: float | None) -> str:
    return NOTHING if value is None else fixed(value, 2).replace("-", "\N{MINUS SIGN}")


def _share(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.0%}"
