"""Real maps on real photographs: each mechanism, trained for a moment inside a pretrained network."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import foveate
from foveate.attention import maps_of
from foveate.explain import AttentionMap, overlay, record
from foveate.fusion import GuidedGate, Pair
from foveate.registry import Spec, get

FOLDER = Path(__file__).parents[2] / "docs" / "mechanisms"
PLACE, CHANNELS = 13, 96  # of torchvision's MobileNetV2, where an image of 320×320 has a map of 20×20
LAST, LAST_CHANNELS = 17, 320  # its last block, of 10×10
SIDE, STEPS, BATCH = 320, 40, 16
MEAN, DEVIATION = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
MOST_HEADS = 3
_HOW = (
    f"trained for {STEPS} steps on 80 photographs with the network frozen: an illustration of what the map is, no "
    "evidence that it helps."
)
_SCALE = (
    "Colours are stretched, from dark to bright, over the values of each map by itself; its smallest and largest stand "
    "under it."
)
_CURVES = "Where channels are drawn as lines, blue is this photograph and grey the mean of both."
Draw = Callable[[Any, int], None]


def write(data: Path, only: list[str]) -> None:
    """Write `docs/mechanisms/<name>.jpg` for every mechanism.

    Args:
        data: A folder with `imagenet-sample/`, photographs whose names begin with their class; they are trained on and
            never shown. What is shown are photographs of scikit-image.
        only: Names; all mechanisms if there are none.
    """
    from torchvision.models import MobileNet_V2_Weights, mobilenet_v2

    model = mobilenet_v2(weights=MobileNet_V2_Weights.IMAGENET1K_V1).eval().requires_grad_(False)
    head, block, tail = model.features[:PLACE], model.features[PLACE], model.features[PLACE + 1 :]
    rest = nn.Sequential(tail, _Pool(), model.classifier)
    photographs, labels = _sample(data)
    shown = _shown()
    with torch.no_grad():
        before = torch.cat([head(batch) for batch in photographs.split(BATCH)])
        after = torch.cat([block(batch) for batch in before.split(BATCH)])
        shown_before = head(torch.stack([_normalised(image) for image in shown]))
        shown_after = block(shown_before)
    for name in only or foveate.names():
        torch.manual_seed(0)
        seated = _seated(name, block, model.features[PLACE + 1 : LAST + 1])
        _train(seated, rest, before if seated.meets else after, labels)
        seated.eval()
        few = 4 if get(name).kind() in ("kernel", "branch") else 2
        with torch.no_grad(), record(seated) as maps:
            seated((shown_before if seated.meets else shown_after)[:few])
        _draw(name, shown[:few], list(maps), maps.emphasis)
        print(name, flush=True)


def note(name: str) -> str:
    """What stands under the picture: how it came about."""
    found, size = get(name), f"{CHANNELS} channels, 20×20 positions"
    if found.protocol == "replacement":
        quick = _options(name)
        said = f" Its temperature fell to 1 within these steps (`steps={STEPS}`)." if quick else ""
        return (
            f"The convolution (3×3, {size}) of a residual branch that was added to a pretrained MobileNetV2 after its "
            f"thirteenth block, changing nothing at first, and {_HOW}{said} {_LEGEND[_drawn_as(name)]}"
        )
    if issubclass(found.build, GuidedGate):
        return (
            f"Put into a pretrained MobileNetV2 after its thirteenth block ({size}), guided by what the network's last "
            f"block ({LAST_CHANNELS} channels, 10×10) made of the same photograph without it; then the rest of the "
            f"network ran again on what it let through. It was {_HOW} {_SCALE}"
        )
    if found.protocol == "fusion":
        return (
            "Put in place of the addition of the thirteenth block of a pretrained MobileNetV2, where what the block "
            f"computed ({size}) meets its shortcut, and {_HOW} The weights are those of what the block computed; the "
            f"shortcut has the rest, up to 1. {_SCALE}"
        )
    return f"Put into a pretrained MobileNetV2 after its thirteenth block ({size}) and {_HOW} {_legend(name)}".strip()


_LEGEND = {
    "kernel": "Blue is this photograph; the grey mark is the mean of the four.",
    "branch": (
        "For every channel, the branches' shares from bottom to top; channels stand in the order of their first "
        "branch's mean share over the four photographs, so that what is ragged is what varies from image to image."
    ),
    "cells": (
        "How large the kernel is that each position makes for itself (root of the sum of squares, mean over groups), "
        "and the kernel of the position in the middle, mean over groups: red is positive, blue negative. Every picture "
        "has its own scale, written under it."
    ),
    "pairs": f"What the ringed position takes from every other, for the {MOST_HEADS} heads that vary most. {_SCALE}",
}


def _legend(name: str) -> str:
    """What is drawn for a mechanism of one map."""
    with torch.device("meta"):
        axes = [set(point.axes) for point in maps_of(Spec(name).create(CHANNELS, size=(20, 20))).values()]
    said = [_SCALE] if any(found & {"h", "w", "hw->hw"} for found in axes) else []
    return " ".join([*said, _CURVES] if {"c"} in axes else said)


def _drawn_as(name: str) -> str:
    kind = get(name).kind()
    if name in ("involution", "contextual_transformer"):
        return "cells"
    return kind if kind in ("kernel", "branch") else "pairs"


class _Pool(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(x, 1).flatten(1)


class _Seated(nn.Module):
    """A mechanism where it is to be looked at: from one map of the network to the one that goes on.

    ``meets`` is true where that takes the map before the block, not the one after.
    """

    meets = False

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x)

    def learning(self) -> nn.Module:
        """What is trained."""
        return self


class _Branch(_Seated):
    """A residual branch with one convolution's place; its norm starts at zero, and so does the branch."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__(attention)
        self.norm = nn.BatchNorm2d(CHANNELS)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.attention(x))


