"""What a mechanism does as a drawing, read from its methods: their docstrings and the shapes they declare."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections import Counter
from dataclasses import dataclass
from xml.sax.saxutils import escape

from torch import nn

from foveate.attention import Map, Sequence, maps_of
from foveate.fusion import GuidedGate
from foveate.replacement import Replacement

WIDTH, GAP, LINE, SIDE = 232, 46, 18, 112
STEPS = (("gather", "feature extraction"), ("weigh", "attention calculation"), ("recalibrate", "feature recalibration"))
_AXES = {
    "c": "channel",
    "in": "channel that goes in",
    "out": "channel that comes out",
    "hw->hw": "pair of positions",
    "c->c": "pair of channels",
    "slot": "slot of the memory",
    "tap": "cell of the kernel",
    "group": "group of channels",
}
_POSITIONS = {("h", "w"): "position", ("d", "h", "w"): "position", ("h",): "row", ("w",): "column"}


@dataclass(frozen=True)
class Step:
    """One box: what it is called, what it does, and the shape of what leaves it."""

    name: str
    role: str
    does: str
    shape: str


@dataclass(frozen=True)
class Row:
    """One mechanism, or one step of a sequence.

    Attributes:
        name: The step's name; empty for a whole mechanism.
        boxes: Its steps.
        frame: What holds them together where ``forward`` does more than they do: what it does.
        maps: Where its weights pass.
        given: What goes in, a line each.
        gives: What comes out, a line each.
    """

    name: str
    boxes: list[Step]
    frame: str
    maps: list[Map]
    given: list[str]
    gives: list[str]


def rows_of(module: nn.Module) -> list[Row]:
    """The rows of a drawing: one for each step in sequence."""
    if isinstance(module, Sequence):
        found = [(f"{path} {row.name}".strip(), row) for path, step in module.steps() for row in rows_of(step)]
        last = len(found) - 1
        return [
            Row(name, row.boxes, "", row.maps, row.given if not n else ["from above"],
                row.gives if n == last else ["to the next"])
            for n, (name, row) in enumerate(found)
        ]  # fmt: skip
    kind = type(module)
    if isinstance(module, Replacement):
        weighing = [name for name in vars(kind) if name.startswith("weigh")]
        names = [("gather", STEPS[0][1])] if hasattr(kind, "gather") else []
        names += [(name, STEPS[1][1]) for name in weighing]
        frame = _said(kind, "forward")[0]
    else:
        names, frame = [(name, role) for name, role in STEPS if hasattr(kind, name)], ""
    boxes = [Step(name, role, *_said(kind, name)) for name, role in names]
    if isinstance(module, GuidedGate):
        boxes.append(Step("x · weights", STEPS[2][1], "The first map, gated.", ""))
    points = list(maps_of(module).values())
    signature = inspect.signature(kind.forward)
    given = [
        line
        for name, parameter in signature.parameters.items()
        if name != "self"
        for line in (f"map {name}", _shape(parameter.annotation))
        if line
    ]
    gives = [line for line in ("out", _shape(signature.return_annotation)) if line]
    return [
        Row("", boxes or [Step("forward", "", *_said(kind, "forward"))], frame if boxes else "", points, given, gives)
    ]


def weights_of(points: list[Map]) -> str:
    """What the weights vary over, in words.

    Example:
        >>> weights_of([Map("c", "h", "w"), Map("kernel")])
        'weights: one for each channel and position; one for each kernel'
        >>> weights_of([Map("hw->hw")] * 8)
        'weights: one for each pair of positions, 8 times'
    """
    said: list[str] = []
    for axes, count in Counter(point.axes for point in points).items():
        places = tuple(axis for axis in axes if axis in ("d", "h", "w"))
        words = [_AXES.get(axis, axis) for axis in axes if axis not in places]
        words += [_POSITIONS[places]] if places else []
        said.append(f"one for each {' and '.join(words)}" + (f", {count} times" if count > 1 else ""))
    return f"weights: {'; '.join(said)}" if said else ""


def _said(kind: type, name: str) -> tuple[str, str]:
    method = getattr(kind, name)
    first = (inspect.getdoc(method) or "").partition("\n\n")[0].replace("\n", " ")
    words = re.sub(r":\w+:`~?([\w.]+)`", lambda m: m[1].rpartition(".")[2], first).replace("`", "")
    return words, _shape(inspect.signature(method).return_annotation)


def _shape(annotation: object) -> str:
    """The axes after the batch's, where all of them have names."""
    found = re.search(r"""["']b ([\w ]+)["']""", str(annotation))
    return "" if found is None or "_" in found[1] else found[1].replace(" ", " × ")


