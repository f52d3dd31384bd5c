"""Graph capture: torch.compile computes what eager code does, in one graph where the host is captured in one."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

import foveate

from . import trees
from .attachment import Attachment, NotRun
from .hosts import Host


def captured(made: Attachment) -> None:
    """torch.compile captures it, in one graph where the host is captured so, and computes the same."""
    _compile(made, "aot_eager")


def inductor(made: Attachment) -> None:
    """torch.compile's own compiler computes the same to rounding."""
    _compile(made, "inductor")


def _compile(made: Attachment, backend: str) -> None:
    """Whole if the host can be captured whole; what the host itself cannot is not asked of attention."""
    attended = made.acting()
    failure = ""
    for fullgraph in (True, False):
        failure = _compiled_otherwise(made.host, attended, made.acted, backend, fullgraph=fullgraph)
        if not failure:
            if not fullgraph:
                made.notes[f"{backend} graph"] = "in parts, as the host's"
            return
        bare = without_attention(made.host)
        reason = _compiled_otherwise(made.host, bare, made.host.run(bare), backend, fullgraph=fullgraph)
        if not reason:
            break
        failure = f"the host itself cannot be captured: {reason}"
    else:
        raise NotRun(failure)
    raise AssertionError(failure)


def _compiled_otherwise(host: Host, model: nn.Module, expected: Any, backend: str, *, fullgraph: bool) -> str:
    """Why a compiled network is not what it was; empty if it is."""
    torch._dynamo.reset()
    try:
        output = host.run(torch.compile(model, backend=backend, fullgraph=fullgraph))  # type: ignore[arg-type]
    except Exception as error:
        return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
    finally:
        torch._dynamo.reset()
    return "" if trees.close(output, expected) else "it computes something else when compiled"


def without_attention(host: Host) -> nn.Module:
    """A copy of the network as it was."""
    return foveate.detach(copy.deepcopy(host.model))
