"""Does attention stay in a YOLO network through training, a killed process, a resumed run, fusing and export?

    uv run python benchmarks/yolo_bccd.py FOLDER [--out benchmarks/results/yolo_bccd.json]

FOLDER is the BCCD data set of blood cells (VOC layout, official split). A plain YOLOv8n is trained from its YAML; its
checkpoint is then trained on with attention, once attached to the network alone and once through
`foveate.integrations.ultralytics`. The second run is killed (SIGKILL) in the middle of an epoch and resumed in a new
process. Written down: which tensors arrived, losses and mAP as they are, and how far outputs move when the network is
fused and exported. It asks whether attention is kept, not whether it helps: one seed, a few epochs, small images.
About three minutes on an idle core.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

CLASSES = ("RBC", "WBC", "Platelets")
ATTENTION = "cbam"


def write_labels(bccd: Path, folder: Path, images: int | None) -> Path:
    """BCCD as ultralytics reads it: text labels, boxes clipped to the image, empty ones dropped. Returns the YAML."""
    for split in ("train", "val", "test"):
        names = (bccd / "ImageSets" / "Main" / f"{split}.txt").read_text().split()
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
        for name in names[:images]:
            lines = [line for line in map(yolo_line, *boxes(bccd / "Annotations" / f"{name}.xml")) if line]
            (folder / "labels" / split / f"{name}.txt").write_text("\n".join(lines))
            (folder / "images" / split / f"{name}.jpg").symlink_to((bccd / "JPEGImages" / f"{name}.jpg").resolve())
    described = folder / "bccd.yaml"
    classes = "".join(f"  {number}: {name}\n" for number, name in enumerate(CLASSES))
    described.write_text(f"path: {folder}\ntrain: images/train\nval: images/val\ntest: images/test\nnames:\n{classes}")
    return described


def boxes(annotation: Path) -> tuple[list[ET.Element], list[tuple[int, int]]]:
    """The objects of one image, each with the image's width and height."""
    root = ET.parse(annotation).getroot()  # noqa: S314 (a data set that the caller chose)
    size = int(root.findtext("size/width", "0")), int(root.findtext("size/height", "0"))
    objects = root.findall("object")
    return objects, [size] * len(objects)


def yolo_line(found: ET.Element, size: tuple[int, int]) -> str:
    """Class, centre and extent as shares of the image; nothing for a box without area."""
    width, height = size
    x1, y1, x2, y2 = (float(found.findtext(f"bndbox/{side}", "0")) for side in ("xmin", "ymin", "xmax", "ymax"))
    x1, x2 = min(max(x1, 0), width), min(max(x2, 0), width)
    y1, y2 = min(max(y1, 0), height), min(max(y2, 0), height)
    if x2 - x1 < 1 or y2 - y1 < 1:
        return ""
    values = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
    return f"{CLASSES.index(found.findtext('name', ''))} " + " ".join(f"{value:.6f}" for value in values)


def options(folder: Path, name: str, size: int, epochs: int) -> dict[str, Any]:
    """What every training here has in common."""
    return {
        "data": str(folder / "bccd.yaml"), "imgsz": size, "epochs": epochs, "batch": 16, "device": "cpu", "seed": 0,
        "optimizer": "AdamW", "lr0": 0.001, "warmup_epochs": 1, "close_mosaic": 1, "plots": False, "verbose": False,
        "project": str(folder / "runs"), "name": name, "exist_ok": True,
    }  # fmt: skip


class Arrived:
    """Counts, when training starts, which tensors of a network given are in the network that is trained."""

    def __init__(self, given: Any) -> None:
        self.given = {key: value.clone() for key, value in given.state_dict().items()}
        self.counts: dict[str, int] = {}

    def __call__(self, trainer: Any) -> None:
        """Called by ultralytics."""
        trained = trainer.model.state_dict()
        for kind, ours in (("host", False), ("attention", True)):
            keys = [key for key in self.given if (".foveate." in key) is ours]
            self.counts[f"{kind}_tensors_given"] = len(keys)
            self.counts[f"{kind}_tensors_in_the_trained_network"] = sum(
                key in trained and trained[key].equal(self.given[key]) for key in keys
            )


