"""What an album shows of one image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from foveate.errors import FoveateError
from foveate.explain.activation import class_activation
from foveate.explain.album.about import About
from foveate.explain.album.answered import answered
from foveate.explain.album.emphasised import activated, emphasised
from foveate.explain.album.kind import Kind, finite
from foveate.explain.album.seen import Seen
from foveate.explain.pictures import Picture, beside, draw, field, strip
from foveate.explain.record import AttentionMap, record

MOST = 3  # places whose maps are shown one by one: the first, the middle and the last
RELATION = "->"


@dataclass(frozen=True)
class Sheet:
    """One image.

    Attributes:
        name: What it is called.
        said: What the network says, ready for JSON; empty where its numbers are none.
        sentence: The same, short.
        truth: What a person says; ``None`` where nobody did.
        right: Whether the two are the same; ``None`` where that is not known or no question of yes or no.
        answer: The picture with what the network says.
        large: The most telling map.
        stages: Attention stage by stage.
        beside: The same map beside Grad-CAM.
        gates: Gates of the first, the middle and the last place.
        fields: Where the middle position looks, of affinities.
        grids: Where nine positions look.
        missing: What could not be drawn, as sentences.
    """

    name: str
    said: dict[str, Any]
    sentence: str
    truth: str | None
    right: bool | None
    answer: Picture
    large: Picture | None
    stages: Picture | None
    beside: Picture | None
    gates: tuple[Picture, ...]
    fields: tuple[Picture, ...]
    grids: tuple[Picture, ...]
    missing: tuple[str, ...]

    def pictures(self) -> Iterator[tuple[str, Picture]]:
        """All of its pictures with names for files."""
        yield "answer", self.answer
        for name, picture in (("large", self.large), ("stages", self.stages), ("beside", self.beside)):
            if picture is not None:
                yield name, picture
        for what, several in (("gate", self.gates), ("field", self.fields), ("grid", self.grids)):
            for number, picture in enumerate(several, 1):
                yield f"{what}-{number}", picture

    def as_dict(self) -> dict[str, Any]:
        """What is said, ready for JSON."""
        return {
            "name": self.name,
            "said": self.said,
            "sentence": self.sentence,
            "label": self.truth,
            "right": self.right,
            "missing": list(self.missing),
        }

    def first(self) -> list[Picture]:
        """What stands open on a page, the largest first."""
        return [one for one in (self.answer, self.large, self.stages, self.beside, *self.fields) if one is not None]

    def more(self) -> list[Picture]:
        """What is folded away."""
        return [*self.gates, *self.grids]


def sheet(
    network: nn.Module,
    one: Seen,
    answer: Any,
    kind: Kind,
    *,
    target: Any | None,
    place: str | None,
    about: About,
) -> Sheet:
    """Draw everything of one image.

    Args:
        network: In evaluation mode.
        one: The image.
        answer: What the network answers.
        kind: Of the answer.
        target: What Grad-CAM is asked about: what the network itself says; ``None`` where it says nothing.
        place: The most telling place; ``None`` where no map has positions.
        about: The network.
    """
    said = kind.says(answer)
    truth = None if one.truth is None else kind.true_words(one.truth)
    words: dict[str, Any] = {"prediction": said, "label": truth}
    missing: list[str] = []

    def attempt(what: str, make: Callable[..., Picture], *args: Any, **more: Any) -> Picture | None:
        """What cannot be drawn is named, and the rest is drawn all the same."""
        try:
            return make(*args, **more, **words)
        except FoveateError as error:
            missing.append(f"{what} cannot be drawn: {error}.")
            return None

    def attempts(make: Callable[..., Picture], maps: Sequence[AttentionMap]) -> tuple[Picture, ...]:
        drawn = [attempt(f"The map at '{found.place}'", make, found, one.pixels, 0) for found in maps]
        return tuple(picture for picture in drawn if picture is not None)

    large = stages = None
    gates: tuple[Picture, ...] = ()
    fields: tuple[Picture, ...] = ()
    grids: tuple[Picture, ...] = ()
    if about.visible:
        with torch.no_grad(), record(network) as recording:
            network(one.given[None])
        large = None if place is None else attempt("What attention did", emphasised, recording, place, one)
        stages = attempt("The strip of stages", strip, recording, one.pixels, 0)
        gates = attempts(draw, _some([found for found in recording if not _is_field(found)]))
        relations = [found for found in recording if _is_field(found)]
        # what stands open is of the last place, nearest to the answer
        fields = attempts(draw, [found for found in relations if found.place == relations[-1].place])
        grids = attempts(field, _some(relations))
    seen: Picture | None = None
    if target is None:
        none = "The network finds nothing here" if finite(answer) else "The network's answer is not finite"
        missing.append(f"{none}, so there is nothing that Grad-CAM could be asked about.")
    else:
        given, asked = one.given[None], kind.first(target)
        score = kind.judged.single

        def alone(**words: Any) -> Picture:
            cam = class_activation(network, given, [asked], score=score)[0]
            return activated(one, cam, attention=bool(about.mechanisms), **words)

        if place is None:
            seen = attempt("Grad-CAM", alone)
        else:
            named: dict[str, Any] = {"inputs": given, "place": place, "score": score, "classes": kind.classes}
            seen = attempt("Grad-CAM", beside, network, one.pixels, asked, **named)
    return Sheet(
        name=one.name,
        said=kind.told(answer) if finite(answer) else {},
        sentence=said,
        truth=truth,
        right=None if one.truth is None or not finite(answer) else kind.right(answer, one.truth),
        answer=answered(one, answer, kind),
        large=large,
        stages=stages,
        beside=seen,
        gates=gates,
        fields=fields,
        grids=grids,
        missing=tuple(missing),
    )


def _some(maps: Sequence[AttentionMap]) -> list[AttentionMap]:
    """The maps of the first, the middle and the last place."""
    places = list(dict.fromkeys(found.place for found in maps))
    last = len(places) - 1
    chosen = {places[number] for number in {0, last // 2, last}} if places else set[str]()
    return [found for found in maps if found.place in chosen]


def _is_field(found: AttentionMap) -> bool:
    return found.size is not None and len(found.size) == 2
