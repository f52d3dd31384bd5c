"""How much energy a forward pass takes, where the machine counts it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import nn

from foveate.measure import inference
from foveate.study.costs.attempt import attempt
from foveate.study.costs.inputs import CONTIGUOUS, Inputs, copied, laid_out, repeated
from foveate.study.costs.meters import POWERCAP, Meter, meter_of
from foveate.study.costs.ratios import FEWEST, ratio

Row = dict[str, Any]
BLOCK = 0.5  # seconds: the counters move about every millisecond, so an end is off by 0.2 % of a block


def energy_of(
    networks: Mapping[str, nn.Module],
    example: Inputs,
    *,
    batch: int,
    baseline: str,
    device: torch.device,
    rounds: int = FEWEST,
    block: float = BLOCK,
    root: Path = POWERCAP,
) -> dict[str, Row]:
    """The joules of a forward pass, from blocks of passes of every network in turn.

    The counters know no processes: what else runs, and idling, is in the number. The ratio within rounds suffers less.

    Args:
        networks: By the arm's name; copies of them are run, eager, contiguous.
        example: One sample.
        batch: Samples at a time.
        baseline: The arm whose energy is 1.
        device: Where.
        rounds: How often each takes its turn.
        block: How many seconds of passes a turn has, at least.
        root: Where Linux shows the processor's counters.

    Returns:
        For each network ``"batch"``, ``"joules"`` of one pass, ``"ratio"``, ``"interval"``, ``"source"`` and the
        ``"reason"`` where a number is missing.
    """
    meter, why = attempt(lambda: meter_of(device, root))
    if meter is None:
        return {name: no_energy(batch, why) for name in networks}
    inputs = laid_out(repeated(example, batch), CONTIGUOUS, device)
    rows: dict[str, Row] = {}
    spent: dict[str, list[float]] = {}
    with torch.no_grad():
        turns: dict[str, Callable[[], float]] = {}
        for name, network in networks.items():
            turn, why = attempt(lambda net=network: _turn(net, inputs, meter, device, block))
            if turn is None:
                rows[name] = no_energy(batch, why)
            else:
                turns[name], spent[name] = turn, []
        for number in range(rounds):
            for name in turns if number % 2 == 0 else reversed(turns):
                joules, why = attempt(turns[name])
                spent[name].append(math.nan if joules is None else joules)
                if why is not None:
                    rows[name] = no_energy(batch, why)
    known = [name for name in turns if name not in rows]
    for name in known:
        row = _row(batch=batch, joules=statistics.median(spent[name]), source=meter.source)
        if baseline not in known:
            row["reason"] = f"no ratio: the energy of the baseline '{baseline}' is not known"
        elif min(spent[name] + spent[baseline]) <= 0:
            row["reason"] = "no ratio: the counter did not move in a block of passes"
        else:
            row |= ratio(spent[name], spent[baseline])
        rows[name] = row
    return {name: rows[name] for name in networks}


def _turn(network: nn.Module, inputs: Inputs, meter: Meter, device: torch.device, block: float) -> Callable[[], float]:
    twin = copied(network, CONTIGUOUS, device)

    def settle() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    def turn() -> float:
        """Joules of one pass."""
        with inference(twin):
            settle()
            begin, start, passes = meter.read(), perf_counter(), 0
            while not passes or perf_counter() - start < block:
                twin(*inputs)
                settle()
                passes += 1
            return (meter.read() - begin) / passes

    turn()  # the first pass loads and allocates
    return turn


def no_energy(batch: int, why: str | None) -> Row:
    """What is known of a network whose energy could not be measured."""
    return _row(batch=batch, reason=why)


def _row(**known: Any) -> Row:
    return dict.fromkeys(("batch", "joules", "ratio", "interval", "source", "reason")) | known
