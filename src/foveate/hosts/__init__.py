"""Networks to attach attention to: small ones of our own, and others' found by name.

:func:`build` makes ``foveate/resnet20``, ``torchvision/mobilenet_v2`` or ``timm/resnet18``, random, with
published weights or with weights from a file. :class:`ResNet` and :class:`PSANetHost` are ours.
"""

from foveate.hosts.build import build, build_with_head
from foveate.hosts.inputs import input_shape
from foveate.hosts.psanet import PSANetHost
from foveate.hosts.resnet import ResNet
from foveate.hosts.weights import load_weights, read_weights

__all__ = ["PSANetHost", "ResNet", "build", "build_with_head", "input_shape", "load_weights", "read_weights"]
