"""What a trained network attended to on a few test images, as the content of a file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from foveate.explain import AttentionMap, record
from foveate.study.folder import maps_bytes
from foveate.study.reading import FORMAT
from foveate.study.training.batches import Labelled, stacked

MOST = 8
WEIGHED = (("kernel",), ("tap",), ("in",), ("out",))
RULE = f"the first test image of each class, classes in order, at most {MOST}; chosen before anything was trained"


def chosen(labels: Int64[Tensor, " n"]) -> list[int]:
    """Which test images to show: by a rule, never by how they look.

    Example:
        >>> chosen(torch.tensor([2, 0, 2, 0]))
        [1, 0]
    """
    return [int((labels == label).nonzero()[0]) for label in labels.unique()[:MOST]]


def capture(
    network: nn.Module, pixels: nn.Module, test: Labelled, *, key: str, arm: str, seed: int, attended: bool
) -> bytes:
    """Run the chosen images through a trained network and write down what its attention held.

    Args:
        network: The network, on the CPU.
        pixels: From bytes to what the network expects.
        test: The test images.
        key: Of the run.
        arm: Of the run.
        seed: Of the run.
        attended: Whether the network has attention; the baseline has none.

    Returns:
        A safetensors file.
    """
    indices = chosen(test.labels)
    images = stacked(test, indices)
    tensors: dict[str, Tensor] = {
        "images": images,
        "labels": test.labels[indices],
        "indices": torch.tensor(indices),
    }
    entries: list[dict[str, Any]] = []
    network.eval()
    with torch.no_grad():
        if attended:
            with record(network) as maps:
                logits = network(pixels(images))
            found = [*_written(maps), *_emphasis(maps.emphasis)]
            tensors |= {entry["tensor"]: values for entry, values in found}
            entries = [entry for entry, _ in found]
        else:
            logits = network(pixels(images))
    tensors["predictions"] = logits.argmax(1)
    metadata = {
        "format": str(FORMAT),
        "key": key,
        "arm": arm,
        "seed": str(seed),
        "rule": RULE,
        "maps": json.dumps(entries),
    }
    return maps_bytes(tensors, metadata)


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
