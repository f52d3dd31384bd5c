"""How a check says no: with a sentence, and with differences measured against rounding."""

from __future__ import annotations

from torch import Tensor

from foveate.errors import FoveateError

# The same float64 arithmetic in another order: 2.2e-16 for each of up to 1e5 terms of a sum, with room to spare.
# What a check looks for, a wrong rule or a leak, is larger by many orders of magnitude.
ROUNDING = 1e-10


class ContractError(FoveateError, AssertionError):
    """A mechanism does not do what every mechanism must."""


def expect(holds: bool, otherwise: str) -> None:
    """Go on if something holds.

    Raises:
        ContractError: With the sentence, if it does not.

    Example:
        >>> expect(1 + 1 == 2, "one and one must be two")
    """
    if not holds:
        raise ContractError(otherwise)


def expect_close(actual: Tensor, expected: Tensor, what: str, tolerance: float = ROUNDING) -> None:
    """Go on if two tensors differ by rounding only, relative to the largest value expected.

    Raises:
        ContractError: With the largest difference, if they differ by more, or are not numbers.

    Example:
        >>> import torch
        >>> expect_close(torch.ones(2) + 1e-12, torch.ones(2), "the sum")
    """
    expect(
        actual.shape == expected.shape,
        f"{what} has the shape {tuple(actual.shape)} where {tuple(expected.shape)} is due",
    )
    allowed = tolerance * max(1.0, expected.abs().max().item())
    difference = (actual - expected).abs().max().item()
    expect(difference <= allowed, f"{what} is off by {difference:.2g}, more than the {allowed:.2g} of rounding")


def expect_finite(values: Tensor, what: str) -> None:
    """Go on if every value is a finite number.

    Raises:
        ContractError: With the count of those that are not.

    Example:
        >>> import torch
        >>> expect_finite(torch.zeros(3), "the output")
    """
    wrong = int((~values.isfinite()).sum())
    expect(not wrong, f"{what} has {wrong} of {values.numel()} values that are infinite or not numbers")
