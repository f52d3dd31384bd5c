"""The kinds of answers that networks give: classes, masks and boxes, in words and numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from foveate.data.masks.segmentation import IGNORE
from foveate.errors import FoveateError
from foveate.explain import scores
from foveate.explain.album.kind import BOXES, LABEL, MASK, Judged, Kind, finite
from foveate.explain.album.seen import Seen, Thing, Truth, marked, mask_at

TOP = 5
SURE = 0.5  # a box is spoken of from this score on


class Classes(Kind):
    """One number for each class."""

    judged = Judged(scores.class_probability, scores.class_logit, scores.correct, scores.class_logit)
    measure = "accuracy"
    own = "agreement with its own answers"
    truth = LABEL
    gives = "classes"

    def numbers(self, truth: Truth) -> list[int]:
        """The class."""
        return [cast("int", truth)]

    def told(self, answer: Tensor) -> dict[str, Any]:
        """The most probable classes.

        Example:
            >>> Classes(["cat", "dog"]).told(torch.tensor([0.0, 0.0]))["probabilities"]
            [('cat', 0.5), ('dog', 0.5)]
        """
        shares = answer.float().softmax(0)
        # by what comes before the softmax, which makes near ones equal
        ranked: list[int] = answer.argsort(descending=True, stable=True)[:TOP].tolist()
        best = ranked[0]
        return {
            "class": self.name(best),
            "probability": float(shares[best]),
            "probabilities": [(self.name(number), float(shares[number])) for number in ranked],
        }

    def sentence(self, answer: Tensor) -> str:
        """The class and how sure."""
        told = self.told(answer)
        return f"{told['class']} ({told['probability']:.0%})"

    def own_target(self, answer: Tensor) -> int:
        """The most probable class."""
        return int(answer.argmax())

    def target(self, truth: Truth, answer: Tensor) -> int:  # noqa: ARG002
        """The class."""
        return cast("int", truth)

    def chance(self) -> float:
        """One of the classes."""
        return 1 / self.outputs if self.outputs else 0.0

    def true_words(self, truth: Truth) -> str:
        """The class's name."""
        return self.name(cast("int", truth))

    def right(self, answer: Tensor, truth: Truth) -> bool:
        """Whether it is the most probable one."""
        return int(answer.argmax()) == truth


class Masks(Kind):
    """A map for each class."""

    judged = Judged(scores.dice, scores.mask_logit, scores.dice, scores.mask_logit)
    measure = "Dice"
    own = "Dice with its own masks"
    truth = MASK
    gives = "masks"

    def name(self, number: int) -> str:
        """A class in words; one name alone is that of what is marked.

        Example:
            >>> Masks(["cell"]).name(1), Masks(["ground", "cell"]).name(1)
            ('cell', 'cell')
        """
        alone = len(self.classes) == 1 and number < 2
        return ("nothing", *self.classes)[number] if alone else super().name(number)

    def numbers(self, truth: Truth) -> list[int]:
        """The classes of all pixels that have one."""
        return [number for number in cast("Tensor", truth).unique().tolist() if number != IGNORE]

    def found(self, answer: Tensor) -> Tensor:
        """The class of each pixel; of one map, 1 where it is above zero."""
        return (answer[0] > 0).long() if len(answer) == 1 else answer.argmax(0)

    def told(self, answer: Tensor) -> dict[str, Any]:
        """The share of the pixels that each class has."""
        found = self.found(answer)
        counts: list[int] = found.flatten().bincount().tolist()
        shares = {self.name(number): count / found.numel() for number, count in enumerate(counts) if count}
        return {"shares": shares}

    def sentence(self, answer: Tensor) -> str:
        """The classes that are there, 0 aside, the largest first.

        Example:
            >>> Masks(["nothing", "cell"]).sentence(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]))
            'cell on 50% of the pixels'
        """
        counts = Counter(number for number in self.found(answer).flatten().tolist() if number)
        total = answer[0].numel()
        shares = {
            number: f"{count / total:.0%}" if count >= total / 200 else "less than 1%"
            for number, count in counts.items()
        }
        parts = [f"{self.name(number)} on {shares[number]}" for number, _ in counts.most_common()]
        return f"{', '.join(parts)} of the pixels" if parts else "nothing is marked"

    def own_target(self, answer: Tensor) -> Tensor | None:
        """Its own mask."""
        found = self.found(answer)
        return found if bool((found > 0).any()) else None

    def target(self, truth: Truth, answer: Tensor) -> Tensor | None:
        """The mask, at the answer's size."""
        mask = mask_at(cast("Tensor", truth), (answer.shape[1], answer.shape[2])).long()
        return mask if bool(marked(mask).any()) else None

    def true_words(self, truth: Truth) -> str:
        """The classes that are marked."""
        return ", ".join(self.name(number) for number in self.numbers(truth) if number > 0) or "nothing"

    def right(self, answer: Tensor, truth: Truth) -> None:
        """A mask is more or less right: see the measure."""


