"""What came of a network, read off the merged result."""

from __future__ import annotations

from typing import Any

from .one import MECHANISMS, REFUSED

Report = dict[str, Any]
STATES = ("passed", "not meant", "refused", "failed")


def state(network: Report, mechanism: str) -> str:
    """What came of a mechanism in a network.

    ``passed``: every check that ran passed. ``not meant``: the mechanism says that it is not defined on volumes.
    ``refused``: foveate said in a sentence why it cannot. ``failed``: a check did, or something broke.
    """
    if "error" in network or "host_error" in network:
        return "failed"
    result = network["mechanisms"][mechanism]
    if "f" not in result["checks"]:
        return "passed"
    if result.get("at") is None and "refused" in result and result["why"].get("places") == REFUSED:
        last = list(result["refused"].values())[-1]  # before it, presets that have no places here
        return "not meant" if len(network["input"]) == 5 and last.startswith("OptionError") else "refused"
    return "failed"


def passes(network: Report) -> bool:
    """Whether a network counts as covered: every mechanism that is meant for it passed."""
    states = {state(network, mechanism) for mechanism in MECHANISMS}
    return states <= {"passed", "not meant"} and "passed" in states
