"""How far to trust the attention of one network: every measure, as plain values and as sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Bool
from torch import Tensor, nn

from foveate.errors import check_at_least
from foveate.explain.activation import class_activation
from foveate.explain.at_rest import at_rest
from foveate.explain.heat import heat, heats
from foveate.explain.record import record
from foveate.explain.recording.hearing import unseen
from foveate.explain.scores import Score, as_many, class_logit, class_probability, correct
from foveate.explain.trust.ablation import Ablation, ablate
from foveate.explain.trust.faithful import Faithful, faithful
from foveate.explain.trust.pointing import Pointing, pointing
from foveate.explain.trust.randomise import Cascade, cascade
from foveate.explain.trust.statistics import GateStatistics, gate_statistics
from foveate.surgery.attached import find_attention
from foveate.surgery.unwrap import unwrapped

ATTENTION, ACTIVATION = "attention", "Grad-CAM"
NAMES = {
    "deletion_blur": "deletion to a blur",
    "deletion_mean": "deletion to the mean colour",
    "insertion_blur": "insertion into a blur",
    "insertion_mean": "insertion into the mean colour",
    "road": "ROAD",
}


@dataclass(frozen=True)
class Assessment:
    """What was found of one network.

    Attributes:
        maps: The heat maps that were measured, by name: ``"attention"``, where a map of positions was recorded,
            and ``"Grad-CAM"``.
        faithful: Whether the answer hangs on what they mark.
        pointing: Whether they mark what a person marked, where regions were given.
        cascades: By map, whether they show what was learned.
        statistics: Of the weights of attention.
        ablation: What attention is worth beyond its means.
    """

    maps: dict[str, Tensor]
    faithful: Faithful
    pointing: Pointing | None
    cascades: dict[str, Cascade]
    statistics: tuple[GateStatistics, ...]
    ablation: Ablation | None

    def sentences(self) -> list[str]:
        """What it comes to, one sentence a question."""
        lines = [] if self.ablation is None else self.ablation.sentences()
        for name in self.maps:
            lines.append(_hangs(self.faithful, name))
            if self.pointing is not None:
                lines.append(_points(self.pointing, name))
            if name in self.cascades:
                lines.append(self.cascades[name].sentence(f"the map of {name}"))
        return [f"{line[0].upper()}{line[1:]}." for line in lines]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; the maps themselves aside."""
        return {
            "faithful": self.faithful.as_dict(),
            "pointing": None if self.pointing is None else self.pointing.as_dict(),
            "cascades": {name: one.as_dict() for name, one in self.cascades.items()},
            "statistics": [one.as_dict() for one in self.statistics],
            "ablation": None if self.ablation is None else self.ablation.as_dict(),
            "sentences": self.sentences(),
        }


