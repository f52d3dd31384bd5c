"""A Ray cluster of two machines, which are processes of this one: they, their runs and the driver are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from foveate.errors import FoveateError, OptionError
from foveate.study.execution import UnfinishedError, cluster
from foveate.study.execution.where import Versions
from foveate.study.folder import Folder
from foveate.study.progress import Silent
from tests.study.execution.test_here import Impatient, carried
from tests.study.execution.test_processes import check_finished_here, ledger, wait_for
from tests.support import toy

pytestmark = pytest.mark.slow
ray = pytest.importorskip("ray")
STORE = 80 * 2**20  # bytes; Ray takes no less


def processes_of_ray() -> set[int]:
    """Every process that is Ray's."""
    found: set[int] = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if any(word in words for word in (b"raylet", b"gcs_server", b"ray::", b"default_worker.py")):
            found.add(int(entry.name))
    return found


@pytest.fixture(autouse=True)
def nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    before = processes_of_ray()
    yield
    wait_for(lambda: not processes_of_ray() - before, 120)  # Ray's own agents look for their node once a minute


@pytest.fixture
def two_nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Any]]:
    from ray.cluster_utils import Cluster

    made = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "object_store_memory": STORE, "include_dashboard": False},
    )
    second = made.add_node(num_cpus=1, object_store_memory=STORE)
    monkeypatch.setenv("RAY_ADDRESS", made.address)
    yield made, second
    ray.shutdown()
    made.shutdown()


class Losing(Silent):
    """A machine of the cluster is lost as soon as so many runs are under way."""

    def __init__(self, made: Any, node: Any, runs: int) -> None:
        self.made, self.node, self.runs = made, node, runs
        self.under_way: set[str] = set()
        self.lost = False
        self.ended: list[str] = []

    def tell(self, key: str, *_: Any) -> None:
        self.under_way.add(key)
        if len(self.under_way) == self.runs and not self.lost:
            self.lost = True
            self.made.remove_node(self.node, allow_graceful=False)

    def end(self, key: str, sentence: str, *, done: bool) -> None:
        self.under_way.discard(key)
        self.ended.append(sentence)


def test_a_machine_is_lost_and_nothing_else(two_nodes: Any, tmp_path: Path) -> None:
    made, second = two_nodes
    book = tmp_path / "ledger"
    jobs = toy.study(book, 4, seconds=10.0, maps=True)  # a slow machine needs a while for the second worker
    reporter = Losing(made, second, 2)
    result = carried(tmp_path, jobs, reporter, on="ray")
    assert reporter.lost, "two runs were under way at once"
    assert [record["square"] for record in result.records] == [number**2 for number in range(4)]
    begins = Counter(number for what, number, _ in ledger(book) if what == "begin")
    ends = Counter(number for what, number, _ in ledger(book) if what == "end")
    (again,) = (number for number, count in begins.items() if count > 1)
    assert begins[again] == 2 and set(begins) == set(range(4)), "the run of the lost machine began again, and no other"
    assert set(ends.values()) == {1}
    out = tmp_path / "out"
    assert {path.stem for path in (out / "runs").iterdir()} == {job.key for job in jobs}
    assert {path.stem for path in (out / "maps").iterdir()} == {job.key for job in jobs}
    assert [path.name for path in (out / "interrupted").iterdir()] == [f"{jobs[again].key}-1.json"]
    assert not list((out / "running").iterdir())
    assert result.notes == [f"plain, seed {again}: cut off after 1 of 2 epochs, and run again from its beginning"]
    (lost,) = (sentence for sentence in reporter.ended if "gone" in sentence)
    assert lost.startswith(f"plain, seed {again}: its machine or its process is gone (")


