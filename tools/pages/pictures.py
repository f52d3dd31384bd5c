"""Real maps on real photographs: each mechanism, trained for a moment inside a pretrained network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import foveate
from foveate.attention import Attention
from foveate.explain import AttentionMap, overlay, record
from foveate.registry import Spec, get

FOLDER = Path(__file__).parents[2] / "docs" / "mechanisms"
PLACE, CHANNELS = 13, 96  # of torchvision's MobileNetV2, where an image of 320×320 has a map of 20×20
SIDE, STEPS, BATCH = 320, 40, 16
MEAN, DEVIATION = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def write(data: Path, only: list[str]) -> None:
    """Write `docs/mechanisms/<name>.jpg` for every mechanism that keeps a feature map's shape.

    Args:
        data: A folder with `imagenet-sample/`, photographs whose names begin with their class; they are trained on and
            never shown. What is shown are photographs of scikit-image.
        only: Names; all mechanisms if there are none.
    """
    from torchvision.models import MobileNet_V2_Weights, mobilenet_v2

    model = mobilenet_v2(weights=MobileNet_V2_Weights.IMAGENET1K_V1).eval().requires_grad_(False)
    head, tail = model.features[: PLACE + 1], model.features[PLACE + 1 :]
    photographs, labels = _sample(data)
    with torch.no_grad():
        features = torch.cat([head(batch) for batch in photographs.split(BATCH)])
        shown = _shown()
        looked_at = head(torch.stack([_normalised(image) for image in shown]))
    for name in only or foveate.names():
        if not issubclass(get(name).build, Attention):
            continue
        torch.manual_seed(0)
        attention = Spec(name).create(CHANNELS, size=tuple(features.shape[2:]))
        _train(attention, nn.Sequential(tail, _Pool(), model.classifier), features, labels)
        attention.eval()
        with torch.no_grad(), record(attention) as maps:
            attention(looked_at)
        _draw(name, shown, list(maps), maps.emphasis)
        print(name, flush=True)


class _Pool(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(x, 1).flatten(1)


def _train(attention: nn.Module, rest: nn.Module, features: Tensor, labels: Tensor) -> None:
    optimiser = torch.optim.AdamW(attention.parameters(), lr=3e-3) if list(attention.parameters()) else None
    attention.train()
    for step in range(STEPS):
        chosen = torch.arange(step * BATCH, (step + 1) * BATCH) % len(features)
        loss = F.cross_entropy(rest(attention(features[chosen])), labels[chosen])
        if optimiser is not None:
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(attention.parameters(), 1.0)
            optimiser.step()


def _sample(data: Path) -> tuple[Tensor, Tensor]:
    from PIL import Image
    from torchvision.transforms import functional as transforms

    paths = sorted((data / "imagenet-sample").glob("[0-9]*.jpg"))
    kept = [path for number, path in enumerate(paths) if number % 5]
    images = [transforms.pil_to_tensor(Image.open(path).convert("RGB")) for path in kept]
    squares = [transforms.center_crop(transforms.resize(image, [SIDE]), [SIDE, SIDE]) for image in images]
    return torch.stack([_normalised(image) for image in squares]), torch.tensor([int(path.name[:4]) for path in kept])


def _shown() -> list[Tensor]:
    """Photographs that scikit-image brings: a cat (CC0) and an astronaut (public domain)."""
    from skimage import data as photographs
    from torchvision.transforms import functional as transforms

    images = [torch.from_numpy(photo.copy()).permute(2, 0, 1) for photo in _photographs(photographs)]
    return [transforms.center_crop(transforms.resize(image, [SIDE]), [SIDE, SIDE]) for image in images]


def _photographs(photographs: Any) -> list[Any]:
    return [photographs.chelsea(), photographs.astronaut()]


def _normalised(image: Tensor) -> Tensor:
    return (image.float() / 255 - MEAN[:, None, None]) / DEVIATION[:, None, None]


def _draw(name: str, images: list[Tensor], maps: list[AttentionMap], emphasis: dict[str, Tensor]) -> None:
    from matplotlib.figure import Figure

    columns = [("photograph", None), *((_title(found), found) for found in maps)]
    if emphasis:
        columns.append(("energy, in and out", None))
    figure = Figure(figsize=(2.6 * len(columns), 2.75 * len(images)), dpi=72, layout="constrained")
    axes = figure.subplots(len(images), len(columns), squeeze=False)
    for row, image in enumerate(images):
        for column, (title, found) in enumerate(columns):
            cell = axes[row, column]
            cell.set_xticks([])
            cell.set_yticks([])
            if row == 0:
                cell.set_title(title, fontsize=10)
            if found is not None:
                _draw_map(cell, image, found, row)
            elif column == 0:
                cell.imshow(image.permute(1, 2, 0))
            else:
                heat = next(iter(emphasis.values()))[row]
                cell.imshow(overlay(image, heat, diverging=True).permute(1, 2, 0))
    figure.savefig(FOLDER / f"{name}.jpg", pil_kwargs={"quality": 80, "optimize": True})


def _title(found: AttentionMap) -> str:
    what = "from the centre" if found.size is not None and len(found.size) == 2 else ", ".join(found.axes)
    return ": ".join(filter(None, (found.step, what)))


def _draw_map(cell: Any, image: Tensor, found: AttentionMap, row: int) -> None:
    """Positions over the photograph; anything else as a picture of its numbers."""
    values, axes = found.values[row], set(found.axes)
    if found.size is not None and len(found.size) == 2:
        height, width = found.size
        heat = values.flatten(0, -3).mean(0) if values.dim() > 2 else values
        heat = heat[:, (height // 2) * width + width // 2].reshape(height, width)
        cell.imshow(overlay(image, heat).permute(1, 2, 0))
    elif axes <= {"c", "h", "w"} and axes & {"h", "w"}:
        heat = values.mean(0)
        cell.imshow(overlay(image, heat.expand(max(heat.shape[0], 2), max(heat.shape[1], 2))).permute(1, 2, 0))
    elif axes == {"c"}:
        low, high = float(values.min()), float(values.max())
        cell.plot(values.flatten().sort(descending=True).values, color="#31688e")
        cell.set_xlabel("channels, sorted", fontsize=8)
        cell.set_yticks(
            [low, high] if high > low else [low], [f"{low:.3g}", f"{high:.3g}"] if high > low else [f"{low:.3g}"]
        )
        cell.tick_params(labelsize=7)
    elif found.axes[-2:] == ("h", "w"):  # of several maps, the one that says most
        several = values.flatten(0, -3)
        chosen = int(several.flatten(1).std(1).argmax())
        cell.imshow(overlay(image, several[chosen]).permute(1, 2, 0))
        cell.set_xlabel(f"number {chosen} of {len(several)}", fontsize=8)
    else:
        cell.imshow(values.reshape(values.shape[0], -1), cmap="viridis", aspect="auto")
        cell.set_xlabel(" × ".join(found.axes), fontsize=8)
