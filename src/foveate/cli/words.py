"""What the commands share: reading what a person writes, and printing."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from time import monotonic
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from foveate.errors import OptionError

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
WHERE = (
    "Where: `residual`, `skip`, `conv`, ..., or a path or glob of module names; by default, "
    "`conv` for one that stands in the place of convolutions, `residual` for others."
)
ELEMENTWISE = "Elementwise work is not counted as MACs; bytes and times tell it"
MAP = "256x14x14"  # the feature map that costs are told at unless another is asked for
INTERRUPTED = 130  # the exit code of what a person interrupted
PATIENCE = 30.0  # seconds after which a log is told again what is being done
LARGEST = 2**28  # values of a feature map, 1 GiB of them: more is a slip of the pen


def console(*, whole: bool = False, stderr: bool = False) -> Console:
    """Where tables go: as wide as the terminal, or a fixed width for a file, where ``whole`` breaks no line at all."""
    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(width=None if terminal else 10_000 if whole else 120, stderr=stderr)


@contextmanager
def telling(told: Console, first: str) -> Generator[Callable[[str], None]]:
    """Say what is being done: on a terminal in a line that changes, elsewhere in a line now and then.

    Elsewhere a line is printed where something new begins, which is what stands before a colon, and after
    :data:`PATIENCE` seconds of the same.

    Args:
        told: Where.
        first: What a terminal shows until something is said.

    Example:
        >>> import io
        >>> file = io.StringIO()
        >>> with telling(Console(file=file), "reading") as say:
        ...     for done in range(1, 100):
        ...         say(f"reading images: {done} of 99")
        ...     say("writing")
        >>> file.getvalue().splitlines()
        ['reading images: 1 of 99', 'writing']
    """
    if told.is_terminal:
        with told.status(escape(first)) as status:
            yield lambda text: status.update(escape(text))
        return
    last, since = "", 0.0

    def say(text: str) -> None:
        nonlocal last, since
        begins, now = text.partition(":")[0], monotonic()
        if begins != last or now - since > PATIENCE:
            told.print(text, markup=False, highlight=False, soft_wrap=True)
            last, since = begins, now

    yield say


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
    check_map(text, channels, height, width)
    return channels, height, width


def check_map(written: str, channels: int, height: int, width: int) -> None:
    """Refuse a feature map that is empty, or too large to be meant.

    Raises:
        OptionError: As a person has written it.
    """
    if min(channels, height, width) < 1 or channels * height * width > LARGEST:
        raise OptionError(f"'{written}' is not a feature map to measure with: sides from 1, {LARGEST:,} values at most")


def count_of(option: str, text: str | None) -> int | None:
    """A number of parameters or MACs, as `10000`, `10k`, `1.5M` or `1e6`; ``None`` where nothing was written.

    Raises:
        OptionError: If it is not a number, or below zero.
    """
    if text is None:
        return None
    plain = text.strip().replace(",", "").replace("_", "").lower()
    unit = {"k": 10**3, "m": 10**6, "g": 10**9}.get(plain[-1:], 1)
    try:
        value = float(plain[:-1] if unit > 1 else plain) * unit
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise OptionError(f"{option} must be a number from 0, as 10000, 10k, 1.5M or 1e6, not '{text}'")
    return int(round(value, 3))  # 1.001k is 1000.9999999999999 in binary


def instead_of(channels: int, size: tuple[int, int]) -> str:
    """What a replacement's cost has to be read beside: that of the convolution that it takes the place of.

    Example:
        >>> instead_of(8, (2, 2))
        "instead of a 3×3 convolution's 576 parameters and 2,304 MACs, which are not taken off"
    """
    parameters = channels**2 * 9
    return (
        f"instead of a 3×3 convolution's {parameters:,} parameters and {parameters * size[0] * size[1]:,} MACs, "
        "which are not taken off"
    )


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
