"""The application: its commands, and how every refusal becomes one line and an exit code."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from foveate import __version__
from foveate.cli.choosing import choose
from foveate.cli.comparing import compare
from foveate.cli.doctoring import build_ops, doctor
from foveate.cli.listing import list_
from foveate.cli.looking import look
from foveate.cli.planning import plan
from foveate.cli.serving import app as serve
from foveate.cli.showing import show
from foveate.cli.studying import study
from foveate.cli.training import check_data, predict, train
from foveate.cli.words import INTERRUPTED, stop
from foveate.errors import DataError, FoveateError

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


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """Print the version, if that is what was asked for."""
    if version:
        typer.echo(f"foveate {__version__}")
        raise typer.Exit


app.command("list")(list_)
app.command()(show)
app.command()(choose)
app.command()(plan)
app.command()(compare)
app.add_typer(study, name="study")
app.command()(train)
app.command()(predict)
app.command()(look)
app.command("check-data")(check_data)
app.command("app")(serve)
app.command()(doctor)
app.command("build-ops")(build_ops)


def main() -> None:
    """Run the command line; every refusal is one line on standard error, and an exit code that scripts can use."""
    try:
        code = app(standalone_mode=False) or 0
        if code == INTERRUPTED:  # Typer takes the interrupt for itself and says nothing
            stop("interrupted", INTERRUPTED)
        sys.exit(code)
    except FoveateError as error:
        stop(str(error), 2 if isinstance(error, ValueError | LookupError | ImportError | DataError) else 1)
    except KeyboardInterrupt as error:
        stop(str(error) or "interrupted", INTERRUPTED)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:
        stop(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "), 1)
    except typer.Exit as ended:
        sys.exit(ended.exit_code)
    except typer.Abort:
        stop("interrupted", INTERRUPTED)
    except Exception as error:
        # Click's own errors, about a misused command or option; Typer brings a Click of its own, so no class to name
        words = getattr(error, "format_message", None)
        if words is None:
            raise
        stop(words().strip(), getattr(error, "exit_code", 2))
