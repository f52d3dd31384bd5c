"""attached lists every attention of a network once: ours, other libraries', and modules of ours in its own code."""

import pytest
import torch
from torch import nn

import foveate
from foveate import attached

IMAGE = (2, 3, 64, 64)


def timm_model(name, **options):
    return pytest.importorskip("timm").create_model(name, **options)


def torchvision_model(name):
    return getattr(pytest.importorskip("torchvision").models, name)(weights=None)


def segmentation_model(name, **options):
    library = pytest.importorskip("segmentation_models_pytorch")
    return getattr(library, name)(options.pop("encoder", "resnet18"), encoder_weights=None, **options)


def monai_model(name, *arguments, **options):
    return getattr(pytest.importorskip("monai.networks.nets"), name)(*arguments, **options)


def yolo(name):
    tasks = pytest.importorskip("ultralytics.nn.tasks", exc_type=ImportError)
    return tasks.DetectionModel(f"{name}.yaml", verbose=False)


def cbam_resnet():
    return timm_model("resnet18", block_args={"attn_layer": "cbam"})


# network, mechanism, class names of which each is one attention, maps of each
NETWORKS = {
    "seresnet18": (lambda: timm_model("seresnet18"), "squeeze_excite", "SEModule", 1),
    "legacy_seresnet18": (lambda: timm_model("legacy_seresnet18"), "squeeze_excite", "SEModule", 1),
    "ecaresnet26t": (lambda: timm_model("ecaresnet26t"), "eca", "EcaModule", 1),
    "gcresnet33ts": (lambda: timm_model("gcresnet33ts"), "global_context", "GlobalContext", 1),
    "skresnet18": (lambda: timm_model("skresnet18"), "selective_kernel", "SelectiveKernel", 1),
    "resnest14d": (lambda: timm_model("resnest14d"), "split_attention", "SplitAttn", 1),
    "ese_vovnet19b_dw": (lambda: timm_model("ese_vovnet19b_dw"), "effective_squeeze_excite", "EffectiveSEModule", 1),
    "hgnet_tiny": (lambda: timm_model("hgnet_tiny"), "effective_squeeze_excite", "EseModule", 1),
    "mobilenetv3_small_050": (lambda: timm_model("mobilenetv3_small_050"), "squeeze_excite", "SqueezeExcite", 1),
    "efficientnet_b0": (lambda: timm_model("efficientnet_b0"), "squeeze_excite", "SqueezeExcite", 1),
    "regnety_002": (lambda: timm_model("regnety_002"), "squeeze_excite", "SEModule", 1),
    "resnet18 with cbam": (cbam_resnet, "cbam", "CbamModule", 2),
    "torchvision mobilenet_v3_small": (
        lambda: torchvision_model("mobilenet_v3_small"), "squeeze_excite", "SqueezeExcitation", 1,
    ),
    "torchvision efficientnet_b0": (
        lambda: torchvision_model("efficientnet_b0"), "squeeze_excite", "SqueezeExcitation", 1,
    ),
    "torchvision regnet_y_400mf": (
        lambda: torchvision_model("regnet_y_400mf"), "squeeze_excite", "SqueezeExcitation", 1,
    ),
    "mobileone": (lambda: segmentation_model("FPN", encoder="mobileone_s4"), "squeeze_excite", "SEBlock", 1),
    "SEResNet50": (
        lambda: monai_model("SEResNet50", spatial_dims=2, in_channels=3, num_classes=2),
        "squeeze_excite", "ChannelSELayer", 1,
    ),
    "AttentionUnet": (
        lambda: monai_model("AttentionUnet", 2, 3, 2, (8, 16, 32), (2, 2)), "attention_gate", "AttentionBlock", 1,
    ),
    "yolo11n": (lambda: yolo("yolo11n"), "partial_self_attention", "Attention", 1),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_every_attention_of_a_real_network_is_recognised_and_recorded(name):
    build, mechanism, kind, each = NETWORKS[name]
    model = build().eval()
    places = [path for path, module in model.named_modules() if type(module).__name__ == kind]
    found = attached(model)
    assert [one.place for one in found] == places
    assert {one.mechanism for one in found} == {mechanism}
    assert all(one.parameters == sum(p.numel() for p in one.module.parameters()) for one in found)
    flags = [module.training for module in model.modules()]
    x = torch.randn(IMAGE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(x)
        with foveate.record(model) as maps:
            out = model(x)
    while not isinstance(out, torch.Tensor):
        out, expected = out[0], expected[0]
    assert torch.equal(out, expected)
    assert len(maps) == each * len(places)
    assert {m.place for m in maps} == set(places)
    assert all(m.card is found[0].card and len(m.values) == 2 for m in maps)
    assert [module.training for module in model.modules()] == flags
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda: segmentation_model("Unet", decoder_attention_type="scse"), {"scse": 10}),
        (lambda: segmentation_model("MAnet"), {"position_attention_block": 1, "squeeze_excite": 4}),
        (lambda: segmentation_model("PAN"), {"feature_pyramid_attention": 1, "global_attention_upsample": 3}),
    ],
    ids=["Unet with scSE", "MAnet", "PAN"],
)
def test_decoders_of_segmentation_models(build, expected):
    model = build().eval()
    names = [one.mechanism for one in attached(model)]
    assert {name: names.count(name) for name in names} == expected
    with torch.no_grad(), foveate.record(model) as maps:
        model(torch.randn(1, 3, 128, 128))
    assert {m.card.name for m in maps} == set(expected)


