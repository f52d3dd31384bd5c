"""The contract that any mechanism must meet, ours or a stranger's, as plain functions that need no test framework."""

from foveate.testing.contract import Case, Check, Result, cases, check_mechanism, checks, parametrize
from foveate.testing.expect import ContractError
from foveate.testing.graphs import agrees_compiled
from foveate.testing.subject import Subject

__all__ = [
    "Case",
    "Check",
    "ContractError",
    "Result",
    "Subject",
    "agrees_compiled",
    "cases",
    "check_mechanism",
    "checks",
    "parametrize",
]
