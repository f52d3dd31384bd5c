"""A real training on blood cells: killed in the middle, resumed in a new process, fused and exported."""

import importlib.util
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

pytest.importorskip("ultralytics")

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "yolo_bccd.py"
BCCD = ROOT.parent / "shared" / "data" / "bccd"


@pytest.fixture(scope="module")
def script():
    found = importlib.util.spec_from_file_location("yolo_bccd", SCRIPT)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def box(name, x1, y1, x2, y2):
    return ET.fromstring(  # noqa: S314
        f"<object><name>{name}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
        "</bndbox></object>"
    )


def test_boxes_become_shares_of_the_image(script):
    assert script.yolo_line(box("WBC", 160, 120, 480, 240), (640, 480)) == "1 0.500000 0.375000 0.500000 0.250000"
    assert script.yolo_line(box("RBC", -20, 0, 320, 999), (640, 480)) == "0 0.250000 0.500000 0.500000 1.000000"
    assert script.yolo_line(box("RBC", 0, 0, 0, 0), (640, 480)) == ""
    assert script.yolo_line(box("RBC", 700, 10, 720, 90), (640, 480)) == ""


@pytest.mark.slow
def test_attention_stays_through_a_killed_and_resumed_training(tmp_path):
    if not BCCD.is_dir():
        pytest.skip("the BCCD images are not beside this repository")
    out = tmp_path / "result.json"
    subprocess.run(
        [sys.executable, SCRIPT, BCCD, "--images", "32", "--epochs", "2", "--size", "96", "--out", out],
        check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=900,
    )  # fmt: skip
    result = json.loads(out.read_text())
    alone, through = result["attached_to_the_network_alone"], result["attached_through_the_integration"]
    assert alone["warned"]
    assert alone["attention_tensors_given"] == through["attention_tensors_given"] == 72
    assert alone["attention_tensors_in_the_trained_network"] == alone["attention_tensors_after_training"] == 0
    assert through["attention_tensors_in_the_trained_network"] == through["attention_tensors_after_training"] == 72
    hosts = {run[f"host_tensors_{end}"] for run in (alone, through) for end in ("given", "in_the_trained_network")}
    assert hosts == {355}
    assert through["blends_that_moved"] == through["blends"] == 12
    resumed = result["resumed"]
    assert (resumed["killed_in_epoch"], resumed["epochs_written_before_the_kill"]) == (2, 1)
    assert (resumed["first_epoch_after_resuming"], resumed["epochs_written_in_the_end"]) == (2, 2)
    assert resumed["attention_tensors_in_the_trained_network"] == resumed["attention_tensors_given"] == 72
    assert resumed["average_equals_checkpoint"]
    assert result["test_split"]["plain"] == result["test_split"]["attended_before_training"]
    deployed = result["deployed"]
    assert deployed["attended_places"] == deployed["attended_places_after_fuse"] == 6
    assert all(deployed[f"{kind}_largest_relative_difference"] < 1e-4 for kind in ("fuse", "onnx", "torchscript"))
