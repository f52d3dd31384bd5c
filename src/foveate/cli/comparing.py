"""Comparing attended versions of a network with the network as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from foveate.cli.words import INTERRUPTED, WHERE, Json, console, print_json, stop
from foveate.registry import parse_list

if TYPE_CHECKING:
    from foveate.study.progress import Reporter
    from foveate.study.rows import Comparison

MANY = "Mechanisms between commas, or `all`."


def compare(
    data: Annotated[
        Path | None, typer.Option(help="The samples, as `foveate train` reads them; by default the embedded ones.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="The network; the usual one for the work.")] = None,
    weights: Annotated[
        str, typer.Option(help="`auto`, `none`, `pretrained`, a name of torchvision's, or a file (.safetensors, .pth).")
    ] = "auto",
    attention: Annotated[
        str, typer.Option(help="The mechanisms, between commas.")
    ] = "squeeze_excite,eca,gather_excite,cbam,psanet",
    work: Annotated[
        str, typer.Option(help="`classification`, `segmentation`, `detection` or `medical`.")
    ] = "classification",
    at: Annotated[str | None, typer.Option(help=WHERE)] = None,
    start: Annotated[
        str | None,
        typer.Option(
            help="`paper` or `identity`; by default `paper` in a random network, `identity` in a trained one."
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Runs of each arm: 3, or with `--full` as many as it takes to decide.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training samples.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Samples a step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="The highest learning rate.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Side of a folder's images, in pixels.")] = None,
    train_samples: Annotated[int | None, typer.Option(help="Learn from so many samples only.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other setting of `foveate train`, as `name=value`; several times."),
    ] = None,
    full: Annotated[
        bool,
        typer.Option(
            "--full",
            help="The whole protocol: capacity control and placebo of every mechanism, learning rates for every arm, "
            "enough seeds, fewer samples, corruptions, focus, all costs. Its time is told first.",
        ),
    ] = False,
    capacity: Annotated[str | None, typer.Option(help=f"Whose capacity control runs. {MANY}")] = None,
    placebo: Annotated[str | None, typer.Option(help=f"Whose placebo runs. {MANY}")] = None,
    larger: Annotated[str | None, typer.Option(help="Larger networks to compare with, between commas.")] = None,
    grid: Annotated[
        str | None, typer.Option(help="Factors of the learning rate to try for every arm, as `0.3,1,3`.")
    ] = None,
    tuning_seeds: Annotated[int, typer.Option(help="Seeds that choose the learning rate.")] = 1,
    fractions: Annotated[
        str | None, typer.Option(help="Parts of the training samples to learn from as well, as `0.1,0.3`.")
    ] = None,
    corruptions: Annotated[
        str | None, typer.Option(help="Strengths at which test samples are corrupted, as `1,2,3,4,5`.")
    ] = None,
    published: Annotated[Path | None, typer.Option(help="A folder of CIFAR-C or ImageNet-C.")] = None,
    shifted: Annotated[Path | None, typer.Option(help="A folder of other test samples.")] = None,
    focus: Annotated[int, typer.Option(help="Test images on which the focus of attention is judged.")] = 0,
    resplit: Annotated[
        bool | None,
        typer.Option("--resplit/--no-resplit", help="Deal samples to the splits anew with every seed."),
    ] = None,
    sequential: Annotated[
        bool, typer.Option("--sequential", help="Add seeds until the question is decided; `--seeds` is the most.")
    ] = False,
    relevant: Annotated[
        float | None, typer.Option(help="The smallest difference you would care about, as 0.01 for one point.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer samples and epochs: a first look.")] = False,
    on: Annotated[
        str, typer.Option(help="Where runs are carried out: `here`, `3 processes`, `ray`, `ray://host:10001`.")
    ] = "here",
    part: Annotated[
        str | None, typer.Option(help="This machine's share of the runs, as `2/3`; merge the folders afterwards.")
    ] = None,
    compiled: Annotated[bool, typer.Option("--compiled", help="Time compiled networks as well.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done and how long it takes.")] = False,
    out: Annotated[Path, typer.Option(help="The folder for runs, table and report.")] = Path("foveate-compare"),
    as_json: Json = False,
) -> None:
    """Compare attended versions of a network with the network as it is: verdicts, cost, maps.

    Every run is a file in the output folder. Interrupt it, kill it, start the same command again: finished runs are
    kept, and none is counted twice.

    Examples: `foveate compare` · `foveate compare --quick` · `foveate compare --full --dry-run` ·
    `foveate compare --data FOLDER --host torchvision/mobilenet_v2 --attention se,cbam --relevant 0.01`
    """
    from foveate.study.needs import check_packages

    check_packages()
    from foveate.study.asked import Asked
    from foveate.study.compare import Means
    from foveate.train.running import read_settings

    settings = read_settings(work, set_ or [])
    given = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate, "size": image_size}
    settings |= {name: value for name, value in given.items() if value is not None}
    mechanisms = parse_list(attention)
    asked = Asked(
        at=at,
        start=start,
        settings=settings,
        train_samples=train_samples,
        capacity=_mechanisms(capacity, full=full),
        placebo=_mechanisms(placebo, full=full),
        larger=tuple(one.strip() for one in larger.split(",")) if larger else (),
        grid=_numbers("--grid", grid, FULL_GRID if full else ()),
        tuning_seeds=tuning_seeds,
        fractions=_numbers("--fractions", fractions, FULL_FRACTIONS if full else ()),
        corruptions=_strengths(corruptions, (1, 2, 3, 4, 5) if full and work != "medical" else ()),
        published=None if published is None else str(published),
        shifted=None if shifted is None else str(shifted),
        focus=focus or (FULL_FOCUS if full and work == "classification" else 0),
        resplit=resplit,
        sequential=sequential,
        relevant=relevant,
        quick=quick,
    )
    means = Means(on=on, part=part, costs="full" if full else "quick", compiled=compiled)
    if seeds is None:
        seeds = _enough(len(mechanisms), sequential=sequential) if full or sequential else 3
    request: dict[str, Any] = {"attention": mechanisms, "seeds": seeds, "work": work, "asked": asked}
    chosen = None if weights == "none" else weights
    if dry_run or full:
        _tell(data, host, chosen, request, means, as_json=as_json, out=out, only=dry_run)
        if dry_run:
            return
    from foveate.study.compare import compare as run_comparison

    shown(
        lambda progress: run_comparison(data, host, chosen, means=means, out=out, progress=progress, **request),
        as_json=as_json,
    )


FULL_GRID, FULL_FRACTIONS, FULL_FOCUS = (1 / 3, 1.0, 3.0), (0.1, 0.3), 32


def shown(run: Callable[[Reporter], Comparison], *, as_json: bool) -> None:
    """Compare, with bars, and print what came out."""
    from foveate.study.compare import PartFinished
    from foveate.study.progress import reporting

    try:
        with reporting(Console(stderr=True)) as progress:
            comparison = run(progress)
    except PartFinished as done:
        console().print(str(done), highlight=False, markup=False, soft_wrap=True)
        return
    except KeyboardInterrupt as interruption:  # Typer would swallow its sentence
        stop(str(interruption) or "interrupted", INTERRUPTED)
    if as_json:
        print_json(comparison.as_dict())
        return
    from foveate.study.table import table

    out_to = console()
    out_to.print(comparison.headline, highlight=False, markup=False)
    out_to.print(table(comparison))
    for note in (*comparison.interrupted, *comparison.notes):
        out_to.print(f"\n{note}", highlight=False, markup=False)
    out_to.print(f"\nreport: {comparison.report}", highlight=False, markup=False, soft_wrap=True)


def _tell(
    data: Any,
    host: str | None,
    weights: Any,
    request: dict[str, Any],
    means: Any,
    *,
    as_json: bool,
    out: Path,
    only: bool,
) -> None:
    """What is going to be done, and how long it takes."""
    from foveate.study.execution.crew import place_of
    from foveate.study.forecast import forecast
    from foveate.study.plan import prepare
    from foveate.study.rules import rules

    prepared = prepare(
        data, host, weights, request["attention"], request["seeds"], work=request["work"], asked=request["asked"]
    )
    place = place_of(means.on)
    found = forecast(prepared, max(1, getattr(place, "processes", None) or 1))
    if only and as_json:
        arms = [arm.as_dict() for arm in prepared.study.arms]
        print_json({
            "arms": arms, "seeds": list(prepared.study.seeds), "rules": rules(prepared.study), "stages": found.stages,
            "seconds_of": found.seconds_of, "seconds": found.seconds, "out": str(out),
        })  # fmt: skip
        return
    to = Console(stderr=not only)
    lines = [*rules(prepared.study), *found.lines()] if only else found.lines()
    for line in lines:
        to.print(line, highlight=False, markup=False, soft_wrap=True)


def _mechanisms(text: str | None, *, full: bool) -> tuple[Any, ...]:
    if text is None:
        return ("all",) if full else ()
    return ("all",) if text.strip() == "all" else tuple(parse_list(text))


def _numbers(option: str, text: str | None, otherwise: tuple[float, ...]) -> tuple[float, ...]:
    from foveate.errors import OptionError

    if text is None:
        return otherwise
    try:
        return tuple(float(one) for one in text.split(",") if one.strip())
    except ValueError as error:
        raise OptionError(f"{option} takes numbers between commas, such as 0.1,0.3, not '{text}'") from error


def _strengths(text: str | None, otherwise: tuple[int, ...]) -> tuple[int, ...]:
    from foveate.errors import OptionError

    found = _numbers("--corruptions", text, otherwise)
    if odd := [one for one in found if one != int(one)]:
        raise OptionError(f"--corruptions takes strengths from 1 to 5, such as 1,3,5, not {odd[0]:g}")
    return tuple(int(one) for one in found)


def _enough(arms: int, *, sequential: bool) -> int:
    """As many seeds as it takes to decide about so many mechanisms at all; with room for looks where there are some."""
    from foveate.study.statistics.sign_flip import fewest_seeds

    return fewest_seeds(0.05 / max(1, arms)) + (6 if sequential else 0)
