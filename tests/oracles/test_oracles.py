"""Every mechanism, with every option, against its oracle, in float64.

How far apart may two correct computations lie? Rounding moves a sum of n terms by at most n · eps times the sum of
their magnitudes, eps = 2⁻⁵². Inputs and weights here are drawn so that every sum is of the order of one with terms
whose magnitudes add up to about √n; rounding errors of either sign cancel to about √n · eps of that: together n · eps.
Sums that feed one another add up. So the distance allowed is eps, times the number of terms that follow one another on
the longest path from input to output (`terms`), times the largest output: 4e-15 to 5e-13 here.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

import foveate
from tests.support.oracles import (
    CHANNELS,
    EPS,
    SIZES,
    Options,
    about,
    allowed,
    both,
    collected,
    oracle_files,
    randomise,
    said,
)

ALL = collected("OPTIONS")


def shapes_of(name: str) -> list[tuple[int, tuple[int, int], bool]]:
    """Channels, size, and whether in training, which makes a difference where there are norms."""
    modes = (False, True) if said(name, "NORMS", True) else (False,)
    shapes = (said(name, "CHANNELS", CHANNELS), said(name, "SIZES", SIZES), modes)
    return list(itertools.product(*shapes))


def cases() -> list[Any]:
    """All options with all shapes, or with a share of them in turn where there are many."""
    found: list[Any] = []
    for index, (name, options) in enumerate(ALL):
        shapes, every = shapes_of(name), said(name, "EVERY", 1)
        chosen = [shapes[(index + k * every) % len(shapes)] for k in range(-(-len(shapes) // every))]
        found.append(pytest.param(name, options, chosen, id=str(foveate.spec(name, **options))))
    return found


@pytest.mark.parametrize(("name", "options", "shapes"), cases())
def test_the_mechanism_is_its_oracle(
    name: str, options: Options, shapes: list[tuple[int, tuple[int, int], bool]]
) -> None:
    for channels, size, training in shapes:
        found, expected = both(name, options, channels, size, training)
        where = f"{channels} channels, map {size[0]}×{size[1]}, {'training' if training else 'evaluation'}"
        assert found.shape == expected.shape, where
        assert np.abs(found - expected).max() <= allowed(name, options, channels, size, training, expected), where


def test_every_mechanism_has_an_oracle_and_every_option_is_compared() -> None:
    assert oracle_files() == set(foveate.names())
    for name in foveate.names():
        for option, described in foveate.get(name).options.items():
            if option == "dimensions":  # test_signals_and_volumes
                continue
            compared = {options.get(option, described.default) for options in about(name).OPTIONS}
            assert len(compared) >= 2, f"{name}: {option}"


@pytest.mark.parametrize("made_for", [(3, 4), (6, 5), (10, 9)])
@pytest.mark.parametrize("outside", ["zero", "exclude"])
@pytest.mark.parametrize("shrink", [1, 2])
def test_psanet_at_another_size_than_it_was_made_for(made_for: tuple[int, int], outside: str, shrink: int) -> None:
    options: Options = {"outside": outside, "shrink": shrink}
    for size in ((5, 6), (8, 3), (1, 9)):
        found, expected = both("psanet", options, 7, size, False, made_for=made_for)
        assert np.abs(found - expected).max() <= allowed("psanet", options, 7, size, False, expected), size


@pytest.mark.parametrize("name", [name for name in foveate.names() if said(name, "NORMS", True)])
def test_training_with_one_sample(name: str) -> None:
    """Statistics come from its positions; where it has only one, from the running averages."""
    options: Options = said(name, "ONE_SAMPLE", {})
    channels = said(name, "CHANNELS", (1, 3, 7))[2]
    for size in ((1, 1), (6, 5), (9, 8)):
        found, expected = both(name, options, channels, size, True, batch=1)
        assert np.abs(found - expected).max() <= allowed(name, options, channels, size, True, expected), size


@pytest.mark.parametrize("size", [(9,), (4, 3, 5)])
@pytest.mark.parametrize("training", [False, True])
def test_signals_and_volumes(size: tuple[int, ...], training: bool) -> None:
    dimensions, generator = len(size), np.random.default_rng(0)
    module = foveate.create("cbam", 5, dimensions=dimensions, kernel_size=3).double().train(training)
    randomise(module, generator)
    x = generator.normal(size=(2, 5, *size))
    state = {name: tensor.numpy().copy() for name, tensor in module.state_dict().items()}
    with torch.no_grad():
        found = module(torch.from_numpy(x)).numpy()
    expected = about("cbam").oracle(x, state, training=training, kernel_size=3, dimensions=dimensions)
    # the longest path: a mean over positions, two layers, a convolution, the statistics of all positions
    terms_in_all = 3 * int(np.prod(size)) * len(x) + 4 * 5 + 2 * 3**dimensions + 20
    assert np.abs(found - expected).max() <= EPS * terms_in_all * max(1.0, np.abs(expected).max())
