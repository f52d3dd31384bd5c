"""A capacity control has as many parameters as its mechanism, starts as the host, and all of it learns."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from foveate.study.arms.capacity import Capacity, Room, give_capacity, rooms_of
from tests.study.arms.test_placebo import MECHANISMS, built, images

pytestmark = pytest.mark.filterwarnings("ignore::foveate.errors.FoveateWarning")  # what is left out of small hosts


def count(network: nn.Module) -> int:
    """What is learned: a convolution whose place was taken rests, and learns nothing."""
    return sum(one.numel() for one in network.parameters() if one.requires_grad)


@pytest.mark.parametrize("mechanism", [*MECHANISMS, "attention_augmented", "simam", "condconv"])
def test_as_many_parameters_and_at_first_the_host(mechanism: str) -> None:
    attended, host, given = built(mechanism), built(None, like=mechanism), built(None, like=mechanism)
    resting = {
        f"{path}.foveate_host.{name}".removeprefix(".")
        for path, one in attended.named_modules()
        if hasattr(one, "foveate_resting")
        for name in one.foveate_resting
    }
    names = dict(attended.named_parameters())
    added = sum(one.numel() for name, one in names.items() if name not in resting and one.requires_grad)
    expected = added - count(host)
    rooms = rooms_of(attended)
    if expected < 0:
        pytest.skip("it has fewer parameters than the convolutions it replaces")
    give_capacity(given, rooms, torch.zeros(2, 3, 32, 32))
    assert count(given) - count(host) == sum(room.parameters for room in rooms.values())
    if all(room.parameters for room in rooms.values()):  # nowhere are there fewer than without it
        assert count(given) - count(host) == expected
    host.eval(), given.eval()
    assert torch.equal(host(images(2, 1)), given(images(2, 1)))

    optimizer = torch.optim.SGD(given.parameters(), 0.01)
    given.train()
    moved: set[str] = set()
    for step in range(2):
        optimizer.zero_grad()
        given(images(4, step)).square().mean().backward()
        moved |= {
            name for name, one in given.named_parameters() if one.grad is not None and bool(one.grad.abs().sum() > 0)
        }
        optimizer.step()
    assert {name for name, _ in given.named_parameters() if ".foveate." in name} <= moved


@pytest.mark.parametrize("parameters", [0, 1, 7, 8, 15, 16, 17, 23, 24, 31, 100])
def test_every_number_of_parameters_can_be_had(parameters: int) -> None:
    control = Capacity(8, parameters)
    x = torch.randn(2, 8, 3, 5)
    assert sum(one.numel() for one in control.parameters()) == parameters
    assert torch.equal(control(x), x)


def test_what_it_computes_is_written_out() -> None:
    control, x = Capacity(4, 2 * 4 * 2 + 4 + 3), torch.randn(2, 4, 3, 3)
    with torch.no_grad():
        for one in control.parameters():
            one.normal_()
    assert control.reduce is not None and control.expand is not None
    assert control.scale is not None and control.shift is not None
    expected = torch.zeros_like(x)
    mixing = control.expand.detach() @ control.reduce.detach()
    for row in range(3):
        for column in range(3):
            for sample in range(2):
                own: Tensor = x[sample, :, row, column]
                shift = torch.cat([control.shift.detach(), torch.zeros(1)])
                expected[sample, :, row, column] = own * control.scale.detach() + shift + mixing @ own
    # a few products of numbers near one in single precision
    assert torch.allclose(control(x), expected, atol=1e-5)


def test_it_is_the_same_for_every_input() -> None:
    control = Capacity(4, 30)
    with torch.no_grad():
        for one in control.parameters():
            one.normal_()
        x, y = torch.randn(1, 4, 5, 5), torch.randn(1, 4, 5, 5)
        # affine: a few products of numbers near one in single precision
        assert torch.allclose(control((x + y) / 2), (control(x) + control(y)) / 2, atol=1e-5)


def test_signals_have_room_too() -> None:
    assert Capacity(4, 30)(torch.randn(2, 4, 7)).shape == (2, 4, 7)


def test_a_place_without_parameters_gets_none() -> None:
    network = built(None, like="cbam")
    give_capacity(network, {"layer1.0.bn2": Room(16, 0)}, torch.zeros(1, 3, 32, 32))
    assert rooms_of(network) == {}
