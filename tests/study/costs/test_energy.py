"""Energy from counters that we turn."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from foveate.errors import FoveateError, MissingExtraError
from foveate.study.costs.energy import energy_of
from foveate.study.costs.meters import Nvml, Rapl, meter_of
from tests.study.costs.networks import Burns, Fails

CPU = torch.device("cpu")
RANGE = 1_000_000


def counter(root: Path, folder: str, name: str, energy: int = 0, most: int = RANGE) -> Path:
    made = root / folder
    made.mkdir(parents=True)
    for file, text in (("name", name), ("energy_uj", energy), ("max_energy_range_uj", most)):
        (made / file).write_text(f"{text}\n")
    return made


def test_packages_and_memory_count_once_and_behind_the_range_they_go_on(tmp_path: Path) -> None:
    package = counter(tmp_path, "intel-rapl:0", "package-0", 900_000)
    other = counter(tmp_path, "intel-rapl:1", "package-1")
    dram = counter(tmp_path, "intel-rapl:0:1", "dram")
    inside = [
        counter(tmp_path, "intel-rapl:0:0", "core"),
        counter(tmp_path, "intel-rapl:2", "psys"),
        counter(tmp_path, "intel-rapl-mmio:0", "package-0"),
    ]
    (tmp_path / "intel-rapl").mkdir()
    meter = Rapl(tmp_path)
    assert meter.source == "RAPL: package-0, dram, package-1"
    before = meter.read()
    for folder, energy in ((package, 100_000), (other, 20_000), (dram, 3_000), *((one, 500_000) for one in inside)):
        (folder / "energy_uj").write_text(str(energy))
    assert meter.read() - before == pytest.approx(0.2 + 0.02 + 0.003)
    (package / "energy_uj").write_text("50000")  # a second round
    assert meter.read() - before == pytest.approx(1.15 + 0.02 + 0.003)


def test_a_machine_that_tells_nothing_says_why(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(FoveateError, match="tells no energy: there is no .*missing"):
        Rapl(missing)
    counter(tmp_path, "intel-rapl:0", "psys")
    with pytest.raises(FoveateError, match="no counter of a package"):
        Rapl(tmp_path)
    (counter(tmp_path, "intel-rapl:1", "package-0") / "energy_uj").unlink()
    with pytest.raises(FoveateError, match="cannot be read .*only root may"):
        Rapl(tmp_path)
    with pytest.raises(FoveateError, match="type 'mps'"):
        meter_of(torch.device("mps"))
    rows = energy_of({"plain": Fails()}, (torch.ones(1),), batch=2, baseline="plain", device=CPU, root=missing)
    assert {rows["plain"][key] for key in ("joules", "ratio", "interval", "source")} == {None}
    assert rows["plain"]["reason"].startswith("this machine tells no energy")


def test_joules_of_a_pass_and_their_ratio(tmp_path: Path) -> None:
    folder = counter(tmp_path, "intel-rapl:0", "package-0", 10**9 - 1, 10**9)  # it begins again in the first pass
    networks = {"plain": Burns(folder, 1000), "se": Burns(folder, 3000), "broken": Fails()}
    rows = energy_of(
        networks, (torch.ones(1, 2),), batch=2, baseline="plain", device=CPU, block=0.005, root=tmp_path
    )  # fmt: skip
    assert list(rows) == ["plain", "se", "broken"]
    assert rows["plain"]["joules"] == pytest.approx(0.001)
    assert rows["se"]["joules"] == pytest.approx(0.003)
    assert rows["se"]["interval"] == pytest.approx([3.0, 3.0])
    assert (rows["se"]["source"], rows["se"]["reason"]) == ("RAPL: package-0", None)
    assert (rows["broken"]["joules"], rows["broken"]["reason"]) == (None, "RuntimeError: it does not run")


def test_a_block_has_a_pass_however_short_it_is(tmp_path: Path) -> None:
    folder = counter(tmp_path, "intel-rapl:0", "package-0")
    networks = {"plain": Burns(folder, 1000)}
    rows = energy_of(networks, (torch.ones(1, 2),), batch=1, baseline="plain", device=CPU, block=0.0, root=tmp_path)
    assert (rows["plain"]["joules"], rows["plain"]["reason"]) == (pytest.approx(0.001), None)


def test_a_counter_that_stands_still_gives_no_ratio(tmp_path: Path) -> None:
    folder = counter(tmp_path, "intel-rapl:0", "package-0")
    networks = {"plain": Burns(folder, 0), "se": Burns(folder, 1000)}
    rows = energy_of(networks, (torch.ones(1, 2),), batch=1, baseline="plain", device=CPU, block=0.001, root=tmp_path)
    assert (rows["plain"]["joules"], rows["se"]["joules"]) == (0.0, pytest.approx(0.001))
    assert rows["plain"]["ratio"] is rows["se"]["ratio"] is None
    assert rows["se"]["reason"] == "no ratio: the counter did not move in a block of passes"


def test_without_the_baselines_energy_there_is_no_ratio(tmp_path: Path) -> None:
    networks = {"plain": Fails(), "se": Burns(counter(tmp_path, "intel-rapl:0", "package-0"), 1000)}
    rows = energy_of(networks, (torch.ones(1, 2),), batch=1, baseline="plain", device=CPU, block=0.001, root=tmp_path)
    assert (rows["se"]["joules"], rows["se"]["ratio"]) == (pytest.approx(0.001), None)
    assert rows["se"]["reason"] == "no ratio: the energy of the baseline 'plain' is not known"


def test_a_gpus_counter_is_asked_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    library = SimpleNamespace(
        NVMLError=type("NVMLError", (Exception,), {}),
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: asked.append(uuid) or "handle",
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: {"handle": 2500}[handle],
    )
    monkeypatch.setitem(sys.modules, "pynvml", library)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="12-ab"))
    meter = meter_of(torch.device("cuda:0"))
    assert isinstance(meter, Nvml)
    assert (meter.read(), asked) == (2.5, ["GPU-12-ab"])

    def refuses(handle: Any) -> int:
        raise library.NVMLError("Not Supported")

    library.nvmlDeviceGetTotalEnergyConsumption = refuses
    with pytest.raises(FoveateError, match="this GPU tells no energy: Not Supported"):
        meter_of(torch.device("cuda:0"))
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(MissingExtraError, match="nvidia-ml-py"):
        meter_of(torch.device("cuda:0"))
