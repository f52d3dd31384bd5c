"""What is fixed in advance, for all arms alike, unless a person says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MOST_EPOCHS = 50
# An image is moved by at most this share of its side. The 4 pixels of 32 that long trainings use (He et al. 2016,
# section 4.2) cost a baseline of eight epochs 5 points of validation accuracy on the embedded sample.
SHIFT = 1 / 32


@dataclass(frozen=True)
class Budget:
    """How long and how fast is trained.

    Attributes:
        epochs: Passes over the training samples, at least.
        steps: Steps, at least: few samples need more passes, up to 50.
        batch_size: Samples a step.
        learning_rate: The highest learning rate.
        weight_decay: Of parameters with two axes or more.
        quick_epochs: Passes in a quick look.
        quick_samples: Training samples in a quick look, at most.
    """

    epochs: int
    steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    quick_epochs: int
    quick_samples: int

    def passes(self, samples: int, batch_size: int) -> int:
        """How many epochs so many samples get.

        Example:
            >>> FINE_TUNING.passes(10_000, 32), FINE_TUNING.passes(320, 32), FINE_TUNING.passes(20, 32)
            (4, 20, 50)
        """
        each = max(1, samples // batch_size)
        return max(self.epochs, min(MOST_EPOCHS, -(-self.steps // each)))

    def recipe(self, samples: int, settings: Mapping[str, Any], *, quick: bool) -> dict[str, Any]:
        """Settings of :class:`~foveate.train.recipe.Recipe`, with what a person chose."""
        size = int(settings.get("batch_size", self.batch_size))
        return {
            "epochs": self.quick_epochs if quick else self.passes(samples, size),
            "batch_size": size,
            "learning_rate": self.learning_rate,
            "weight_decay": self.weight_decay,
            **settings,
        }


SCRATCH = Budget(8, 400, 32, 0.1, 5e-4, quick_epochs=3, quick_samples=600)
# a tenth of the rate from scratch: the weights are good already, and the new head still has to be learned
FINE_TUNING = Budget(4, 200, 32, 0.01, 1e-4, quick_epochs=1, quick_samples=300)
# what a quick look at other work than classification has
QUICK_EPOCHS, QUICK_SAMPLES = 2, 60
