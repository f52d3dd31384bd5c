"""Video: the same map over every frame on one scale, as a sheet of all frames and as a film."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import UInt8
from torch import Tensor

from foveate.errors import MissingExtraError, OptionError, check_positive
from foveate.explain.pictures.heatmaps import check_image, heatmaps, over
from foveate.explain.pictures.page import INSIDE, LINE, MARGIN, Panel, Placed, below, tile_width, tiles
from foveate.explain.pictures.panels import ColourBar, Pixels, levelled
from foveate.explain.pictures.picture import Picture, said
from foveate.explain.pictures.positions import bar_alpha
from foveate.explain.pictures.sources import source_of
from foveate.explain.pictures.stages import BESIDE
from foveate.explain.pictures.telling import NOT_WHY, constant_note, joined, one_of, scale_note
from foveate.explain.record import AttentionMap, Recording

SHEET = 24  # frames on a sheet; of more, so many at even distances


@dataclass(frozen=True)
class Film(Picture):
    """A picture that moves: the sheet of its frames is what SVG, PNG and HTML show first.

    Attributes:
        frames: One picture a frame: the map over the image, the frame's number and answer.
        seconds: How long each is shown.
        scene: What does not move, with room for a frame.
    """

    frames: tuple[tuple[str, UInt8[Tensor, "3 h w"]], ...] = ()
    seconds: float = 0.5
    scene: Picture | None = None

    def gif(self) -> bytes:
        """A film that everything plays, in 256 colours a frame."""
        return self._film("GIF")

    def webp(self) -> bytes:
        """A film in exactly the colours of the scale."""
        return self._film("WEBP", lossless=True, quality=0, method=0)

    def _film(self, kind: str, **options: Any) -> bytes:
        images = self._painted()
        buffer = io.BytesIO()
        rest = {"append_images": images[1:], "duration": round(1000 * self.seconds), "loop": 0}
        images[0].save(buffer, kind, save_all=True, **rest, **options)
        return buffer.getvalue()

    def _painted(self) -> list[Any]:
        """Every frame as a whole picture: what stays is drawn once."""
        try:
            from PIL import Image, ImageDraw
        except ImportError as error:
            raise MissingExtraError("pillow", "explain") from error
        assert self.scene is not None  # noqa: S101 (film makes none without)
        still = Image.open(io.BytesIO(self.scene.png(sharpness=1))).convert("RGB")
        top = self.scene.head
        painted: list[Any] = []
        for words, pixels in self.frames:
            one = still.copy()
            ImageDraw.Draw(one).text((MARGIN, top), words, fill="black", font=_font())
            one.paste(Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()), (MARGIN, top + LINE))
            painted.append(one)
        return painted

    def _formats(self) -> dict[str, Callable[[], bytes]]:
        return {**super()._formats(), ".gif": self.gif, ".webp": self.webp}

    def _more(self) -> str:
        """The film, behind a line to open: nothing moves before somebody asks."""
        source = base64.b64encode(self.webp()).decode("ascii")
        shown = f'<img src="data:image/webp;base64,{source}" alt="the same frames as a film" loading="lazy">'
        return f"<details><summary>Play {len(self.frames)} frames</summary>{shown}</details>"


def film(
    source: Recording | AttentionMap,
    images: UInt8[Tensor, "n c h w"],
    *,
    place: str | None = None,
    point: tuple[int, int] | None = None,
    seconds: float = 0.5,
    predictions: Sequence[object] = (),
    labels: Sequence[object] = (),
) -> Film:
    """What attention did to the positions of every frame, on one scale: a sheet of frames, and a film.

    Args:
        source: A recording of all frames in order; or one map of it, a gate of positions or a relation.
        images: The frames, in bytes, as many as were recorded.
        place: Which place of a recording; the last, if ``None``.
        point: Of a relation, which position is asked; the middle if ``None``.
        seconds: How long a frame is shown.
        predictions: What the network said of each.
        labels: What each is.

    Raises:
        OptionError: If frames and what was recorded do not pair, or ``seconds`` is not above zero.
        FoveateError: If there is no map of positions.
        MissingExtraError: If matplotlib or Pillow is not installed.

    Example:
        >>> import torch
        >>> gate = AttentionMap("a", "", "spatial", ("h", "w"), torch.rand(3, 1, 4, 4))
        >>> moving = film(gate, torch.zeros(3, 3, 16, 16, dtype=torch.uint8), predictions=["cat", "cat", "dog"])
        >>> [words for words, _ in moving.frames]
        ['frame 1 of 3 · predicted: cat', 'frame 2 of 3 · predicted: cat', 'frame 3 of 3 · predicted: dog']
    """
    check_positive("seconds", seconds)
    drawn = source_of(source, place, point=point)
    count = len(drawn.values)
    for what, several in (("frames", images), ("predictions", predictions), ("labels", labels)):
        if len(several) != count and (what == "frames" or several):
            raise OptionError(f"{len(several)} {what} and {count} recorded samples do not pair")
    check_image(images[0])
    heats = [one_of(drawn.values, drawn.title, index) for index in range(count)]
    scale, bounded = drawn.scale()
    answers = [_answer(index, predictions, labels) for index in range(count)]
    caption = joined(
        drawn.what,
        f"{count} frames, all on one scale.",
        constant_note(drawn.values, gate=False) if not drawn.diverging else "",
        scale_note(scale),
        NOT_WHY,
    )
    bar = tiles([ColourBar(scale, drawn.label, bar_alpha(images[0]), bounded=bounded)], 1)
    shown = sorted({round(step * (count - 1) / max(1, min(SHEET, count) - 1)) for step in range(min(SHEET, count))})
    panels: list[Panel] = []
    lines = levelled([f"{index + 1} {answers[index]}" for index in shown], tile_width(BESIDE), most=3)
    for index in shown:
        name = f"{index + 1} {answers[index]}".strip()
        panels += heatmaps(
            images[index], [heats[index]], scale, names=[name], columns=BESIDE, picture=False, lines=lines
        )
    few = f" Of {count} frames {len(shown)} are on this sheet." if len(shown) < count else ""
    low, high = float(drawn.values.min()), float(drawn.values.max())
    alt = f"{drawn.title}. {count} frames with a map over each, from {low:.3g} to {high:.3g}"
    frames = tuple(
        (
            f"frame {index + 1} of {count}{' · ' + answers[index] if answers[index] else ''}",
            over(image, heat, INSIDE // 2, scale),
        )
        for index, (image, heat) in enumerate(zip(images, heats, strict=True))
    )
    scene = Picture(drawn.title, caption, alt, "", below(_room(frames), bar))
    return Film(drawn.title, caption + few, alt, "", below(tiles(panels, BESIDE), bar), frames, seconds, scene)


def _room(frames: Sequence[tuple[str, Tensor]]) -> tuple[Placed, ...]:
    pixels = frames[0][1]
    return (Placed(Pixels(pixels, pixels.shape[2], " "), 0, 0, pixels.shape[2]),)


def _answer(index: int, predictions: Sequence[object], labels: Sequence[object]) -> str:
    return said(predictions[index] if predictions else None, labels[index] if labels else None)


def _font() -> Any:
    from matplotlib import get_data_path
    from PIL import ImageFont

    return ImageFont.truetype(f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf", 11)