def child(folder: Path, size: int, epochs: int, kill_in: int) -> None:
    """Train with attention and wait to be killed in the middle of an epoch; or, with `kill_in` 0, resume."""
    from ultralytics import YOLO

    from foveate.integrations.ultralytics import attach, keep

    run = folder / "runs" / "attended"
    if kill_in:
        yolo = attach(YOLO(folder / "plain.pt"), ATTENTION)

        def wait(trainer: Any) -> None:
            if trainer.epoch + 1 == kill_in and (run / "weights" / "last.pt").exists():
                trainer.seen_batches = getattr(trainer, "seen_batches", 0) + 1
                if trainer.seen_batches == max(1, len(trainer.train_loader) // 2):
                    (folder / "in_the_middle").touch()
                    time.sleep(600)

        yolo.add_callback("on_train_batch_end", wait)
        arrived = Arrived(yolo.model)
        yolo.add_callback("on_pretrain_routine_end", arrived)
        yolo.add_callback(
            "on_train_start", lambda _: (folder / "arrived_attended.json").write_text(json.dumps(arrived.counts))
        )
        yolo.train(**options(folder, "attended", size, epochs))
        return
    yolo = keep(YOLO(run / "weights" / "last.pt"))
    arrived = Arrived(yolo.model)
    ema: dict[str, bool] = {}

    def check(trainer: Any) -> None:
        arrived(trainer)
        saved = trainer.ema.ema.state_dict()
        ema["equal"] = all(saved[key].equal(value) for key, value in arrived.given.items())
        ema["first_epoch"] = trainer.start_epoch + 1

    yolo.add_callback("on_pretrain_routine_end", check)
    yolo.train(resume=True)
    (folder / "arrived_resumed.json").write_text(
        json.dumps(
            {
                "first_epoch_after_resuming": ema["first_epoch"],
                **arrived.counts,
                "average_equals_checkpoint": ema["equal"],
            }
        )
    )


def start(folder: Path, size: int, epochs: int, kill_in: int) -> subprocess.Popen[bytes]:
    """This script again, in a process of its own."""
    values = map(str, (folder, "--child", kill_in, "--size", size, "--epochs", epochs))
    return subprocess.Popen([sys.executable, __file__, *values])  # noqa: S603


def epochs_of(run: Path) -> list[dict[str, float]]:
    """What ultralytics wrote down after each epoch."""
    wanted = {
        "train/box_loss": "box_loss", "train/cls_loss": "class_loss", "train/dfl_loss": "dfl_loss",
        "metrics/mAP50(B)": "map50", "metrics/mAP50-95(B)": "map50_95",
    }  # fmt: skip
    with (run / "results.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    return [{"epoch": int(row["epoch"]), **{name: float(row[key]) for key, name in wanted.items()}} for row in rows]


def measure(yolo: Any, folder: Path, size: int) -> dict[str, float]:
    """Mean average precision on the official test split."""
    metrics = yolo.val(data=str(folder / "bccd.yaml"), split="test", imgsz=size, device="cpu", plots=False,
                       verbose=False, project=str(folder / "runs"), name="val", exist_ok=True)  # fmt: skip
    return {"map50": round(float(metrics.box.map50), 4), "map50_95": round(float(metrics.box.map), 4)}


def differences(yolo: Any, size: int) -> dict[str, float]:
    """How far the output moves when the network is fused and exported, as a share of its largest value."""
    import copy

    import onnxruntime
    import torch

    from foveate.surgery.attended import attended_places

    x = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    network = copy.deepcopy(yolo.model).eval()
    with torch.no_grad():
        before = network(x)[0]
        fused = copy.deepcopy(network).fuse(verbose=False)
        places = len(attended_places(fused))
        folded = fused(x)[0]
    session = onnxruntime.InferenceSession(yolo.export(format="onnx", imgsz=size, device="cpu", verbose=False))
    onnx = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])
    script = torch.jit.load(yolo.export(format="torchscript", imgsz=size, device="cpu", verbose=False))(x)
    script = script[0] if isinstance(script, list | tuple) else script
    largest = before.abs().max()
    return {
        "attended_places": len(attended_places(network)),
        "attended_places_after_fuse": places,
        **{
            f"{name}_largest_relative_difference": float((after - before).abs().max() / largest)
            for name, after in (("fuse", folded), ("onnx", onnx), ("torchscript", script))
        },
    }


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "yolo_bccd.json")
    parser.add_argument(
        "--epochs",
        type=int,
        default=6,
        help="of the training with attention, at least 2; the plain network has twice as many first",
    )
    parser.add_argument("--size", type=int, default=192, help="side of the images in training")
    parser.add_argument("--images", type=int, help="use only the first so many of each split")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ.setdefault("YOLO_OFFLINE", "1")
    os.environ.setdefault("YOLO_AUTOINSTALL", "0")
    if arguments.child is not None:
        child(arguments.folder, arguments.size, arguments.epochs, arguments.child)
        return
    if not (arguments.folder / "ImageSets" / "Main" / "train.txt").exists():
        parser.error(f"{arguments.folder} is not BCCD in VOC layout")
    with tempfile.TemporaryDirectory() as temporary:
        os.environ.setdefault("YOLO_CONFIG_DIR", temporary)
        result = run(arguments.folder, Path(temporary).resolve(), arguments.epochs, arguments.size, arguments.images)
    text = json.dumps(result, indent=1) + "\n"
    part = arguments.out.with_suffix(".part")
    part.write_text(text)
    part.replace(arguments.out)
    print(text)


