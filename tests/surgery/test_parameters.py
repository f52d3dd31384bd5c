"""Parameter groups hold every trainable parameter once; freezing is undone exactly."""

import copy
import pickle

import pytest
import torch
import torchvision
from torch import nn

import foveate
from foveate import hosts
from foveate.errors import FoveateError, FoveateWarning, OptionError
from foveate.surgery.parameters import (
    freeze_attention,
    freeze_host,
    parameter_groups,
    unfreeze_attention,
    unfreeze_host,
)


def network(attention="cbam"):
    torch.manual_seed(0)
    return foveate.attach(hosts.build("foveate/resnet8", classes=10), attention)


def trainable(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def names(model, group):
    by_id = {id(parameter): name for name, parameter in model.named_parameters()}
    return {by_id[id(parameter)] for parameter in group["params"]}


def test_every_trainable_parameter_is_in_one_group_once():
    model = foveate.attach(torchvision.models.mobilenet_v2(), "cbam")
    model.features[0][0].weight.requires_grad_(False)
    groups = parameter_groups(model, lr=0.01, attention_lr=0.1, weight_decay=1e-4)
    assert [g["name"] for g in groups] == ["host", "host_no_decay", "attention", "attention_no_decay"]
    assert [g["lr"] for g in groups] == [0.01, 0.01, 0.1, 0.1]
    assert [g["weight_decay"] for g in groups] == [1e-4, 0.0, 1e-4, 0.0]
    listed = [id(p) for g in groups for p in g["params"]]
    assert len(listed) == len(set(listed))
    assert set(listed) == {id(p) for p in model.parameters() if p.requires_grad}


def test_who_is_where():
    model = network()
    host, host_spared, attention, spared = (
        names(model, g) for g in parameter_groups(model, lr=1e-2, weight_decay=1e-4)
    )
    assert all("foveate." in name for name in attention | spared)
    assert not any(".foveate." in name for name in host | host_spared)
    assert "linear.weight" in host and "linear.bias" in host_spared
    assert "layer1.0.bn2.foveate_host.weight" in host_spared
    assert {name.rpartition(".")[2] for name in attention} == {"weight"}
    assert {"blend", "bias"} <= {name.rpartition(".")[2] for name in spared}
    assert any(name.endswith("norm.weight") for name in spared)
    whole = parameter_groups(model, lr=1e-2, weight_decay=1e-4, no_weight_decay=False)
    assert [g["name"] for g in whole] == ["host", "attention"]


def test_a_norm_of_several_axes_and_a_bias_of_several_are_spared():
    class Biased(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.LayerNorm((3, 4, 4))
            self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))
            self.scale = nn.Parameter(torch.zeros(1, 3, 1, 1))

    decayed, spared = parameter_groups(Biased(), lr=0.1, weight_decay=0.1)
    assert len(decayed["params"]) == 1 and len(spared["params"]) == 3


def test_shared_parameters_count_once_and_empty_groups_are_left_out():
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    model[1].weight = model[0].weight
    (group,) = parameter_groups(model, lr=0.1)
    assert group["name"] == "host" and len(group["params"]) == 1
    (only,) = parameter_groups(freeze_host(network("eca")), lr=0.1, weight_decay=0.1, no_weight_decay=False)
    assert only["name"] == "attention"


def test_an_optimiser_takes_them_and_moves_each_at_its_rate():
    model = network("se").train()
    optimizer = torch.optim.SGD(parameter_groups(model, lr=1e-3, attention_lr=1.0), lr=5.0)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer.step()
    for name, parameter in model.named_parameters():
        step = (before[name] - parameter.detach()).mean().item()
        assert step == pytest.approx(1.0 if ".foveate." in name else 1e-3, rel=1e-2), name


def test_wrapped_networks_are_seen_through():
    model = network()
    compiled = torch.compile(model, backend="eager")
    assert len(parameter_groups(compiled, lr=0.1)) == 4
    freeze_host(nn.DataParallel(model))
    assert all("foveate." in name for name in trainable(model))
    unfreeze_host(compiled)
    assert len(trainable(model)) == len(list(model.parameters()))


@pytest.mark.parametrize(
    "wrong", [{"lr": 0}, {"lr": 0.1, "attention_lr": -1}, {"lr": 0.1, "weight_decay": -1}, {"lr": "fast"}]
)
def test_wrong_numbers_are_refused(wrong):
    with pytest.raises(OptionError):
        parameter_groups(network(), **wrong)


