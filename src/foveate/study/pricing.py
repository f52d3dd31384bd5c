"""What the arms of a study cost."""

from __future__ import annotations

from typing import Any

from foveate.study.costs import detection_loss, mean_square, measure_costs
from foveate.study.design import BASELINE, Study
from foveate.study.material import network_of
from foveate.study.plan import Prepared
from foveate.study.progress import Reporter
from foveate.train.kinds import kind_of
from foveate.train.recipe import Recipe

ROUNDS, QUICK_ROUNDS, QUICK_SECONDS = 60, 40, 10.0


def price(prepared: Prepared, study: Study, *, quick: bool, compiled: bool, reporter: Reporter) -> dict[str, Any]:
    """Measure every arm's cost, side by side, as its network begins.

    Args:
        prepared: The samples, and where weights are.
        study: Whose arms.
        quick: Whether to count and to time one sample only.
        compiled: Whether to time compiled networks as well.
        reporter: Who wants to know.
    """
    kind, weights = kind_of(study.base.work), prepared.places["weights"]
    networks: dict[str, Any] = {}
    example: tuple[Any, ...] | None = None
    for arm in study.arms:
        config = study.config(arm, study.seeds[0])
        network, new, assembly = network_of(config, prepared.data, weights)
        if example is None:
            task = kind.task(network, prepared.data, Recipe(**config.recipe), assembly.chosen(), seed=0, new=new)
            example = task.prepared_example()
        networks[arm.name] = network.eval()
    assert example is not None  # noqa: S101 (every kind of work tells one)
    return measure_costs(
        networks,
        example,
        baseline=BASELINE,
        rounds=QUICK_ROUNDS if quick else ROUNDS,
        seconds=QUICK_SECONDS if quick else 60.0,
        compiled=compiled,
        loss=detection_loss if study.base.work == "detection" else mean_square,
        quick=quick,
        device=study.base.device,
        progress=lambda what, done, total: reporter.stage(f"cost {min(done + 1, total)} of {total}: {what}"),
    )
