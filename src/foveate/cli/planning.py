"""Planning an attachment."""

from __future__ import annotations

from typing import Annotated

import typer

from foveate.cli.words import Json, numbers_of, print_json
from foveate.errors import check_at_least
from foveate.registry import parse


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
        stages=None if stages is None else numbers_of(stages),
    )
    if as_json:
        print_json({"host": host, **planned.as_dict()})
    else:
        shape = "×".join(map(str, (channels, *sides)))
        typer.echo(f"{host} at {shape}\n{planned}")
