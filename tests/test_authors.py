"""Our modules against what the authors' code gave for the same weights and inputs: outputs, gradients, norm buffers.

`data_authors/README.md` says where every file comes from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from tests.support.oracles import said
from torch import Tensor

import foveate
from foveate.attention import Attention
from foveate.ops.relative import relative_to_absolute

DATA = Path(__file__).with_name("data_authors")


def mechanism_of(file: str) -> str:
    """The mechanism that a file is about: the longest name that its own begins with."""
    return max((name for name in foveate.names() if file == name or file.startswith(f"{name}_")), key=len)


def renamed(name: str, key: str) -> str:
    """Ours for the authors' name of a tensor, or of a layer in their prototxt."""
    for theirs, ours in said(name, "RENAMES", {}).items():
        key = key.replace(theirs, ours)
    return key


class Case:
    """One run of the authors' code: its options and its numbers."""

    def __init__(self, name: str, file: str, case: str, options: dict[str, Any]) -> None:
        self.name, self.file, self.case = name, file, case
        self.training = options.pop("training", False)
        self.inputs = options.pop("inputs", case)
        self.channels = options.pop("channels")
        self.size = options.pop("size", None)
        self.options = {key: tuple(v) if isinstance(v, list) else v for key, v in options.items()}

    def __str__(self) -> str:
        return f"{self.file}-{self.case}"

    def read(self, kind: str, case: str | None = None) -> dict[str, Tensor]:
        prefix = f"{case or self.case}/{kind}"
        with safe_open(DATA / f"{self.file}.safetensors", "pt") as stored:
            keys = [key for key in stored.keys() if key == prefix or key.startswith(f"{prefix}/")]  # noqa: SIM118
            return {renamed(self.name, key[len(prefix) + 1 :]): stored.get_tensor(key) for key in keys}

    def tensor(self, kind: str) -> Tensor:
        return self.read(kind, self.inputs if kind in ("x", "cotangent") else None)[""]

    def module(self) -> Attention:
        """Ours, with their weights."""
        size = None if self.size is None else tuple(self.size)
        state = self.read("state")
        dtype = self.tensor("x").dtype
        module = foveate.create(self.name, self.channels, size=size, dtype=dtype, **self.options)
        own = module.state_dict()
        assert set(state) == {key for key in own if not key.endswith("num_batches_tracked")}
        for key, value in state.items():
            assert value.numel() == own[key].numel(), key
            own[key].copy_(value.reshape(own[key].shape))  # Caffe has 1×1 convolutions where we have linear layers
        return module.train(self.training)

    def allowed(self, expected: Tensor, passes: int = 1) -> float:
        """As many roundings as terms are added one after another, at the size of the largest value.

        The sums run over positions and samples (pools, norms, affinities) and over the inputs of each weight, or its
        outputs on the way back; a gradient has a pass forwards and a pass backwards behind it.
        """
        x = self.tensor("x")
        terms = x.numel() // x.shape[1]
        for weight in self.read("state").values():
            if weight.dim() > 1:
                terms += weight[0].numel() + weight.shape[0]
        return torch.finfo(expected.dtype).eps * terms * passes * max(1.0, expected.abs().max().item())


def cases() -> Iterator[Any]:
    for file in sorted(path.stem for path in DATA.glob("*.safetensors") if path.stem != "psanet_mask"):
        name = mechanism_of(file)
        with safe_open(DATA / f"{file}.safetensors", "pt") as stored:
            described = json.loads(stored.metadata()["cases"])
        for case, options in described.items():
            found = Case(name, file, case, options)
            yield pytest.param(found, id=str(found))


ALL = list(cases())
WITH_GRADIENTS = [case for case in ALL if case.values[0].read("grad_x")]  # Caffe's were run forwards only


@pytest.mark.parametrize("case", ALL)
def test_the_output_is_the_authors(case: Case) -> None:
    expected = case.tensor("y")
    found = case.module()(case.tensor("x")).detach()
    assert found.shape == expected.shape
    assert (found - expected).abs().max().item() <= case.allowed(expected)


@pytest.mark.parametrize("case", WITH_GRADIENTS)
def test_the_gradients_are_the_authors(case: Case) -> None:
    module, x = case.module(), case.tensor("x").requires_grad_()
    (module(x) * case.tensor("cotangent")).sum().backward()
    expected = case.tensor("grad_x")
    assert x.grad is not None
    assert (x.grad - expected).abs().max().item() <= case.allowed(expected, passes=2)
    gradients = case.read("grad")
    assert set(gradients) == {key for key, _ in module.named_parameters()}
    for key, parameter in module.named_parameters():
        assert parameter.grad is not None, key
        difference = (parameter.grad - gradients[key]).abs().max().item()
        assert difference <= case.allowed(gradients[key], passes=2), key


@pytest.mark.parametrize("case", [p for p in WITH_GRADIENTS if p.values[0].training and p.values[0].read("after")])
def test_a_training_step_leaves_the_authors_statistics(case: Case) -> None:
    module = case.module()
    module(case.tensor("x"))
    after = case.read("after")
    buffers = {key: b for key, b in module.named_buffers() if not key.endswith("num_batches_tracked")}
    assert set(after) == set(buffers)
    for key, expected in after.items():
        assert (buffers[key] - expected).abs().max().item() <= case.allowed(expected), key


@pytest.mark.parametrize("case", ["ties", "ties_training", "ties_max"])
def test_the_ties_in_the_data_are_ties(case: str) -> None:
    """Else the gradients above would say nothing about them."""
    found = next(p.values[0] for p in ALL if (p.values[0].name, p.values[0].case) == ("cbam", case))
    x = found.tensor("x")
    shared = (x.flatten(2) == x.flatten(2).max(2, keepdim=True).values).sum(2)
    assert (shared > 1).sum() >= 6  # channels with their maximum at several positions
    assert (x == 0).all(1).sum() >= 30  # positions where all channels are the maximum


def mask_steps() -> Iterator[Any]:
    with safe_open(DATA / "psanet_mask.safetensors", "pt") as stored:
        for case, options in json.loads(stored.metadata()["cases"]).items():
            tensors = stored.get_tensor(f"{case}/logits"), stored.get_tensor(f"{case}/y")
            yield pytest.param(*tensors, tuple(options["mask"]), options["direction"], id=case)


@pytest.mark.parametrize(("logits", "expected", "mask", "direction"), list(mask_steps()))
def test_the_mask_step_is_the_authors_op(
    logits: Tensor, expected: Tensor, mask: tuple[int, int], direction: str
) -> None:
    found = relative_to_absolute(logits, mask)
    if direction == "distribute":
        found = found.transpose(1, 2)
    assert torch.equal(found, expected.flatten(2))
