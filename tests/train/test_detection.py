"""Detection: boxes move with their image, COCO's precision is what it should be, a run learns and can be asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from foveate.cli import app
from foveate.data.boxes.detection import Boxes
from foveate.data.boxes.folder import scene_boxes
from foveate.data.chance import generator
from foveate.errors import OptionError
from foveate.hosts.detectors import build_detector
from foveate.train import Recipe, fit
from foveate.train.box_changes import cropped, mirrored, zoomed
from foveate.train.detection import ObjectDetection
from foveate.train.drawing import write_picture
from foveate.train.kinds import kind_of
from foveate.train.kinds.detection import DetectionOptions, unpadded
from foveate.train.predicting import predict

CLASSES = ("a", "b", "c")


def sample(*boxes: tuple[int, int, int, int], size: tuple[int, int] = (60, 80)) -> tuple[Tensor, Boxes]:
    """A dark image on which the n-th box is bright in the n-th channel alone."""
    pixels = torch.full((3, *size), 10, dtype=torch.uint8)
    for channel, (left, top, right, bottom) in enumerate(boxes):
        pixels[channel, top:bottom, left:right] = 250
    edges = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return pixels, Boxes(edges, torch.arange(len(boxes)), torch.zeros(len(boxes), dtype=torch.bool))


def bright(channel: Tensor) -> list[float] | None:
    """Left, top, right and bottom of what is bright."""
    rows, columns = (channel > 130).any(1).nonzero(), (channel > 130).any(0).nonzero()
    if not len(rows):
        return None
    return [float(v) for v in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)]


def check_that_boxes_lie_on_what_is_bright(changed: tuple[Tensor, Boxes], off: float) -> None:
    pixels, boxes = changed
    assert len(boxes.boxes) == len(boxes.labels) == len(boxes.crowd)
    for box, label in zip(boxes.boxes.tolist(), boxes.labels.tolist(), strict=True):
        seen = bright(pixels[label])
        assert seen is not None
        assert max(abs(a - b) for a, b in zip(box, seen, strict=True)) <= off


THREE = ((5, 8, 30, 40), (20, 30, 70, 55), (60, 2, 75, 20))


def test_mirrored_boxes_lie_on_the_mirrored_image() -> None:
    changed = mirrored(sample(*THREE))
    check_that_boxes_lie_on_what_is_bright(changed, 0)
    assert changed[1].boxes[0].tolist() == [50, 8, 75, 40]


@pytest.mark.parametrize("number", range(8))
def test_cropped_boxes_lie_on_the_cropped_image_and_none_is_cut(number: int) -> None:
    pixels, boxes = changed = cropped(sample(*THREE), generator("crop", number))
    check_that_boxes_lie_on_what_is_bright(changed, 0)
    assert pixels.shape != (3, 60, 80)
    before = torch.tensor(THREE, dtype=torch.float32)
    assert torch.equal(boxes.boxes[:, 2:] - boxes.boxes[:, :2], before[:, 2:] - before[:, :2])


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.0, 1.3, 2.0])
@pytest.mark.parametrize("number", range(4))
def test_zoomed_boxes_lie_on_the_zoomed_image(factor: float, number: int) -> None:
    pixels, boxes = changed = zoomed(sample(*THREE), factor, generator("zoom", number))
    assert pixels.shape == (3, 60, 80)
    check_that_boxes_lie_on_what_is_bright(changed, 1.01)
    if factor <= 1:
        assert boxes.labels.tolist() == [0, 1, 2]


def test_a_thing_that_zooming_cuts_away_is_no_longer_marked() -> None:
    gone = 0
    for number in range(20):
        pixels, boxes = zoomed(sample(*THREE), 2.0, generator("away", number))
        for label in range(3):
            seen = bright(pixels[label])
            area = 0.0 if seen is None else (seen[2] - seen[0]) * (seen[3] - seen[1])
            left, top, right, bottom = THREE[label]
            share = area / (4 * (right - left) * (bottom - top))
            if abs(share - 0.25) > 0.05:
                assert (label in boxes.labels.tolist()) == (share > 0.25)
                gone += label not in boxes.labels.tolist()
    assert gone > 5


def detector() -> Any:
    """A small one that runs at 64 pixels."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_detector("foveate/fcos_mobilenet_v3_small_fpn", classes=4, size=64)[0]


def task(train: Any = None, validation: Any = None, **options: Any) -> ObjectDetection:
    data = scene_boxes()
    network = options.pop("network", None) or Spy()
    recipe = Recipe(**{"epochs": 2, "batch_size": 4, **options.pop("recipe", {})})
    given = {"classes": data.classes, **options}
    train, validation = Some(data.train, 12) if train is None else train, validation or Some(data.validation, 6)
    return ObjectDetection(network, train, validation, recipe, **given)


