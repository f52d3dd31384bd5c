"""Learning right: groups for an optimiser, and freezing what is to stay."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase  # pyright: ignore[reportPrivateUsage]

from foveate.errors import FoveateError, FoveateWarning, check_bool, check_positive
from foveate.surgery.attended import ATTENTION, attended_places, host_path
from foveate.surgery.fingerprint import attention_prefixes
from foveate.surgery.seats import replacement_at
from foveate.surgery.status import attachment_names, seats_of
from foveate.surgery.unwrap import unwrapped

FROZEN = "_foveate_frozen"
_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def parameter_groups(
    model: nn.Module,
    *,
    lr: float,
    attention_lr: float | None = None,
    weight_decay: float = 0.0,
    no_weight_decay: bool = True,
) -> list[dict[str, Any]]:
    """The trainable parameters of a network in groups for an optimiser: attention apart from its host.

    Attention that starts at zero in a trained host has further to go than the host has; a learning rate several times
    the host's is a usual beginning.

    Args:
        model: A network, attended or not; also one that is compiled or wrapped for data-parallel training.
        lr: Learning rate of the host.
        attention_lr: Learning rate of the attention; the host's if ``None``.
        weight_decay: Weight decay.
        no_weight_decay: Whether norms, biases, blends and every other parameter of one axis or none are spared it.

    Returns:
        Up to four groups with ``"name"``, ``"params"``, ``"lr"`` and ``"weight_decay"``: ``"host"``,
        ``"host_no_decay"``, ``"attention"`` and ``"attention_no_decay"``. Each trainable parameter is in one of them,
        once, and empty groups are left out.

    Raises:
        OptionError: If a rate is not positive, or the weight decay is negative.
        FoveateError: If nothing is trainable.

    Example:
        >>> import foveate, torch
        >>> model = foveate.attach(foveate.hosts.build("foveate/resnet8", classes=10), "cbam")
        >>> groups = parameter_groups(model, lr=0.01, attention_lr=0.1, weight_decay=1e-4)
        >>> [(group["name"], group["lr"], group["weight_decay"]) for group in groups][1:]
        [('host_no_decay', 0.01, 0.0), ('attention', 0.1, 0.0001), ('attention_no_decay', 0.1, 0.0)]
        >>> optimizer = torch.optim.SGD(groups, lr=0.01, momentum=0.9)
    """
    check_positive("lr", lr)
    check_bool("no_weight_decay", no_weight_decay)
    if attention_lr is not None:
        check_positive("attention_lr", attention_lr)
    if weight_decay != 0:
        check_positive("weight_decay", weight_decay)
    rates = {"host": lr, "attention": lr if attention_lr is None else attention_lr}
    groups: dict[str, dict[str, Any]] = {}
    for owner, rate in rates.items():
        groups[owner] = {"name": owner, "params": [], "lr": rate, "weight_decay": weight_decay}
        spared = f"{owner}_no_decay"
        groups[spared] = {"name": spared, "params": [], "lr": rate, "weight_decay": 0.0}
    seen: set[int] = set()
    for name, parameter, module, ours in _parameters(unwrapped(model)):
        if parameter.requires_grad and id(parameter) not in seen:
            seen.add(id(parameter))
            flat = parameter.ndim <= 1 or isinstance(module, _NORMS) or name.rpartition(".")[2] == "bias"
            owner = "attention" if ours else "host"
            groups[f"{owner}_no_decay" if no_weight_decay and flat else owner]["params"].append(parameter)
    if not seen:
        raise FoveateError("no parameter of this network is trainable: unfreeze the host or the attention")
    return [group for group in groups.values() if group["params"]]


def freeze_host(model: nn.Module, *, norms: bool = False) -> nn.Module:
    """Stop training the host's parameters, in place; the attention's stay as they are.

    Nothing in foveate does this by itself. Users report that training only the attention of a frozen trunk brought no
    gain (NVIDIA's semantic-segmentation, issue 79): what a layer computes and what the next one attends to have to
    move together.

    Gradients still pass through the host. Its batch norms in training mode still normalise with the batch and move
    their statistics; with ``norms=True`` these stay, also after the next ``model.train()``, because the norms are
    told not to track them. They keep normalising with the batch in training mode. A norm that is to normalise with
    its statistics belongs in evaluation mode, to be set after every ``model.train()``.

    Freeze before you wrap a network for data-parallel training, which counts what is trainable.

    Args:
        model: The network; attention may come before or after.
        norms: Whether running statistics stay too.

    Returns:
        The same network. Frozen by hand stays frozen by hand: :func:`unfreeze_host` frees only what this froze.

    Example:
        >>> import foveate
        >>> model = foveate.attach(foveate.hosts.build("foveate/resnet8", classes=10), "se")
        >>> all("foveate." in name for name, p in freeze_host(model).named_parameters() if p.requires_grad)
        True
    """
    check_bool("norms", norms)
    inner = unwrapped(model)
    frozen = _record(inner)
    for name, parameter, _, ours in _parameters(inner):
        if not ours and parameter.requires_grad:
            parameter.requires_grad_(False)
            frozen["host"][name] = True
    for path, place in attended_places(inner).items():  # a convolution at rest is frozen already, by what replaced it
        frozen["host"].update({f"{host_path(inner, path)}.{name}": True for name in place.foveate_resting})
        place.foveate_resting = ()
    for name, norm in _tracking(inner) if norms else ():
        # Batch norms that do not track use the batch in training and their statistics in evaluation. Instance norms
        # would use the input in evaluation too, so theirs move by nothing.
        frozen["norms"].setdefault(name, (norm.track_running_stats, norm.momentum))
        norm.momentum = 0.0
        if isinstance(norm, _BatchNorm):
            norm.track_running_stats = False
    return model


def unfreeze_host(model: nn.Module) -> nn.Module:
    """Train again what :func:`freeze_host` froze, and let its norms track again; what was frozen before stays so.

    Example:
        >>> import foveate
        >>> model = foveate.hosts.build("foveate/resnet8", classes=10)
        >>> _ = model.linear.requires_grad_(False)
        >>> [name for name, p in unfreeze_host(freeze_host(model)).named_parameters() if not p.requires_grad]
        ['linear.weight', 'linear.bias']
    """
    inner = unwrapped(model)
    frozen = _record(inner)
    still = False
    replaced = {path: place for path, place in attended_places(inner).items() if replacement_at(place) is not None}
    at_rest = {
        f"{host_path(inner, path)}.{name}": (place, name)
        for path, place in replaced.items()
        for name, _ in place.foveate_host.named_parameters()
    }
    for name, parameter, _, ours in _parameters(inner):
        if not ours and not parameter.requires_grad and name not in at_rest:
            parameter.requires_grad_(frozen["host"].get(name, False))
            still = True
    for name, (place, own) in at_rest.items():  # it trains again when it runs again
        if frozen["host"].get(name, False):
            place.foveate_resting += (own,)
    modules = {host_path(inner, path): module for path, module in inner.named_modules()}
    for name, (tracks, momentum) in frozen["norms"].items():
        norm = modules.get(name)
        if isinstance(norm, _NormBase):
            norm.track_running_stats, norm.momentum = tracks, momentum
    if still and not frozen["host"]:
        _nothing_of_ours("freeze_host")
    frozen["host"].clear()
    frozen["norms"].clear()
    return model


def freeze_attention(model: nn.Module, *names: str) -> nn.Module:
    """Stop training attachments, in place; they still act, and their norms still move in training mode.

    Args:
        model: An attended network.
        names: The attachments; none means all.

    Raises:
        PlaceError: If nothing of a name is attached.

    Example:
        >>> import foveate
        >>> from foveate.surgery.status import status
        >>> model = foveate.attach(foveate.hosts.build("foveate/resnet8", classes=10), "se")
        >>> status(freeze_attention(model, "se")).attachments[0].trainable
        0
    """
    inner = unwrapped(model)
    frozen = _record(inner)["attention"]
    for name, parameter in _of_attachments(inner, names):
        if parameter.requires_grad:
            parameter.requires_grad_(False)
            frozen[name] = True
    return model


def unfreeze_attention(model: nn.Module, *names: str) -> nn.Module:
    """Train again what :func:`freeze_attention` froze; what was frozen before stays so.

    Args:
        model: An attended network.
        names: The attachments; none means all.

    Raises:
        PlaceError: If nothing of a name is attached.
    """
    inner = unwrapped(model)
    frozen = _record(inner)["attention"]
    found = dict(_of_attachments(inner, names))
    if not any(name in frozen for name in found) and not all(p.requires_grad for p in found.values()):
        _nothing_of_ours("freeze_attention")
    for name, parameter in found.items():
        if frozen.pop(name, False):
            parameter.requires_grad_(True)
    return model


def _parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, nn.Module, bool]]:
    """Every parameter with its name in the state dict, its module, and whether it is the attention's."""
    ours = attention_prefixes(model)
    for path, module in model.named_modules():
        prefix = host_path(model, path)
        for name, parameter in module.named_parameters(prefix, recurse=False):
            yield name, parameter, module, f"{prefix}.".startswith(ours)


def _of_attachments(model: nn.Module, names: tuple[str, ...]) -> Iterator[tuple[str, nn.Parameter]]:
    for attachment in sorted(attachment_names(model, names)):
        for path, _, key, _, attention in seats_of(model, attachment):
            yield from attention.named_parameters(f"{path}.{ATTENTION}.{key}")


def _tracking(model: nn.Module) -> Iterator[tuple[str, _NormBase]]:
    ours = attention_prefixes(model)
    for path, module in model.named_modules():
        name = host_path(model, path)
        if isinstance(module, _NormBase) and module.running_mean is not None and not f"{name}.".startswith(ours):
            yield name, module


def _record(model: nn.Module) -> dict[str, dict[str, Any]]:
    """What was frozen by us, by name: it is copied and pickled with the network."""
    return model.__dict__.setdefault(FROZEN, {"host": {}, "norms": {}, "attention": {}})


def _nothing_of_ours(freezer: str) -> None:
    warnings.warn(
        f"{freezer} froze nothing in this network, so nothing is freed: what was frozen by hand is freed by hand, "
        "with requires_grad_(True)",
        FoveateWarning,
        stacklevel=3,
    )
