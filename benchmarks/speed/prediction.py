"""How close is what `plan` predicts, in time and memory, to what is measured at the places of whole networks?

    uv run python -m benchmarks.speed prediction [--only cbam,psanet]

Images of 224×224 (128×128 for the U-Net), batch 1 and 8, inference. *Measured* is the sum over the places of one
attention module timed on a map of each; *predicted* comes from the operations and what this machine takes for each
kind of them, measured before. Its speed is measured time ÷ predicted time: 1 is right, below 1 is too much predicted.
Peak memory is the largest of a place: what tensors occupy, and at ResNet-50 by how much the process grew besides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

import foveate
from benchmarks.speed.memory import resident_peak
from benchmarks.speed.timing import side_by_side
from foveate.measure import Prediction, peak_memory
from foveate.ops.compiled.library import switched
from foveate.registry import spec

HOSTS = ("resnet18", "resnet50", "mobilenet_v2", "unet")
MECHANISMS = ("squeeze_excite", "eca", "psanet", "cbam", "gather_excite")
WITHIN = 0.25  # the share by which a prediction may be off

Shape = tuple[int, int, tuple[int, ...]]


def rows(*, compiled: bool = False, names: tuple[str, ...] = MECHANISMS) -> Iterator[dict[str, Any]]:  # noqa: ARG001
    """One row a mechanism, host and batch size; of plain PyTorch, which is what is predicted."""
    with switched(False):
        yield from _rows(names)


def _rows(names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for name in names:
        for host in HOSTS:
            side = 128 if host == "unet" else 224
            example = torch.zeros(1, 3, side, side)
            for batch in (1, 8):
                planned = foveate.plan(plain(host), name, start="paper", example=example, predict=True, batch=batch)
                places = Counter((batch, place.channels, place.size) for place in planned.places)
                assert planned.predicted is not None  # it was asked for
                yield {
                    "work": f"{name}, {host}",
                    "phase": "inference",
                    "shape": [batch, 3, side, side],
                    "to": "measured",
                    "calls": _beside(name, places, planned.predicted, resident=batch > 1 and host == "resnet50"),
                }


def within(all_rows: list[dict[str, Any]]) -> str:
    """What the rows say together."""
    speeds = [row["calls"]["predicted"]["speed"] for row in all_rows]
    close = sum(1 - WITHIN <= 1 / speed <= 1 + WITHIN for speed in speeds)
    worst = max(all_rows, key=lambda row: abs(1 - 1 / row["calls"]["predicted"]["speed"]))
    share = 1 / worst["calls"]["predicted"]["speed"] - 1
    return (
        f"{close} of {len(speeds)} predictions of time are within {WITHIN:.0%} of what was measured; the farthest is "
        f"{share:+.0%} ({worst['work']}, batch {worst['shape'][0]})."
    )


def plain(host: str) -> torch.nn.Module:
    """A network without attention."""
    if host == "unet":
        import segmentation_models_pytorch as smp

        return smp.Unet("resnet18", encoder_weights=None, classes=2)
    import torchvision

    return torchvision.models.get_model(host)


def _beside(name: str, places: Counter[Shape], told: Prediction, *, resident: bool) -> dict[str, Any]:
    seconds, faults, noisy, peak, widest = 0.0, 0, False, 0, next(iter(places))
    for shape, count in places.items():
        call = prepare(name, *shape)
        (timed,) = side_by_side({"it": call}, to="it", seconds=0.3)["calls"].values()
        seconds += count * timed["median_us"] / 1e6
        faults += count * timed["faults"]
        noisy = noisy or timed["noisy"]
        if (here := peak_memory(call)) > peak:
            peak, widest = here, shape
    measured = {"median_us": seconds * 1e6, "speed": 1.0, "faults": faults, "noisy": noisy, "peak_mb": peak / 1e6}
    if resident:
        measured["resident_mb"] = resident_peak(prepare, name, *widest) / 1e6
    predicted = {
        "median_us": told.seconds * 1e6,
        "speed": seconds / told.seconds,
        "faults": 0,
        "noisy": False,
        "peak_mb": told.memory / 1e6,
    }
    return {"measured": measured, "predicted": predicted}


def prepare(name: str, batch: int, channels: int, size: tuple[int, ...]) -> Callable[[], object]:
    """A forward pass of one module on a map, without gradients."""
    module = spec(name).create(channels, size=size).eval().requires_grad_(False)
    return partial(module, torch.randn(batch, channels, *size))
