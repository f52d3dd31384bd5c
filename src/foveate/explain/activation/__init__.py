"""Class activation maps: what the last feature map says for an answer, the baseline of every attention map."""

from foveate.explain.activation.layers import target_layer
from foveate.explain.activation.maps import METHODS, class_activation

__all__ = ["METHODS", "class_activation", "target_layer"]
