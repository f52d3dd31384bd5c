"""Showing one mechanism."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from foveate.certificate import certificate_of
from foveate.cli.words import ELEMENTWISE, MAP, Json, console, instead_of, print_json, shape_of, written
from foveate.registry import Mechanism, get, parse

SAID = {
    "attention": "attached beside a layer, keeps the shape of its map",
    "fusion": "attached where two maps meet",
    "replacement": "stands in a convolution's place",
}


def show(
    name: Annotated[str, typer.Argument(help="A mechanism, perhaps with options: `se`, `cbam:reduction=8`.")],
    shape: Annotated[str, typer.Option(help="The feature map to measure the cost at: channels×height×width.")] = MAP,
    proof: Annotated[
        bool, typer.Option("--proof", help="Print the certificate: what it was compared with, and the differences.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show one mechanism: paper, equation, options, and what it costs on a feature map; or how we know it is right.

    Examples: `foveate show cbam --shape 512x28x28` · `foveate show cbam --proof`
    """
    spec = parse(name)
    mechanism = get(spec.name)
    if proof:
        _prove(mechanism, as_json)
        return
    import torch

    from foveate.measure import measure, survey

    channels, height, width = shape_of(shape)
    module = spec.create(channels, size=(height, width)).eval()
    maps = 2 if mechanism.protocol == "fusion" else 1
    cost = measure(module, *(torch.randn(1, channels, height, width) for _ in range(maps)))
    if as_json:
        print_json({**described(mechanism, **dict(spec.options)), "spec": str(spec), "cost": cost.as_dict()})
        return
    card, out = mechanism.card, console()
    out.print(f"[bold]{card.title}[/] ({mechanism.kind(**dict(spec.options))})")
    out.print(f"{card.paper.authors}: {card.paper.title}. {card.paper.venue}.", highlight=False)
    if card.paper.url:
        out.print(card.paper.url)
    entry = survey(card.name, channels, (height, width))
    aliases = f" (also {', '.join(card.aliases)})" if card.aliases else ""
    needs = f"; needs {entry.needs}" if entry.needs else ""
    out.print(f"{card.name}{aliases}: {SAID[mechanism.protocol]}{needs}", highlight=False, markup=False)
    usage = mechanism.used_as(str(spec), **dict(spec.options))
    out.print(f"in Python: {usage}", highlight=False, markup=False)
    host = "NETWORK --at skip" if 'at="skip"' in usage else "torchvision/resnet50"
    out.print(f"in a shell: foveate plan {host} {spec}", highlight=False, markup=False)
    out.print(f"\n{card.equation}\n", markup=False, highlight=False)
    table = Table(title="options", title_justify="left", box=None, pad_edge=False)
    for column in ("name", "default", "meaning"):
        table.add_column(column, overflow="fold")
    for option in mechanism.options.values():
        table.add_row(option.name, written(option.default), option.description.replace("``", ""))
    out.print(table)
    out.print(f"\ncode: {card.reference}", highlight=False, markup=False)
    for difference in card.differences:
        out.print(f"differs: {difference}", highlight=False, markup=False)
    out.print(
        f"\n{spec} at {channels}×{height}×{width}: {cost.parameters:,} parameters, {cost.macs:,} MACs, "
        f"{cost.bytes / 1e6:.1f} MB moved, {cost.latency.median * 1e3:.2f} ms (p95 {cost.latency.p95 * 1e3:.2f}), "
        f"{cost.peak_memory / 1e6:.1f} MB at most",
        highlight=False,
        markup=False,
    )
    if mechanism.protocol == "replacement":
        out.print(f"({instead_of(channels, (height, width))})", highlight=False, markup=False)
    if not cost.macs:
        out.print(f"({ELEMENTWISE})", highlight=False, markup=False)
    here = cost.conditions
    out.print(
        f"(one image, {here.dtype}, {here.device}: {here.cpu}, {here.threads} threads, torch {torch.__version__})",
        highlight=False,
        markup=False,
    )


def _prove(mechanism: Mechanism, as_json: bool) -> None:
    certificate = certificate_of(mechanism.card.name)
    if as_json:
        print_json(certificate.as_dict())
        return
    out = console()
    out.print(f"[bold]{mechanism.card.title}[/]: how we know that it is right")
    for line in certificate.lines():
        out.print(f"- {line}", highlight=False, markup=False)
    out.print(f"({', '.join(f'{k} {v}' for k, v in certificate.conditions.items())})", highlight=False, markup=False)


def described(mechanism: Mechanism, **options: Any) -> dict[str, Any]:
    """What a mechanism says about itself, ready for JSON."""
    card = mechanism.card
    return {
        "name": card.name,
        "aliases": list(card.aliases),
        "title": card.title,
        "kind": mechanism.kind(**options),
        "protocol": mechanism.protocol,
        "usage": mechanism.usage,
        "paper": {
            "title": card.paper.title,
            "authors": card.paper.authors,
            "venue": card.paper.venue,
            "url": card.paper.url,
        },
        "equation": card.equation,
        "reference": card.reference,
        "differences": list(card.differences),
        "options": {
            option.name: {"default": option.default, "type": option.annotation, "meaning": option.description}
            for option in mechanism.options.values()
        },
    }
