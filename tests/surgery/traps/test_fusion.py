"""Norms folded into convolutions, branches into one, norms into another kind: attention acts after as before."""

import copy
import dataclasses

import pytest
import torch
from torch import nn
from torch.fx.experimental.optimization import fuse

import foveate
from foveate.errors import PlaceError
from foveate.surgery.attended import attended_places

FIVE = ("squeeze_excite", "eca", "gather_excite", "cbam", "psanet")
# Folding rounds each weight once more. In float64 that is 1e-16 a product; 1e-9 of the largest output leaves room for
# some thousand products a layer and tens of layers, and is far below what any attention changes.
FOLDED = 1e-9


def same(some, others):
    return bool((some - others).abs().max() <= FOLDED * others.abs().max())


@torch.no_grad()
def check_survives(plain, attended, fold, x, first=lambda out: out):
    """Folded with its attention it computes what it did, and that is not what the plain network computes."""
    expected = first(attended(x))
    places = len(attended_places(attended))
    assert places
    assert not same(first(plain(x)), expected)
    folded = fold(attended)
    assert same(first(folded(x)), expected)
    return places


@pytest.mark.parametrize("name", FIVE)
@pytest.mark.parametrize("at", ["residual", "post"])
def test_fx_folds_norms_and_keeps_attention(at, name, resnet8, images, away_from_identity):
    plain, x = resnet8().double(), images().double()
    attended = away_from_identity(foveate.attach(copy.deepcopy(plain), name, at=at, example=x))
    check_survives(plain, attended, fuse, x)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fuse(plain).modules())
    left = [path for path, module in fuse(attended).named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert not left if name != "psanet" else all(".foveate." in path for path in left)


@pytest.mark.parametrize("at", ["pre", "stage", "conv", "**.conv2", "layer*.0.conv1"])
def test_fx_does_not_fold_through_attention(at, resnet8, images):
    plain, x = resnet8().double(), images().double()
    attended = foveate.attach(copy.deepcopy(plain), "se", at=at, start="paper", example=x)
    check_survives(plain, attended, fuse, x)


YOLO_PRESETS = ("residual", "pre", "post", "identity", "stage", "skip", "neck", "conv")
ignore_rebuild = pytest.mark.filterwarnings("ignore::foveate.errors.FoveateWarning")


@pytest.fixture(scope="module")
def yolo():
    tasks = pytest.importorskip("ultralytics.nn.tasks", exc_type=ImportError)
    torch.manual_seed(0)
    return tasks.DetectionModel("yolov8n.yaml", verbose=False).double().eval()


@ignore_rebuild
@pytest.mark.parametrize("at", YOLO_PRESETS)
def test_ultralytics_fuse_keeps_attention(at, yolo, randomised):
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    plain = randomised(copy.deepcopy(yolo))
    attended = foveate.attach(copy.deepcopy(plain), "se", at=at, start="paper", example=x)
    places = check_survives(plain, attended, lambda network: network.fuse(verbose=False), x, lambda out: out[0])
    assert len(attended_places(attended)) == places  # fuse() works in place
    assert not any(isinstance(module, nn.BatchNorm2d) for module in attended.modules())


@ignore_rebuild
@pytest.mark.parametrize("at", ["**.bn", "**.conv", "model.2.cv1.bn", lambda path, module: path == "model.0.conv"])
def test_what_ultralytics_fuse_would_drop_is_refused(at, yolo):
    network = copy.deepcopy(yolo)
    keys = list(network.state_dict())
    x = torch.zeros(1, 3, 64, 64, dtype=torch.float64)
    with pytest.raises(PlaceError, match=r"inside 'model\.\d.*rewrites"):
        foveate.attach(network, "se", at=at, example=x)
    assert list(network.state_dict()) == keys


SMALL = {
    "repvit_m0_9": {"num_classes": 3, "embed_dim": (8, 16, 24, 32), "depth": (1, 1, 2, 1)},
    "fastvit_t8": {"num_classes": 3, "embed_dims": (16, 32, 64, 128), "layers": (1, 1, 1, 1)},
}
REPARAMETRISED = ("repvgg_a0", "mobileone_s0", *SMALL)
_built = {}


def reparametrised(name, randomised):
    """A network of few and narrow stages, of the blocks of the one that is named."""
    timm = pytest.importorskip("timm")
    if name not in _built:
        torch.manual_seed(0)
        if name in SMALL:
            network = timm.create_model(name, **SMALL[name])
        else:
            byobnet = timm.models.byobnet
            whole = byobnet.model_cfgs[name]
            block = byobnet.ByoBlockCfg
            blocks = {
                "repvgg_a0": (block("rep", d=2, c=16), block("rep", d=2, c=32)),
                "mobileone_s0": tuple(  # depthwise, then pointwise
                    [
                        block("one", d=1, c=c, gs=1, block_kwargs={"num_conv_branches": 2}),
                        block("one", d=1, c=c, gs=0, block_kwargs={"num_conv_branches": 2, "kernel_size": 1}),
                    ]
                    for c in (16, 16)
                ),
            }[name]
            small = dataclasses.replace(whole, blocks=blocks, stem_chs=16)
            network = byobnet.ByobNet(small, num_classes=3)
        _built[name] = randomised(network.double())
    return copy.deepcopy(_built[name])


@pytest.fixture
def in_float64():
    """Modules that a library makes on the way, and gives no type, are of the network's type."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


# branches that are summed inside a block are one convolution afterwards: nothing can stay between them
REFUSED = {
    (name, at): "rewrites itself for inference" if at != "identity" else "shortcut of .* is no module"
    for name in ("repvgg_a0", "mobileone_s0")
    for at in ("residual", "pre", "identity")
}


@ignore_rebuild
@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("at", ["residual", "pre", "post", "identity", "conv"])
@pytest.mark.parametrize("name", REPARAMETRISED)
def test_timm_reparametrisation_keeps_attention_or_it_is_refused(name, at, randomised):
    timm = pytest.importorskip("timm")
    plain = reparametrised(name, randomised)
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    attended = copy.deepcopy(plain)
    if (name, at) in REFUSED:
        with pytest.raises(PlaceError, match=REFUSED[name, at]):
            foveate.attach(attended, "se:reduction=2", at=at, example=x)
        assert list(attended.state_dict()) == list(plain.state_dict())
        return
    foveate.attach(attended, "se:reduction=2", at=at, start="paper", example=x, name="ours")
    check_survives(plain, attended, timm.utils.reparameterize_model, x)
    folded = timm.utils.reparameterize_model(attended)
    assert list(attended_places(folded)) == list(attended_places(attended))


@torch.no_grad()
@pytest.mark.parametrize("at", ["residual", "conv", "post"])
def test_conversion_to_synchronised_norms_keeps_attention(at, resnet8, images):
    network, x = resnet8(), images()
    plain = network(x)
    foveate.attach(network, "psanet", at=at, start="paper", example=x)
    foveate.attach(network, "se", at=at, start="paper")
    expected, keys = network(x), list(network.state_dict())
    assert not torch.allclose(expected, plain, rtol=1e-2)
    before = attended_places(network)
    norms = [path for path, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)]
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    assert [path for path, m in converted.named_modules() if isinstance(m, nn.SyncBatchNorm)] == norms
    assert any(".foveate." in path for path in norms)  # PSANet has norms of its own
    assert attended_places(converted) == before
    assert list(converted.state_dict()) == keys
    assert torch.equal(converted(x), expected)
    foveate.detach(converted)
    assert torch.equal(converted(x), plain)
