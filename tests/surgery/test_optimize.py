"""An optimised network: the same outputs to rounding, by fewer passes, and the way back."""

from __future__ import annotations

import copy

import pytest
import torch
import torchvision
from torch import Tensor, nn

import foveate
from foveate import hosts
from foveate.errors import PlaceError
from foveate.ops import pending
from foveate.ops.pending import Product
from foveate.surgery.optimize.folding import Convolved

LAYOUTS = (torch.contiguous_format, torch.channels_last)
MECHANISMS = (None, "se", "cbam", "gather_excite", "simam")
# host, norms that fold, residual branches
HOSTS = {
    "ours": (lambda: hosts.build("foveate/resnet20", classes=10), 19, 9),
    "resnet18": (torchvision.models.resnet18, 20, 8),
    "resnet50": (torchvision.models.resnet50, 53, 16),
    "mobilenet": (torchvision.models.mobilenet_v2, 52, 10),
    "regnet": (torchvision.models.regnet_x_400mf, 71, 22),
    "timm": (lambda: timm("resnet26"), 29, 8),
    "timm with se": (lambda: timm("resnet26", block_args={"attn_layer": "se"}), 29, 8),
    "timm preactivated": (lambda: timm("resnetv2_50x1_bit"), 0, 0),
    "unet": (lambda: unet(), 30, 8),
}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps of any size wait."""
    monkeypatch.setattr(pending, "FEW", 0)


def timm(name: str, **options) -> nn.Module:
    import timm

    return timm.create_model(name, **options)


def unet() -> nn.Module:
    import segmentation_models_pytorch as smp

    return smp.Unet("resnet18", encoder_weights=None, classes=2)


def awake(model: nn.Module) -> nn.Module:
    """In evaluation, with norms that do something."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor, low in ((module.weight, 0.7), (module.running_var, 0.7), (module.bias, -0.3)):
                tensor.data.uniform_(low, low + 0.6, generator=generator)
            module.running_mean.uniform_(-0.3, 0.3, generator=generator)
    return model.eval()


def images(side: int = 64) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def attended(make, mechanism: str | None) -> nn.Module:
    torch.manual_seed(0)
    model = make()
    if mechanism:
        foveate.attach(model, mechanism, start="paper", example=images())
    return awake(model)


@torch.no_grad()
def check(model: nn.Module, x: Tensor, times: float = 4) -> None:
    """No farther from the restored network in double precision than rounding has that network be, by that factor.

    Both round at every layer, at other moments: their distances are drawn alike, and the largest of hundreds of
    numbers does not vary by four.
    """
    plain = foveate.restore(copy.deepcopy(model))
    exact = foveate.restore(copy.deepcopy(model)).double()(x.double())
    rounding = float((plain(x) - exact).abs().max())
    assert float((model(x) - exact).abs().max()) <= times * rounding + torch.finfo(x.dtype).eps


