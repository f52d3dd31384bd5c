"""Hosts by name: ``foveate/resnet20``, ``torchvision/mobilenet_v2``, ``timm/resnet18``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from foveate.errors import FoveateError, OptionError, check_at_least, nearest
from foveate.hosts import ours, timm_models, torchvision_models
from foveate.hosts.weights import SUFFIXES, load_weights, read_weights


class Family(Protocol):
    """A source of networks: a module of this package with three functions."""

    def check(self, name: str) -> None:
        """Refuse a name that the source does not have, with the nearest."""
        ...

    def fresh(self, name: str, classes: int, in_channels: int) -> nn.Module:
        """The network, random."""
        ...

    def published(self, name: str, weights: str, in_channels: int) -> nn.Module:
        """The network with published weights, with the number of classes that they have."""
        ...


F = TypeVar("F", bound=Family)

_SOME = 10  # classes of a network that is only asked for its keys
_FAMILIES: dict[str, Family] = {"foveate": ours, "timm": timm_models, "torchvision": torchvision_models}


def build(
    name: str,
    *,
    classes: int,
    in_channels: int = 3,
    weights: str | Path | None = None,
) -> nn.Module:
    """Build a network that classifies images, to attach attention to.

    Args:
        name: ``foveate/resnetN`` (N = 6n + 2, for 32×32 images), ``torchvision/`` and the name of a classification
            model there, or ``timm/`` and the name of a model there, with a tag behind a dot if other weights than the
            default ones are meant.
        classes: Outputs. If the weights have another number, the head is random and all else must load.
        in_channels: Channels of the images. Random torchvision networks get another first convolution; published
            weights of torchvision need 3 (repeat a grey image), while timm sums or repeats the filters.
        weights: ``None`` for a random network; ``"pretrained"`` for published weights, where torchvision prefers what
            already lies in ``torch.hub``'s folder of checkpoints and otherwise downloads its default; the name of one
            of torchvision's weights, such as ``"IMAGENET1K_V1"``; or a ``.safetensors``, ``.pt`` or ``.pth`` file.

    Returns:
        The network, in training mode, on the CPU.

    Raises:
        OptionError: If there is no such network or weights, with the nearest names.
        MissingExtraError: If the package of the network is not installed.
        FoveateError: If the weights cannot be loaded, or do not fit.

    Example:
        >>> build("foveate/resnet8", classes=5, in_channels=1)(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 5])
    """
    return build_with_head(name, classes=classes, in_channels=in_channels, weights=weights)[0]


def build_with_head(
    name: str,
    *,
    classes: int,
    in_channels: int = 3,
    weights: str | Path | None = None,
    families: Mapping[str, Family] = _FAMILIES,
) -> tuple[nn.Module, tuple[str, ...]]:
    """The same, of other families if given, and the keys of a head that the weights did not have: it is random.

    Example:
        >>> build_with_head("foveate/resnet8", classes=5)[1]
        ()
    """
    check_at_least("classes", classes, 1)
    check_at_least("in_channels", in_channels, 1)
    family, model = find(name, families)
    if weights is None:
        return family.fresh(model, classes, in_channels), ()
    if isinstance(weights, Path) or weights.endswith(SUFFIXES):
        offered, source = read_weights(weights), f"the weights of '{weights}'"
        host = family.fresh(model, classes, in_channels)
    else:
        donor = family.published(model, weights, in_channels)
        offered, source = donor.state_dict(), f"the published weights of {name}"
        host = family.fresh(model, classes, in_channels)
        _copy_preprocessing(donor, host)
    own = host.state_dict()
    fits = all(offered[key].shape == own[key].shape for key in own if key in offered)
    head = () if fits else _head(family, model, classes, in_channels)
    return host, load_weights(host, offered, head=head, source=source)


def as_trained(name: str, weights: str, offered: Mapping[str, Tensor] | None = None) -> nn.Module:
    """A network as its weights were trained: with the channels and the classes that they have.

    Args:
        name: As in :func:`build`.
        weights: ``"pretrained"``, one of torchvision's names, or a file.
        offered: What the file holds, where it was read already.

    Raises:
        OptionError: If there is no such network or weights.
        FoveateError: If the weights do not fit.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save(build("foveate/resnet8", classes=7, in_channels=1).state_dict(), f"{folder}/net.pt")
        ...     as_trained("foveate/resnet8", f"{folder}/net.pt")(torch.zeros(1, 1, 32, 32)).shape
        torch.Size([1, 7])
    """
    family, model = find(name, _FAMILIES)
    if offered is None and not weights.endswith(SUFFIXES):
        return family.published(model, weights, 3)
    offered = read_weights(weights) if offered is None else offered
    with torch.random.fork_rng(devices=[]):
        some = family.fresh(model, _SOME, 3)
    stem = next((key for key, value in some.state_dict().items() if value.ndim == 4), "")
    channels = int(offered[stem].shape[1]) if stem in offered and offered[stem].ndim == 4 else 3
    heads = [int(offered[key].shape[0]) for key in _head(family, model, _SOME, 3) if key in offered]
    host = family.fresh(model, heads[0] if heads else _SOME, channels)
    load_weights(host, offered, source=f"the weights of '{weights}'")
    return host


def find(name: str, families: Mapping[str, F]) -> tuple[F, str]:
    """The family of a network, and its name there.

    Raises:
        OptionError: If there is none, with the nearest.
    """
    source, slash, model = name.partition("/")
    if not slash:
        found = [f"{source}/{name}" for source, family in families.items() if _has(family, name)]
        advice = f"did you mean {' or '.join(found)}?" if found else f"the sources are {', '.join(families)}"
        raise OptionError(f"a host is called source/name, not '{name}'; {advice}")
    if source not in families:
        raise OptionError(f"there are no hosts from '{source}'; {nearest(source, families)}")
    families[source].check(model)
    return families[source], model


def _has(family: Family, name: str) -> bool:
    try:
        family.check(name)
    except FoveateError:
        return False
    return True


def _head(family: Family, model: str, classes: int, in_channels: int) -> set[str]:
    """The keys whose shapes depend on the number of classes."""
    with torch.random.fork_rng(devices=[]):
        one = family.fresh(model, classes, in_channels).state_dict()
        other = family.fresh(model, classes + 1, in_channels).state_dict()
    return {key for key in one if one[key].shape != other[key].shape}


def _copy_preprocessing(donor: nn.Module, host: nn.Module) -> None:
    """GoogLeNet and Inception v3 of torchvision rescale their input if their weights expect it."""
    if hasattr(donor, "transform_input"):
        host.transform_input = donor.transform_input
