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
import torch

import foveate

Options = dict[str, Any]
Oracle = Callable[..., np.ndarray]
FOLDER = Path(__file__).parents[1] / "oracles"
CHANNELS = (1, 3, 7, 16, 64)
SIZES = ((1, 1), (1, 5), (7, 5), (6, 8), (9, 9))  # a point, a line, odd, even, square and beyond extent 8
BATCH = 4
EPS = 2.0**-52


@cache
def about(name: str) -> ModuleType:
    """The module `tests.oracles.<name>`. What may stand in it is described in `tests/oracles/README.md`."""
    if not (FOLDER / f"{name}.py").is_file():  # a test says so; all others need not fall over it
        return ModuleType(name)
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


def randomise(module: torch.nn.Module, generator: np.random.Generator) -> None:
    """Weights that keep values near one, and norms that do something."""
    for name, tensor in module.state_dict().items():
        shape = tuple(tensor.shape)
        if name.endswith("running_var"):
            values = generator.uniform(0.5, 2, shape)
        elif tensor.dim() > 1:
            values = generator.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))
        elif tensor.dim() == 1:
            values = generator.normal(size=shape)
        else:
            continue
        tensor.copy_(torch.from_numpy(np.asarray(values)))


def allowed(name: str, options: Options, channels: int, size: tuple[int, int], training: bool, of: np.ndarray) -> float:
    """How far two correct computations may lie apart; `tests/oracles/test_oracles.py` derives it."""
    return EPS * about(name).terms(options, channels, size, training) * max(1.0, np.abs(of).max())


def both(
    name: str,
    options: Options,
    channels: int,
    size: tuple[int, int],
    training: bool,
    made_for: tuple[int, int] | None = None,
    batch: int = BATCH,
) -> tuple[np.ndarray, np.ndarray]:
    """What the module gives and what the oracle gives."""
    generator = np.random.default_rng([channels, *size, training])
    made_for = made_for or size
    pair = foveate.get(name).protocol == "fusion"
    others, their_size = said(name, "partner", _alike)(channels, size) if pair else (None, size)
    module = foveate.create(name, channels, size=made_for, partner_channels=others, dtype=torch.float64, **options)
    module.train(training)
    randomise(module, generator)
    state = {key: value.numpy().copy() for key, value in module.state_dict().items() if value.dim()}
    x = generator.normal(size=(batch, channels, *size)) + generator.normal(size=(batch, channels, 1, 1))
    given = [x]
    extra: dict[str, Any] = {"size": made_for} if foveate.get(name).wants_size else {}
    if pair:
        given.append(generator.normal(size=(batch, others, *their_size)) + generator.normal(size=(batch, others, 1, 1)))
        extra["partner"] = given[1].copy()
    expected = about(name).oracle(x.copy(), state, training=training, **extra, **options)
    with torch.no_grad():
        return module(*map(torch.from_numpy, given)).numpy(), expected


def _alike(channels: int, size: tuple[int, int]) -> tuple[int, tuple[int, int]]:
    return channels, size
