"""What the tests look at mechanisms with leaves them as they were."""

import pytest
import torch

import foveate
from foveate.attention import maps_of
from tests.support.weights import weights_of


def hooks_of(module):
    return {path: len(point._forward_hooks) for path, point in maps_of(module).items()}


def test_looking_at_weights_leaves_no_hook():
    module = foveate.create("cbam", 16)
    seen = weights_of(module, torch.zeros(1, 16, 5, 5))
    assert hooks_of(module) == {"channel.map": 0, "spatial.map": 0} == dict.fromkeys(seen, 0)


def test_a_later_run_does_not_change_what_was_seen():
    module = foveate.create("se", 16)
    x = torch.randn(1, 16, 5, 5)
    seen = weights_of(module, x)
    before = {path: weights.clone() for path, weights in seen.items()}
    module(-x)
    assert all(torch.equal(seen[path], weights) for path, weights in before.items())


def test_a_run_that_fails_leaves_no_hook():
    module = foveate.create("cbam", 16)
    with pytest.raises(RuntimeError):
        weights_of(module, torch.zeros(1, 5, 5, 5))
    assert set(hooks_of(module).values()) == {0}
