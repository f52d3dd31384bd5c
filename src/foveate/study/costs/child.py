"""The other process of :func:`foveate.study.costs.elsewhere.elsewhere`: reads a network, answers in JSON."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch

from foveate.measure import inference
from foveate.study.costs.attempt import attempt, said
from foveate.study.costs.export import export
from foveate.study.costs.resident import resident_growth
from foveate.study.costs.training import step_of


def memory(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Bytes that the process, or the allocator of the GPU, takes more during a forward pass or a training step."""
    network, inputs, loss = parts["network"], parts["inputs"], parts["loss"]

    def training() -> Callable[[], object]:
        network.zero_grad(set_to_none=True)
        step = step_of(network, inputs, loss)
        return lambda: (step(), step())  # the second has the momentum of the first

    def predicting() -> Callable[[], object]:
        return lambda: network(*inputs)

    prepare = predicting if loss is None else training
    if parts["device"].type != "cuda":
        return {"bytes": _of_process(network, prepare, predicts=loss is None)}
    return {"bytes": _of_allocator(network, prepare, parts["device"], predicts=loss is None)}


def _of_process(network: Any, prepare: Callable[[], Callable[[], object]], *, predicts: bool) -> int:
    if not predicts:
        return resident_growth(prepare)
    with inference(network):
        return resident_growth(prepare)


def _of_allocator(
    network: Any, prepare: Callable[[], Callable[[], object]], device: torch.device, *, predicts: bool
) -> int:
    """What PyTorch reserved of the GPU's memory beyond what network and input take."""

    def reserved() -> int:
        call = prepare()
        torch.cuda.empty_cache()
        before = torch.cuda.memory_reserved(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_reserved(device) - before

    if not predicts:
        return reserved()
    with inference(network):
        return reserved()


def exporting(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Whether the network can be exported, one way."""
    return export(parts["network"], parts["inputs"], parts["way"])


TASKS: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {"memory": memory, "export": exporting}


def main() -> None:
    """Read what to do from standard input, do it, and write the answer to standard output."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    # from the process that started this one, through a pipe of its own
    parts, why = attempt(lambda: torch.load(io.BytesIO(sys.stdin.buffer.read()), weights_only=False))
    if parts is None:
        told: dict[str, Any] = {"reason": f"the network cannot be made in a process of its own ({why})"}
    else:
        torch.set_num_threads(parts["threads"])
        try:
            told = {"answer": TASKS[parts["task"]](parts)}
        except Exception as error:
            told = {"reason": said(error)}
    json.dump(told, answer)
    answer.close()


if __name__ == "__main__":
    main()
