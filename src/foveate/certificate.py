"""Certificates: what was compared, and how far apart it was, for one mechanism as its source stands.

A certificate is measured (`uv run python -m tools.certify NAME`), never written by hand, and holds a digest of the
sources that it speaks of; a test refuses one that is out of date.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from foveate.errors import FoveateError
from foveate.registry import get

FOLDER = "certificates"


@dataclass(frozen=True)
class OracleProof:
    """The comparison with the paper's equations, computed in NumPy and float64 by code that shares nothing with ours.

    Attributes:
        forms: Sets of options that were compared.
        cases: Comparisons: forms times shapes, in evaluation and in training.
        difference: The largest difference of an output, relative to the largest output (to one where that is less).
        share: The largest difference as a share of what rounding allows, derived from the number of terms summed.
    """

    forms: int
    cases: int
    difference: float
    share: float


@dataclass(frozen=True)
class AuthorsProof:
    """The comparison with what released code gave for the same weights and inputs.

    It is the authors', or, where they released none that could be run, the code that the reference names.

    Attributes:
        reference: Repository, commit and file, as on the card.
        ran: What was run.
        cases: The runs by name.
        output: The largest difference of an output, relative as above.
        gradients: The same of gradients with respect to input and parameters; ``None`` where only outputs were had.
    """

    reference: str
    ran: tuple[str, ...]
    cases: tuple[str, ...]
    output: float
    gradients: float | None


@dataclass(frozen=True)
class Count:
    """The parameters of a network with the mechanism in every residual block, which the tests count."""

    network: str
    spec: str
    parameters: int


@dataclass(frozen=True)
class Certificate:
    """What is known to be right about a mechanism, and how.

    Attributes:
        mechanism: Its name.
        sources: A digest of its source, its oracle, and the authors' numbers.
        oracle: The comparison with the paper's equations.
        authors: The comparison with the authors' code; ``None`` where there is none, which the card explains.
        counts: Sizes of whole networks.
        passed: Checks of the contract that it passes.
        exempt: Checks that do not apply, with reasons.
        tests: What copies get wrong and other facts, each a test by this name.
        conditions: Versions and date.
    """

    mechanism: str
    sources: str
    oracle: OracleProof
    authors: AuthorsProof | None
    counts: tuple[Count, ...]
    passed: tuple[str, ...]
    exempt: dict[str, str] = field(default_factory=dict[str, str])
    tests: tuple[str, ...] = ()
    conditions: dict[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Certificate:
        """Read what :meth:`as_dict` wrote."""
        return cls(
            mechanism=data["mechanism"],
            sources=data["sources"],
            oracle=OracleProof(**data["oracle"]),
            authors=None if data["authors"] is None else AuthorsProof(**_tuples(data["authors"])),
            counts=tuple(Count(**count) for count in data["counts"]),
            passed=tuple(data["passed"]),
            exempt=dict(data["exempt"]),
            tests=tuple(data["tests"]),
            conditions=dict(data["conditions"]),
        )

    def as_dict(self) -> dict[str, Any]:
        """The same, ready for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The certificate in sentences, for a terminal or a page.

        Example:
            >>> certificate_of("eca").lines()[0].startswith("equals the paper's equations in NumPy, float64")
            True
        """
        oracle, authors = self.oracle, self.authors
        said = [
            f"equals the paper's equations in NumPy, float64: {oracle.cases} comparisons of {oracle.forms} forms, "
            f"largest relative difference {oracle.difference:.1e}, {oracle.share:.0%} of what rounding allows"
        ]
        if authors is None:
            said.append(f"no released code was compared: {get(self.mechanism).card.reference}")
        else:
            gradients = "" if authors.gradients is None else f", of gradients {authors.gradients:.1e}"
            why, _, others = authors.reference.partition("compared with ")
            code = f"{why}equals {others}" if others else f"equals released code ({authors.reference})"
            said.append(
                f"{code}: {len(authors.cases)} runs "
                f"({', '.join(authors.cases)}), largest relative difference of outputs {authors.output:.1e}{gradients}"
            )
        said += [f"{count.network} with {count.spec}: {count.parameters:,} parameters" for count in self.counts]
        said.append(f"meets the contract: {len(self.passed)} checks passed, {len(self.exempt)} do not apply")
        said += [f"does not apply: {check}, because {reason}" for check, reason in self.exempt.items()]
        said += [f"tested by name: {test.removeprefix('test_').replace('_', ' ')}" for test in self.tests]
        return said


def _tuples(data: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}


@cache
def certificate_of(name: str) -> Certificate:
    """The certificate of a mechanism of the catalogue.

    Raises:
        FoveateError: If it has none: a mechanism of your own, which you can run the contract over.

    Example:
        >>> certificate_of("se").mechanism
        'squeeze_excite'
    """
    mechanism = get(name).card.name
    path = resources.files("foveate.catalogue").joinpath(FOLDER, f"{mechanism}.json")
    if not path.is_file():
        raise FoveateError(
            f"{mechanism} has no certificate; foveate.testing.check_mechanism('{mechanism}') runs the contract over it"
        )
    return Certificate.from_dict(json.loads(path.read_text(encoding="utf-8")))