class Some:
    """The first of a split."""

    def __init__(self, images: Any, count: int) -> None:
        self.images, self.names, self.count = images, images.names[:count], count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        return self.images[index]


@pytest.mark.parametrize("number", range(6))
def test_prepared_samples_are_functions_of_their_stream(number: int) -> None:
    one = task(crop=True)
    given = sample(*THREE)
    before = torch.random.get_rng_state()
    first, again = (one.prepare(given, generator("it", number)) for _ in range(2))
    other = one.prepare(given, generator("it", number + 100))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1].boxes, again[1].boxes)
    assert not torch.equal(first[0], other[0]) if first[0].shape == other[0].shape else True
    assert torch.equal(torch.random.get_rng_state(), before)
    assert one.prepare(given, None) is given
    check_that_boxes_lie_on_what_is_bright(first, 2.0)


def overlap(a: np.ndarray, b: np.ndarray, crowd: bool) -> float:
    wide = min(a[2], b[2]) - max(a[0], b[0])
    tall = min(a[3], b[3]) - max(a[1], b[1])
    if wide <= 0 or tall <= 0:
        return 0.0
    area_a, area_b = (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])
    return wide * tall / (area_a if crowd else area_a + area_b - wide * tall)


def precision_by_hand(said: list[Any], there: list[Any], label: int, least: float) -> float:
    """COCO's average precision of a class at one overlap, from its definition: 101 points of the curve."""
    marks: list[tuple[float, bool]] = []
    count = 0
    for (boxes, scores, labels), (real, classes, crowd) in zip(said, there, strict=True):
        mine = [(real[k], bool(crowd[k])) for k in range(len(real)) if classes[k] == label]
        count += sum(not is_crowd for _, is_crowd in mine)
        taken: set[int] = set()
        for index in sorted((i for i in range(len(boxes)) if labels[i] == label), key=lambda i: -scores[i]):
            fits = [
                (not is_crowd, overlap(boxes[index], box, is_crowd), k)
                for k, (box, is_crowd) in enumerate(mine)
                if k not in taken and overlap(boxes[index], box, is_crowd) >= least
            ]
            best = max(fits, default=None)
            if best is None:
                marks.append((scores[index], False))
            elif best[0]:  # a thing of its own; what lies in a crowd counts neither way
                taken.add(best[2])
                marks.append((scores[index], True))
    marks.sort(key=lambda mark: -mark[0])
    right = np.cumsum([hit for _, hit in marks])
    recall, precision = right / count, right / np.arange(1, len(marks) + 1)
    points = [max(precision[recall >= point - 1e-9], default=0.0) for point in np.linspace(0, 1, 101)]
    return float(np.mean(points))


def made(seed: int) -> tuple[list[Any], list[Any]]:
    """Things on 12 images, and what a bad detector says of them, with scores that no two share."""
    chance = np.random.default_rng(seed)
    said, there = [], []
    for _ in range(12):
        count = int(chance.integers(0, 6))
        corner = chance.uniform(0, 60, (count, 2))
        real = np.concatenate([corner, corner + chance.uniform(8, 40, (count, 2))], 1)
        classes, crowd = chance.integers(0, 3, count), chance.random(count) < 0.15
        near = np.concatenate([real + chance.normal(0, 2, real.shape)] * 2)
        far = chance.uniform(0, 40, (3, 2))
        boxes = np.concatenate([near, np.concatenate([far, far + 20], 1)])
        labels = np.concatenate([classes, chance.integers(0, 3, count + 3)])
        said.append((boxes, chance.permutation(np.linspace(0.01, 0.99, len(boxes))) + chance.random() * 1e-3, labels))
        there.append((real, classes, crowd))
    return said, there


@pytest.mark.parametrize("seed", range(3))
def test_average_precision_is_cocos_crowds_included(seed: int) -> None:
    said, there = made(seed)
    one = task(classes=CLASSES)
    metrics = one.new_metrics("validation")
    batch = (
        [torch.zeros(0)] * 12,
        [Boxes(torch.tensor(b).float(), torch.tensor(c), torch.tensor(k)) for b, c, k in there],
    )
    detected = [
        {"boxes": torch.tensor(b).float(), "scores": torch.tensor(s).float(), "labels": torch.tensor(c) + 1}
        for b, s, c in said
    ]
    one.count(metrics, detected[:5], (batch[0][:5], batch[1][:5]))
    one.count(metrics, detected[5:], (batch[0][5:], batch[1][5:]))
    numbers = one.read(metrics)
    by_class = [[precision_by_hand(said, there, c, t) for t in np.arange(0.5, 1, 0.05)] for c in range(3)]
    assert numbers["map"] == pytest.approx(np.mean(by_class), abs=2e-5)
    assert numbers["map_50"] == pytest.approx(np.mean([row[0] for row in by_class]), abs=2e-5)
    assert numbers["map_75"] == pytest.approx(np.mean([row[5] for row in by_class]), abs=2e-5)
    for index, name in enumerate(CLASSES):
        assert one.details()["classes"][name]["map"] == pytest.approx(np.mean(by_class[index]), abs=2e-5)


