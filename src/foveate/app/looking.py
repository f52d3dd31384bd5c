"""What one network says of one picture, and what its attention did to it, as pieces of the page."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from foveate.app.markup import bars, escaped, figure, note, table
from foveate.app.networks import Chosen
from foveate.errors import FoveateError
from foveate.explain import AttentionMap, Recording, overlay, record
from foveate.explain.activation import class_activation
from foveate.explain.heat import heats
from foveate.explain.overlay import Scale
from foveate.explain.pictures import beside, draw, strip
from foveate.explain.scores import box_score, class_logit, mask_logit
from foveate.study.costs.side_by_side import side_by_side
from foveate.surgery.attached import attached
from foveate.surgery.planned import size_in_words
from foveate.train.album import frame_for, padding
from foveate.train.drawing import centre_square, enlarged, grey, rgb
from foveate.train.kinds.kind import Said
from foveate.train.pixels import Normalise

ROUNDS, SECONDS = 12, 4.0
NO_ATTENTION = "This network has no attention: there are no maps. Choose a mechanism, or a run that has one."


@dataclass(frozen=True)
class Seen:
    """One picture, as one network saw it.

    Attributes:
        pixels: What it was shown.
        said: What it said.
        maps: What its attention held; ``None`` where it has none.
    """

    pixels: UInt8[Tensor, "c h w"]
    said: Said
    maps: Recording | None


def shown_to(chosen: Chosen, pixels: UInt8[Tensor, "3 h w"]) -> UInt8[Tensor, "c h w"]:
    """A picture as this network takes it: the centre square at its size, grey where it knows no colours.

    A detector takes the whole picture, in a frame that its layers fit, so that its maps cover all that is shown.
    """
    if chosen.kind.name == "detection":
        return frame_for(chosen.network, (pixels.shape[1], pixels.shape[2]))("", pixels, None).pixels
    mine = grey(pixels) if chosen.channels == 1 else pixels
    return mine if chosen.size is None else centre_square(mine, chosen.size)


def see(chosen: Chosen, pixels: UInt8[Tensor, "3 h w"]) -> Seen:
    """Ask the network, and record what its attention holds meanwhile."""
    mine = shown_to(chosen, pixels)
    with record(chosen.network) if chosen.attended else nullcontext() as maps:
        said = chosen.kind.say(chosen.network, mine, chosen.classes, chosen.options)
    return Seen(mine, said, maps)


def answer(chosen: Chosen, seen: Seen) -> str:
    """What it was shown and what it said."""
    content = seen.said.content
    shares: dict[str, float] = content.get("probabilities") or content.get("shares") or {}
    ranked = sorted(shares.items(), key=lambda one: -one[1])[:5]
    what = "the share of each class's pixels" if "shares" in content else "the classes it takes it for, by probability"
    told = bars(f"{chosen.name}: {what}", ranked) if ranked else note(f"found: {content.get('found', 'nothing')}")
    size = "×".join(str(side) for side in reversed(seen.pixels.shape[1:]))
    caption = f"What the network was shown: {size} pixels{' of grey' if len(seen.pixels) == 1 else ''}."
    notes = chosen.notes
    if chosen.kind.name == "detection":
        notes += padding(chosen.network, (seen.pixels.shape[1], seen.pixels.shape[2]))
        caption += (
            " An even edge on the right or below is no part of the picture: it fills the frame that its layers need."
        )
    picture = enlarged(seen.said.picture if chosen.kind.name != "classification" else rgb(seen.pixels))
    return (
        note(*notes, kind="warning")
        + told
        + figure("the picture", caption, picture, small=chosen.kind.name == "classification")
    )


def places(chosen: Chosen) -> str:
    """Where attention acts, and what it adds there where it was put in here."""
    if chosen.plan is not None:
        head = ("place", "stage", "channels", "map", "parameters", "MACs", "moved")
        rows = [
            (one, one.stage, one.channels, _size(one.size), f"{one.parameters:,}", f"{one.macs:,}",
             size_in_words(one.bytes))
            for one in chosen.plan.places
        ]  # fmt: skip
        said = str(chosen.plan).splitlines()
        total = next(line for line in said if line.startswith(f"{chosen.plan.attention}: "))
        return table(f"places of {chosen.plan.attention}", head, rows) + note(total, *chosen.plan.warnings)
    found = [(one.place, one.mechanism, f"{one.parameters:,}") for one in attached(chosen.network)]
    if not found:
        return note(NO_ATTENTION)
    return table("attention in this network", ("place", "mechanism", "parameters"), found)


def maps(seen: Seen) -> str:
    """What attention did to the picture's positions, stage by stage."""
    if seen.maps is None:
        return note(NO_ATTENTION)
    if not heats(seen.maps).maps:
        return note(
            "No map of this network is of positions: gates on channels or kernels, or relations of channels. See them "
            "one by one below."
        )
    return strip(seen.maps, large(seen), prediction=_prediction(seen)).html()


