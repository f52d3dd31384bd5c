"""The three steps of a mechanism as a drawing, read from its methods: their docstrings and the shapes they declare."""

from __future__ import annotations

import inspect
import re
import textwrap
from dataclasses import dataclass
from xml.sax.saxutils import escape

from foveate.attention import Attention, Map, Sequence, maps_of

WIDTH, GAP, LINE = 232, 46, 18
STEPS = (("gather", "feature extraction"), ("weigh", "attention calculation"), ("recalibrate", "feature recalibration"))


@dataclass(frozen=True)
class Step:
    """One box: what it is called, what it does, and the shape of what leaves it."""

    name: str
    role: str
    does: str
    shape: str


def steps_of(module: Attention) -> list[tuple[str, list[Step], list[Map]]]:
    """The boxes of a mechanism, a row for each of its steps in sequence: (its name, boxes, maps)."""
    if isinstance(module, Sequence):
        return [(f"{path} {name}".strip(), *rest) for path, step in module.steps() for name, *rest in steps_of(step)]  # type: ignore[misc]
    boxes = [Step(name, role, *_said(module, name)) for name, role in STEPS if hasattr(module, name)]
    return [("", boxes or [Step("forward", "", *_said(module, "forward"))], list(maps_of(module).values()))]


def _said(module: Attention, name: str) -> tuple[str, str]:
    method = getattr(type(module), name)
    first = (inspect.getdoc(method) or "").partition("\n\n")[0].replace("\n", " ")
    annotation = str(inspect.signature(method).return_annotation)
    shape = re.search(r'"([^"]+)"', annotation)
    return re.sub(r":\w+:`~?([\w.]+)`", lambda m: m[1].rpartition(".")[2], first).replace("`", ""), shape[
        1
    ] if shape else ""


def draw(module: Attention, title: str) -> str:
    """The drawing as SVG; the same mechanism gives the same bytes."""
    rows = steps_of(module)
    wrapped = [[textwrap.wrap(box.does, 31) for box in boxes] for _, boxes, _ in rows]
    parts: list[str] = []
    y = 12
    columns = max(len(boxes) for _, boxes, _ in rows)
    for (name, boxes, points), texts in zip(rows, wrapped, strict=True):
        if name:
            parts.append(_text(16, y + 14, name, "h"))
            y += 26
        height = 66 + LINE * max(len(lines) for lines in texts)
        for number, (box, lines) in enumerate(zip(boxes, texts, strict=True)):
            x = 16 + number * (WIDTH + GAP)
            parts.append(f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{height}" rx="8" class="b"/>')
            parts.append(_text(x + 14, y + 24, box.name, "n") + _text(x + 14, y + 42, box.role, "r"))
            parts += [_text(x + 14, y + 64 + LINE * i, line, "t") for i, line in enumerate(lines)]
            if number + 1 < len(boxes):
                middle, end = y + height // 2, x + WIDTH + GAP
                parts.append(f'<path d="M{x + WIDTH + 4} {middle}H{end - 6}" class="a" marker-end="url(#tip)"/>')
            if box.shape:
                parts.append(_text(x + WIDTH - 10, y + height - 8, box.shape, "s", "end"))
        y += height + 24
        shown = "; ".join(", ".join(point.axes) for point in points)
        if shown:
            parts.append(_text(16, y - 2, f"map: {shown}", "m"))
            y += 26
    width = 32 + columns * WIDTH + (columns - 1) * GAP
    style = (
        "text{font:13px sans-serif;fill:#1b1f24}.n{font-weight:bold;font-size:15px}.r{fill:#5a6572;font-size:12px}"
        ".s,.m{fill:#0b5cad;font-size:12px}.h{font-weight:bold}.b{fill:#f5f7fa;stroke:#9aa5b1}"
        ".a{stroke:#5a6572;stroke-width:2;fill:none}"
    )
    tip = (
        '<marker id="tip" markerWidth="7" markerHeight="7" refX="5" refY="3.5" orient="auto">'
        '<path d="M0 0L7 3.5L0 7z" fill="#5a6572"/></marker>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" width="{width}" height="{y}" role="img">'
        f"<title>{escape(title)}</title><style>{style}</style><defs>{tip}</defs>"
        f'<rect width="100%" height="100%" fill="#ffffff"/>{"".join(parts)}</svg>\n'
    )


def _text(x: int, y: int, words: str, kind: str, anchor: str = "start") -> str:
    where = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text x="{x}" y="{y}" class="{kind}"{where}>{escape(words)}</text>' if words else ""
