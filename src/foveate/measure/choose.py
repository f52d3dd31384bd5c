"""Which mechanisms fit a budget, by what they cost on a feature map. What they would bring, nobody can promise."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from foveate.errors import FoveateError, OptionError, check_at_least, check_choice, check_size
from foveate.measure.conditions import Conditions
from foveate.measure.inference import inference
from foveate.measure.latency import Latency, latency_ratio, measure_latency
from foveate.measure.macs import count_macs
from foveate.measure.memory import peak_memory
from foveate.measure.parameters import count_parameters
from foveate.measure.traffic import count_bytes
from foveate.registry import Spec, get, names

By = Literal["latency", "parameters", "macs", "bytes", "memory"]
QUANTITIES = ("latency", "parameters", "macs", "bytes", "memory")


@dataclass(frozen=True)
class Candidate:
    """One mechanism's cost on the feature map, beside that of the block it would be put into.

    Attributes:
        spec: The mechanism.
        kind: Its kind.
        parameters: Scalars in its parameters.
        macs: Multiply-accumulates of one pass.
        bytes: Bytes that its operations read and write.
        latency: Durations of one pass, in seconds.
        memory: Bytes that a pass needs at most at one moment, besides parameters and input.
        shares: Each quantity as a share of the block's.
    """

    spec: Spec
    kind: str
    parameters: int
    macs: int
    bytes: int
    latency: Latency
    memory: int
    shares: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """The same, ready for JSON."""
        numbers = {"parameters": self.parameters, "macs": self.macs, "bytes": self.bytes, "memory": self.memory}
        return {
            "mechanism": str(self.spec),
            "kind": self.kind,
            **numbers,
            "latency": self.latency.as_dict(),
            "shares": self.shares,
        }


@dataclass(frozen=True)
class Choice:
    """What fits a budget, and what does not.

    Attributes:
        by: The quantity that the budget limits.
        budget: The largest share of the block's cost.
        channels: Channels of the feature map.
        size: Its height and width.
        block: What the shares are shares of, in words.
        fitting: Within the budget, the cheapest first.
        dearer: Beyond it, the cheapest first.
        refused: Mechanisms that cannot be had for this map, with the reason.
        conditions: Under which all of it was measured.
    """

    by: By
    budget: float
    channels: int
    size: tuple[int, int]
    block: str
    fitting: tuple[Candidate, ...]
    dearer: tuple[Candidate, ...]
    refused: dict[str, str]
    conditions: Conditions

    def as_dict(self) -> dict[str, Any]:
        """The same, ready for JSON."""
        return {
            "by": self.by,
            "budget": self.budget,
            "channels": self.channels,
            "size": list(self.size),
            "block": self.block,
            "fitting": [candidate.as_dict() for candidate in self.fitting],
            "dearer": [candidate.as_dict() for candidate in self.dearer],
            "refused": self.refused,
            "conditions": self.conditions.as_dict(),
        }


def choose(
    channels: int,
    size: tuple[int, int],
    budget: float,
    *,
    by: By = "latency",
    mechanisms: Iterable[Spec] | None = None,
    rounds: int = 15,
    tell: Callable[[str], None] = lambda _: None,
) -> Choice:
    """Propose mechanisms whose measured cost stays within a budget.

    The budget is a share of the cost of one residual bottleneck block of as many channels on the same map, the kind of
    block that attention is usually put into once: 1×1 to a quarter of the channels, 3×3, 1×1 back, each with its norm.
    All latencies are measured side by side, and shares are medians of ratios within rounds.

    Args:
        channels: Channels of the feature map.
        size: Its height and width.
        budget: The largest share: 0.01 is one per cent.
        by: What the budget limits.
        mechanisms: What to choose from; by default all that take one feature map and keep its shape, as their papers
            have them. One in a convolution's place is measured as one of 3×3, beside it and not instead of it.
        rounds: How many times to time each.
        tell: Called with each name before it is measured, for progress.

    Raises:
        OptionError: If channels, size, budget or quantity cannot work.

    Example:
        >>> from foveate.registry import spec
        >>> found = choose(16, (8, 8), 0.01, by="parameters", mechanisms=[spec("eca"), spec("se")], rounds=2)
        >>> [str(candidate.spec) for candidate in found.fitting]
        ['eca']
    """
    check_at_least("channels", channels, 1)
    check_size("size", size)
    check_choice("by", by, QUANTITIES)
    if not 0 < budget < math.inf:
        raise OptionError(f"a budget is a share above zero, such as 0.01 for one per cent, not {budget}")
    x = torch.randn(1, channels, *size)
    both = (x, torch.randn(1, channels, *size))
    refused: dict[str, str] = {}
    modules: dict[Spec, nn.Module] = {}
    given: dict[str, tuple[Tensor, ...]] = {"block": (x,)}
    of_one_map = (Spec(name) for name in names() if get(name).protocol == "attention")
    for spec in of_one_map if mechanisms is None else mechanisms:
        try:
            module = spec.create(channels, size=size).eval()
            given[str(spec)] = both if get(spec.name).protocol == "fusion" else (x,)
            with torch.no_grad():
                module(*given[str(spec)])
            modules[spec] = module
        except (FoveateError, TypeError) as error:
            refused[str(spec)] = str(error)
        except RuntimeError as error:  # of torch: what it needs at once is more than the memory
            refused[str(spec)] = f"it does not run here: {str(error).partition(chr(10))[0]}"
    block = bottleneck(channels).eval()
    everything = {"block": block, **{str(spec): module for spec, module in modules.items()}}
    latencies = _side_by_side(everything, given, rounds)
    whole = {**_counted(block, x), "latency": 1.0}
    candidates: list[Candidate] = []
    for spec, module in modules.items():
        tell(str(spec))
        counted = _counted(module, *given[str(spec)])
        shares = {name: counted[name] / whole[name] for name in counted}
        shares["latency"] = latency_ratio(latencies, str(spec), to="block")
        kind = get(spec.name).kind(**dict(spec.options))
        latency = latencies[str(spec)]
        candidates.append(Candidate(spec, kind, latency=latency, shares=shares, **counted))
    candidates.sort(key=lambda candidate: candidate.shares[by])
    return Choice(
        by=by,
        budget=budget,
        channels=channels,
        size=(size[0], size[1]),
        block=f"a residual bottleneck block of {channels} channels",
        fitting=tuple(candidate for candidate in candidates if candidate.shares[by] <= budget),
        dearer=tuple(candidate for candidate in candidates if candidate.shares[by] > budget),
        refused=refused,
        conditions=Conditions.here(x.device, x.dtype),
    )


def bottleneck(channels: int) -> nn.Module:
    """The branch of a residual bottleneck block of ResNet.

    Example:
        >>> count_parameters(bottleneck(256))  # torchvision's, without a strided shortcut
        70400
    """
    width = max(1, channels // 4)
    return nn.Sequential(
        nn.Conv2d(channels, width, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
    )


def _side_by_side(
    modules: dict[str, nn.Module], given: dict[str, tuple[Tensor, ...]], rounds: int
) -> dict[str, Latency]:
    with torch.inference_mode():
        calls = {name: lambda name=name, module=module: module(*given[name]) for name, module in modules.items()}
        return measure_latency(calls, rounds=rounds)


def _counted(module: nn.Module, *maps: Tensor) -> dict[str, int]:
    with inference(module):
        memory = peak_memory(lambda: module(*maps), maps[0].device)
    return {
        "parameters": count_parameters(module),
        "macs": count_macs(module, *maps),
        "bytes": count_bytes(module, *maps),
        "memory": memory,
    }
