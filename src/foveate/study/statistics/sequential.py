"""Seeds are added until the question is decided or the budget is spent, with the error probability of one look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from foveate.errors import FoveateError, OptionError, check_at_least
from foveate.study.statistics.arrays import Floats
from foveate.study.statistics.holm import holm
from foveate.study.statistics.judge import ALPHA, Better, Paired, check_options, verdicts
from foveate.study.statistics.looks import planned_looks
from foveate.study.statistics.sign_flip import sign_flip
from foveate.study.statistics.verdict import Verdict


class GroupSequential:
    """A study that is told its differences seed by seed, and says which arms still need seeds.

    The looks are planned from the budget before the first seed. At a look an arm has the p-value of the sign-flip test
    over its share of the error probability; the smallest so far is a p-value at every moment, because under no effect
    the chance that any look has ``p / share <= a`` is at most the sum of ``share · a``, which is ``a`` (Bonferroni over
    looks). It only falls, so that Holm over arms holds whenever one stops, an arm that is decided stays decided, and it
    may stop while others go on (Tamhane et al., 2021,
    https://doi.org/10.1002/sim.9128, reviews such procedures).

    The price, in ``docs/statistics.md``: power at the same budget is a little less than of a test at its end. After an
    early stop the mean is too far from zero on average, and the interval covers less often than it says.

    Args:
        arms: Their names.
        budget: The largest number of seeds of an arm; adding more afterwards would be another study.
        alpha: The probability allowed for a wrong *better* or *worse* among all arms and looks.
        better: Whether more is better, or less.

    Attributes:
        looks: After how many seeds there is a test, with its share of the error probability.

    Raises:
        FoveateError: If there is no arm.
        OptionError: If the budget cannot decide, a name is there twice, or an option cannot be.

    Example:
        >>> study = GroupSequential(["se", "eca"], budget=14)
        >>> for seed in range(14):
        ...     study.tell({name: 0.02 + 0.001 * (seed % 3) if name == "se" else 0.01 * (-1) ** seed
        ...                 for name in study.open})
        >>> {name: (verdict.word, verdict.seeds) for name, verdict in study.verdicts().items()}
        {'se': ('better', 11), 'eca': ('no evidence', 14)}
    """

    def __init__(self, arms: Sequence[str], budget: int, *, alpha: float = ALPHA, better: Better = "max") -> None:
        check_options(len(arms), alpha, better)
        check_at_least("the budget of seeds", budget, 1)
        if len(set(arms)) < len(arms):
            raise OptionError(f"every arm needs a name of its own: {', '.join(arms)}")
        self.looks = planned_looks(budget, alpha / len(arms))
        self._alpha = alpha
        self._better: Better = better
        self._differences: dict[str, list[float]] = {name: [] for name in arms}
        self._p_values = dict.fromkeys(arms, 1.0)

    @property
    def budget(self) -> int:
        """The largest number of seeds of an arm."""
        return self.looks[-1].seeds

    @property
    def p_values(self) -> dict[str, float]:
        """Of each arm by itself, valid at every moment."""
        return dict(self._p_values)

    @property
    def p_adjusted(self) -> dict[str, float]:
        """After Holm, valid at every moment."""
        return holm(self._p_values)

    @property
    def open(self) -> tuple[str, ...]:
        """The arms that are to have another seed: not decided, and within the budget."""
        adjusted = self.p_adjusted
        return tuple(
            name for name, own in self._differences.items() if adjusted[name] > self._alpha and len(own) < self.budget
        )

    @property
    def finished(self) -> bool:
        """Whether no arm needs another seed."""
        return not self.open

    def tell(self, differences: Mapping[str, float]) -> None:
        """What one more seed has shown.

        Args:
            differences: Arm minus baseline, of the arms that had this seed; all that are :attr:`open`, usually.

        Raises:
            FoveateError: If an arm is unknown or has had its budget, or a difference is not a finite number; nothing is
                then kept.
        """
        for name, difference in differences.items():
            if name not in self._differences:
                raise FoveateError(f"there is no arm '{name}': {', '.join(self._differences)}")
            if len(self._differences[name]) == self.budget:
                raise FoveateError(
                    f"'{name}' has had its {self.budget} seeds: more, after seeing them, would need a plan made before"
                )
            Paired((difference,))
        for name, difference in differences.items():
            own = self._differences[name]
            own.append(float(difference))
            for look in self.looks:
                if look.seeds == len(own):
                    self._p_values[name] = min(self._p_values[name], sign_flip(own) / look.share)

    def leave_out(self, name: str) -> None:
        """Go on without an arm, for a reason that is none of its differences: it cannot be trained, say.

        Raises:
            FoveateError: If there is no such arm.
        """
        if name not in self._differences:
            raise FoveateError(f"there is no arm '{name}': {', '.join(self._differences)}")
        del self._differences[name], self._p_values[name]

    def verdicts(
        self, *, relevant: float | None = None, examples: Mapping[str, Floats] | None = None
    ) -> dict[str, Verdict]:
        """A verdict on every arm; one that is open is *underpowered* until its budget is spent.

        Args:
            relevant: The smallest difference that somebody would care about, in the metric's units.
            examples: Differences of single test examples, a row a seed, by name of the arm.

        Raises:
            FoveateError: If an arm has no seed yet, or the examples do not fit.
            MissingExtraError: If scipy is not installed.
            OptionError: If the difference of interest is not positive.
        """
        missing = [name for name, own in self._differences.items() if not own]
        if missing:
            raise FoveateError(f"there is no seed yet of {', '.join(missing)}")
        tables = {name: np.asarray(table) for name, table in (examples or {}).items()}
        return verdicts(
            {name: Paired(tuple(own), tables.get(name)) for name, own in self._differences.items()},
            self._p_values,
            fewest=self.budget,
            share=self.looks[-1].share,
            alpha=self._alpha,
            relevant=relevant,
            better=self._better,
        )
