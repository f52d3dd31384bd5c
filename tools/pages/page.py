"""One page a mechanism, and the page that lists them."""

from __future__ import annotations

import inspect
import json
from functools import cache
from pathlib import Path
from typing import Any

import torch

import foveate
from foveate.certificate import certificate_of
from foveate.measure import survey
from foveate.registry import KINDS, Mechanism, Spec, get
from tools.pages import pictures
from tools.pages.diagram import draw
from tools.pages.growth import growth

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "mechanisms"
COST = ROOT / "benchmarks" / "results" / "mechanisms.json"
CHANNELS, SIZE = 256, (14, 14)
_MEANS = {
    "channel": "each channel, the same at all positions",
    "spatial": "each position, the same in all channels",
    "hybrid": "channels and positions, at once or one after the other",
    "pixel-pair": "pairs of positions, or what brings to each position something from all over the map",
    "branch": "each of several branches that are computed side by side",
    "kernel": "each kernel that is mixed, or each cell of one",
}


def write() -> None:
    """Write all pages and diagrams, and take away those of mechanisms that are no more."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    wanted = contents()
    for path in FOLDER.iterdir():
        if path.suffix in (".md", ".svg") and path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


def contents() -> dict[str, str]:
    """Every file of the folder that is text, by name."""
    files = {"README.md": index()}
    for name in foveate.names():
        with torch.device("meta"):
            module = Spec(name).create(CHANNELS, size=SIZE)
        files[f"{name}.svg"] = draw(module, f"{_drawn(get(name))}: {get(name).card.title}")
        files[f"{name}.md"] = page(name)
    return files


def index() -> str:
    """The list of all mechanisms."""
    lines = [
        "<!-- written by `uv run python -m tools.pages` -->",
        "# The catalogue",
        "",
        f"{len(foveate.names())} mechanisms. Parameters and multiply-accumulates are those of the default form on a "
        f"feature map of {CHANNELS}×{SIZE[0]}×{SIZE[1]}; what takes how long, and what was compared, is on each page.",
        "",
        "Elementwise work is not counted as multiply-accumulates: what has 0 of them still reads and writes the map, "
        "and the latencies tell it. A replacement's numbers are its own; those of the convolution it stands for, "
        f"{CHANNELS**2 * 9:,} parameters and {CHANNELS**2 * 9 * SIZE[0] * SIZE[1]:,} multiply-accumulates for one of "
        "3×3, are not taken off.",
        "",
        "The **protocol** says where a mechanism goes:",
        "",
        "| protocol | where | by |",
        "|---|---|---|",
        "| attention | beside a layer; it keeps the shape of that layer's map | `foveate.attach` |",
        "| fusion | where two maps meet: in place of their sum, or at a U-Net's skip | `foveate.attach` |",
        "| replacement | in a convolution's place, whose shape it takes | `foveate.replace` |",
        "",
        "The **kind** says what its weights tell apart. It is computed from the axes of the maps:",
        "",
        "| kind | a weight for |",
        "|---|---|",
        *(f"| {kind} | {_MEANS[kind]} |" for kind in KINDS),
    ]
    for kind in KINDS:
        rows = [name for name in foveate.names() if get(name).kind() == kind]
        if not rows:
            continue
        lines += ["", f"## {kind.capitalize()}", "", "| name | title | protocol | paper | parameters | MACs | needs |"]
        lines += ["|---|---|---|---|---:|---:|---|"]
        for name in rows:
            card, entry = get(name).card, survey(name, CHANNELS, SIZE)
            numbers = ("–" if n is None else f"{n:,}" for n in (entry.parameters, entry.macs))
            known = f"[`{name}`]({name}.md)" + "".join(f", `{alias}`" for alias in card.aliases)
            told = (known, card.title, get(name).protocol, card.paper.venue, *numbers, entry.needs)
            lines.append(f"| {' | '.join(told)} |")
    return "\n".join(lines) + "\n"


def page(name: str) -> str:
    """The page of one mechanism."""
    mechanism, certificate = get(name), certificate_of(name)
    card, needs = mechanism.card, survey(name, CHANNELS, SIZE).needs
    idea, _, rest = (inspect.getdoc(mechanism.build) or "").partition("\n\n")
    source = f"[{card.paper.title}]({card.paper.url})" if card.paper.url else card.paper.title
    lines = [
        "<!-- written by `uv run python -m tools.pages` -->",
        f"# {card.title}",
        "",
        idea.replace("\n", " ").replace("``", "`"),
        "",
        f"`{name}`" + "".join(f", `{alias}`" for alias in card.aliases) + f" · {mechanism.protocol} · "
        f"{mechanism.kind()}{f' · needs {needs}' if needs else ''} · "
        f"{card.paper.authors}: {source}. {card.paper.venue}.",
        "",
        "```python",
        *_snippet(mechanism),
        "```",
        "",
        "## Equation",
        "",
        "```",
        card.equation,
        "```",
        "",
        *_paragraphs(rest),
        f"![{_drawn(mechanism)}]({name}.svg)",
        "",
        "## Options",
        "",
    ]
    if mechanism.options:
        lines += ["| option | default | meaning |", "|---|---|---|"]
        for option in mechanism.options.values():
            lines.append(f"| `{option.name}` | `{option.default}` | {option.description.replace('``', '`')} |")
    else:
        lines.append("None.")
    if (FOLDER / f"{name}.jpg").is_file():
        lines += ["", "## What it looks at", "", f"![Maps on photographs]({name}.jpg)", "", pictures.note(name)]
    lines += ["", "## Cost", "", *_cost(name), *growth(name)]
    if card.evidence:
        lines += ["", "## What its paper reports", "", card.evidence]
    if card.differences:
        lines += ["", "## How ours differs", "", *(f"- {difference}" for difference in card.differences)]
    lines += ["", "## How we know that it is right", "", *(f"- {line}" for line in certificate.lines())]
    return "\n".join(lines) + "\n"


def _drawn(mechanism: Mechanism) -> str:
    return {
        "attention": "The three steps",
        "fusion": "The three steps, of two maps",
        "replacement": "What it does in a convolution's place",
    }[mechanism.protocol]


def _snippet(mechanism: Mechanism) -> list[str]:
    """Lines that run as they stand."""
    imports, model = "foveate, torchvision", "torchvision.models.resnet18()"
    if 'at="skip"' in mechanism.usage:
        imports, model = "foveate, segmentation_models_pytorch as smp", 'smp.Unet("resnet18", encoder_weights=None)'
    if "torch.zeros" in mechanism.usage:
        imports = imports.replace("foveate, ", "foveate, torch, ")
    return [f"import {imports}", "", f"model = {model}", mechanism.usage]


def _paragraphs(rest: str) -> list[str]:
    """What the docstring says between its first line and its sections."""
    text, _, _ = rest.partition("Source:")
    return [paragraph.replace("``", "`") + "\n" for paragraph in text.strip().split("\n\n") if paragraph.strip()]


@cache
def _measured() -> dict[str, Any]:
    return json.loads(COST.read_text()) if COST.is_file() else {"shapes": [], "conditions": {}}


def _cost(name: str) -> list[str]:
    """A table of what was measured, as it stands in the committed file."""
    shapes = _measured()["shapes"]
    rows = [(shape, found) for shape in shapes for found in shape["mechanisms"] if found["mechanism"] == name]
    if not rows:
        refused = next((shape["refused"][name] for shape in shapes if name in shape["refused"]), "")
        return [f"It cannot be had for the shapes that are measured: {refused}" if refused else "Not measured yet."]
    lines = [
        "Shares are of one residual bottleneck block of as many channels on the same map, measured side by side.",
        "",
        "| map | parameters | MACs | bytes moved | latency | latency, share | memory, share |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for shape, found in rows:
        shares, latency = found["shares"], found["latency"]
        where = "×".join(map(str, (shape["channels"], *shape["size"])))
        moved, times = f"{found['bytes'] / 1e6:.1f} MB", f"{latency['median'] * 1e3:.2f} ms"
        lines.append(
            f"| {where} | {found['parameters']:,} | {found['macs']:,} | {moved} "
            f"| {times} (p95 {latency['p95'] * 1e3:.2f}) | {shares['latency']:.1%} | {shares['memory']:.1%} |"
        )
    if get(name).protocol == "replacement":
        lines += [
            "",
            "Parameters and MACs of the convolution whose place it takes are not taken off: `plan` does that.",
        ]
    if not all(found["macs"] for _, found in rows):
        lines += ["", "Elementwise work is not counted as MACs; bytes moved and latency tell it."]
    here = _measured()["conditions"]
    lines += ["", f"One image, {here['dtype']}, {here['cpu']}, {here['threads']} threads, torch {here['torch']}."]
    return lines
