"""Everything that arms cost, measured side by side, each quantity on its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from foveate.errors import OptionError, check_at_least, check_choice, check_positive, nearest
from foveate.measure import Conditions
from foveate.study.costs.counts import count, no_counts
from foveate.study.costs.energy import energy_of, no_energy
from foveate.study.costs.export import export_status, no_status
from foveate.study.costs.inputs import CONTIGUOUS, LAYOUTS, Inputs, laid_out, repeated
from foveate.study.costs.items import Item, Progress, measured
from foveate.study.costs.latency import EAGER, Setting, settings, time_networks
from foveate.study.costs.memory import memory_of, no_memory
from foveate.study.costs.side_by_side import no_time
from foveate.study.costs.training import Loss, mean_square, time_steps

FORMAT, KIND = 1, "foveate costs"


def measure_costs(
    networks: Mapping[str, nn.Module],
    example: Inputs,
    *,
    baseline: str,
    batches: Sequence[int] = (1, 8),
    rounds: int = 30,
    seconds: float = 60.0,
    compiled: bool = False,
    layouts: Sequence[str] = LAYOUTS,
    loss: Loss = mean_square,
    quick: bool = False,
    limit: float = 300.0,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure what networks cost: counted, timed, in memory, in energy, and whether they can be exported.

    What cannot be measured is ``None``, with the reason beside it, and costs nothing else; an interruption from the
    keyboard passes through.

    Args:
        networks: By the arm's name. They stay as they are: copies are run.
        example: What a network takes for one sample: a tensor whose first axis is 1, or a list of one image. Larger
            batches repeat it.
        baseline: The arm that ratios are of.
        batches: Samples at a time. Training, memory and energy take the largest.
        rounds: How many rounds of timing at most.
        seconds: How long one setting may be timed, about; it is never fewer than six rounds.
        compiled: Whether to time networks compiled by ``torch.compile`` as well; compiling takes up to a minute for
            each network and setting.
        layouts: ``"contiguous"``, ``"channels_last"`` or both.
        loss: What a training step minimises, from network and inputs; for a detector of torchvision
            :func:`~foveate.study.costs.training.detection_loss`. A function that can be imported by its name.
        quick: Whether to count and to time the smallest batch only, eager, contiguous.
        limit: Seconds for each thing done in a process of its own: memory and export.
        device: Where all of it runs; export runs on the CPU.
        progress: Told what comes next, how many things are done, and how many there are.

    Returns:
        Plain values, ready for JSON: ``"conditions"``; ``"arms"`` by name, each with ``"parameters"``, ``"macs"``,
        ``"bytes"``, ``"latency"`` (a row a setting), ``"training"``, ``"memory"``, ``"energy"`` and ``"export"``; and
        ``"runs"``: how many rounds each run of timing had, and how noisy it was.

    Raises:
        OptionError: If there is nothing to measure, or a number or name cannot work.

    Example:
        >>> nets = {"plain": nn.Conv2d(3, 8, 1), "wide": nn.Conv2d(3, 16, 1)}
        >>> costs = measure_costs(nets, (torch.zeros(1, 3, 8, 8),), baseline="plain", rounds=6, quick=True)
        >>> costs["arms"]["wide"]["macs"], costs["arms"]["plain"]["latency"][0]["ratio"]
        ({'count': 3072, 'reason': None}, 1.0)
    """
    _check(networks, example, baseline, batches, rounds, seconds, layouts, limit)
    place, largest, names = torch.device(device), max(batches), tuple(networks)
    arms: dict[str, dict[str, Any]] = {name: {"latency": [], "memory": {}} for name in names}
    runs: list[dict[str, Any]] = []
    timing: dict[str, Any] = {"baseline": baseline, "rounds": rounds, "seconds": seconds, "device": place}

    def counted(name: str) -> Item:
        def measure() -> dict[str, Any]:
            home = next((one.device for one in networks[name].parameters()), torch.device("cpu"))
            return {name: count(networks[name], laid_out(example, CONTIGUOUS, home))}

        return Item(f"{name}: parameters, MACs, bytes", (name,), measure, dict.update, no_counts, cheap=True)

    def timed(setting: Setting, *, cheap: bool) -> Item:
        def measure() -> Mapping[str, Any]:
            rows, run = time_networks(networks, example, setting, **timing)
            runs.append({"what": "latency", **run})
            return rows

        def nothing(why: str | None) -> dict[str, Any]:
            return {**asdict(setting), **no_time(why)}

        def keep(arm: dict[str, Any], row: Any) -> None:
            arm["latency"].append(row)

        return Item(f"latency: {setting}", names, measure, keep, nothing, cheap)

    def stepped() -> Item:
        def measure() -> Mapping[str, Any]:
            rows, run = time_steps(networks, example, batch=largest, loss=loss, **timing)
            runs.append({"what": "training", **run})
            return rows

        def nothing(why: str | None) -> dict[str, Any]:
            return {"batch": largest, **no_time(why)}

        return Item(f"a training step: batch {largest}", names, measure, _put("training"), nothing)

    def spent() -> Item:
        def measure() -> Mapping[str, Any]:
            return energy_of(networks, example, batch=largest, baseline=baseline, device=place)

        return Item(f"energy: batch {largest}", names, measure, _put("energy"), lambda why: no_energy(largest, why))

    def remembered(name: str, what: str) -> Item:
        def measure() -> dict[str, Any]:
            taught = loss if what == "training" else None
            found = memory_of(networks[name], example, batch=largest, loss=taught, device=place, limit=limit)
            return {name: found}

        def keep(arm: dict[str, Any], found: Any) -> None:
            arm["memory"][what] = found

        return Item(f"{name}: memory of {what}", (name,), measure, keep, lambda why: no_memory(largest, why))

    def exported(name: str) -> Item:
        def measure() -> dict[str, Any]:
            return {name: export_status(networks[name], example, limit=limit)}

        return Item(f"{name}: export", (name,), measure, _put("export"), no_status)

    plainest = Setting(min(batches), EAGER, CONTIGUOUS)
    asked = [plainest] if quick else settings(batches, compiled, layouts)
    items = [counted(name) for name in names]
    items += [timed(setting, cheap=setting == plainest) for setting in asked]
    items += [stepped(), spent()]
    items += [remembered(name, what) for name in names for what in ("inference", "training")]
    items += [exported(name) for name in names]
    measured(items, arms, quick=quick, progress=progress)
    return {
        "format": FORMAT,
        "kind": KIND,
        "conditions": Conditions.here(place).as_dict(),
        "baseline": baseline,
        "quick": quick,
        "arms": arms,
        "runs": runs,
    }


def _put(quantity: str) -> Any:
    def put(arm: dict[str, Any], found: Any) -> None:
        arm[quantity] = found

    return put


def _check(
    networks: Mapping[str, nn.Module],
    example: Inputs,
    baseline: str,
    batches: Sequence[int],
    rounds: int,
    seconds: float,
    layouts: Sequence[str],
    limit: float,
) -> None:
    if not networks:
        raise OptionError("there is nothing to measure: give at least one network by name")
    if baseline not in networks:
        raise OptionError(f"the baseline '{baseline}' is none of the networks; {nearest(baseline, networks)}")
    if not batches or not layouts:
        raise OptionError("give at least one batch and one layout")
    for batch in batches:
        check_at_least("a batch", batch, 1)
    for layout in layouts:
        check_choice("a layout", layout, LAYOUTS)
    check_at_least("rounds", rounds, 1)
    check_positive("seconds", seconds)
    check_positive("limit", limit)
    if not isinstance(example, tuple):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise OptionError("the example is a tuple of what the network takes, as (torch.zeros(1, 3, 224, 224),)")
    repeated(example, 1)
