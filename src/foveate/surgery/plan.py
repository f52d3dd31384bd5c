"""What an attachment would add, place by place, without touching anything."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal, Never

import torch
from torch import nn

from foveate.errors import check_at_least, check_choice
from foveate.measure import Conditions, Machine, count_parameters, this_machine
from foveate.registry import Spec, get
from foveate.surgery.attached import attached
from foveate.surgery.build import build
from foveate.surgery.places import At, Place, default_example, find_places
from foveate.surgery.planned import Plan, PlannedPlace, size_in_words
from foveate.surgery.price import Asked, priced, priced_instead
from foveate.surgery.replace import check_replaces, convolutions, made_for
from foveate.surgery.request import What, check_no_more, check_request, kind_of_place, made_for_size, usual_place
from foveate.surgery.unwrap import unwrapped

# an affinity's weights, one number for each pair of positions: above this many bytes an image, training will not fit
_LARGE = 1 << 30


def plan(
    model: nn.Module,
    attention: What,
    *,
    at: At | Sequence[At] | None = None,
    start: Literal["identity", "paper"] = "identity",
    example: Any = None,
    stages: int | Iterable[int] | None = None,
    exclude: At | Sequence[At] = (),
    latency: bool = False,
    predict: bool = False,
    batch: int = 1,
    rounds: int = 10,
    **more: Never,
) -> Plan:
    """Where attention would go and what it would add; the network stays as it is.

    Args:
        model: The network.
        attention: What would be attached, as in :func:`foveate.attach`; or the name or spec of a mechanism that would
            stand in the place of convolutions, as in :func:`foveate.replace`.
        at: Where, as there; as those two have it by themselves, if ``None``.
        start: How it would start; the identity has a blend of one parameter for each step.
        example: An input to watch one forward pass with.
        stages: Only places of these stages, as there.
        exclude: Patterns of places to leave out.
        latency: Whether to build each module on the network's device and time it on maps of its place.
        predict: Whether to say what time and memory each would take on this machine, from its operations alone: see
            :func:`foveate.measure.predict`.
        batch: How many maps at once, for latency and prediction.
        rounds: How many times to time each.
        **more: Nothing: options of the mechanism are written with its name.

    Raises:
        OptionError: If the mechanism or an option cannot work.
        PlaceError: If a pattern matches nothing, or a place cannot carry attention.

    Example:
        >>> from foveate import hosts
        >>> model = hosts.build("foveate/resnet8", classes=10)
        >>> planned = plan(model, "se:reduction=4")
        >>> [(place.path, place.channels, place.parameters) for place in planned.places][0]
        ('layer1.0.bn2', 16, 149)
    """
    check_no_more("plan", attention, more)
    check_choice("start", start, ("identity", "paper"))
    check_at_least("rounds", rounds, 1)
    check_at_least("batch", batch, 1)
    chosen = check_request(model, attention)
    inner = unwrapped(model)
    guessed, warned = example is None, list[str]()
    watched_with = default_example(inner) if example is None else example
    where = usual_place(chosen) if at is None else at
    if isinstance(chosen, Spec) and get(chosen.name).protocol == "replacement":
        check_replaces(chosen)
        found, warned = convolutions(inner, chosen, where, watched_with, stages, exclude)
        places = [one.place for one in found]
        asked = _asked(places[0], latency * rounds, predict, batch)
        planned = [priced_instead(chosen, one, asked) for one in found]
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            first = made_for(found[0], chosen)
    else:
        places = find_places(inner, where, watched_with, stages, exclude, kind=kind_of_place(chosen))
        asked = _asked(places[0], latency * rounds, predict, batch)
        planned = [priced(chosen, place, start, asked) for place in places]
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            first = build(chosen, places[0], start)
    tied = made_for_size(chosen, [first], watched_with) if guessed else None
    conditions = Conditions.here(places[0].device, places[0].dtype) if latency or predict else None
    name = str(chosen) if isinstance(chosen, Spec) else getattr(chosen, "__name__", type(chosen).__name__)
    present = tuple(attached(inner))
    warned += [*_warnings(planned, guessed), *filter(None, [tied])]
    whole = Plan(name, tuple(planned), count_parameters(model), present, batch=batch, conditions=conditions)
    return replace(whole, warnings=(*warned, *_too_large(whole, asked.machine)))


def _asked(place: Place, rounds: int, predict: bool, batch: int) -> Asked:
    device = "cpu" if place.device.type == "meta" else place.device
    return Asked(batch, rounds, this_machine(device, place.dtype) if predict else None)


def _warnings(places: list[PlannedPlace], guessed: bool) -> list[str]:
    """What will hurt: affinities between very many positions, and places that one picture size does not tell."""
    found = list[str]()
    large = [place for place in places if place.pairs >= _LARGE]
    if large:
        worst = max(large, key=lambda place: place.pairs)
        shape = "×".join(map(str, worst.size))
        others = f" and {len(large) - 1} more places relate" if len(large) > 1 else " relates"
        found.append(
            f"'{worst}'{others} all pairs of positions: of {shape} that is {size_in_words(worst.pairs)} for one image "
            "wherever their matrix is built, as in compiled and exported graphs; choose deeper stages, or a smaller map"
        )
    single = [place for place in places if all(side == 1 for side in place.size)]
    if single and not guessed:
        found.append(
            f"{len(single)} of {len(places)} places have a map of one position, such as '{single[0]}': nothing is left "
            "to choose between there, and a norm sees the batch alone"
        )
    return found


def _too_large(whole: Plan, machine: Machine | None) -> list[str]:
    """What would not fit into the machine's memory."""
    predicted = whole.predicted
    if machine is None or machine.memory is None or predicted is None:
        return []
    for what, needed in (("inference", predicted.memory), ("training", predicted.training)):
        if needed > machine.memory:
            return [
                f"{what} with {whole.batch} {'image' if whole.batch == 1 else 'images'} at once would take "
                f"{size_in_words(needed)} for the attention alone, and this machine has "
                f"{size_in_words(machine.memory)}; choose deeper stages, a smaller map or a smaller batch"
            ]
    return []
