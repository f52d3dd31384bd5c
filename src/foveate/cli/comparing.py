"""Comparing attended versions of a network with the network as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from foveate.cli.words import WHERE, Json, console, print_json, stop
from foveate.registry import parse_list


def compare(
    data: Annotated[
        Path | None, typer.Option(help="A folder of images, one folder a class; by default the embedded sample.")
    ] = None,
    host: Annotated[str, typer.Option(help="The network.")] = "foveate/resnet8",
    weights: Annotated[
        str, typer.Option(help="`auto`, `none`, `pretrained`, a name of torchvision's, or a file (.safetensors, .pth).")
    ] = "auto",
    attention: Annotated[
        str, typer.Option(help="The mechanisms, between commas.")
    ] = "squeeze_excite,eca,gather_excite,cbam,psanet",
    at: Annotated[str | None, typer.Option(help=WHERE)] = None,
    start: Annotated[
        str | None,
        typer.Option(
            help="`paper` or `identity`; by default `paper` in a random network, `identity` in a trained one."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Runs of each arm.")] = 3,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="The highest learning rate, the same for all.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Side of a folder's images, in pixels.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer images and epochs: a first look.")] = False,
    out: Annotated[Path, typer.Option(help="The folder for runs, table and report.")] = Path("foveate-compare"),
    as_json: Json = False,
) -> None:
    """Compare attended versions of a network with the network as it is: accuracy with intervals, cost, maps.

    Every run is a file in the output folder. Interrupt it, kill it, start the same command again: finished runs are
    kept, and none is counted twice.

    Examples: `foveate compare` · `foveate compare --quick` ·
    `foveate compare --data FOLDER --host torchvision/mobilenet_v2 --attention se,cbam`
    """
    from foveate.study.compare import compare as run_comparison
    from foveate.study.progress import bars

    try:
        with bars(Console(stderr=True)) as progress:
            comparison = run_comparison(
                data,
                host,
                None if weights == "none" else weights,
                parse_list(attention),
                seeds,
                at=at,
                start=start,
                epochs=epochs,
                batch_size=batch_size,
                learning_rate=learning_rate,
                image_size=image_size,
                quick=quick,
                out=out,
                progress=progress,
            )
    except KeyboardInterrupt as interruption:  # Typer would swallow its sentence
        stop(str(interruption) or "interrupted", 130)
    if as_json:
        print_json(comparison.as_dict())
        return
    from foveate.study.table import table

    out_to = console()
    out_to.print(table(comparison))
    for note in (*comparison.interrupted, *comparison.notes):
        out_to.print(f"\n{note}", highlight=False, markup=False)
    out_to.print(f"\nreport: {comparison.report}", highlight=False, markup=False, soft_wrap=True)
