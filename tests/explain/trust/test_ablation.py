"""Gates that are constants, gates that decide alone, and networks that come back as they were."""

import pytest
import torch
from torch import nn

import foveate
from foveate.errors import FoveateError
from foveate.explain.recording.hearing import hearing
from foveate.explain.recording.relations import SameForAll
from foveate.explain.trust import means
from foveate.explain.trust.ablation import ablate
from foveate.explain.trust.means import MeanMap, replaced_maps
from tests.explain.trust.networks import Decides, attended, images


def level(count, seed=0):
    """Images of one brightness each, half above zero."""
    values = torch.linspace(-1, 1, count)
    return values[:, None, None, None].expand(-1, 3, 4, 4), [int(value < 0) for value in values]


def test_a_gate_that_decides_alone_is_seen_to():
    network = Decides()
    x, y = level(40)
    found = ablate(network, [(x[:24], y[:24]), (x[24:], y[24:])])
    assert found.base.mean == 1
    # the mean gate is one half for both classes, so that the first is always said: half of the images have it
    assert found.together.effect.mean == -0.5
    assert found.together.verdict == "depends on its input"
    assert found.places == (found.together,)
    (line,) = found.sentences()
    assert line.startswith(
        "attention at gate depends on its input and the network uses it: replacing its map by the mean"
    )
    assert "changes accuracy by -50.0 points (-64.1 to -31.1)" in line


def test_a_gate_that_is_a_constant_is_called_one_when_there_are_enough_images():
    network = attended("se")
    for module in network.modules():
        if isinstance(module, foveate.get("se").build):
            for parameter in module.parameters():
                nn.init.zeros_(parameter)  # every gate is sigmoid(0)
    x = images(4)
    with torch.no_grad():
        y = network(x).argmax(1).tolist()
    batches = [(x, y)] * 75
    found = ablate(network, batches, each=False)
    assert set(found.together.values) == {1.0}
    assert found.together.verdict == "a learned constant"
    # the rule of three: 1 - 0.05 ** (1 / 300) = 0.0099
    assert "changes accuracy by 0.0 points (-1.0 to +1.0), less than 1 point" in found.sentences()[0]
    few = ablate(network, batches[:5], each=False)
    assert few.together.verdict == "undecided"
    assert "is undecided on 20 images" in few.sentences()[0]


def test_what_acts_is_the_mean_of_what_acted():
    network = attended("cbam")
    x = images(6)
    place = network.layer2[0].bn2
    with torch.no_grad(), foveate.record(network) as maps:
        network(x)
    recorded = {m.step: m.values for m in maps.at("layer2.0.bn2")}
    gathered = gather(network, [x[:4], x[4:]])
    only = [name for name in gathered if name.place == "layer2.0.bn2"]
    assert [name.step for name in only] == ["channel", "spatial"]
    seen = {}
    with torch.no_grad(), replaced_maps(network, gathered, only):
        before = place.foveate_host.register_forward_hook(lambda m, i, o: seen.update(x=o))
        after = place.register_forward_hook(lambda m, i, o: seen.update(y=o))
        network(x)
        before.remove()
        after.remove()
    by_hand = seen["x"] * recorded["channel"].double().mean(0).float() * recorded["spatial"].double().mean(0).float()
    # two float32 products of numbers that agree to a rounding each
    torch.testing.assert_close(seen["y"], by_hand, rtol=4 * 2**-24, atol=0)


@pytest.mark.parametrize("spec", ["se", "cbam", "psanet", "danet_position", "danet_channel", "sk", "condconv"])
def test_of_one_image_the_mean_is_the_map_itself(spec):
    network, x = attended(spec).double(), images(1).double()
    with torch.no_grad():
        gathered = gather(network, [x])
        with hearing(network, lambda heard: None):
            expected = network(x)
        with replaced_maps(network, gathered):
            found = network(x)
        # relations mix in another order: float64 sums of up to 1024 products, through at most 8 layers
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)
        other = images(1, seed=2).double()
        with replaced_maps(network, gathered):
            replaced = network(other)
        assert float((replaced - network(other)).abs().max()) > 1e-6


def gather(network, batches):
    found = {}
    with torch.no_grad(), hearing(network, lambda heard: found.setdefault(heard.name, MeanMap()).add(heard)):
        for batch in batches:
            network(batch)
    return found


