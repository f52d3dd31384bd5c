"""Everything a network costs, together with the conditions under which it was measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from foveate.errors import OptionError
from foveate.measure.conditions import Conditions
from foveate.measure.inference import inference
from foveate.measure.latency import Latency, measure_latency
from foveate.measure.macs import count_macs
from foveate.measure.memory import peak_memory
from foveate.measure.parameters import count_parameters
from foveate.measure.traffic import count_bytes


@dataclass(frozen=True)
class Measurement:
    """What one forward pass of a network costs.

    Attributes:
        parameters: Scalars in the parameters.
        macs: Multiply-accumulates of convolutions and matrix products.
        bytes: Bytes that the operations read and write.
        latency: Durations, in seconds.
        peak_memory: Bytes that the pass needs at most at one moment, besides parameters and input.
        input_shape: The shape of the input, or of each input.
        conditions: Under which conditions.
    """

    parameters: int
    macs: int
    bytes: int
    latency: Latency
    peak_memory: int
    input_shape: tuple[tuple[int, ...], ...]
    conditions: Conditions

    def as_dict(self) -> dict[str, Any]:
        """The same, ready for JSON."""
        return {
            "parameters": self.parameters,
            "macs": self.macs,
            "bytes": self.bytes,
            "latency": self.latency.as_dict(),
            "peak_memory": self.peak_memory,
            "input_shape": [list(shape) for shape in self.input_shape],
            "conditions": self.conditions.as_dict(),
        }


def measure(module: nn.Module, *inputs: Tensor, rounds: int = 20, warmup: int = 3) -> Measurement:
    """Measure one forward pass, in evaluation mode and without gradients.

    To compare the speed of several networks, time them side by side with
    :func:`~foveate.measure.measure_latency`: between separate measurements the machine changes more than the
    networks differ.

    Args:
        module: The network. It comes back with the training flags that it had.
        *inputs: What ``forward`` takes, on the network's device.
        rounds: How many times to time it.
        warmup: How many times to run it before that.

    Raises:
        OptionError: If there is no input, or it is on the ``meta`` device, where nothing takes time.

    Example:
        >>> import torch
        >>> cost = measure(nn.Conv2d(3, 8, 1), torch.zeros(1, 3, 4, 4), rounds=3)
        >>> cost.parameters, cost.macs, cost.peak_memory
        (32, 384, 512)
    """
    if not inputs:
        raise OptionError("give an input to measure with, for instance torch.randn(1, 3, 224, 224)")
    first = inputs[0]
    if first.device.type == "meta":
        raise OptionError(
            "nothing takes time on the meta device; count_parameters, count_macs and count_bytes work there"
        )

    def forward() -> object:
        return module(*inputs)

    with inference(module):
        latencies = measure_latency({"forward": forward}, rounds=rounds, warmup=warmup, device=first.device)
        memory = peak_memory(forward, first.device)
    return Measurement(
        parameters=count_parameters(module),
        macs=count_macs(module, *inputs),
        bytes=count_bytes(module, *inputs),
        latency=latencies["forward"],
        peak_memory=memory,
        input_shape=tuple(tuple(tensor.shape) for tensor in inputs),
        conditions=Conditions.here(first.device, first.dtype),
    )
