"""Mechanisms of two maps in networks: what joins residuals, skips and pyramids in place of an addition, and gates.

The host's addition stays in its code. So a reference is needed that does what is claimed: the same blocks with the
fusion written where the addition stands.
"""

import copy
import io
import itertools
import os
import pickle

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.utils.checkpoint import checkpoint

import foveate
from foveate import hosts
from foveate.errors import FoveateError, FoveateWarning, OptionError, PlaceError
from foveate.surgery.attended import attended_places
from foveate.surgery.places import find_places

X = torch.randn(2, 8, 9, 7, generator=torch.Generator().manual_seed(0))
SPECS = ("aff", "iaff")


class Block(nn.Module):
    """A residual block in each of the ways in which people write the addition."""

    def __init__(self, way="plain", channels=8):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 1)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))
        self.way = way

    def forward(self, x):
        return self.run(x)

    def branch(self, x):
        return self.bn(self.conv(torch.relu(self.first(x))))

    def run(self, x):
        if self.way == "projected first":
            shortcut = self.shortcut(x)
            return torch.relu(self.branch(x) + shortcut)
        branch = self.branch(x)
        if self.way == "plain":
            return torch.relu(x + branch)
        if self.way == "into the branch":
            branch += x
            return torch.relu(branch)
        if self.way == "projected last":
            return torch.relu(branch + self.shortcut(x))
        if self.way == "projected last, into the branch":
            branch += self.shortcut(x)
            return torch.relu(branch)
        if self.way == "scaled":
            return x + 0.1 * branch
        raise ValueError(self.way)


WAYS = ("plain", "into the branch", "projected last", "projected last, into the branch", "projected first", "scaled")


class Fused(Block):
    """The same with a fusion where the addition stands: what the other is to become."""

    def __init__(self, way, fusion):
        super().__init__(way)
        self.fusion = fusion

    def run(self, x):
        branch = self.branch(x)
        if self.way in ("plain", "into the branch"):
            return torch.relu(self.fusion(branch, x))
        if self.way == "scaled":
            return self.fusion(0.1 * branch, x)
        return torch.relu(self.fusion(branch, self.shortcut(x)))


def network(*ways):
    torch.manual_seed(0)
    return nn.Sequential(*(Block(way) for way in ways or ("plain", "projected last"))).eval()


