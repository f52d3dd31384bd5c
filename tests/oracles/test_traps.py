"""What copies of these five mechanisms get wrong, one test each.

The oracles would notice most of it too; here every mistake has its name.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import foveate
from foveate.attention import Attention, Map, maps_of
from foveate.errors import FoveateError, OptionError


def weights_of(module: Attention, x: Tensor) -> dict[str, Tensor]:
    """The weights that pass each map, affinities as (b, source, target)."""
    seen: dict[str, Tensor] = {}

    def note(path: str, point: Map) -> None:
        point.register_forward_hook(
            lambda _, __, out: seen.__setitem__(path, (out.dense() if hasattr(out, "dense") else out).detach())
        )

    for path, point in maps_of(module).items():
        note(path, point)
    module(x)
    return seen


def gate(module: Attention, x: Tensor) -> Tensor:
    (weights,) = weights_of(module, x).values()
    return weights


def fill(layer: nn.Module, value: float, name: str = "weight") -> None:
    nn.init.constant_(layer.get_parameter(name), value)


def logit(probability: Tensor) -> Tensor:
    return torch.log(probability / (1 - probability))


# squeeze_excite


@pytest.mark.parametrize("channels", [1, 3, 15])
def test_se_with_fewer_channels_than_its_reduction_is_not_a_constant_gate(channels: int) -> None:
    module = foveate.create("se", channels, reduction=16)
    fill(module.fc1, 1.0)
    fill(module.fc2, 1.0)
    for value in (-0.1, 0.1, 0.2):
        weights = gate(module, torch.full((1, channels, 2, 2), value))
        torch.testing.assert_close(weights, torch.full_like(weights, max(0.0, value * channels)).sigmoid())


def test_se_has_biases_in_both_layers_or_in_none() -> None:
    assert {n for n, _ in foveate.create("se", 32).named_parameters()} == {
        "fc1.weight",
        "fc1.bias",
        "fc2.weight",
        "fc2.bias",
    }
    assert {n for n, _ in foveate.create("se:bias=false", 32).named_parameters()} == {"fc1.weight", "fc2.weight"}


def has_deviation(weights: Tensor, deviation: float) -> bool:
    """The root mean square of n draws is itself uncertain by one part in √(2n); five times that is allowed."""
    return abs(weights.square().mean().sqrt().item() / deviation - 1) < 5 / (2 * weights.numel()) ** 0.5


def test_se_starts_with_deviation_a_hundredth_and_no_bias() -> None:
    module = foveate.create("se", 512)
    for layer in (module.fc1, module.fc2):
        assert has_deviation(layer.weight, 0.01)
        assert not layer.bias.any()


# eca


def test_eca_kernel_size_is_the_printed_table_for_every_number_of_channels() -> None:
    printed = {range(1, 8): 1, range(8, 128): 3, range(128, 2048): 5, range(2048, 4097): 7}
    for channels, size in printed.items():
        for c in channels:
            with torch.device("meta"):
                assert foveate.create("eca", c).conv.kernel_size == (size,), c


def test_eca_has_one_weight_for_each_neighbour_and_no_bias() -> None:
    assert {name: p.shape for name, p in foveate.create("eca", 256).named_parameters()} == {"conv.weight": (1, 1, 5)}


def test_eca_pads_with_zeros_and_not_around_the_circle() -> None:
    module = foveate.create("eca", 8, kernel_size=3)
    fill(module.conv, 1.0)
    x = torch.zeros(1, 8, 2, 2)
    x[:, -1] = 4.0
    expected = torch.tensor([0.0, 0, 0, 0, 0, 0, 4, 4]).sigmoid()
    torch.testing.assert_close(gate(module, x).flatten(), expected)


def test_eca_has_the_sigmoid_that_the_papers_listing_leaves_out() -> None:
    module = foveate.create("eca", 8)
    fill(module.conv, 100.0)
    assert (gate(module, torch.ones(1, 8, 2, 2)) <= 1).all()


# gather_excite


@pytest.mark.parametrize("extent", [2, 4, 8])
def test_ge_theta_minus_pools_a_window_of_twice_the_extent_less_one(extent: int) -> None:
    length = 4 * extent + 1
    module = foveate.create("ge", 1, variant="theta_minus", extent=extent)
    for here in range(length):
        x = torch.zeros(1, 1, length, 1)
        x[0, 0, here] = 1.0
        reached = (gate(module, x) != 0.5).flatten().nonzero().flatten().tolist()
        assert reached == [p for p in range(5) if abs(extent * p - here) < extent], here


@pytest.mark.parametrize("extent", [2, 4, 8])
def test_ge_theta_minus_leaves_the_padding_out_of_the_mean(extent: int) -> None:
    module = foveate.create("ge", 2, variant="theta_minus", extent=extent)
    weights = gate(module, torch.full((1, 2, 9, 6), 3.0))
    torch.testing.assert_close(weights, torch.full_like(weights, 3.0).sigmoid())


@pytest.mark.parametrize("extent", [2, 4, 8])
@pytest.mark.parametrize("variant", ["theta_minus", "theta", "theta_plus"])
def test_ge_summarises_maps_smaller_than_its_extent(variant: str, extent: int) -> None:
    module = foveate.create("ge", 4, variant=variant, extent=extent).eval()
    for height, width in ((1, 1), (1, 3), (3, 2), (9, 7)):
        weights = gate(module, torch.randn(2, 4, height, width))
        assert weights.shape == (2, 4, -(-height // extent), -(-width // extent))


def test_ge_theta_minus_with_global_extent_has_nothing_to_learn_and_gates_by_the_mean() -> None:
    module = foveate.create("ge", 4, variant="theta_minus", extent="global")
    assert not list(module.parameters())
    x = torch.randn(2, 4, 5, 3)
    torch.testing.assert_close(module(x), x * x.mean((2, 3), keepdim=True).sigmoid())


def test_ge_theta_has_no_relu_after_its_last_norm() -> None:
    module = foveate.create("ge", 4, extent=8).eval()
    last = [layer for layer in module.pool if isinstance(layer, nn.BatchNorm2d)][-1]
    fill(last, 0.0)
    fill(last, -2.0, "bias")
    weights = gate(module, torch.randn(1, 4, 8, 8))
    torch.testing.assert_close(weights, torch.full_like(weights, -2.0).sigmoid())  # a ReLU would make it a half


def test_ge_theta_has_relu_between_its_convolutions() -> None:
    module = foveate.create("ge", 4, extent=4).eval()
    first, last = (layer for layer in module.pool if isinstance(layer, nn.BatchNorm2d))
    fill(first, 0.0)
    fill(last, 0.5, "bias")
    x = torch.randn(1, 4, 8, 8)
    for negative in (-1.0, -5.0):  # nothing passes the ReLU, however negative it is
        fill(first, negative, "bias")
        weights = gate(module, x)
        torch.testing.assert_close(weights, torch.full_like(weights, 0.5).sigmoid())


@pytest.mark.parametrize("extent", [8, "global"])
def test_ge_theta_plus_has_relu_before_its_bottleneck(extent: int | str) -> None:
    module = foveate.create("ge", 4, size=(8, 8), variant="theta_plus", extent=extent).eval()
    last = [layer for layer in module.pool if isinstance(layer, nn.BatchNorm2d)][-1]
    fill(last, 0.0)
    fill(last, -3.0, "bias")
    fill(module.excite[1], -1.0)
    fill(module.excite[3], 1.0)
    weights = gate(module, torch.randn(1, 4, 8, 8))
    torch.testing.assert_close(weights, torch.full_like(weights, 0.5))  # without it -1 · 4 · -3 would come in


def test_ge_theta_plus_has_biases_in_its_bottleneck_and_none_in_its_gather() -> None:
    module = foveate.create("ge", 32, variant="theta_plus", extent=2)
    biases = {name for name, _ in module.named_parameters() if name.endswith("bias")}
    assert biases == {"pool.1.bias", "excite.1.bias", "excite.3.bias"}


def test_ge_starts_as_the_prototxt_says() -> None:
    module = foveate.create("ge", 256, variant="theta_plus", extent=2)
    assert has_deviation(module.pool[0].weight, (2 / 9) ** 0.5)
    for layer in (module.excite[1], module.excite[3]):
        assert has_deviation(layer.weight, 0.01)
        assert not layer.bias.any()
    assert (module.pool[1].weight == 1).all()
    assert not module.pool[1].bias.any()


@pytest.mark.parametrize("variant", ["theta", "theta_plus"])
def test_ge_with_a_global_kernel_says_which_size_it_is_tied_to(variant: str) -> None:
    module = foveate.create("ge", 4, size=(7, 5), variant=variant, extent="global")
    assert module.fixed_size == (7, 5)
    with pytest.raises(FoveateError, match=r"tied to maps of 7×5.*got 5×7.*run at any size"):
        module(torch.randn(1, 4, 5, 7))
    with pytest.raises(OptionError, match=r"kernel as large as the map: give the map's size"):
        foveate.create("ge", 4, variant=variant, extent="global")


# cbam


def test_cbam_concatenates_maximum_then_mean() -> None:
    module = foveate.create("cbam", 3, parts="spatial", kernel_size=1, norm=False)
    x = torch.randn(2, 3, 4, 5)
    for plane, summary in ((0, x.amax(1)), (1, x.mean(1))):
        fill(module.spatial.conv, 0.0)
        with torch.no_grad():
            module.spatial.conv.weight[0, plane] = 1.0
        torch.testing.assert_close(gate(module, x)[:, 0], summary.sigmoid())


def test_cbam_sums_the_logits_of_all_pools_from_one_network_before_one_sigmoid() -> None:
    sizes = {
        pools: sum(p.numel() for p in foveate.create("cbam", 32, pools=pools).parameters())
        for pools in (("avg",), ("avg", "max"), ("avg", "max", "lp", "lse"))
    }
    assert len(set(sizes.values())) == 1
    x = torch.randn(1, 6, 1, 1)  # one position: mean, maximum and log-sum-exp are all the value itself
    one = foveate.create("cbam", 6, pools=("avg",), parts="channel")
    three = foveate.create("cbam", 6, pools=("avg", "max", "lse"), parts="channel")
    nn.init.normal_(one.channel.fc2.bias)
    three.load_state_dict(one.state_dict())
    torch.testing.assert_close(logit(gate(three, x)), 3 * logit(gate(one, x)), rtol=1e-4, atol=1e-5)


def test_cbam_looks_where_after_it_has_chosen_what() -> None:
    module = foveate.create("cbam", 4).eval()
    fill(module.spatial.norm, 1.0)
    x = torch.randn(2, 4, 5, 6)
    between = module.channel(x)
    torch.testing.assert_close(module(x), module.spatial(between))
    assert not torch.allclose(module(x), module.channel(module.spatial(x)))


def test_cbams_spatial_norm_is_the_authors() -> None:
    module = foveate.create("cbam", 16)
    norm = module.spatial.norm
    assert (norm.momentum, norm.eps, norm.num_features) == (0.01, 1e-5, 1)
    assert module.spatial.conv.bias is None
    assert not norm.weight.any()  # so that the spatial gate starts at a half everywhere
    weights = weights_of(module, torch.randn(2, 16, 5, 5))["spatial.map"]
    assert torch.equal(weights, torch.full_like(weights, 0.5))


def test_cbam_starts_as_the_authors_network_does() -> None:
    modules = [foveate.create("cbam", 32) for _ in range(40)]
    assert has_deviation(torch.cat([m.spatial.conv.weight for m in modules]), (2 / 49) ** 0.5)
    assert not any(layer.bias.any() for m in modules for layer in (m.channel.fc1, m.channel.fc2))


def test_cbam_has_no_relu_between_norm_and_sigmoid() -> None:
    module = foveate.create("cbam", 4, parts="spatial").eval()
    fill(module.spatial.norm, -2.0, "bias")
    weights = gate(module, torch.randn(1, 4, 5, 5))
    torch.testing.assert_close(weights, torch.full_like(weights, -2.0).sigmoid())


def test_cbam_without_its_norm_is_the_convolution_alone() -> None:
    module = foveate.create("cbam", 4, norm=False)
    assert {name.rpartition(".")[0] for name, _ in module.named_parameters()} == {
        "channel.fc1",
        "channel.fc2",
        "spatial.conv",
    }


@pytest.mark.parametrize("channels", [1, 3, 15])
def test_cbam_with_fewer_channels_than_its_reduction_is_not_a_constant_gate(channels: int) -> None:
    module = foveate.create("cbam", channels, parts="channel")
    fill(module.channel.fc1, 1.0)
    fill(module.channel.fc2, 1.0)
    low, high = (gate(module, torch.full((1, channels, 2, 2), value)) for value in (0.1, 0.2))
    assert (low < high).all()


def test_cbams_lp_pool_is_the_root_of_the_sum_and_not_of_the_mean() -> None:
    module = foveate.create("cbam", 1, pools=("lp",), parts="channel")
    fill(module.channel.fc1, 1.0)
    fill(module.channel.fc2, 1.0)
    weights = gate(module, torch.tensor([[[[3.0, -4.0], [0.0, 0.0]]]]))
    torch.testing.assert_close(weights.flatten(), torch.tensor([5.0]).sigmoid())


def test_cbams_lse_pool_does_not_overflow() -> None:
    module = foveate.create("cbam", 1, pools=("lse",), parts="channel")
    fill(module.channel.fc1, 0.01)
    fill(module.channel.fc2, 1.0)
    weights = gate(module, torch.full((1, 1, 2, 2), 200.0))  # exp(200) is beyond float32
    torch.testing.assert_close(weights.flatten(), torch.tensor([0.01 * (200 + 1.3862944)]).sigmoid())


def test_cbams_lp_pool_has_a_gradient_of_zero_at_an_empty_channel() -> None:
    x = torch.zeros(1, 4, 3, 3, requires_grad=True)
    foveate.create("cbam", 4, pools=("lp",))(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


# psanet


def filled(module: Attention) -> Attention:
    """Norms and weights that make every relation another."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in module.named_parameters():
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
            if name.endswith("bias"):
                parameter.abs_()
    return module.eval()


