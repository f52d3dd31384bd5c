"""Is attention that was put into a trained network, trained, saved and loaded somewhere else still the same?

    uv run python benchmarks/attach_train_save.py DATA [--out benchmarks/results/attach_train_save.json]

DATA holds `imagenet-sample/` (photographs whose names begin with their ImageNet class index), `bccd/` (blood cells in
VOC layout) and `dsb2018-nuclei/` (microscope pictures and instance masks). Three networks that begin with
torchvision's pretrained MobileNetV2 (its checkpoint must be in the hub folder of `$TORCH_HOME`) are attended with
CBAM, trained for a moment, and saved; another process builds each host anew and loads what was saved:

- MobileNetV2, a classifier, trained whole, and once more with its host frozen;
- torchvision's Faster R-CNN with a feature pyramid, attended in the backbone and at the pyramid's levels;
- a U-Net of segmentation-models-pytorch, attended at its skips.

What is compared is bits. The accuracies only show that something was learned; they are no claim. About ten minutes on
two cores.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import segmentation_models_pytorch as smp
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torchvision.models import MobileNet_V2_Weights, mobilenet_v2
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import mobilenet_backbone
from torchvision.ops import MultiScaleRoIAlign, box_iou
from torchvision.transforms import functional as transforms

import foveate
from foveate.errors import FoveateError
from foveate.measure import Conditions, count_parameters

WEIGHTS = MobileNet_V2_Weights.IMAGENET1K_V1
MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
Batch = tuple[Any, Any]


def classifier() -> nn.Module:
    """MobileNetV2 as it was published."""
    return mobilenet_v2(weights=WEIGHTS)


def detector() -> nn.Module:
    """Faster R-CNN on a pretrained backbone; pyramid and head are new."""
    backbone = mobilenet_backbone(
        backbone_name="mobilenet_v2", fpn=True, weights=WEIGHTS, trainable_layers=6, returned_layers=[2, 3, 5]
    )
    anchors = AnchorGenerator(((16,), (32,), (64,), (128,)), ((0.5, 1.0, 2.0),) * 4)
    pool = MultiScaleRoIAlign(["0", "1", "2"], 7, 2)
    sizes = {"min_size": 240, "max_size": 320}
    return FasterRCNN(backbone, 4, rpn_anchor_generator=anchors, box_roi_pool=pool, **sizes)


def unet() -> nn.Module:
    """A U-Net on a pretrained encoder; the decoder is new."""
    model = smp.Unet("mobilenet_v2", encoder_weights=None, classes=1)
    trained = mobilenet_v2(weights=WEIGHTS).state_dict()
    model.encoder.load_state_dict({key: value for key, value in trained.items() if key.startswith("features")})
    return model


def photos(data: Path) -> tuple[list[Batch], list[Batch]]:
    """Photographs of ImageNet: every fifth is kept for looking at afterwards."""
    paths = sorted((data / "imagenet-sample").glob("[0-9]*.jpg"))
    items = []
    for path in paths:
        image = transforms.center_crop(Image.open(path).convert("RGB"), 192)
        items.append((transforms.normalize(transforms.to_tensor(image), MEAN, DEVIATION), int(path.name[:4])))
    kept, shown = items[::5], [item for number, item in enumerate(items) if number % 5]
    return _batches(shown, 16), _batches(kept, 25)


def cells(data: Path) -> tuple[list[Batch], list[Batch]]:
    """Blood cells and their boxes; those that lie outside the picture are clipped or dropped."""
    names = {"RBC": 1, "WBC": 2, "Platelets": 3}

    def read(split: str, count: int) -> list[Batch]:
        items = []
        for name in (data / "bccd/ImageSets/Main" / f"{split}.txt").read_text().split()[:count]:
            image = transforms.to_tensor(Image.open(data / "bccd/JPEGImages" / f"{name}.jpg").convert("RGB"))
            boxes, labels = [], []
            for thing in ElementTree.parse(data / "bccd/Annotations" / f"{name}.xml").iter("object"):  # noqa: S314
                sides = [float(thing.findtext(f"bndbox/{side}", "0")) for side in ("xmin", "ymin", "xmax", "ymax")]
                left, top, right, bottom = (
                    min(max(side, 0), limit) for side, limit in zip(sides, (640, 480) * 2, strict=True)
                )
                if right > left and bottom > top:
                    boxes.append([left, top, right, bottom])
                    labels.append(names[thing.findtext("name", "")])
            items.append((image, {"boxes": torch.tensor(boxes), "labels": torch.tensor(labels)}))
        return [
            (list(pictures), list(targets))
            for pictures, targets in (zip(*items[i : i + 4], strict=True) for i in range(0, len(items), 4))
        ]

    return read("train", 64), read("test", 8)


def nuclei(data: Path) -> tuple[list[Batch], list[Batch]]:
    """Microscope pictures and where any nucleus is."""
    items = []
    for path in sorted((data / "dsb2018-nuclei/images").glob("*.png"))[:120]:
        label = next((data / "dsb2018-nuclei/labels").glob(f"{path.stem}*"))
        image = Image.open(path).convert("RGB").resize((192, 192))
        mask = Image.open(label).resize((192, 192), Image.Resampling.NEAREST)
        inside = (transforms.pil_to_tensor(mask).int() > 0).float()  # the masks have sixteen bits
        items.append((transforms.normalize(transforms.to_tensor(image), MEAN, DEVIATION), inside))
    kept, shown = items[::6], [item for number, item in enumerate(items) if number % 6]
    return _batches(shown, 10), _batches(kept, 20)


def _batches(items: list[Any], size: int) -> list[Batch]:
    return [
        (
            torch.stack([x for x, _ in items[i : i + size]]),
            torch.stack([torch.as_tensor(y) for _, y in items[i : i + size]]),
        )
        for i in range(0, len(items), size)
    ]


def class_loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Cross entropy."""
    return F.cross_entropy(model(batch[0]), batch[1])


