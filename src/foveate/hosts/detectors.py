"""Object detectors by name: those of torchvision, and the same classes on other backbones.

``torchvision/fasterrcnn_resnet50_fpn`` and its kin are torchvision's own. ``torchvision/fcos_resnet18_fpn`` is its
FCOS on a backbone that it publishes no detector for, and ``foveate/fcos_resnet18_fpn`` the same with a neck and heads
of 64 channels instead of 256, for small images and few cores. All of them call the classes 1 upwards; 0 is nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from foveate.errors import FoveateError, MissingExtraError, OptionError, check_at_least, nearest
from foveate.hosts import torchvision_models
from foveate.hosts.weights import SUFFIXES, load_weights, read_weights

CHANNELS = {"torchvision": 256, "foveate": 64}
MORE_THAN_BOXES = ("keypointrcnn", "maskrcnn")  # they learn from keypoints or masks
COMPOSED = re.compile(r"(fasterrcnn|retinanet|fcos)_(resnet\d+|mobilenet_v\w+?)_fpn")
WITHOUT_EPSILON = {"fasterrcnn_resnet50_fpn", "retinanet_resnet50_fpn"}  # norms of published weights were frozen so
HEADS = ("head.", "roi_heads.box_predictor.")
OF_CLASSIFIERS = ("fc.", "classifier.", "linear.")


def build_detector(
    name: str,
    *,
    classes: int,
    weights: str | Path | None = None,
    size: int = 800,
    largest: int | None = None,
    frozen_norms: bool = False,
) -> tuple[nn.Module, tuple[str, ...]]:
    """Build a detector: from a list of images of values from 0 to 1 to boxes, or to losses in training.

    Args:
        name: ``torchvision/`` and the name of a detector there, or ``torchvision/`` or ``foveate/`` and
            ``fasterrcnn``, ``retinanet`` or ``fcos`` with a ResNet or MobileNet of torchvision's, as in
            ``fcos_resnet18_fpn``.
        classes: What is told apart; nothing is one more.
        weights: ``None`` for a random network; ``"pretrained"`` or one of torchvision's names for published weights, of
            the detector, or of the backbone where no such detector is published; a file of weights of either.
        size: To which the shorter side of an image is resized. SSD has one of its own for both sides.
        largest: What the longer side may then have; 1333/800 of ``size`` if ``None``.
        frozen_norms: Whether the backbone's batch normalisation keeps the statistics and scales of its weights, as is
            usual where batches are of a few images.

    Returns:
        The network, in training mode, on the CPU, and which of its parameters were not among the weights.

    Raises:
        OptionError: If there is no such network or weights, with the nearest names.
        MissingExtraError: If torchvision is not installed.
        FoveateError: If the weights cannot be loaded, or do not fit.

    Example:
        >>> network, new = build_detector("foveate/fcos_resnet18_fpn", classes=4, size=96)
        >>> type(network).__name__, network.backbone.out_channels, new
        ('FCOS', 64, ())
    """
    check_at_least("classes", classes, 1)
    check_at_least("size", size, 32)
    source, model = _checked(name)
    sides = {"min_size": size, "max_size": round(size * 1333 / 800) if largest is None else largest}
    check_at_least("largest", sides["max_size"], size)
    own = source == "torchvision" and model in names()
    if own:
        options: dict[str, Any] = {} if model.startswith("ssd") else dict(sides)
        if model.startswith("fcos"):
            options["head"] = _precise_head(CHANNELS[source], classes + 1)
        make = getattr(_package(), model)
        network: nn.Module = make(weights=None, weights_backbone=None, num_classes=classes + 1, **options)
    else:
        network = _composed(model, classes, CHANNELS[source], sides)
    new = () if weights is None else _load(network, name, own, weights)
    if frozen_norms:
        freeze_norms(_body(network, name), 0.0 if model in WITHOUT_EPSILON else 1e-5)
    return network, new


def names() -> list[str]:
    """The detectors of boxes that torchvision has itself.

    Example:
        >>> "ssdlite320_mobilenet_v3_large" in names(), "maskrcnn_resnet50_fpn" in names()
        (True, False)
    """
    models = import_module("torchvision.models") if _package() else None
    every: list[str] = models.list_models(module=_package()) if models else []
    return [name for name in every if not name.startswith(MORE_THAN_BOXES)]


def freeze_norms(module: nn.Module, epsilon: float = 1e-5) -> None:
    """Put norms that never change in the place of batch normalisation, in place; a state dict fits both.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        >>> freeze_norms(net)
        >>> net[1]
        FrozenBatchNorm2d(4, eps=1e-05)
    """
    from torchvision.ops import FrozenBatchNorm2d

    for path, norm in [(path, one) for path, one in module.named_modules() if isinstance(one, nn.BatchNorm2d)]:
        frozen = FrozenBatchNorm2d(norm.num_features, eps=epsilon)
        frozen.load_state_dict({key: value for key, value in norm.state_dict().items() if key in frozen.state_dict()})
        module.set_submodule(path, frozen)


def _checked(name: str) -> tuple[str, str]:
    source, slash, model = name.partition("/")
    if not slash or source not in CHANNELS:
        raise OptionError(f"a detector is called torchvision/name or foveate/name, not '{name}'")
    if model.startswith(MORE_THAN_BOXES):
        raise OptionError(f"{name} learns from more than boxes: take {name.replace(model.split('_')[0], 'fasterrcnn')}")
    if source == "torchvision" and model in names():
        return source, model
    found = COMPOSED.fullmatch(model)
    if found is None:
        known = [*names(), "fcos_resnet18_fpn", "retinanet_resnet18_fpn", "fasterrcnn_resnet18_fpn"]
        raise OptionError(f"there is no detector '{name}'; {nearest(model, known)}")
    torchvision_models.check(found[2])
    return source, model


def _composed(name: str, classes: int, channels: int, sides: Mapping[str, int]) -> nn.Module:
    """One of torchvision's detectors on a pyramid of a backbone's maps."""
    from torchvision.models import detection
    from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

    found = COMPOSED.fullmatch(name)
    assert found is not None  # noqa: S101 (checked)
    two_steps = found[1] == "fasterrcnn"
    extra = LastLevelMaxPool() if two_steps else LastLevelP6P7(channels, channels)
    backbone = _pyramid(found[2], channels, extra, finest=4 if two_steps else 8)
    build: dict[str, Callable[..., nn.Module]] = {
        "fasterrcnn": detection.FasterRCNN,
        "retinanet": detection.RetinaNet,
        "fcos": detection.FCOS,
    }
    head = {"head": _precise_head(channels, classes + 1)} if found[1] == "fcos" else {}
    return build[found[1]](backbone, num_classes=classes + 1, **sides, **head)


def _precise_head(channels: int, classes: int) -> nn.Module:
    from foveate.hosts.fcos_head import PreciseHead

    return PreciseHead(channels, 1, classes)


def _pyramid(name: str, channels: int, extra: Any, *, finest: int) -> nn.Module:
    """A feature pyramid of the maps of a classifier, from the finest, at 1/4 or 1/8 of the image, to 1/32."""
    from torchvision.models import get_model
    from torchvision.models.detection.backbone_utils import BackboneWithFPN

    classifier: Any = get_model(name, weights=None)
    if name.startswith("resnet"):
        body, base = classifier, classifier.inplanes // 8
        every = {f"layer{stage}": base * 2 ** (stage - 1) for stage in (1, 2, 3, 4)}
    else:  # the blocks that begin a resolution, marked by torchvision, and the last one
        body = classifier.features
        starts = [index for index, block in enumerate(body) if getattr(block, "_is_cn", False)]
        every = {str(index): body[index].out_channels for index in [*starts[:-1], len(body) - 1]}
    used = list(every)[0 if finest == 4 else 1 :]
    layers = {layer: str(number) for number, layer in enumerate(used)}
    return BackboneWithFPN(body, layers, [every[layer] for layer in used], channels, extra)


def _load(network: nn.Module, name: str, own: bool, weights: str | Path) -> tuple[str, ...]:
    """Load weights of the whole detector or of its backbone; which parameters they did not have."""
    model = name.partition("/")[2]
    if isinstance(weights, Path) or weights.endswith(SUFFIXES):
        offered, source = read_weights(weights), f"the weights of '{weights}'"
        whole = any(key.startswith("backbone.") for key in offered)
    else:
        found = None if own else COMPOSED.fullmatch(model)
        published = model if found is None else found[2]
        offered = torchvision_models.published(published, weights, 3).state_dict()
        whole, source = found is None, f"the published weights of torchvision/{published}"
    if whole:
        return _load_detector(network, offered, source)
    body = _body(network, name)
    keys = body.state_dict()
    plain = {key if key in keys else key.removeprefix("features."): value for key, value in offered.items()}
    load_weights(body, {key: plain[key] for key in plain if not key.startswith(OF_CLASSIFIERS)}, source=source)
    inside = {id(parameter) for parameter in body.parameters()}
    return tuple(key for key, parameter in network.named_parameters() if id(parameter) not in inside)


def _load_detector(network: nn.Module, offered: Mapping[str, Tensor], source: str) -> tuple[str, ...]:
    keys = network.state_dict()
    offered = {key: value for key, value in offered.items() if key in keys or not key.endswith("num_batches_tracked")}
    # what depends on the number of classes has another shape, and only in a head
    head = {
        key
        for key, value in offered.items()
        if key.startswith(HEADS) and key in keys and value.shape != keys[key].shape
    }
    return load_weights(network, offered, head=head, source=source)


def _body(network: Any, name: str) -> nn.Module:
    body = getattr(network.backbone, "body", None)
    if body is None:
        raise FoveateError(
            f"{name} has no backbone below a pyramid, which frozen norms and weights of a backbone alone are for"
        )
    return body


def _package() -> Any:
    try:
        return import_module("torchvision.models.detection")
    except ImportError as error:
        raise MissingExtraError("torchvision", "hosts") from error
