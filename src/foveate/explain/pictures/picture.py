"""A picture of attention: plain data that is drawn when somebody wants to see it, as SVG, PNG or HTML."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from foveate.errors import OptionError
from foveate.explain.pictures.page import GAP, INSIDE, LARGE, LINE, MARGIN, WIDTH, Area, Placed, bottom, wrapped
from foveate.explain.pictures.svg import CARD, MUTED, blank, short, svg
from foveate.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHARPNESS = 2  # pixels of a PNG for each of the layout, so that screens of high density have theirs
_DOCUMENT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 45rem; margin: 1.5rem auto; padding: 0 1rem }}
figure {{ margin: 0 }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


@dataclass(frozen=True)
class Picture:
    """What attention held, drawn; one object for a notebook, a page and a file.

    The same picture is the same bytes, however often it is drawn. A notebook shows it by itself.

    Attributes:
        title: What it is of, in a line.
        caption: What is shown and what the colours or heights stand for, in sentences.
        alt: What is to be seen, for whoever cannot see it.
        answer: What the network said of the image, and the label if it is known; empty if nobody told.
        panels: What is drawn, each at its place.
    """

    title: str
    caption: str
    alt: str
    answer: str = ""
    panels: tuple[Placed, ...] = ()

    def svg(self) -> str:
        """One SVG element, with title and caption in it; on a page of ours it takes the page's colours."""
        return self._element(words=True)

    def png(self, *, sharpness: int = SHARPNESS) -> bytes:
        """The same in pixels, on white.

        Args:
            sharpness: How many of them for each of the layout.
        """
        buffer = io.BytesIO()
        with self._drawn(words=True) as figure:
            figure.savefig(buffer, format="png", dpi=72 * sharpness, metadata={"Software": None})
        return buffer.getvalue()

    def html(self) -> str:
        """A ``<figure>`` for any page: the drawing, and title and caption as text below. It loads nothing."""
        drawing = self._element(words=False) + self._more()
        words = f"<strong>{escape(self.title)}</strong><br>{escape(self.caption)}"
        return f'<figure class="foveate-picture">{drawing}<figcaption>{words}</figcaption></figure>'

    def write(self, path: str | Path) -> Path:
        """Write it to a file, whole or not at all, in the format that the name ends with.

        Args:
            path: Ends with ``.png``, ``.svg`` or ``.html``; its folder is made if it is not there.

        Returns:
            The path.

        Raises:
            OptionError: If the name ends with something else.
            FoveateError: If the file cannot be written.
        """
        path = Path(path)
        formats = self._formats()
        make = formats.get(path.suffix.lower())
        if make is None:
            raise OptionError(
                f"this picture is written as {', '.join(formats)}, and '{path.name}' ends with "
                f"{repr(path.suffix) if path.suffix else 'none of them'}: give it one of these endings"
            )
        write_atomically(path, make())
        return path

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return self.html()

    def _formats(self) -> dict[str, Callable[[], bytes]]:
        """What makes the bytes of a file, by the ending of its name."""
        return {
            ".png": self.png,
            ".svg": lambda: self.svg().encode(),
            ".html": lambda: _DOCUMENT.format(title=escape(self.title), body=self.html()).encode(),
        }

    def _more(self) -> str:
        """What else stands in the figure of a page."""
        return ""

    def _element(self, *, words: bool) -> str:
        """The drawing as SVG, its ids begun by a digest of it, so that several stand on one page."""
        told = "\0".join((self.title, self.caption, self.alt, self.answer))
        preliminary = f"picture-{_digest(told)}"
        with self._drawn(words=words) as figure:
            drawing = svg(figure, preliminary, self.alt)
        return drawing.replace(preliminary, f"picture-{_digest(drawing)}")

    @property
    def head(self) -> int:
        """How far down the panels begin, with the title above them."""
        return self._head(*self._above(words=True))

    def _head(self, title: list[str], answer: list[str]) -> int:
        return MARGIN + LINE * (len(title) + len(answer)) + (GAP // 2 if title or answer else 0)

    def _above(self, *, words: bool) -> tuple[list[str], list[str]]:
        """The lines of the title, if it is to be seen, and of the answer."""
        return wrapped(_plain(self.title), INSIDE, LARGE) if words else [], wrapped(_plain(self.answer))

    @contextmanager
    def _drawn(self, *, words: bool) -> Generator[Figure]:
        """The drawing; with ``words``, title and caption are in it."""
        title, answer = self._above(words=words)
        caption = wrapped(_plain(self.caption)) if words else []
        head = self._head(title, answer)
        high = bottom(self.panels)
        foot = (GAP + LINE * len(caption) if caption else 0) + MARGIN
        with blank(WIDTH, head + high + foot) as figure:
            figure.set_facecolor(CARD)
            page = Area(figure, MARGIN, MARGIN, INSIDE, high)
            for number, line in enumerate(title):
                page.text(line, top=number * LINE, fontsize=LARGE, fontweight="bold")
            for number, line in enumerate(answer, len(title)):
                page.text(line, top=number * LINE)
            for one in self.panels:
                one.panel.draw(Area(figure, MARGIN + one.left, head + one.top, one.width, one.panel.height))
            for number, line in enumerate(caption):
                page.text(line, top=head + high + GAP - MARGIN + number * LINE, color=MUTED)
            yield figure


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:10]


def _plain(words: str) -> str:
    """Without characters that XML has no place for."""
    return short(words, 2000)


def said(prediction: object = None, label: object = None) -> str:
    """The line about the network's answer.

    Example:
        >>> said("cat (0.93)", "cat"), said()
        ('predicted: cat (0.93) · label: cat', '')
    """
    parts = (("predicted", prediction), ("label", label))
    return " · ".join(f"{what}: {value}" for what, value in parts if value is not None and value != "")
