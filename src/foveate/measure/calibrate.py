"""This machine, measured: how fast it copies, and what it takes for each kind of operation."""

from __future__ import annotations

import os
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from time import perf_counter

import torch

from foveate.measure.machine import Machine, Rates, Steps
from foveate.measure.nonnegative import shares
from foveate.measure.probes import Probe, groups
from foveate.measure.record import Operation, recorded

# bytes of a copy, read and written
SIZES = tuple(size for power in range(12, 27) for size in (1 << power, 3 << power - 1))
_FEWEST, _MOST, _SECONDS = 5, 40, 0.03  # rounds of a group, and how long more than the fewest may take


def this_machine(device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Machine:
    """This machine as it is found at the first call in a process, which takes some seconds; later calls know it.

    Its paces are those of copies of growing size; the rates of each kind of operation are fitted to what small ones
    took (:mod:`foveate.measure.probes`). Nothing of a network is run, and no rate is written down.

    Args:
        device: Where operations would run.
        dtype: Of which numbers.
    """
    return _measured(torch.device(device), dtype, torch.get_num_threads())


@cache
def _measured(device: torch.device, dtype: torch.dtype, threads: int) -> Machine:  # noqa: ARG001 (part of the key)
    drawn_on = [device] if device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices=drawn_on):
        bare = Machine(*_memory_times(device, dtype))
        found: dict[str, list[tuple[tuple[float, ...], float]]] = defaultdict(list)
        for probes, within in groups(device, dtype):
            clock, *times = in_turn([_nothing, *probes], device)
            for probe, seconds in zip(probes, times, strict=True):
                one = _main(probe)
                if (beyond := seconds - clock - bare.fresh(one.made)) > 0:
                    found[one.kind].append((bare.amounts(one, within), beyond))
    rates = {kind: Rates(*shares(*zip(*rows, strict=True))) for kind, rows in found.items()}
    return replace(bare, rates=rates, memory=_room(device))


def _main(probe: Probe) -> Operation:
    """The one operation of a probe; what only looks at memory in another way stands beside it."""
    with recorded() as done:
        probe()
    return next((one for one in done if one.kind not in ("view", "module")), done[0])


def _nothing() -> None:
    """What is timed to know what timing takes."""


def _memory_times(device: torch.device, dtype: torch.dtype) -> tuple[Steps, Steps]:
    """What copies take beyond the smallest one, and what memory takes that is new besides."""
    copying: list[tuple[int, float]] = []
    making: list[tuple[int, float]] = []
    least = None
    for size in SIZES:
        x = torch.ones(size // 2 // dtype.itemsize, dtype=dtype, device=device)
        there = x.clone()
        copied, cloned = in_turn([lambda x=x, there=there: there.copy_(x), x.clone], device)
        if least is not None:
            copying.append((size, max(0.0, copied - least)))
            making.append((size // 2, max(0.0, cloned - copied)))
        least = copied if least is None else least
    return tuple(copying), tuple(making)


def in_turn(calls: Sequence[Probe], device: torch.device) -> list[float]:
    """The median seconds of calls that are run in turn, in as many rounds as there is time for."""
    samples: list[list[float]] = [[] for _ in calls]
    begin = perf_counter()
    while len(samples[0]) < _FEWEST or (len(samples[0]) < _MOST and perf_counter() - begin < _SECONDS):
        for call, taken in zip(calls, samples, strict=True):
            _settle(device)
            start = perf_counter()
            call()
            _settle(device)
            taken.append(perf_counter() - start)
    return [statistics.median(taken[1:]) for taken in samples]  # the first may load what it runs


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _room(device: torch.device) -> int | None:
    """The memory that a process may have: the machine's, or less where its group is limited."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    known: list[int] = []
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        known.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (text := limit.read_text().strip()).isdigit():
        known.append(int(text))
    return min(known, default=None)
