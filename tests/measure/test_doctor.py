"""What `foveate doctor` and `foveate build-ops` say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from foveate.cli import app
from foveate.measure import doctor
from foveate.ops.compiled import library
from tests.ops.compiled import built, needs_compiler, using


def test_doctor_says_which_operations_run_and_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path))
    monkeypatch.setattr(library._Loaded, "kernels", None)
    found = doctor.examine()
    assert found.operations == "plain"
    assert "foveate build-ops" in found.why or "Linux" in found.why
    library.library_path().touch()
    assert "FOVEATE_COMPILED_OPS=0 switches them off" in doctor.examine().why
    monkeypatch.setenv("FOVEATE_COMPILED_OPS", "1")
    assert "do not load" in doctor.examine().why


@needs_compiler
def test_doctor_names_the_instruction_set():
    (kernels, *_) = built().values()
    with using(kernels):
        assert doctor.examine().operations == kernels.instruction_set


def test_doctor_names_what_is_missing_and_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch):
    version = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "onnx" else version(name))
    found = doctor.examine()
    assert found.missing == {"onnx": "onnx"}
    assert "not installed: onnx (pip install 'foveate[onnx]')" in str(found)


def test_doctor_reports_what_a_new_map_costs(monkeypatch: pytest.MonkeyPatch):
    cost = doctor.Allocation(48, 12_289, 0.05, 0.01, {})
    monkeypatch.setattr(doctor, "_allocation", lambda: cost)
    text = str(doctor.examine())
    assert "a new map of 48 MiB takes 50.0 ms and 12,289 page faults, one that is there 10.0 ms" in text
    assert "MALLOC_MMAP_THRESHOLD_=" in text
    monkeypatch.setattr(doctor, "_allocation", lambda: doctor.Allocation(48, 0, 0.01, 0.01, {}))
    assert "MALLOC_MMAP_THRESHOLD_=" not in str(doctor.examine())


def test_the_command_line_prints_it_for_people_and_for_scripts():
    found = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)
    assert found["operations"] == "plain"
    assert found["allocation"]["faults"] >= 0
    assert "operations  plain" in CliRunner().invoke(app, ["doctor"]).stdout


@needs_compiler
def test_the_command_line_builds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("foveate.ops.compiled.build.INSTRUCTION_SETS", {})
    done = CliRunner().invoke(app, ["build-ops"])
    assert "the compiled operations are for Linux" in str(done.exception)
    (kernels, *_) = built().values()
    monkeypatch.setattr("foveate.ops.compiled.build.build", lambda compiler: kernels.path)
    done = CliRunner().invoke(app, ["build-ops"])
    assert "switched off by FOVEATE_COMPILED_OPS=0" in done.stdout