def box_loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    """The sum of the detector's own losses."""
    return torch.stack(list(model(*batch).values())).sum()


def mask_loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Cross entropy of each position."""
    return F.binary_cross_entropy_with_logits(model(batch[0]), batch[1])


def answers(model: nn.Module, kept: list[Batch]) -> list[Any]:
    """What the network says about the pictures that were kept."""
    model.eval()
    with torch.no_grad():
        return [model(x) for x, _ in kept]


def accuracy(said: list[Any], kept: list[Batch]) -> float:
    """The share of photographs whose class was found."""
    right = torch.cat([out.argmax(1) == y for out, (_, y) in zip(said, kept, strict=True)])
    return right.double().mean().item()


def overlap(said: list[Any], kept: list[Batch]) -> float:
    """Intersection over union of all nuclei."""
    out, mask = torch.cat([s > 0 for s in said]), torch.cat([y > 0 for _, y in kept])
    return ((out & mask).sum() / (out | mask).sum()).item()


def found(said: list[Any], kept: list[Batch]) -> float:
    """The share of cells that a box of score above a half overlaps by half or more."""
    hits, total = 0, 0
    for outs, (_, targets) in zip(said, kept, strict=True):
        for out, target in zip(outs, targets, strict=True):
            boxes = out["boxes"][out["scores"] > 0.5]
            hits += int((box_iou(target["boxes"], boxes).amax(1) > 0.5).sum()) if len(boxes) else 0
            total += len(target["boxes"])
    return hits / total


PHOTOS: dict[str, Any] = {"host": classifier, "data": photos, "loss": class_loss, "score": accuracy, "at": "residual"}
CASES: dict[str, dict[str, Any]] = {
    "classifier": {**PHOTOS, "steps": 12, "lr": 1e-4},
    "classifier, host frozen": {**PHOTOS, "steps": 12, "lr": 1e-4, "frozen": True},
    "detector": {
        "host": detector,
        "data": cells,
        "loss": box_loss,
        "score": found,
        "at": ["residual", "neck"],
        "steps": 40,
        "lr": 1e-3,
        "example": [torch.zeros(3, 240, 320)],
    },
    "segmentation": {
        "host": unet,
        "data": nuclei,
        "loss": mask_loss,
        "score": overlap,
        "at": "skip",
        "steps": 30,
        "lr": 1e-3,
        "example": torch.zeros(1, 3, 192, 192),
    },
}


def train(name: str, data: Path, folder: Path) -> dict[str, Any]:
    """Attach, train, save; what was seen on the way."""
    case = CASES[name]
    torch.manual_seed(0)
    model: nn.Module = case["host"]()
    shown, kept = case["data"](data)
    original = {key: value.clone() for key, value in model.state_dict().items()}
    plain = answers(model, kept)
    foveate.attach(model, "cbam", at=case["at"], example=case.get("example"))
    identical = same(answers(model, kept), plain)
    frozen = case.get("frozen", False)
    if frozen:
        foveate.freeze_host(model, norms=True)
    groups = foveate.parameter_groups(model, lr=case["lr"], attention_lr=10 * case["lr"], weight_decay=1e-4)
    optimiser = torch.optim.AdamW(groups)
    losses, start = [], time.perf_counter()
    for step in range(case["steps"]):
        model.train()
        loss = case["loss"](model, shown[step % len(shown)])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    seconds = time.perf_counter() - start
    said = answers(model, kept)
    saved = foveate.save(model, folder / "adapter")
    torch.save(said, folder / "said.pt")
    moved = sum(not torch.equal(value, original[key]) for key, value in model.state_dict().items() if key in original)
    status = foveate.status(model).attachments[0]
    return {
        "network": name,
        "places": len(status.places),
        "parameters": {"host": count_parameters(case["host"]()), "attention": status.parameters},
        "identical when attached": identical,
        "steps": case["steps"],
        "seconds": round(seconds, 1),
        "loss": {"first three": sum(losses[:3]) / 3, "last three": sum(losses[-3:]) / 3},
        "score before": case["score"](plain, kept),
        "score after": case["score"](said, kept),
        "blend": {"smallest": status.blend.smallest, "largest": status.blend.largest} if status.blend else None,
        "host tensors": {"all": len(original), "changed by training": moved},
        "bytes": {file.name: file.stat().st_size for file in sorted(saved.iterdir())},
    }


def verify(name: str, data: Path, folder: Path) -> dict[str, Any]:
    """In a process of its own: a fresh host, what was saved, and the same answers or not."""
    case = CASES[name]
    torch.manual_seed(1)  # another beginning of what is new in the host
    model: nn.Module = case["host"]()
    _, kept = case["data"](data)
    foveate.load(model, folder / "adapter")
    said = torch.load(folder / "said.pt", weights_only=True)
    equal = same(answers(model, kept), said)
    foveate.detach(model)
    wrong = nn.Sequential(nn.Conv2d(3, 8, 3))
    try:
        foveate.load(wrong, folder / "adapter")
        refusal = "none"
    except FoveateError as error:
        refusal = str(error)
    return {"identical in another process": equal, "on the wrong host": refusal.splitlines()[0][:200]}


def same(one: Any, other: Any) -> bool:
    """Whether two nests of tensors are equal bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "attach_train_save.json")
    parser.add_argument("--only", choices=list(CASES), action="append")
    parser.add_argument("--verify", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.verify:
        print(json.dumps(verify(arguments.verify[0], arguments.data, Path(arguments.verify[1]))))
        return
    rows = []
    for name in arguments.only or CASES:
        with tempfile.TemporaryDirectory() as folder:
            row = train(name, arguments.data, Path(folder))
            command = [sys.executable, __file__, str(arguments.data), "--verify", name, folder]
            done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
            rows.append(row | json.loads(done.stdout.splitlines()[-1]))
        print(json.dumps(rows[-1], indent=2))
    if arguments.out.exists():  # of another run with --only
        before = json.loads(arguments.out.read_text())["rows"]
        names = [row["network"] for row in rows]
        rows = sorted(
            [row for row in before if row["network"] not in names] + rows, key=lambda r: [*CASES].index(r["network"])
        )
    result = {"question": __doc__.splitlines()[0], "rows": rows, "conditions": Conditions.here().as_dict()}
    arguments.out.parent.mkdir(exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