def assess(
    network: nn.Module,
    images: Tensor,
    targets: Sequence[Any],
    *,
    regions: Sequence[Bool[Tensor, "h w"]] | None = None,
    place: str | None = None,
    score: Score = class_probability,
    evidence: Score = class_logit,
    metric: Score = correct,
    measure: str = "accuracy",
    examples: int = 16,
    steps: int = 20,
    with_road: bool = True,
    batch_size: int = 32,
    seed: int = 0,
) -> Assessment:
    """Ask everything there is to ask about the attention of one network, and of Grad-CAM beside it.

    Statistics and ablation are over all images; what takes many passes an image, over the first ``examples``.

    Args:
        network: With attention or, as a baseline, without.
        images: As the network takes them, of one size.
        targets: What is asked about each, as the scores want it.
        regions: What a person marked on each image, as large as it.
        place: Whose heat map is measured; see :func:`~foveate.explain.heat.heat`.
        score: What the curves read: a probability, Dice, a box's score.
        evidence: What Grad-CAM takes the gradient of.
        metric: What ablation compares, from 0 to 1 an image.
        measure: What that is called.
        examples: How many images the curves, the regions and the cascades are measured on.
        steps: Of the curves.
        with_road: Whether ROAD is measured.
        batch_size: How many images go through the network at once.
        seed: Of what is drawn anew.

    Raises:
        OptionError: If images, targets and regions do not pair.
        FoveateError: If the network's answers cannot be read.
        MissingExtraError: If scipy, torchmetrics or grad-cam is not installed.
    """
    as_many(images, targets)
    if regions is not None:
        as_many(images, regions, "regions")
    check_at_least("examples", examples, 1)
    few, asked = images[:examples], list(targets[:examples])
    batches = [
        (images[at : at + batch_size], targets[at : at + batch_size]) for at in range(0, len(images), batch_size)
    ]
    own = unwrapped(network)
    has_attention = len(unseen(own)) < len(list(find_attention(own)))  # whose maps can be seen

    def attention(model: nn.Module, some: Tensor) -> Tensor:
        with at_rest(model) as quiet, record(quiet) as maps:
            for start in range(0, len(some), batch_size):
                quiet(some[start : start + batch_size])
        return heat(maps, place)

    def activation(model: nn.Module, some: Tensor) -> Tensor:
        return class_activation(model, some, asked, score=evidence, batch_size=batch_size)

    explain = {ATTENTION: attention, ACTIVATION: activation}
    if not has_attention or (place is None and not _has_positions(own, few[:1])):
        del explain[ATTENTION]
    maps = {name: one(network, few) for name, one in explain.items()}
    return Assessment(
        maps=maps,
        faithful=faithful(
            network, few, asked, maps, score=score, steps=steps, with_road=with_road, batch_size=batch_size
        ),
        pointing=None if regions is None else pointing(maps, regions[:examples]),
        cascades={name: cascade(network, few, one, seed=seed) for name, one in explain.items()},
        statistics=tuple(gate_statistics(network, batches)) if has_attention else (),
        ablation=ablate(network, batches, score=metric, measure=measure) if has_attention else None,
    )


def _has_positions(network: nn.Module, images: Tensor) -> bool:
    """Whether attention leaves any map of positions: one on channels or kernels alone does not."""
    with at_rest(network) as quiet, record(quiet) as maps:
        quiet(images)
    return bool(heats(maps).maps)


def _hangs(found: Faithful, name: str) -> str:
    """Against a random order, against the image's middle, and of attention against Grad-CAM."""
    others = {"uniform": "than a random order of pixels", "centre": "than the image's middle"}
    if name == ATTENTION:
        others[ACTIVATION] = f"than {ACTIVATION}"
    parts: list[str] = []
    for other, words in others.items():
        beyond = {NAMES[measure]: found.beyond(name, measure, other) for measure in found.values[name]}
        apart = {measure: one for measure, one in beyond.items() if one.apart}
        better = sum(one.mean > 0 for one in apart.values())
        told = f"{words} by {better} of {len(beyond)} measures, worse by {len(apart) - better}"
        shown = ", ".join(f"{measure} {one.points()}" for measure, one in apart.items())
        parts.append(f"{told} ({shown})" if shown else told)
    count = len(next(iter(found.values[name].values())))
    return f"the map of {name} marks what the answer hangs on better {'; '.join(parts)}; {count} images"


def _points(found: Pointing, name: str) -> str:
    def share(which: str, measure: str) -> str:
        return f"{found.mean(which, measure).mean:.0%}"

    return (
        f"{share(name, 'mass_inside')} of the map of {name} lies in the regions; by chance it would be "
        f"{share('uniform', 'mass_inside')}, and of a Gaussian in the middle {share('centre', 'mass_inside')} does "
        f"(difference {found.beyond(name, 'mass_inside').points()}); its highest position is in or beside them on "
        f"{share(name, 'pointing_hit')} of {len(found.images)} images, by chance on {share('uniform', 'pointing_hit')}"
    )
