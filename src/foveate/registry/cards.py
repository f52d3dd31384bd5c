"""Cards: what a mechanism says about itself beyond what its code says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from foveate.errors import OptionError


@dataclass(frozen=True)
class Paper:
    """Where a mechanism was published; ``page`` is an address for a paper that is not on arXiv."""

    title: str
    authors: str
    venue: str
    arxiv: str | None = None
    page: str | None = None

    @property
    def year(self) -> int:
        """The year of its first venue.

        Example:
            >>> Paper("Squeeze-and-Excitation Networks", "Hu et al.", "CVPR 2018").year
            2018
        """
        found = re.search(r"(?:19|20)\d\d", self.venue) or re.match(r"(\d\d)", self.arxiv or "")
        if found is None:
            raise OptionError(f"the venue '{self.venue}' names no year")
        return int(found[0]) if len(found[0]) == 4 else 2000 + int(found[0])

    @property
    def url(self) -> str | None:
        """The paper's page, if it has one that everybody can read."""
        return f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else self.page


@dataclass(frozen=True)
class Card:
    """What a mechanism says about itself beyond what its code says.

    Attributes:
        name: An unambiguous word; also the name of its file, its oracle and its page.
        title: The name in the paper.
        paper: Where it was published.
        equation: The mechanism in one or a few lines.
        aliases: Shorter names that mean only this mechanism.
        reference: The authors' code that this one was compared with, or why there is none.
        differences: How it differs from its paper or its authors' code, and why.
        exemptions: Checks of the contract that do not apply, each with its reason.
        evidence: What its paper reports: where it helped, by how much, and at what cost; numbers are the paper's.
    """

    name: str
    title: str
    paper: Paper
    equation: str
    aliases: tuple[str, ...] = ()
    reference: str = ""
    differences: tuple[str, ...] = ()
    exemptions: Mapping[str, str] = field(default_factory=dict[str, str])
    evidence: str = ""