def things_score(answer: Mapping[str, Tensor], target: Sequence[Thing]) -> Tensor:
    """The mean, over some things, of :func:`~foveate.explain.scores.box_score`.

    Example:
        >>> found = {"boxes": torch.tensor([[0.0, 0.0, 4.0, 4.0]]), "labels": torch.tensor([1])}
        >>> found |= {"scores": torch.tensor([0.8])}
        >>> there, elsewhere = torch.tensor([0.0, 0.0, 4.0, 3.0]), torch.tensor([9.0, 9.0, 12.0, 12.0])
        >>> things_score(found, [Thing(there, 1), Thing(elsewhere, 1)])
        tensor(0.4000)
    """
    return torch.stack([scores.box_score(answer, thing) for thing in target]).mean()


class Things(Kind):
    """Boxes, scores and labels, as torchvision's detectors give them."""

    judged = Judged(things_score, things_score, things_score, scores.box_score)
    measure = "the mean score of the marked boxes"
    own = "the mean score of the boxes it finds"
    truth = BOXES
    gives = "boxes"

    def numbers(self, truth: Truth) -> list[int]:
        """The classes of the things."""
        return [thing.label for thing in cast("tuple[Thing, ...]", truth)]

    def found(self, answer: Mapping[str, Tensor]) -> list[tuple[Thing, float]]:
        """What is found with a score of at least :data:`SURE`, the surest first."""
        there = sorted(zip(answer["scores"].tolist(), range(len(answer["scores"])), strict=True), reverse=True)
        return [
            (Thing(answer["boxes"][number].detach().cpu(), int(answer["labels"][number])), score)
            for score, number in there
            if score >= SURE
        ]

    def told(self, answer: Mapping[str, Tensor]) -> dict[str, Any]:
        """Each thing with its score and box."""
        things = [
            {"class": self.name(thing.label), "score": score, "box": thing.box.tolist()}
            for thing, score in self.found(answer)
        ]
        return {"things": things}

    def sentence(self, answer: Mapping[str, Tensor]) -> str:
        """How many of each class."""
        counts = Counter(self.name(thing.label) for thing, _ in self.found(answer))
        return ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nothing is found"

    def own_target(self, answer: Mapping[str, Tensor]) -> tuple[Thing, ...] | None:
        """What it finds."""
        return tuple(thing for thing, _ in self.found(answer)) or None

    def target(self, truth: Truth, answer: Any) -> tuple[Thing, ...] | None:  # noqa: ARG002
        """The things."""
        return cast("tuple[Thing, ...]", truth) or None

    def first(self, target: Sequence[Thing]) -> Thing:
        """The surest."""
        return target[0]

    def true_words(self, truth: Truth) -> str:
        """How many of each class."""
        counts = Counter(self.name(thing.label) for thing in cast("tuple[Thing, ...]", truth))
        return ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nothing"

    def right(self, answer: Any, truth: Truth) -> None:
        """Boxes are more or less right: see the measure."""


def kind_of(answer: Any, classes: Sequence[str] = ()) -> Kind:
    """Which kind of answer a network gives, by what it gave for one image.

    Raises:
        FoveateError: If it is none of them, or one number: that is sure of the only class there is.

    Example:
        >>> type(kind_of(torch.zeros(10))).__name__
        'Classes'
    """
    if isinstance(answer, Mapping) and {"boxes", "scores", "labels"} <= set(answer):
        return Things(classes)
    if isinstance(answer, Tensor) and answer.shape == (1,):
        raise FoveateError(
            "for one image this network answers one number: an album takes one for each class, of two at least"
        )
    if isinstance(answer, Tensor) and answer.ndim == 1:
        return Classes(classes, len(answer))
    if isinstance(answer, Tensor) and answer.ndim == 3:
        return Masks(classes, max(2, len(answer)))  # one map tells two apart: it, and the rest
    shape = f"a tensor of shape {tuple(answer.shape)}" if isinstance(answer, Tensor) else type(answer).__name__
    raise FoveateError(
        f"for one image this network answers {shape}: an album can tell a number for each class, a map for each class, "
        "or boxes with scores and labels"
    )


def targets(kind: Kind, seen: Sequence[Seen], said: Sequence[Any], *, known: bool) -> list[Any | None]:
    """What is asked about each image: what a person says, or what the network says itself; of no answer nothing."""
    return [
        None
        if not finite(answer)
        else kind.target(one.truth, answer)
        if known and one.truth is not None
        else kind.own_target(answer)
        for one, answer in zip(seen, said, strict=True)
    ]
