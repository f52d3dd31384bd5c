"""Plain values and sources as short names: equal ones have equal names, in every process and on every machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import foveate

# whatever of the package shapes the numbers of a run; how they are measured, counted and shown does not
SOURCES = (
    *(
        "attention.py",
        "fusion.py",
        "replacement.py",
        "registry",
        "ops",
        "catalogue",
        "hosts",
        "surgery",
        "data",
        "train",
    ),
    *("explain/activation", "explain/recording", "explain/trust", "explain/record.py", "explain/at_rest.py"),
    *("explain/focus.py", "explain/heat.py", "explain/scores.py"),
    *("study/arms", "study/material.py", "study/work.py", "study/outcome.py", "study/calibration.py"),
    "study/elsewhere.py",
)
SHOWN = ("train/album.py", "train/drawing.py", "train/looking.py", "train/predicting.py")


def canonical(value: Any) -> bytes:
    """The one way to write plain values as JSON, so that equal values have equal bytes.

    Example:
        >>> canonical({"b": [1.0, None], "a": "θ"}).decode()
        '{"a":"θ","b":[1.0,null]}'
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def digest(value: Any) -> str:
    """A hash of plain values: SHA-256 of their canonical JSON."""
    return hashlib.sha256(canonical(value)).hexdigest()


@cache
def code_fingerprint() -> str:
    """A hash of the sources that shape a run's numbers: a run of other code is another run.

    Example:
        >>> len(code_fingerprint())
        16
    """
    package = Path(foveate.__file__).parent
    content = hashlib.sha256()
    for source in SOURCES:
        path = package / source
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            name = file.relative_to(package).as_posix()
            if name not in SHOWN:
                content.update(name.encode() + b"\0" + file.read_bytes() + b"\0")
    return content.hexdigest()[:16]


def tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """Lists as tuples, because JSON has none.

    Example:
        >>> tuples({"size": [28, 28], "name": "a"})
        {'size': (28, 28), 'name': 'a'}
    """
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def lists(values: Mapping[str, Any]) -> dict[str, Any]:
    """Tuples as lists, as JSON gives them back.

    Example:
        >>> lists({"size": (28, 28), "name": "a"})
        {'size': [28, 28], 'name': 'a'}
    """
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