@pytest.mark.parametrize("compact", [False, True])
def test_psanets_weights_sum_to_one_over_the_sources_in_both_branches(compact: bool) -> None:
    module = filled(foveate.create("psanet", 8, size=(5, 6), shrink=1, compact=compact))
    weights = weights_of(module, torch.randn(2, 8, 5, 6))
    assert set(weights) == {"collect_map", "distribute_map"}
    for name, table in weights.items():
        torch.testing.assert_close(table.sum(1), torch.ones(2, 30), msg=name)
        assert not torch.allclose(table.sum(2), torch.ones(2, 30)), name


@pytest.mark.parametrize("compact", [False, True])
def test_psanet_runs_where_channels_are_not_positions(compact: bool) -> None:
    for channels, size in ((3, (5, 4)), (32, (3, 2)), (1, (1, 1))):
        module = foveate.create("psanet", channels, size=size, shrink=1, compact=compact).eval()
        x = torch.randn(2, channels, *size)
        assert module(x).shape == x.shape


def table_of_a_tiny_mask(outside: str) -> Tensor:
    """Collect with a mask of one cell, whose logit is 2 everywhere, on a map of six positions."""
    module = foveate.create("psanet", 4, branches="collect", mask=(1, 1), shrink=1, outside=outside, reduction=4).eval()
    fill(module.attention[1], 0.0)
    fill(module.attention[1], 1.0, "bias")
    fill(module.attention[3], 2.0)
    return weights_of(module, torch.randn(1, 4, 2, 3))["collect_map"][0]


