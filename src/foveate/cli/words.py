"""What the commands share: reading what a person writes, and printing."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from foveate.errors import OptionError

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
LARGEST = 2**28  # values of a feature map, 1 GiB of them: more is a slip of the pen


def console() -> Console:
    """Where tables go: as wide as the terminal, or a fixed width for a file."""
    return Console(width=None if sys.stdout.isatty() else 120)


def print_json(value: Any) -> None:
    """Print a value that scripts can read."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def shape_of(text: str) -> tuple[int, int, int]:
    """Channels, height and width of a feature map, as `256x56x56`.

    Raises:
        OptionError: If it is not that, or too large to be meant.
    """
    try:
        channels, height, width = (int(part) for part in text.lower().replace("×", "x").split("x"))
    except ValueError:
        raise OptionError(f"'{text}' is not a shape; write channels×height×width, as 256x56x56") from None
    if min(channels, height, width) < 1 or channels * height * width > LARGEST:
        raise OptionError(f"'{text}' is not a feature map to measure with: sides from 1, {LARGEST:,} values at most")
    return channels, height, width


def numbers_of(text: str) -> list[int]:
    """Whole numbers between commas.

    Raises:
        OptionError: If it is not that.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise OptionError(f"'{text}' is not a list of whole numbers; write them as 3,4") from None


def written(value: Any) -> str:
    """An option's value as a person writes it."""
    if isinstance(value, tuple):
        return "+".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def stop(message: str, code: int) -> NoReturn:
    """End with one line on standard error."""
    typer.echo(f"foveate: {message}", err=True)
    sys.exit(code)
