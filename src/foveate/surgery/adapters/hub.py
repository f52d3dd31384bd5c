"""Adapters on a hub: the same folder, with a model card, through huggingface-hub."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from foveate.errors import DataError, FoveateError, MissingExtraError
from foveate.surgery.adapters.folder import JSON, TENSORS, folder_called, write_adapter
from foveate.surgery.adapters.loading import load
from foveate.surgery.adapters.manifest import Manifest
from foveate.surgery.adapters.rebuild import Factories
from foveate.surgery.adapters.saving import described
from foveate.surgery.unwrap import unwrapped

CARD = "README.md"


def push_to_hub(
    model: nn.Module,
    repo_id: str,
    *,
    names: Sequence[str] = (),
    token: str | None = None,
    private: bool | None = None,
    endpoint: str | None = None,
    commit_message: str = "Attention for a convolutional network",
) -> str:
    """Put what was added to a network, and what changed in it, on a hub, with a card that says how to load it.

    Args:
        model: An attended network.
        repo_id: ``"owner/name"``; the repository is created if it is not there.
        names: The attachments; none means all.
        token: The hub's token; by default that of ``hf auth login``.
        private: Whether a new repository is private; by default as its owner has it.
        endpoint: Another hub than huggingface.co.
        commit_message: What the commit says.

    Returns:
        The address of the commit.

    Raises:
        MissingExtraError: If huggingface-hub is not installed.
        PlaceError: If nothing is attached, or nothing of a name.
        FoveateError: If the hub refuses, or cannot be reached.
    """
    hub = _hub()
    manifest, tensors = described(model, *names)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "adapter")
        write_adapter(folder, manifest, tensors, overwrite=False)
        (folder / CARD).write_text(model_card(manifest, repo_id, _sizes(manifest, tensors)), encoding="utf-8")
        try:
            api = hub.HfApi(endpoint=endpoint, token=token)
            created = api.create_repo(repo_id, private=private, exist_ok=True)
            pushed = api.upload_folder(repo_id=created.repo_id, folder_path=folder, commit_message=commit_message)
        except Exception as error:  # huggingface-hub raises those of two HTTP libraries, depending on its version
            raise _refused(repo_id, error) from error
    return str(pushed.commit_url)


def from_pretrained(
    model: nn.Module,
    repo_or_path: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | None = None,
    endpoint: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    name: str | None = None,
    strict: bool = True,
    factories: Factories | None = None,
) -> nn.Module:
    """Put attention from a hub, or from a folder, into the host that it was made for, in place.

    Only the two files of the adapter are fetched, and neither can run anything.

    Args:
        model: The host, with its weights.
        repo_or_path: ``"owner/name"`` on the hub, or a folder.
        revision: A branch, tag or commit.
        token: The hub's token; by default that of ``hf auth login``.
        endpoint: Another hub than huggingface.co.
        cache_dir: Where downloads are kept; by default where huggingface-hub keeps them.
        name: As in :func:`foveate.load`.
        strict: As in :func:`foveate.load`.
        factories: As in :func:`foveate.load`.

    Returns:
        The same network.

    Raises:
        MissingExtraError: If huggingface-hub is not installed, and it is no folder.
        DataError: If the folder is not there, damaged, or of a future format.
        OptionError: If there is no network, or neither a name nor a path.
        FoveateError: If the hub refuses or cannot be reached, or the host is another one.

    Example:
        >>> import foveate, tempfile
        >>> from foveate.surgery.adapters import save
        >>> from foveate.surgery.status import status
        >>> host = foveate.attach(foveate.hosts.build("foveate/resnet8", classes=10), "eca")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = save(host, folder + "/eca")
        ...     _ = from_pretrained(foveate.detach(host), folder + "/eca")
        >>> status(host).attachments[0].name
        'eca'
    """
    unwrapped(model)  # refuses what is no network before anything is fetched
    folder = folder_called(repo_or_path)
    if not folder.exists() and _may_be_a_repository(repo_or_path):
        hub = _hub()
        try:
            fetched = hub.snapshot_download(
                str(repo_or_path),
                revision=revision,
                token=token,
                endpoint=endpoint,
                cache_dir=cache_dir,
                allow_patterns=[JSON, TENSORS],
            )
        except Exception as error:  # as above
            raise _refused(str(repo_or_path), error) from error
        folder = Path(fetched)
        if not (folder / JSON).exists():
            raise DataError(f"the repository '{repo_or_path}' holds no adapter: it has no {JSON}")
    return load(model, folder, name=name, strict=strict, factories=factories)


def model_card(manifest: Manifest, repo_id: str, sizes: tuple[int, int]) -> str:
    """The page that a hub shows: what was added, where, to which network, and how it is loaded."""
    attention, host = sizes
    listed: list[str] = []
    for name in manifest.attachments:
        entries = [entry for entry in manifest.seats if entry.seat.attachment == name]
        places = ", ".join(f"`{entry.place}`" for entry in entries)
        listed.append(f"- **{name}**: `{entries[0].seat.attention}`, started as {entries[0].seat.start}, at {places}")
    functions = {e.seat.attention for e in manifest.seats if isinstance(e.seat.attention, str)}
    given = "".join(f', factories={{"{function}": ...}}' for function in sorted(functions))
    changed = (
        f"Of the host's {len(manifest.host)} tensors {len(manifest.saved)} changed in training and are here too "
        f"({host:,} numbers); the others have to be those that it was trained with."
        if manifest.saved
        else "The host's weights have to be those that it was trained with; none of them changed."
    )
    return "\n".join(
        [
            "---",
            "library_name: foveate",
            "tags:",
            "- foveate",
            "- attention",
            "---",
            "",
            f"# Attention for {manifest.host_class}",
            "",
            f"Attention modules of {attention:,} parameters and buffers for a convolutional network of the class "
            f"`{manifest.host_class}`, without the network.",
            "",
            *listed,
            "",
            changed,
            "",
            "```python",
            "import foveate",
            "",
            f"model = ...  # the {manifest.host_class}, with its weights",
            f'foveate.from_pretrained(model, "{repo_id}"{given})',
            "```",
            "",
            f"Saved by foveate {manifest.foveate}. The files are json and safetensors; neither can run a program.",
            "",
        ]
    )


def _sizes(manifest: Manifest, tensors: dict[str, Any]) -> tuple[int, int]:
    host = sum(tensors[key].numel() for key in manifest.saved)
    return sum(value.numel() for value in tensors.values()) - host, host


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingExtraError("huggingface-hub", "hub") from error
    return huggingface_hub


def _may_be_a_repository(named: str | os.PathLike[str]) -> bool:
    return isinstance(named, str) and named.count("/") <= 1 and not named.startswith((".", "/", "~"))


def _refused(repo_id: str, error: Exception) -> FoveateError:
    """The hub's answer in a sentence."""
    kind = type(error).__name__
    status = getattr(getattr(error, "response", None), "status_code", None)
    if kind in ("HFValidationError", "HfUriError"):
        return FoveateError(f"'{repo_id}' is no name of a repository, which is written 'owner/name', nor a folder here")
    if kind == "RevisionNotFoundError":
        return FoveateError(f"the repository '{repo_id}' has no such revision")
    if status in (401, 403) and kind not in ("RepositoryNotFoundError",):
        return FoveateError(
            f"the hub refuses access to '{repo_id}' ({status}): log in with `hf auth login`, or give a token that may"
        )
    if status in (401, 404) or kind == "RepositoryNotFoundError":
        return FoveateError(
            f"the hub has no repository '{repo_id}', or none that you may see ({status}): check the name, and log in "
            "with `hf auth login` if it is private"
        )
    said = (str(error).strip().splitlines() or [kind])[0]
    return FoveateError(f"the hub did not do what was asked for '{repo_id}': {kind}: {said}")