class _Meeting(_Seated):
    """A block whose shortcut meets what it computed."""

    meets = True

    def learning(self) -> nn.Module:
        return next(module for module in self.modules() if isinstance(module, Pair))


class _SecondLook(_Seated):
    """What is let through as a first look at the whole says."""

    def __init__(self, attention: nn.Module, onwards: nn.Module) -> None:
        super().__init__(attention)
        self.onwards = [onwards]  # not a child: it is frozen and stays as it is

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            guide = self.onwards[0](x)
        return self.attention(x, guide)


def _seated(name: str, block: nn.Module, onwards: nn.Module) -> _Seated:
    found, spec = get(name), Spec(name, _options(name))
    if found.protocol == "replacement":
        return _Branch(spec.create(CHANNELS, size=(20, 20)))
    if issubclass(found.build, GuidedGate):
        return _SecondLook(spec.create(CHANNELS, size=(20, 20), partner_channels=LAST_CHANNELS), onwards)
    if found.protocol == "fusion":
        network = nn.Sequential(deepcopy(block))
        return _Meeting(foveate.attach(network, spec, at="0", start="paper", example=torch.zeros(2, CHANNELS, 20, 20)))
    return _Seated(spec.create(CHANNELS, size=(20, 20)))


def _options(name: str) -> tuple[tuple[str, Any], ...]:
    """A temperature that falls over the first epochs of ImageNet falls over these steps instead."""
    replaced = get(name).protocol == "replacement"
    return (("steps", STEPS),) if replaced and "steps" in get(name).options else ()


def _train(seated: _Seated, rest: nn.Module, features: Tensor, labels: Tensor) -> None:
    learning = seated.eval().learning()
    parameters = list(learning.parameters())
    optimiser = torch.optim.AdamW(parameters, lr=3e-3) if parameters else None
    learning.train()
    for step in range(STEPS):
        chosen = torch.arange(step * BATCH, (step + 1) * BATCH) % len(features)
        loss = F.cross_entropy(rest(seated(features[chosen])), labels[chosen])
        if optimiser is not None:
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
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
    """Photographs of scikit-image: a cat and a cup of coffee (CC0), an astronaut and a rocket (public domain)."""
    from skimage import data as photographs
    from torchvision.transforms import functional as transforms

    images = [torch.from_numpy(photo.copy()).permute(2, 0, 1) for photo in _photographs(photographs)]
    return [transforms.center_crop(transforms.resize(image, [SIDE]), [SIDE, SIDE]) for image in images]


def _photographs(photographs: Any) -> list[Any]:
    return [photographs.chelsea(), photographs.astronaut(), photographs.coffee(), photographs.rocket()]


def _normalised(image: Tensor) -> Tensor:
    return (image.float() / 255 - MEAN[:, None, None]) / DEVIATION[:, None, None]


@dataclass(frozen=True)
class _Column:
    """One column of a picture: its title, and what draws the cell of an image."""

    title: str
    draw: Draw


