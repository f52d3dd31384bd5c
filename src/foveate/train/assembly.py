"""A network by names: a host, its weights, attention at its places; written beside the weights of every run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from foveate import __version__
from foveate.errors import DataError, OptionError, nearest
from foveate.files import write_atomically
from foveate.hosts import load_weights, read_weights
from foveate.registry import parse
from foveate.surgery.put import put
from foveate.train.kinds import Data, Kind, kind_of

FORMAT = 1
DESCRIPTION, WEIGHTS = "model.json", "model.safetensors"


@dataclass(frozen=True)
class Assembly:
    """Everything it takes to build a network again.

    Attributes:
        work: The kind of work, such as ``"segmentation"``.
        host: The network, by name.
        attention: What is attached to it, as a spec; ``None`` for nothing.
        at: Where, several places with commas between them; where it usually acts, if ``None``.
        start: How attention starts.
        classes: What the network tells apart.
        channels: Of its images.
        options: What was chosen for the kind of work.
    """

    work: str
    host: str
    classes: tuple[str, ...]
    channels: int
    attention: str | None = None
    at: str | None = None
    start: str = "identity"
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def kind(self) -> Kind[Any]:
        """The kind of work."""
        return kind_of(self.work)

    def build(self, weights: str | Path | None = None, *, seed: int = 0) -> tuple[nn.Module, tuple[str, ...]]:
        """The network, and which of its parameters are new: not among the host's weights.

        Equal seeds give equal hosts, whatever is attached to them; the global random stream is left as it was.
        """
        from foveate.data.chance import generator

        kind, options = self.kind, self.chosen()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator("host", seed).initial_seed())
            network, new = kind.network(self.host, self.classes, self.channels, weights, options)
            if self.attention is not None:
                torch.manual_seed(generator("attention", seed).initial_seed())
                example = kind.example(self.channels, options)
                start: Any = self.start
                at = None if self.at is None else [one.strip() for one in self.at.split(",")]
                put(network, parse(self.attention), at=at, start=start, example=example)
        return network, new

    def chosen(self) -> Any:
        """The options of the kind of work.

        Raises:
            OptionError: If one does not exist.
        """
        known = [one.name for one in fields(self.kind.options)]
        for name in self.options:
            if name not in known:
                raise OptionError(f"{self.work} has no option '{name}'; {nearest(name, known)}")
        return self.kind.options(**self.options)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {**asdict(self), "classes": list(self.classes), "options": dict(self.options)}


def save_model(folder: Path, network: nn.Module, assembly: Assembly) -> None:
    """Write a trained network: its weights, and how it is built.

    Raises:
        FoveateError: If it cannot be written.
    """
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.state_dict().items()}
    write_atomically(folder / WEIGHTS, save(state))
    about = {"kind": "foveate model", "format": FORMAT, "foveate": __version__, **assembly.as_dict()}
    write_atomically(folder / DESCRIPTION, (json.dumps(about, indent=1, ensure_ascii=False) + "\n").encode())


def load_model(folder: str | Path) -> tuple[nn.Module, Assembly]:
    """A trained network from the folder of its run, or from the folder ``model`` in it, in evaluation mode.

    Raises:
        DataError: If there is none, or it is damaged.
    """
    assembly, folder = described(folder), _within(folder)
    network, _ = assembly.build()
    load_weights(network, read_weights(folder / WEIGHTS), source=f"the weights in '{folder}'")
    return network.eval(), assembly


def described(folder: str | Path) -> Assembly:
    """What is written of a trained network, without its weights.

    Raises:
        DataError: If there is none, or it is damaged.
    """
    folder = _within(folder)
    path = folder / DESCRIPTION
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        if about["kind"] != "foveate model":
            raise KeyError("kind")
        if about["format"] > FORMAT:
            raise DataError(f"'{path}' was written by a newer foveate ({about['foveate']}): upgrade to read it")
        known = {one.name for one in fields(Assembly)}
        told: dict[str, Any] = {key: value for key, value in about.items() if key in known}
        told["classes"] = tuple(about["classes"])
        return Assembly(**told)
    except FileNotFoundError as error:
        raise DataError(f"'{folder}' holds no trained network: there is no {DESCRIPTION} in it") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"'{path}' does not describe a network of foveate ({error})") from error


def _within(folder: str | Path) -> Path:
    """The folder of the model in the folder of a run."""
    folder = Path(folder)
    return folder / "model" if (folder / "model" / DESCRIPTION).is_file() else folder


def assembled(
    work: str,
    data: Data,
    host: str | None,
    *,
    weights: str | Path | None = None,
    attention: str | None = None,
    at: str | None = None,
    start: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Assembly:
    """The description of a network for some data; attention starts as the host where that is trained.

    Raises:
        OptionError: If a name or an option does not exist.
    """
    kind = kind_of(work)
    if start is None:
        start = "paper" if weights is None else "identity"
    host = kind.usual_host(kind.options(**(options or {}))) if host is None else host
    spec = None if attention is None else parse(attention)
    if at is None and spec is not None:
        at = kind.usual_place(host, spec)
    found = Assembly(
        work=work,
        host=host,
        classes=tuple(data.classes),
        channels=kind.channels(data, weights),
        attention=None if spec is None else str(spec),
        at=at,
        start=start,
        options=dict(options or {}),
    )
    return replace(found, options=asdict(kind.settled(data, found.chosen(), found.host)))


__all__ = ["Assembly", "assembled", "described", "load_model", "save_model"]
