"""The rule by which a network is convolutional: what happens in one forward pass, not what it is called.

A network is **convolutional** if one pass over an image of its own size

- runs a spatial convolution (a kernel larger than one),
- multiplies no two matrices that both come from the image (which is what relates tokens to one another; a product
  with a single column, as in global context pooling, relates none), and
- applies no linear or recurrent layer to a sequence (batch, tokens, channels).

It is a **hybrid** if it does the latter, but convolves spatially at least as often, three times or more. Everything
else is a network of **tokens**. The pass runs on the meta device, where nothing is computed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

Kind = Literal["convolutional", "hybrid", "tokens"]
_ATTENTION = {"scaled_dot_product_attention", "multi_head_attention_forward"}
_PRODUCTS = {"matmul", "__matmul__", "__rmatmul__", "bmm", "baddbmm"}
_RECURRENT = {"lstm", "gru", "rnn_tanh", "rnn_relu"}
_CONVOLUTIONS = {"conv2d", "conv3d"}


def kind_of(model: nn.Module, image: Tensor) -> Kind:
    """What a network is, by watching it pass one image.

    Args:
        model: A network, best on the meta device.
        image: An image there, of the size that the network was made for.
    """
    watch = _Watch(image)
    with torch.no_grad(), watch:
        model.eval()(image)
    relating, convolving = watch.seen["relating"], watch.seen["convolving"]
    if convolving and not relating:
        return "convolutional"
    return "hybrid" if convolving >= max(3, relating) else "tokens"


class _Watch(TorchFunctionMode):
    """Counts the operations on what was made from the image."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self.from_image = WeakTensorKeyDictionary()
        self.from_image[image] = True
        self.seen: Counter[str] = Counter()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        made = [tensor for tensor in _tensors((args, kwargs)) if tensor in self.from_image]
        if made:
            for tensor in _tensors(out):
                self.from_image[tensor] = True
            name = getattr(func, "__name__", "")
            if self._relates(name, made):
                self.seen["relating"] += 1
            elif name in _CONVOLUTIONS:
                kernel = (args[1] if len(args) > 1 else kwargs["weight"]).shape[2:]
                self.seen["convolving"] += max(kernel) > 1
        return out

    def _relates(self, name: str, made: list[Tensor]) -> bool:
        if name in _ATTENTION or name in _RECURRENT:
            return True
        if name == "linear":
            return made[0].ndim == 3
        if name == "einsum":
            return len(made) > 1
        return name in _PRODUCTS and len(made) > 1 and made[0].shape[-2] > 1 and made[1].shape[-1] > 1


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict):
        for value in values.values():
            yield from _tensors(value)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)