def test_ours_stand_beside_theirs():
    model = foveate.attach(timm_model("seresnet18"), "cbam", at="layer4.1.bn2", example=torch.zeros(1, 3, 64, 64))
    found = attached(model)
    ours = [one for one in found if one.origin == "foveate"]
    assert [(one.place, one.attachment, one.mechanism) for one in ours] == [("layer4.1.bn2", "cbam", "cbam")]
    assert len(found) == 9
    with torch.no_grad(), foveate.record(model.eval()) as maps:
        model(torch.randn(IMAGE))
    assert [(m.place, m.attachment, m.step) for m in maps][-3:] == [
        ("layer4.1.bn2", "cbam", "channel"),
        ("layer4.1.bn2", "cbam", "spatial"),
        ("layer4.1.se", "", ""),
    ]


def test_what_is_attached_to_a_part_of_foreign_attention_is_listed_and_both_are_seen():
    model = foveate.attach(
        cbam_resnet().eval(), "se", at="layer4.1.se.spatial", example=torch.zeros(1, 3, 64, 64), start="paper"
    )
    assert [one.place for one in attached(model) if one.place.startswith("layer4.1")] == [
        "layer4.1.se",
        "layer4.1.se.spatial",
    ]
    with torch.no_grad(), foveate.record(model) as maps:
        model(torch.randn(IMAGE))
    assert [(m.place, m.step) for m in maps][-3:] == [
        ("layer4.1.se", "channel"),
        ("layer4.1.se", "spatial"),
        ("layer4.1.se.spatial", ""),
    ]


def test_a_foreign_module_that_was_attached_is_both():
    layers = pytest.importorskip("timm.layers")
    model = foveate.hosts.build("foveate/resnet8", classes=10)
    foveate.attach(model, lambda channels: layers.SEModule(channels), name="theirs")
    found = attached(model)
    first = found[0]
    assert (first.place, first.attachment) == ("layer1.0.bn2", "theirs")
    assert (first.origin, first.mechanism) == ("timm", "squeeze_excite")
    assert len(found) == 3
    with torch.no_grad(), foveate.record(model) as maps:
        model(torch.randn(2, 3, 32, 32))
    assert (maps[0].place, maps[0].attachment, maps[0].step) == ("layer1.0.bn2", "theirs", "")


def test_a_strangers_module_has_a_name_and_no_card():
    class Halve(nn.Module):
        def forward(self, x):
            return x / 2

    model = foveate.attach(foveate.hosts.build("foveate/resnet8", classes=10), lambda channels: Halve())
    found = attached(model)
    assert [(one.card, one.mechanism) for one in found] == [(None, "Halve")] * 3


def test_a_part_of_the_network_that_is_ours_is_listed():
    model = nn.Sequential(nn.Conv2d(3, 16, 1), foveate.create("cbam", 16))
    (found,) = attached(model)
    assert (found.place, found.attachment, found.origin, found.mechanism) == ("1", "", "foveate", "cbam")
    with torch.device("meta"):
        host = foveate.hosts.PSANetHost(50, classes=3, size=57)
    assert [one.mechanism for one in attached(host)] == ["psanet"]


def test_notes_tell_what_this_module_is():
    timm = pytest.importorskip("timm")
    notes = {
        name: attached(timm.create_model(name))[0].note
        for name in ("mobilenetv3_small_050", "efficientnet_b0", "ese_vovnet19b_dw", "legacy_seresnet18")
    }
    assert "hard sigmoid" in notes["mobilenetv3_small_050"]
    assert "SiLU" in notes["efficientnet_b0"]
    assert "hard sigmoid" not in notes["efficientnet_b0"]
    assert notes["ese_vovnet19b_dw"] == notes["legacy_seresnet18"] == ""


def test_compiled_and_wrapped_networks_are_seen_through():
    model = timm_model("ecaresnet26t").eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad(), foveate.record(model) as plain:
        model(x)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager")
    wrapped = nn.DataParallel(model)
    assert len(attached(compiled)) == len(attached(wrapped)) == len(plain)
    for network in (compiled, wrapped):
        with torch.no_grad(), foveate.record(network) as seen:
            network(x)
        assert all(torch.equal(a.values, b.values) for a, b in zip(plain, seen, strict=True))


def test_a_network_without_attention_has_none():
    assert attached(nn.Conv2d(3, 3, 1)) == []
