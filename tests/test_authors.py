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
from torch import Tensor

import foveate
from foveate.attention import Attention
from foveate.fusion import Pair
from foveate.ops.relative import relative_to_absolute
from foveate.replacement import ConvShape
from tests.support.oracles import said

DATA = Path(__file__).with_name("data_authors")


def mechanism_of(file: str) -> str:
    """The mechanism that a file is about: the longest name that its own begins with; empty if it is about none."""
    about = (name for name in foveate.names() if file == name or file.startswith(f"{name}_"))
    return max(about, key=len, default="")


def renamed(name: str, key: str) -> str:
    """Ours for the authors' name of a tensor, or of a layer in their prototxt."""
    for theirs, ours in said(name, "RENAMES", {}).items():
        key = key.replace(theirs, ours)
    return key


def shape_of(described: dict[str, Any]) -> ConvShape:
    """A convolution's shape, as a file has it."""
    return ConvShape(**{key: tuple(v) if isinstance(v, list) else v for key, v in described.items()})


class Case:
    """One run of the authors' code: its options and its numbers."""

    def __init__(self, name: str, file: str, case: str, options: dict[str, Any], ran: str = "") -> None:
        self.name, self.file, self.case, self.ran = name, file, case, ran
        self.training = options.pop("training", False)
        self.inputs = options.pop("inputs", case)
        made_for = options.pop("channels")  # of what stands in a convolution's place perhaps that convolution's shape
        self.channels = made_for if isinstance(made_for, int) else shape_of(made_for)
        self.size = options.pop("size", None)
        self.partner_channels = options.pop("partner_channels", None)
        self.options = {key: tuple(v) if isinstance(v, list) else v for key, v in options.items()}

    def __str__(self) -> str:
        return f"{self.file}-{self.case}"

    def read(self, kind: str, case: str | None = None) -> dict[str, Tensor]:
        prefix = f"{case or self.case}/{kind}"
        with safe_open(DATA / f"{self.file}.safetensors", "pt") as stored:
            keys = [key for key in stored.keys() if key == prefix or key.startswith(f"{prefix}/")]  # noqa: SIM118
            return {renamed(self.name, key[len(prefix) + 1 :]): stored.get_tensor(key) for key in keys}

    def tensor(self, kind: str) -> Tensor:
        return self.read(kind, self.inputs if kind in ("x", "partner", "cotangent") else None)[""]

    def given(self) -> dict[str, Tensor]:
        """What the module is called with: a map, or two."""
        kinds = ("x", "partner") if foveate.get(self.name).protocol == "fusion" else ("x",)
        return {kind: self.tensor(kind) for kind in kinds}

    def module(self) -> Attention | Pair:
        """Ours, with their weights."""
        size = None if self.size is None else tuple(self.size)
        state = self.read("state")
        dtype = self.tensor("x").dtype
        extra = {"size": size, "partner_channels": self.partner_channels}
        module = foveate.create(self.name, self.channels, dtype=dtype, **extra, **self.options)
        own = module.state_dict()
        ours = ("num_batches_tracked", "gain")  # counters, and what makes up for gates when a convolution is taken over
        assert set(state) == {key for key in own if not key.endswith(ours)}
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

    def allowed_of_gradients(self) -> float:
        """The same of every gradient of a case, at the size of the largest.

        A gradient is passed on with its roundings to the layers before it, and what a norm that trains leaves of it is
        a difference of terms that cancel, wholly for a bias before the norm: a small gradient is no more exact than
        the large ones it came from, and how the terms round is the processor's affair.
        """
        gradients = [*self.read("grad").values(), *(self.tensor(f"grad_{kind}") for kind in self.given())]
        return max(self.allowed(gradient, passes=2) for gradient in gradients)

    def merged(self, gradient: Tensor) -> Tensor:
        """A gradient by input, with those of positions that have equal inputs added up, where that has to be.

        A maximum of what a layer computed of equal inputs is at any of them: a layer may round them differently, by
        where they lie among a processor's vectors.
        """
        if self.name not in MAXIMA_OF_LAYERS:
            return gradient
        rows = []
        for x, own in zip(self.tensor("x").flatten(2), gradient.flatten(2), strict=True):
            _, groups = x.unique(dim=1, return_inverse=True)
            rows.append(torch.zeros_like(own).index_add(1, groups, own))
        return torch.stack(rows)


MAXIMA_OF_LAYERS = ("channel_prior",)


def cases() -> Iterator[Any]:
    for file in sorted(path.stem for path in DATA.glob("*.safetensors") if path.stem != "psanet_mask"):
        name = mechanism_of(file)
        if not name:  # test_every_file_is_about_a_mechanism says so
            continue
        with safe_open(DATA / f"{file}.safetensors", "pt") as stored:
            metadata = stored.metadata()
        for case, options in json.loads(metadata["cases"]).items():
            found = Case(name, file, case, options, metadata.get("ran", ""))
            yield pytest.param(found, id=str(found))


ALL = list(cases())


def test_every_file_is_about_a_mechanism() -> None:
    assert [path.stem for path in DATA.glob("*.safetensors") if not mechanism_of(path.stem)] == []


WITH_GRADIENTS = [case for case in ALL if case.values[0].read("grad_x")]  # Caffe's were run forwards only


@pytest.mark.parametrize("case", ALL)
def test_the_output_is_the_authors(case: Case) -> None:
    expected = case.tensor("y")
    found = case.module()(*case.given().values()).detach()
    assert found.shape == expected.shape
    assert (found - expected).abs().max().item() <= case.allowed(expected)


@pytest.mark.parametrize("case", WITH_GRADIENTS)
def test_the_gradients_are_the_authors(case: Case) -> None:
    module, given = case.module(), case.given()
    (module(*(x.requires_grad_() for x in given.values())) * case.tensor("cotangent")).sum().backward()
    allowed = case.allowed_of_gradients()
    for kind, x in given.items():
        expected = case.tensor(f"grad_{kind}")
        assert x.grad is not None
        difference = case.merged(x.grad) - case.merged(expected)
        assert difference.abs().max().item() <= allowed, kind
    gradients = case.read("grad")
    assert set(gradients) == {key for key, _ in module.named_parameters()}
    for key, parameter in module.named_parameters():
        if not parameter.requires_grad:  # frozen where theirs gets no gradient either
            assert not gradients[key].any(), key
            continue
        assert parameter.grad is not None, key
        difference = (parameter.grad - gradients[key].reshape(parameter.shape)).abs().max().item()
        assert difference <= allowed, key


@pytest.mark.parametrize("case", [p for p in WITH_GRADIENTS if p.values[0].training and p.values[0].read("after")])
def test_a_training_step_leaves_the_authors_statistics(case: Case) -> None:
    module = case.module()
    module(*case.given().values())
    after = case.read("after")
    ours = ("num_batches_tracked", "gain")
    buffers = {key: b for key, b in module.named_buffers() if not key.endswith(ours)}
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
