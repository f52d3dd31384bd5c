"""Networks that another package builds anew before it trains them, so that attention put in by hand would be lost.

Known as data: classes by the name of their module and their own, so that nothing is imported to recognise them.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from torch import nn

from foveate.errors import FoveateWarning, OptionError


@dataclass(frozen=True)
class Rebuilder:
    """A package that rebuilds networks.

    Attributes:
        network: The class of the networks that it rebuilds, or a base of it, as ``module.Class``.
        facade: The class of the object that holds such a network and trains it; it is no network to attach to.
        action: What rebuilds the network.
        instead: What to write, so that attention is kept.
    """

    network: str
    facade: str
    action: str
    instead: str


REBUILDERS = (
    Rebuilder(
        network="ultralytics.nn.tasks.BaseModel",
        facade="ultralytics.engine.model.Model",
        action="ultralytics' train()",
        instead="foveate.integrations.ultralytics.attach(yolo, ...)",
    ),
)
LOST = "would build this network anew and leave the attention out"


def warn_of_rebuild(model: nn.Module) -> None:
    """Say that training would throw attention away, where a package is known to do that.

    Args:
        model: The network that attention is attached to.

    Raises:
        OptionError: If it is not the network, but the object that holds it.

    Example:
        >>> from foveate import hosts
        >>> warn_of_rebuild(hosts.build("foveate/resnet8", classes=10))  # nobody rebuilds it
    """
    for rebuilder in REBUILDERS:
        if _is_a(model, rebuilder.facade):
            raise OptionError(
                f"a {type(model).__name__} holds a network and trains it, and is none itself: write "
                f"{rebuilder.instead}, or give its network, .model"
            )
        if _is_a(model, rebuilder.network):
            warnings.warn(
                f"{rebuilder.action} {LOST}: write {rebuilder.instead} to train it", FoveateWarning, stacklevel=3
            )


def _is_a(model: nn.Module, name: str) -> bool:
    return any(f"{base.__module__}.{base.__qualname__}" == name for base in type(model).__mro__)
