"""Averages of weights: copies that follow a training network follow its attention too."""

import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

import foveate
from foveate.surgery.attended import attended_places


def moved(network, by):
    """Every parameter and every norm statistic moved by as much."""
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.is_floating_point():
                tensor.add_(by)


def floats(network):
    return {key: value.clone() for key, value in network.state_dict().items() if value.is_floating_point()}


@pytest.mark.parametrize("use_buffers", [True, False])
@pytest.mark.parametrize("name", ["cbam", "psanet"])
def test_averaged_model_averages_host_and_attention(name, use_buffers, resnet8, images):
    network, x = resnet8(), images()
    foveate.attach(network, name, example=x)
    foveate.attach(network, "eca", at="post")
    averaged = AveragedModel(network, use_buffers=use_buffers)
    first = floats(network)
    averaged.update_parameters(network)
    moved(network, 1.0)
    averaged.update_parameters(network)
    buffers = {key for key in first if key.endswith(("running_mean", "running_var"))}
    now = floats(averaged.module)
    assert now.keys() == first.keys()
    for key, value in first.items():
        by = 1.0 if key in buffers and not use_buffers else 0.5  # buffers that are not averaged are the newest
        torch.testing.assert_close(now[key], value + by)
    assert list(attended_places(averaged.module)) == list(attended_places(network))
    with_attention = averaged(x)
    foveate.detach(averaged)
    assert not torch.allclose(averaged(x), with_attention, rtol=1e-2)
    assert attended_places(network)  # the copy's attention was its own


def test_exponential_average_of_torch_and_its_norms(resnet8, images):
    network = foveate.attach(resnet8(), "cbam")
    averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.75))
    first = floats(network)
    averaged.update_parameters(network)
    moved(network, 1.0)
    averaged.update_parameters(network)
    key = "layer1.0.bn2.foveate.cbam.channel.fc1.weight"
    torch.testing.assert_close(averaged.module.state_dict()[key], first[key] + 0.25)
    norm = averaged.module.layer3[0].bn2
    before = norm.running_mean.clone()
    update_bn([images()], averaged)
    assert not torch.equal(norm.running_mean, before)
    assert norm.foveate_host.momentum == 0.1


@pytest.mark.parametrize("use_warmup", [False, True])
def test_timm_ema_averages_host_and_attention(use_warmup, resnet8, images):
    utils = pytest.importorskip("timm.utils")
    network, x = resnet8(), images()
    foveate.attach(network, "cbam")
    ema = utils.ModelEmaV3(network, decay=0.75, use_warmup=use_warmup)
    first = floats(network)
    moved(network, 1.0)
    with torch.no_grad():
        ema.update(network, step=10_000)
    kept = ema.get_decay(10_000)
    assert 0 < kept < 1
    for key, value in floats(ema.module).items():
        torch.testing.assert_close(value, first[key] + (1 - kept))
    assert list(ema.module.state_dict()) == list(network.state_dict())
    expected = foveate.attach(resnet8(), "cbam")
    expected.load_state_dict(ema.module.state_dict())
    assert torch.equal(ema.module(x), expected(x))


def test_a_copy_is_copied_saved_and_takes_the_hosts_checkpoint(resnet8, images):
    utils = pytest.importorskip("timm.utils")
    x, host = images(), resnet8(3)
    for wrapped in (
        AveragedModel(foveate.attach(resnet8(), "se", start="paper")),
        utils.ModelEmaV3(foveate.attach(resnet8(), "se", start="paper")),
    ):
        wrapped.module.eval()
        again = copy.deepcopy(wrapped)
        assert torch.equal(again.module(x), wrapped.module(x))
        moved(again, 0.5)
        assert not torch.equal(again.module(x), wrapped.module(x))
        again.load_state_dict(wrapped.state_dict())
        assert torch.equal(again.module(x), wrapped.module(x))
        state = wrapped.state_dict()
        original = {f"module.{key}": value for key, value in host.state_dict().items()}
        rest = {key: value for key, value in state.items() if not key.startswith("module.")}
        again.load_state_dict({**rest, **original})  # strict
        assert all(torch.equal(again.state_dict()[key], value) for key, value in original.items())
        attention = [key for key in state if ".foveate." in key]
        assert attention
        assert all(torch.equal(again.state_dict()[key], state[key]) for key in attention)
        lost = {key: value for key, value in state.items() if key != attention[0]}
        with pytest.raises(RuntimeError, match="Missing key"):
            again.load_state_dict(lost)


def test_averages_made_by_hand_from_parameter_names_load(resnet8):
    first, second = (foveate.attach(resnet8(seed), "cbam") for seed in (0, 1))
    others = dict(second.named_parameters())
    mean = {name: (p.detach() + others[name].detach()) / 2 for name, p in first.named_parameters()}
    target = foveate.attach(resnet8(2), "cbam")
    missing, unexpected = target.load_state_dict(mean, strict=False)
    assert not unexpected
    assert all(key.endswith(("running_mean", "running_var", "num_batches_tracked")) for key in missing)
    assert any(isinstance(module, nn.BatchNorm2d) for module in target.modules())
    for name, value in target.named_parameters():
        assert torch.equal(value, mean[name])
