"""What the attention of a network costs: beside the same network without it, or each module by itself."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn

from foveate.errors import FoveateError
from foveate.explain.at_rest import at_rest
from foveate.measure import count_bytes, count_macs, count_parameters, latency_ratio, measure_latency
from foveate.measure.conditions import Conditions
from foveate.surgery import detach
from foveate.surgery.attached import AttachedAttention, attached

ROUNDS = 15


@dataclass(frozen=True)
class Cost:
    """What attention adds to one pass of one image.

    Attributes:
        parameters: Of the attention, and of the whole network.
        macs: Multiply-accumulates, of both.
        bytes: Read and written, by both.
        latency: Seconds of the whole network: the median, and what 95 of 100 passes stay below.
        share: By which share of the time without it attention makes a pass longer, as the median over rounds.
        beside: Whether that was measured side by side with the same network without it; otherwise the modules ran by
            themselves, because attention built in cannot be taken out.
        conditions: Where it was measured.
        mixed: Whether the network has attention built in beside what was attached, whose cost alone this is then.
    """

    parameters: tuple[int, int]
    macs: tuple[int, int]
    bytes: tuple[int, int]
    latency: tuple[float, float]
    share: float
    beside: bool
    conditions: dict[str, Any]
    mixed: bool = False

    def sentences(self) -> list[str]:
        """The same in words.

        Example:
            >>> here = {"cpu": "a CPU", "threads": 1, "dtype": "float32"}
            >>> cost = Cost((10, 1000), (0, 5000), (80, 4000), (0.002, 0.003), 0.05, True, here)
            >>> cost.sentences()[0]
            'One image takes 2.00 ms (95 % of passes within 3.00 ms); attention makes that 5.0 % longer than the same \
network without it takes, measured side by side.'
        """
        median, p95 = (1e3 * seconds for seconds in self.latency)
        if self.beside:
            way = "longer" if self.share >= 0 else "shorter"
            told = f"makes that {_percent(abs(self.share))} {way} than the same network without it takes, measured "
            told += "side by side"
        else:
            told = f"modules run by themselves take {_percent(self.share)} of it"
        own, whole = self.parameters
        what = "the attention attached by foveate" if self.mixed else "attention"
        whose = "The attached attention" if self.mixed else "It"
        left = " The network's attention of its own is no part of that." if self.mixed else ""
        return [
            f"One image takes {median:.2f} ms (95 % of passes within {p95:.2f} ms); {what} {told}.",
            f"{whose} has {own:,} of {whole:,} parameters, does {self.macs[0]:,} of {self.macs[1]:,} "
            f"multiply-accumulates and moves {self.bytes[0] / 1e6:.2f} of {self.bytes[1] / 1e6:.2f} MB. Elementwise "
            f"work is no multiply-accumulate: the bytes and the time tell it.{left}",
            f"Measured here and now: {self.conditions['cpu']}, {self.conditions['threads']} threads, "
            f"{self.conditions['dtype']}, one image, the median of {ROUNDS} rounds.",
        ]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        names = ("parameters", "macs", "bytes")
        pairs = {name: {"attention": getattr(self, name)[0], "network": getattr(self, name)[1]} for name in names}
        return {**asdict(self), **pairs, "latency": {"median": self.latency[0], "p95": self.latency[1]}}


def cost_of(network: nn.Module, image: Tensor) -> Cost | None:
    """Measure it; ``None`` where there is no attention.

    Args:
        network: With attention.
        image: A batch of one.

    Raises:
        FoveateError: If attention was attached, and the network cannot be copied to take it out.
    """
    found = attached(network)
    if not found:
        return None
    with at_rest(network) as quiet:
        totals = count_parameters(quiet), count_macs(quiet, image), count_bytes(quiet, image)
        beside = any(one.attachment for one in found)
        if beside:
            # not the network itself: taking attention out and putting it back is no business of somebody who looks
            without = detach(_copied(quiet))
            rest = count_parameters(without), count_macs(without, image), count_bytes(without, image)
            own = tuple(whole - bare for whole, bare in zip(totals, rest, strict=True))
            calls: dict[str, Callable[[], object]] = {"with": lambda: quiet(image), "other": lambda: without(image)}
        else:
            given = _given(quiet, found, image)
            own = tuple(
                sum(one) for one in zip(*(_counted(module, args) for module, args in given), strict=True)
            )  # fmt: skip
            calls = {"with": lambda: quiet(image), "other": lambda: [module(*args) for module, args in given]}
        times = measure_latency(calls, rounds=ROUNDS)
        ratio = latency_ratio(times, "with", to="other")
        here = Conditions.here(image.device, image.dtype).as_dict()
    return Cost(
        parameters=(own[0], totals[0]),
        macs=(own[1], totals[1]),
        bytes=(own[2], totals[2]),
        latency=(times["with"].median, times["with"].p95),
        share=ratio - 1 if beside else 1 / ratio,
        beside=beside,
        conditions=here,
        mixed=beside and any(not one.attachment for one in found),
    )


def _copied(network: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(network)
    except Exception as error:  # whatever a part of it raises: locks, open files, tensors of a graph
        raise FoveateError(f"this network cannot be copied ({error}), to take its attention out") from error


def _percent(share: float) -> str:
    """A share of a time, which is never known to three digits.

    Example:
        >>> _percent(0.0071), _percent(0.123)
        ('0.7 %', '12 %')
    """
    return f"{100 * share:.{0 if share >= 0.1 else 1}f} %"


def _counted(module: nn.Module, args: tuple[Any, ...]) -> tuple[int, int, int]:
    return count_parameters(module), count_macs(module, *args), count_bytes(module, *args)


def _given(network: nn.Module, found: list[AttachedAttention], image: Tensor) -> list[tuple[nn.Module, Any]]:
    """What each module of attention is given; those that do not run are left out."""
    given: dict[int, tuple[Any, ...]] = {}
    handles = [
        one.module.register_forward_pre_hook(lambda module, args: given.__setitem__(id(module), args)) for one in found
    ]
    try:
        network(image)
    finally:
        for handle in handles:
            handle.remove()
    return [(one.module, given[id(one.module)]) for one in found if given.get(id(one.module))]