def run(bccd: Path, folder: Path, epochs: int, size: int, images: int | None) -> dict[str, Any]:
    """All of it."""
    began = time.perf_counter()
    described = write_labels(bccd, folder, images)
    import torch
    import ultralytics
    from ultralytics import YOLO

    import foveate
    from foveate.integrations.ultralytics import attach
    from foveate.measure import Conditions

    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    counted = {split: len(list((described.parent / "images" / split).iterdir())) for split in ("train", "val", "test")}

    plain = YOLO("yolov8n.yaml")
    plain.train(**options(folder, "plain", size, 2 * epochs))
    (folder / "plain.pt").write_bytes((folder / "runs" / "plain" / "weights" / "best.pt").read_bytes())
    plain_map = measure(YOLO(folder / "plain.pt"), folder, size)
    at_start = measure(attach(YOLO(folder / "plain.pt"), ATTENTION), folder, size)

    thrown = YOLO(folder / "plain.pt")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        foveate.attach(thrown.model, ATTENTION)
    without = Arrived(thrown.model)
    thrown.add_callback("on_pretrain_routine_end", without)
    thrown.train(**{**options(folder, "thrown", size, 1), "fraction": 0.1})
    left = sum(".foveate." in key for key in thrown.model.state_dict())

    kill_in = epochs // 2 + 1
    process = start(folder, size, epochs, kill_in)
    while process.poll() is None and not (folder / "in_the_middle").exists():
        time.sleep(0.2)
    if process.poll() is not None:
        raise SystemExit(f"training ended before it could be killed (exit {process.returncode})")
    process.send_signal(signal.SIGKILL)
    process.wait()
    attended_run = folder / "runs" / "attended"
    before_kill = epochs_of(attended_run)
    start_resumed = start(folder, size, epochs, 0)
    if start_resumed.wait() != 0:
        raise SystemExit("the resumed training failed")
    best = YOLO(attended_run / "weights" / "best.pt")
    blends = {key: float(value) for key, value in best.model.state_dict().items() if key.endswith("blend")}
    return {
        "question": "is attention kept through training, a kill, a resumed run, fusing and export?",
        "network": "yolov8n.yaml",
        "attention": f"{ATTENTION} at residual",
        "images": counted,
        "recipe": {
            key: value
            for key, value in options(folder, "", size, epochs).items()
            if key not in {"data", "project", "name", "exist_ok", "plots", "verbose"}
        },
        "attached_to_the_network_alone": {
            "warned": any("build this network anew" in str(warning.message) for warning in said),
            **without.counts,
            "attention_tensors_after_training": left,
        },
        "attached_through_the_integration": {
            **json.loads((folder / "arrived_attended.json").read_text()),
            "attention_tensors_after_training": sum(".foveate." in key for key in best.model.state_dict()),
            "blends_that_moved": sum(value != 0 for value in blends.values()),
            "blends": len(blends),
            "largest_blend": max(map(abs, blends.values())),
        },
        "resumed": {
            "killed_in_epoch": kill_in,
            "epochs_written_before_the_kill": len(before_kill),
            **json.loads((folder / "arrived_resumed.json").read_text()),
            "epochs_written_in_the_end": len(epochs_of(attended_run)),
        },
        "plain_epochs": epochs_of(folder / "runs" / "plain"),
        "attended_epochs": epochs_of(attended_run),
        "test_split": {
            "plain": plain_map,
            "attended_before_training": at_start,
            "attended_after_training": measure(best, folder, size),
        },
        "deployed": differences(best, size),
        "minutes": round((time.perf_counter() - began) / 60, 1),
        "versions": {"ultralytics": ultralytics.__version__, "foveate": foveate.__version__},
        "conditions": Conditions.here().as_dict(),
    }


if __name__ == "__main__":
    main()
