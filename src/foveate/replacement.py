"""The second protocol: a mechanism that stands in a convolution's place, because its weights depend on the input.

Attention that recalibrates keeps the shape of its map (:mod:`foveate.attention`). A replacement has the shape of a
convolution instead: other channels out than in, strides, padding. Its kernel, its branches or its taps are what it
weighs, and it shows these weights by passing them through a :class:`~foveate.attention.Map` as attention does, with
the axes ``"kernel"``, ``"branch"``, ``"tap"`` (a cell of a kernel), ``"in"``, ``"out"``, ``"c"`` (channels).

What you write: a class built from a :class:`ConvShape` and options by keyword, with ``forward``, ``reset_parameters``
and :meth:`Replacement.take_over`, which makes it compute what a given convolution does, if it can.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from foveate.errors import OptionError, check_at_least, check_bool

Pair = tuple[int, int]


@dataclass(frozen=True)
class ConvShape:
    """The shape of a two-dimensional convolution: all that its constructor is told.

    Attributes:
        in_channels: Channels of the map that it is given.
        out_channels: Channels of the map that it returns.
        kernel_size: Height and width of its kernel.
        stride: Its steps along height and width.
        padding: Zeros on either side of height and of width.
        dilation: Distance between neighbouring cells of the kernel.
        groups: How many parts its channels fall into, each convolved alone.
        bias: Whether it adds a number to each channel.

    Raises:
        OptionError: If there is no such convolution.

    Example:
        >>> ConvShape(16, 32, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1)).out_size((8, 9))
        (4, 5)
    """

    in_channels: int
    out_channels: int
    kernel_size: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    bias: bool = False

    def __post_init__(self) -> None:
        check_at_least("the number of channels", self.in_channels, 1)
        check_at_least("the number of channels", self.out_channels, 1)
        check_at_least("groups", self.groups, 1)
        check_bool("bias", self.bias)
        for what, pair, least in (
            ("kernel_size", self.kernel_size, 1),
            ("stride", self.stride, 1),
            ("padding", self.padding, 0),
            ("dilation", self.dilation, 1),
        ):
            if not isinstance(pair, tuple) or len(pair) != 2:  # pyright: ignore[reportUnnecessaryIsInstance, reportUnnecessaryComparison]
                raise OptionError(f"{what} must be one number for the height and one for the width, not {pair!r}")
            for side in pair:
                check_at_least(what, side, least)
        for channels in (self.in_channels, self.out_channels):
            if channels % self.groups:
                raise OptionError(f"{channels} channels cannot be split into {self.groups} groups")

    @classmethod
    def of(cls, conv: nn.Conv2d) -> ConvShape:
        """The shape of a convolution.

        Raises:
            OptionError: If it pads with anything but as many zeros on either side.

        Example:
            >>> ConvShape.of(nn.Conv2d(16, 32, 3, padding="same", bias=False)) == ConvShape(
            ...     16, 32, kernel_size=(3, 3), padding=(1, 1)
            ... )
            True
        """
        if conv.padding_mode != "zeros":
            raise OptionError(f"it pads with padding_mode='{conv.padding_mode}', and a replacement pads with zeros")
        kernel, dilation = _pair(conv.kernel_size), _pair(conv.dilation)
        if isinstance(conv.padding, str):
            around = [step * (side - 1) for side, step in zip(kernel, dilation, strict=True)]
            if conv.padding == "same" and any(zeros % 2 for zeros in around):
                raise OptionError("padding='same' puts more zeros on one side of an even kernel than on the other")
            padding = (around[0] // 2, around[1] // 2) if conv.padding == "same" else (0, 0)
        else:
            padding = _pair(conv.padding)
        return cls(
            in_channels=conv.in_channels,
            out_channels=conv.out_channels,
            kernel_size=kernel,
            stride=_pair(conv.stride),
            padding=padding,
            dilation=dilation,
            groups=conv.groups,
            bias=conv.bias is not None,
        )

    @classmethod
    def same(cls, channels: int, kernel_size: int = 3) -> ConvShape:
        """The shape of a convolution that keeps that of its map: one group, stride 1, zeros around, no bias.

        Example:
            >>> ConvShape.same(64).padding
            (1, 1)
        """
        side = (kernel_size - 1) // 2
        return cls(channels, channels, kernel_size=(kernel_size, kernel_size), padding=(side, side))

    def convolution(self) -> nn.Conv2d:
        """A fresh convolution of this shape.

        Example:
            >>> ConvShape.same(8).convolution()
            Conv2d(8, 8, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), bias=False)
        """
        return nn.Conv2d(
            self.in_channels,
            self.out_channels,
            self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            bias=self.bias,
        )

    def out_size(self, size: Pair) -> Pair:
        """Height and width of what it returns, for those of what it is given."""
        height, width = (
            (side + 2 * zeros - step * (cells - 1) - 1) // stride + 1
            for side, zeros, step, cells, stride in zip(
                size, self.padding, self.dilation, self.kernel_size, self.stride, strict=True
            )
        )
        return height, width

    @property
    def least(self) -> int:
        """The smallest side of a map that the kernel fits on, padding included."""
        cells = zip(self.kernel_size, self.dilation, self.padding, strict=True)
        return max(1, *(step * (side - 1) + 1 - 2 * zeros for side, step, zeros in cells))

    @property
    def taps(self) -> int:
        """How many cells the kernel has."""
        return self.kernel_size[0] * self.kernel_size[1]

    @property
    def depthwise(self) -> bool:
        """Whether every channel is convolved alone."""
        return self.groups == self.in_channels == self.out_channels

    def __str__(self) -> str:
        """As a person says it: ``"3×3 convolution from 16 to 32 channels, stride 2×2"``."""

        def sides(pair: Pair) -> str:
            return "×".join(map(str, pair))

        said = [f"{sides(self.kernel_size)} convolution from {self.in_channels} to {self.out_channels} channels"]
        said += [f"stride {sides(self.stride)}"] if self.stride != (1, 1) else []
        said += [f"dilation {sides(self.dilation)}"] if self.dilation != (1, 1) else []
        said += [f"{self.groups} groups"] if self.groups > 1 else []
        return ", ".join(said)


class Replacement(nn.Module, ABC):
    """A mechanism in a convolution's place: the convolution's shape in, the convolution's shape out.

    A replacement is built as the paper initialises it. :meth:`take_over` then makes it compute what a trained
    convolution does.

    Args:
        shape: The convolution whose place it takes.

    Attributes:
        shape: The same.
        fixed_size: The one height and width of its input that it can run at, or ``None`` if any will do. Then its
            constructor has the keyword ``size``.
        unordered: Never: a convolution knows where its neighbours are.
    """

    fixed_size: Pair | None = None
    unordered: bool = False

    def __init__(self, shape: ConvShape) -> None:
        super().__init__()
        self.shape = shape

    @property
    def smallest(self) -> int:
        """The smallest height and width of the input that an exported graph accepts.

        A graph is made for outputs of more than one position, unless the output has the size of the input.
        """
        shape = self.shape
        sides = zip(shape.kernel_size, shape.dilation, shape.padding, shape.stride, strict=True)
        reaches = [(step * (cells - 1) - 2 * zeros, stride) for cells, step, zeros, stride in sides]
        return max(1, *(1 + beyond + stride for beyond, stride in reaches if (beyond, stride) != (0, 1)), shape.least)

    @abstractmethod
    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o p q"]:
        """What stands where the convolution's output stood."""

    @abstractmethod
    def reset_parameters(self) -> None:
        """Initialise as the paper or its authors' code does."""

    @abstractmethod
    def take_over(self, conv: nn.Conv2d) -> str | None:
        """Compute what a convolution does, ready to learn more, or say why that cannot be.

        The output is then the convolution's up to the rounding of a sum that is taken in another order, and every
        parameter gets a gradient within two steps: of factors that multiply one another at most one is zero, and
        experts that are alike are weighed differently.

        Args:
            conv: A convolution of this shape.

        Returns:
            ``None``; or in a sentence why this mechanism cannot do what a convolution does. Then it starts as its
            paper has it, perhaps with what it can use of the convolution's weights.
        """

    def extra_repr(self) -> str:
        """The shape, as ``print(model)`` shows it."""
        return str(self.shape)


def check_centred(name: str, shape: ConvShape) -> None:
    """Refuse a convolution whose kernel is not centred on the positions of its map, one after the other.

    Args:
        name: What would take its place and looks around positions.
        shape: The convolution.

    Raises:
        OptionError: With the padding that would do.

    Example:
        >>> check_centred("involution", ConvShape.same(16))
    """
    reach = [step * (side - 1) for side, step in zip(shape.kernel_size, shape.dilation, strict=True)]
    if any(cells % 2 for cells in reach):
        raise OptionError(f"{name} looks around positions, and the kernel of a {shape} has no cell in its middle")
    if tuple(cells // 2 for cells in reach) != shape.padding:
        sides = "×".join(str(cells // 2) for cells in reach)
        found = "×".join(map(str, shape.padding))
        raise OptionError(
            f"{name} looks around every position: in place of a {shape} it needs the padding {sides}, not {found}"
        )


def _pair(value: int | tuple[int, ...]) -> Pair:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
