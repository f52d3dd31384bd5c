"""The command line: parse, call one public function, print."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from foveate import __version__
from foveate.errors import DataError, FoveateError, OptionError, check_at_least
from foveate.registry import Mechanism, get, names, parse, parse_list

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="""Attention for convolutional networks: does it help **your** network, what does it cost, where does it look?

    A mechanism is written as its name, and its options behind a colon: `cbam`, `se:reduction=8`,
    `cbam:pools=avg+max,kernel_size=3`. Several stand between commas: `se,eca,cbam:reduction=8`.

    A network is written as `foveate/resnet8`, `torchvision/resnet50` or `timm/resnet18`.

    Exit codes: 0 done, 1 something failed while running (weights, disk, network), 2 the request makes no sense as it
    is written, 130 interrupted.
    """,
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
LARGEST = 2**28  # values of a feature map, 1 GiB of them: more is a slip of the pen
KINDS = ("channel", "spatial", "hybrid", "pixel-pair", "branch", "kernel")


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """Print the version, if that is what was asked for."""
    if version:
        typer.echo(f"foveate {__version__}")
        raise typer.Exit


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the catalogue, by kind.

    Example: `foveate list`
    """
    mechanisms = sorted((get(name) for name in names()), key=lambda m: (KINDS.index(m.kind()), m.card.name))
    if as_json:
        _print_json([_described(mechanism) for mechanism in mechanisms])
        return
    table = Table(box=None, pad_edge=False)
    for column in ("kind", "name", "title", "paper"):
        table.add_column(column, overflow="fold")
    for mechanism in mechanisms:
        card = mechanism.card
        known_as = card.name + "".join(f" ({alias})" for alias in card.aliases)
        table.add_row(mechanism.kind(), known_as, card.title, card.paper.venue)
    _console().print(table)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A mechanism, perhaps with options: `se`, `cbam:reduction=8`.")],
    shape: Annotated[
        str, typer.Option(help="The feature map to measure the cost at: channels×height×width.")
    ] = "256x56x56",
    as_json: Json = False,
) -> None:
    """Show one mechanism: paper, equation, options, and what it costs on a feature map.

    Example: `foveate show cbam --shape 512x28x28`
    """
    import torch

    from foveate.measure import measure

    spec = parse(name)
    mechanism = get(spec.name)
    channels, height, width = _shape(shape)
    module = spec.create(channels, size=(height, width)).eval()
    cost = measure(module, torch.randn(1, channels, height, width))
    if as_json:
        _print_json({**_described(mechanism, **dict(spec.options)), "spec": str(spec), "cost": cost.as_dict()})
        return
    card, console = mechanism.card, _console()
    console.print(f"[bold]{card.title}[/] ({mechanism.kind(**dict(spec.options))})")
    console.print(f"{card.paper.authors}: {card.paper.title}. {card.paper.venue}.", highlight=False)
    if card.paper.url:
        console.print(card.paper.url)
    console.print(f"\n{card.equation}\n", markup=False, highlight=False)
    table = Table(title="options", title_justify="left", box=None, pad_edge=False)
    for column in ("name", "default", "meaning"):
        table.add_column(column, overflow="fold")
    for option in mechanism.options.values():
        table.add_row(option.name, _written(option.default), option.description.replace("``", ""))
    console.print(table)
    console.print(f"\ncompared with: {card.reference}", highlight=False, markup=False)
    for difference in card.differences:
        console.print(f"differs: {difference}", highlight=False, markup=False)
    console.print(
        f"\n{spec} at {channels}×{height}×{width}: {cost.parameters:,} parameters, {cost.macs:,} MACs, "
        f"{cost.bytes / 2**20:.1f} MiB moved, {cost.latency.median * 1e3:.2f} ms (p95 {cost.latency.p95 * 1e3:.2f}), "
        f"{cost.peak_memory / 2**20:.1f} MiB at most",
        highlight=False,
        markup=False,
    )
    here = cost.conditions
    console.print(
        f"(one image, {here.dtype}, {here.device}: {here.cpu}, {here.threads} threads, torch {torch.__version__})",
        highlight=False,
        markup=False,
    )


