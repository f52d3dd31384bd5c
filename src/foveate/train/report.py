"""What a training found: how good, how far from the training samples, how sure of itself, at what cost."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from foveate.attention import Attention
from foveate.data.samples import Samples
from foveate.files import write_atomically
from foveate.measure import Conditions, count_macs, count_parameters, inference, measure_latency
from foveate.surgery import attention_parameters
from foveate.train.counting import alone
from foveate.train.fitting import Fitted
from foveate.train.kinds import Data
from foveate.train.loader import in_order
from foveate.train.task import Task

ROUNDS = 20
MOST = 30  # classes that the page shows


def report_on(task: Task, data: Data, plan: Mapping[str, Any], fitted: Fitted) -> dict[str, Any]:
    """Everything, ready for JSON: test, gap, calibration, cost, and what attention added.

    The test samples are looked at here for the first time, with the weights that validation chose. The gap is between
    samples that were learned from and those of validation, both looked at in the same way: as many, as they are, by
    the same weights; what training counts on the way is of changed samples and of weights that were still moving.

    Args:
        task: With the weights that were chosen.
        data: The samples.
        plan: What the training was.
        fitted: What it came to.
    """
    best = fitted.best
    learned = _numbers(looked_at(task, Spread(data.train, len(data.validation))))
    test = looked_at(task, data.test)
    return _finite(
        {
            **plan,
            "best": dict(best),
            "epochs": len(fitted.history),
            "learned": learned,
            "gap": gaps(learned, best),
            "test": test,
            "counts": {split: len(getattr(data, split)) for split in ("train", "validation", "test")},
            "cost": cost_of(task),
            "conditions": Conditions.here().as_dict(),
            "data_report": data.report.as_dict(),
        }
    )


def looked_at(task: Task, samples: Any) -> dict[str, Any]:
    """What the metrics of validation say of other samples, in evaluation mode, on the CPU."""
    task.setup("test")
    task.eval()
    with torch.no_grad(), alone(task.metrics):
        batches = in_order(samples, task.recipe.batch_size, task.prepare, task.collate, workers=task.recipe.workers)
        for batch in batches:
            task.look(batch)
        return {**task.read_validation(), **task.details()}


class Spread:
    """So many of some samples, spread evenly over all of them; all, if there are fewer.

    Example:
        >>> list(Spread(range(10), 4)), list(Spread(range(2), 4))
        ([0, 2, 5, 7], [0, 1])
    """

    def __init__(self, samples: Samples, count: int) -> None:
        self.samples, self.count = samples, min(count, len(samples))

    @property
    def names(self) -> tuple[str, ...]:
        """What each is called."""
        names = self.samples.names
        return tuple(names[index * len(names) // self.count] for index in range(self.count))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < self.count:
            raise IndexError(index)
        return self.samples[index * len(self.samples) // self.count]


def gaps(learned: Mapping[str, float], best: Mapping[str, float]) -> dict[str, float]:
    """How far samples that were learned from are ahead of validation, for every number of both.

    Example:
        >>> gaps({"accuracy": 0.75}, {"train_accuracy": 0.6, "validation_accuracy": 0.5})
        {'accuracy': 0.25}
    """
    seen = {name: best[f"validation_{name}"] for name in learned if f"validation_{name}" in best}
    return {name: learned[name] - value for name, value in seen.items()}


def attention_size(network: nn.Module) -> int:
    """How many parameters belong to attention: what was attached, and what of foveate's the network has by itself.

    Example:
        >>> from foveate import attach, hosts
        >>> attention_size(attach(hosts.build("foveate/resnet8", classes=10), "eca", start="paper"))
        9
    """
    found = {id(one): one.numel() for _, one in attention_parameters(network)}
    for module in network.modules():
        if isinstance(module, Attention):
            found |= {id(one): one.numel() for one in module.parameters()}
    return sum(found.values())


def cost_of(task: Task) -> dict[str, Any]:
    """Parameters, those of attention among them, and what one sample takes."""
    network = task.network
    found: dict[str, Any] = {
        "parameters": count_parameters(network),
        "attention_parameters": attention_size(network),
    }
    example = task.prepared_example()
    if example is not None:
        with inference(network):
            found["macs"] = count_macs(network, *example)
            latency = measure_latency({"it": lambda: network(*example)}, rounds=ROUNDS)["it"]
        found |= {"latency_ms": latency.median * 1e3, "latency_p95_ms": latency.p95 * 1e3}
    return found


def write_report(folder: Path, report: Mapping[str, Any]) -> None:
    """As JSON, and as a page to read.

    Raises:
        FoveateError: If it cannot be written.
    """
    write_atomically(folder / "report.json", (json.dumps(report, indent=1, ensure_ascii=False) + "\n").encode())
    write_atomically(folder / "report.md", ("\n".join(lines_of(report)) + "\n").encode())


def lines_of(report: Mapping[str, Any]) -> list[str]:
    """The report as a page."""
    network = report["network"]
    attention = network["attention"] or "no attention"
    learned, numbers = report["learned"], _numbers(report["test"])
    lines = [
        f"# {network['work'].capitalize()}: {network['host']} with {attention}",
        "",
        f"Trained on {report['counts']['train']:,} samples, chosen by {report['counts']['validation']:,}, "
        f"tested once on {report['counts']['test']:,}; best of {report['epochs']} epochs was "
        f"{report['best']['epoch']:.0f}.",
        "",
        "| | training | validation | gap | test |",
        "|---|---|---|---|---|",
    ]
    best = report["best"]
    for name in dict.fromkeys([*report["gap"], *numbers]):
        cells = [learned.get(name), best.get(f"validation_{name}"), report["gap"].get(name), numbers.get(name)]
        lines.append(f"| {name.replace('_', ' ')} | " + " | ".join(_shown(cell) for cell in cells) + " |")
    lines += _by_class(report["test"].get("classes") or {})
    if whose := report["data_report"].get("whose"):
        lines += ["", f"Patients: {whose}."]
    if report["test"].get("lines"):
        lines += ["", *report["test"]["lines"]]
    cost = report["cost"]
    lines += ["", f"Parameters: {cost['parameters']:,}, of which attention added {cost['attention_parameters']:,}."]
    if "macs" in cost:
        lines.append(
            f"One sample takes {cost['macs']:,} multiply-accumulates, {cost['latency_ms']:.2f} ms "
            f"(95 % within {cost['latency_p95_ms']:.2f} ms)."
        )
    here = report["conditions"]
    lines += ["", f"{here['cpu']}, {here['threads']} threads, torch {here['torch']}, foveate {report['foveate']}."]
    return lines


def _by_class(classes: Mapping[str, Mapping[str, float | None]]) -> list[str]:
    """What was found of each class, the worst first: there it is worth looking; what is no number has its own lines."""
    plain = {name for found in classes.values() for name, value in found.items() if isinstance(value, int | float)}
    names = [name for name in dict.fromkeys(name for found in classes.values() for name in found) if name in plain]
    if not names:
        return []
    by = next((name for name in names if name != "count"), names[0])
    worst = sorted(classes.items(), key=lambda item: (item[1].get(by) is None, item[1].get(by) or 0.0))
    lines = ["", f"| class, by {by} | " + " | ".join(names) + " |", "|" + "---|" * (len(names) + 1)]
    lines += [
        f"| {name} | " + " | ".join(_shown(found.get(one)) for one in names) + " |" for name, found in worst[:MOST]
    ]
    return [*lines, f"and {len(worst) - MOST} more classes in report.json"] if len(worst) > MOST else lines


def _numbers(found: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in found.items() if isinstance(value, int | float)}


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _finite(inner) for name, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value
