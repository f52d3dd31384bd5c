"""What a person can ask for, besides data, host and mechanisms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from foveate.registry import Spec
from foveate.study.plain import lists, tuples


@dataclass(frozen=True)
class Asked:
    """What a person can ask for, besides data, host and mechanisms.

    Attributes:
        at: Where attention acts; where it usually does, if ``None``.
        start: ``"paper"`` or ``"identity"``; by default the paper's initialisation in a random network, for which it is
            made, and the identity in a trained one, which it leaves as good as it was.
        settings: Fields of :class:`~foveate.train.recipe.Recipe` and options of the work, by name.
        train_samples: Learn from so many samples only.
        capacity: Mechanisms that get a capacity control, or ``("all",)``.
        placebo: Mechanisms that get a placebo, or ``("all",)``.
        larger: Larger networks to compare with.
        grid: Factors of the learning rate that every arm is tried with on validation; none for one rate for all.
        tuning_seeds: How many seeds choose the rate.
        fractions: Parts of the training samples that every arm is trained with as well.
        corruptions: Strengths at which test samples are corrupted.
        published: A folder of published corrupted samples.
        shifted: A folder of other test samples.
        focus: How many test samples the focus of attention is judged on.
        resplit: Whether samples are dealt to the splits anew with every seed; by default where there are few, and
            they came without splits.
        sequential: Whether seeds are added until the question is decided; the number of seeds is then the budget.
        relevant: The smallest difference that somebody would care about, in the metric's units.
        quick: Fewer samples and epochs.
        device: ``"cpu"`` or ``"cuda"``; by default a GPU if there is one.
    """

    at: str | None = None
    start: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    train_samples: int | None = None
    capacity: tuple[str | Spec, ...] = ()
    placebo: tuple[str | Spec, ...] = ()
    larger: tuple[str, ...] = ()
    grid: tuple[float, ...] = ()
    tuning_seeds: int = 1
    fractions: tuple[float, ...] = ()
    corruptions: tuple[int, ...] = ()
    published: str | None = None
    shifted: str | None = None
    focus: int = 0
    resplit: bool | None = None
    sequential: bool = False
    relevant: float | None = None
    quick: bool = False
    device: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        own = asdict(replace(self, capacity=(), placebo=()))
        return {
            **lists(own),
            "settings": lists(dict(self.settings)),
            "capacity": [str(one) for one in self.capacity],
            "placebo": [str(one) for one in self.placebo],
        }

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Asked:
        """What gave these plain values."""
        found: dict[str, Any] = tuples({**values, "settings": None})
        found["settings"] = tuples(values["settings"])
        return cls(**found)