def test_nothing_to_train_is_refused():
    with pytest.raises(FoveateError, match="unfreeze"):
        parameter_groups(network().requires_grad_(False), lr=0.1)


def test_unfreezing_restores_what_was_frozen_by_hand():
    model = network()
    model.conv1.requires_grad_(False)
    model.layer2[0].bn2.weight.requires_grad_(False)
    before = trainable(model)
    freeze_host(model)
    freeze_host(model)  # twice is once
    assert trainable(model) == {name for name, _ in model.named_parameters() if ".foveate." in name}
    unfreeze_host(model)
    assert trainable(model) == before


def test_what_was_frozen_is_known_after_a_copy_a_pickle_and_another_attachment():
    model = hosts.build("foveate/resnet8", classes=10)
    model.linear.bias.requires_grad_(False)
    before = trainable(model)
    freeze_host(model)
    assert trainable(model) == set()
    foveate.attach(model, "se")  # the parameters get other names
    for one in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), model):
        assert trainable(foveate.detach(unfreeze_host(one))) == before


def test_unfreezing_what_was_not_frozen_here_says_so():
    model = network()
    assert unfreeze_host(model) is model  # nothing to do, nothing to say
    model.linear.requires_grad_(False)
    with pytest.warns(FoveateWarning, match="by hand"):
        unfreeze_host(model)
    assert not model.linear.weight.requires_grad
    next(foveate.attention_parameters(model))[1].requires_grad_(False)
    with pytest.warns(FoveateWarning, match="by hand"):
        unfreeze_attention(model)


def test_attachments_freeze_one_by_one():
    model = network("se")
    foveate.attach(model, "eca", name="night")
    first = next(p for n, p in foveate.attention_parameters(model) if ".night." in n)
    first.requires_grad_(False)
    before = trainable(model)
    freeze_attention(model, "se")
    assert {name for name in before if ".squeeze_excite." not in name} == trainable(model)
    freeze_attention(model)
    assert not any(".foveate." in name for name in trainable(model))
    unfreeze_attention(model, "night")
    assert {name for name in before if ".squeeze_excite." not in name} == trainable(model)
    unfreeze_attention(model)
    assert trainable(model) == before


def buffers(model):
    return {name: value.clone() for name, value in model.named_buffers() if ".foveate." not in name}


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("convert", [False, True])
def test_norm_statistics_stay_after_train_and_move_again_after_unfreezing(momentum, convert):
    model = torchvision.models.resnet18(num_classes=10)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = momentum
            nn.init.uniform_(module.running_mean)
    foveate.attach(model, "cbam")
    x = torch.randn(4, 3, 32, 32)
    freeze_host(model, norms=True)
    model.train()
    before = buffers(model)
    y = model(x)
    assert all(torch.equal(value, before[name]) for name, value in buffers(model).items())
    ours = {n: b.clone() for n, b in model.named_buffers() if n.endswith("norm.running_mean") and ".foveate." in n}
    model(x)
    assert not all(torch.equal(b, ours[n]) for n, b in model.named_buffers() if n in ours)  # attention's own move
    if convert:  # keys and the setting survive
        model = pickle.loads(pickle.dumps(copy.deepcopy(model)))
        model.train()(x)
        assert all(torch.equal(value, before[name]) for name, value in buffers(model).items())
    model.eval()
    expected = foveate.detach(copy.deepcopy(model))
    assert not torch.equal(expected(x), y)  # evaluation uses the statistics, not the batch
    unfreeze_host(model)
    assert {m.momentum for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d) and ".foveate." not in n} == {
        momentum
    }
    model.train()(x)
    assert not any(torch.equal(value, before[name]) for name, value in buffers(model).items() if "running" in name)


def test_evaluation_with_frozen_norms_is_what_it_was():
    model = torchvision.models.resnet18(num_classes=10).eval()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = model(x)
        assert torch.equal(freeze_host(model, norms=True)(x), before)
    instance = nn.Sequential(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4, track_running_stats=True)).eval()
    with torch.no_grad():
        nn.init.uniform_(instance[1].running_mean)
        before = instance(x)
        freeze_host(instance, norms=True)
        assert torch.equal(instance(x), before)
        mean = instance[1].running_mean.clone()
        instance.train()(x)
        assert torch.equal(instance[1].running_mean, mean)


def test_norms_move_in_a_frozen_host_unless_asked():
    model = freeze_host(torchvision.models.resnet18(num_classes=10)).train()
    before = buffers(model)
    model(torch.randn(2, 3, 32, 32))
    assert not torch.equal(model.bn1.running_mean, before["bn1.running_mean"])