class Counter:
    """How many maps of a kind waited, and how many of them were computed in the usual way after all."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kind: type) -> None:
        self.made = self.computed = 0
        make, compute = kind.__init__, kind._compute

        def making(one, *args, **kwargs):
            self.made += 1
            make(one, *args, **kwargs)

        def computing(one, *args):
            self.computed += 1
            return compute(one, *args)

        monkeypatch.setattr(kind, "__init__", making)
        monkeypatch.setattr(kind, "_compute", computing)


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("host", HOSTS)
def test_the_outputs_are_the_same_to_rounding_and_the_way_back_is_whole(host: str, mechanism: str | None):
    make, norms, branches = HOSTS[host]
    if host in ("resnet50", "regnet", "timm preactivated") and mechanism not in (None, "se"):
        pytest.skip("the same blocks as another host's")
    if host == "timm preactivated" and mechanism:
        pytest.skip("its norms are not folded, and its attention stands elsewhere")
    model = attended(make, mechanism)
    x = images()
    with torch.no_grad():
        before = model(x)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    names, kinds = [name for name, _ in model.named_parameters()], [type(module) for module in model.modules()]
    assert foveate.optimize(model, example=x) is model
    done = foveate.optimized(model)
    assert done is not None
    assert done.norms == norms
    assert done.endings == (branches if mechanism in ("se", "cbam") else 0)
    assert len(done.left_out) >= (branches if mechanism in ("gather_excite", "simam") else 0)
    for layout in LAYOUTS:
        model.to(memory_format=layout)
        check(model, x.contiguous(memory_format=layout))
    assert list(model.state_dict()) == list(state)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert [name for name, _ in model.named_parameters()] == names
    assert [type(module) for module in model.modules()] == kinds
    foveate.restore(model.to(memory_format=torch.contiguous_format))
    assert foveate.optimized(model) is None
    assert not any({"forward", "recalibrate"} & set(vars(module)) for module in model.modules())
    with torch.no_grad():
        assert torch.equal(model(x), before)


def test_what_waits_meets_what_it_waits_for(monkeypatch: pytest.MonkeyPatch):
    model = foveate.optimize(attended(torchvision.models.resnet18, "cbam"), example=images())
    maps, products = Counter(monkeypatch, Convolved), Counter(monkeypatch, Product)
    with torch.no_grad():
        model(images())
    assert (maps.made, maps.computed) == (20, 0)
    assert (products.made, products.computed) == (8, 0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_autocast_runs_the_convolutions_and_norms_as_they_are(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch):
    model = foveate.optimize(attended(lambda: hosts.build("foveate/resnet8", classes=10), "se"))
    maps = Counter(monkeypatch, Convolved)
    plain = foveate.restore(copy.deepcopy(model))
    x = images(32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
        found, expected, exact = model(x), plain(x), plain.double()(x.double())
    assert maps.made == (0 if dtype is torch.bfloat16 else 7)
    assert found.dtype == expected.dtype
    assert float((found - exact).abs().max()) <= 4 * float((expected - exact).abs().max())


def test_half_precision_is_as_near_as_it_was():
    model = foveate.optimize(attended(lambda: hosts.build("foveate/resnet20", classes=10), "se")).bfloat16()
    check(model, images(32).bfloat16())


def test_training_and_gradients_are_those_of_the_network_as_it_is():
    model = attended(lambda: hosts.build("foveate/resnet8", classes=10), "cbam")
    other = foveate.optimize(copy.deepcopy(model))
    for training in (True, False):
        losses = [net.train(training)(images(32)).square().sum() for net in (model, other)]
        assert torch.equal(*losses)
        for loss in losses:
            loss.backward()
    assert all(torch.equal(one.grad, two.grad) for one, two in zip(model.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(one, two) for one, two in zip(model.buffers(), other.buffers(), strict=True))


@pytest.mark.parametrize("mode", ["compile", "export", "script-free trace", "fx"])
def test_graphs_hold_the_network_as_it_is(mode: str):
    model = foveate.optimize(attended(lambda: hosts.build("foveate/resnet8", classes=10), "se"))
    plain, x = foveate.restore(copy.deepcopy(model)), images(32)
    with torch.no_grad():
        if mode == "compile":
            graph = torch.compile(model, backend="eager", fullgraph=True)
        elif mode == "export":
            graph = torch.export.export(model, (x,)).module()
        elif mode == "fx":
            check(torch.fx.symbolic_trace(foveate.optimize(foveate.detach(model))), x)
            return
        else:
            graph = torch.jit.trace(model, x)
        assert torch.equal(graph(x), plain(x))


@pytest.mark.slow  # half a minute of the compiler
def test_regions_are_compiled_and_equal_ones_once():
    torch._dynamo.reset()
    model = attended(lambda: hosts.build("foveate/resnet20", classes=10), "se")
    x = images(32)
    foveate.optimize(model, compile=True, example=x)
    done = foveate.optimized(model)
    assert done is not None
    assert done.compiled is not None
    assert done.compiled.regions == 9
    assert done.compiled.graphs == 5  # three stages, of which two start with another block
    assert done.compiled.seconds > 0
    assert (done.norms, done.endings) == (1, 0)  # the compiler has the others
    assert "9 regions compiled as 5 graphs" in str(done)
    check(model, x, times=8)
    copied = foveate.optimized(copy.deepcopy(model))
    assert copied is not None
    assert copied.compiled is None  # PyTorch does not copy that
    foveate.restore(model)
    assert all(module._compiled_call_impl is None for module in model.modules())
    torch._dynamo.reset()


def test_without_blocks_attention_is_compiled_and_without_both_it_says_so():
    plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    with pytest.raises(PlaceError, match="neither residual blocks nor attention"):
        foveate.optimize(plain, compile=True, example=images(8))
    assert foveate.optimized(plain) is None
    foveate.attach(plain, "eca", at="1", example=images(8))
    foveate.optimize(plain, compile=True, example=images(8))
    done = foveate.optimized(plain)
    assert done is not None
    assert done.compiled is not None
    assert done.compiled.regions == 1
    torch._dynamo.reset()


def test_small_maps_run_as_they_are(monkeypatch: pytest.MonkeyPatch):
    made: list[int] = []
    for kind in (Convolved, Product):
        waits = kind.__init__

        def counted(one, x, *args, _waits=waits, **kwargs):
            made.append(x.numel())
            _waits(one, x, *args, **kwargs)

        monkeypatch.setattr(kind, "__init__", counted)
    model = foveate.attach(foveate.hosts.build("foveate/resnet20", classes=4), "se", start="paper")
    x = torch.randn(1, 3, 32, 32)
    foveate.optimize(model, example=x).eval()
    with torch.no_grad():
        model(x)
        assert made
        made.clear()
        monkeypatch.setattr(pending, "FEW", 16 * 32 * 32)  # maps of the first stage: 1 × 16 × 32 × 32
        model(x)
        assert len(made) == 7 + 2 * 3  # its seven convolutions, its three products, and these with their sums
        made.clear()
        monkeypatch.setattr(pending, "FEW", 16 * 32 * 32 + 1)
        model(x)
        assert not made
