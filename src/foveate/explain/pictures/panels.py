"""The parts that pictures are made of: images with names, lines of text, a bar of colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from torch import Tensor

from foveate.explain.overlay import Scale, overlay
from foveate.explain.pictures.numbers import marks, number
from foveate.explain.pictures.page import INSIDE, LINE, SMALL, Area, wrapped
from foveate.explain.pictures.svg import INK, MUTED

ALPHA = 0.65  # the map's share of a pixel over an image
# told apart by colour-blind people, on light paper and on dark, and black on both
BLUE, ORANGE = "#3d8fc9", "#d55e00"


@dataclass(frozen=True)
class Words:
    """Lines of text.

    Attributes:
        text: The text, in one line for every line break.
    """

    text: str
    width: int = INSIDE

    @property
    def lines(self) -> list[str]:
        """The text, broken to the width."""
        return [part for line in self.text.splitlines() for part in wrapped(line, self.width)]

    @property
    def height(self) -> int:
        """In pixels."""
        return LINE * len(self.lines)

    def draw(self, area: Area) -> None:
        """Draw it."""
        for index, line in enumerate(self.lines):
            area.text(line, top=index * LINE)


@dataclass(frozen=True, eq=False)
class Pixels:
    """An image with its name above it and a note below.

    Attributes:
        pixels: The colours, one for each pixel of a PNG, or fewer: two for each of the layout.
        width: Of the panel in the layout; the height follows.
        name: Above, in as many lines as ``lines`` says, so that images beside each other stand level.
        note: Below.
        rings: Points to ring, from 0 to 1 from the left and from the top.
        frame: A box to frame, left, top, right, bottom, alike; empty for none.
        lines: How many lines the name has room for.
    """

    pixels: UInt8[Tensor, "3 h w"]
    width: int
    name: str = ""
    note: str = ""
    rings: tuple[tuple[float, float], ...] = ()
    frame: tuple[float, ...] = ()
    lines: int = 1

    @property
    def picture_height(self) -> int:
        """Of the image alone."""
        return max(1, round(self.width * self.pixels.shape[1] / self.pixels.shape[2]))

    @property
    def height(self) -> int:
        """In pixels, with its text."""
        return self.lines * LINE + self.picture_height + (LINE if self.note else 0)

    def draw(self, area: Area) -> None:
        """Draw it."""
        name = named(self.name, self.width, self.lines)
        for index, line in enumerate(name, self.lines - len(name)):
            area.text(line, top=index * LINE)
        axes = area.part(0, self.lines * LINE, self.width, self.picture_height).axes()
        axes.set_axis_off()
        axes.imshow(self.pixels.permute(1, 2, 0).numpy(), extent=(0, 1, 1, 0), aspect="auto", interpolation="none")
        axes.set(xlim=(0, 1), ylim=(1, 0))
        for colour, size in (("black", 3.5), ("white", 1.5)):  # white within black is seen on every colour
            if self.frame:
                left, top, right, bottom = self.frame
                axes.plot([left, right, right, left, left], [top, top, bottom, bottom, top], color=colour, lw=size)
            for left, top in self.rings:
                axes.plot([left], [top], "o", ms=11, mfc="none", mec=colour, mew=size, clip_on=False)
        if self.note:
            area.text(self.note, top=self.height - LINE + 2, color=MUTED, fontsize=SMALL - 1)


@dataclass(frozen=True)
class ColourBar:
    """Which value every colour stands for, as the colours look over the grey of an image.

    Attributes:
        scale: The scale.
        label: What the values are, in a few words.
        alpha: The map's share in the colours.
        bounded: Whether values beyond the ends have the colours of the ends.
    """

    scale: Scale
    label: str
    alpha: float = ALPHA
    bounded: bool = False

    @property
    def height(self) -> int:
        """In pixels."""
        return LINE * (2 + len(wrapped(self.label)))

    def draw(self, area: Area) -> None:
        """Draw it."""
        lines = wrapped(self.label)
        for index, line in enumerate(lines):
            area.text(line, top=index * LINE)
        top = LINE * len(lines)
        axes = area.part(0, top + 2, area.width, LINE - 4).axes()
        axes.set_axis_off()
        axes.imshow(ramp(self.scale, self.alpha).permute(1, 2, 0).numpy(), aspect="auto", interpolation="none")
        top += LINE
        if self.scale.constant:
            area.text(number(self.scale.low), left=area.width / 2, top=top, ha="center", color=MUTED)
            return
        low, middle, high = marks(self.scale.low, self.scale.high)
        signs = ("≤ ", "≥ ") if self.bounded else ("", "")
        area.text(signs[0] + low, top=top, color=MUTED)
        area.text(middle, left=area.width / 2, top=top, ha="center", color=MUTED)
        area.text(signs[1] + high, left=area.width, top=top, ha="right", color=MUTED)


def ramp(scale: Scale, alpha: float = ALPHA) -> UInt8[Tensor, "3 1 256"]:
    """The colours of a scale from low to high, over a grey in the middle.

    Example:
        >>> ramp(Scale(0.0, 1.0), alpha=1.0)[:, 0, 0]
        tensor([68,  1, 84], dtype=torch.uint8)
    """
    grey = torch.full((1, 1, 256), 128, dtype=torch.uint8)
    values = torch.linspace(scale.low, scale.high, 256)[None]
    return overlay(grey, values, diverging=scale.diverging, alpha=alpha, scale=scale)


def named(name: str, width: float, lines: int) -> list[str]:
    """A name in at most so many lines, the middle left out where it is longer; paths break at their dots.

    Example:
        >>> named("features.stage4.block.norm", 110, 2)
        ['features.stage4.', 'block.norm']
        >>> named("a" * 40, 100, 1)
        ['aaaaaaa…aaaaaaa']
    """
    most = max(8, int(width / (SMALL * 0.6)))
    plain = "".join(letter if letter.isprintable() else " " for letter in name)
    if len(plain) > most * lines:
        keep = most * lines - 1
        plain = plain[: (keep + 1) // 2] + "…" + plain[len(plain) - keep // 2 :]
    rows: list[str] = []
    while len(plain) > most and len(rows) < lines - 1:
        at = max(plain.rfind(mark, 0, most) for mark in ". /_") + 1
        at = at if at > 0 and len(plain) - at <= most * (lines - len(rows) - 1) else most
        rows.append(plain[:at])
        plain = plain[at:]
    return [row for row in [*rows, plain] if row]


def fitted(image: UInt8[Tensor, "c h w"], width: int, height: int) -> UInt8[Tensor, "3 height width"]:
    """An image at a size in pixels: small ones keep their sharp squares, large ones are averaged.

    Example:
        >>> fitted(torch.arange(2, dtype=torch.uint8).reshape(1, 1, 2), 4, 1)[0]
        tensor([[0, 0, 1, 1]], dtype=torch.uint8)
    """
    import torch.nn.functional as F

    three = image.expand(3, -1, -1) if image.shape[0] == 1 else image
    larger = height >= three.shape[1] and width >= three.shape[2]
    if larger:
        return F.interpolate(three[None].float(), (height, width), mode="nearest-exact")[0].to(torch.uint8)
    small = F.interpolate(three[None].float(), (height, width), mode="bilinear", antialias=True, align_corners=False)
    return small[0].round().clamp(0, 255).to(torch.uint8)


def levelled(names: Sequence[str], width: float, most: int = 2) -> int:
    """How many lines names above images beside each other need, so that all images stand level."""
    return max((len(named(name, width, most)) for name in names), default=0)


__all__ = ["ALPHA", "BLUE", "INK", "ORANGE", "ColourBar", "Pixels", "Words", "fitted", "levelled", "named", "ramp"]
