"""What a pass would take, in time and memory, told without running it."""

from __future__ import annotations

from dataclasses import asdict, astuple, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.utils._pytree import tree_leaves

from foveate.measure.calibrate import this_machine
from foveate.measure.inference import inference
from foveate.measure.machine import Machine
from foveate.measure.memory import LiveTensors
from foveate.measure.record import recorded
from foveate.measure.shapes import call, shape_of, shapes_alone, state_of


@dataclass(frozen=True)
class Prediction:
    """What a module would take on a machine.

    Attributes:
        seconds: One forward pass without gradients.
        memory: Bytes that it needs at most at one moment, besides parameters and input; with what it returns.
        kept: Bytes that stay for the backward pass of training, besides parameters and input, and besides what it
            returns where the backward pass does not want that.
        training: Bytes that a forward and a backward pass need at most at one moment, with the gradients.
    """

    seconds: float
    memory: int
    kept: int
    training: int

    def beyond(self, other: Prediction) -> Prediction:
        """What this takes more than another, which may be less than nothing."""
        return Prediction(*(a - b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def as_dict(self) -> dict[str, Any]:
        """The same, ready for JSON."""
        return asdict(self)


def predict(
    module: nn.Module, *inputs: Tensor, machine: Machine | None = None, device: torch.device | str = "cpu"
) -> Prediction:
    """What a module would take in evaluation mode, and in a step of training.

    The pass runs on shapes alone: every operation is known with its bytes and products, and nothing is computed or
    allocated, so that what would not fit can be asked for. Time is a sum over operations, with what the machine takes
    for each kind. Memory is what tensors occupy; what an operation takes and gives back inside itself is not seen.

    How close it comes was checked for five mechanisms at the places of four networks, in float32 on a processor of two
    cores (``benchmarks/speed/prediction.py``; docs/speed.md has the rows, which were seen while the probes were
    chosen): memory to the byte; time within a quarter, but for PSANet on few channels, which takes up to twice as long
    as is told. No more is promised: forms that PyTorch chooses by sizes between those that were measured, and compiled
    operations, are not foreseen. On other devices it was not checked.

    Args:
        module: The network, on any device, ``meta`` too. It comes back with the training flags that it had.
        *inputs: What ``forward`` takes, on any device.
        machine: The machine; by default this one, which takes a few seconds to measure once.
        device: Where it would run.

    Example:
        >>> from foveate.measure.machine import Machine, Rates
        >>> slow = Machine(((1, 1.0),), rates={"module": Rates(copies=0.0)})  # a second a byte
        >>> with torch.device("meta"):
        ...     told = predict(nn.Sigmoid(), torch.empty(1000), machine=slow)
        >>> told.seconds, told.memory, told.kept
        (8000.0, 4000, 4000)
    """
    machine = this_machine(device, inputs[0].dtype) if machine is None else machine
    with inference(module), shapes_alone():
        state, given = state_of(module, device), tuple(shape_of(one, device) for one in inputs)
        with recorded() as found:
            call(module, state, given)
        with LiveTensors() as live:
            call(module, state, given)
    kept, training = _training(module, inputs, device)
    within = live.peak + sum(one.nbytes for one in inputs)
    return Prediction(machine.total(found, within), live.peak, kept, training)


def _training(module: nn.Module, inputs: tuple[Tensor, ...], device: torch.device | str) -> tuple[int, int]:
    """What stays after a forward pass, and the highest moment of one with its backward pass."""
    with inference(module), torch.enable_grad(), shapes_alone():
        module.train()  # until the end of the block
        state, given = state_of(module, device), tuple(shape_of(x, device, learns=True) for x in inputs)
        with LiveTensors() as live:
            returned = _learnt(call(module, state, given))
            layouts = [(one.shape, one.stride(), one.dtype) for one in returned]
            graph = [get_gradient_edge(one) for one in returned]  # what is returned goes, what it was made of stays
            del returned
        kept = live.now
        del graph
        arriving = [torch.empty_strided(shape, stride, dtype=dtype, device=device) for shape, stride, dtype in layouts]
        with LiveTensors() as live:
            torch.autograd.backward(_learnt(call(module, state, given)), arriving)
    return kept, live.peak


def _learnt(returned: Any) -> list[Tensor]:
    return [one for one in tree_leaves(returned) if isinstance(one, Tensor) and one.requires_grad]