def _draw(name: str, images: list[Tensor], maps: list[AttentionMap], emphasis: dict[str, Tensor]) -> None:
    from matplotlib.figure import Figure

    columns = [
        _Column("photograph", lambda cell, row: cell.imshow(images[row].permute(1, 2, 0))),
        *(column for found in _most_varied(maps) for column in _columns(found, images)),
    ]
    columns += [_Column("energy, in and out", _emphasis(images, heat)) for heat in list(emphasis.values())[:1]]
    side = 2.6 if len(images) == 2 else 1.9
    figure = Figure(figsize=(side * len(columns), (side + 0.2) * len(images)), dpi=72, layout="constrained")
    axes = figure.subplots(len(images), len(columns), squeeze=False)
    for column, (cells, drawn) in enumerate(zip(axes.T, columns, strict=True)):
        for row, cell in enumerate(cells):
            cell.set_xticks([])
            cell.set_yticks([])
            if row == 0:
                cell.set_title(drawn.title, fontsize=10 if side > 2 or not column else 9)
            drawn.draw(cell, row)
    figure.savefig(FOLDER / f"{name}.jpg", pil_kwargs={"quality": 80, "optimize": True})


def _emphasis(images: Sequence[Tensor], heat: Tensor) -> Draw:
    def draw(cell: Any, row: int) -> None:
        cell.imshow(overlay(images[row], heat[row], diverging=True).permute(1, 2, 0))

    return draw


def _most_varied(maps: list[AttentionMap]) -> list[AttentionMap]:
    """All maps; of many heads of an affinity those whose weights vary most."""
    if len(maps) <= MOST_HEADS or any(found.size is None for found in maps):
        return maps
    kept = sorted(maps, key=lambda found: -float(found.values.std()))[:MOST_HEADS]
    return [found for found in maps if found in kept]


def _columns(found: AttentionMap, images: list[Tensor]) -> Iterator[_Column]:
    values, axes = found.values, found.axes
    step = "" if "".join(axes) in _SAY_IT_ALL else re.sub(r"^maps\.(\d+)$", _numbered, found.step)

    def titled(what: str) -> str:
        return ": ".join(filter(None, (step, what)))

    if found.size is not None and len(found.size) == 2:
        yield _Column(titled("what the ring takes"), _over(images, _taken_by_the_centre(found), ringed=True))
    elif axes == ("group", "tap", "h", "w"):
        yield _Column(titled("size of the kernel"), _over(images, values.square().sum(2).sqrt().mean(1)))
        yield _Column(titled("kernel of the centre"), _kernels(values.mean(1)))
    elif set(axes) <= {"c", "h", "w"} and set(axes) & {"h", "w"}:
        heats = values.mean(1)
        heats = heats.expand(-1, max(heats.shape[1], 2), max(heats.shape[2], 2))
        yield _Column(titled(_WORDS["".join(axes)]), _over(images, heats))
    elif axes[-2:] == ("h", "w"):  # of several maps, the one that says most
        yield _Column(titled(_WORDS.get(axes[0], axes[0])), _most_telling(images, values.flatten(1, -3)))
    elif axes in (("c",), ("in",), ("out",)):
        yield _Column(titled(_WORDS[axes[0]]), _curves(values.flatten(1)))
    elif axes in (("kernel",), ("tap",)):
        yield _Column(titled(_WORDS[axes[0]]), _bars(values.flatten(1)))
    elif set(axes) == {"branch", "c"}:
        shares = values.flatten(2) if axes[0] == "branch" else values.flatten(2).mT
        yield _Column(titled("branches"), _shares(shares))
    else:
        what = " × ".join(_WORDS.get(axis, axis) for axis in axes)
        yield _Column(titled(what), _numbers(values, what))


_SAY_IT_ALL = ("in", "out", "tap", "kernel", "cbranch")
_WORDS = {
    "chw": "mean over channels",
    "hw": "positions",
    "ch": "rows",
    "cw": "columns",
    "h": "rows",
    "w": "columns",
    "c": "channels",
    "in": "input channels",
    "out": "output channels",
    "kernel": "kernels",
    "tap": "cells of the kernel",
    "c->c": "channels × channels",
    "slot": "one slot",
    "group": "one group",
    "branch": "one branch",
}


def _numbered(match: re.Match[str]) -> str:
    return f"number {int(match[1]) + 1}"


