"""A folder of results as `foveate compare` leaves it, with numbers that are easy to recognise."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foveate.study.folder import Folder, maps_bytes
from foveate.study.plain import digest
from foveate.study.statistics import estimate, paired_difference
from foveate.study.statistics.judge import Paired, judge

ARMS = {
    "baseline": ("baseline", None),
    "squeeze_excite": ("Squeeze-and-Excitation", "channel"),
    "cbam:reduction=8": ("Convolutional Block Attention Module", "hybrid"),
    "psanet": ("Point-wise Spatial Attention", "pixel-pair"),
}
CONTROL = "placebo of squeeze_excite"
SCORES = {
    "baseline": [0.812, 0.804, 0.82],
    "squeeze_excite": [0.824, 0.808, 0.838],
    "cbam:reduction=8": [0.83, 0.822, 0.828],
    "psanet": [0.782, 0.816, 0.834],
    CONTROL: [0.822, 0.81, 0.818],
}
COSTS = {
    "baseline": (78_042, 12_500_000, 1.9),
    "squeeze_excite": (78_837, 12_510_000, 2.3),
    "cbam:reduction=8": (79_911, 12_900_000, 3.1),
    "psanet": (412_345, 31_000_000, 5.6),
    CONTROL: (78_837, 12_510_000, 2.6),
}
PLACES = ("layer1.0.bn2", "layer2.0.bn2", "layer3.0.bn2", "layer4.0.bn2")
CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress")
RECIPE = {"epochs": 4, "batch_size": 64, "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.0005, "warmup": 0.1}


def results(
    out: Path,
    *,
    classes: tuple[str, ...] = CLASSES,
    report: str = "",
    seeds: int = 3,
    images: Tensor | None = None,
    everything: bool = False,
) -> Path:
    """Write the folder and return it; with everything, with what can be asked for besides."""
    folder = Folder(out)
    arms = [_arm(name) for name in ARMS] + ([_arm(CONTROL)] if everything else [])
    shared = {
        "work": "classification",
        "host": "foveate/resnet8",
        "weights": None,
        "data": "fashion_mnist",
        "options": {"size": 28, "mixup": 0.2, "on_error": "skip"},
        "counts": [1800, 200, 500],
        "recipe": RECIPE,
        "look": {"corruptions": [1, 3] if everything else [], "corrupted": 500, "focus": 4 if everything else 0},
        "resplit": False,
        "start": "paper",
        "at": "residual",
        "foveate": "0.1.0",
    }
    runs: list[dict[str, Any]] = []
    for seed in range(seeds):
        for arm in arms:
            name, role = arm["name"], arm["role"]
            config = {**shared, "attention": arm["attention"], "role": role, "seed": seed}
            key = digest(config)[:16]
            maps = _maps(key, name, classes, images) if seed == 0 else None
            folder.finish(key, _run(key, name, seed, config), maps)
            runs.append({"arm": name, "seed": seed, "stage": "main", "label": f"{name}, seed {seed}", "key": key})
    folder.write(
        "study.json",
        {
            "format": 2,
            "kind": "foveate study",
            "written": "2026-11-22T16:00:00+00:00",
            "quick": False,
            "work": "classification",
            "metric": {"name": "accuracy", "better": "max"},
            "arms": arms,
            "seeds": list(range(seeds)),
            "rates": [0.1 * (1 / 3), 0.1] if everything else [],
            "tuning_seeds": [10_000] if everything else [],
            "fractions": [0.25] if everything else [],
            "sequential": False,
            "relevant": None,
            "alpha": 0.05,
            "shared": shared,
            "places": {"data": None, "weights": None, "shifted": None, "published": None},
            "data": {
                "name": "fashion_mnist",
                "fingerprint": "0f1e2d3c",
                "classes": list(classes),
                "train": 1800,
                "validation": 200,
                "test": 500,
                "report": report,
            },
            "rules": ["The learning rate was fixed in advance."],
            "runs": runs,
        },
    )
    conditions = {"device": "cpu", "cpu": "a processor", "threads": 2, "packages": {"torch": "2.15.0"}}
    names = [arm["name"] for arm in arms]
    cost = {"format": 1, "kind": "foveate costs", "of": {}, "conditions": conditions, "baseline": "baseline"}
    folder.write(
        "cost.json", cost | {"quick": not everything, "arms": {name: _cost(name) for name in names}, "runs": []}
    )
    judged = judge(
        {name: Paired(_differences(name, seeds)) for name in ARMS if name != "baseline"}, alpha=0.05, better="max"
    )
    comparison: dict[str, Any] = {
        "format": 2,
        "kind": "foveate comparison",
        "headline": "Underpowered: three seeds cannot decide about any of them.",
        "metric": {"name": "accuracy", "better": "max"},
        "quick": False,
        "rows": [_row(arm, seeds, judged.get(arm["name"])) for arm in arms],
        "contrasts": [],
        "curves": {},
        "robustness": {},
        "calibration": {},
        "focus": {},
        "front": ["baseline", "squeeze_excite"],
        "dominated": {},
        "tuned": {},
        "notes": ["A note that the terminal prints too."],
        "interrupted": [],
        "failed": {},
        "conditions": conditions,
        "results": "results",
        "report": "results/report.html",
    }
    folder.write("comparison.json", comparison | (_besides(names, seeds) if everything else {}))
    return out


def _arm(name: str) -> dict[str, Any]:
    if name == CONTROL:
        title, kind = "blind Squeeze-and-Excitation", "channel"
        return {"name": name, "role": "placebo", "attention": "squeeze_excite", "title": title, "kind": kind}
    title, kind = ARMS[name]
    role, spec = ("baseline", None) if name == "baseline" else ("attention", name)
    return {"name": name, "role": role, "attention": spec, "title": title, "kind": kind}


def _differences(arm: str, seeds: int) -> tuple[float, ...]:
    return tuple(a - b for a, b in zip(SCORES[arm][:seeds], SCORES["baseline"][:seeds], strict=True))


def _besides(names: list[str], seeds: int) -> dict[str, Any]:
    """What can be asked for besides, each number recognisable by its decimals."""

    def table(first: float) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for place, name in enumerate(names):
            found[name] = {"mean": {"mean": first + place / 100, "interval": None, "count": 1}}
            if place:
                found[name]["difference"] = {"mean": place / 100, "interval": [-0.01, place / 50], "count": seeds}
        return found

    pair = Paired(tuple(a - b for a, b in zip(SCORES["squeeze_excite"], SCORES[CONTROL], strict=True))[:seeds])
    [verdict] = judge({"squeeze_excite beside its placebo": pair}, alpha=0.05, better="max").values()
    contrast = {"arm": "squeeze_excite", "control": CONTROL, "verdict": asdict(verdict), "sentence": verdict.sentence()}
    measures = {"insertion_mean": 0.311, "deletion_mean": 0.122}
    focus = {
        name: {
            which: {
                measure: {"mean": {"mean": value}}
                | (
                    {}
                    if (name, which) == ("baseline", "Grad-CAM")
                    else {"difference": {"mean": 0.017, "interval": None}}
                )
                for measure, value in measures.items()
            }
            for which in ("Grad-CAM", "attention", "centre", "uniform")
            if name != "baseline" or which != "attention"
        }
        for name in names
    }
    return {
        "contrasts": [contrast],
        "curves": {"0.25": table(0.411), "1": table(0.812)},
        "robustness": {
            "corruptions": {"all": table(0.511), "noise": table(0.521)},
            "strengths": {"1": table(0.531), "3": table(0.541)},
            "single": {"fog": table(0.551), "<b>snow</b>": table(0.561)},
            "kept": table(0.637),
            "relative_error": {
                name: {"mean": own["mean"]} for name, own in table(0.913).items() if "difference" in own
            },
            "shifted": {"shifted": table(0.571)},
        },
        "calibration": {"ece": table(0.071), "brier": table(0.272), "ece scaled": table(0.033)},
        "focus": focus,
        "dominated": {"psanet": "squeeze_excite"},
        "tuned": {name: {"0.0333333": 0.701, "0.1": None if name == "psanet" else 0.712} for name in names},
        "failed": {"eca": "eca, seed 0: it ran out of memory"},
        "interrupted": ["baseline, seed 1: cut off after 1 of 4 epochs, and run again from its beginning"],
    }


def _cost(arm: str) -> dict[str, Any]:
    parameters, macs, latency = COSTS[arm]
    ratio, why = latency / COSTS["baseline"][2], "the machine tells no energy"
    known = arm != "psanet"
    return {
        "parameters": {"total": parameters, "attention": 0, "reason": None},
        "macs": {"count": macs, "reason": None},
        "bytes": {"count": 3 * 2**20, "reason": None},
        "latency": [
            {"batch": batch, "mode": "eager", "layout": "contiguous", "median_ms": batch * latency, "p95_ms": latency,
             "ratio": ratio, "interval": [ratio, ratio], "noisy": batch == 8, "reason": None}
            for batch in (1, 8)
        ],
        "training": {"batch": 8, "median_ms": 44.4, "ratio": ratio, "interval": [ratio, ratio], "noisy": False},
        "memory": {
            which: {"batch": 8, "tensor_bytes": 5 * 2**20 if known else None, "process_bytes": None,
                    "reason": None if known else "<i>it broke</i>"}
            for which in ("inference", "training")
        },
        "energy": {"batch": 8, "joules": None, "ratio": None, "interval": None, "source": None, "reason": why},
        "export": {
            "torch.export": {"status": "works", "reason": None},
            "onnx": {"status": "works" if known else "fails", "reason": None if known else "no such operation"},
        },
    }  # fmt: skip


def _row(arm: dict[str, Any], seeds: int, verdict: Any) -> dict[str, Any]:
    name = arm["name"]
    scores, base = SCORES[name][:seeds], SCORES["baseline"][:seeds]
    mean = estimate(scores)
    paired = None if name == "baseline" else paired_difference(scores, base)
    parameters, macs, latency = COSTS[name]
    return {
        "arm": name,
        "role": arm["role"],
        "against": "squeeze_excite" if arm["role"] == "placebo" else None,
        "title": arm["title"],
        "kind": arm["kind"],
        "rate": 0.1 * (1 / 3) if name == "psanet" else 0.1,
        "seeds": list(range(seeds)),
        "scores": scores,
        "score": mean.mean,
        "score_interval": mean.interval,
        "difference": paired and paired.mean,
        "difference_interval": paired and paired.interval,
        "differences": paired and list(_differences(name, seeds)),
        "verdict": None if verdict is None else asdict(verdict),
        "sentence": None if verdict is None else verdict.sentence(),
        "gap": 0.034,
        "parameters": parameters,
        "macs": macs,
        "latency_ms": latency,
        "latency_ratio": latency / COSTS["baseline"][2],
        "latency_interval": [latency / COSTS["baseline"][2] - 0.01, latency / COSTS["baseline"][2] + 0.01],
        "seconds": 28.0,
    }


def _run(key: str, arm: str, seed: int, config: dict[str, Any]) -> dict[str, Any]:
    epochs = list(range(1, RECIPE["epochs"] + 1))
    final = SCORES[arm][seed]
    return {
        "format": 2,
        "kind": "foveate run",
        "key": key,
        "arm": arm,
        "stage": "main",
        "seed": seed,
        "config": config,
        "history": {
            "epoch": epochs,
            "train_loss": [1 / epoch for epoch in epochs],
            "train_accuracy": [final + 0.02 - 0.4 * math.exp(-epoch) for epoch in epochs],
            "validation_loss": [1 / epoch for epoch in epochs],
            "validation_accuracy": [final - 0.5 * math.exp(-epoch) for epoch in epochs],
        },
        "test": {"loss": 0.5, "accuracy": final},
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
        "format": "2",
        "key": key,
        "arm": arm,
        "seed": "0",
        "rule": "the first test image of each class",
        "maps": json.dumps(entries),
    }
    return maps_bytes(found, metadata)
