"""Attention of other libraries: the maps that are recorded are the weights that their equations give."""

import importlib

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import foveate
from foveate.errors import FoveateError
from foveate.surgery.foreign import recognise
from foveate.surgery.foreign.matching import ENTRIES

C = 24


@pytest.fixture(scope="module")
def layers():
    pytest.importorskip("timm.layers")

    class Layers:
        def __getattr__(self, name):
            (path,) = [path for path in ENTRIES if path.startswith("timm.layers.") and path.endswith(f".{name}")]
            return getattr(importlib.import_module(path.removesuffix(f".{name}")), name)

    return Layers()


def random(module, seed=0):
    """Every parameter and statistic away from its initial value: a gate of 0.5 everywhere shows nothing."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    for name, buffer in module.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return module.eval()


def features(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def maps_of(module, *inputs, **named):
    expected = module(*inputs, **named)
    with torch.no_grad(), foveate.record(module) as maps:
        out = module(*inputs, **named)
    assert torch.equal(out, expected)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())
    return {m.step: m for m in maps}, out


def matches(found, expected, axes):
    assert found.axes == axes
    assert found.values.shape == expected.shape
    assert found.values.std() > 1e-3  # it says something
    # the same float32 sums, of at most a few hundred terms, in another order
    torch.testing.assert_close(found.values, expected, rtol=1e-5, atol=1e-6)


def dense(x, layer):
    """A 1×1 convolution or a linear layer as a matrix product over the second axis."""
    y = torch.einsum("bc...,oc->bo...", x, layer.weight.flatten(1))
    return y if layer.bias is None else y + layer.bias.view(1, -1, *[1] * (x.ndim - 2))


def normed(x, norm):
    shape = (1, -1, *[1] * (x.ndim - 2))
    scaled = (x - norm.running_mean.view(shape)) / torch.sqrt(norm.running_var.view(shape) + norm.eps)
    return scaled * norm.weight.view(shape) + norm.bias.view(shape)


def bottleneck(mean, first, second, gate=torch.sigmoid):
    return gate(dense(torch.relu(dense(mean, first)), second))


def hard(x):
    return F.relu6(x + 3) / 6


def test_squeeze_excite_of_timm(layers):
    module, x = random(layers.SEModule(C)), features(2, C, 5, 6)
    maps, out = maps_of(module, x)
    matches(maps[""], bottleneck(x.mean((2, 3), keepdim=True), module.fc1, module.fc2), ("c",))
    assert torch.equal(x * maps[""].values, out)
    assert maps[""].card is foveate.get("se").card


def test_squeeze_excite_with_channels_last_is_shown_with_channels_second(layers):
    module, x = random(layers.SqueezeExciteCl(C)), features(2, 5, 6, C)
    maps, _ = maps_of(module, x)
    mean = x.mean((1, 2))[:, :, None, None]
    matches(maps[""], bottleneck(mean, module.fc1, module.fc2), ("c",))


def test_effective_squeeze_excite(layers):
    module, x = random(layers.EffectiveSEModule(C)), features(2, C, 5, 6)
    maps, _ = maps_of(module, x)
    matches(maps[""], hard(dense(x.mean((2, 3), keepdim=True), module.fc)), ("c",))


@pytest.mark.parametrize("circular", [False, True])
def test_eca(layers, circular):
    module, x = random((layers.CecaModule if circular else layers.EcaModule)(C)), features(2, C, 5, 6)
    maps, _ = maps_of(module, x)
    mean, taps = x.mean((2, 3)), module.conv.weight.flatten()
    reach = len(taps) // 2
    padded = torch.cat([mean[:, -reach:], mean, mean[:, :reach]], 1) if circular else F.pad(mean, (reach, reach))
    logits = sum(padded[:, i : i + C] * tap for i, tap in enumerate(taps))
    matches(maps[""], torch.sigmoid(logits)[:, :, None, None], ("c",))


def test_cbam_is_one_attention_with_two_maps(layers):
    module, x = random(layers.CbamModule(C, rd_ratio=0.25)), features(2, C, 9, 8)
    maps, out = maps_of(module, x)
    first, second = module.channel.fc1, module.channel.fc2
    pools = (x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True))
    channel = torch.sigmoid(sum(dense(torch.relu(dense(pool, first)), second) for pool in pools))
    matches(maps["channel"], channel, ("c",))
    kept = x * channel
    stacked = torch.stack([kept.mean(1), kept.amax(1)], 1)
    spatial = torch.sigmoid(
        normed(F.conv2d(stacked, module.spatial.conv.conv.weight, padding=3), module.spatial.conv.bn)
    )
    matches(maps["spatial"], spatial, ("h", "w"))
    torch.testing.assert_close(kept * spatial, out, rtol=1e-5, atol=1e-6)


def test_a_gate_that_no_submodule_returns_is_seen_all_the_same(layers):
    module, x = random(layers.LightChannelAttn(C, rd_ratio=0.25)), features(2, C, 9, 8)
    maps, _ = maps_of(module, x)
    pool = (x.mean((2, 3), keepdim=True) + x.amax((2, 3), keepdim=True)) / 2
    matches(maps[""], bottleneck(pool, module.fc1, module.fc2), ("c",))


def test_global_context_shows_positions_and_channels(layers):
    module, x = random(layers.GlobalContext(C, fuse_add=True)), features(2, C, 5, 6)
    maps, _ = maps_of(module, x)
    positions = torch.softmax(dense(x, module.conv_attn).flatten(1), 1).view(2, 1, 5, 6)
    matches(maps["positions"], positions, ("h", "w"))
    context = (x * positions).sum((2, 3), keepdim=True)
    hidden = dense(context, module.mlp_scale.fc1)[..., 0, 0]
    norm = module.mlp_scale.norm
    hidden = F.layer_norm(hidden, hidden.shape[1:], norm.weight, norm.bias, norm.eps)[:, :, None, None]
    gate = torch.sigmoid(dense(torch.relu(hidden), module.mlp_scale.fc2))
    matches(maps["channels"], gate, ("c",))


@pytest.mark.parametrize("extent", [0, 2, 4])
def test_gather_excite(layers, extent):
    module, x = layers.GatherExcite(C, extent=extent, use_mlp=False), features(2, C, 12, 8)
    maps, out = maps_of(module, x)
    if extent:
        kernel = 2 * extent - 1
        ones = torch.ones(1, 1, 12, 8)
        total = F.avg_pool2d(x, kernel, extent, extent - 1, divisor_override=1)
        count = F.avg_pool2d(ones, kernel, extent, extent - 1, divisor_override=1)
        context = (total / count).repeat_interleave(extent, 2).repeat_interleave(extent, 3)
    else:
        context = x.mean((2, 3), keepdim=True)
    matches(maps[""], torch.sigmoid(context), ("c", "h", "w"))
    assert torch.equal(x * maps[""].values, out)


def test_selective_kernel_weighs_branches(layers):
    module, x = random(layers.SelectiveKernel(C, split_input=False)), features(2, C, 7, 7)
    maps, out = maps_of(module, x)
    branches = torch.stack([path(x) for path in module.paths], 1)
    hidden = torch.relu(
        normed(dense(branches.sum(1).mean((2, 3), keepdim=True), module.attn.fc_reduce), module.attn.bn)
    )
    weights = torch.softmax(dense(hidden, module.attn.fc_select).view(2, 2, C, 1, 1), 1)
    matches(maps[""], weights, ("branch", "c"))
    torch.testing.assert_close((branches * maps[""].values).sum(1), out, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("radix", "groups"), [(2, 1), (2, 2), (1, 1)])
def test_split_attention_weighs_splits(layers, radix, groups):
    module = random(layers.SplitAttn(C, radix=radix, groups=groups, norm_layer=nn.BatchNorm2d))
    x = features(2, C, 7, 7)
    maps, out = maps_of(module, x)
    splits = torch.relu(normed(module.conv(x), module.bn0)).view(2, radix, C, 7, 7)
    hidden = torch.relu(normed(module.fc1(splits.sum(1).mean((2, 3), keepdim=True)), module.bn1))
    logits = module.fc2(hidden).view(2, groups, radix, C // groups)
    weights = torch.softmax(logits, 2).transpose(1, 2) if radix > 1 else torch.sigmoid(logits).transpose(1, 2)
    weights = weights.reshape(2, radix, C, 1, 1)
    matches(maps[""], weights if radix > 1 else weights[:, 0], ("branch", "c") if radix > 1 else ("c",))
    torch.testing.assert_close((splits * weights).sum(1), out, rtol=1e-5, atol=1e-6)


def test_coordinate_attention_has_a_map_for_each_direction(layers):
    module, x = random(layers.CoordAttn(C)), features(2, C, 5, 6)
    maps, out = maps_of(module, x)
    lines = torch.cat([x.mean(3), x.mean(2)], 2)[..., None]
    hidden = F.hardswish(normed(dense(lines, module.conv1), module.bn1))
    matches(maps["height"], torch.sigmoid(dense(hidden[:, :, :5], module.conv_h)), ("c", "h"))
    width = torch.sigmoid(dense(hidden[:, :, 5:].transpose(2, 3), module.conv_w))
    matches(maps["width"], width, ("c", "w"))
    torch.testing.assert_close(x * maps["width"].values * maps["height"].values, out)


def test_a_non_local_block_answers_for_a_point(layers):
    module, x = random(layers.NonLocalAttn(C)), features(2, C, 4, 3)
    maps, out = maps_of(module, x)
    t, p, g = (dense(x, layer).flatten(2) for layer in (module.t, module.p, module.g))
    weights = torch.softmax(torch.einsum("bcs,bct->bst", p, t) * C**-0.5, 1)  # source, target
    matches(maps[""], weights, ("hw->hw",))
    mixed = torch.einsum("bcs,bst->bct", g, maps[""].values).view(2, -1, 4, 3)
    torch.testing.assert_close(normed(dense(mixed, module.z), module.norm) + x, out, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(maps[""].at(1, 2).sum((1, 2)), torch.ones(2))


def test_heads_of_self_attention_have_an_axis(layers):
    module, x = random(layers.BottleneckAttn(32, feat_size=(4, 4), num_heads=2)), features(3, 32, 4, 4)
    maps, out = maps_of(module, x)
    (found,) = maps.values()
    assert found.axes == ("head", "hw->hw")
    assert found.values.shape == (3, 2, 16, 16)
    value = module.qkv(x)[:, -32:].view(3, 2, 16, 16)
    mixed = torch.einsum("bhcs,bhst->bhct", value, found.values).reshape(3, 32, 4, 4)
    torch.testing.assert_close(mixed, out, rtol=1e-5, atol=1e-6)
    assert found.at(0, 3).shape == (3, 2, 4, 4)


def test_squeeze_excite_of_torchvision():
    misc = pytest.importorskip("torchvision.ops.misc")
    module, x = random(misc.SqueezeExcitation(C, 6, scale_activation=nn.Hardsigmoid)), features(2, C, 5, 6)
    maps, _ = maps_of(module, x)
    matches(maps[""], bottleneck(x.mean((2, 3), keepdim=True), module.fc1, module.fc2, hard), ("c",))
    one = features(2, C, 1, 1)  # the weights are no smaller than the features, and come first in the product
    maps, _ = maps_of(module, one)
    matches(maps[""], bottleneck(one, module.fc1, module.fc2, hard), ("c",))


def test_scse_of_segmentation_models():
    modules = pytest.importorskip("segmentation_models_pytorch.base.modules")
    module, x = random(modules.SCSEModule(C, reduction=4)), features(2, C, 5, 6)
    maps, out = maps_of(module, x)
    matches(maps["channel"], bottleneck(x.mean((2, 3), keepdim=True), module.cSE[1], module.cSE[3]), ("c",))
    matches(maps["spatial"], torch.sigmoid(dense(x, module.sSE[0])), ("h", "w"))
    assert torch.equal(x * maps["channel"].values + x * maps["spatial"].values, out)


def test_blocks_of_decoders_of_segmentation_models():
    manet = pytest.importorskip("segmentation_models_pytorch.decoders.manet.decoder")
    block = random(manet.MFABBlock(16, C, 8, reduction=4))
    x, skip = features(2, 16, 4, 4), features(2, C, 8, 8)
    maps, _ = maps_of(block, x, skip)
    below = F.interpolate(block.hl_conv(x), scale_factor=2.0)
    gates = [
        bottleneck(y.mean((2, 3), keepdim=True), part[1], part[3])
        for y, part in ((below, block.SE_hl), (skip, block.SE_ll))
    ]
    matches(maps[""], gates[0] + gates[1], ("c",))

    pab, x = random(manet.PABBlock(C, 8)), features(2, C, 3, 4)
    maps, _ = maps_of(pab, x)
    logits = torch.einsum("bcs,bct->bst", dense(x, pab.top_conv).flatten(2), dense(x, pab.center_conv).flatten(2))
    matches(maps[""], torch.softmax(logits.flatten(1), 1).view(2, 12, 12), ("hw->hw",))

    pan = pytest.importorskip("segmentation_models_pytorch.decoders.pan.decoder")
    gau, low, high = random(pan.GAUBlock(16, C)), features(2, 16, 8, 8), features(2, C, 4, 4)
    maps, out = maps_of(gau, low, high)
    unit = gau.conv1[1]
    gate = torch.sigmoid(normed(dense(high.mean((2, 3), keepdim=True), unit.conv), unit.bn))
    matches(maps[""], gate, ("c",))
    upsampled = F.interpolate(high, size=(8, 8), mode="bilinear", align_corners=True)
    torch.testing.assert_close(upsampled + gau.conv2(low) * gate, out, rtol=1e-5, atol=1e-6)

    fpa, x = random(pan.FPABlock(16, C)), features(2, 16, 16, 16)
    maps, out = maps_of(fpa, x)
    whole = fpa.branch1(x).expand(2, C, 16, 16)
    torch.testing.assert_close(fpa.mid(x) * maps[""].values + whole, out, rtol=1e-4, atol=1e-5)
    assert maps[""].values.shape == (2, 1, 16, 16)


@pytest.mark.parametrize("size", [(5, 6), (3, 4, 5), (7,)])
def test_squeeze_excite_of_monai_in_every_dimension(size):
    blocks = pytest.importorskip("monai.networks.blocks.squeeze_and_excitation")
    x = features(2, C, *size)
    mean = x.flatten(2).mean(2).view(2, C, *[1] * len(size))
    module = random(blocks.ChannelSELayer(len(size), C, r=4))
    maps, _ = maps_of(module, x)
    matches(maps[""], bottleneck(mean, module.fc[0], module.fc[2]), ("c",))
    residual = random(blocks.ResidualSELayer(len(size), C, r=4))
    maps, out = maps_of(residual, x)
    hidden = F.leaky_relu(dense(mean, residual.fc[0]))
    matches(maps[""], torch.relu(dense(hidden, residual.fc[2])), ("c",))
    torch.testing.assert_close(x + x * maps[""].values, out)
    with foveate.record(residual) as recorded:
        residual(x)
    assert recorded.emphasis[""].shape == (2, *size)


def test_attention_gate_of_monai_multiplies_the_skip():
    nets = pytest.importorskip("monai.networks.nets.attentionunet")
    module = random(nets.AttentionBlock(2, f_int=6, f_g=C, f_l=C))
    g, x = features(2, C, 5, 6), features(2, C, 5, 6, seed=2)
    maps, out = maps_of(module, g=g, x=x)
    signal, skip = (normed(dense(y, part[0].conv), part[1]) for y, part in ((g, module.W_g), (x, module.W_x)))
    psi = torch.sigmoid(normed(dense(torch.relu(signal + skip), module.psi[0].conv), module.psi[1]))
    matches(maps[""], psi, ("h", "w"))
    assert torch.equal(x * maps[""].values, out)
    volumes = random(nets.AttentionBlock(3, f_int=6, f_g=C, f_l=C))
    x = features(1, C, 4, 5, 6)
    maps, out = maps_of(volumes, g=x, x=x)
    assert maps[""].axes == ("d", "h", "w")
    assert torch.equal(x * maps[""].values, out)


def test_cbam_of_ultralytics():
    conv = pytest.importorskip("ultralytics.nn.modules.conv", exc_type=ImportError)
    module, x = random(conv.CBAM(C)), features(2, C, 9, 8)
    maps, _ = maps_of(module, x)
    channel = torch.sigmoid(dense(x.mean((2, 3), keepdim=True), module.channel_attention.fc))
    matches(maps["channel"], channel, ("c",))
    stacked = torch.stack([(x * channel).mean(1), (x * channel).amax(1)], 1)
    spatial = torch.sigmoid(F.conv2d(stacked, module.spatial_attention.cv1.weight, padding=3))
    matches(maps["spatial"], spatial, ("h", "w"))
    (entry,) = foveate.attached(module)
    assert "not the paper's" in entry.note


def test_self_attention_of_ultralytics_is_not_psanet():
    block = pytest.importorskip("ultralytics.nn.modules.block", exc_type=ImportError)
    module, x = random(block.Attention(32, num_heads=2)), features(2, 32, 3, 4)
    maps, out = maps_of(module, x)
    (found,) = maps.values()
    assert found.card.name == "partial_self_attention"
    value = module.qkv(x).view(2, 2, 32, 12)[:, :, 16:]
    mixed = torch.einsum("bhcs,bhst->bhct", value, found.values).reshape(2, 32, 3, 4)
    torch.testing.assert_close(module.proj(mixed + module.pe(value.reshape(2, 32, 3, 4))), out, rtol=1e-4, atol=1e-5)


def test_subclasses_are_recognised_and_strangers_are_not(layers):
    class Mine(layers.SEModule):
        pass

    assert recognise(Mine(C)) is recognise(layers.SEModule(C))
    assert recognise(nn.Sequential()) is None


@pytest.mark.parametrize("name", ENTRIES)
def test_every_class_in_the_tables_exists(name):
    module, _, kind = name.rpartition(".")
    library = pytest.importorskip(module, exc_type=ImportError)
    assert importlib.import_module(f"{library.__name__}").__dict__[kind].__module__ == module


def test_an_error_in_the_network_leaves_nothing_on(layers):
    model, x = nn.Sequential(random(layers.SEModule(C)), nn.Conv2d(C + 1, 3, 1)), features(2, C, 5, 6)
    with foveate.record(model) as maps:
        with pytest.raises(RuntimeError):
            model(x[:, 1:])  # fails inside the gate
        assert torch.overrides._len_torch_function_stack() == 0
        with pytest.raises(RuntimeError):
            model(x)  # fails behind it
        assert torch.overrides._len_torch_function_stack() == 0
        assert len(maps) == 0, "of a pass that failed nothing is kept"
        model[1] = nn.Conv2d(C, 3, 1)
        model(x)
    assert torch.equal(maps[0].values * x, model[0](x))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_gradients_flow_while_maps_are_recorded(layers):
    module, x = random(layers.CbamModule(C)), features(2, C, 9, 8)
    module(x).sum().backward()
    expected = [parameter.grad.clone() for parameter in module.parameters()]
    module.zero_grad()
    with foveate.record(module) as maps:
        module(x).sum().backward()
    assert all(torch.equal(p.grad, g) for p, g in zip(module.parameters(), expected, strict=True))
    assert not maps[0].values.requires_grad


def test_attention_whose_map_is_not_known_is_named(layers):
    with pytest.raises(FoveateError, match=r"LambdaLayer.* not known"), foveate.record(layers.LambdaLayer(32, r=3)):
        pass


def test_a_map_of_one_position_tells_weights_from_features(layers):
    for module in (layers.SEModule(C), layers.CbamModule(C), layers.SelectiveKernel(C)):
        one, many = features(2, C, 1, 1), features(2, C, 4, 4)
        shapes = [[(m.step, m.axes) for m in maps_of(random(module), x)[0].values()] for x in (one, many)]
        assert shapes[0] == shapes[1]
    module = random(layers.SEModule(C))
    maps, _ = maps_of(module, one)
    matches(maps[""], bottleneck(one, module.fc1, module.fc2), ("c",))
