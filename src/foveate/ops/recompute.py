"""Telling a forward pass from its repetition, for state that a forward pass moves."""

from __future__ import annotations

import torch


def recomputing() -> bool:
    """Whether this forward pass runs inside a backward pass: gradient checkpointing is repeating an earlier one.

    A compiled graph is no such repetition; what it recomputes it plans for itself.

    Example:
        >>> recomputing()
        False
    """
    if torch.compiler.is_compiling():
        return False
    # the number of the backward pass that this thread is in, -1 outside of any; torch.utils.checkpoint asks the same
    return torch._C._current_graph_task_id() != -1  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
