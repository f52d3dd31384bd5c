"""Which networks are covered: what the libraries themselves list, and constructors where a library lists none."""

from __future__ import annotations

import functools
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

SOURCES = ("torchvision", "smp", "monai", "ultralytics", "timm")
ENCODERS = ("resnet18", "mobilenet_v2", "efficientnet-b0")
# DPT's decoder reads the tokens of a vision transformer, and takes no other encoder
DPT_ENCODERS = ("tu-vit_tiny_patch16_224", "tu-vit_small_patch16_224", "tu-deit3_small_patch16_224")

# examined with every check and every mechanism, Inductor included
SAMPLE = (
    "torchvision/resnet18",
    "torchvision/mobilenet_v3_small",
    "torchvision/squeezenet1_1",
    "torchvision/fcn_resnet50",
    "torchvision/fasterrcnn_mobilenet_v3_large_320_fpn",
    "smp/Unet-resnet18",
    "monai/UNet-2d",
    "monai/BasicUNet-3d",
    "ultralytics/yolov8n",
    "timm/convnext_atto",
    "timm/regnety_002",
    "timm/vovnet39a",
)


@dataclass(frozen=True)
class Network:
    """One network that attention is to be attached to.

    Attributes:
        name: The library and its own name for the network.
        family: The file, class or architecture that it shares with its siblings.
        build: Builds it with random weights, without a download.
        bonus: Whether it is measured beyond what was promised, and counts for no target.
        listed: Whether the rule decides if it is convolutional; the other libraries are all convolutional.
        axes: Axes of its input: 4 for images, 5 for volumes and videos.
        detector: Whether it is one of torchvision's, which resize images and learn from a list of targets.
    """

    name: str
    family: str
    build: Callable[[], nn.Module]
    bonus: bool = False
    listed: bool = False
    axes: int = 4
    detector: bool = False

    @property
    def source(self) -> str:
        """The library."""
        return self.name.partition("/")[0]

    @property
    def is_video(self) -> bool:
        """Whether the first axis of positions of its input is time."""
        return self.source == "torchvision" and self.axes == 5

    @property
    def number(self) -> int:
        """A number of its own that never changes: which mechanism it takes turns with."""
        return zlib.crc32(self.name.encode())


def networks(source: str) -> Iterator[Network]:
    """Every network of one library, the left-out ones of torchvision excepted."""
    return {"torchvision": _torchvision, "smp": _smp, "monai": _monai, "ultralytics": _ultralytics, "timm": _timm}[
        source
    ]()


def _torchvision() -> Iterator[Network]:
    from torchvision.models import get_model, get_model_builder, list_models

    for name in list_models():
        module = get_model_builder(name).__module__.removeprefix("torchvision.models.")
        kind, _, family = module.rpartition(".")
        if kind == "optical_flow":  # two images in, a flow out: neither classification, segmentation nor detection
            continue
        weights: dict[str, Any] = {"weights": None}
        if kind in ("detection", "segmentation"):
            weights["weights_backbone"] = None
        yield Network(
            f"torchvision/{name}",
            f"{kind}.{family}" if kind else family,
            functools.partial(_detector if kind == "detection" else get_model, name, **weights),
            bonus=kind in ("video", "quantization"),
            listed=kind != "detection",
            axes=5 if kind == "video" else 4,
            detector=kind == "detection",
        )


def _detector(name: str, **weights: Any) -> nn.Module:
    """A detector for tiny images that reports boxes even with random weights."""
    from torchvision.models import get_model

    model: Any = get_model(name, **weights)
    if "ssd" not in name:  # the size of an SSD is part of its architecture
        model.transform.min_size, model.transform.max_size = (64,), 64
    for part in (model, getattr(model, "roi_heads", None)):
        if hasattr(part, "score_thresh"):
            part.score_thresh = 0.0
        if hasattr(part, "detections_per_img"):
            part.detections_per_img = 10
    return model


def _timm() -> Iterator[Network]:
    import timm
    from timm.models import _registry

    for name in timm.list_models():
        family = _registry._model_to_module[name]
        yield Network(f"timm/{name}", family, functools.partial(timm.create_model, name), listed=True)


def _smp() -> Iterator[Network]:
    import segmentation_models_pytorch as smp

    for key, architecture in sorted(smp.MODEL_ARCHITECTURES_MAPPING.items()):
        for encoder in DPT_ENCODERS if key == "dpt" else ENCODERS:
            build = functools.partial(smp.create_model, key, encoder, encoder_weights=None, classes=2)
            yield Network(f"smp/{architecture.__name__}-{encoder}", architecture.__name__, build)


