"""How an oracle is found."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

Oracle = Callable[..., np.ndarray]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def oracle_of() -> Callable[[str], Oracle]:
    """`oracle_of("eca")` is the function `oracle` of `eca.py` in this folder."""
    loaded: dict[str, Oracle] = {}

    def load(name: str) -> Oracle:
        if name not in loaded:
            path = Path(__file__).with_name(f"{name}.py")
            described = importlib.util.spec_from_file_location(f"oracle_{name}", path)
            assert described is not None
            assert described.loader is not None
            module = importlib.util.module_from_spec(described)
            described.loader.exec_module(module)
            loaded[name] = module.oracle
        return loaded[name]

    return load
