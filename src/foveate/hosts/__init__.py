"""Networks to attach attention to: small ones of our own, and others' found by name.

:func:`build` makes ``foveate/resnet20``, ``torchvision/mobilenet_v2`` or ``timm/resnet18``, random, with
published weights or with weights from a file; :func:`build_segmenter` does so for networks that segment.
:class:`ResNet`, :class:`UNet` and :class:`PSANetHost` are ours.
"""

from foveate.hosts.build import build, build_with_head
from foveate.hosts.inputs import input_shape
from foveate.hosts.psanet import PSANetHost
from foveate.hosts.resnet import ResNet
from foveate.hosts.segmenters import build_segmenter
from foveate.hosts.unet import UNet
from foveate.hosts.weights import load_weights, read_weights

__all__ = [
    "PSANetHost",
    "ResNet",
    "UNet",
    "build",
    "build_segmenter",
    "build_with_head",
    "input_shape",
    "load_weights",
    "read_weights",
]
