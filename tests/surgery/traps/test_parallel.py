"""Two processes train one attended network: DDP, and FSDP2 with a distributed checkpoint. They run once for all."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

WORKER = Path(__file__).with_name("parallel_worker.py")
PROCESSES = 2
SECONDS = 300

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(), reason="this PyTorch has no gloo"
)


@pytest.fixture(scope="module")
def worker():
    described = importlib.util.spec_from_file_location("parallel_worker", WORKER)
    module = importlib.util.module_from_spec(described)
    described.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What each process saw."""
    folder = tmp_path_factory.mktemp("parallel")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, str(WORKER)]
    logs = [folder / f"rank{rank}.log" for rank in range(PROCESSES)]
    running = [
        subprocess.Popen(
            [*command, str(rank), str(PROCESSES), str(folder)],
            env=environment,
            stdout=log.open("w"),
            stderr=subprocess.STDOUT,
        )
        for rank, log in enumerate(logs)
    ]
    try:
        for process in running:
            process.wait(timeout=SECONDS)
    finally:
        for process in running:
            process.kill()
            process.wait()
    said = "\n".join(log.read_text()[-3000:] for log in logs)
    assert [process.returncode for process in running] == [0] * PROCESSES, said
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(PROCESSES)]


FIVE = ("squeeze_excite", "eca", "gather_excite", "cbam", "psanet")


@pytest.mark.parametrize("name", FIVE)
def test_ddp_trains_all_attention_and_keeps_it_equal(name, seen):
    first, second = (one["ddp"][name] for one in seen)
    ours = {key for key in first["parameters"] if ".foveate." in key}
    assert ours
    assert first["alive"] == second["alive"] == set(first["parameters"])
    for key, value in first["parameters"].items():
        assert torch.equal(value, second["parameters"][key]), key
    assert "attach first, wrap then" in first["refusal"]


@pytest.mark.parametrize("name", FIVE)
def test_ddp_learns_from_both_halves_of_the_batch(name, seen, worker):
    model = worker.network(0, name)
    optimizer = torch.optim.SGD(model.parameters(), lr=worker.RATE)
    start = {key: p.detach().clone() for key, p in model.named_parameters()}
    for step in range(2):
        optimizer.zero_grad()
        for rank in range(PROCESSES):
            x, target = worker.batch(rank, step)
            (nn.functional.cross_entropy(model(x), target) / PROCESSES).backward()
        optimizer.step()
    learned = seen[0]["ddp"][name]["parameters"]
    moved = {key: (p.detach() - start[key]).abs().max() for key, p in model.named_parameters()}
    assert max(moved.values()) > 0.01
    assert all(moved[key] > 0 for key in moved if key.endswith("blend"))
    for key, p in model.named_parameters():  # the order of sums in float32, over batch and positions
        torch.testing.assert_close(learned[key], p.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["cbam", "psanet"])
def test_fsdp_checkpoint_of_model_and_optimiser_continues_as_if_never_stopped(name, seen):
    every = [rank["fsdp"][name] for rank in seen]
    for one in every:
        assert one["sharded"]
        assert one["saved"].keys() == one["loaded"].keys()
        ours = [key for key in one["saved"] if ".foveate." in key]
        assert ours
        assert not any("foveate_host" in key for key in one["saved"])
        assert not all(torch.equal(one["fresh"][key], one["saved"][key]) for key in ours)
        for key, value in one["loaded"].items():  # statistics of norms are each process's own, and one's are kept
            assert any(torch.equal(value, other["saved"][key]) for other in every), key
            assert torch.equal(value, one["saved"][key]) or key.endswith(("running_mean", "running_var")), key
        assert one["resumed"] == one["later"]  # AdamW's moments too, or the second step would differ
        changed = [key for key in ours if not torch.equal(one["ended"][key], one["saved"][key])]
        assert changed == ours
        assert not torch.allclose(one["attended"], one["plain"], rtol=1e-4, atol=1e-4)


def test_fsdp_takes_a_sharded_checkpoint_of_the_host(seen):
    one = seen[0]["host"]
    assert all(torch.equal(one["after"][key], value) for key, value in one["host"].items())
    kept = [key for key in one["after"] if ".foveate." in key]
    assert kept
    assert kept == [key for key in one["after"] if key not in one["host"]]
    assert all(torch.equal(one["after"][key], one["before"][key]) for key in kept)