def test_an_overlap_of_62_percent_counts_at_three_of_ten_thresholds() -> None:
    one = task(classes=CLASSES)
    metrics = one.new_metrics("validation")
    real = Boxes(torch.tensor([[0.0, 0, 100, 10]]), torch.tensor([1]), torch.tensor([False]))
    said = {"boxes": torch.tensor([[0.0, 0, 62, 10]]), "scores": torch.tensor([0.9]), "labels": torch.tensor([2])}
    nothing = {"boxes": torch.tensor([[0.0, 0, 100, 10]]), "scores": torch.tensor([1.0]), "labels": torch.tensor([0])}
    both = {key: torch.cat([said[key], nothing[key]]) for key in said}
    one.count(metrics, [both], ([torch.zeros(0)], [real]))
    assert one.read(metrics)["map"] == pytest.approx(0.3)


class Spy(torch.nn.Module):
    """A detector that keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, images: Any, targets: Any = None) -> Any:
        self.images, self.targets = images, targets
        return {"one": self.weight * 2, "other": self.weight.bfloat16() * 3}


def test_crowds_are_not_learned_and_nothing_is_class_0() -> None:
    one = task(network=Spy())
    pixels, boxes = sample(*THREE)
    boxes = boxes._replace(crowd=torch.tensor([False, True, False]))
    empty = sample()
    loss, said = one.train().step(one.collate([(pixels, boxes), empty]))
    network: Any = one.network
    assert (float(loss.detach()), loss.dtype, said) == (5.0, torch.float32, None)
    assert network.targets[0]["labels"].tolist() == [1, 3]
    assert network.targets[0]["boxes"].tolist() == [list(map(float, THREE[0])), list(map(float, THREE[2]))]
    assert network.targets[1]["boxes"].shape == (0, 4)
    assert float(network.images[0].max()) == pytest.approx(250 / 255)


def test_what_is_said_has_classes_scores_and_boxes_in_pixels_of_the_picture() -> None:
    class Finder(torch.nn.Module):
        def forward(self, images: Any) -> Any:
            assert images[0].shape == (3, 60, 80)
            boxes = torch.tensor([[10.0, 20, 30, 40], [5, 5, 70, 50], [1, 1, 2, 2]])
            return [{"boxes": boxes, "scores": torch.tensor([0.9, 0.3, 0.8]), "labels": torch.tensor([2, 1, 0])}]

    said = kind_of("detection").say(Finder(), torch.zeros(3, 60, 80, dtype=torch.uint8), CLASSES, DetectionOptions())
    assert said.content["found"] == "1 b"
    assert said.content["things"] == [{"class": "b", "score": pytest.approx(0.9), "box": [10, 20, 30, 40]}]
    times = said.picture.shape[1] // 60
    painted = said.picture.any(0)
    assert bool(painted[20 * times : 40 * times, 10 * times].all())  # the left edge
    assert not bool(painted[: 20 * times - 4].any())


def test_images_without_a_thing_have_a_loss_too() -> None:
    one = task(network=detector()).train()
    loss, _ = one.step(one.collate([sample(), sample(size=(50, 40))]))
    assert loss is not None
    assert bool(torch.isfinite(loss))


def test_boxes_stay_in_full_precision_under_autocast() -> None:
    one = task(network=detector())
    batch = one.collate([one.samples[0][index] for index in range(2)])
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = one.train().step(batch)
        one.network.score_thresh = 0.0
        with torch.no_grad():
            _, said = one.eval().step(batch)
    assert loss is not None
    assert loss.dtype == torch.float32
    assert bool(torch.isfinite(loss))
    assert said[0]["boxes"].dtype == torch.float32
    assert len(said[0]["boxes"]) > 0


def test_a_stopped_run_ends_with_the_weights_of_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a detector that draws proposals by chance while it trains."""
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.faster_rcnn import TwoMLPHead

    from foveate.train import fitting
    from foveate.train.lightning import pl

    def fresh() -> ObjectDetection:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            backbone: Any = torch.nn.Conv2d(3, 8, 9, stride=8, padding=4)
            backbone.out_channels = 8
            anchors = AnchorGenerator(((16, 32),), ((1.0,),))
            network: Any = FasterRCNN(backbone, 5, 64, 64, rpn_anchor_generator=anchors, box_head=TwoMLPHead(392, 1024))
            return task(network=network)

    class Stop(pl.Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            if trainer.global_step == 4:
                raise KeyboardInterrupt

    whole = fit(fresh(), tmp_path / "whole", loggers=(), every=1)
    usual = fitting.callbacks
    monkeypatch.setattr(fitting, "callbacks", lambda *given: [Stop(), *usual(*given)])
    with pytest.raises(KeyboardInterrupt):
        fit(fresh(), tmp_path / "cut", loggers=(), every=1)
    monkeypatch.setattr(fitting, "callbacks", usual)
    again = fit(fresh(), tmp_path / "cut", resume=True, loggers=(), every=1)
    assert str(again.history) == str(whole.history)
    a, b = (torch.load(tmp_path / f / "checkpoints" / "last.ckpt", weights_only=True) for f in ("whole", "cut"))
    assert all(torch.equal(a["state_dict"][key], b["state_dict"][key]) for key in a["state_dict"])


def test_an_attended_run_by_names_learns_and_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from foveate.data.boxes import folder
    from foveate.train.running import train

    whole = scene_boxes()
    few = {"train": Some(whole.train, 16), "validation": Some(whole.validation, 4), "test": Some(whole.test, 4)}
    monkeypatch.setattr("foveate.train.kinds.detection.scene_boxes", lambda seed: _replaced(whole, few))
    assert folder.scene_boxes is scene_boxes
    settings = {"epochs": 2, "batch_size": 4, "size": 64, "score": 0.0}
    done = train(
        "detection",
        tmp_path / "run",
        host="foveate/fcos_mobilenet_v3_small_fpn",
        attention="eca",
        at="residual,neck",
        settings=settings,
        loggers=(),
    )
    losses = [row["train_loss"] for row in done.fitted.history]
    assert losses[1] < losses[0]
    assert {"map", "map_50", "map_75", "classes"} <= done.report["test"].keys()
    assert done.report["cost"]["attention_parameters"] > 0
    assert done.report["cost"]["macs"] > 1e6
    write_picture(tmp_path / "it.png", whole.test[0][0])
    said = predict(tmp_path / "run", [tmp_path / "it.png"], tmp_path / "said")
    one = said["images"]["it.png"]
    assert {"found", "things", "picture", "attention"} <= one.keys()
    assert one["attention_at"].startswith("backbone.fpn.layer_blocks.0")  # the finest of the neck
    assert (tmp_path / "said" / "it.png").is_file()
    assert json.loads((tmp_path / "said" / "predictions.json").read_text())["images"]["it.png"] == one


def _replaced(data: Any, splits: Any) -> Any:
    from dataclasses import replace

    return replace(data, **splits)


def test_the_usual_size_is_what_the_images_have() -> None:
    kind = kind_of("detection")
    assert kind.settled(scene_boxes(), DetectionOptions(), kind.host).size == 96
    assert kind.settled(scene_boxes(), DetectionOptions(size=64), kind.host).size == 64


def test_attention_is_laid_on_the_picture_and_not_on_the_padding() -> None:
    """The network sees 64×96 positions, of which 60×80 are the picture."""
    network = build_detector("foveate/fcos_resnet18_fpn", classes=4, size=60)[0].eval()
    heat = torch.zeros(16, 24)
    heat[:15, :20] = 1.0
    seen = unpadded(heat[None, None], network, torch.zeros(3, 120, 160, dtype=torch.uint8))[0]
    assert seen.shape == (60, 80)
    assert bool((seen[:58, :78] == 1).all())


@pytest.mark.parametrize(("name", "value"), [("zoom", 1.0), ("colours", -0.1)])
def test_numbers_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(OptionError, match=f"{name} must be from 0"):
        task(**{name: value})


def test_check_data_says_what_is_wrong_and_that_something_was_left_out(tmp_path: Path) -> None:
    content: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "thing"}]}
    for number in range(6):
        pixels, boxes = scene_boxes().train[number]
        write_picture(tmp_path / f"{number}.png", pixels)
        content["images"].append({"id": number, "file_name": f"{number}.png", "width": 96, "height": 96})
        left, top, right, bottom = boxes.boxes[0].tolist()
        box = [left, top, right - left, bottom - top]
        content["annotations"].append({"id": number, "image_id": number, "category_id": 1, "bbox": box})
    content["annotations"][1]["bbox"][2] = -3
    (tmp_path / "all.json").write_text(json.dumps(content))
    ran = CliRunner().invoke(app, ["check-data", "detection", str(tmp_path)])
    assert ran.exit_code == 1  # an image whose only box cannot be used is left out
    assert "dropped: 1 box" in ran.output
    assert "skipped: 1 file" in ran.output
