"""What each arm costs, measured side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from foveate.measure import Conditions, count_macs, count_parameters, inference, latency_ratio, measure_latency
from foveate.study.design import BASELINE, Study
from foveate.study.reading import FORMAT
from foveate.study.run import Material, build_network, channels_of
from foveate.surgery.attended import attended_places

ROUNDS = 100


def measure_cost(study: Study, material: Material, rounds: int = ROUNDS) -> dict[str, Any]:
    """Parameters, multiply-accumulates and latency of each arm, for one image, in evaluation mode.

    The arms take turns, so that whatever slows the machine slows all of them; ratios are taken within turns.

    Args:
        study: Whose arms.
        material: What they are built from.
        rounds: How many turns.

    Returns:
        Plain values, with the conditions of the measurement.

    Example:
        >>> from foveate.study.plan import prepare
        >>> cost = measure_cost(*prepare(attention=("se",), seeds=1), rounds=3)
        >>> {name: arm["parameters"] for name, arm in cost["arms"].items()}
        {'baseline': 75002, 'squeeze_excite': 75793}
    """
    base = study.base
    shape = (1, channels_of(base), *base.image_shape[1:])
    example = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(base.device)
    networks = {
        arm.name: build_network(config, len(material.data.classes), material.weights).to(base.device)
        for arm, config in study.runs()
        if config.seed == study.seeds[0]
    }

    def forward(network: nn.Module) -> Callable[[], object]:
        return lambda: network(example)

    with inference(*networks.values()):
        calls = {name: forward(network) for name, network in networks.items()}
        latencies = measure_latency(calls, rounds=rounds, device=base.device)
    arms = {
        name: {
            "parameters": count_parameters(network, trainable=True),  # without convolutions at rest
            "macs": count_macs(network, example),
            "latency_ms": latencies[name].median * 1e3,
            "latency_p95_ms": latencies[name].p95 * 1e3,
            "latency_ratio": latency_ratio(latencies, name, to=BASELINE),
            "places": sum(bool(place.foveate_seats) for place in attended_places(network).values()),
        }
        for name, network in networks.items()
    }
    return {
        "format": FORMAT,
        "kind": "foveate cost",
        "conditions": Conditions.here(base.device).as_dict(),
        "batch": 1,
        "mode": "eval",
        "shape": list(shape),
        "rounds": rounds,
        "arms": arms,
    }
