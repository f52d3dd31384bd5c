"""What can be counted without a clock: parameters, multiply-accumulates, bytes that must move."""

from __future__ import annotations

from typing import Any

from torch import nn

from foveate.measure import count_bytes, count_macs, count_parameters
from foveate.study.costs.attempt import attempt
from foveate.study.costs.inputs import Inputs
from foveate.surgery import parameter_groups


def count(network: nn.Module, example: Inputs) -> dict[str, Any]:
    """Parameters that are trained, of which attention's, and MACs and bytes of a forward pass of one sample.

    Args:
        network: The arm.
        example: One sample, as the network takes it.

    Returns:
        ``"parameters"`` (``"total"``, ``"attention"``), ``"macs"`` and ``"bytes"`` (``"count"``), each with the
        ``"reason"`` where there is no number.

    Example:
        >>> import torch
        >>> found = count(nn.Conv2d(3, 8, 1, bias=False), (torch.zeros(1, 3, 4, 4),))
        >>> found["parameters"]["total"], found["macs"]["count"], found["bytes"]["count"]
        (24, 384, 800)
    """
    total, reason = attempt(lambda: count_parameters(network, trainable=True))
    attention, other = attempt(lambda: _of_attention(network))
    macs, no_macs = attempt(lambda: count_macs(network, *example))
    moved, no_bytes = attempt(lambda: count_bytes(network, *example))
    return {
        "parameters": {"total": total, "attention": attention, "reason": reason or other},
        "macs": {"count": macs, "reason": no_macs},
        "bytes": {"count": moved, "reason": no_bytes},
    }


def no_counts(why: str | None) -> dict[str, Any]:
    """What is known of a network of which nothing could be counted."""
    return {
        "parameters": {"total": None, "attention": None, "reason": why},
        "macs": {"count": None, "reason": why},
        "bytes": {"count": None, "reason": why},
    }


def _of_attention(network: nn.Module) -> int:
    """Parameters of attachments; those of attention that the host brought along are the host's."""
    if not any(one.requires_grad for one in network.parameters()):
        return 0
    groups = parameter_groups(network, lr=1.0)
    return sum(one.numel() for group in groups if group["name"].startswith("attention") for one in group["params"])
