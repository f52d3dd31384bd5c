"""The idea: every attention mechanism of a convolutional network is the same three steps.

=====================  ======================================  ===========================================
step                   what it does                            in code
=====================  ======================================  ===========================================
feature extraction     summarise the feature map               ``gather(x) -> context``
attention calculation  turn the summary into weights           ``weigh(context) -> weights``
feature recalibration  apply the weights                       ``recalibrate(x, weights, context) -> y``
=====================  ======================================  ===========================================

What follows, classification or detection or segmentation, is the host network's.

A **gate** multiplies the features by weights (**gates**: by several at once). An **update** adds to the features what
its weights select; an **affinity** is an update whose weights relate pairs of positions. A **sequence** is one after
the other, and a **transform** is what fits none of these. A mechanism has the shape of its input, and it shows its
weights by passing them through a :class:`Map`.

===============  ===================================  ================================  ==========================
base class       what it computes                     you write                         what the blend acts on
===============  ===================================  ================================  ==========================
``Gate``         ``x · weights``                      ``gather``, ``weigh``             the weights
``Gates``        ``x · weights · weights · …``        ``gather``, ``weigh``             all of the weights
``Update``       ``x + update``                       ``gather, weigh, recalibrate``    the update
``Affinity``     the same, of pairs of positions      ``gather, weigh, recalibrate``    the update
``Transform``    anything else                        ``gather, weigh, recalibrate``    the whole: ``x + b · (y - x)``
``Sequence``     one step after the other             nothing: it is given its steps    each step has its own
===============  ===================================  ================================  ==========================

What you get: ``forward``, the blend that starts a mechanism as the identity, and maps that can be recorded,
differentiated and exported.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.ops.compiled.library import built
from foveate.ops.gate import gate
from foveate.ops.graph import watched


class Map(nn.Identity):
    """The named point where attention weights pass: look at them here, or take gradients with respect to them.

    It has no parameters and no state, so export folds it away.

    What passes is a tensor, or a :class:`Relation`. A tensor whose axes are among ``"c"``, ``"h"``, ``"w"`` has four
    dimensions, ``(b, c or 1, h or 1, w or 1)``; with any other axis it has one dimension for each, after the batch.

    Args:
        axes: What the weights vary over besides the batch: ``"c"``, ``"h"``, ``"w"`` in any combination; ``"hw->hw"``
            for an affinity, from the positions looked at to the positions that look, ``"c->c"`` for one of channels;
            other words for what else there is: ``"slot"`` (a memory's, or a base's), ``"branch"``, ``"kernel"``,
            ``"tap"`` (a cell of a kernel), ``"group"``, ``"head"``, ``"in"`` and ``"out"`` (channels of a convolution).
    """

    def __init__(self, *axes: str) -> None:
        super().__init__()
        self.axes = axes

    def extra_repr(self) -> str:
        """The axes, as ``print(model)`` shows them."""
        return ", ".join(self.axes)


class Relation(Protocol):
    """The weights of an affinity: every position's share in every other, kept implicit until asked for.

    Attributes:
        size: Height and width of the map of positions; ``(channels,)`` for a relation of channels.
    """

    size: tuple[int, ...]

    def mix(self, value: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
        """Sum the values of all positions, weighted, at every position (of all channels, at every channel)."""
        ...

    def dense(self) -> Float[Tensor, "b source target"]:
        """The weights as one matrix a sample, HW×HW (C×C): for looking at, not for computing with."""
        ...


class Attention(nn.Module, ABC):
    """A mechanism, or one step of it: same shape in, same shape out.

    Attributes:
        blend: ``None`` for the mechanism as published. After :meth:`start_at_identity` one learned number: at 0 the
            mechanism does nothing, at 1 it is the published one.
        zeros: Names of the parameters that the paper starts at zero and that stop a gradient while they, or too much
            beside them, are zero: a last norm's weight; the bias of a ReLU that may be a bottleneck's only unit.
        fixed_size: The one height and width that the mechanism can run at, or ``None`` if any will do.
        smallest: The smallest height and width that an exported graph accepts: below it, a map that the mechanism
            pools or shrinks has one position, which export takes for a constant. Eager code has no such limit.
        unordered: Whether it treats the positions as a set: when they change places, its output changes places alike.
            Such a mechanism works on signals and volumes as it is.
    """

    blend: nn.Parameter | None
    zeros: tuple[str, ...] = ()
    fixed_size: tuple[int, int] | None = None
    smallest: int = 1
    unordered: bool = False

    def __init__(self) -> None:
        super().__init__()
        self.register_parameter("blend", None)

    @abstractmethod
    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Attend."""

    @abstractmethod
    def reset_parameters(self) -> None:
        """Initialise as the paper or its authors' code does."""

    def start_at_identity(self) -> None:
        """Become the identity function, ready to learn.

        The blend is then the only zero factor between the loss and the mechanism's parameters: it has a gradient in
        the first step, they have one in the second. A published zero-initialisation would be a second factor, and
        nothing would ever move; the parameters named by :attr:`zeros` start at one instead.
        """
        for step in self.modules():
            if isinstance(step, Attention) and not isinstance(step, Sequence):
                like = next(step.parameters(), None)
                zero = torch.zeros(1, device=getattr(like, "device", None), dtype=getattr(like, "dtype", None))
                step.blend = nn.Parameter(zero)
                for name in step.zeros:
                    nn.init.ones_(step.get_parameter(name))


