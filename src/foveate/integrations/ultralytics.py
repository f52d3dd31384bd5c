"""Attention that stays in a YOLO network while ultralytics trains, resumes, fuses, validates and exports it.

``YOLO.train()`` builds its network anew from YAML and copies the tensors whose names and shapes match, so whatever was
put into the network is left out. Here ``train()`` is given a trainer that puts it back
(:mod:`foveate.integrations.ultralytics_trainer`), and what ultralytics could not keep is refused. Checkpoints are
ultralytics' own; reading one that holds attention needs foveate to be installed.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Literal

from torch import Tensor, nn

from foveate import surgery
from foveate.errors import FoveateError, FoveateWarning, MissingExtraError, OptionError, PlaceError
from foveate.integrations.folding import lost_by
from foveate.integrations.ultralytics_trainer import AttendedTrainer, Transfer, attended_trainer
from foveate.surgery.attended import Attended, attachments
from foveate.surgery.places import At
from foveate.surgery.rebuilders import LOST
from foveate.surgery.request import What

__all__ = ["AttendedTrainer", "Transfer", "attach", "attended_trainer", "detach", "keep"]


def attach(
    yolo: Any,
    attention: What,
    *,
    at: At | Sequence[At] = "residual",
    start: Literal["identity", "paper"] = "identity",
    example: Tensor | None = None,
    stages: int | Iterable[int] | None = None,
    exclude: At | Sequence[At] = (),
    name: str | None = None,
) -> Any:
    """Put attention into a YOLO's network, in place, so that its ``train()`` keeps it.

    Args:
        yolo: An ultralytics ``YOLO`` (or ``RTDETR``, ``YOLOWorld``, …), of YAML or of a checkpoint.
        attention: What to attach, as in :func:`foveate.attach`; so are the other arguments.
        at: Where.
        start: ``"identity"`` or ``"paper"``.
        example: An input to watch one forward pass with.
        stages: Only places of these stages.
        exclude: Patterns of places to leave out.
        name: What to call this attachment.

    Returns:
        The same YOLO.

    Raises:
        OptionError: If it holds no PyTorch network, or as :func:`foveate.attach`.
        PlaceError: As :func:`foveate.attach`, and if ``fuse()`` would leave the attention out, or ultralytics would
            not recognise its head behind it.

    Example:
        >>> from ultralytics import YOLO
        >>> yolo = attach(YOLO("yolov8n.yaml"), "se", at="model.9")
        >>> [key for key in yolo.model.state_dict() if "foveate" in key][0]
        'model.9.foveate.squeeze_excite.blend'
    """
    network = _network(yolo)
    there = attachments(network)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", f".*{LOST}", FoveateWarning)
        surgery.attach(
            network, attention, at=at, start=start, example=example, stages=stages, exclude=exclude, name=name
        )
    reason = _head_hidden(network) or _folded_away(network, example)
    if reason:
        for added in set(attachments(network)) - set(there):
            surgery.detach(network, added)
        raise PlaceError(f"{reason}; nothing was attached")
    yolo.predictor = None  # it would predict with the copy it made before
    return keep(yolo)


def detach(yolo: Any, name: str | None = None) -> Any:
    """Take attention out of a YOLO's network again, in place.

    Args:
        yolo: An attended YOLO.
        name: The attachment to take out; ``None`` takes out all.

    Returns:
        The same YOLO.

    Raises:
        PlaceError: If nothing of that name is attached.

    Example:
        >>> from ultralytics import YOLO
        >>> yolo = detach(attach(YOLO("yolov8n.yaml"), "se", at="model.9"))
        >>> any("foveate" in key for key in yolo.model.state_dict())
        False
    """
    surgery.detach(_network(yolo), name)
    yolo.predictor = None
    return yolo


def keep(yolo: Any) -> Any:
    """Let a YOLO's ``train()`` keep the attention that its network has, or that the checkpoint it resumes has.

    :func:`attach` does this by itself. It is for a checkpoint in a new process, ``keep(YOLO("last.pt")).train(
    resume=True)``, and for attention that was attached to ``yolo.model``.

    Args:
        yolo: An ultralytics ``YOLO``.

    Returns:
        The same YOLO. Its ``train()`` takes the same arguments, and a trainer given to it is wrapped. Its ``tune()``,
        which trains in processes of its own with ultralytics' trainers, refuses a network with attention; so should
        you keep away from the ``yolo train`` command, which leaves attention out without a word.

    Raises:
        OptionError: If it holds no PyTorch network.

    Example:
        >>> from ultralytics import YOLO
        >>> keep(YOLO("yolov8n.yaml")).task
        'detect'
    """
    _network(yolo)
    yolo.train = partial(_train, yolo)
    yolo.tune = partial(_tune, yolo)
    return yolo


def _train(yolo: Any, trainer: type[Any] | None = None, **options: Any) -> Any:
    """``YOLO.train`` with a trainer that keeps attention."""
    plain = trainer or yolo.task_map.get(yolo.task, {}).get("trainer")
    kept = None if plain is None else attended_trainer(plain, yolo.model)
    return type(yolo).train(yolo, trainer=kept, **options)


def _tune(yolo: Any, *arguments: Any, **options: Any) -> Any:
    """``YOLO.tune``, which cannot keep attention: it starts ultralytics' command with the trainer of the task."""
    there = attachments(yolo.model)
    if there:
        raise FoveateError(
            f"tune() trains in processes of its own, which would leave {', '.join(there)} out: call train() for each "
            "setting, or detach before tuning the plain network"
        )
    return type(yolo).tune(yolo, *arguments, **options)


def _network(yolo: Any) -> nn.Module:
    try:
        from ultralytics.engine.model import Model
    except ImportError as error:
        raise MissingExtraError("ultralytics", "ultralytics") from error
    if not isinstance(yolo, Model):
        raise OptionError(f"this takes an ultralytics YOLO, not {type(yolo).__name__}; foveate.attach takes a network")
    if not isinstance(yolo.model, nn.Module):
        raise OptionError(f"'{yolo.model}' is an exported network, which cannot be changed: give the .pt it came from")
    return yolo.model


def _head_hidden(network: nn.Module) -> str:
    """Why ultralytics would not recognise its head, which it finds by the class of its last module."""
    layers = getattr(network, "model", None)
    if isinstance(layers, nn.Sequential) and isinstance(layers[-1], Attended):
        return (
            f"'model.{len(layers) - 1}' is the head, which ultralytics knows by its class, and attention around it "
            "would hide that; name places inside it, or the layers before it"
        )
    return ""


def _folded_away(network: nn.Module, example: Tensor | None) -> str:
    """Why ``fuse()``, which validation, prediction and export call, would leave attention out; empty if it keeps it."""
    if not hasattr(network, "fuse"):
        return ""
    lost = lost_by(network, lambda copied: copied.fuse(verbose=False), example)
    if not lost:
        return ""
    return (
        f"fuse(), which ultralytics calls before it validates, predicts or exports, would drop the attention at "
        f"'{lost[0]}' or hand it another map; name the block around it, or leave it out with `exclude`"
    )
