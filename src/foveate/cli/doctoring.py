"""What runs on this machine, and compiling operations for it."""

from __future__ import annotations

import time
from typing import Annotated

import typer
from rich.console import Console

from foveate.cli.words import Json, console, print_json


def doctor(as_json: Json = False) -> None:
    """Examine this machine and installation: which operations run, what the allocator costs, which extras are there.

    Example: `foveate doctor`
    """
    from foveate.measure.doctor import examine

    found = examine()
    if as_json:
        print_json(found.as_dict())
    else:
        console(whole=True).print(str(found), highlight=False, markup=False)


def build_ops(
    compiler: Annotated[
        str | None, typer.Option(help="A C++ compiler that takes GCC's options; by default `$CXX`, g++ or clang++.")
    ] = None,
) -> None:
    """Compile quicker operations for this machine, once; optional, and used from then on.

    They go to the user's cache folder (`FOVEATE_CACHE` names another). `FOVEATE_COMPILED_OPS=0` switches them off;
    `foveate doctor` says what runs.

    Example: `foveate build-ops`
    """
    from foveate.ops.compiled.build import build
    from foveate.ops.compiled.library import reload

    start = time.perf_counter()
    with Console(stderr=True).status("compiling"):
        path = build(compiler)
    loaded = reload()
    seconds = time.perf_counter() - start
    size = path.stat().st_size / 1024
    using = f"in use, instruction set {loaded.instruction_set}" if loaded else "switched off by FOVEATE_COMPILED_OPS=0"
    console(whole=True).print(f"compiled in {seconds:.0f} s: {size:.0f} KiB, {using}", highlight=False, markup=False)
