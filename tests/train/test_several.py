"""Several processes: what two learn is what one would, and only one of them writes."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import multiprocessing, nn

from foveate.errors import FoveateError, OptionError
from foveate.train import Recipe, fit
from foveate.train.classification import Classification
from foveate.train.report import looked_at
from foveate.train.several import blocks, launched, strategy_of
from tests.support.training import Stop, network, state_of, stopped, task

pytestmark = [
    pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="this PyTorch has no gloo"),
    pytest.mark.skipif(sys.platform == "win32", reason="processes are forked"),
]
PROCESSES = 2


def grouped(**recipe: Any) -> Classification:
    """Without batch statistics, dropout and mixup, which two processes draw for themselves; 33 to choose by."""
    return task(network(nn.GroupNorm, dropout=0.0), mixup=0.0, **{"validation": 33, **recipe})


RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddp": ("ddp", {}),
    "fsdp": ("fsdp", {"clip": 0.5, "optimizer": "adamw"}),
    "frozen": ("ddp", {"frozen_epochs": 1, "clip": 0.5}),
    "few": ("ddp", {"validation": 1, "accumulate": 2, "checkpointing": True}),
    "averaged": ("ddp", {"average": 0.9, "optimizer": "adamw"}),
}
one_process = pytest.mark.parametrize("name", RUNS)


def a_process(rank: int, folder: Path, port: int) -> None:
    """What each of two processes does, begun as torchrun begins them."""
    here = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": PROCESSES, "LOCAL_WORLD_SIZE": PROCESSES}
    there = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test", "GROUP_RANK": 0}
    os.environ.update({key: str(value) for key, value in {**here, **there}.items()})
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    from lightning_fabric.utilities.rank_zero import rank_zero_only

    rank_zero_only.rank = rank
    how: dict[str, Any] = {"device": "cpu", "loggers": (), "every": 1}
    found: dict[str, Any] = {}
    for name, (strategy, recipe) in RUNS.items():
        made = grouped(**recipe)
        fitted = fit(made, folder / name, strategy=strategy, **how)
        found[name] = fitted.history, fitted.best, made.network.state_dict()
    for strategy in ("ddp", "fsdp"):
        cut, recipe = folder / f"{strategy}_cut", RUNS[strategy][1]
        stopped(lambda recipe=recipe: grouped(**recipe), cut, Stop(6), pytest.MonkeyPatch(), strategy=strategy, **how)
        if rank == 0:
            shutil.copytree(cut, folder / f"{strategy}_begun")
        made = grouped(**recipe)
        fitted = fit(made, cut, strategy=strategy, resume=True, **how)
        found[cut.name] = fitted.history, fitted.best, made.network.state_dict()
    if rank == 0:  # the others do not wait for who writes the report
        found["report"] = looked_at(made, made.samples[1])
    torch.save(found, folder / f"{rank}.pt")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """What two processes found, and where."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.start_processes(a_process, (folder, port), PROCESSES, start_method="spawn")
    return folder, [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(PROCESSES)]


@pytest.fixture(scope="module")
def alone() -> Any:
    """What one process finds, and how far the same sums in another order lead: each batch the other way round."""
    kept: dict[str, Any] = {}

    def run(name: str) -> tuple[Any, Any, float]:
        if name not in kept:
            made, other = grouped(**RUNS[name][1]), grouped(**RUNS[name][1])
            fitted = fit(made)
            usual = other.collate
            other.collate = lambda samples: usual(samples[::-1])  # type: ignore[method-assign]
            fit(other)
            kept[name] = (
                fitted,
                made.network.state_dict(),
                furthest(made.network.state_dict(), other.network.state_dict()),
            )
        return kept[name]

    return run


def furthest(a: Any, b: Any) -> float:
    return max(float((value.double() - b[name].double()).abs().max()) for name, value in a.items())


@one_process
def test_two_processes_learn_what_one_does(name: str, two: Any, alone: Any) -> None:
    """Curves and weights, up to what another order of the same sums does to them."""
    history, best, weights = two[1][0][name]
    fitted, expected, rounding = alone(name)
    assert 0 < rounding < 1e-5
    assert furthest(expected, weights) <= 8 * rounding
    for row, other in zip(history, fitted.history, strict=True):
        assert row == pytest.approx(other, rel=1e-5, abs=1e-6)
    assert best["epoch"] == fitted.best["epoch"]


@one_process
def test_all_processes_end_with_the_same(name: str, two: Any) -> None:
    (history, best, weights), (other_history, other_best, others) = (found[name] for found in two[1])
    assert (history, best) == (other_history, other_best)
    assert furthest(weights, others) == 0


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_stopped_processes_go_on_exactly(strategy: str, two: Any) -> None:
    folder, found = two
    (history, _, weights), (again, _, resumed) = found[0][strategy], found[0][f"{strategy}_cut"]
    assert furthest(weights, resumed) == 0
    a, b = state_of(folder / strategy), state_of(folder / f"{strategy}_cut")
    assert [name for name in a if not torch.equal(a[name], b[name])] == []
    for row, other in zip(history, again, strict=True):  # what was counted is added up in another order
        assert row == pytest.approx(other, rel=1e-6)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_one_process_goes_on_with_what_two_began(strategy: str, two: Any, alone: Any) -> None:
    """A checkpoint is whole, however many wrote it, optimizer and all."""
    made = grouped(**RUNS[strategy][1])
    fit(made, two[0] / f"{strategy}_begun", resume=True, loggers=(), every=1)
    _, expected, rounding = alone(strategy)
    assert furthest(expected, made.network.state_dict()) <= 8 * rounding


def test_the_report_is_of_all_samples_and_waits_for_nobody(two: Any) -> None:
    report, (_, best, _) = two[1][0]["report"], two[1][0]["fsdp_cut"]
    assert sum(map(sum, report["confusion"])) == 33
    assert report["loss"] == pytest.approx(best["validation_loss"], rel=1e-6)


def test_only_one_process_writes(two: Any) -> None:
    folder = two[0] / "ddp"
    assert sorted(path.name for path in folder.rglob("*")) == ["best.ckpt", "checkpoints", "curves.csv", "last.ckpt"]
    assert len((folder / "curves.csv").read_text().splitlines()) == 4


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(OptionError, match="average does not go with strategy 'fsdp'"):
        strategy_of("fsdp", 2, Recipe(epochs=1, average=0.9))
    with pytest.raises(FoveateError, match="sync_norms needs GPUs"):
        fit(task(epochs=1, sync_norms=True), device="cpu")


def test_who_was_started_otherwise_than_asked_for_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert launched(1, 1) == (2, 2)
    assert launched(2, 2) == (2, 2)
    with pytest.raises(OptionError, match="torchrun started 2 processes on each of 2 machines, and devices=3"):
        launched(3, 1)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    assert launched(2, 2) == (2, 2)
    with pytest.raises(OptionError, match="srun started 4 processes, and devices=1, nodes=1 make 1"):
        launched(1, 1)


def test_blocks_are_the_members_of_rows() -> None:
    class Row(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
            self.stages = nn.Sequential(nn.Sequential(inner(), inner()), nn.ModuleList([inner(), nn.ReLU()]))

    def inner() -> nn.Module:
        block = nn.Module()
        block.row = nn.Sequential(nn.Conv2d(2, 2, 1))
        return block

    row = Row()
    found = blocks(row)
    assert [id(one) for one in found] == [id(row.stages[0][0]), id(row.stages[0][1]), id(row.stages[1][0])]
