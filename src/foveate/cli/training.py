"""Training a network for one of four kinds of work, and asking a trained one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foveate.cli.words import INTERRUPTED, WHERE, Json, console, print_json, stop, telling
from foveate.errors import OptionError

if TYPE_CHECKING:
    from foveate.train.task import Row

WORK = "`classification`, `segmentation`, `detection` or `medical`; not needed with `--resume`."


def train(
    work: Annotated[str | None, typer.Argument(help=WORK)] = None,
    data: Annotated[Path | None, typer.Option(help="The samples; by default the embedded ones.")] = None,
    host: Annotated[str | None, typer.Option(help="The network.")] = None,
    weights: Annotated[
        str, typer.Option(help="`none`, `pretrained`, a name of torchvision's, or a file (.safetensors, .pth).")
    ] = "none",
    attention: Annotated[str | None, typer.Option(help="The mechanism, as `cbam:reduction=8`.")] = None,
    at: Annotated[str | None, typer.Option(help=WHERE)] = None,
    start: Annotated[str | None, typer.Option(help="`paper` or `identity`; the second in a trained host.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training samples.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Samples a step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="The highest learning rate.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other setting, as `name=value`; may be given several times."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="`auto`, `cpu` or `cuda`.")] = "auto",
    devices: Annotated[int, typer.Option(help="Processes on this machine.")] = 1,
    nodes: Annotated[int, typer.Option(help="Machines.")] = 1,
    strategy: Annotated[str, typer.Option(help="How processes work together: `ddp`, or `fsdp` (FSDP2).")] = "auto",
    logger: Annotated[
        list[str] | None, typer.Option(help="`tensorboard`, `wandb`, `mlflow`, `trackio`; may be given several times.")
    ] = None,
    every: Annotated[int, typer.Option(help="Steps between two checkpoints.")] = 200,
    out: Annotated[Path, typer.Option(help="The folder of the run.")] = Path("foveate-train"),
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the run in the folder, as it was begun; with a work, or begin it."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Train a network, with attention or without, and keep curves, weights and a report in a folder.

    Killed at any moment, `foveate train --resume --out FOLDER` goes on where it was.

    Examples: `foveate train classification --attention cbam` ·
    `foveate train detection --data FOLDER --host torchvision/fasterrcnn_resnet50_fpn --attention eca --set workers=2`
    """
    from foveate.train.running import read_settings
    from foveate.train.running import resume as go_on
    from foveate.train.running import train as run_training

    told = console(stderr=True)

    def epoch(history: list[Row]) -> None:
        told.print(_line(history[-1]), markup=False, highlight=False, soft_wrap=True)

    how: dict[str, Any] = {
        "device": device,
        "devices": devices,
        "nodes": nodes,
        "strategy": strategy,
        "loggers": tuple(logger or ["tensorboard"]),
        "every": every,
        "progress": not as_json and told.is_terminal,
        "on_epoch": None if told.is_terminal else epoch,
    }

    def said(samples: Any) -> None:
        told.print("\n".join(samples.report.lines()), markup=False, highlight=False)

    try:
        if resume and work is None:
            done = go_on(out, on_data=said, **how)
        else:
            if work is None:
                raise OptionError(f"what is to be learned? {WORK}")
            settings = read_settings(work, set_ or [])
            given = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
            settings |= {name: value for name, value in given.items() if value is not None}
            chosen = None if weights == "none" else weights
            done = run_training(
                work, out, data=data, host=host, weights=chosen, attention=attention, at=at, start=start,
                settings=settings, seed=seed, on_data=said, resume=resume, **how,
            )  # fmt: skip
    except KeyboardInterrupt:
        stop(f"interrupted; `foveate train --resume --out {out}` goes on", INTERRUPTED)
    if not done.report:  # of several processes, the first one speaks
        return
    if as_json:
        print_json(done.report)
        return
    from foveate.train.report import lines_of

    console().print("\n".join(lines_of(done.report)), markup=False, highlight=False)
    console().print(f"\nrun: {done.folder}", markup=False, highlight=False, soft_wrap=True)


def check_data(
    work: Annotated[str, typer.Argument(help=WORK.split(";")[0] + ".")],
    data: Annotated[Path, typer.Argument(help="The samples.")],
    set_: Annotated[list[str] | None, typer.Option("--set", help="A setting of the work, as `name=value`.")] = None,
    as_json: Json = False,
) -> None:
    """Read samples as training would, and say what is wrong with them: nothing is trained.

    Exit code 1 if files had to be left out, 0 if all can be used.
    """
    from foveate.train.kinds import kind_of
    from foveate.train.running import read_settings, split_settings

    kind = kind_of(work)
    _, options = split_settings(work, read_settings(work, set_ or []))
    report = kind.data(data, kind.options(**options), seed=0).report
    if as_json:
        print_json(report.as_dict())
    else:
        console().print("\n".join(report.lines()), markup=False, highlight=False)
    if report.as_dict().get("skipped"):
        raise typer.Exit(1)


def predict(
    checkpoint: Annotated[Path, typer.Argument(help="The folder of a run.")],
    images: Annotated[list[Path], typer.Argument(help="Pictures, and folders of pictures.")],
    out: Annotated[Path, typer.Option(help="Where pictures, masks and JSON go.")] = Path("foveate-predict"),
    attention: Annotated[bool, typer.Option(help="Pictures of what the attention does, too.")] = True,
    as_json: Json = False,
) -> None:
    """What a trained network says of pictures: a picture each, masks where the work is one of them, and JSON."""
    from foveate.train.predicting import predict as run_prediction

    with telling(console(stderr=True), "reading the run") as say:

        def on_image(done: int, of: int) -> None:
            say(f"predicting: {done} of {of}")

        found = run_prediction(checkpoint, images, out, attention=attention, progress=on_image)
    if as_json:
        print_json(found)
        return
    told = console()
    for name, said in found["images"].items():
        words = {key: value for key, value in said.items() if isinstance(value, str | int | float)}
        line = ", ".join(f"{key} {_short(value)}" for key, value in words.items())
        told.print(f"{name}: {line}", markup=False, highlight=False, soft_wrap=True)
    for name, reason in found["skipped"].items():
        told.print(f"skipped: {name} {reason}", markup=False)
    told.print(f"\npredictions: {out}", markup=False, highlight=False, soft_wrap=True)


def _line(row: Row) -> str:
    """An epoch, as a line of a log.

    Example:
        >>> _line({"epoch": 1, "learning_rate": 0.1, "train_loss": 1.01823, "validation_accuracy": 0.585})
        'epoch 1: train loss 1.02, validation accuracy 0.585'
    """
    reached = {name: value for name, value in row.items() if name not in ("epoch", "learning_rate")}
    told = ", ".join(f"{name.replace('_', ' ')} {_short(value)}" for name, value in reached.items())
    return f"epoch {row['epoch']:.0f}: {told}"


def _short(value: str | float) -> str:
    """A number as a person reads it.

    Example:
        >>> _short(0.36812), _short(12), _short("Pullover")
        ('0.368', '12', 'Pullover')
    """
    return f"{value:.3g}" if isinstance(value, float) else str(value)