def _monai() -> Iterator[Network]:
    from monai.networks import nets

    usual = {"in_channels": 1, "out_channels": 2}
    encoder = {**usual, "channels": (8, 16, 32, 64), "strides": (2, 2, 2)}
    classes = {"in_channels": 1, "num_classes": 2}
    resnets = [name for name in dir(nets) if name.startswith("resnet") and name[6:].isdigit()]
    densenets = [name for name in dir(nets) if name.startswith("DenseNet") and name[8:].isdigit()]
    se_resnets = [name for name in dir(nets) if name.startswith("SEResNe") and name[-2:].isdigit()]
    promised: dict[str, Callable[[int], nn.Module]] = {
        "UNet": lambda d: nets.UNet(d, **encoder, num_res_units=2),
        "UNet-plain": lambda d: nets.UNet(d, **encoder),
        "BasicUNet": lambda d: nets.BasicUNet(d, 1, 2),
        "AttentionUnet": lambda d: nets.AttentionUnet(d, **encoder),
        "FlexibleUNet-resnet18": lambda d: nets.FlexibleUNet(**usual, backbone="resnet18", spatial_dims=d),
        "FlexibleUNet-efficientnet-b0": lambda d: nets.FlexibleUNet(
            **usual, backbone="efficientnet-b0", spatial_dims=d
        ),
        "SegResNet": lambda d: nets.SegResNet(spatial_dims=d, **usual),
        **{
            name: lambda d, name=name: getattr(nets, name)(spatial_dims=d, n_input_channels=1, num_classes=2)
            for name in resnets
        },
        **{name: lambda d, name=name: getattr(nets, name)(spatial_dims=d, **classes) for name in se_resnets},
        **{name: lambda d, name=name: getattr(nets, name)(spatial_dims=d, **usual) for name in densenets},
    }
    further: dict[str, Callable[[int], nn.Module]] = {
        "BasicUNetPlusPlus": lambda d: nets.BasicUNetPlusPlus(d, 1, 2),
        "SegResNetDS": lambda d: nets.SegResNetDS(spatial_dims=d, **usual),
        "SegResNetVAE": lambda d: nets.SegResNetVAE(((64,) if d == 2 else (32,)) * d, spatial_dims=d, **usual),
        "DynUNet": lambda d: nets.DynUNet(d, 1, 2, (3, 3, 3, 3), (1, 2, 2, 2), (2, 2, 2), res_block=True),
        "VNet": lambda d: nets.VNet(spatial_dims=d, **usual),
        "HighResNet": lambda d: nets.HighResNet(spatial_dims=d, **usual),
        "SENet154": lambda d: nets.SENet154(spatial_dims=d, **classes),
        "MedNeXtS": lambda d: nets.MedNeXtS(spatial_dims=d, **usual),
        "EfficientNetBN": lambda d: nets.EfficientNetBN("efficientnet-b0", pretrained=False, spatial_dims=d, **classes),
    }
    for constructors, bonus in ((promised, False), (further, True)):
        for name, constructor in constructors.items():
            for dimensions in (2, 3):
                yield Network(
                    f"monai/{name}-{dimensions}d",
                    name.rstrip("0123456789").partition("-")[0],
                    functools.partial(constructor, dimensions),
                    bonus=bonus,
                    axes=dimensions + 2,
                )


def _ultralytics() -> Iterator[Network]:
    # it writes a settings file when imported, by default into the person's home
    os.environ.setdefault("YOLO_CONFIG_DIR", str(Path(tempfile.gettempdir()) / "foveate-coverage-ultralytics"))
    tasks = {"": "Detection", "-seg": "Segmentation", "-pose": "Pose", "-cls": "Classification", "-obb": "OBB"}
    for version in ("yolov8n", "yolo11n", "yolo26n"):
        for suffix, task in tasks.items():
            build = functools.partial(_yolo, f"{version}{suffix}.yaml", task)
            yield Network(f"ultralytics/{version}{suffix}", version, build, bonus=suffix != "")


def _yolo(configuration: str, task: str) -> nn.Module:
    from ultralytics.nn import tasks

    return getattr(tasks, f"{task}Model")(configuration, verbose=False)
