"""Finding what `tests/oracles/<name>.py` says about a mechanism: its oracle, and all that is checked beside it."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import foveate

Options = dict[str, Any]
Oracle = Callable[..., np.ndarray]
FOLDER = Path(__file__).parents[1] / "oracles"
CHANNELS = (1, 3, 7, 16, 64)
SIZES = ((1, 1), (1, 5), (7, 5), (6, 8), (9, 9))  # a point, a line, odd, even, square and beyond extent 8
BATCH = 4


@cache
def about(name: str) -> ModuleType:
    """The module `tests.oracles.<name>`. What may stand in it is described in `tests/oracles/README.md`."""
    return importlib.import_module(f"tests.oracles.{name}")


def oracle_files() -> set[str]:
    """The names that have a file."""
    return {path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith(("test_", "conftest", "__"))}


def said(name: str, what: str, otherwise: Any) -> Any:
    """One thing that a mechanism's file says, or what holds where it says nothing."""
    return getattr(about(name), what, otherwise)


def collected(what: str) -> list[tuple[str, Any]]:
    """One thing from all files, a list or dictionary each: (mechanism, item) by mechanism."""
    return [(name, item) for name in foveate.names() for item in said(name, what, ())]


def product(**values: tuple[Any, ...]) -> list[Options]:
    """Every combination of options."""
    return [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())]