@app.command()
def plan(
    host: Annotated[str, typer.Argument(help="The network: `torchvision/resnet50`, `timm/resnet18`, ...")],
    attention: Annotated[str, typer.Option(help="A mechanism, perhaps with options.")] = "squeeze_excite",
    at: Annotated[str, typer.Option(help="Where: `residual`, or a path or glob of module names.")] = "residual",
    size: Annotated[int | None, typer.Option(help="Side of the images, in pixels; by default the host's own.")] = None,
    stages: Annotated[str | None, typer.Option(help="Only these stages, as `3,4`.")] = None,
    as_json: Json = False,
) -> None:
    """Plan an attachment: where it would go and what it would add, place by place. Nothing is changed.

    Example: `foveate plan torchvision/resnet50 --attention cbam --stages 3,4`
    """
    import torch

    from foveate import hosts
    from foveate.surgery import plan as make_plan

    model = hosts.build(host, classes=1000)
    channels, *sides = hosts.input_shape(model)
    if size is not None:
        check_at_least("--size", size, 1)
        sides = [size] * len(sides)
    planned = make_plan(
        model,
        parse(attention),
        at=at,
        example=torch.zeros(1, channels, *sides),
        stages=None if stages is None else _numbers(stages),
    )
    if as_json:
        _print_json({"host": host, **planned.as_dict()})
    else:
        shape = "×".join(map(str, (channels, *sides)))
        typer.echo(f"{host} at {shape}\n{planned}")


@app.command()
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
    at: Annotated[str, typer.Option(help="Where: `residual`, or a path or glob of module names.")] = "residual",
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
        _stop(str(interruption) or "interrupted", 130)
    if as_json:
        _print_json(comparison.as_dict())
        return
    from foveate.study.table import table

    console = _console()
    console.print(table(comparison))
    for note in (*comparison.interrupted, *comparison.notes):
        console.print(f"\n{note}", highlight=False, markup=False)
    console.print(f"\nreport: {comparison.report}", highlight=False, markup=False, soft_wrap=True)


def main() -> None:
    """Run the command line; every refusal is one line on standard error, and an exit code that scripts can use."""
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except FoveateError as error:
        _stop(str(error), 2 if isinstance(error, ValueError | LookupError | ImportError | DataError) else 1)
    except KeyboardInterrupt as error:
        _stop(str(error) or "interrupted", 130)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:
        _stop(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "), 1)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except typer.Abort:
        _stop("interrupted", 130)
    except Exception as error:
        # Click's own errors, about a misused command or option; Typer brings a Click of its own, so no class to name
        words = getattr(error, "format_message", None)
        if words is None:
            raise
        _stop(words().strip(), getattr(error, "exit_code", 2))


def _stop(message: str, code: int) -> NoReturn:
    typer.echo(f"foveate: {message}", err=True)
    sys.exit(code)


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 120)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _described(mechanism: Mechanism, **options: Any) -> dict[str, Any]:
    card = mechanism.card
    return {
        "name": card.name,
        "aliases": list(card.aliases),
        "title": card.title,
        "kind": mechanism.kind(**options),
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


def _shape(text: str) -> tuple[int, int, int]:
    try:
        channels, height, width = (int(part) for part in text.lower().replace("×", "x").split("x"))
    except ValueError:
        raise OptionError(f"'{text}' is not a shape; write channels×height×width, as 256x56x56") from None
    if min(channels, height, width) < 1 or channels * height * width > LARGEST:
        raise OptionError(f"'{text}' is not a feature map to measure with: sides from 1, {LARGEST:,} values at most")
    return channels, height, width


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise OptionError(f"'{text}' is not a list of whole numbers; write them as 3,4") from None


def _written(value: Any) -> str:
    if isinstance(value, tuple):
        return "+".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)
