"""The things to measure one after the other, and what stands in the place of those that fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from foveate.study.costs.attempt import attempt

Arms = dict[str, dict[str, Any]]
Progress = Callable[[str, int, int], None]
LEFT_OUT = "left out of a quick measurement"


@dataclass(frozen=True)
class Item:
    """One thing to measure, of one arm or of all together.

    Attributes:
        what: In words.
        names: Of the arms that it is measured of.
        measure: Returns what was found for each of them.
        keep: Puts what was found into the entry of an arm.
        nothing: What is kept instead where nothing was found, from the reason.
        cheap: Whether a quick measurement has it.
    """

    what: str
    names: tuple[str, ...]
    measure: Callable[[], Mapping[str, Any]]
    keep: Callable[[dict[str, Any], Any], None]
    nothing: Callable[[str | None], Any]
    cheap: bool = False


def measured(items: Sequence[Item], arms: Arms, *, quick: bool, progress: Progress | None) -> None:
    """Measure one thing after the other; none is lost for the failure of another.

    Args:
        items: What.
        arms: The entries of the arms, which are filled in.
        quick: Whether to leave out what is not cheap.
        progress: Told what comes next, how many things are done, and how many there are.
    """
    asked = [item for item in items if item.cheap or not quick]
    for item in items:
        if item not in asked:
            for name in item.names:
                item.keep(arms[name], item.nothing(LEFT_OUT))
    for done, item in enumerate(asked):
        if progress is not None:
            progress(item.what, done, len(asked))
        found, why = attempt(item.measure)
        for name in item.names:
            item.keep(arms[name], item.nothing(why) if found is None else found[name])
    if progress is not None:
        progress("done", len(asked), len(asked))
