"""Planning an attachment."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Annotated

import typer

from foveate.cli.words import WHERE, Json, numbers_of, print_json
from foveate.errors import FoveateWarning, OptionError, check_at_least
from foveate.registry import parse


def plan(
    host: Annotated[str, typer.Argument(help="The network: `torchvision/resnet50`, `timm/resnet18`, ...")],
    name: Annotated[str | None, typer.Argument(help="A mechanism, perhaps with options.")] = None,
    attention: Annotated[
        str | None, typer.Option(help="The same, by name; squeeze_excite if neither is given.")
    ] = None,
    at: Annotated[str | None, typer.Option(help=WHERE)] = None,
    size: Annotated[int | None, typer.Option(help="Side of the images, in pixels; by default the host's own.")] = None,
    stages: Annotated[str | None, typer.Option(help="Only these stages, as `3,4`.")] = None,
    predict: Annotated[bool, typer.Option("--predict", help="Say what time and memory it would take here.")] = False,
    batch: Annotated[int, typer.Option(help="Images at once, for what is predicted.")] = 1,
    as_json: Json = False,
) -> None:
    """Plan an attachment: where it would go and what it would add, place by place. Nothing is changed.

    What stands in the place of convolutions lists those, and what it has beyond them.

    With `--predict`, time and memory that it would take on this machine: nothing is run but small operations, in a
    few seconds.

    Examples: `foveate plan torchvision/resnet50 cbam --stages 3,4` · `foveate plan torchvision/resnet50 odconv` ·
    `foveate plan torchvision/resnet50 psanet --predict --batch 8`
    """
    if name is not None and attention is not None:
        raise OptionError(f"one mechanism is planned at a time: '{name}' or '{attention}'")
    spec = parse(name or attention or "squeeze_excite")

    import torch

    from foveate import hosts
    from foveate.surgery import plan as make_plan
    from foveate.surgery.put import usual_place

    model = hosts.build(host, classes=1000)
    channels, *sides = hosts.input_shape(model)
    if size is not None:
        check_at_least("--size", size, 1)
        sides = [size] * len(sides)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        planned = make_plan(
            model,
            spec,
            at=usual_place(spec) if at is None else at,
            example=torch.zeros(1, channels, *sides),
            stages=None if stages is None else numbers_of(stages),
            predict=predict,
            batch=batch,
        )
    said = tuple(str(one.message) for one in caught if issubclass(one.category, FoveateWarning))
    planned = replace(planned, warnings=planned.warnings + said)
    if as_json:
        print_json({"host": host, **planned.as_dict()})
    else:
        shape = "×".join(map(str, (channels, *sides)))
        typer.echo(f"{host} at {shape}\n{planned}")
