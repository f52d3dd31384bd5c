"""Hosts whose weights do not learn: attention learns, and what was frozen stays bit for bit."""

import pytest
import torch
from torch import nn

import foveate


def trained(network, x, steps=3):
    target = torch.arange(len(x))
    learning = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(learning, lr=0.5)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), target).backward()
        optimizer.step()
    return network


@pytest.mark.parametrize("name", ["squeeze_excite", "eca", "gather_excite", "cbam", "psanet"])
def test_attention_learns_in_a_frozen_host_that_stays_as_it_is(name, resnet8, images):
    network, x = resnet8().requires_grad_(False), images(32, 4)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    foveate.attach(network, name, example=x)
    ours = dict(foveate.attention_parameters(network))
    assert all(p.requires_grad for p in ours.values())
    assert {id(p) for p in network.parameters() if p.requires_grad} == {id(p) for p in ours.values()}
    start = {key: p.detach().clone() for key, p in ours.items()}
    trained(network.eval(), x)
    after = network.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert [key for key, p in ours.items() if torch.equal(p, start[key])] == []
    assert not any(p.requires_grad for key, p in foveate.detach(network).named_parameters())


def test_norms_of_a_frozen_host_in_training_mode_move_their_statistics_and_nothing_else(resnet8, images):
    network, x = resnet8().requires_grad_(False).train(), images(32, 4)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    trained(foveate.attach(network, "se"), x)
    changed = {key for key, value in before.items() if not torch.equal(network.state_dict()[key], value)}
    statistics = {key for key in before if key.endswith(("running_mean", "running_var", "num_batches_tracked"))}
    assert changed == statistics


def test_a_partly_frozen_host_learns_where_it_may(resnet8, images):
    network, x = resnet8(), images(32, 4)
    network.layer1.requires_grad_(False)
    network.layer2[0].bn2.weight.requires_grad_(False)
    flags = {key: p.requires_grad for key, p in network.named_parameters()}
    before = {key: value.clone() for key, value in network.state_dict().items()}
    foveate.attach(network, "cbam")
    now = {key.replace("foveate_host.", ""): p.requires_grad for key, p in network.named_parameters()}
    assert {key: flag for key, flag in now.items() if key in flags} == flags
    assert all(flag for key, flag in now.items() if key not in flags)
    trained(network.eval(), x)
    changed = {key for key in flags if not torch.equal(network.state_dict()[key], before[key])}
    assert changed == {key for key, flag in flags.items() if flag}


def test_freezing_a_place_freezes_its_host_and_its_attention_alike(resnet8):
    network = foveate.attach(resnet8(), "se")
    network.layer1.requires_grad_(False)
    frozen = {key for key, p in network.named_parameters() if not p.requires_grad}
    assert frozen == {key for key, _ in network.named_parameters() if key.startswith("layer1.")}
    assert any(".foveate." in key for key in frozen)
