"""Saving an adapter: what was added to a network, and what changed in it since, as a folder of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from foveate.errors import FoveateError, PlaceError
from foveate.surgery.adapters.folder import folder_called, write_adapter
from foveate.surgery.adapters.manifest import HostEntry, Manifest, SeatEntry, this_version
from foveate.surgery.adapters.rebuild import made, prefix_of
from foveate.surgery.attended import attended_places, host_path
from foveate.surgery.fingerprint import changed_since_noted, digests, host_tensors, kind_of
from foveate.surgery.status import attachment_names
from foveate.surgery.unwrap import unwrapped


def save(model: nn.Module, path: str | os.PathLike[str], *names: str, overwrite: bool = False) -> Path:
    """Save what was added to a network, and what changed in it since: a folder of json and safetensors.

    The host's unchanged tensors are not saved; their digests are, so that :func:`load` knows the host again. A network
    that got its weights after attention came has changed in every tensor, and all are saved.

    Args:
        model: An attended network; also one that is compiled or wrapped for data-parallel training.
        path: The folder to write. It appears when it is complete, or not at all.
        names: The attachments to save; none means all.
        overwrite: Whether an adapter that is there already is replaced.

    Returns:
        The folder.

    Raises:
        PlaceError: If nothing is attached, or nothing of a name.
        OptionError: If there is no network or no path.
        FoveateError: If something is in the way, or the attention could not be built again.

    Example:
        >>> import foveate, tempfile, torch
        >>> host = foveate.hosts.build("foveate/resnet8", classes=10).eval()
        >>> weights, images = {**host.state_dict()}, torch.randn(1, 3, 32, 32)
        >>> model = foveate.attach(host, "cbam", start="paper")
        >>> fresh = foveate.hosts.build("foveate/resnet8", classes=10).eval()
        >>> _ = fresh.load_state_dict(weights)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = save(model, folder + "/cbam")
        ...     torch.equal(foveate.load(fresh, file)(images), model(images))
        True
    """
    manifest, tensors = described(model, *names)
    folder = Path(os.path.abspath(folder_called(path)))  # noqa: PTH100 (resolve would follow a link to what is to be replaced)
    write_adapter(folder, manifest, tensors, overwrite=overwrite)
    return Path(path)


def described(model: nn.Module, *names: str) -> tuple[Manifest, dict[str, Tensor]]:
    """What :func:`save` writes: the manifest and the tensors, on the CPU.

    Raises:
        PlaceError: If nothing is attached, or nothing of a name.
        FoveateError: If the attention could not be built again, or its tensors are not all here.
    """
    inner = unwrapped(model)
    meant = attachment_names(inner, names)
    if not meant:
        raise PlaceError("nothing is attached to this network, so there is nothing to save")
    entries: list[SeatEntry] = []
    tensors: dict[str, Tensor] = {}
    for path, place in attended_places(inner).items():
        for key, seat in place.foveate_seats.items():
            if seat.attachment in meant:
                enabled = seat.attachment not in place.foveate_disabled
                entry = SeatEntry(host_path(inner, path), key, seat, enabled)
                own = place.foveate[key].state_dict()
                _check_buildable(entry, own)
                tensors |= {f"{prefix_of(entry)}{name}": value for name, value in own.items()}
                entries.append(entry)
    host = host_tensors(inner)
    _check_here({**tensors, **host})
    changed = changed_since_noted(inner)
    known = digests({key: value for key, value in host.items() if key not in changed})
    manifest = Manifest(
        foveate=this_version(),
        seats=tuple(entries),
        host_class=type(inner).__name__,
        host={key: HostEntry(*kind_of(value), known.get(key)) for key, value in host.items()},
    )
    tensors |= {key: host[key] for key in manifest.saved}
    return manifest, {key: _on_its_own(value) for key, value in tensors.items()}


def _check_here(tensors: Mapping[str, Tensor]) -> None:
    for key, value in tensors.items():
        if value.is_meta:
            raise FoveateError(f"'{key}' is on the meta device and has no values: nothing was saved")
        if hasattr(value, "full_tensor"):
            raise FoveateError(
                f"'{key}' is sharded over several processes: gather the state dict, load it into an attended network "
                "that is not sharded, and save that"
            )


def _check_buildable(entry: SeatEntry, own: Mapping[str, Tensor]) -> None:
    """Refuse to save what could not be loaded, while there is still somebody who can do something about it."""
    seat = entry.seat
    if isinstance(seat.attention, str):
        return
    with torch.device("meta"):
        again = made(entry, {}).state_dict()
    if {key: value.shape for key, value in again.items()} != {key: value.shape for key, value in own.items()}:
        raise FoveateError(
            f"the attention at '{entry.place}' is no longer what {seat.attention} builds, and could not be loaded: it "
            "was changed after it was attached"
        )


def _on_its_own(value: Tensor) -> Tensor:
    """A copy on the CPU that shares memory with nothing, which safetensors asks for."""
    return value.detach().cpu().clone(memory_format=torch.contiguous_format)
