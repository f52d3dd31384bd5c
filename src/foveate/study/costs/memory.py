"""How much memory a forward pass and a training step need at most at one moment."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from foveate.measure import inference, peak_memory
from foveate.study.costs.attempt import attempt
from foveate.study.costs.elsewhere import elsewhere
from foveate.study.costs.inputs import CONTIGUOUS, Inputs, copied, laid_out, repeated
from foveate.study.costs.training import Loss, step_of


def memory_of(
    network: nn.Module, example: Inputs, *, batch: int, loss: Loss | None, device: torch.device, limit: float
) -> dict[str, Any]:
    """Memory beyond the network's weights and its input, eager.

    Args:
        network: The arm; copies of it are run.
        example: One sample.
        batch: Samples at a time.
        loss: For a training step of SGD with momentum, gradients and momentum included; ``None`` for a forward pass.
        device: Where.
        limit: Seconds that the process of its own may take.

    Returns:
        ``"tensor_bytes"``: the tensors at one moment (on CUDA the allocator's maximum, workspaces included).
        ``"process_bytes"``: by how much a process of its own grew, in which nothing else ran (on CUDA: what
        the allocator reserved). It is more where operations have a workspace, and less than the tensors where pages
        were never touched. Its allocator gives back what is free at once; with glibc's usual habits a process may
        hold a fifth to a half more. ``"reason"`` says why one is ``None``.
    """
    tensors, no_tensors = attempt(lambda: _of_tensors(network, example, batch, loss, device))
    process, no_process = attempt(
        lambda: elsewhere(
            "memory",
            limit=limit,
            network=copied(network, CONTIGUOUS, device),
            inputs=laid_out(repeated(example, batch), CONTIGUOUS, device),
            loss=loss,
            device=device,
        )["bytes"]
    )
    return {
        "batch": batch,
        "tensor_bytes": tensors,
        "process_bytes": process,
        "reason": "; ".join(dict.fromkeys(filter(None, (no_tensors, no_process)))) or None,
    }


def no_memory(batch: int, why: str | None) -> dict[str, Any]:
    """What is known of a network whose memory could not be measured."""
    return {"batch": batch, "tensor_bytes": None, "process_bytes": None, "reason": why}


def _of_tensors(network: nn.Module, example: Inputs, batch: int, loss: Loss | None, device: torch.device) -> int:
    twin = copied(network, CONTIGUOUS, device)
    inputs = laid_out(repeated(example, batch), CONTIGUOUS, device)
    if loss is None:
        with inference(twin):
            return peak_memory(lambda: twin(*inputs), device)
    step = step_of(twin, inputs, loss)
    return peak_memory(lambda: (step(), step()), device)  # the second has the momentum of the first
