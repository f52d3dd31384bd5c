"""The contract: every check by name, run over a mechanism, exemptions held to their word."""

from __future__ import annotations

import time
import unittest
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn

from foveate.errors import MissingExtraError, OptionError, nearest
from foveate.registry import Spec
from foveate.testing import convolutions, copies, gradients, graphs, inputs, maps, options, precision, shapes
from foveate.testing.expect import ContractError
from foveate.testing.subject import Subject

Check = Callable[[Subject], None]
"""A function that returns if a mechanism does what its docstring's first line says, and raises if not."""

Checkable = Subject | Spec | str | Callable[..., nn.Module]

_CHECKS: tuple[Check, ...] = (
    options.every_option_acts,
    options.misspelt_option_raises,
    shapes.any_channels,
    shapes.any_size,
    shapes.trains_on_one_sample,
    shapes.takes_positions_as_it_says,
    inputs.keeps_its_input,
    inputs.keeps_samples_apart,
    inputs.keeps_channels_last,
    inputs.draws_nothing,
    maps.map_is_applied,
    maps.map_varies_along_its_axes,
    gradients.gradients_are_exact,
    gradients.every_parameter_learns,
    gradients.starts_as_identity,
    convolutions.starts_as_its_convolution,
    convolutions.any_convolution,
    gradients.ties_go_to_the_first,
    precision.survives_autocast,
    precision.keeps_softmax_precise,
    precision.keeps_dtype,
    copies.copies_agree,
    copies.builds_on_meta,
    copies.runs_deterministically,
    graphs.compiles,
    graphs.exports,
    graphs.exports_to_onnx,
)

# Checks of one protocol: of what keeps a map's shape, or of what stands in a convolution's place.
_OF_ATTENTION = {"starts_as_identity", "takes_positions_as_it_says"}
_OF_REPLACEMENTS = {"starts_as_its_convolution", "any_convolution"}


@dataclass(frozen=True)
class Result:
    """What one check found.

    Attributes:
        subject: The mechanism's name.
        check: The check's name.
        outcome: ``"exempt"`` means that the check fails as the exemption says; ``"skipped"``, that it needs something
            that is not installed.
        message: Why it failed, is exempt, or was skipped.
        seconds: How long it took.
    """

    subject: str
    check: str
    outcome: Literal["passed", "failed", "exempt", "skipped"]
    message: str
    seconds: float

    def __str__(self) -> str:
        """One line."""
        return f"{self.subject} · {self.check}: {self.outcome}" + (f": {self.message}" if self.message else "")


@dataclass(frozen=True)
class Case:
    """One check of one mechanism; calling it is the test.

    Example:
        >>> Case(Subject.of("eca"), checks()["any_size"])()
    """

    subject: Subject
    check: Check

    def __str__(self) -> str:
        """The identifier that a test report shows."""
        return f"{self.subject.name}-{_name(self.check)}"

    def run(self) -> Result:
        """Run the check and say what it found, whatever the mechanism raises."""
        started = time.perf_counter()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            outcome, message = self._outcome()
        return Result(self.subject.name, _name(self.check), outcome, message, time.perf_counter() - started)

    def __call__(self) -> None:
        """Run the check as a test.

        Raises:
            ContractError: If it fails.
            unittest.SkipTest: If it needs something that is not installed; pytest and unittest know it.
        """
        result = self.run()
        if result.outcome == "failed":
            raise ContractError(f"{self.subject.name}: {result.message}")
        if result.outcome == "skipped":
            raise unittest.SkipTest(result.message)

    def _outcome(self) -> tuple[Literal["passed", "failed", "exempt", "skipped"], str]:
        reason = self.subject.exemptions.get(_name(self.check))
        try:
            self.check(self.subject)
        except MissingExtraError as error:
            return "skipped", str(error)
        except Exception as error:  # whatever the mechanism raises is the finding
            return ("exempt", reason) if reason is not None else ("failed", _said(self.check, error))
        if reason is None:
            return "passed", ""
        return "failed", f"it is exempt from {_name(self.check)} ('{reason}') and passes it: take the exemption off"


