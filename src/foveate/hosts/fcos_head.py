"""FCOS's head with answers in full precision; imported where a network is built, because it needs torchvision."""

from __future__ import annotations

from torch import Tensor
from torchvision.models.detection.fcos import FCOSHead


class PreciseHead(FCOSHead):
    """The head of torchvision's FCOS, whose answers are in full precision whatever computed them.

    FCOS decodes boxes in the precision of its head: in bfloat16 an edge at 100 pixels is off by up to a quarter of one.

    Example:
        >>> import torch
        >>> head = PreciseHead(32, 1, 3)
        >>> with torch.autocast("cpu", torch.bfloat16):
        ...     head([torch.zeros(1, 32, 4, 4)])["bbox_regression"].dtype
        torch.float32
    """

    def forward(self, x: list[Tensor]) -> dict[str, Tensor]:
        """As torchvision's."""
        return {name: answer.float() for name, answer in super().forward(x).items()}
