"""A folder of results as `foveate compare` leaves it, with numbers that are easy to recognise."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foveate.study.design import digest
from foveate.study.folder import Folder, maps_bytes
from foveate.study.statistics import estimate, paired_difference

ARMS = {
    "baseline": ("baseline", None),
    "squeeze_excite": ("Squeeze-and-Excitation", "channel"),
    "cbam:reduction=8": ("Convolutional Block Attention Module", "hybrid"),
    "psanet": ("Point-wise Spatial Attention", "pixel-pair"),
}
ACCURACIES = {
    "baseline": [0.812, 0.804, 0.82],
    "squeeze_excite": [0.824, 0.808, 0.838],
    "cbam:reduction=8": [0.83, 0.822, 0.828],
    "psanet": [0.782, 0.816, 0.834],
}
COSTS = {
    "baseline": (78_042, 12_500_000, 1.9),
    "squeeze_excite": (78_837, 12_510_000, 2.3),
    "cbam:reduction=8": (79_911, 12_900_000, 3.1),
    "psanet": (412_345, 31_000_000, 5.6),
}
PLACES = ("layer1.0.bn2", "layer2.0.bn2", "layer3.0.bn2", "layer4.0.bn2")
CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress")


def results(
    out: Path, *, classes: tuple[str, ...] = CLASSES, report: str = "", seeds: int = 3, images: Tensor | None = None
) -> Path:
    """Write the folder and return it."""
    folder = Folder(out)
    shared = {
        "host": "foveate/resnet8",
        "weights": None,
        "data": "fashion_mnist",
        "epochs": 4,
        "batch_size": 64,
        "learning_rate": 0.1,
        "momentum": 0.9,
        "weight_decay": 0.0005,
        "warmup": 0.1,
        "augment": True,
        "image_shape": [1, 28, 28],
        "start": "paper",
        "at": "residual",
        "foveate": "0.1.0",
    }
    runs: list[dict[str, Any]] = []
    for seed in range(seeds):
        for arm in ARMS:
            config = {**shared, "attention": None if arm == "baseline" else arm, "seed": seed}
            key = digest(config)[:16]
            folder.finish(key, _run(key, arm, seed, config), _maps(key, arm, classes, images) if seed == 0 else None)
            runs.append({"arm": arm, "seed": seed, "key": key})
    folder.write(
        "study.json",
        {
            "format": 1,
            "kind": "foveate study",
            "written": "2026-11-22T16:00:00+00:00",
            "quick": False,
            "arms": [
                {"name": arm, "attention": None if arm == "baseline" else arm, "title": title, "kind": kind}
                for arm, (title, kind) in ARMS.items()
            ],
            "seeds": list(range(seeds)),
            "shared": shared,
            "data": {
                "name": "fashion_mnist",
                "fingerprint": "0f1e2d3c",
                "classes": list(classes),
                "train": 1800,
                "validation": 200,
                "test": 500,
                "shape": [1, 28, 28],
                "report": report,
            },
            "rules": ["The learning rate was fixed in advance."],
            "runs": runs,
        },
    )
    conditions = {"device": "cpu", "cpu": "a processor", "threads": 2, "packages": {"torch": "2.15.0"}}
    folder.write(
        "cost.json",
        {
            "format": 1,
            "kind": "foveate cost",
            "conditions": conditions,
            "batch": 1,
            "mode": "eval",
            "shape": [1, 1, 28, 28],
            "rounds": 100,
            "arms": {},
        },
    )
    folder.write(
        "comparison.json",
        {
            "format": 1,
            "kind": "foveate comparison",
            "quick": False,
            "rows": [_row(arm, seeds) for arm in ARMS],
            "notes": ["A note that the terminal prints too."],
            "interrupted": [],
            "conditions": conditions,
            "results": "results",
        },
    )
    return out


def _row(arm: str, seeds: int) -> dict[str, Any]:
    title, kind = ARMS[arm]
    accuracies = ACCURACIES[arm][:seeds]
    mean = estimate(accuracies)
    base = ACCURACIES["baseline"][:seeds]
    paired = None if arm == "baseline" else paired_difference(accuracies, base)
    parameters, macs, latency = COSTS[arm]
    return {
        "arm": arm,
        "title": title,
        "kind": kind,
        "seeds": list(range(seeds)),
        "accuracies": accuracies,
        "accuracy": mean.mean,
        "accuracy_interval": mean.interval,
        "difference": paired and paired.mean,
        "difference_interval": paired and paired.interval,
        "differences": paired and [value - other for value, other in zip(accuracies, base, strict=True)],
        "parameters": parameters,
        "macs": macs,
        "latency_ms": latency,
        "latency_ratio": latency / COSTS["baseline"][2],
        "seconds": 28.0,
    }


def _run(key: str, arm: str, seed: int, config: dict[str, Any]) -> dict[str, Any]:
    epochs = list(range(1, config["epochs"] + 1))
    final = ACCURACIES[arm][seed]
    return {
        "format": 1,
        "kind": "foveate run",
        "key": key,
        "arm": arm,
        "seed": seed,
        "config": config,
        "curves": {
            "epoch": epochs,
            "train_loss": [1 / epoch for epoch in epochs],
            "train_accuracy": [final + 0.02 - 0.4 * math.exp(-epoch) for epoch in epochs],
            "validation_loss": [1 / epoch for epoch in epochs],
            "validation_accuracy": [final - 0.5 * math.exp(-epoch) for epoch in epochs],
        },
        "test": {"loss": 0.5, "accuracy": final, "count": 500, "labels": [], "predictions": []},
        "seconds": {"train": 9.0, "test": 0.1, "total": 9.3},
        "started": "2026-11-22T16:00:00+00:00",
        "finished": "2026-11-22T16:00:09+00:00",
        "conditions": {},
    }


def _maps(key: str, arm: str, classes: tuple[str, ...], images: Tensor | None) -> bytes:
    noise = torch.Generator().manual_seed(0)
    count = len(classes)
    if images is None:
        images = torch.randint(0, 256, (count, 1, 28, 28), generator=noise, dtype=torch.uint8)
    found: dict[str, Tensor] = {}
    entries: list[dict[str, Any]] = []

    def add(what: str, place: str, step: str, values: Tensor, size: int | None = None) -> None:
        name = f"{what}/{place}" if what == "emphasis" else f"{what}/{place}/attention/{step}"
        found[name] = values
        entries.append(
            {
                "tensor": name,
                "what": what,
                "place": place,
                "attachment": "" if what == "emphasis" else "attention",
                "step": step,
                "axes": ["c"],
                "size": size and [size, size],
                "query": size and [size // 2, size // 2],
            }
        )

    for number, place in enumerate(PLACES if arm != "baseline" else ()):
        side, channels = (28, 14, 7, 7)[number], (16, 32, 64, 64)[number]
        if arm == "psanet":
            for step in ("collect", "distribute"):
                spread = torch.rand(count, side * side, generator=noise).mul(3).softmax(1).unflatten(1, (side, side))
                add("takes", place, step, spread, side)
                add("gives", place, step, spread.flip(2), side)
        else:
            gates = torch.rand(1, channels, 1, 1, generator=noise) + 0.1 * torch.rand(count, channels, 1, 1)
            add("gate", place, "channel" if "cbam" in arm else "", gates.clamp(0, 1))
        if arm.startswith("cbam"):
            add("gate", place, "spatial", torch.rand(count, 1, side, side, generator=noise))
        add("emphasis", place, "", 0.3 * torch.randn(count, side, side, generator=noise))
    labels = torch.arange(count)
    found |= {"images": images, "labels": labels, "predictions": labels.roll(1) if arm == "psanet" else labels.clone()}
    found["indices"] = labels.clone()
    metadata = {
        "format": "1",
        "key": key,
        "arm": arm,
        "seed": "0",
        "rule": "the first test image of each class",
        "maps": json.dumps(entries),
    }
    return maps_bytes(found, metadata)
