"""One way in for every mechanism: by its protocol it is attached, or stands in the place of convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import nn

from foveate.registry import Spec, get
from foveate.surgery.attach import attach
from foveate.surgery.replace import replace
from foveate.surgery.request import usual_place

__all__ = ["put", "usual_place"]


def put(
    model: nn.Module,
    spec: Spec,
    *,
    at: str | Sequence[str] | None = None,
    start: Literal["identity", "paper"] = "identity",
    example: Any = None,
) -> nn.Module:
    """Put a mechanism into a network as its protocol asks: :func:`foveate.replace` or :func:`foveate.attach`.

    Args:
        model: The network; no copy is made.
        spec: The mechanism with its options.
        at: Where, as in those two; where it usually acts, if ``None``.
        start: ``"identity"`` or ``"paper"``.
        example: An input to watch one forward pass with.

    Raises:
        OptionError: If the mechanism or an option cannot work.
        PlaceError: If the network has no place for it.

    Example:
        >>> from foveate import hosts
        >>> model = put(hosts.build("foveate/resnet8", classes=10), Spec("odconv"), at="layer3.0.conv1")
        >>> [key.rpartition(".")[0] for key in model.state_dict() if key.endswith("odconv.weight")]
        ['layer3.0.conv1.foveate.odconv']
    """
    into = replace if get(spec.name).protocol == "replacement" else attach
    return into(model, spec, at=usual_place(spec) if at is None else at, start=start, example=example)
