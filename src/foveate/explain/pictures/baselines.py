"""Attention beside Grad-CAM and its kin: what was done to the features, and what speaks for an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.data.masks.segmentation import IGNORE
from foveate.errors import OptionError
from foveate.explain.activation import class_activation, target_layer
from foveate.explain.at_rest import at_rest
from foveate.explain.heat import heat, heats, spread
from foveate.explain.overlay import Scale, overlay, scale_of
from foveate.explain.pictures.heatmaps import Image, check_image, heatmaps
from foveate.explain.pictures.numbers import number
from foveate.explain.pictures.page import Panel, below, tile_width, tiles
from foveate.explain.pictures.panels import ColourBar, Pixels, fitted
from foveate.explain.pictures.picture import SHARPNESS, Picture, said
from foveate.explain.pictures.positions import range_of
from foveate.explain.pictures.telling import constant, joined
from foveate.explain.record import record
from foveate.explain.scores import Score, answers, class_logit
from foveate.explain.trust.similarity import rank_correlation

NAMES = {
    "gradcam": "Grad-CAM",
    "gradcam++": "Grad-CAM++",
    "hirescam": "HiResCAM",
    "xgradcam": "XGrad-CAM",
    "layercam": "LayerCAM",
    "eigengradcam": "Eigen-Grad-CAM",
    "eigencam": "Eigen-CAM",
    "scorecam": "Score-CAM",
}
USUAL = ("gradcam", "hirescam", "layercam", "eigencam")


def beside(
    network: nn.Module,
    image: Image,
    target: Any = None,
    *,
    inputs: Float[Tensor, "1 c h w"],
    methods: Sequence[str] = USUAL,
    score: Score = class_logit,
    place: str | None = None,
    layer: str | None = None,
    classes: Sequence[str] = (),
    prediction: object = None,
    label: object = None,
) -> Picture:
    """What attention did to the positions of an image, beside class activation maps of the same answer.

    Args:
        network: With attention, from images to answers.
        image: What is shown, in bytes.
        target: What is asked: a class, a mask, or a box and its label, as the score wants it; the class that the image
            is taken for, if ``None``.
        inputs: The image as the network takes it.
        methods: Of :data:`~foveate.explain.activation.METHODS`.
        score: Whose evidence, as for :func:`~foveate.explain.activation.class_activation`.
        place: Which attention; the last, nearest to the answer, if ``None``.
        layer: Whose output the class activation maps weigh; chosen for you, if ``None``.
        classes: Names of the classes, as the network numbers them.
        prediction: What the network said, in words; of classes told from its answer, if ``None``.
        label: What the image is.

    Raises:
        OptionError: If the image or the target does not fit, or a method does not exist.
        FoveateError: If the network has no attention, or none with a map of positions.
        MissingExtraError: If grad-cam is not installed.

    Example:
        >>> from foveate import attach, hosts
        >>> model = attach(hosts.build("foveate/resnet8", classes=10), "cbam", start="paper")
        >>> pixels = torch.zeros(3, 32, 32, dtype=torch.uint8)
        >>> picture = beside(model, pixels, 3, inputs=torch.randn(1, 3, 32, 32), methods=["gradcam"])
        >>> [one.panel.name for one in picture.panels if hasattr(one.panel, "name")]
        ['image', 'attention', 'Grad-CAM']
    """
    check_image(image)
    if inputs.ndim != 4 or len(inputs) != 1:
        raise OptionError(f"inputs are one image, (1, channels, height, width), not {tuple(inputs.shape)}")
    with at_rest(network) as quiet, record(quiet) as maps:
        [answer] = answers(quiet, inputs)
    if score is class_logit and isinstance(answer, Tensor) and answer.ndim == 1:
        shares = answer.float().softmax(0)
        target = int(shares.argmax()) if target is None else target
        prediction = prediction or f"{_class(int(shares.argmax()), classes)} ({float(shares.max()):.2f})"
    attention = heat(maps, place)[0].cpu().float()
    found = heats(maps)
    chosen = list(found.maps)[-1] if place is None else place
    size = (int(inputs.shape[2]), int(inputs.shape[3]))
    asked = None if target is None else [target]
    cams = {
        method: class_activation(network, inputs, asked, method=method, layer=layer, score=score)[0]
        for method in methods
    }
    own = spread([attention], size)[0]
    names = ["attention", *(NAMES[method] for method in methods)]
    notes = [range_of(attention), *(_agreement(cam, own) for cam in cams.values())]
    columns = 3
    panels = _shown(image, target, columns)
    ranged = [_stretched(one) for one in (attention, *cams.values())]
    panels += heatmaps(image, ranged, Scale(0.0, 1.0), names=names, notes=notes, columns=columns, picture=False)
    with at_rest(network) as quiet:
        weighed = layer or target_layer(quiet, inputs)
    what = "by which factor it changed each position's share of the feature energy" if found.changed else (
        "how much all positions take from each"
    )  # fmt: skip
    level = [name for name, one in zip(names, (attention, *cams.values()), strict=True) if constant(one)]
    caption = joined(
        f"Attention at {chosen}: {what}; what was done to the features, not why the network decided. Beside it, what "
        f"speaks for {_asked(target, classes)} in the output of {weighed}.",
        "Each map runs over its own values, from lowest to highest: where can be compared, how much cannot. ρ is the "
        "rank correlation of a map with attention.",
        "Eigen-CAM is the same for every answer." if "eigencam" in methods else "",
        f"The same everywhere: {', '.join(level)}." if level else "",
    )
    bar = ColourBar(Scale(0.0, 1.0), "from the lowest (0) to the highest (1) value of each map")
    title, told = "Attention beside class activation", said(prediction, label)
    heard = "; ".join(f"{name} {note}" for name, note in zip(names, notes, strict=True))
    alt = ". ".join(part for part in (title, heard, told) if part)
    return Picture(title, caption, alt, told, below(tiles(panels, columns), tiles([bar], 1)))


def _shown(image: Image, target: Any, columns: int) -> list[Panel]:
    """The image, with what is asked of it marked."""
    width = tile_width(columns)
    height = max(1, round(width * image.shape[1] / image.shape[2]))
    pixels = fitted(image, SHARPNESS * width, SHARPNESS * height)
    frame = ()
    if isinstance(target, Tensor) and target.ndim == 2:
        pixels = overlay(pixels, ((target > 0) & (target != IGNORE)).float(), alpha=0.5, scale=Scale(0.0, 1.0))
    elif isinstance(target, tuple):
        box, _ = target
        across, down = image.shape[2], image.shape[1]
        left, top, right, bottom = (float(edge) for edge in box)
        frame = (left / across, top / down, right / across, bottom / down)
    return [
        Pixels(
            pixels,
            width,
            "image" if target is None or isinstance(target, int) else "image and target",
            " ",
            frame=frame,
        )
    ]


def _stretched(heat: Tensor) -> Tensor:
    scale = scale_of(heat)
    return torch.full_like(heat, 0.5) if constant(heat) else scale.position(heat)


def _agreement(cam: Tensor, attention: Tensor) -> str:
    correlation = None if constant(cam) or constant(attention) else rank_correlation(cam, attention)
    if correlation is None:
        return "the same everywhere" if constant(cam) else "no ρ"
    return f"ρ = {number(round(correlation, 2))}"


def _class(number: int, classes: Sequence[str]) -> str:
    return classes[number] if number < len(classes) else f"class {number}"


def _asked(target: Any, classes: Sequence[str]) -> str:
    if isinstance(target, int):
        return _class(target, classes)
    if isinstance(target, Tensor):
        return "the classes of the marked pixels"
    return "the framed box" if isinstance(target, tuple) else "the answer"
