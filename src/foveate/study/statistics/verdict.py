"""What is said of an arm: a word, the numbers behind it, and a sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from foveate.study.counting import counted

Word = Literal["better", "worse", "no evidence", "underpowered"]


def signed(difference: float) -> str:
    """A difference in the metric's own units.

    Example:
        >>> signed(0.0123)
        '+0.0123'
    """
    return f"{difference:+.3g}"


@dataclass(frozen=True)
class Verdict:
    """One arm beside the baseline; ``docs/statistics.md`` says what is assumed. Differences are arm minus baseline.

    Attributes:
        name: The arm's.
        word: *better* or *worse*: the adjusted p-value is at most ``alpha``. Otherwise *underpowered* if the seeds are
            fewer than ``fewest``; or if a difference of interest was named that the seeds see with less than 80 %
            probability and that the interval does not exclude. Otherwise *no evidence*.
        mean: Of the differences, in the metric's units.
        interval: Of the mean, 95 %, of this arm alone: not adjusted for the other arms. ``None`` with one seed.
        method: How the interval was made.
        p: Two-sided p-value of the sign-flip test.
        p_adjusted: After Holm, over all arms.
        effect: Mean over deviation of the differences, without the bias of few seeds; ``None`` where there is none.
        wins: In how many seeds the arm is better.
        ties: In how many it is neither.
        seeds: How many there are.
        fewest: How many it takes to be called better or worse at all, at worst.
        detectable: The smallest true difference that ``detectable_with`` seeds see with 80 % probability, if
            differences scatter normally and as these did; ``None`` if it is not known how they scatter.
        detectable_with: As many seeds as there are, or ``fewest``, where there are fewer.
        relevant: The difference of interest, if one was named.
        needed: How many seeds see it with 80 % probability; ``fewest`` if none was named.
        excluded: Whether the interval lies between minus and plus ``relevant``; ``None`` if none was named.
        arms: How many were compared with the baseline.
        alpha: The probability allowed for a wrong *better* or *worse* among all of them.
    """

    name: str
    word: Word
    mean: float
    interval: tuple[float, float] | None
    method: str
    p: float
    p_adjusted: float
    effect: float | None
    wins: int
    ties: int
    seeds: int
    fewest: int
    detectable: float | None
    detectable_with: int
    relevant: float | None
    needed: int | None
    excluded: bool | None
    arms: int
    alpha: float

    @property
    def decided(self) -> bool:
        """Whether it is better or worse."""
        return self.word in ("better", "worse")

    def sentence(self, write: Callable[[float], str] = signed) -> str:
        """The verdict in plain words, with the smallest difference that could have been seen if it is not decided.

        Args:
            write: A difference as it is to be read, with its sign and unit.
        """
        size = f"{write(self.mean)} over {counted(self.seeds, 'seed')}"
        if self.interval is not None:
            size += f" (95 % interval {write(self.interval[0])} to {write(self.interval[1])})"
        if self.decided:
            return f"{self.name} is {self.word}: {size}, {self._ahead()}, {self._p()}.{self._about_examples(write)}"
        if self.word == "underpowered":
            return f"{self.name}: underpowered. {self._why(write)} Seen was {size}, {self._p()}."
        return f"{self.name}: no evidence of a difference. Seen was {size}, {self._p()}. {self._missed(write)}"

    def _ahead(self) -> str:
        ties = f" and level in {self.ties}" if self.ties else ""
        return f"ahead in {self.wins}{ties} of {self.seeds}"

    def _p(self) -> str:
        among = f" after Holm among {self.arms} arms" if self.arms > 1 else ""
        return f"p = {self.p_adjusted:.2g}{among}"

    def _about_examples(self, write: Callable[[float], str]) -> str:
        if self.interval is None or not self.interval[0] <= 0 <= self.interval[1]:
            return ""
        return f" The interval holds {write(0.0)} all the same: on other examples it may be otherwise."

    def _why(self, write: Callable[[float], str]) -> str:
        if self.seeds < self.fewest:
            among = f" among {self.arms} arms" if self.arms > 1 else ""
            why = f"{counted(self.seeds, 'seed')} cannot decide{among}, whatever comes out; it takes {self.fewest}."
            if self.detectable is not None:
                why += f" With {self.fewest}, the smallest difference that could be seen is {self._smallest(write)}."
        else:
            why = f"The smallest difference that could have been seen is {self._smallest(write)}."
        if self.relevant is None:
            return why
        wanted = "more than 100,000 seeds" if self.needed is None else counted(self.needed, "seed")
        return f"{why} Seeing {write(self.relevant).lstrip('+')} takes {wanted}."

    def _missed(self, write: Callable[[float], str]) -> str:
        if self.detectable is None:
            return "The differences do not scatter, so that nobody can tell what could have been seen."
        missed = f"The smallest difference that could have been seen is {self._smallest(write)}."
        if self.excluded:
            missed += f" A difference of {write(self.relevant or 0.0).lstrip('+')} either way is excluded."
        return missed

    def _smallest(self, write: Callable[[float], str]) -> str:
        if self.detectable is None:
            return "unknown"
        return f"{write(self.detectable).lstrip('+')} (in four of five such studies)"
