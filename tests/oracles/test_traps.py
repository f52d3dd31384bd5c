"""What copies get wrong in several mechanisms alike; what concerns one stands in its own file."""

from __future__ import annotations

import pytest
import torch

import foveate
from tests.support.weights import filled


@pytest.mark.parametrize("spec", ["ge:extent=8", "ge:extent=global", "cbam", "psanet"])
def test_a_training_batch_of_one_value_is_normalised_with_the_running_statistics(spec: str) -> None:
    module = foveate.create(spec, 4, size=(1, 1))
    filled(module)
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    x = torch.randn(1, 4, 1, 1)
    assert torch.equal(module.train()(x), module.eval()(x))
    assert all(torch.equal(buffer, before[name]) for name, buffer in module.named_buffers())
