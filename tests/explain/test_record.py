"""record shows the weights that really act, and leaves nothing behind."""

import pytest
import torch

import foveate
from foveate import hosts
from foveate.errors import FoveateError


def attended(name="cbam", start="paper", **kwargs):
    torch.manual_seed(0)
    model = hosts.build("foveate/resnet8", classes=10).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
    return foveate.attach(model, name, start=start, example=torch.zeros(1, 3, 32, 32), **kwargs)


def images(count=2):
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_every_step_is_recorded_by_name():
    model = attended()
    with torch.no_grad(), foveate.record(model) as maps:
        model(images())
    names = [(m.place, m.attachment, m.step, m.axes) for m in maps]
    assert names[:2] == [
        ("layer1.0.bn2", "cbam", "channel", ("c",)),
        ("layer1.0.bn2", "cbam", "spatial", ("h", "w")),
    ]
    assert len(maps) == 6
    assert [m.step for m in maps.at("layer2.0.bn2")] == ["channel", "spatial"]


def test_recorded_weights_are_the_ones_that_multiply():
    model = attended("se")
    place = model.layer2[0].bn2
    seen = {}
    handle = place.foveate_host.register_forward_hook(lambda m, i, o: seen.update(x=o))
    outer = place.register_forward_hook(lambda m, i, o: seen.update(y=o))
    with torch.no_grad(), foveate.record(model) as maps:
        model(images())
    handle.remove()
    outer.remove()
    (gate,) = maps.at("layer2.0.bn2")
    assert torch.equal(seen["x"] * gate.values, seen["y"])


def test_identity_start_records_ones_and_no_emphasis():
    model = attended("cbam", start="identity")
    with torch.no_grad(), foveate.record(model) as maps:
        model(images())
    assert all(torch.equal(m.values, torch.ones_like(m.values)) for m in maps)
    assert all(torch.equal(e, torch.zeros_like(e)) for e in maps.emphasis.values())


def test_emphasis_is_the_change_in_the_share_of_energy():
    model = attended("cbam:parts=spatial")
    spatial = model.layer1[0].bn2.foveate["cbam"].spatial
    torch.nn.init.ones_(spatial.norm.weight)
    seen = {}
    handle = spatial.register_forward_hook(lambda m, i, o: seen.update(x=i[0], y=o))
    with torch.no_grad(), foveate.record(model) as maps:
        model(images())
    handle.remove()
    x, y = seen["x"].double().pow(2).mean(1), seen["y"].double().pow(2).mean(1)
    expected = torch.log(y / y.mean((1, 2), keepdim=True)) - torch.log(x / x.mean((1, 2), keepdim=True))
    # float32 logarithms of shares that vary over a few orders of magnitude
    torch.testing.assert_close(maps.emphasis["layer1.0.bn2"].double(), expected, rtol=1e-4, atol=1e-5)
    assert expected.std() > 0.01


def test_affinities_answer_for_a_point():
    model = attended("psanet")
    with torch.no_grad(), foveate.record(model) as maps:
        model(images())
    collect, distribute = maps.at("layer1.0.bn2")
    assert (collect.step, distribute.step) == ("collect", "distribute")
    assert collect.size == (16, 16)
    row = collect.at(3, 4)
    assert row.shape == (2, 16, 16)
    torch.testing.assert_close(row.sum((1, 2)), torch.ones(2), rtol=1e-5, atol=1e-6)  # a softmax of 256 float32 terms
    assert torch.equal(row[0].flatten(), collect.values[0, :, 3 * 16 + 4])
    with pytest.raises(FoveateError, match="outside the map of 16×16"):
        collect.at(16, 0)


def test_a_gate_has_no_point():
    model = attended("se")
    with torch.no_grad(), foveate.record(model) as maps:
        model(images())
    with pytest.raises(FoveateError, match="holds a gate"):
        maps[0].at(0, 0)


def test_several_passes_are_joined_along_the_batch():
    model, x = attended(), images(4)
    with torch.no_grad(), foveate.record(model) as together:
        model(x)
    with torch.no_grad(), foveate.record(model) as apart:
        model(x[:3])
        model(x[3:])
    for a, b in zip(together, apart, strict=True):
        # batches of another size take other convolution kernels: float32 rounding over a few hundred terms
        torch.testing.assert_close(a.values, b.values, rtol=1e-4, atol=1e-5)
    with torch.no_grad(), foveate.record(model) as mixed:
        model(x)
        model(x[:, :, :24, :24])
    with pytest.raises(FoveateError, match="one size of image"):
        _ = mixed[1].values


def test_nothing_is_left_behind_even_after_an_error():
    model = attended().train()
    model.layer1.eval()
    flags = [m.training for m in model.modules()]
    with pytest.raises(ZeroDivisionError), foveate.record(model):
        model(images(4))
        raise ZeroDivisionError
    assert not any(m._forward_hooks for m in model.modules())
    assert [m.training for m in model.modules()] == flags


def test_recording_changes_no_output_and_no_gradient():
    model, x = attended(), images()
    expected = model(x)
    with foveate.record(model) as maps:
        out = model(x)
    assert torch.equal(out, expected)
    assert out.requires_grad
    assert not maps[0].values.requires_grad


@pytest.mark.slow
def test_compiled_frozen_and_wrapped_networks_give_the_same_maps():
    model, x = attended().requires_grad_(False), images()
    with foveate.record(model) as plain:
        model(x)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager")
    compiled(x)
    with foveate.record(compiled) as seen:
        compiled(x)
    with foveate.record(torch.nn.DataParallel(model)) as parallel:
        torch.nn.DataParallel(model)(x)
    for other in (seen, parallel):
        assert [(m.place, m.step) for m in other] == [(m.place, m.step) for m in plain]
        assert all(torch.equal(a.values, b.values) for a, b in zip(other, plain, strict=True))


def test_attention_inside_a_network_of_ones_own_is_seen():
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 16, 3)
            self.attention = foveate.create("cbam", 16)

        def forward(self, x):
            return self.attention(self.conv(x))

    model = Net().eval()
    with torch.no_grad(), foveate.record(model) as maps:
        model(images())
    assert [(m.place, m.attachment, m.step) for m in maps] == [
        ("attention", "", "channel"),
        ("attention", "", "spatial"),
    ]


def test_no_attention_says_so():
    with pytest.raises(FoveateError, match="no attention to record"), foveate.record(torch.nn.Conv2d(3, 3, 1)):
        pass


def test_a_relation_of_channels_has_no_position_to_ask_about():
    model = foveate.attach(foveate.hosts.build("foveate/resnet8", classes=10), "danet_channel", start="paper").eval()
    with torch.no_grad(), foveate.record(model) as maps:
        model(torch.randn(1, 3, 32, 32))
    assert maps[0].size == (16,)
    assert torch.allclose(maps[0].values.sum(1), torch.ones(1, 16))  # a channel's shares in what it takes from
    with pytest.raises(FoveateError, match="relates channels, which have no position"):
        maps[0].at(0, 0)
