"""Pictures read back: heights out of an SVG, values out of the pixels of a PNG, what a page would load."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
from matplotlib import colormaps
from PIL import Image

SVG = "{http://www.w3.org/2000/svg}"


def pixels(png: bytes) -> np.ndarray:
    """Rows, columns, red green blue."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(float)


def parsed(svg: str) -> ElementTree.Element:
    """The root of an SVG; one that is not well-formed raises."""
    return ElementTree.fromstring(svg)  # noqa: S314 (ours)


def points(svg: str, gid: str, number: int = 0) -> np.ndarray:
    """The corners of the path of a group whose id ends with a name, in the order of the drawing."""
    groups = [one for one in parsed(svg).iter(f"{SVG}g") if one.get("id", "").endswith(f"-{gid}")]
    path = groups[number].find(f"{SVG}path") if groups else None
    if path is None:
        return np.empty((0, 2))
    pairs = re.findall(r"(-?[\d.]+) (-?[\d.]+)", path.get("d", ""))
    return np.array([[float(part) for part in pair] for pair in pairs])


def heights(svg: str, number: int = 0) -> dict[float, float]:
    """By the middle of each bar, its height over the distance of the line at 1 from its foot; bars from zero."""
    one = points(svg, "unchanged", number)[0, 1]
    found: dict[float, float] = {}
    for gid in ("bars", "highest"):
        corners = points(svg, gid, number).reshape(-1, 4, 2)  # the closing of a path has no coordinates
        for foot, top, right, _ in corners:
            found[(foot[0] + right[0]) / 2] = (foot[1] - top[1]) / (foot[1] - one)
    return dict(sorted(found.items()))


def value_of(colour: np.ndarray, name: str = "viridis") -> np.ndarray:
    """Where between the ends of a scale colours stand: the nearest of matplotlib's table of 256."""
    table = np.array([colormaps[name](index, bytes=True)[:3] for index in range(256)], dtype=float)
    return np.abs(colour[..., None, :] - table).sum(-1).argmin(-1) / 255


class Loads(HTMLParser):
    """What a page would load or run."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "link", "iframe", "object", "embed", "base"):
            self.found.append(tag)
        for name, value in attrs:
            value = value or ""
            local = value.startswith(("data:image/", "#"))
            if name in ("src", "href", "xlink:href", "srcset", "poster", "action", "data") and not local:
                self.found.append(value)
            if name.startswith("on") or re.search(r"url\((?!#)", value):
                self.found.append(value)
