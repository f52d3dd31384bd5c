"""What differences between paired runs allow to say; ``docs/statistics.md`` has assumptions, sources and simulations.

One idea a file: ``student``, ``bootstrap`` and ``crossed`` (intervals), ``sign_flip`` (the test), ``holm`` (several
comparisons), ``effect`` and ``power`` (how large, and how many seeds it takes), ``verdict`` and ``judge`` (the word and
its sentence), ``looks`` and ``sequential`` (seeds added until it is decided), ``dominance`` (almost stochastic order).
They are imported one by one, because numpy and scipy come with the extra ``compare``. All are functions of numbers: no
network, no file, and chance only from a seed that is given.
"""

from foveate.study.statistics.estimate import Estimate, estimate, paired_difference
from foveate.study.statistics.student import CONFIDENCE

__all__ = ["CONFIDENCE", "Estimate", "estimate", "paired_difference"]
