"""Whether attention acts where it was put: one watched pass after it came."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from foveate.errors import PlaceError
from foveate.surgery.attended import ATTENTION, HOST, Absent, attended_places, host_path
from foveate.surgery.insert import take_out
from foveate.surgery.places.passes import Pass
from foveate.surgery.places.residuals import joins
from foveate.surgery.places.watch import watch


def check_that_it_acts(model: nn.Module, name: str, example: Any) -> None:
    """Watch the network with its attention; take it out again where it does not do what was promised.

    Raises:
        PlaceError: If the network no longer runs, or calls a module past its place, or attention past its branch.
    """
    try:
        seen = watch(model, example)
        wrong = next(_wrongs(model, name, seen), None)
    except PlaceError as error:
        take_out(model, [name])
        raise PlaceError(f"with attention in it this network no longer runs; nothing was attached. {error}") from error
    if wrong is not None:
        take_out(model, [name])
        raise PlaceError(f"{wrong}; nothing was attached")


def _wrongs(model: nn.Module, name: str, seen: Pass) -> Iterator[str]:
    shortcuts = {join.shortcut for join in joins(seen)}
    for path, place in attended_places(model).items():
        keys = [key for key, how in place.foveate_seats.items() if how.attachment == name]
        where = host_path(model, path)
        calls = seen.calls_of(path)
        past = [call for call in seen.calls_of(f"{path}.{HOST}".lstrip(".")) if call.parent not in calls]
        if keys and (past or not calls):
            yield (
                f"the network calls '{where}' through another reference than its place among the modules, such as a "
                "list of its own, so attention there would not always run"
            )
        if any(f"{path}.{ATTENTION}.{key}".lstrip(".") not in seen.acted for key in keys):
            yield f"attention at '{where}' is never given the map that it should act on"
        absent = isinstance(place.foveate_host, Absent)
        if keys and absent and not any(value in shortcuts for call in calls for value in call.returned):
            yield f"the network puts '{where}' somewhere else than on its shortcut"