def test_psanet_gives_positions_outside_the_mask_a_logit_of_zero_and_not_a_weight_of_zero() -> None:
    own, other = torch.tensor(2.0).exp(), 1.0
    expected = torch.full((6, 6), other).fill_diagonal_(own.item()) / (own + 5 * other)
    torch.testing.assert_close(table_of_a_tiny_mask("zero"), expected)


def test_psanet_can_leave_positions_outside_the_mask_out() -> None:
    torch.testing.assert_close(table_of_a_tiny_mask("exclude"), torch.eye(6))


@pytest.mark.parametrize("compact", [False, True])
def test_psanets_distribute_is_its_collect_with_the_positions_swapped(compact: bool) -> None:
    collect, distribute = (
        filled(foveate.create("psanet", 8, size=(3, 4), branches=branches, shrink=1, compact=compact, softmax=False))
        for branches in ("collect", "distribute")
    )
    distribute.load_state_dict(collect.state_dict())
    x = torch.randn(2, 8, 3, 4)
    (one,), (other,) = weights_of(collect, x).values(), weights_of(distribute, x).values()
    assert torch.equal(one, other.transpose(1, 2))
    assert not torch.equal(one, other)


def test_psanet_without_a_factor_divides_by_the_cells_of_its_mask() -> None:
    options = {"size": (3, 4), "shrink": 1, "branches": "collect"}
    plain, divided = (filled(foveate.create("psanet", 8, normalization=n, **options)) for n in (1.0, None))
    x = torch.randn(1, 8, 3, 4)
    (one,), (other,) = weights_of(plain, x).values(), weights_of(divided, x).values()
    torch.testing.assert_close(other * 5 * 7, one)