def test_runs_die_fail_and_are_interrupted(two_nodes: Any, tmp_path: Path) -> None:
    book = tmp_path / "ledger"
    jobs = toy.study(book, 3, maps=True)
    jobs += [toy.job(10, dies=str(tmp_path / "mark"), ledger=str(book)), toy.job(11, refuses=True)]
    with pytest.raises(KeyboardInterrupt, match=r"interrupted: \d of 8 runs are finished and kept"):
        carried(tmp_path, [*jobs, *toy.study(book, 3, seconds=60)], Impatient(2), on="ray")
    with pytest.raises(UnfinishedError, match=r"1 of 5 runs could not be finished: plain, seed 11: the data of run 11"):
        carried(tmp_path, jobs, on="ray")
    folder = Folder(tmp_path / "out")
    records = [folder.finished(job.key, maps=job.maps)[0] or {} for job in jobs[:4]]
    assert [record["square"] for record in records] == [0, 1, 4, 100]
    assert {record["where"]["threads"] for record in records} == {1}


def test_what_cannot_work_is_refused_before_anything_runs(
    two_nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = toy.study(tmp_path / "ledger", 2)
    with pytest.raises(OptionError, match="no machine of the cluster has 2 processors for a run, at most 1"):
        carried(tmp_path, jobs, on="ray", threads=2)
    with pytest.raises(OptionError, match="no machine of the cluster has 1 GPUs"):
        carried(tmp_path, jobs, on="ray", gpus=1)
    here = Versions.here()
    other = Versions(here.foveate, "0" * 16, here.torch)
    with monkeypatch.context() as patch:
        patch.setattr(cluster, "Versions", Other(other))
        with pytest.raises(FoveateError, match=r"machine 1 of 2 of the cluster \(.*\) has other sources of foveate"):
            carried(tmp_path, jobs, on="ray")
    assert not (tmp_path / "ledger").exists()
    with pytest.raises(FoveateError, match="Ray cluster at ray://127.0.0.1:1 cannot be used"):
        carried(tmp_path, jobs, on="ray://127.0.0.1:1")


def test_a_cluster_is_used_from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.cluster_utils import Cluster

    # machines of a cluster have what carries runs out installed
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")])
    )
    node = {"num_cpus": 2, "object_store_memory": STORE, "include_dashboard": False, "ray_client_server_port": 20123}
    made = Cluster(initialize_head=True, head_node_args=node)
    jobs = [*toy.study(tmp_path / "ledger", 3, maps=True), toy.job(10, dies=str(tmp_path / "mark"))]
    try:
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt, match=r"interrupted: \d of 7 runs"):
            slow = toy.study(tmp_path / "ledger", 3, seconds=60)
            carried(tmp_path, [*jobs, *slow], Impatient(2), on="ray://127.0.0.1:20123")
        assert time.monotonic() - began < 50, "words of runs that go on for long are heard while they do"
        result = carried(tmp_path, jobs, on="ray://127.0.0.1:20123")
        assert [record["square"] for record in result.records] == [0, 1, 4, 100]
    finally:
        made.shutdown()


class Other:
    """Versions that the driver has, and nobody else."""

    def __init__(self, mine: Versions) -> None:
        self.mine = mine

    def here(self) -> Versions:
        return self.mine

    def __call__(self, **values: str) -> Versions:
        return Versions(**values)


@pytest.mark.parametrize("own", [True, False], ids=["a cluster of its own", "a cluster that is there"])
def test_runs_end_with_the_driver(own: bool, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if not own:
        request.getfixturevalue("two_nodes")
    out, book = tmp_path / "out", tmp_path / "out.ledger"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.toy", str(out), "4", "60", "ray"], env=dict(os.environ)
    )
    wait_for(lambda: len(ledger(book)) >= 3 and bool(list((out / "runs").glob("*.json"))), 90)
    workers = {pid for _, _, pid in ledger(book)}
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: not workers & processes_of_ray(), 30)
    said = len(ledger(book))
    time.sleep(2)
    assert len(ledger(book)) == said, "nobody carries runs out any more"
    check_finished_here(out, book, 4, 60.0)