def draw(module: nn.Module, title: str) -> str:
    """The drawing as SVG; the same mechanism gives the same bytes."""
    rows = rows_of(module)
    columns = max(len(row.boxes) for row in rows)
    inside = columns * WIDTH + (columns - 1) * GAP
    width = 2 * SIDE + inside
    parts: list[str] = []
    y = 12
    for row in rows:
        if row.name:
            parts.append(_text(SIDE, y + 14, row.name, "h"))
            y += 26
        texts = [textwrap.wrap(box.does, 29) for box in row.boxes]
        right = SIDE + len(row.boxes) * WIDTH + (len(row.boxes) - 1) * GAP
        top = y
        if row.frame:
            lines = textwrap.wrap(row.frame, max(30, (right - SIDE) // 7))
            parts += [_text(SIDE, y + 22 + LINE * i, line, "t") for i, line in enumerate(lines)]
            y += 22 + LINE * len(lines)
        height = 74 + LINE * max(len(lines) for lines in texts)
        for number, (box, lines) in enumerate(zip(row.boxes, texts, strict=True)):
            x = SIDE + number * (WIDTH + GAP)
            parts.append(f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{height}" rx="8" class="b"/>')
            parts.append(_text(x + 14, y + 24, box.name, "n") + _text(x + 14, y + 42, box.role, "r"))
            parts += [_text(x + 14, y + 64 + LINE * i, line, "t") for i, line in enumerate(lines)]
            if number + 1 < len(row.boxes):
                parts.append(_arrow(x + WIDTH + 4, x + WIDTH + GAP - 6, y + height // 2))
            if box.shape:
                parts.append(_text(x + WIDTH - 10, y + height - 8, box.shape, "s", "end"))
        middle = y + height // 2
        y += height
        edge = 0
        if row.frame:
            y, edge = y + 14, 12
            parts.insert(
                0,
                f'<rect x="{SIDE - edge}" y="{top}" width="{right - SIDE + 2 * edge}" height="{y - top}" rx="10" '
                'class="f"/>',
            )
        parts += [_arrow(16, SIDE - edge - 6, middle), _arrow(right + edge + 4, right + SIDE - 18, middle)]
        parts += [
            _text(8, middle - 10 - LINE * (len(row.given) - 1 - i), line, "s") for i, line in enumerate(row.given)
        ]
        parts += [
            _text(right + SIDE - 8, middle - 10 - LINE * (len(row.gives) - 1 - i), line, "s", "end")
            for i, line in enumerate(row.gives)
        ]
        y += 24
        for line in textwrap.wrap(weights_of(row.maps), inside // 7):
            parts.append(_text(SIDE, y - 2, line, "m"))
            y += LINE
        y += 8
    style = (
        "text{font:13px sans-serif;fill:#1b1f24}.n{font-weight:bold;font-size:15px}.r{fill:#5a6572;font-size:12px}"
        ".s,.m{fill:#0b5cad;font-size:12px}.h{font-weight:bold}.b{fill:#f5f7fa;stroke:#9aa5b1}"
        ".f{fill:#ffffff;stroke:#9aa5b1;stroke-dasharray:5 4}.a{stroke:#5a6572;stroke-width:2;fill:none}"
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


def _arrow(start: int, end: int, y: int) -> str:
    return f'<path d="M{start} {y}H{end}" class="a" marker-end="url(#tip)"/>'


def _text(x: int, y: int, words: str, kind: str, anchor: str = "start") -> str:
    where = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text x="{x}" y="{y}" class="{kind}"{where}>{escape(words)}</text>' if words else ""
