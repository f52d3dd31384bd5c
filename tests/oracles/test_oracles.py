"""Every mechanism, with every option, against its oracle, in float64.

How far apart may two correct computations lie? Rounding moves a sum of n terms by at most n · eps times the sum of
their magnitudes, eps = 2⁻⁵². Inputs and weights here are drawn so that every sum is of the order of one with terms
whose magnitudes add up to about √n; rounding errors of either sign cancel to about √n · eps of that: together n · eps.
Sums that feed one another add up. So the distance allowed is eps, times the number of terms that follow one another on
the longest path from input to output (`terms`), times the largest output: 4e-15 to 5e-13 here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import foveate

EPS = 2.0**-52
BATCH = 4
CHANNELS = (1, 3, 7, 16, 64)
SIZES = ((1, 1), (1, 5), (7, 5), (6, 8), (9, 9))  # a point, a line, odd, even, square and beyond extent 8
POOLS = ("avg", "max", "lp", "lse")

Options = dict[str, Any]
Oracle = Callable[..., np.ndarray]


def product(**values: tuple[Any, ...]) -> list[Options]:
    return [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())]


OPTIONS: dict[str, list[Options]] = {
    "squeeze_excite": product(reduction=(1, 4, 16), bias=(True, False)),
    "eca": product(kernel_size=(None, 1, 3, 5, 7, 9)),
    "gather_excite": product(variant=("theta_minus", "theta", "theta_plus"), extent=(2, 4, 8, "global")),
    "cbam": [
        *({"pools": pools} for n in range(1, 5) for pools in itertools.combinations(POOLS, n)),
        {"pools": ("max", "avg")},
        *product(parts=("both", "channel", "spatial"), norm=(True, False), kernel_size=(1, 3, 7)),
        *product(parts=("both", "channel"), reduction=(1, 5)),
    ],
    "psanet": [
        *product(
            branches=("both", "collect", "distribute"),
            mask=(None, (3, 5), (19, 3)),
            outside=("zero", "exclude"),
            softmax=(True, False),
            normalization=(None, 2.5),
            shrink=(1, 2, 3),
            fusion=("add", "concat"),
        ),
        *product(
            branches=("both", "collect", "distribute"),
            compact=(True,),
            softmax=(True, False),
            normalization=(None, 1.0),
            shrink=(1, 2, 3),
            fusion=("add", "concat"),
        ),
        *product(branches=("both", "collect", "distribute"), reduction=(1, 3), shrink=(1, 2)),
    ],
}
ALL = [(name, options) for name, several in OPTIONS.items() for options in several]
SHAPES = list(itertools.product(CHANNELS, SIZES, (False, True)))


def terms(name: str, options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    positions = size[0] * size[1]
    statistics = 2 * BATCH * positions if training else 0  # the mean and then the variance of a norm
    pointwise = 16  # sigmoid, scale, shift, interpolation
    if name == "squeeze_excite":
        return positions + channels + max(1, channels // options["reduction"]) + pointwise
    if name == "eca":
        return positions + (options["kernel_size"] or 7) + pointwise
    if name == "gather_excite":
        gather = positions + statistics if options["extent"] == "global" else 3 * (9 + statistics)
        return gather + 2 * channels + pointwise
    if name == "cbam":
        channel = positions + 2 * channels + len(options.get("pools", "12"))
        return channel + channels + 2 * options.get("kernel_size", 7) ** 2 + statistics + pointwise
    reduced = max(1, channels // options.get("reduction", 4))
    return channels + 4 * reduced + 2 * positions + 3 * statistics + 4 * pointwise


def randomise(module: torch.nn.Module, generator: np.random.Generator) -> None:
    """Weights that keep values near one, and norms that do something."""
    for name, tensor in module.state_dict().items():
        shape = tuple(tensor.shape)
        if name.endswith("running_var"):
            values = generator.uniform(0.5, 2, shape)
        elif tensor.dim() > 1:
            values = generator.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))
        elif tensor.dim() == 1:
            values = generator.normal(size=shape)
        else:
            continue
        tensor.copy_(torch.from_numpy(np.asarray(values)))


def both(
    oracle: Oracle,
    name: str,
    options: Options,
    channels: int,
    size: tuple[int, int],
    training: bool,
    made_for: tuple[int, int] | None = None,
    batch: int = BATCH,
) -> tuple[np.ndarray, np.ndarray]:
    """What the module gives and what the oracle gives."""
    generator = np.random.default_rng([channels, *size, training])
    made_for = made_for or size
    module = foveate.create(name, channels, size=made_for, dtype=torch.float64, **options).train(training)
    randomise(module, generator)
    state = {key: value.numpy().copy() for key, value in module.state_dict().items() if value.dim()}
    x = generator.normal(size=(batch, channels, *size)) + generator.normal(size=(batch, channels, 1, 1))
    extra = {"size": made_for} if foveate.get(name).wants_size else {}
    expected = oracle(x.copy(), state, training=training, **extra, **options)
    with torch.no_grad():
        return module(torch.from_numpy(x)).numpy(), expected


# every so many-th shape is met by each set of options, beginning at another one each time; no factor of 50 in common
EVERY = {"cbam": 3, "psanet": 17}


def cases() -> list[Any]:
    """All options with all shapes, or with a share of them in turn where there are many."""
    found: list[Any] = []
    for index, (name, options) in enumerate(ALL):
        every = EVERY.get(name, 1)
        shapes = [SHAPES[(index + k * every) % len(SHAPES)] for k in range(-(-len(SHAPES) // every))]
        if name in ("squeeze_excite", "eca"):  # no norm: training makes no difference
            shapes = [shape for shape in shapes if not shape[2]]
        found.append(pytest.param(name, options, shapes, id=str(foveate.spec(name, **options))))
    return found


@pytest.mark.parametrize(("name", "options", "shapes"), cases())
def test_the_mechanism_is_its_oracle(
    oracle_of: Callable[[str], Oracle],
    name: str,
    options: Options,
    shapes: list[tuple[int, tuple[int, int], bool]],
) -> None:
    for channels, size, training in shapes:
        found, expected = both(oracle_of(name), name, options, channels, size, training)
        allowed = EPS * terms(name, options, channels, size, training) * max(1.0, np.abs(expected).max())
        where = f"{channels} channels, map {size[0]}×{size[1]}, {'training' if training else 'evaluation'}"
        assert found.shape == expected.shape, where
        assert np.abs(found - expected).max() <= allowed, where


def test_every_mechanism_has_an_oracle_and_every_option_is_compared() -> None:
    oracles = {path.stem for path in Path(__file__).parent.glob("*.py")} - {"conftest"}
    assert {name for name in oracles if not name.startswith("test_")} == set(foveate.names()) == set(OPTIONS)
    for name in foveate.names():
        for option, described in foveate.get(name).options.items():
            if option == "dimensions":  # test_signals_and_volumes
                continue
            compared = {options.get(option, described.default) for options in OPTIONS[name]}
            assert len(compared) >= 2, f"{name}: {option}"


@pytest.mark.parametrize("made_for", [(3, 4), (6, 5), (10, 9)])
@pytest.mark.parametrize("outside", ["zero", "exclude"])
@pytest.mark.parametrize("shrink", [1, 2])
def test_psanet_at_another_size_than_it_was_made_for(
    oracle_of: Callable[[str], Oracle], made_for: tuple[int, int], outside: str, shrink: int
) -> None:
    options: Options = {"outside": outside, "shrink": shrink}
    for size in ((5, 6), (8, 3), (1, 9)):
        found, expected = both(oracle_of("psanet"), "psanet", options, 7, size, False, made_for=made_for)
        allowed = EPS * terms("psanet", options, 7, size, False) * max(1.0, np.abs(expected).max())
        assert np.abs(found - expected).max() <= allowed, size


@pytest.mark.parametrize("name", ["gather_excite", "cbam", "psanet"])
def test_training_with_one_sample(oracle_of: Callable[[str], Oracle], name: str) -> None:
    """Statistics come from its positions; where it has only one, from the running averages."""
    options: Options = {"extent": 2} if name == "gather_excite" else {}
    for size in ((1, 1), (6, 5), (9, 8)):
        found, expected = both(oracle_of(name), name, options, 7, size, True, batch=1)
        allowed = EPS * terms(name, options, 7, size, True) * max(1.0, np.abs(expected).max())
        assert np.abs(found - expected).max() <= allowed, size


@pytest.mark.parametrize("size", [(9,), (4, 3, 5)])
@pytest.mark.parametrize("training", [False, True])
def test_signals_and_volumes(oracle_of: Callable[[str], Oracle], size: tuple[int, ...], training: bool) -> None:
    dimensions, generator = len(size), np.random.default_rng(0)
    module = foveate.create("cbam", 5, dimensions=dimensions, kernel_size=3).double().train(training)
    randomise(module, generator)
    x = generator.normal(size=(2, 5, *size))
    state = {name: tensor.numpy().copy() for name, tensor in module.state_dict().items()}
    with torch.no_grad():
        found = module(torch.from_numpy(x)).numpy()
    expected = oracle_of("cbam")(x, state, training=training, kernel_size=3, dimensions=dimensions)
    # the longest path: a mean over positions, two layers, a convolution, the statistics of all positions
    terms_in_all = 3 * int(np.prod(size)) * len(x) + 4 * 5 + 2 * 3**dimensions + 20
    assert np.abs(found - expected).max() <= EPS * terms_in_all * max(1.0, np.abs(expected).max())
