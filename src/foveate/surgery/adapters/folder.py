"""An adapter's folder: written whole or not at all, and read completely before anything of it is used.

It holds ``attention.json``, the manifest, and ``attention.safetensors``, the tensors: attention's parameters, blends
and buffers, and those of the host that are no longer what they were when attention came, such as a new head.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from foveate.errors import DataError, FoveateError, OptionError
from foveate.surgery.adapters.manifest import Manifest
from foveate.surgery.adapters.manifest_json import from_json, to_json

JSON, TENSORS = "attention.json", "attention.safetensors"


def folder_called(path: str | os.PathLike[str]) -> Path:
    """The folder that a path means.

    Raises:
        OptionError: If it is no path.
    """
    if not isinstance(path, str | os.PathLike):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise OptionError(f"the path of an adapter's folder is a string or a Path, not {type(path).__name__}")
    return Path(path)


def write_adapter(folder: Path, manifest: Manifest, tensors: Mapping[str, Tensor], *, overwrite: bool) -> None:
    """Write a folder under a name beside it, then give it its own.

    Raises:
        FoveateError: If something is there that may not be replaced.
    """
    _check_free(folder, overwrite)
    folder.parent.mkdir(parents=True, exist_ok=True)
    token = secrets.token_hex(4)
    partial, old = (folder.with_name(f".{folder.name}.{token}.{what}") for what in ("partial", "old"))
    try:
        partial.mkdir()
        content = tensors_to_bytes(dict(tensors), metadata={"format": "pt"})
        (partial / TENSORS).write_bytes(content)
        (partial / JSON).write_text(to_json(manifest, hashlib.sha256(content).hexdigest()), encoding="utf-8")
        if folder.exists():
            folder.replace(old)
        try:
            partial.replace(folder)
        except OSError:
            if old.exists():
                old.replace(folder)
            raise
    finally:
        for left in (partial, old):
            shutil.rmtree(left, ignore_errors=True)


def read_adapter(folder: Path) -> tuple[Manifest, dict[str, Tensor]]:
    """Read a folder completely, or say what is wrong with it. No program in it could run.

    Raises:
        DataError: If it is not there, not a folder, damaged, or of a future format.
    """
    if not folder.is_dir():
        what = "is a file; an adapter is the folder that `save` wrote" if folder.exists() else "does not exist"
        raise DataError(f"'{folder}' {what}")
    absent = [name for name in (JSON, TENSORS) if not (folder / name).is_file()]
    if absent:
        raise DataError(f"'{folder}' is no adapter, or a part of one: it has no {' and no '.join(absent)}")
    manifest, checksum = from_json(folder / JSON)
    content = (folder / TENSORS).read_bytes()
    if hashlib.sha256(content).hexdigest() != checksum:
        raise DataError(f"'{folder / TENSORS}' is not the file that {JSON} was written with: truncated, or changed")
    try:
        return manifest, tensors_from_bytes(content)
    except (SafetensorError, ValueError, RuntimeError, KeyError) as error:
        raise DataError(f"'{folder / TENSORS}' is no safetensors file: {error}") from error


def _check_free(folder: Path, overwrite: bool) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise FoveateError(f"'{folder}' is a file: an adapter is a folder, give it another name")
    others = sorted(child.name for child in folder.iterdir() if child.name not in (JSON, TENSORS))
    if others:
        raise FoveateError(f"'{folder}' holds other things than an adapter, such as '{others[0]}': nothing was saved")
    if not overwrite and any(folder.iterdir()):
        raise FoveateError(f"'{folder}' exists: replace it with overwrite=True, or save under another name")
