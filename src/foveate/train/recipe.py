"""How a network is trained."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from foveate.errors import OptionError, check_at_least, check_choice, check_positive

OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("cosine", "poly", "constant")
PRECISIONS = ("32", "bf16", "16")


@dataclass(frozen=True)
class Recipe:
    """How a network is trained, whatever the task.

    The learning rate rises linearly over the first steps, and falls as the schedule says. Norms, biases and blends are
    not decayed.

    Attributes:
        epochs: Passes over the training samples.
        batch_size: Samples a step, of all processes together.
        learning_rate: The highest learning rate.
        optimizer: ``"sgd"`` with momentum, or ``"adamw"``.
        momentum: Of SGD.
        weight_decay: Of parameters with two axes or more.
        attention_decay: Weight decay of the attention's parameters; as the host's, if ``None``.
        attention_rate: How many times the host's learning rate the attention has.
        new_rate: How many times the host's learning rate layers have that were not in its weights, such as a head.
        schedule: ``"cosine"`` to zero, ``"poly"`` to zero, or ``"constant"``.
        power: Of ``"poly"``.
        warmup: Share of all steps in which the learning rate rises.
        accumulate: Batches whose gradients are added up before a step; ``batch_size`` is that of one.
        clip: The largest norm of all gradients together; 0 for no limit.
        precision: ``"32"``, or ``"bf16"`` or ``"16"`` where autocast finds it safe.
        average: Of weights, the share that stays at each step; 0 for no averaging, 0.999 is usual.
        patience: Epochs without a better validation before training stops; 0 for never.
        frozen_epochs: First epochs in which what is new learns alone: attention, and layers that had no weights.
        augment: Whether training samples are changed at random.
        channels_last: Whether the network and its maps have channels on the last axis in memory.
        checkpointing: Whether maps within blocks are computed again for the backward pass: less memory, more time.
        sync_norms: Whether batch norms take their statistics over all processes; on GPUs only.
        deterministic: Whether operations that do not give the same numbers twice are refused.
        workers: Processes that read samples; 0 for none besides this one.

    Example:
        >>> recipe = Recipe(epochs=1, warmup=0.2)
        >>> [round(recipe.rate(step, 10), 2) for step in (0, 1, 2, 6, 9)]
        [0.5, 1.0, 1.0, 0.5, 0.04]
    """

    epochs: int
    batch_size: int = 32
    learning_rate: float = 0.01
    optimizer: Literal["sgd", "adamw"] = "sgd"
    momentum: float = 0.9
    weight_decay: float = 1e-4
    attention_decay: float | None = None
    attention_rate: float = 1.0
    new_rate: float = 1.0
    schedule: Literal["cosine", "poly", "constant"] = "cosine"
    power: float = 0.9
    warmup: float = 0.1
    accumulate: int = 1
    clip: float = 0.0
    precision: Literal["32", "bf16", "16"] = "32"
    average: float = 0.0
    patience: int = 0
    frozen_epochs: int = 0
    augment: bool = True
    channels_last: bool = True
    checkpointing: bool = False
    sync_norms: bool = False
    deterministic: bool = False
    workers: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate"):
            check_at_least(name, getattr(self, name), 1)
        for name in ("patience", "frozen_epochs", "workers"):
            check_at_least(name, getattr(self, name), 0)
        for name in ("learning_rate", "attention_rate", "new_rate", "power"):
            check_positive(name, getattr(self, name))
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        check_choice("schedule", self.schedule, SCHEDULES)
        check_choice("precision", self.precision, PRECISIONS)
        if self.attention_decay is not None and not 0 <= self.attention_decay < math.inf:
            raise OptionError(f"attention_decay must be a number from 0, not {self.attention_decay}")
        limits = {"momentum": 1.0, "warmup": 1.0, "average": 1.0, "weight_decay": math.inf, "clip": math.inf}
        for name, most in limits.items():
            if not 0 <= getattr(self, name) < most:
                raise OptionError(f"{name} must be from 0 to below {most:g}, not {getattr(self, name)}")

    def rate(self, step: int, steps: int) -> float:
        """The share of the highest learning rate in a step, counted from 0."""
        rising = max(1, round(self.warmup * steps))
        if step < rising:
            return (step + 1) / rising
        done = min(1.0, (step - rising) / max(1, steps - rising))
        if self.schedule == "constant":
            return 1.0
        if self.schedule == "poly":
            return (1 - done) ** self.power
        return 0.5 * (1 + math.cos(math.pi * done))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)
