"""One run, carried out in whatever process this is."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from foveate.errors import FoveateError
from foveate.study.execution.job import Word, Work
from foveate.study.execution.where import where

_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")


def attempt(work: Work, key: str, payload: Mapping[str, Any], tell: Callable[[Word], None]) -> Word:
    """Carry a run out.

    Args:
        work: What does it.
        key: Of the job.
        payload: Of the job.
        tell: Is given every word on the way.

    Returns:
        The last word: ``done`` or ``failed``.
    """
    tell(Word("begun", key, {"where": where()}))
    start = perf_counter()
    try:
        finished = work(payload, lambda note: tell(Word("noted", key, _plain(note))))
        record = {**finished.record, "where": where(seconds=perf_counter() - start)}
        return Word("done", key, _plain(record), finished.maps)
    except FoveateError as error:
        return Word("failed", key, {"sentence": str(error), "trace": []})
    except Exception as error:
        return Word("failed", key, {"sentence": _sentence(error), "trace": _trace(error)})


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON gives it back, so that a run is the same wherever it was carried out."""
    return json.loads(json.dumps(dict(value), allow_nan=False))


def _sentence(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or any(word in str(error) for word in _NO_MEMORY):
        return f"there was not enough memory for it ({first or 'none was left'}): fewer runs at once need less"
    last = _trace(error)[-1:]
    return f"{type(error).__name__}: {first}" + "".join(f", in {line}" for line in last)


def _trace(error: Exception) -> list[str]:
    """Where an error came from, without the folders of the machine."""
    frames = traceback.extract_tb(error.__traceback__)
    return [f"{Path(frame.filename).name}, line {frame.lineno}, {frame.name}" for frame in frames[1:]]
