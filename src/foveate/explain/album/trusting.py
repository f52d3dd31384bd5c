"""How far the maps of an album can be trusted: every measure that its images allow, and what it lacks, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from foveate.errors import FoveateError
from foveate.explain.album.answers import Classes, targets
from foveate.explain.album.kind import Kind, finite
from foveate.explain.album.seen import Seen
from foveate.explain.trust import Assessment, assess
from foveate.explain.trust.effect import CONFIDENCE, effect

LEAST = 2  # images below which no interval can be told


@dataclass(frozen=True)
class Trust:
    """What was found.

    Attributes:
        found: Every measure; ``None`` where none could be taken.
        images: How many images statistics and ablation are over.
        examples: How many images the other measures are over.
        known: Whether the truth was known; otherwise the network's own answers stood for it.
        missing: What was not measured, and what it needs, as sentences.
        place: Whose map was measured; ``None`` where no map of positions was recorded.
        chance: What a network that knows nothing reaches.
    """

    found: Assessment | None
    images: int
    examples: int
    known: bool
    missing: tuple[str, ...]
    place: str | None
    chance: float = 0.0

    def sentences(self) -> list[str]:
        """What it comes to, one sentence a question; of attention as a whole, see :meth:`places`."""
        if self.found is None:
            return []
        told = self.found.sentences()
        return [*self._base(), *told[:1], *told[1 + len(self.places()) :]]

    def places(self) -> list[str]:
        """What each place comes to, where there are several."""
        if self.found is None or self.found.ablation is None:
            return []
        return self.found.sentences()[1 : len(self.found.ablation.sentences())]

    def _base(self) -> list[str]:
        """What everything is compared with, and whether it can fall at all."""
        if self.found is None or self.found.ablation is None or not self.known:
            return []
        found = self.found.ablation
        low, high = 100 * max(0.0, found.base.low), 100 * min(1.0, found.base.high)
        told = (
            f"With attention as it is, {found.measure} is {100 * found.base.mean:.1f} % ({low:.1f} to {high:.1f}) on "
            f"{found.base.count} images."
        )
        if found.base.low > self.chance + found.margin:
            return [told]
        return [f"{told} That may be no better than chance, and then nothing can fall: what follows says little."]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "images": self.images,
            "examples": self.examples,
            "known": self.known,
            "place": self.place,
            "sentences": [*self.sentences(), *self.places()],
            "missing": list(self.missing),
            "found": None if self.found is None else self.found.as_dict(),
        }


def trust_in(
    network: nn.Module,
    seen: Sequence[Seen],
    said: Sequence[Any],
    kind: Kind,
    *,
    place: str | None,
    examples: int,
    steps: int,
    seed: int = 0,
) -> Trust:
    """Measure what can be measured.

    Args:
        network: In evaluation mode.
        seen: The images, those that are shown first.
        said: What the network answers to each.
        kind: Of these answers.
        place: Whose map is measured.
        examples: On how many images what takes many passes is measured; 0 for none of the numbers.
        steps: Of the curves.
        seed: Of what is drawn anew.
    """
    known = all(one.truth is not None for one in seen)
    missing = _lacks(seen, kind, known=known)
    asked = targets(kind, seen, said, known=known)
    counted = [number for number, target in enumerate(asked) if target is not None]
    silent = sum(not finite(answer) for answer in said)
    empty = {
        "Nothing is marked on" if known else "The network finds nothing on": len(seen) - len(counted) - silent,
        "The network's numbers are not finite on": silent,
    }
    missing += [
        f"{where} {count} of {len(seen)} images: they have no part in these numbers."
        for where, count in empty.items()
        if count
    ]

    def nothing(why: str) -> Trust:
        return Trust(None, 0, 0, known, (*missing, why), place)

    if examples == 0:
        return nothing("These numbers were not asked for (--examples 0).")
    if len(counted) < LEAST:
        return nothing(f"There are too few images to measure on: {len(counted)}, and it takes at least {LEAST}.")
    images = torch.stack([seen[number].given for number in counted])
    some = [asked[number] for number in counted]
    regions = [seen[number].region() for number in counted] if known else []
    told = [one for one in regions if one is not None]
    try:
        found = assess(
            network,
            images,
            some,
            regions=told if len(told) == len(counted) else None,
            place=place,
            score=kind.judged.score,
            evidence=kind.judged.evidence,
            metric=kind.judged.metric,
            measure=kind.measure if known else kind.own,
            examples=examples,
            steps=steps,
            batch_size=8,
            seed=seed,
        )
    except FoveateError as error:
        return nothing(f"They could not be measured: {error}.")
    if isinstance(kind, Classes):
        missing += _too_few(found, len(counted))
    measured = min(examples, len(counted))
    if found.pointing is not None and len(found.pointing.images) < measured:
        missing.append(
            f"Whether maps point at what is marked is told of {len(found.pointing.images)} of {measured} images: on "
            "the others all or nothing is marked, or one of the maps marks nothing."
        )
    return Trust(found, len(counted), measured, known, tuple(missing), place, kind.chance())


def _too_few(found: Assessment, count: int) -> list[str]:
    """Where answers are right or wrong, and even no change at all leaves an interval that is too wide."""
    if found.ablation is None or found.ablation.together.verdict != "undecided":
        return []
    margin, still = found.ablation.margin, effect([0.0] * count)
    if still.within(margin):
        return []
    needed = math.floor(math.log(1 - CONFIDENCE) / math.log(1 - margin)) + 1
    return [
        f"{count} images cannot show that attention is a learned constant: even if no answer changed, the interval "
        f"would be {still.points()}. It takes {needed} images."
    ]


def _lacks(seen: Sequence[Seen], kind: Kind, *, known: bool) -> list[str]:
    """What the images do not have, and what could not be said therefore."""
    missing: list[str] = []
    if not known:
        having = sum(one.truth is not None for one in seen)
        who = f"Only {having:,} of {len(seen):,} images have" if having else "No image has"
        missing.append(
            f"{who} {kind.truth}: whether the answers are right is not known. What needs that, {kind.measure}, is "
            "missing; the numbers below are about the network's own answers."
        )
    if isinstance(kind, Classes):
        missing.append(
            "Whether a map points at the thing itself needs boxes or masks, and these images have classes at most."
        )
    elif not known:
        missing.append(f"Whether a map points at the thing itself needs {kind.truth} too.")
    return missing
