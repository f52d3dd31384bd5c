"""How do time and memory of every mechanism grow with positions, channels and batch?

    uv run python -m benchmarks.speed.growth [--seconds 100] [NAME ...]

Every mechanism as its card has it, inference, on maps that grow along one axis at a time; a size whose predicted time
or memory is beyond a cap is left out, and so are all larger ones. An exponent is fitted to the largest four sizes,
where the work dominates what a call costs alone. Results go to `benchmarks/results/speed/growth.json`; a mechanism
that is there already is not measured again, so a run can be cut into pieces.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from torch import Tensor, nn

import foveate
from benchmarks.speed.exponent import power
from benchmarks.speed.timing import ALLOCATOR, write
from foveate.errors import OptionError
from foveate.measure import count_bytes, count_macs, peak_memory, predict
from foveate.measure.calibrate import in_turn
from foveate.registry import get, spec

RESULT = Path(__file__).parents[1] / "results" / "speed" / "growth.json"
Shape = tuple[int, int, int]
# batch, channels and side of the maps, one growing at a time; smaller ones where the first are too much for most
AXES: dict[str, list[list[Shape]]] = {
    "positions": [[(1, channels, side) for side in (7, 10, 14, 20, 28, 40, 56, 80, 112, 160)] for channels in (64, 16)],
    "channels": [[(1, channels, side) for channels in (32, 64, 128, 256, 512, 1024)] for side in (56, 28, 14)],
    "batch": [[(batch, 128, side) for batch in (1, 2, 4, 8, 16, 32)] for side in (28, 14)],
}
FITTED = 4  # the largest sizes, to which a power is fitted
COSTS = ("seconds", "memory", "macs", "bytes")
SECONDS, MEMORY = 0.15, 1 << 30  # predicted ones, beyond which a size is left out


def rows(names: Iterable[str], until: Callable[[], bool] = lambda: False) -> Iterator[dict[str, Any]]:
    """One row a mechanism and axis, while there is time."""
    for name in names:
        if until():
            return
        yield from [row(name, axis) for axis in AXES]


def row(name: str, axis: str) -> dict[str, Any]:
    """What a mechanism costs along an axis, and the powers of that."""
    points = [_measured(name, point, axis) for point in _chosen(name, axis)]
    sizes = [point["size"] for point in points]
    fitted = {
        cost: asdict(power(sizes, [point[cost] for point in points]))
        for cost in COSTS
        if len(points) > 1 and all(point[cost] for point in points)
    }
    return {"work": name, "axis": axis, "points": points, "powers": fitted}


def _chosen(name: str, axis: str) -> list[Shape]:
    """The maps to measure: the first series of which enough are within the caps."""
    found = [_within_caps(name, series) for series in AXES[axis]]
    return max(found, key=lambda shapes: min(len(shapes), FITTED))[-FITTED:]


def _within_caps(name: str, series: list[Shape]) -> list[Shape]:
    """The maps of a series that it takes, up to the first that would take too much."""
    found: list[Shape] = []
    for shape in series:
        try:
            with torch.device("meta"):
                module, maps = _prepared(name, shape)
        except OptionError:  # a number of channels that it does not work with
            continue
        told = predict(module, *maps)
        if told.seconds > SECONDS or told.memory > MEMORY:
            break
        found.append(shape)
    return found


def _measured(name: str, shape: Shape, axis: str) -> dict[str, Any]:
    module, maps = _prepared(name, shape)
    call = partial(module, *maps)
    batch, channels, side = shape
    # the least of three medians: what disturbs a measurement only adds to it
    seconds = min(in_turn([call], torch.device("cpu"))[0] for _ in range(3))
    return {
        "shape": [batch, channels, side, side],
        "size": {"positions": side * side, "channels": channels, "batch": batch}[axis],
        "seconds": float(f"{seconds:.4g}"),
        "memory": peak_memory(call),
        "macs": count_macs(module, *maps),
        "bytes": count_bytes(module, *maps),
    }


def _prepared(name: str, shape: Shape) -> tuple[nn.Module, tuple[Tensor, ...]]:
    batch, channels, side = shape
    module = spec(name).create(channels, size=(side, side)).eval().requires_grad_(False)
    count = 2 if get(name).protocol == "fusion" else 1
    return module, tuple(torch.randn(batch, channels, side, side) for _ in range(count))


def main() -> None:
    """Measure what is not there yet, as long as there is time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="measure these, again where they are there")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no mechanism after so long")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not arguments.here:
        command = [sys.executable, "-m", "benchmarks.speed.growth", "--here", *sys.argv[1:]]
        subprocess.run(command, env={**os.environ, **ALLOCATOR}, check=True)  # noqa: S603 (ourselves)
        return
    there = json.loads(arguments.out.read_text(encoding="utf-8"))["rows"] if arguments.out.is_file() else []
    there = [one for one in there if one["work"] in foveate.names() and one["work"] not in arguments.names]
    missing = [name for name in arguments.names or foveate.names() if name not in {one["work"] for one in there}]
    begin = monotonic()
    found = list(there)
    for one in rows(missing, lambda: monotonic() - begin > arguments.seconds):
        found.append(one)
        exponents = "  ".join(f"{cost} ^{fit['exponent']:.2f}" for cost, fit in one["powers"].items())
        print(one["work"], one["axis"], exponents, flush=True)
    found.sort(key=lambda one: one["work"])
    write(arguments.out, __doc__.splitlines()[0], found)


if __name__ == "__main__":
    main()
