"""A network that was compiled before, or is compiled after: what runs is what is attached at that moment."""

import shutil

import pytest
import torch
from torch import nn

import foveate

FIVE = ("squeeze_excite", "eca", "gather_excite", "cbam", "psanet")
# compiled graphs compute the same operations; what differs is how sums over at most 64·9 terms are ordered
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def differs(some, others):
    return not torch.allclose(some, others, rtol=1e-2, atol=1e-2)


@torch.no_grad()
@pytest.mark.parametrize("given", ["the network", "what torch.compile returned"])
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_network_compiled_before_attach_runs_with_attention_and_after_detach_without(backend, given, resnet8, images):
    network, x = resnet8(), images()
    plain, original = network(x), network.state_dict()
    compiled = torch.compile(network, backend=backend)
    torch.testing.assert_close(compiled(x), plain, **CLOSE)
    target = compiled if given.startswith("what") else network
    assert foveate.attach(target, "cbam", start="paper") is target
    attended = network(x)
    assert differs(attended, plain)
    torch.testing.assert_close(compiled(x), attended, **CLOSE)
    network.load_state_dict(original)  # strict, whichever of the two was given
    foveate.detach(target)
    assert torch.equal(network(x), plain)
    torch.testing.assert_close(compiled(x), plain, **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize(("part", "fullgraph"), [("", False), ("", True), ("layer2.0", True)])
def test_a_network_compiled_in_place_before_attach_runs_with_attention(part, fullgraph, resnet8, images):
    network, x = resnet8(), images()
    network.get_submodule(part).compile(backend="eager", fullgraph=fullgraph)
    plain = network(x)
    foveate.attach(network, "se", at=["residual", "layer2.0"], start="paper", name="ours")
    places = foveate.surgery.attended.attended_places(network)
    assert list(places) == ["layer1.0.bn2", "layer2.0", "layer2.0.foveate_host.bn2", "layer3.0.bn2"]
    attended = network(x)
    assert differs(attended, plain)
    reference = foveate.attach(resnet8(), "se", at=["residual", "layer2.0"], start="paper", name="ours")
    reference.load_state_dict(network.state_dict())
    torch.testing.assert_close(attended, reference(x), **CLOSE)
    foveate.detach(network)
    torch.testing.assert_close(network(x), plain, **CLOSE)


@torch.no_grad()
def test_a_part_that_was_replaced_by_its_compiled_self_takes_attention(resnet8, images):
    network, x = resnet8(), images()
    network.layer2 = torch.compile(network.layer2, backend="eager")
    plain, keys = network(x), list(network.state_dict())
    foveate.attach(network, "se", start="paper")
    added = [key for key in network.state_dict() if key not in keys]
    assert {key.split(".foveate.")[0] for key in added} == {
        "layer1.0.bn2", "layer2._orig_mod.0.bn2", "layer3.0.bn2",
    }  # fmt: skip
    assert differs(network(x), plain)
    reference = foveate.attach(resnet8(), "se", start="paper")
    reference.load_state_dict({key.replace("_orig_mod.", ""): v for key, v in network.state_dict().items()})
    torch.testing.assert_close(network(x), reference(x), **CLOSE)
    foveate.detach(network)
    assert list(network.state_dict()) == keys
    torch.testing.assert_close(network(x), plain, **CLOSE)


@torch.no_grad()
def test_a_plain_network_compiled_first_does_not_decide_for_an_attended_one_of_its_class(resnet8, images):
    plain, x = resnet8(), images()
    first = torch.compile(plain, backend="eager")(x)
    attended = foveate.attach(resnet8(), "cbam", start="paper")
    expected = attended(x)
    assert differs(expected, first)
    torch.testing.assert_close(torch.compile(attended, backend="eager")(x), expected, **CLOSE)
    torch.testing.assert_close(torch.compile(plain, backend="eager")(x), first, **CLOSE)


@pytest.mark.parametrize("name", FIVE)
def test_compiled_after_attach_it_is_one_graph_and_trains_as_without(name, resnet8, images, away_from_identity):
    network, x = resnet8().double(), images().double()
    away_from_identity(foveate.attach(network, name, example=x))
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)

    def step(run):
        network.zero_grad()
        loss = run(x).square().mean()
        loss.backward()
        return loss.detach(), {key: p.grad.clone() for key, p in network.named_parameters()}

    (loss, gradients), (expected_loss, expected) = step(compiled), step(network)
    torch.testing.assert_close(loss, expected_loss, rtol=1e-9, atol=1e-12)  # float64: some 1e7 roundings of 1e-16
    assert gradients.keys() == expected.keys()
    for key, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[key], rtol=1e-7, atol=1e-9)
    assert all(gradients[key].abs().max() > 0 for key in gradients if ".foveate." in key)


@pytest.mark.skipif(shutil.which("g++") is None, reason="Inductor needs g++")
def test_inductor_runs_the_attention():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).eval()
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        plain = network(x)
        compiled = torch.compile(network)
        torch.testing.assert_close(compiled(x), plain, **CLOSE)
        foveate.attach(network, "cbam", at="1", start="paper")
        expected = network(x)
        assert differs(expected, plain)
        torch.testing.assert_close(compiled(x), expected, **CLOSE)