def test_psanets_default_mask_reaches_every_position_from_every_other() -> None:
    module = foveate.create("psanet", 8, size=(59, 59))  # a crop of 465: 59 positions a side, 30 after shrinking
    assert module.mask == (59, 59)
    assert foveate.create("psanet", 8, size=(89, 89)).mask == (89, 89)  # a crop of 705
    assert foveate.create("psanet", 8, size=(59, 59), compact=True).mask == (30, 30)


def test_psanets_projection_has_no_padding() -> None:
    module = foveate.create("psanet", 8, size=(3, 3))
    assert {layer.padding for layer in module.modules() if isinstance(layer, nn.Conv2d)} == {(0, 0)}


def test_psanet_concatenates_behind_the_features_as_published() -> None:
    x = torch.randn(1, 8, 5, 5)
    added = filled(foveate.create("psanet", 8, size=(5, 5)))
    joined = filled(foveate.create("psanet", 8, size=(5, 5), fusion="concat"))
    assert torch.equal(joined(x)[:, :8], x)
    torch.testing.assert_close(joined(x)[:, 8:], added(x) - x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(4, 6), (5, 5), (1, 7), (12, 9)])
def test_an_over_complete_psanet_runs_at_sizes_it_was_not_made_for(size: tuple[int, int]) -> None:
    module = foveate.create("psanet", 8, size=(6, 6), shrink=3)
    x = torch.randn(2, 8, *size)
    assert module(x).shape == x.shape


