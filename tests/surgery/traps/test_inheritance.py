"""What attention takes over from where it is put: mode, type, device, memory format; and from nothing around it."""

import copy

import pytest
import torch
from torch import nn

import foveate
from foveate.surgery.attended import attended_places

FIVE = ("squeeze_excite", "eca", "gather_excite", "cbam", "psanet")


def attention_modules(network):
    return {path: list(place.foveate.modules()) for path, place in attended_places(network).items()}


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_each_place_is_its_own(training, resnet8, images):
    network = resnet8().train(training)
    network.layer2.train(not training)
    network.layer3[0].bn2.train(not training)
    modes = {path: module.training for path, module in network.named_modules()}
    foveate.attach(network, "psanet", example=images())
    found = {path: {module.training for module in modules} for path, modules in attention_modules(network).items()}
    assert found == {
        "layer1.0.bn2": {training}, "layer2.0.bn2": {not training}, "layer3.0.bn2": {not training},
    }  # fmt: skip
    for path, mode in modes.items():
        assert network.get_submodule(path).training is mode
    for mode in (True, False):
        assert {module.training for module in network.train(mode).modules()} == {mode}
    network.layer1[0].bn2.eval()
    assert not any(module.training for module in network.layer1[0].bn2.modules())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", FIVE)
def test_the_type_is_the_hosts(name, dtype, resnet8, images):
    network, x = resnet8().to(dtype), images().to(dtype)
    with torch.no_grad():
        before = network(x)
        foveate.attach(network, name, example=x)
        assert {p.dtype for _, p in foveate.attention_parameters(network)} == {dtype}
        after = network(x)
    assert after.dtype == dtype
    assert torch.equal(after, before)


def test_each_place_has_the_type_of_its_own_host(resnet8):
    network = resnet8()
    network.layer1.double()
    network.layer2.register_forward_pre_hook(lambda module, args: tuple(x.float() for x in args))
    network.conv1.register_forward_hook(lambda module, args, out: out.float())
    network.layer1.register_forward_pre_hook(lambda module, args: tuple(x.double() for x in args))
    foveate.attach(network, "se")
    assert {key.split(".")[0]: p.dtype for key, p in foveate.attention_parameters(network)} == {
        "layer1": torch.float64, "layer2": torch.float32, "layer3": torch.float32,
    }  # fmt: skip


@pytest.mark.parametrize("name", FIVE)
def test_the_meta_device_is_inherited_and_left(name, images):
    with torch.device("meta"):
        network = foveate.hosts.build("foveate/resnet8", classes=10)
        foveate.attach(network, name, example=torch.zeros(2, 3, 32, 32))
    assert all(tensor.is_meta for tensor in network.state_dict().values())
    filled = foveate.attach(foveate.hosts.build("foveate/resnet8", classes=10), name, example=images())
    network.load_state_dict(filled.state_dict(), assign=True)
    assert torch.equal(network.eval()(images()), filled.eval()(images()))


def test_a_host_on_the_meta_device_outside_of_it():
    with torch.device("meta"):
        network = foveate.hosts.build("foveate/resnet8", classes=10)
    foveate.attach(network, "cbam")
    assert all(tensor.is_meta for tensor in network.state_dict().values())


@pytest.mark.parametrize("name", FIVE)
def test_channels_last_weights_and_maps_stay_so(name, resnet8, images):
    network = resnet8().to(memory_format=torch.channels_last)
    x = images().to(memory_format=torch.channels_last)
    with torch.no_grad():
        before = network(x)
    foveate.attach(network, name, example=x)
    for key, parameter in foveate.attention_parameters(network):
        if parameter.ndim == 4:
            assert parameter.is_contiguous(memory_format=torch.channels_last), key
    outputs = []
    for place in attended_places(network).values():
        place.register_forward_hook(lambda module, args, out: outputs.append(out))
    with torch.no_grad():
        assert torch.equal(network(x), before)
    assert len(outputs) == 3
    assert all(out.is_contiguous(memory_format=torch.channels_last) for out in outputs)


def test_an_ordinary_host_gets_ordinary_weights(resnet8):
    network = foveate.attach(resnet8(), "cbam")
    wide = [p for _, p in foveate.attention_parameters(network) if p.ndim == 4 and min(p.shape[1:]) > 1]
    assert wide
    assert all(p.is_contiguous() for p in wide)
    assert not all(p.is_contiguous(memory_format=torch.channels_last) for p in wide)


AROUND = {
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "another default type": None,
}


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("name", ["se", "psanet"])
def test_what_is_around_attach_does_not_reach_the_attention(name, around, resnet8, images):
    network, x = resnet8(), images()
    if around == "another default type":
        torch.set_default_dtype(torch.float64)
        try:
            foveate.attach(network, name, example=x, start="paper")
        finally:
            torch.set_default_dtype(torch.float32)
    else:
        with AROUND[around]():
            foveate.attach(network, name, example=x, start="paper")
    ours = dict(foveate.attention_parameters(network))
    assert all(p.dtype == torch.float32 and p.requires_grad and not p.is_inference() for p in ours.values())
    network.train()(x).square().mean().backward()
    assert all(p.grad is not None for p in ours.values())
    torch.optim.SGD(ours.values(), lr=0.1).step()


@pytest.mark.parametrize("name", FIVE)
def test_moving_the_network_moves_the_attention(name, resnet8, images):
    network = foveate.attach(resnet8(), name, example=images(), start="paper")
    double = copy.deepcopy(network).double()
    assert {t.dtype for t in double.state_dict().values() if t.is_floating_point()} == {torch.float64}
    torch.testing.assert_close(double(images().double()), network(images()).double(), rtol=1e-3, atol=1e-4)
    assert all(t.is_meta for t in network.to("meta").state_dict().values())


def test_attention_put_into_a_frozen_batch_of_one_in_training_mode(resnet8, images):
    network = resnet8().train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    foveate.attach(network, "cbam")
    assert network.training
    assert not any(module.training for modules in attention_modules(network).values() for module in modules)
    assert torch.isfinite(network(images(count=1))).all()
