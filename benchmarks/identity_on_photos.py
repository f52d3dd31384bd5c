"""Does attaching attention change what a pretrained network says about photographs?

    uv run python benchmarks/identity_on_photos.py FOLDER [--out benchmarks/results/identity_on_photos.json]

FOLDER holds photographs whose names begin with their ImageNet class index (`0207_….jpg`). Every second photo of the
folder, at most 100, goes through torchvision's pretrained MobileNetV2: plain, with each mechanism started at identity
(outputs compared bit for bit), and with each started as its paper does. About four minutes on two cores.
"""

import argparse
import copy
import json
import re
from pathlib import Path

import torch
from PIL import Image
from torchvision.transforms import functional as transforms

import foveate
from foveate import hosts
from foveate.measure import Conditions

PLACES = {
    "its 10 residual additions": "residual",
    "all 17 blocks": re.compile(r"features\.([1-9]|1[0-7])"),
}
# over-complete masks of PSANet at 112×112 have 12,321 channels: 18 MB of logits a channel group, so few at a time
BATCH = 5


def load(path: Path) -> torch.Tensor:
    """One photo as the network was trained to see it."""
    image = transforms.center_crop(transforms.resize(Image.open(path).convert("RGB"), 256), 224)
    return transforms.normalize(transforms.to_tensor(image), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "identity_on_photos.json")
    arguments = parser.parse_args()
    paths = sorted(arguments.folder.glob("[0-9][0-9][0-9][0-9]_*.jpg"))[::2][:100]
    if not paths:
        parser.error(f"{arguments.folder} holds no photos named by class index")
    images = torch.stack([load(path) for path in paths])
    labels = torch.tensor([int(path.name[:4]) for path in paths])
    host = hosts.build("torchvision/mobilenet_v2", classes=1000, weights="pretrained").eval()

    def scores(model: torch.nn.Module) -> torch.Tensor:
        with torch.no_grad():
            return torch.cat([model(batch) for batch in images.split(BATCH)])

    def accuracy(out: torch.Tensor) -> float:
        return (out.argmax(1) == labels).double().mean().item()

    plain = scores(host)
    rows = []
    for name in foveate.names():
        for where, at in PLACES.items():
            row = {"attention": name, "places": where}
            for start in ("identity", "paper"):
                torch.manual_seed(0)
                out = scores(foveate.attach(copy.deepcopy(host), name, at=at, start=start, example=images[:1]))
                row[start] = {"accuracy": accuracy(out), "bit_identical": torch.equal(out, plain)}
            rows.append(row)
            print(json.dumps(row), flush=True)
    result = {
        "question": " ".join(__doc__.splitlines()[0].split()),
        "host": "torchvision/mobilenet_v2, IMAGENET1K_V1",
        "photos": len(paths),
        "plain_accuracy": accuracy(plain),
        "rows": rows,
        "conditions": Conditions.here().as_dict(),
    }
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