def test_a_compact_psanet_says_which_size_it_is_tied_to() -> None:
    module = foveate.create("psanet", 8, size=(5, 6), compact=True)
    with pytest.raises(FoveateError, match=r"tied to maps of 5×6.*got 6×6.*compact=false"):
        module(torch.randn(1, 8, 6, 6))


# all that have norms, and all that have maxima


@pytest.mark.parametrize("spec", ["ge:extent=8", "ge:extent=global", "cbam", "psanet"])
def test_a_training_batch_of_one_value_is_normalised_with_the_running_statistics(spec: str) -> None:
    module = foveate.create(spec, 4, size=(1, 1))
    filled(module)
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    x = torch.randn(1, 4, 1, 1)
    assert torch.equal(module.train()(x), module.eval()(x))
    assert all(torch.equal(buffer, before[name]) for name, buffer in module.named_buffers())


def test_at_ties_of_a_maximum_the_first_gets_the_gradient() -> None:
    channel = foveate.create("cbam", 1, pools=("max",), parts="channel")
    fill(channel.channel.fc1, 1.0)
    fill(channel.channel.fc2, 1.0)
    x = torch.ones(1, 1, 2, 2, requires_grad=True)
    gate_of = torch.sigmoid(torch.tensor(1.0))
    channel(x).sum().backward()
    # through the features every position gets the gate; through the pool only the first gets 4 σ'(1) more
    expected = torch.full((2, 2), gate_of.item())
    expected[0, 0] += 4 * (gate_of * (1 - gate_of)).item()
    assert x.grad is not None
    torch.testing.assert_close(x.grad[0, 0], expected)

    spatial = foveate.create("cbam", 3, parts="spatial", kernel_size=1, norm=False)
    fill(spatial.spatial.conv, 0.0)
    with torch.no_grad():
        spatial.spatial.conv.weight[0, 0] = 1.0  # the maximum alone
    x = torch.ones(1, 3, 1, 1, requires_grad=True)
    spatial(x).sum().backward()
    expected = torch.full((3,), gate_of.item())
    expected[0] += 3 * (gate_of * (1 - gate_of)).item()
    assert x.grad is not None
    torch.testing.assert_close(x.grad.flatten(), expected)