def checks(subject: Subject | None = None) -> dict[str, Check]:
    """Every check of the contract, by name; the first line of its docstring is what it demands.

    Args:
        subject: Only the checks that are meant for it: what stands in a convolution's place has a start of its own.

    Example:
        >>> checks()["any_channels"].__doc__
        'Any number of channels works, or the error names the nearest that does.'
    """
    every = {_name(check): check for check in _CHECKS}
    if subject is None:
        return every
    others = _OF_ATTENTION if subject.replaces else _OF_REPLACEMENTS
    return {name: check for name, check in every.items() if name not in others}


def cases(
    *mechanisms: Checkable,
    only: Iterable[str] | None = None,
    values: Mapping[str, Sequence[Any]] | None = None,
    exemptions: Mapping[str, str] | None = None,
) -> list[Case]:
    """Every check of every mechanism, ready to be called.

    Args:
        *mechanisms: Names, specs, registered classes, factories ``channels -> module``, or :class:`Subject`.
        only: Names of checks; all, if none are given.
        values: For options whose type does not say what else they could be, values to try.
        exemptions: Checks that do not apply, with reasons, in place of the card's.

    Raises:
        OptionError: If a mechanism or a check does not exist.

    Example:
        >>> [str(case) for case in cases("eca", "cbam", only=["any_size"])]
        ['eca-any_size', 'cbam-any_size']
    """
    known = checks()
    chosen = list(known if only is None else only)
    found: list[Case] = []
    for subject in map(Subject.of, mechanisms):
        changed = replace(
            subject,
            values=subject.values if values is None else values,
            exemptions=subject.exemptions if exemptions is None else exemptions,
        )
        for name in (*chosen, *changed.exemptions):
            if name not in known:
                raise OptionError(f"the contract has no check '{name}'; {nearest(name, known)}")
        meant = checks(changed)
        found += [Case(changed, known[name]) for name in chosen if name in meant]
    return found


def check_mechanism(
    mechanism: Checkable,
    *,
    only: Iterable[str] | None = None,
    values: Mapping[str, Sequence[Any]] | None = None,
    exemptions: Mapping[str, str] | None = None,
) -> list[Result]:
    """Run the contract over a mechanism: everything that foveate, and a network around it, relies on.

    Args:
        mechanism: A name, a spec, a registered class, a factory ``channels -> module``, or a :class:`Subject`.
        only: Names of checks; all, if none are given.
        values: For options whose type does not say what else they could be, values to try.
        exemptions: Checks that do not apply, with reasons, in place of the card's.

    Returns:
        One result a check. Nothing is raised for a failure: look at ``outcome``.

    Raises:
        OptionError: If the mechanism or a check does not exist.

    Example:
        >>> for result in check_mechanism("eca", only=["any_channels", "any_size"]):
        ...     print(result)
        eca · any_channels: passed
        eca · any_size: passed
    """
    return [case.run() for case in cases(mechanism, only=only, values=values, exemptions=exemptions)]


def parametrize(
    *mechanisms: Checkable,
    only: Iterable[str] | None = None,
    values: Mapping[str, Sequence[Any]] | None = None,
    exemptions: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The contract as arguments of ``pytest.mark.parametrize``, a test for each check, named by both.

    In a test file::

        @pytest.mark.parametrize(**foveate.testing.parametrize(MyAttention))
        def test_contract(case):
            case()

    The arguments are those of :func:`cases`.

    Example:
        >>> parametrize("eca", only=["any_size"])["ids"]
        ['eca-any_size']
    """
    found = cases(*mechanisms, only=only, values=values, exemptions=exemptions)
    return {"argnames": "case", "argvalues": found, "ids": [str(case) for case in found]}


def _name(check: Check) -> str:
    return getattr(check, "__name__", repr(check))


def _said(check: Check, error: Exception) -> str:
    if isinstance(error, ContractError):
        return str(error)
    claim = (check.__doc__ or _name(check)).strip().splitlines()[0]
    return f"{claim} But {type(error).__name__}: {str(error).strip() or 'without a word'}"