def map_names(seen: Seen) -> list[str]:
    """All maps by name, in the order in which they ran."""
    return [name_of(one) for one in seen.maps or ()]


def one_map(seen: Seen, name: str | None) -> str:
    """One map as it is: bars of channels, positions over the picture, or a relation from its middle.

    Raises:
        FoveateError: If there is no such map.
    """
    if seen.maps is None:
        return note(NO_ATTENTION)
    names = map_names(seen)
    if name not in names:
        raise FoveateError("this network has no such map: press Look again")
    return draw(seen.maps[names.index(name)], large(seen), prediction=_prediction(seen)).html()


def evidence(chosen: Chosen, seen: Seen, target: str | None, method: str) -> str:
    """Where the evidence for an answer lies, by a class activation map.

    Raises:
        OptionError: If there is no such method.
        FoveateError: If there is no such class.
    """
    if chosen.kind.name == "detection":
        return _evidence_for_a_box(chosen, seen, method)
    x = _input(seen)
    if chosen.kind.name == "segmentation":
        assert seen.said.mask is not None  # noqa: S101 (it is what segmenting networks say)
        if not bool((seen.said.mask > 0).any()):
            return note("The network marks nothing but its first class: there is no evidence to look for.")
        heat = class_activation(chosen.network, x, [seen.said.mask.long()], method=method, score=mask_logit)[0]
        name = "what is marked"
    else:
        name = target or seen.said.content["class"]
        if name not in chosen.classes:
            raise FoveateError(f"this network knows no class '{name}'")
        index = chosen.classes.index(name)
        if seen.maps is not None and heats(seen.maps).maps:
            said = _prediction(seen)
            names = chosen.classes
            picture = beside(
                chosen.network, large(seen), index, inputs=x, methods=[method], classes=names, prediction=said
            )
            return f"<h4>{escaped(f'what speaks for {name}')}</h4>{picture.html()}"
        heat = class_activation(chosen.network, x, [index], method=method, score=class_logit)[0]
    if not bool(heat.any()):
        return note(f"Nothing in this picture speaks for '{name}' by {method}.")
    scale = Scale(0.0, 1.0)
    picture = overlay(large(seen), heat, scale=scale)
    return figure(f"what speaks for {name}", f"{method}, relative to its highest: {scale.note()}.", picture)


def _evidence_for_a_box(chosen: Chosen, seen: Seen, method: str) -> str:
    """Of what a detector found, the surest."""
    things = seen.said.content["things"]
    if not things:
        return note("The network finds nothing here: there is no evidence to look for.")
    surest = max(things, key=lambda thing: thing["score"])
    target = torch.tensor(surest["box"]), chosen.classes.index(surest["class"]) + 1  # 0 is nothing
    pixels = rgb(seen.pixels)
    x = pixels[None].float() / 255
    heading = f"what speaks for the surest box, {surest['class']} {surest['score']:.0%}"
    if seen.maps is not None and heats(seen.maps).maps:
        said = _prediction(seen)
        # the box is in the pixels of the picture, which is not enlarged for that
        picture = beside(chosen.network, pixels, target, inputs=x, methods=[method], score=box_score, prediction=said)
        return f"<h4>{escaped(heading)}</h4>{picture.html()}"
    heat = class_activation(chosen.network, x, [target], method=method, score=box_score)[0]
    scale = Scale(0.0, 1.0)
    return figure(heading, f"{method}, relative to its highest: {scale.note()}.", overlay(pixels, heat, scale=scale))


