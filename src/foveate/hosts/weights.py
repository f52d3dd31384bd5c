"""Weights from outside: read without running anything that a file might hold, and loaded completely or not at all."""

from __future__ import annotations

import pickle
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from foveate.errors import DataError, FoveateError, OptionError

SUFFIXES = (".safetensors", ".pt", ".pth")


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint, onto the CPU.

    A checkpoint of a training run that holds them under ``state_dict`` or ``model`` is opened there, and
    the prefix ``module.`` that data-parallel training leaves on every key is taken off.

    Args:
        path: A ``.safetensors`` file, or a ``.pt`` or ``.pth`` file of tensors and plain values. Other pickles are
            refused: reading one runs whatever program it holds.

    Raises:
        OptionError: If the file has another ending.
        DataError: If there is no such file, it is damaged, or it holds more than tensors and plain values.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "net.pt")
        ...     torch.save({"epoch": 3, "state_dict": {"module.fc.bias": torch.zeros(2)}}, file)
        ...     read_weights(file)
        {'fc.bias': tensor([0., 0.])}
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise OptionError(f"'{path}' is none of the files that weights are read from: {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise DataError(f"there is no file '{path}' to read weights from")
    content: Any
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise FoveateError(
            f"'{path}' is damaged or holds more than tensors and plain values, and such a file could run any "
            "program: save its state_dict() alone, best as .safetensors"
        ) from error
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise FoveateError(f"'{path}' cannot be read as weights: {_first_line(error)}") from error
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise FoveateError(f"'{path}' holds no state_dict: a table of tensors by name was expected")
    if content and all(str(key).startswith("module.") for key in content):
        return {str(key).removeprefix("module."): value for key, value in content.items()}
    return {str(key): value for key, value in content.items()}


def load_weights(
    model: nn.Module, weights: Mapping[str, Tensor], *, head: Collection[str] = (), source: str = "the weights"
) -> tuple[str, ...]:
    """Load weights into a network: all of them, or none if one does not fit.

    The counters ``num_batches_tracked``, which files older than PyTorch 0.4.1 do not have, may be absent.

    Args:
        model: The network.
        weights: Tensors by name, as :func:`read_weights` returns them.
        head: Keys that keep the network's own values, all of them, if one has another shape in the weights.
        source: What to call the weights in an error.

    Returns:
        The keys of the head that kept their own values; none if the head was loaded too.

    Raises:
        FoveateError: If a key is missing, unexpected or of another shape, with the keys.

    Example:
        >>> load_weights(nn.Linear(2, 3), nn.Linear(2, 5).state_dict(), head={"weight", "bias"})
        ('bias', 'weight')
    """
    own = model.state_dict()
    kept: tuple[str, ...] = ()
    if any(key in weights and weights[key].shape != own[key].shape for key in head):
        kept = tuple(sorted(head))
    offered = {key: value for key, value in weights.items() if key not in kept}
    missing = [
        key for key in own if key not in offered and key not in kept and not key.endswith(".num_batches_tracked")
    ]
    unexpected = [key for key in offered if key not in own]
    reshaped = [
        f"{key} ({_shape(value)} there, {_shape(own[key])} here)"
        for key, value in offered.items()
        if key in own and value.shape != own[key].shape
    ]
    problems = [
        f"{what}: {_some(keys)}"
        for what, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped))
        if keys
    ]
    if problems:
        raise FoveateError(f"{source} do not fit {type(model).__name__}, nothing was loaded; " + "; ".join(problems))
    model.load_state_dict(offered, strict=False)
    return kept


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "scalar"


def _some(keys: Iterable[str], shown: int = 4) -> str:
    keys = list(keys)
    rest = f" and {len(keys) - shown} more" if len(keys) > shown else ""
    return ", ".join(keys[:shown]) + rest


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
