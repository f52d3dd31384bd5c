"""What a trained network attended to on a few test images, as the content of a file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from foveate.explain import AttentionMap, record
from foveate.study.design import RunConfig
from foveate.study.folder import maps_bytes
from foveate.study.plain import tuples
from foveate.study.reading import FORMAT
from foveate.train.kinds import Data, kind_of
from foveate.train.looking import look_of
from foveate.train.task import Task

MOST, PICTURED = 8, 4
WEIGHED = (("kernel",), ("tap",), ("in",), ("out",))
RULE = f"the first test image of each class, classes in order, at most {MOST}; chosen before anything was trained"


def chosen(labels: Int64[Tensor, " n"]) -> list[int]:
    """Which test images to show: by a rule, never by how they look.

    Example:
        >>> chosen(torch.tensor([2, 0, 2, 0]))
        [1, 0]
    """
    return [int((labels == label).nonzero()[0]) for label in labels.unique()[:MOST]]


def capture(task: Task, data: Data, *, key: str, arm: str, config: RunConfig) -> bytes:
    """Run the chosen images through a trained network and write down what its attention held.

    Of classification the maps themselves are kept; of other work a picture of what was said of each image, and one of
    what attention did to its positions.

    Args:
        task: With its trained network, on the CPU.
        data: Its samples.
        key: Of the run.
        arm: Of the run.
        config: Of the run.

    Returns:
        A safetensors file.
    """
    task.network.eval()
    attended = config.role in ("attention", "placebo")
    with torch.no_grad():
        if task.kind == "classification":
            tensors, entries, rule = _classified(task, data, attended=attended)
        else:
            tensors, entries, rule = _pictured(task, data, config, attended=attended)
    metadata = {
        "format": str(FORMAT),
        "key": key,
        "arm": arm,
        "seed": str(config.seed),
        "rule": rule,
        "maps": json.dumps(entries),
    }
    return maps_bytes(tensors, metadata)


def _classified(task: Any, data: Any, *, attended: bool) -> tuple[dict[str, Tensor], list[dict[str, Any]], str]:
    indices = chosen(data.test.labels)
    images = torch.stack([data.test[index][0] for index in indices])
    tensors: dict[str, Tensor] = {
        "images": images,
        "labels": data.test.labels[indices],
        "indices": torch.tensor(indices),
    }
    entries: list[dict[str, Any]] = []
    if attended:
        with record(task.network) as maps:
            logits = task(images)
        found = [*_written(maps), *_emphasis(maps.emphasis)]
        tensors |= {entry["tensor"]: values for entry, values in found}
        entries = [entry for entry, _ in found]
    else:
        logits = task(images)
    tensors["predictions"] = logits.argmax(1)
    return tensors, entries, RULE


def _pictured(
    task: Task, data: Data, config: RunConfig, *, attended: bool
) -> tuple[dict[str, Tensor], list[dict[str, Any]], str]:
    kind = kind_of(config.work)
    options = kind.options(**tuples(config.options))
    count = min(PICTURED, len(data.test))
    tensors: dict[str, Tensor] = {}
    entries: list[dict[str, Any]] = []
    for number in range(count):
        image = kind.scanned(data.test[number])
        with record(task.network) if attended else nullcontext() as maps:
            said = kind.say(task.network, image, data.classes, options)
        tensors[f"picture/{number}"] = said.picture
        look = said.look
        if look is None and maps is not None:
            look = look_of(maps, kind.shown_place, said.merge)
        if look is not None and look.heat.ndim == 2:
            tensors[f"heat/{number}"] = look.heat.float()
            plain = image if isinstance(image, Tensor) and image.dtype == torch.uint8 else said.picture
            tensors[f"seen/{number}"] = plain if said.seen is None else said.seen
            what = "emphasis" if look.diverging else "takes"
            entries.append({"tensor": f"heat/{number}", "what": what, "place": look.place})
    return tensors, entries, f"the first {count} test images; chosen before anything was trained"


def _written(maps: Any) -> Iterator[tuple[dict[str, Any], Tensor]]:
    """Gates as they are; of an affinity, what the centre takes and gives: all of it would be the square of the map.

    What a convolution's place weighs, kernels, cells, channels and branches, is kept a number each, the mean over
    channels where they have weights of their own. Other weights, such as those of a memory's slots or of pairs of
    channels, have no picture: of those only the emphasis is kept.
    """
    for found in maps:
        if found.size is None:
            if set(found.axes) <= {"c", "h", "w"}:
                yield _entry("gate", found), found.values
            elif found.axes in WEIGHED:
                yield _entry("weights", found), found.values.flatten(1)[:, :, None, None]
            elif set(found.axes) == {"branch", "c"}:
                branches = found.values.flatten(2) if found.axes[0] == "branch" else found.values.flatten(2).mT
                yield _entry("weights", found), branches.mean(2)[:, :, None, None]
            continue
        if len(found.size) != 2:
            continue
        row, column = found.size[0] // 2, found.size[1] // 2
        given = found.values[:, row * found.size[1] + column].unflatten(1, found.size)
        yield _entry("takes", found, (row, column)), found.at(row, column)
        yield _entry("gives", found, (row, column)), given


def _emphasis(places: dict[str, Tensor]) -> Iterator[tuple[dict[str, Any], Tensor]]:
    for place, values in places.items():
        yield _entry("emphasis", AttentionMap(place, "", "", ("h", "w"), values)), values


def _entry(what: str, found: AttentionMap, query: tuple[int, int] | None = None) -> dict[str, Any]:
    names = [found.place] if what == "emphasis" else [found.place, found.attachment, found.step]
    return {
        "tensor": "/".join([what, *names]),
        "what": what,
        "place": found.place,
        "attachment": found.attachment,
        "step": found.step,
        "axes": list(found.axes),
        "size": None if found.size is None else list(found.size),
        "query": None if query is None else list(query),
    }
