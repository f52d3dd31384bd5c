"""Activations that are thrown away and computed again: gradients of attention are what they are without."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

import foveate

# in training mode norms see their batch twice, which changes running statistics but no gradient
DOUBLE = {"rtol": 1e-9, "atol": 1e-12}


def gradients(network, run, x):
    network.zero_grad()
    run(x).square().mean().backward()
    found = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    return {name: gradient.clone() for name, gradient in found.items()}


def check_same(found, expected):
    assert found.keys() == expected.keys()
    assert any(".foveate." in name for name in found)
    assert all(gradient.abs().max() > 0 for name, gradient in expected.items() if ".foveate." in name)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], **DOUBLE)


@pytest.mark.parametrize("use_reentrant", [True, False])
@pytest.mark.parametrize(("name", "at"), [("cbam", "residual"), ("psanet", "post"), ("se", "stage"), ("eca", "pre")])
def test_checkpointed_stages_have_the_same_gradients(name, at, use_reentrant, resnet8, images, away_from_identity):
    network, x = resnet8().double().train(), images(32, 4).double()
    away_from_identity(foveate.attach(network, name, at=at, example=x))

    def with_checkpoints(x):
        x = torch.relu(network.bn1(network.conv1(x)))
        for layer in (network.layer1, network.layer2, network.layer3):
            x = checkpoint(layer, x, use_reentrant=use_reentrant)
        return network.linear(x.mean((2, 3)))

    check_same(gradients(network, with_checkpoints, x), gradients(network, network, x))


@pytest.mark.parametrize("at", ["residual", "post", "stage", "layer2", "layer*"])
def test_timm_checkpointing_runs_the_attention(at, randomised, away_from_identity):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    network = randomised(timm.create_model("resnet18", num_classes=3)).double().train()
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    away_from_identity(foveate.attach(network, "se", at=at, example=x))
    expected = gradients(network, network, x)
    network.set_grad_checkpointing(True)
    check_same(gradients(network, network, x), expected)


@pytest.mark.parametrize("at", ["residual", "stage"])
def test_torch_checkpoints_a_sequence_of_parts_with_their_attention(at, randomised, away_from_identity):
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    network = randomised(torchvision.models.mobilenet_v2(num_classes=3, width_mult=0.25)).double()
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    away_from_identity(foveate.attach(network, "eca", at=at, example=x))

    def with_checkpoints(x):
        return checkpoint_sequential(network.features, 3, x, use_reentrant=False)

    check_same(gradients(network, with_checkpoints, x), gradients(network, network.features, x))


def test_torchvision_densenet_checkpoints_with_attention(randomised, away_from_identity):
    models = pytest.importorskip("torchvision.models")
    options = {"growth_rate": 4, "block_config": (2, 2), "num_init_features": 8, "num_classes": 3}
    torch.manual_seed(0)
    network = randomised(models.DenseNet(**options)).double()
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    away_from_identity(foveate.attach(network, "se:reduction=2", at="conv", example=x))
    expected = gradients(network, network, x)
    frugal = copy.deepcopy(network)
    for module in frugal.modules():
        if hasattr(module, "memory_efficient"):
            module.memory_efficient = True
    check_same(gradients(frugal, frugal, x), expected)


def test_attention_itself_can_be_checkpointed(resnet8, images, away_from_identity):
    network, x = resnet8().double(), images().double()

    class Frugal(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.inner = foveate.create("cbam", channels)

        def forward(self, x):
            return checkpoint(self.inner, x, use_reentrant=False)

    plain = foveate.attach(copy.deepcopy(network), "cbam", name="ours", start="paper")
    frugal = foveate.attach(copy.deepcopy(network), Frugal, name="ours", start="paper")
    frugal.load_state_dict({key.replace(".ours.", ".ours.inner."): v for key, v in plain.state_dict().items()})
    expected = gradients(plain, plain, x)
    found = {key.replace(".inner.", "."): v for key, v in gradients(frugal, frugal, x).items()}
    assert found.keys() == expected.keys()
    for key, gradient in found.items():
        torch.testing.assert_close(gradient, expected[key], **DOUBLE)
