"""Reading results, and refusing what is damaged or not what its name says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor

from foveate.errors import FoveateError
from foveate.study.plain import digest

FORMAT = 2
RUN = "foveate run"


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a table of values; ``None`` if there is no such file.

    Raises:
        FoveateError: If it is damaged.
    """
    try:
        value = json.loads(path.read_bytes(), parse_constant=_no_number)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise FoveateError(f"'{path}' is damaged: {error}") from error
    if not isinstance(value, dict):
        raise FoveateError(f"'{path}' is damaged: it holds no table of values")
    return value


def read_run(out: Path, key: str) -> dict[str, Any]:
    """Read a finished run.

    Raises:
        FileNotFoundError: If there is none.
        FoveateError: If it is damaged, or not the run that its name says.
    """
    path = out / "runs" / f"{key}.json"
    record = read_json(path)
    if record is None:
        raise FileNotFoundError(path)
    content = {name: value for name, value in record.items() if name != "digest"}
    if record.get("kind") != RUN or record.get("format") != FORMAT:
        raise FoveateError(f"'{path}' is not a run of this version of foveate")
    if digest(content) != record.get("digest"):
        raise FoveateError(f"'{path}' was changed after it was written")
    if record.get("key") != key or digest(record.get("config"))[:16] != key:
        raise FoveateError(f"'{path}' holds another run than its name says")
    return record


def read_maps(out: Path, record: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the maps of a run: tensors and metadata.

    Raises:
        FoveateError: If they are missing or damaged.
    """
    path = out / "maps" / f"{record['key']}.safetensors"
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != record["maps"]["sha256"]:
            raise FoveateError(f"'{path}' was changed after it was written")
        return load_tensors(content), json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    except FileNotFoundError as error:
        raise FoveateError(f"its maps '{path}' are missing") from error
    except (OSError, SafetensorError) as error:
        raise FoveateError(f"'{path}' cannot be read: {error}") from error


def _no_number(constant: str) -> None:
    raise ValueError(f"{constant} is not a number that JSON has")
