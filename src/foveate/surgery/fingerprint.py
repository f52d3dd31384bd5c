"""Fingerprints: what a host's tensors were when attention came, so that it is known later which of them changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

import torch
from torch import Tensor, nn

from foveate.surgery.attended import ATTENTION, Attended, host_path

NOTE = "_foveate_host"
_CHUNK = 1 << 18  # elements that are in the caches together: two megabytes as 64-bit integers
_MIX = (-7046029254386353131, -4658895280553007687, 3202034522624059733)  # odd constants of 64 bits


def digest(tensor: Tensor) -> str:
    """Sixteen hexadecimal digits from a tensor's bits and their order, the same on every device and memory format.

    A sum, modulo 2⁶⁴, of the bits of every element times an odd number that depends on its position: a change of one
    element always shows, several cancel out by chance only. Not cryptographic: it tells networks apart, it does not
    stop a forger.

    Args:
        tensor: Any dense tensor that is not on the meta device.

    Example:
        >>> digest(torch.tensor([1.0, 2.0])), digest(torch.tensor([2.0, 1.0]))
        ('3945d592b696d2aa', '9fb9898a2b96d2aa')
    """
    return _hexadecimal(int(_summed(tensor).item()))


def digests(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """The digest of every tensor by its key; one transfer from each device."""
    sums = {key: _summed(tensor) for key, tensor in tensors.items()}
    found: dict[str, str] = {}
    for device in dict.fromkeys(value.device for value in sums.values()):
        keys = [key for key, value in sums.items() if value.device == device]
        values = torch.stack([sums[key] for key in keys]).tolist()
        found.update(zip(keys, map(_hexadecimal, values), strict=True))
    return {key: found[key] for key in tensors}


def note_host(model: nn.Module) -> None:
    """Note the digests of a network's tensors, before the first attention is put in.

    The note is a plain dictionary from key to digest, which is copied and pickled with the network. A network that has
    one keeps it; tensors on the meta device have no bits to note.

    Example:
        >>> net = nn.Linear(2, 2)
        >>> note_host(net)
        >>> sorted(changed_since_noted(net))
        []
        >>> _ = nn.init.ones_(net.bias)
        >>> sorted(changed_since_noted(net))
        ['bias']
    """
    if NOTE not in model.__dict__:
        there = {key: value for key, value in host_tensors(model).items() if not value.is_meta}
        model.__dict__[NOTE] = digests(there)


def forget_host(model: nn.Module) -> None:
    """Remove the note, after the last attention was taken out."""
    model.__dict__.pop(NOTE, None)


def changed_since_noted(model: nn.Module) -> set[str]:
    """Keys of the host's tensors that are not, or not known to be, what they were when attention came."""
    noted: dict[str, str] = {}
    for path, module in model.named_modules():  # attention may have been put into a part of the network
        prefix = f"{host_path(model, path)}." if path else ""
        noted = {prefix + key: value for key, value in module.__dict__.get(NOTE, {}).items()} | noted
    tensors = host_tensors(model)
    known = digests({key: value for key, value in tensors.items() if key in noted})
    return {key for key in tensors if key not in known or known[key] != noted[key]}


def host_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The dense tensors of the host's own state dict: all but the attention's."""
    ours = attention_prefixes(model)
    return {
        key: value.detach()
        for key, value in model.state_dict().items()
        if isinstance(value, Tensor) and value.layout is torch.strided and not key.startswith(ours)
    }


def attention_prefixes(model: nn.Module) -> tuple[str, ...]:
    """What the keys of attention in a state dict start with; a module with two paths has two."""
    paths = [path for path, module in model.named_modules(remove_duplicate=False) if isinstance(module, Attended)]
    return tuple(f"{host_path(model, path)}.{ATTENTION}.".lstrip(".") for path in paths)


def kind_of(tensor: Tensor) -> tuple[str, tuple[int, ...]]:
    """Type and shape, as they are written down: ``("float32", (64, 3, 7, 7))``."""
    return str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)


def sides(shape: tuple[int, ...]) -> str:
    """A shape for a sentence: ``"64×3×7×7"``."""
    return "×".join(map(str, shape)) or "a scalar"


def shown(keys: Iterable[str], count: int = 3) -> str:
    """The first few keys, for a sentence."""
    keys = list(keys)
    return ", ".join(keys[:count]) + (f" and {len(keys) - count} more" if len(keys) > count else "")


def _summed(tensor: Tensor) -> Tensor:
    flat = _bits(tensor.detach())
    total = torch.full((), flat.numel(), dtype=torch.int64, device=flat.device)
    weights = _weights(flat.device)
    for chunk in flat.split(_CHUNK):
        total = total * _MIX[2] + (chunk.to(torch.int64) * weights[: len(chunk)]).sum()
    return total


def _bits(tensor: Tensor) -> Tensor:
    """The bits of every element as whole numbers, in the order of the tensor's indices."""
    gather = getattr(tensor, "full_tensor", None)  # of a sharded network every process holds a part
    tensor = tensor if gather is None else gather()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    sizes = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return tensor.contiguous().reshape(-1).view(sizes[tensor.element_size()])


@lru_cache(maxsize=8)
def _weights(device: torch.device) -> Tensor:
    """Odd numbers that look random, one for each position in a chunk."""
    with torch.inference_mode(False):
        position = torch.arange(1, _CHUNK + 1, dtype=torch.int64, device=device)
        mixed = position * _MIX[0]
        mixed = (mixed ^ (mixed >> 29)) * _MIX[1]
        return (mixed ^ (mixed >> 32)) | 1


def _hexadecimal(value: int) -> str:
    return f"{value % (1 << 64):016x}"