def test_many_positions_share_one_mean(monkeypatch):
    network, x = attended("danet_position", at="layer3.0.bn2").double(), images(3).double()
    with torch.no_grad(), foveate.record(network) as maps:
        network(x)
    dense = maps.at("layer3.0.bn2")[0].values.double()
    exact = gather(network, [x[:2], x[2:]])
    monkeypatch.setattr(means, "MOST_POSITIONS", 10)
    shared = gather(network, [x[:2], x[2:]])
    (name,) = [name for name in exact if name.place == "layer3.0.bn2"]
    assert not exact[name].shared
    assert shared[name].shared
    acting = {}
    for which, found in (("exact", exact), ("shared", shared)):

        def note(heard, which=which, found=found):
            acting[which, heard.name] = found[heard.name].acting(heard)

        with torch.no_grad(), hearing(network, note):
            network(x)
    # what is recorded is float32: weights below 1 are off by at most 2**-25
    torch.testing.assert_close(acting["exact", name].dense(), dense.mean(0).expand(3, -1, -1), rtol=0, atol=2**-25)
    same = dense.mean((0, 2))[None, :, None].expand(3, -1, dense.shape[2])
    torch.testing.assert_close(acting["shared", name].dense(), same, rtol=0, atol=2**-25)
    value = torch.rand(3, 5, 8, 8, dtype=torch.float64)
    mixed = acting["shared", name].mix(value)
    # 64 of these, with values below 1
    torch.testing.assert_close(mixed.flatten(2), value.flatten(2) @ same, rtol=0, atol=64 * 2**-25)
    found = ablate(network, [(x, [0, 1, 2])], each=False)
    assert found.together.shared
    assert "over images and targets" in found.sentences()[0]


def test_constant_relations_of_channels_mix_channels():
    weights, value = torch.rand(4, 4), torch.randn(2, 4, 3, 3)
    mixed = SameForAll(weights, (4,), 2).mix(value)
    # float32 sums of four products
    torch.testing.assert_close(mixed, torch.einsum("st,bshw->bthw", weights, value), rtol=1e-5, atol=1e-6)


def test_intervals_of_places_hold_all_at_once():
    network, x = attended("se"), images(4)
    with torch.no_grad():
        y = network(x).argmax(1).tolist()
    found = ablate(network, [(x, y)], score=lambda answer, target: answer.new_ones(()))
    # nothing changes: the intervals are those of an event that four images did not show
    assert found.together.effect.high == pytest.approx(1 - 0.05 ** (1 / 4))
    assert [one.effect.high for one in found.places] == pytest.approx([1 - (0.05 / 3) ** (1 / 4)] * 3)


def test_the_network_is_as_it_was_even_after_an_error():
    network = attended("cbam").train()
    x = images(4)
    state = {key: value.clone() for key, value in network.state_dict().items()}
    with torch.no_grad():
        before = network.eval()(x)
    network.train()
    ablate(network, [(x, [0, 1, 2, 3])])
    calls = []

    def fails(answer, target):
        calls.append(1)
        if len(calls) > 6:  # the first four read the network as it is
            raise ZeroDivisionError
        return torch.zeros(())

    with pytest.raises(ZeroDivisionError):
        ablate(network, [(x, [0, 1, 2, 3])], score=fails)
    assert network.training
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    with torch.no_grad():
        assert torch.equal(network.eval()(x), before)


def test_maps_of_other_libraries_are_replaced_where_they_act():
    cbam, non_local = pytest.importorskip("timm.layers.cbam"), pytest.importorskip("timm.layers.non_local_attn")
    torch.manual_seed(0)
    attention = [cbam.CbamModule(8), non_local.NonLocalAttn(8)]
    network = nn.Sequential(nn.Conv2d(3, 8, 3), *attention, nn.Conv2d(8, 2, 1)).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.5)
    x = torch.randn(5, 3, 9, 9)
    with torch.no_grad(), foveate.record(network) as maps:
        expected = network(x)
    channel, spatial, pairs = (m.values for m in maps)
    gathered = gather(network, [x[:3], x[3:]])
    assert len(gathered) == 3
    seen = {}
    handles = [network[1].register_forward_hook(lambda m, i, o: seen.update(x=i[0], y=o))]
    handles.append(network[2].g.register_forward_hook(lambda m, i, o: seen.update(g=o)))
    handles.append(network[2].z.register_forward_pre_hook(lambda m, i: seen.update(mixed=i[0])))
    with torch.no_grad(), replaced_maps(network, gathered):
        replaced = network(x)
    for handle in handles:
        handle.remove()
    # float32 products and sums of 49 terms
    torch.testing.assert_close(seen["y"], seen["x"] * channel.mean(0) * spatial.mean(0), rtol=1e-5, atol=1e-6)
    mixed = seen["g"].flatten(2) @ pairs.mean(0)
    torch.testing.assert_close(seen["mixed"].flatten(2), mixed, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(replaced, expected)
    with torch.no_grad():
        assert torch.equal(network(x), expected)


def test_what_cannot_be_replaced_is_said():
    network = attended("se")
    with pytest.raises(FoveateError, match="gone through once only"):
        ablate(network, iter([(images(2), [0, 1])]))
    with pytest.raises(FoveateError, match="no attention to ask about"):
        ablate(nn.Conv2d(3, 2, 1), [(images(2), [0, 1])])
    sizes = [(images(2), [0, 1]), (torch.zeros(1, 3, 16, 16), [0])]
    with pytest.raises(FoveateError, match=r"\(cbam, spatial\) changes its size"):
        ablate(attended("cbam"), sizes)
    ablate(network, sizes)  # gates of channels have one size


def test_means_may_be_of_other_images():
    x, y = level(40)
    found = ablate(Decides(), [(x, y)], mean_over=[x[30:]])  # bright ones: the gate opens the first class
    assert found.together.effect.mean == -0.5
    assert all(value == 1 - label for value, label in zip(found.together.values, y, strict=True))