def woken(model):
    """Fusions off their start, so that they do something."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, parameter in foveate.attention_parameters(model):
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator).to(parameter.dtype))
    return model


def attached(spec="aff", *ways):
    return woken(foveate.attach(network(*ways), spec, example=X))


def places(model):
    return list(foveate.status(model).attachments[0].places)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("spec", SPECS)
def test_the_sum_is_what_it_was_and_becomes_the_fusion(way, spec):
    model = network(way)
    before, keys = model(X), list(model.state_dict())
    foveate.attach(model, spec, example=X)
    assert torch.equal(model(X), before)
    assert torch.equal(model.train()(X), network(way).train()(X))
    woken(model).eval()

    reference = Fused(way, foveate.create(spec, 8))
    reference.fusion.start_at_identity()
    [place] = [one for one in attended_places(model).values() if one.foveate]
    reference.fusion.load_state_dict(next(iter(place.foveate.values())).state_dict())
    own = {key.removeprefix("0."): value for key, value in model.state_dict().items() if "foveate" not in key}
    reference.load_state_dict({**own, **{f"fusion.{k}": v for k, v in reference.fusion.state_dict().items()}})

    for training in (False, True):
        results = []
        for one in (model.double().train(training), reference.double().train(training)):
            one.zero_grad()
            x = X.double().requires_grad_()
            one(x).square().sum().backward()
            results.append((one(X.double()).detach(), x.grad))
        for ours, theirs in zip(*results, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)
    theirs = dict(reference.fusion.named_parameters())
    for name, parameter in next(iter(place.foveate.values())).named_parameters():
        torch.testing.assert_close(parameter.grad, theirs[name].grad, atol=1e-8, rtol=1e-8)
    assert list(foveate.detach(model).state_dict()) == keys


def test_it_acts_on_the_operand_that_comes_last():
    found = {way: places(attached("aff", way)) for way in WAYS}
    assert found == {
        "plain": ["0.bn"],
        "into the branch": ["0.bn"],
        "projected last": ["0.shortcut.1"],
        "projected last, into the branch": ["0.shortcut.1"],
        "projected first": ["0.bn"],
        "scaled": ["0"],  # no module's output comes last, but the block returns the sum
    }


@pytest.mark.parametrize("spec", SPECS)
def test_everything_learns_within_two_steps(spec):
    model = foveate.attach(network(), spec, example=X).train()
    optimiser = torch.optim.SGD([p for _, p in foveate.attention_parameters(model)], lr=0.1)
    moved = set()
    for _ in range(2):
        optimiser.zero_grad()
        (model(X) * torch.randn(X.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
        moved |= {name for name, p in foveate.attention_parameters(model) if p.grad is not None and p.grad.any()}
        optimiser.step()
    # a bias before a norm that trains has a gradient of zero, or of what rounding leaves, as the processor has it
    names = {p: name for name, p in foveate.attention_parameters(model)}
    unmoved = {
        names[layer.bias]
        for row in model.modules()
        if isinstance(row, nn.Sequential)
        for layer, after in itertools.pairwise(row)
        if isinstance(layer, nn.Conv2d) and isinstance(after, nn.BatchNorm2d) and layer.bias in names
    }
    assert unmoved < set(names.values())
    assert moved | unmoved == set(names.values())


def test_start_as_the_paper_has_no_blend():
    model = foveate.attach(network("plain"), "aff", start="paper", example=X)
    assert foveate.status(model).attachments[0].blend is None
    assert not torch.equal(model(X), network("plain")(X))


@pytest.mark.parametrize(("depth", "last"), [(18, "layer2.0.downsample.1"), (50, "layer1.0.downsample.1")])
def test_torchvisions_projections_run_after_the_branch_which_is_added_into(depth, last):
    models = pytest.importorskip("torchvision.models")
    model = getattr(models, f"resnet{depth}")().eval()
    images = torch.randn(2, 3, 64, 64)
    before, count = model(images), len(find_places(model, "residual"))
    foveate.attach(model, "aff:reduction=16")
    assert torch.equal(model(images), before)
    assert last in places(model) and len(places(model)) == count
    woken(model).train()(images).sum().backward()  # += would have overwritten what the fusion saved
    assert all(p.grad is not None for _, p in foveate.attention_parameters(model))


def test_timms_identity_shortcut_comes_late_and_was_given_before():
    timm = pytest.importorskip("timm")
    model = timm.create_model("regnetx_002").eval()
    foveate.attach(model, "aff")
    assert len(places(model)) == len(find_places(timm.create_model("regnetx_002"), "residual"))


def test_our_own_host_says_which_of_its_additions_cannot_be_joined():
    model = hosts.build("foveate/resnet8", classes=10).eval()
    images = torch.randn(2, 3, 32, 32)
    before = model(images)
    with pytest.warns(FoveateWarning, match="leaves 2 out and finds 1.*an operation made, not a module"):
        foveate.attach(model, "aff")
    assert torch.equal(model(images), before)


@pytest.mark.parametrize("spec", SPECS)
def test_copies_are_whole_and_apart(spec):
    model = attached(spec)
    expected = model(X)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(X), expected)
        taps = [tap.slot for place in attended_places(other).values() for tap in place.foveate_taps]
        slots = [slot for place in attended_places(other).values() for slot in place.foveate_slots.values()]
        originals = [slot for place in attended_places(model).values() for slot in place.foveate_slots.values()]
        assert {id(slot) for slot in taps} == {id(slot) for slot in slots}
        assert not {id(slot) for slot in taps} & {id(slot) for slot in originals}


def test_nothing_waits_after_a_pass_and_nothing_that_waits_is_copied():
    model = attached("aff").train()
    model(X).sum().backward()
    slots = [slot for place in attended_places(model).values() for slot in place.foveate_slots.values()]
    assert [slot.waiting for slot in slots] == [None, None]
    slots[0].put(X)
    assert copy.deepcopy(slots[0]).waiting is None
    assert pickle.loads(pickle.dumps(slots[0])).waiting is None


def test_a_block_that_passes_its_branch_by_leaves_nothing_waiting():
    class Skipping(Block):
        def run(self, x):
            return x + self.branch(x) if not self.training else x

    model = foveate.attach(nn.Sequential(Skipping()), "aff", example=X).train()
    model(X)
    assert all(s.waiting is None for place in attended_places(model).values() for s in place.foveate_slots.values())


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("way", ["plain", "projected last, into the branch", "scaled"])
def test_compiled_whole_it_is_the_same(spec, way):
    model = attached(spec, way).train()
    twin = copy.deepcopy(model)
    torch.compiler.reset()
    try:
        compiled = torch.compile(twin, backend="aot_eager", fullgraph=True)
        results = []
        for run in (model, compiled):
            x = X.clone().requires_grad_()
            y = run(x)
            y.square().sum().backward()
            results.append((y.detach(), x.grad))
        for ours, theirs in zip(*results, strict=True):
            torch.testing.assert_close(ours, theirs)
        for (name, p), (_, q) in zip(model.named_parameters(), twin.named_parameters(), strict=True):
            if p.grad is not None:
                torch.testing.assert_close(q.grad, p.grad, msg=name, atol=1e-4, rtol=1e-4)
        with torch.no_grad(), foveate.disable(twin):
            assert torch.equal(compiled(X), twin(X))
    finally:
        torch.compiler.reset()


@pytest.mark.parametrize("strict", [False, True])
def test_exported_it_is_the_same_for_any_batch(strict):
    model = attached("aff")
    exported = torch.export.export(model, (X,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), strict=strict)
    for batch in (1, 5):
        x = torch.randn(batch, 8, 9, 7)
        torch.testing.assert_close(exported.module()(x), model(x))


def test_traced_by_fx_it_is_the_same():
    model = attached("aff")
    assert torch.equal(torch.fx.symbolic_trace(model)(X), model(X))


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_around_the_block_it_learns_the_same(reentrant):
    gradients = []
    for checkpointed in (False, True):
        model = attached("aff", "plain", "projected last, into the branch").train()
        y = x = X.clone().requires_grad_()
        for block in model:
            y = checkpoint(block, y, use_reentrant=reentrant) if checkpointed else block(y)
        y.square().sum().backward()
        gradients.append([x.grad, *(p.grad for p in model.parameters() if p.grad is not None)])
    for ours, theirs in zip(*gradients, strict=True):
        assert torch.equal(ours, theirs)


def test_checkpointed_inside_the_block_it_says_so():
    class Inside(Block):
        def run(self, x):
            return torch.relu(x + checkpoint(self.branch, x, use_reentrant=False))

    model = woken(foveate.attach(nn.Sequential(Inside()), "aff", example=X)).train()
    with pytest.raises(FoveateError, match="checkpointing goes around the whole block"):
        model(X.clone().requires_grad_()).sum().backward()


def test_distributed_training_gives_every_parameter_its_gradient(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        model = nn.parallel.DistributedDataParallel(attached("aff", "plain", "projected last").train())
        model(X).sum().backward()
        assert all(p.grad is not None for _, p in foveate.attention_parameters(model))
    finally:
        dist.destroy_process_group()


def test_data_parallel_copies_are_refused_in_a_sentence():
    with pytest.raises(FoveateError, match="use DistributedDataParallel"):
        next(iter(attended_places(attached("aff")).values()))._replicate_for_data_parallel()


def test_under_autocast_the_sum_keeps_its_type():
    for way in ("plain", "projected last", "projected last, into the branch"):
        model = network(way)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            before = model(X)
            after = foveate.attach(model, "aff", example=X)(X)
        assert after.dtype == before.dtype and torch.equal(after, before)


@pytest.mark.parametrize("spec", SPECS)
def test_saved_and_loaded_it_is_the_same(spec, tmp_path):
    model = attached(spec, "plain", "projected last, into the branch", "scaled")
    weights = {key: value for key, value in model.state_dict().items() if "foveate" not in key}
    foveate.save(model, tmp_path / "one")
    fresh = network("plain", "projected last, into the branch", "scaled")
    fresh.load_state_dict(weights)
    foveate.load(fresh, tmp_path / "one")
    assert torch.equal(fresh(X), model(X))
    assert places(fresh) == places(model)
    woken(model)
    foveate.disable(model)
    foveate.save(model, tmp_path / "two")
    foveate.load(fresh, tmp_path / "two")  # in place, and switched off as it was
    assert torch.equal(fresh(X), network("plain", "projected last, into the branch", "scaled")(X))
    assert all(
        slot.waiting is None for place in attended_places(fresh).values() for slot in place.foveate_slots.values()
    )
    foveate.enable(model)
    foveate.enable(fresh)
    assert torch.equal(fresh(X), model(X))


def test_the_hosts_own_checkpoint_still_loads():
    model = attached("aff")
    buffer = io.BytesIO()
    torch.save(network().state_dict(), buffer)
    buffer.seek(0)
    model.load_state_dict(torch.load(buffer, weights_only=True), strict=True)


def test_switched_off_it_is_the_host_and_nothing_waits():
    model, bare = attached("aff"), network()
    foveate.attach(model, "se", name="other", example=X)
    with foveate.use(model):
        assert torch.equal(model(X), bare(X))
        for place in attended_places(model).values():
            assert all(slot.waiting is None for slot in place.foveate_slots.values())
    with foveate.use(model, "other"):
        assert torch.equal(model(X), bare(X))
    assert not torch.equal(model(X), bare(X))


def test_taken_out_by_name_other_attention_stays():
    model = attached("aff")
    foveate.attach(model, "se", start="paper", example=X)
    alone = foveate.attach(network(), "se", start="paper", example=X)
    alone.load_state_dict({k: v for k, v in model.state_dict().items() if "attentional_fusion" not in k})
    foveate.detach(model, "aff")
    assert torch.equal(model(X), alone(X))
    assert not any(place.foveate_taps or place.foveate_slots for place in attended_places(model).values())
    foveate.detach(model)
    assert not attended_places(model)


@pytest.mark.parametrize("first", ["aff", "squeeze_excite"])
def test_a_fusion_joins_what_other_attention_makes_of_the_maps_whichever_came_first(first):
    model = network("projected last")
    for spec in (first, "squeeze_excite" if first == "aff" else "aff"):
        foveate.attach(model, spec, at="residual", start="paper", example=X)
    place = attended_places(model)["0.bn"]
    fusion = next(iter(attended_places(model)["0.shortcut.1"].foveate.values())).eval()
    block = model.eval()[0]
    attention = place.foveate["squeeze_excite"]
    branch = attention(block.bn.foveate_host(block.conv(torch.relu(block.first(X)))))
    shortcut = network("projected last")[0].shortcut(X)
    torch.testing.assert_close(model(X), torch.relu(fusion(branch, shortcut)))


def test_two_fusions_at_one_addition_both_act():
    model = attached("aff", "plain")
    once = model(X)
    foveate.attach(model, "iaff", example=X)
    assert torch.equal(model(X), once)
    assert not torch.equal(woken(model)(X), once)
    foveate.detach(model)
    assert torch.equal(model(X), network("plain")(X))


def test_what_it_shows_is_recorded_by_step():
    model = attached("iaff")
    with torch.no_grad(), foveate.record(model) as maps:
        model(X)
    assert [(m.place, m.step, m.axes) for m in maps][:2] == [
        ("0.bn", "initial", ("c", "h", "w")),
        ("0.bn", "", ("c", "h", "w")),
    ]
    assert maps[0].values.shape == X.shape and maps[0].card.name == "iterative_attentional_fusion"
    assert maps.emphasis["0.bn"].shape == (2, 9, 7)
    rested = foveate.attach(network(), "aff", example=X)
    with torch.no_grad(), foveate.record(rested) as maps:
        rested(X)
    assert not maps.emphasis["0.bn"].any()  # compared with the sum, not with one of its operands


def test_it_is_known_by_its_card_and_its_cost_is_planned():
    model = network()
    planned = foveate.plan(model, "aff", example=X)
    assert [place.path for place in planned.places] == ["0.bn", "1.shortcut.1"]
    assert planned.macs > 0 and planned.latency is None and foveate.plan(model, "aff", example=X, latency=True).latency
    foveate.attach(model, "aff", example=X)
    assert planned.parameters == foveate.status(model).attachments[0].parameters
    assert [(one.place, one.mechanism) for one in foveate.attached(model)] == [
        ("0.bn", "attentional_fusion"),
        ("1.shortcut.1", "attentional_fusion"),
    ]
    assert foveate.status(model).attachments[0].blend.largest == 0


def test_it_is_not_baked_and_says_what_else_to_do():
    with pytest.raises(FoveateError, match="joins two maps.*torch.export"):
        foveate.bake(attached("aff"), X)


def test_signals_and_volumes_are_fused():
    class Signal(nn.Module):
        def __init__(self, convolution):
            super().__init__()
            self.conv = convolution(6, 6, 3, padding=1)

        def forward(self, x):
            return torch.relu(x + self.conv(x))

    for convolution, size in ((nn.Conv1d, (9,)), (nn.Conv3d, (3, 4, 5))):
        x = torch.randn(2, 6, *size)
        model = nn.Sequential(Signal(convolution)).eval()
        before = model(x)
        assert torch.equal(foveate.attach(model, "aff", example=x)(x), before)
        place = woken(model).get_submodule("0.conv")
        fusion = next(iter(place.foveate.values()))
        assert place.foveate_seats["attentional_fusion"].point.fold
        branch = place.foveate_host(x)
        fused = fusion(branch.flatten(2)[..., None], x.flatten(2)[..., None]).reshape(x.shape)
        torch.testing.assert_close(model(x), torch.relu(fused))


def test_patterns_name_the_additions_at_or_within_a_module():
    model = network("plain", "plain", "scaled")
    assert [p.path for p in find_places(model, "1", X, kind="fusion")] == ["1.bn"]
    assert [p.path for p in find_places(model, ["2", "0.*"], X, kind="fusion")] == ["0.bn", "2"]
    assert [p.path for p in find_places(model, "residual", X, exclude="1", kind="fusion")] == ["0.bn", "2"]
    assert [p.path for p in find_places(model, lambda _, m: isinstance(m, nn.BatchNorm2d), X, kind="fusion")] == [
        "0.bn",
        "1.bn",
    ]
    with pytest.raises(PlaceError, match="'3' names no module where two maps are joined; known: residual"):
        find_places(model, "3", X, kind="fusion")
    with pytest.raises(PlaceError, match="'residual', 'skip', 'neck'; not at 'stage'"):
        foveate.attach(model, "aff", at="stage", example=X)


class Odd(nn.Module):
    """Additions that cannot be joined."""

    def __init__(self, why):
        super().__init__()
        self.a, self.b, self.why = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1), why

    def forward(self, x):
        if self.why == "elsewhere":
            y = self.a(x)
            return torch.relu(x + y) * y.mean()
        if self.why == "operations":
            return torch.relu(0.5 * x + 0.1 * self.a(x))
        if self.why == "changed":
            y = self.a(x)
            x = x.clone().mul_(2)
            return torch.relu(x + y)
        return torch.relu(x + self.b(torch.relu(self.a(x)))) + self.b(x)  # one module runs twice


@pytest.mark.parametrize(
    ("why", "sentence"),
    [
        ("elsewhere", "goes elsewhere too"),
        ("operations", "an operation made, not a module, and so is their sum"),
        ("changed", "neither what a module returned nor what the block was given|an operation made"),
        ("twice", "runs elsewhere too"),
    ],
)
def test_what_cannot_be_joined_is_refused_with_the_reason(why, sentence):
    model = nn.Sequential(Odd(why), nn.Conv2d(8, 8, 1))
    with pytest.raises(PlaceError, match=sentence):
        foveate.attach(model, "aff", example=X)
    assert not attended_places(model)


def test_a_function_that_makes_what_takes_two_maps_is_refused_with_what_to_do():
    with pytest.raises(OptionError, match="takes two maps: register it"):
        foveate.attach(network(), lambda channels: foveate.create("aff", channels), example=X)


class Joining(nn.Module):
    """A U-Net of two levels that concatenates or adds in its own forward."""

    def __init__(self, way):
        super().__init__()
        wide = 16 if "cat" in way else 8
        self.first, self.down = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 3, padding=1, stride=2)
        self.up, self.last, self.way = nn.ConvTranspose2d(12, 8, 2, stride=2), nn.Conv2d(wide, 8, 3, padding=1), way

    def forward(self, x):
        skip = torch.relu(self.first(x))
        deep = torch.relu(self.down(skip))
        up = self.up(deep)
        return self.last(torch.cat([skip, up], 1) if self.way == "cat" else up + skip)


IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))


def test_a_gate_acts_on_the_skips_channels_guided_by_those_beside_them():
    model = Joining("cat").eval()
    before = model(IMAGES)
    foveate.attach(model, "attention_gate", at="skip", example=IMAGES)
    assert torch.equal(model(IMAGES), before)
    place = attended_places(woken(model))["last"]
    point = place.foveate_seats["attention_gate__input"].point
    assert (point.channels, point.partner.channels) == ((0, 8), (8, 16))
    skip = torch.relu(model.first(IMAGES))
    up = model.up(torch.relu(model.down(skip)))
    gated = place.foveate["attention_gate__input"](skip, up)
    torch.testing.assert_close(model(IMAGES), place.foveate_host(torch.cat([gated, up], 1)))


def test_a_fusion_of_concatenated_maps_is_refused_with_what_would_do():
    with pytest.raises(PlaceError, match="concatenation, which keeps both maps.*attention_gate"):
        foveate.attach(Joining("cat"), "aff", at="skip", example=IMAGES)


def test_a_gate_at_a_residual_join_is_refused():
    with pytest.raises(PlaceError, match="at 'skip'; not at 'residual'"):
        foveate.attach(network(), "attention_gate", at="residual", example=X)


def test_a_gate_goes_to_skips_where_nobody_says_another_place():
    for put in (foveate.attach, foveate.plan):
        model = Joining("cat").eval()
        put(model, "attention_gate", example=IMAGES)
        assert list(attended_places(model)) == (["last"] if put is foveate.attach else [])
        with pytest.raises(PlaceError, match="no place of the kind 'skip'.*needs a network that joins two"):
            put(network(), "attention_gate", example=X)


def test_what_joins_two_maps_says_where_else_it_could_stand():
    with pytest.raises(PlaceError, match="no place of the kind 'skip' was seen in this network; try at='residual'"):
        foveate.attach(network(), "aff", at="skip", example=X)


def smp_network(name):
    smp = pytest.importorskip("segmentation_models_pytorch")
    torch.manual_seed(0)
    return getattr(smp, name)("resnet18", encoder_weights=None).eval()


@pytest.mark.parametrize(
    ("name", "spec", "at", "count"),
    [
        ("Unet", "attention_gate", "skip", 4),
        ("Linknet", "attention_gate", "skip", 4),
        ("Linknet", "aff", "skip", 4),
        ("FPN", "iaff", "neck", 3),
        ("Unet", "aff", "residual", 8),
    ],
)
def test_decoders_of_segmentation_models(name, spec, at, count, tmp_path):
    model, images = smp_network(name), torch.randn(2, 3, 64, 64)
    before, weights = model(images), copy.deepcopy(model.state_dict())
    foveate.attach(model, spec, at=at, example=images)
    assert torch.equal(model(images), before)
    assert len(places(model)) == count
    woken(model)
    after = model(images)
    assert not torch.equal(after, before)
    assert torch.equal(copy.deepcopy(model)(images), after)
    foveate.save(model, tmp_path / "adapter")
    fresh = smp_network(name)
    fresh.load_state_dict(weights)
    assert torch.equal(foveate.load(fresh, tmp_path / "adapter")(images), after)
    with torch.no_grad(), foveate.record(model) as maps:
        model(images)
    assert len(maps) == count * (2 if spec == "iaff" else 1)
    model.train()(images).sum().backward()
    assert all(p.grad is not None for _, p in foveate.attention_parameters(model))
    assert list(foveate.detach(model).state_dict()) == list(weights)
    assert not attended_places(model)


def test_a_gate_is_guided_by_what_the_decoder_block_was_given():
    model, images = smp_network("Unet"), torch.randn(1, 3, 64, 64)
    foveate.attach(model, "attention_gate", at="skip", example=images)
    place = attended_places(model)["decoder.blocks.0"]
    gate = next(iter(place.foveate.values()))
    assert (gate.theta.in_channels, gate.phi.in_channels) == (256, 512)  # the coarser map, before it is resampled


def test_a_pyramids_fusion_is_that_of_its_two_operands():
    model, images = smp_network("FPN"), torch.randn(2, 3, 64, 64)
    foveate.attach(model, "aff", at="neck", start="paper", example=images)
    place = attended_places(model)["decoder.p4"]
    seen = {}
    place.foveate_host.register_forward_hook(lambda m, args, y: seen.update(args=args, total=y), prepend=True)
    place.register_forward_hook(lambda m, args, y: seen.update(fused=y))
    with torch.no_grad():
        model(images)
        lateral = place.foveate_host.skip_conv.foveate_host(seen["args"][1])
        fusion = next(iter(place.foveate.values()))
        torch.testing.assert_close(seen["fused"], fusion(lateral, seen["total"] - lateral), atol=1e-4, rtol=1e-4)


def test_monais_attention_unet_keeps_its_own_gates_which_have_our_card():
    nets = pytest.importorskip("monai.networks.nets")
    model = nets.AttentionUnet(2, 3, 2, channels=(4, 8, 16), strides=(2, 2)).eval()
    keys = list(model.state_dict())
    own = [one for one in foveate.attached(model) if one.mechanism == "attention_gate"]
    assert own and all(one.origin == "monai" and one.card is foveate.get("attention_gate").card for one in own)
    assert list(model.state_dict()) == keys and not attended_places(model)


def test_a_gate_of_volumes_in_monais_unet():
    nets = pytest.importorskip("monai.networks.nets")
    model, x = nets.UNet(3, 1, 2, channels=(4, 8, 16), strides=(2, 2)).eval(), torch.randn(1, 1, 8, 8, 8)
    before = model(x)
    foveate.attach(model, "attention_gate", at="skip", example=x)
    assert torch.equal(model(x), before)
    assert next(iter(attended_places(model).values())).foveate["attention_gate__input"].map.axes == ("d", "h", "w")


@pytest.mark.skipif(os.name == "nt", reason="file stores of gloo")
def test_transplanted_it_is_the_same():
    from foveate.surgery.adapters.transplant import transplant

    model, fresh = attached("aff"), network()
    transplant(model, fresh)
    assert torch.equal(fresh(X), model(X))
