"""A drawing as part of a page: matplotlib's SVG with the page's colours and font, and ids of its own."""

from __future__ import annotations

import io
import re
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from foveate.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# stand-ins that become the page's own colours, so that one drawing serves light, dark and print
INK, MUTED, FAINT, CARD = "#1b1f24", "#5a6572", "#d5dae0", "#fefefe"
PAGE = {
    INK: "var(--ink, #1b1f24)",
    MUTED: "var(--muted, #5a6572)",
    FAINT: "var(--faint, #d5dae0)",
    CARD: "var(--card, #ffffff)",
}
# matplotlib's settings and font caches are of the whole process: one drawing at a time
_ALONE = threading.RLock()
_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"

_STYLE: dict[Any, Any] = {
    "font.size": 12,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": MUTED,
    "axes.labelsize": 12,
    "axes.titlesize": 12,
    "axes.titlecolor": MUTED,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "ytick.major.size": 0,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "text.parse_math": False,  # a name with two dollar signs is a name
    "svg.fonttype": "none",
    "svg.hashsalt": "foveate",
}


@contextmanager
def canvas(width: int, height: int, *, left: int, right: int, bottom: int, top: int) -> Generator[tuple[Figure, Axes]]:
    """A drawing of so many pixels and its one pair of axes inside the margins, in this file's style.

    Raises:
        MissingExtraError: If matplotlib is not installed.

    Example:
        >>> with canvas(200, 100, left=20, right=0, bottom=20, top=0) as (figure, axes):
        ...     svg(figure, "empty", "Nothing yet").count("<title")
        1
    """
    with blank(width, height) as figure:
        area = (left / width, bottom / height, (width - left - right) / width, (height - bottom - top) / height)
        yield figure, figure.add_axes(area)


@contextmanager
def blank(width: int, height: int) -> Generator[Figure]:
    """An empty drawing of so many pixels in this file's style; one thread draws at a time, the others wait.

    Raises:
        MissingExtraError: If matplotlib is not installed.

    Example:
        >>> with blank(200, 100) as figure:
        ...     len(figure.axes)
        0
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "explain") from error
    with _ALONE, mpl.rc_context(_STYLE):
        # 72 dots an inch, the SVG writer's own measure, makes a pixel a unit of the drawing
        yield Figure(figsize=(width / 72, height / 72), dpi=72)


def short(arm: str, letters: int) -> str:
    """A name for the margin of a drawing, without characters that XML has no place for.

    Example:
        >>> short("gather_excite", 8)
        'gather_…'
    """
    plain = "".join(letter if letter.isprintable() else " " for letter in arm)
    return plain if len(plain) <= letters else plain[: letters - 1] + "…"


def svg(figure: Figure, name: str, title: str) -> str:
    """A drawing as an element of a page: no prologue, ids of its own, the page's colours and font, a title.

    Args:
        figure: The drawing.
        name: Begins every id.
        title: What it shows, in words, for whoever cannot see it.

    Example:
        >>> with canvas(200, 100, left=20, right=0, bottom=20, top=0) as (figure, axes):
        ...     'id="mine-title"' in svg(figure, "mine", "Nothing yet")
        True
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    root = ElementTree.fromstring(buffer.getvalue())  # noqa: S314  (matplotlib wrote it a line ago)
    for parent in list(root.iter()):
        for child in list(parent):
            # matplotlib's style sheet says `*`, which on a page would mean every element of it
            if child.tag in {f"{{{_SVG}}}style", f"{{{_SVG}}}metadata"}:
                parent.remove(child)
    for element in root.iter():
        for key, value in list(element.attrib.items()):
            if key == "id":
                element.set(key, f"{name}-{value}")
            elif key == f"{{{_XLINK}}}href":
                element.set(key, value.replace("#", f"#{name}-", 1))
            else:
                element.set(key, _restyled(value.replace("url(#", f"url(#{name}-")))
    for size in ("width", "height"):
        root.attrib.pop(size, None)
    root.set("class", "chart")
    root.set("role", "img")
    root.set("aria-labelledby", f"{name}-title")
    root.set("style", "stroke-linejoin: round; stroke-linecap: butt")
    caption = ElementTree.Element(f"{{{_SVG}}}title", {"id": f"{name}-title"})
    caption.text = short(title, 2000)
    root.insert(0, caption)
    return ElementTree.tostring(root, encoding="unicode")


def _restyled(value: str) -> str:
    for colour, page in PAGE.items():
        value = value.replace(f": {colour}", f": {page}")
    return re.sub(r"font-family:[^;]*", "font-family: var(--sans, sans-serif)", value)
