"""What a kind of answer is: what it says in words, what can be true of it, and by which scores maps are judged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from foveate.errors import FoveateError
from foveate.explain.album.seen import Seen, Truth
from foveate.explain.scores import Score

LABEL, MASK, BOXES = "a label", "a mask", "boxes"  # what a person can give


@dataclass(frozen=True)
class Judged:
    """By which scores maps are judged.

    Attributes:
        score: What the curves of deletion and insertion read.
        evidence: What Grad-CAM takes the gradient of.
        metric: What ablation compares.
        single: What one picture of Grad-CAM takes the gradient of.
    """

    score: Score
    evidence: Score
    metric: Score
    single: Score


class Kind(ABC):
    """A kind of answer: what it says, and by which scores maps are judged.

    Attributes:
        judged: These scores.
        measure: What that is called.
        own: What it is called where the network's own answers stand for the truth.
        truth: What has to be given for it to be known.
        gives: What the network answers with.

    Args:
        classes: Names of the classes.
        outputs: How many classes there are; as many as names, if ``None``, and 0 where nobody knows.
    """

    judged: ClassVar[Judged]
    measure: ClassVar[str]
    own: ClassVar[str]
    truth: ClassVar[str]
    gives: ClassVar[str]

    def __init__(self, classes: Sequence[str] = (), outputs: int | None = None) -> None:
        self.classes = tuple(classes)
        self.outputs = len(self.classes) if outputs is None else outputs

    def name(self, number: int) -> str:
        """A class in words.

        Example:
            >>> from foveate.explain.album.answers import Classes
            >>> Classes(["cat"]).name(0), Classes().name(3)
            ('cat', 'class 3')
        """
        return self.classes[number] if number < len(self.classes) else f"class {number}"

    def check(self, seen: Sequence[Seen]) -> None:
        """Refuse what a person says of images, where it is no answer to this kind of question.

        Raises:
            FoveateError: If it is of another kind, or of a class that the network does not have.
        """
        for one in seen:
            if one.truth is None:
                continue
            given = _given(one.truth)
            if given != self.truth:
                raise FoveateError(
                    f"the labels have {given} for '{one.name}', and this network answers with {self.gives}: it takes "
                    f"{self.truth}"
                )
            highest = max(self.numbers(one.truth), default=0)
            if self.outputs and highest >= self.outputs:
                raise FoveateError(
                    f"the labels have class {highest} for '{one.name}', and the network's {self.outputs} classes end "
                    f"at {self.outputs - 1}"
                )

    @abstractmethod
    def numbers(self, truth: Truth) -> list[int]:
        """The classes that a person speaks of."""

    @abstractmethod
    def told(self, answer: Any) -> dict[str, Any]:
        """What the network says of one image, ready for JSON."""

    @abstractmethod
    def sentence(self, answer: Any) -> str:
        """The same, short."""

    def says(self, answer: Any) -> str:
        """The same, of any answer: numbers that are none say nothing."""
        return self.sentence(answer) if finite(answer) else "nothing: its numbers are not finite"

    @abstractmethod
    def own_target(self, answer: Any) -> Any | None:
        """What the network itself says, as the scores take it; ``None`` where it says nothing that could be watched."""

    @abstractmethod
    def target(self, truth: Truth, answer: Any) -> Any | None:
        """What a person says, as the scores take it; ``None`` where nothing is on the image."""

    def first(self, target: Any) -> Any:
        """What one picture asks about: of several things the surest."""
        return target

    def chance(self) -> float:
        """What a network that knows nothing reaches."""
        return 0.0

    @abstractmethod
    def true_words(self, truth: Truth) -> str:
        """What a person says, in words."""

    @abstractmethod
    def right(self, answer: Any, truth: Truth) -> bool | None:
        """Whether the network says the same; ``None`` where that is no question of yes or no."""


def finite(answer: Any) -> bool:
    """Whether an answer is of numbers that can be compared.

    Example:
        >>> import torch
        >>> finite(torch.tensor([0.0, float("nan")])), finite({"boxes": torch.zeros(0, 4)})
        (False, True)
    """
    parts = answer.values() if isinstance(answer, Mapping) else [answer]
    return all(bool(part.isfinite().all()) for part in parts if isinstance(part, Tensor))


def _given(truth: Truth) -> str:
    if isinstance(truth, Tensor):
        return MASK
    return BOXES if isinstance(truth, tuple) else LABEL