def _taken_by_the_centre(found: AttentionMap) -> Tensor:
    height, width = found.size or (0, 0)
    heats = found.at(height // 2, width // 2)
    return heats.flatten(1, -3).mean(1) if heats.dim() > 3 else heats


def _kernels(kernels: Tensor) -> Draw:
    """The kernel of the position in the middle, cell by cell: blue is negative, red positive."""
    side, (height, width) = int(kernels.shape[1] ** 0.5), kernels.shape[-2:]
    cells = kernels[:, :, height // 2, width // 2].unflatten(1, (side, side))

    def draw(cell: Any, row: int) -> None:
        own = cells[row]
        most = float(own.abs().max())
        cell.imshow(own, cmap="RdBu_r", vmin=-most, vmax=most)
        cell.set_xlabel(f"{float(own.min()):.2g} to {float(own.max()):.2g}", fontsize=8)

    return draw


def _over(images: Sequence[Tensor], heats: Tensor, *, ringed: bool = False) -> Draw:
    def draw(cell: Any, row: int) -> None:
        heat = heats[row]
        cell.imshow(overlay(images[row], heat).permute(1, 2, 0))
        cell.set_xlabel(f"{float(heat.min()):.3g} to {float(heat.max()):.3g}", fontsize=8)
        if ringed:
            (height, width), side = heat.shape, images[row].shape[-1]
            at = (side * (width // 2 + 0.5) / width, side * (height // 2 + 0.5) / height)
            cell.plot(*at, "o", markersize=9, markerfacecolor="none", markeredgecolor="white", markeredgewidth=1.5)

    return draw


def _most_telling(images: Sequence[Tensor], several: Tensor) -> Draw:
    def draw(cell: Any, row: int) -> None:
        chosen = int(several[row].flatten(1).std(1).argmax())
        _over(images, several[:, chosen])(cell, row)
        cell.set_xlabel(f"number {chosen} of {several.shape[1]}, {cell.get_xlabel()}", fontsize=8)

    return draw


def _curves(gates: Tensor) -> Draw:
    """Channels in the order of their mean over the images: what leaves the grey line varies from image to image."""
    mean = gates.mean(0)
    order = mean.argsort(descending=True)
    low, high = float(gates.min()), float(gates.max())

    def draw(cell: Any, row: int) -> None:
        cell.plot(mean[order], color="#b0b0b0", linewidth=3)
        cell.plot(gates[row][order], color="#31688e", linewidth=1)
        if high > low:
            cell.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
        cell.set_xlabel("in the order of the grey mean", fontsize=8)
        _ends(cell, low, high)

    return draw


def _bars(weights: Tensor) -> Draw:
    mean, low, high = weights.mean(0), min(0.0, float(weights.min())), float(weights.max())

    def draw(cell: Any, row: int) -> None:
        places = range(weights.shape[1])
        cell.bar(places, weights[row], width=0.75, color="#31688e")
        cell.hlines(mean, [place - 0.45 for place in places], [place + 0.45 for place in places], color="#909090")
        cell.set_ylim(low, high * 1.08)
        spread = float((weights[row] - mean).abs().max())
        cell.set_xlabel(f"up to {spread:.1g} from the mean", fontsize=8)
        _ends(cell, low, high)

    return draw


def _shares(shares: Tensor) -> Draw:
    """``(image, branch, channel)`` as layers."""
    shares = shares / shares.sum(1, keepdim=True)
    order = shares[:, 0].mean(0).argsort(descending=True)
    colours = ("#31688e", "#35b779", "#fde725", "#443983")

    def draw(cell: Any, row: int) -> None:
        cell.stackplot(range(shares.shape[2]), shares[row][:, order].numpy(), colors=colours)
        cell.set_xlim(0, shares.shape[2] - 1)
        cell.set_ylim(0, 1)
        cell.set_xlabel("channels", fontsize=8)
        _ends(cell, 0.0, 1.0)

    return draw


def _numbers(values: Tensor, words: str) -> Draw:
    def draw(cell: Any, row: int) -> None:
        cell.imshow(values[row].reshape(values.shape[1], -1), cmap="viridis", aspect="auto")
        cell.set_xlabel(words, fontsize=8)

    return draw


def _ends(cell: Any, low: float, high: float) -> None:
    cell.set_yticks(
        [low, high] if high > low else [low], [f"{low:.3g}", f"{high:.3g}"] if high > low else [f"{low:.3g}"]
    )
    cell.tick_params(labelsize=7)
