"""Refusing a map of another size than the one that parameters were made for."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from foveate.errors import FoveateError


def only_size(x: Float[Tensor, "b c h w"], size: tuple[int, int] | None, otherwise: str) -> Float[Tensor, "b c h w"]:
    """The map itself, if it has the size, or if any size will do.

    Args:
        x: The map.
        size: Height and width; ``None`` for any.
        otherwise: What is tied to the size, and what to do instead; the end of the sentence.

    Raises:
        FoveateError: If the map has another size, with both sizes.

    Example:
        >>> only_size(torch.zeros(1, 1, 7, 7), (7, 7), "").shape
        torch.Size([1, 1, 7, 7])
    """
    return _only_size(x, size, otherwise)


def _only_size(x: Tensor, size: tuple[int, int] | None, otherwise: str) -> Tensor:
    if size is not None and (x.shape[2], x.shape[3]) != size:
        raise FoveateError(f"tied to maps of {size[0]}×{size[1]}, and got {x.shape[2]}×{x.shape[3]}: {otherwise}")
    return x


torch.fx.wrap("_only_size")  # FX cannot follow a branch on a shape


def same_shape(
    y: Float[Tensor, "b c *positions"], x: Float[Tensor, "b c *positions"]
) -> Float[Tensor, "b c *positions"]:
    """The one map itself, if it has the shape of the other; broadcasting would hide a mistake.

    Raises:
        FoveateError: If it has not, with both shapes.

    Example:
        >>> same_shape(torch.zeros(1, 2, 7, 7), torch.ones(1, 2, 7, 7)).shape
        torch.Size([1, 2, 7, 7])
    """
    return _same_shape(y, x)


def _same_shape(y: Tensor, x: Tensor) -> Tensor:
    if y.shape != x.shape:
        shapes = " and ".join("×".join(map(str, map_.shape)) for map_ in (x, y))
        raise FoveateError(f"two maps that are fused have one shape, and these have {shapes}")
    return y


torch.fx.wrap("_same_shape")  # FX cannot follow a branch on a shape
