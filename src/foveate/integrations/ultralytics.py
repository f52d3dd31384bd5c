"""Attention that stays in a YOLO network while ultralytics trains, resumes, fuses, validates and exports it.

``YOLO.train()`` builds its network anew from YAML and copies the tensors whose names and shapes match, so whatever was
put into the network is left out. A trainer made here builds it as ultralytics does, and then puts the same attention
at the same places, with its weights. Checkpoints are ultralytics' own; reading one that holds attention needs foveate
to be installed.

Everything here goes through ultralytics' public calls: the trainer that ``train()`` accepts, and its ``get_model``,
``setup_model`` and ``build_optimizer``.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from foveate import surgery
from foveate.errors import FoveateError, FoveateWarning, MissingExtraError, OptionError, PlaceError
from foveate.integrations.folding import lost_by
from foveate.surgery.adapters.transplant import attention_state, transplant
from foveate.surgery.attach import What
from foveate.surgery.attended import Attended, attachments, attended_places
from foveate.surgery.places import At
from foveate.surgery.rebuilders import LOST


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


def attended_trainer(trainer: type[Any], source: nn.Module | None = None) -> type[Any]:
    """A trainer class like another, whose networks keep attention; for those who call ultralytics' trainers directly.

    Args:
        trainer: A trainer of ultralytics, or a class derived from one.
        source: The attended network whose attention the trained network is to have. ``None`` takes that of the
            weights the trainer starts from, such as the checkpoint it resumes.

    Example:
        >>> from ultralytics.models.yolo.detect import DetectionTrainer
        >>> attended_trainer(DetectionTrainer).__name__
        'AttendedDetectionTrainer'
    """
    bases = (trainer,) if issubclass(trainer, AttendedTrainer) else (AttendedTrainer, trainer)
    name = trainer.__name__.removeprefix("Attended")
    return type(f"Attended{name}", bases, {"foveate_source": source})


@dataclass(frozen=True)
class Transfer:
    """How many tensors of the state dict the network that is trained has from the one given, value for value.

    Attributes:
        host: Tensors of the host that were taken over; 0 where ultralytics starts a network of YAML anew.
        host_total: Tensors of the host.
        attention: Tensors of the attention that were taken over.
        attention_total: Tensors of the attention of the network given.

    Example:
        >>> str(Transfer(355, 355, 42, 42))
        '355 of 355 host tensors and 42 of 42 attention tensors'
    """

    host: int
    host_total: int
    attention: int
    attention_total: int

    def __str__(self) -> str:
        """One line for the log."""
        return (
            f"{self.host} of {self.host_total} host tensors and "
            f"{self.attention} of {self.attention_total} attention tensors"
        )


class AttendedTrainer:
    """What :func:`attended_trainer` puts before a trainer of ultralytics.

    Attributes:
        foveate_source: The attended network whose attention is kept, or ``None`` for that of the weights.
        foveate_transfer: What the network that is trained took over, once it is built.
    """

    foveate_source: nn.Module | None = None
    foveate_transfer: Transfer | None = None

    def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> nn.Module:
        """Build the network as ultralytics does, then put the attention where it was."""
        build: Any = super().get_model  # type: ignore[misc]
        network: nn.Module = build(cfg=cfg, weights=weights, verbose=verbose)
        given = weights if isinstance(weights, nn.Module) and attended_places(weights) else None
        source = self._foveate_wanted(given)
        host = network.state_dict()
        taken = 0 if weights is None else _equal(host, weights.state_dict())
        if source is not None:
            transplant(source, network)
            for _, parameter in surgery.attention_parameters(network):
                parameter.requires_grad_(True)  # a checkpoint's parameters do not
        held = attention_state(network)
        expected = attention_state(source) if source is not None else {}
        if given is not None and given is not source:  # other weights for the same attention, as with pretrained=…
            with torch.no_grad():
                for key, value in attention_state(given).items():
                    if key in held and held[key].shape == value.shape:
                        held[key].copy_(value)
                        expected[key] = value
        self.foveate_transfer = Transfer(taken, len(host), _equal(expected, held), len(expected))
        if expected:
            _log(f"foveate: the network to train has {self.foveate_transfer}")
        return network

    def setup_model(self) -> Any:
        """Set the network up as ultralytics does, and see that the attention is in it."""
        checkpoint: Any = super().setup_model()  # type: ignore[misc]
        wanted = self._foveate_wanted(None)
        if wanted is not None and not attended_places(self.model):  # type: ignore[attr-defined]
            raise FoveateError(
                f"{type(self).__name__} sets its network up without get_model, so the attention of the network given "
                f"({', '.join(attachments(wanted))}) would be lost: attach to a network of a YOLO YAML or checkpoint"
            )
        return checkpoint

    def build_optimizer(self, model: nn.Module, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """Build the optimiser as ultralytics does, without weight decay on the attention's scalars and vectors.

        Decay would pull a blend, which starts at the identity, back to it.
        """
        build: Any = super().build_optimizer  # type: ignore[misc]
        optimizer: torch.optim.Optimizer = build(model, *args, **kwargs)
        ours = dict(surgery.attention_parameters(model))
        frozen = [name for name, parameter in ours.items() if not parameter.requires_grad]
        if frozen:
            warnings.warn(
                f"freeze holds {len(frozen)} of the attention's {len(ours)} parameters as they are, because they lie "
                f"in frozen layers, such as {frozen[0]}; they will not learn",
                FoveateWarning,
                stacklevel=2,
            )
        small = {id(parameter) for parameter in ours.values() if parameter.ndim <= 1}
        for group in optimizer.param_groups:
            if group.get("weight_decay"):
                moved = [p for p in group["params"] if id(p) in small]
                _undecayed(optimizer, group)["params"] += moved
                group["params"] = [p for p in group["params"] if id(p) not in small]
        return optimizer

    def _foveate_wanted(self, given: nn.Module | None) -> nn.Module | None:
        """The network whose attention is kept: the one given to the class, unless a checkpoint is resumed."""
        chosen = self.foveate_source
        resumed = bool(getattr(self, "resume", False))
        return given if resumed or chosen is None or not attended_places(chosen) else chosen


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


def _equal(some: dict[str, Tensor], others: dict[str, Tensor]) -> int:
    return sum(
        key in others and value.shape == others[key].shape and torch.equal(value.cpu(), others[key].to(value).cpu())
        for key, value in some.items()
    )


def _undecayed(optimizer: torch.optim.Optimizer, like: dict[str, Any]) -> dict[str, Any]:
    """The group of the norms' weights, which has no decay, at the same learning rate."""
    return next(
        group for group in optimizer.param_groups if group.get("param_group") == "bn" and group["lr"] == like["lr"]
    )


def _log(line: str) -> None:
    from ultralytics.utils import LOGGER

    LOGGER.info(line)
