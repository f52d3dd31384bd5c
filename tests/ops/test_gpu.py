"""Kernels for GPUs, without one: run by Triton's interpreter and compiled by its compiler, each in its own process."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from foveate.ops import epilogue, extremes, gpu, nearest, spread
from foveate.ops.gate import gate as ops_gate

ROOT = Path(__file__).parents[2]

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="triton comes with PyTorch's CUDA wheels only")


def run(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: whether triton interprets is settled when it is imported."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("TRITON_", "PYTEST_"))}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@needs_triton
@pytest.mark.parametrize(
    ("file", "interpret", "which"),
    [
        ("interpreted.py", "1", "tiles_as_they_are and float32"),
        pytest.param("interpreted.py", "1", "", marks=pytest.mark.slow),
        pytest.param("compiled.py", "0", "", marks=pytest.mark.slow),  # half a minute: every kernel for a GPU not here
    ],
)
def test_kernels(file: str, interpret: str, which: str, tmp_path: Path):
    arguments = ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"tests/ops/kernels/{file}", "-k", which]
    done = run(arguments, TRITON_INTERPRET=interpret, TRITON_CACHE_DIR=str(tmp_path))
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
    assert "skipped" not in done.stdout


def test_importing_needs_no_triton_and_loads_no_kernel():
    code = (
        "import sys; sys.modules['triton'] = None; import foveate, foveate.ops.gpu; foveate.ops.gpu.enable(); "
        "print([name for name in sys.modules if name.startswith('foveate.ops.gpu.')])"
    )
    done = run(["-c", code])
    assert (done.stdout, done.returncode) == ("['foveate.ops.gpu.launch']\n", 0), done.stderr


def test_nothing_is_used_that_was_not_asked_for_or_cannot_run(monkeypatch: pytest.MonkeyPatch):
    x = torch.zeros(1, 2, 3, 3)
    monkeypatch.setattr(gpu, "DEVICE", "cpu")  # as if this were one
    monkeypatch.setattr(gpu, "_capable", lambda device: True)
    assert not gpu.usable(x)
    gpu.enable()
    try:
        assert gpu.usable(x)
        assert gpu.usable(x.contiguous(memory_format=torch.channels_last), x.bfloat16())
        assert not gpu.usable(x.double())
        assert not gpu.usable(x, x.double())
        assert not gpu.usable(x, x.to("meta"))
        assert not gpu.usable(x[:, :, :2])
        assert not gpu.usable(x[:0])
        assert not gpu.usable(x[0, 0])
        assert not gpu.usable(x.as_subclass(type("Mine", (torch.Tensor,), {})))
        seen: list[bool] = []
        torch.func.vmap(lambda one: seen.append(gpu.usable(one)) or one)(x[None])
        assert seen == [False]
        monkeypatch.setattr(gpu, "DEVICE", "meta")
        large = torch.empty(2, 2, 2**15, 2**15, device="meta")
        assert gpu.usable(large[:, :1].contiguous())
        assert not gpu.usable(large)  # a sample's offsets would not fit into 32 bits
    finally:
        gpu.enable(False)


def test_without_triton_nothing_is_used(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.setattr(gpu, "DEVICE", "cpu")
    monkeypatch.setattr(gpu, "_enabled", True)
    gpu._capable.cache_clear()
    try:
        assert gpu.gate(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 1, 1)) is None
    finally:
        gpu._capable.cache_clear()


def test_operations_ask_for_kernels_first_where_they_are_enabled(monkeypatch: pytest.MonkeyPatch):
    x, weights = torch.ones(1, 2, 4, 4), torch.ones(1, 2, 1, 1)
    operations = {
        "gate": lambda: ops_gate(x, weights),
        "gate_add": lambda: epilogue.gate_add(x, weights, x),
        "max_and_mean": lambda: extremes.max_and_mean(x, 1),
        "standardised_squares": lambda: spread.standardised_squares(x, 1.0),
        "gate_nearest": lambda: nearest.gate_nearest(x, weights),
    }
    for name, operation in operations.items():
        plain, answer = operation(), (torch.zeros(1), torch.zeros(1)) if name == "max_and_mean" else torch.zeros(1)
        monkeypatch.setattr(gpu, name, lambda *_, answer=answer, **__: answer)
        assert operation() is not answer
        monkeypatch.setattr(gpu, "_enabled", True)
        assert operation() is answer
        monkeypatch.setattr(gpu, name, lambda *_, **__: None)  # the plain form serves
        for one, other in zip(operation(), plain, strict=True):
            assert torch.equal(one, other)
        monkeypatch.setattr(gpu, "_enabled", False)
