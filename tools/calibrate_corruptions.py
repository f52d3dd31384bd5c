"""Set the strengths of foveate-C by what they cost two published networks, and print the tables.

    uv run python tools/calibrate_corruptions.py 32 DATA/cifar10-jpeg/test.npz DATA/cifar10-resnets/resnet20.safetensors
    uv run python tools/calibrate_corruptions.py 224 DATA/imagenet-sample MOBILENET.pth

For each corruption amounts from mild to strong are tried, in equal factors from one end of :data:`TRIED` to the other,
until the accuracy has fallen below the last of :data:`KEPT` of what it is on clean images. The amount for each strength
is read off between them on a logarithmic scale; an accuracy that rises again counts as the lowest before. Where the far
end leaves more than a strength should, the strengths from there on go to the far end in equal factors. Amounts are
rounded to two digits, levels to whole ones. Corruptions may be named at the end; all are measured otherwise.

What was printed stands in ``foveate/data/corruptions/table.py``: CIFAR-10's JPEG test set, images whose number ends in
5 or 6, with the ResNet-20 trained on the original; 250 photographs of ImageNet's classes with torchvision's
MobileNetV2.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from foveate.data.chance import generator
from foveate.data.corruptions.table import CORRUPTIONS
from foveate.data.decode import decode

KEPT = (0.9, 0.8, 0.7, 0.55, 0.4)
POINTS = 14
# the mildest and the strongest amount at 32 and at 224 pixels
TRIED: dict[str, dict[int, tuple[float, float]]] = {
    "gaussian_noise": {32: (0.005, 0.3), 224: (0.02, 1.0)},
    "shot_noise": {32: (0.01, 0.5), 224: (0.04, 2.0)},
    "impulse_noise": {32: (0.001, 0.4), 224: (0.001, 0.7)},
    "speckle_noise": {32: (0.02, 1.0), 224: (0.08, 3.0)},
    "gaussian_blur": {32: (0.3, 2.0), 224: (0.6, 10.0)},
    "defocus_blur": {32: (0.4, 3.0), 224: (1.0, 16.0)},
    "motion_blur": {32: (1.0, 14.0), 224: (3.0, 90.0)},
    "zoom_blur": {32: (0.02, 0.5), 224: (0.01, 0.5)},
    "fog": {32: (0.1, 3.0), 224: (0.1, 3.0)},
    "snow": {32: (0.003, 0.5), 224: (0.003, 0.5)},
    "brightness": {32: (0.1, 0.7), 224: (0.1, 0.7)},
    "spatter": {32: (0.005, 0.5), 224: (0.005, 0.5)},
    "contrast": {32: (0.8, 0.05), 224: (0.8, 0.05)},
    "jpeg": {32: (0.1, 10.0), 224: (0.5, 30.0)},
    "pixelate": {32: (0.98, 0.2), 224: (0.98, 0.07)},
    "quantise": {32: (16.0, 2.0), 224: (16.0, 2.0)},
}


def small(data: Path, weights: Path) -> tuple[list[Tensor], list[int], torch.nn.Module]:
    """CIFAR-10's test images that set the strengths, and the published ResNet-20."""
    import numpy as np
    from PIL import Image

    from foveate.hosts import build

    packed = np.load(data, allow_pickle=False)
    offset, label = packed["offset"], packed["label"]
    numbers = [number for number in range(len(label)) if number % 10 in (5, 6)]
    images: list[Tensor] = []
    for number in numbers:
        with Image.open(io.BytesIO(packed["jpeg"][offset[number] : offset[number + 1]].tobytes())) as file:
            images.append(torch.from_numpy(np.array(file.convert("RGB"))).movedim(-1, 0))
    return images, label[numbers].tolist(), build("foveate/resnet20", classes=10, weights=weights)


def large(data: Path, weights: Path) -> tuple[list[Tensor], list[int], torch.nn.Module]:
    """Photographs of ImageNet's classes, and torchvision's MobileNetV2."""
    from torchvision.models import mobilenet_v2

    paths = sorted(data.glob("*.jpg"))
    network = mobilenet_v2()
    network.load_state_dict(torch.load(weights, weights_only=True))
    return [decode(path, 224).pixels for path in paths], [int(path.name[:4]) for path in paths], network


def accuracy_with(images: list[Tensor], labels: list[int], network: torch.nn.Module) -> Callable[..., float]:
    """What measures the accuracy on changed images."""
    from foveate.train.pixels import Normalise

    normalise = Normalise.usual(3)
    network.eval()

    def accuracy(change: Callable[[Tensor, int], Tensor]) -> float:
        right = 0
        for start in range(0, len(images), 50):
            batch = torch.stack([change(one, start + n) for n, one in enumerate(images[start : start + 50])])
            with torch.no_grad():
                said = network(normalise(batch)).argmax(1)
            right += int((said == torch.tensor(labels[start : start + 50])).sum())
        return right / len(images)

    return accuracy


def amounts_at(tried: list[float], kept: list[float]) -> list[float]:
    """The amount for each of :data:`KEPT`."""
    found: list[float] = []
    lowest = [min([1.0, *kept[: n + 1]]) for n in range(len(kept))]
    for goal in KEPT:
        after = next((n for n, value in enumerate(lowest) if value <= goal), None)
        if after is None:
            break
        if after == 0:
            found.append(tried[0])
            continue
        high, low = lowest[after - 1], lowest[after]
        along = (high - goal) / (high - low)
        found.append(tried[after - 1] * (tried[after] / tried[after - 1]) ** along)
    missing = len(KEPT) - len(found)
    last = found[-1] if found else tried[0]
    return found + [last * (tried[-1] / last) ** ((n + 1) / missing) for n in range(missing)]


def main(side: int, data: Path, weights: Path, *names: str) -> None:
    """Print what was measured, and the amounts: of all corruptions, or of those that are named."""
    torch.set_num_threads(1)
    images, labels, network = (small if side == 32 else large)(data, weights)
    accuracy = accuracy_with(images, labels, network)
    clean = accuracy(lambda image, number: image)  # noqa: ARG005
    print(f"clean {clean:.3f} of {len(images)}", flush=True)
    for name in names or CORRUPTIONS:
        corruption = CORRUPTIONS[name]
        low, high = TRIED[name][side]
        tried, kept = list[float](), list[float]()
        for step in range(POINTS):
            amount = low * (high / low) ** (step / (POINTS - 1))

            def change(image: Tensor, number: int, amount: float = amount, how: object = corruption.change) -> Tensor:
                draw = generator("calibration", number, corruption.name)  # noqa: B023
                changed = how(image.float() / 255, amount, draw)  # type: ignore[operator]
                return (changed.clamp(0, 1) * 255).round().to(torch.uint8)

            tried.append(amount)
            kept.append(accuracy(change) / clean)
            if kept[-1] < KEPT[-1]:
                break
        shown = ", ".join(f"{float(f'{one:.2g}'):g}" for one in amounts_at([*tried], kept))
        path = " ".join(f"{amount:.2g}:{share:.2f}" for amount, share in zip(tried, kept, strict=True))
        reached = "" if min(kept) <= KEPT[-1] else "  (the end is not reached)"
        print(f"{name}: ({shown}){reached}\n    {path}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:])
