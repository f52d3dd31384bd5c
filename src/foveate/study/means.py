"""With what a study is carried out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foveate.errors import OptionError, check_choice
from foveate.study.asked import Asked


@dataclass(frozen=True)
class Means:
    """With what a study is carried out; it changes no number.

    Attributes:
        on: As :func:`foveate.study.execution.carry_out` takes it: ``"here"``, ``"3 processes"``, ``"ray"``, ….
        part: This machine's share of the runs, as ``"2/3"``; the folders are merged afterwards. No table is made.
        costs: ``"quick"``: counts and one latency; ``"full"``: batches, layouts, training, memory, energy, export.
        compiled: Whether networks are timed compiled as well.
    """

    on: str = "here"
    part: str | None = None
    costs: str = "quick"
    compiled: bool = False


def check_means(means: Means, asked: Asked, data: Any) -> None:
    """Refuse what does not go together.

    Raises:
        OptionError: If the runs of a part are not known in advance, or samples are in this process alone.
    """
    if means.part is not None and (asked.grid or asked.sequential):
        what = "a grid of learning rates" if asked.grid else "seeds that are added until decided"
        raise OptionError(
            f"a part of the runs and {what} do not go together: which runs there are is known only when others are "
            "finished. Leave out one of the two, or let one machine give the runs to others with on='ray'"
        )
    check_choice("costs", means.costs, ("quick", "full"))
    if means.on.strip() != "here" and data is not None and not isinstance(data, str | Path):
        raise OptionError(
            f"samples that were read already are in this process alone, and runs were asked for on '{means.on}': "
            "give the folder instead, or on='here'"
        )