class Gate(Attention):
    """Attention that multiplies: the weights broadcast against the features.

    Required: :meth:`gather`, :meth:`weigh`, ``self.map``.
    """

    map: Map

    @abstractmethod
    def gather(self, x: Float[Tensor, "b c h w"]) -> Any:
        """Summarise the feature map."""

    @abstractmethod
    def weigh(self, context: Any) -> Float[Tensor, "b _ _ _"]:
        """Turn the summary into weights."""

    def recalibrate(
        self,
        x: Float[Tensor, "b c h w"],
        weights: Float[Tensor, "b _ _ _"],
        context: Any,  # noqa: ARG002
    ) -> Float[Tensor, "b c h w"]:
        """Apply the weights."""
        return gate(x, weights)

    def at_once(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"] | None:  # noqa: ARG002
        """All three steps as one operation; ``None``, unless a mechanism has one and it fits what is given.

        It is asked only where nobody looks at the map or at a layer.
        """
        return None

    def shown(self, context: Any) -> Float[Tensor, "b _ _ _"]:
        """The weights of a summary, blended, and passed through the map."""
        weights = self.weigh(context)
        if self.blend is not None:  # on the weights, which are smaller than the map: no extra pass over it
            weights = 1 + self.blend * (weights - 1)
        return self.map(weights)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Gather, weigh, recalibrate."""
        # where an optimised network lets the product wait for what comes next, it is left to that
        if built() and "recalibrate" not in vars(self) and not watched(*self.children()):
            y = self.at_once(x)
            if y is not None:
                return y
        context = self.gather(x)
        return self.recalibrate(x, self.shown(context), context)


class Gates(Attention):
    """Attention that multiplies by several weights at once, each with a map of its own: along height, along width.

    Required: :meth:`gather`, :meth:`weigh`, and for every name that ``weigh`` returns a :class:`Map` called
    ``<name>_map``.
    """

    @abstractmethod
    def gather(self, x: Float[Tensor, "b c h w"]) -> Any:
        """Summarise the feature map."""

    @abstractmethod
    def weigh(self, context: Any) -> dict[str, Float[Tensor, "b _ _ _"]]:
        """Turn the summary into weights, by name."""

    def recalibrate(
        self,
        x: Float[Tensor, "b c h w"],
        weights: dict[str, Float[Tensor, "b _ _ _"]],
        context: Any,  # noqa: ARG002
    ) -> Float[Tensor, "b c h w"]:
        """Apply the weights: one after the other, unless a mechanism's paper does otherwise."""
        for factor in weights.values():
            x = gate(x, factor)
        return x

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Gather, weigh, recalibrate."""
        context = self.gather(x)
        weights = self.weigh(context)
        if self.blend is not None:
            weights = {name: 1 + self.blend * (factor - 1) for name, factor in weights.items()}
        shown = {name: self.get_submodule(f"{name}_map")(factor) for name, factor in weights.items()}
        return self.recalibrate(x, shown, context)


class Update(Attention):
    """Attention that adds to the features what its weights select.

    Required: :meth:`gather`, :meth:`weigh` (it passes all weights through a :class:`Map`), :meth:`recalibrate`.
    """

    @abstractmethod
    def gather(self, x: Float[Tensor, "b c h w"]) -> Any:
        """Summarise the feature map."""

    @abstractmethod
    def weigh(self, context: Any) -> Any:
        """Turn the summary into weights, and show them."""

    @abstractmethod
    def recalibrate(self, x: Float[Tensor, "b c h w"], weights: Any, context: Any) -> Float[Tensor, "b c h w"]:
        """The update: what the weights bring to every position."""

    def fuse(self, x: Float[Tensor, "b c h w"], update: Float[Tensor, "b c _ _"]) -> Float[Tensor, "b _ h w"]:
        """Join features and update; added back, unless a mechanism's paper does otherwise."""
        return x + update

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b _ h w"]:
        """Gather, weigh, recalibrate, and fuse the update with the features."""
        context = self.gather(x)
        update = self.recalibrate(x, self.weigh(context), context)
        return self.fuse(x, update if self.blend is None else self.blend * update)


class Affinity(Update):
    """An update whose weights relate pairs of positions: it mixes features along the relations.

    Required: :meth:`gather`, which embeds the positions; :meth:`weigh`, which relates them and passes each
    :class:`Relation` through a :class:`Map`; :meth:`recalibrate`.
    """


class Transform(Attention):
    """Attention whose output is neither a product with its weights nor a sum: one that projects or shuffles after it.

    Required: :meth:`gather`, :meth:`weigh` (it passes all weights through a :class:`Map`), :meth:`recalibrate`.
    """

    @abstractmethod
    def gather(self, x: Float[Tensor, "b c h w"]) -> Any:
        """Summarise the feature map."""

    @abstractmethod
    def weigh(self, context: Any) -> Any:
        """Turn the summary into weights, and show them."""

    @abstractmethod
    def recalibrate(self, x: Float[Tensor, "b c h w"], weights: Any, context: Any) -> Float[Tensor, "b c h w"]:
        """The output."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Gather, weigh, recalibrate."""
        context = self.gather(x)
        y = self.recalibrate(x, self.weigh(context), context)
        return y if self.blend is None else x + self.blend * (y - x)


class Sequence(Attention):
    """Steps that act one after the other, each with a map of its own."""

    def __init__(self, **steps: Attention) -> None:
        super().__init__()
        for name, step in steps.items():
            self.add_module(name, step)

    def steps(self) -> Iterator[tuple[str, Attention]]:
        """The steps by name, in order."""
        for name, step in self.named_children():
            if isinstance(step, Attention):
                yield name, step

    def reset_parameters(self) -> None:
        """Initialise every step."""
        for _, step in self.steps():
            step.reset_parameters()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Apply every step to what the one before returns."""
        for _, step in self.steps():
            x = step(x)
        return x


def maps_of(module: nn.Module) -> dict[str, Map]:
    """The maps inside a module, by path.

    Example:
        >>> import foveate
        >>> list(maps_of(foveate.create("cbam", 64)))
        ['channel.map', 'spatial.map']
    """
    return {path: child for path, child in module.named_modules() if isinstance(child, Map)}
