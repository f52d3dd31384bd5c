"""A trainer of ultralytics whose networks keep attention.

It builds its network as ultralytics does, and then puts the same attention at the same places, with its weights.
Everything goes through ultralytics' public calls: a trainer's ``get_model``, ``setup_model`` and ``build_optimizer``.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from foveate import surgery
from foveate.errors import FoveateError, FoveateWarning
from foveate.surgery.adapters.transplant import attention_state, transplant
from foveate.surgery.attended import attachments, attended_places


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