def costs(chosen: Chosen) -> str:
    """What it costs with and without its attention, timed in turn."""
    from foveate.measure import measure

    if chosen.bare is None:
        return note("There is nothing to compare with: no attention was put into a host here.")
    with torch.random.fork_rng(devices=[]):
        bare = chosen.bare().eval()
    example = chosen.kind.example(chosen.channels, chosen.options)
    if isinstance(example, list):  # a detector takes a batch as well
        example = torch.stack(example)
    both = {"without": bare, "with": chosen.network}
    counted = {name: measure(network, example, rounds=2, warmup=1) for name, network in both.items()}
    calls = {name: _call(network, example) for name, network in both.items()}
    timed, run = side_by_side(calls, baseline="without", rounds=ROUNDS, seconds=SECONDS, device=torch.device("cpu"))
    before, after = counted["without"], counted["with"]
    rows = [
        ("parameters", f"{before.parameters:,}", f"{after.parameters:,}", _more(before.parameters, after.parameters)),
        ("MACs", f"{before.macs:,}", f"{after.macs:,}", _more(before.macs, after.macs)),
        ("moved", size_in_words(before.bytes), size_in_words(after.bytes), _more(before.bytes, after.bytes)),
        ("memory", size_in_words(before.peak_memory), size_in_words(after.peak_memory),
         _more(before.peak_memory, after.peak_memory)),
        ("time", *(f"{timed[name]['median_ms']:.2f} ms" for name in both), f"{timed['with']['ratio'] - 1:+.1%}"),
    ]  # fmt: skip
    here = after.conditions
    noise = "" if run["noise"] is None else f" The same network timed twice differed by {run['noise']:.1%}."
    return table("one picture through the network", ("", "without", "with", "more"), rows) + note(
        f"{here.dtype}, {here.cpu}, {here.threads} threads, {run['rounds']} rounds in turn; other people of this page "
        f"may have been computing.{noise}"
    )


def trust(chosen: Chosen, seen: Seen) -> str:
    """Whether this answer hangs on what the map marks, on this one picture."""
    from foveate.explain.heat import heat
    from foveate.explain.trust import faithful

    if chosen.kind.name != "classification":
        return note("Measured here for networks that classify; foveate.explain.trust takes masks and boxes too.")
    if seen.maps is None:
        return note(NO_ATTENTION)
    x = _input(seen)
    target = chosen.classes.index(seen.said.content["class"])
    attention = heat(seen.maps)
    marked = class_activation(chosen.network, x, [target])
    found = faithful(
        chosen.network, x, [target], {"attention": attention, "Grad-CAM": marked}, steps=10, with_road=False
    )
    head = ("map", *(words for words in _CURVES.values()))
    rows = [
        (_NAMED.get(name, name), *(f"{found.values[name][measure][0]:.3f}" for measure in _CURVES))
        for name in found.values
    ]
    return table(f"how far the answer '{seen.said.content['class']}' hangs on each map", head, rows) + note(
        "The area below the class's probability while pixels go (lower is better) or come (higher is better), the "
        "highest first. One picture shows nothing of a network: foveate.explain.trust.assess asks many, and whether "
        "the map was learned, and whether it is more than a constant."
    )


_CURVES = {
    "deletion_blur": "deletion, blur ↓",
    "deletion_mean": "deletion, mean colour ↓",
    "insertion_blur": "insertion, blur ↑",
    "insertion_mean": "insertion, mean colour ↑",
}
_NAMED = {"uniform": "a random order", "centre": "the picture's middle"}


def name_of(one: AttentionMap) -> str:
    """A map's name on the page."""
    run = f"run {one.run + 1}" if one.run else ""
    return " · ".join(filter(None, (one.place, one.attachment, one.step, run)))


def large(seen: Seen) -> UInt8[Tensor, "3 h w"]:
    """The picture as the network saw it, large enough to be drawn on."""
    return enlarged(rgb(seen.pixels))


def _input(seen: Seen) -> Float[Tensor, "1 c h w"]:
    return Normalise.usual(len(seen.pixels))(seen.pixels[None])


def _prediction(seen: Seen) -> str:
    content = seen.said.content
    return str(content.get("class") or content.get("found") or "")


def _size(sides: Sequence[int]) -> str:
    return "×".join(map(str, sides))


def _more(before: int, after: int) -> str:
    return f"{after / before - 1:+.1%}" if before else ""


def _call(network: torch.nn.Module, example: Any) -> Any:
    def run() -> object:
        with torch.inference_mode():
            return network(example)

    return run
