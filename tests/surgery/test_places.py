"""Places are found by watching a network run, and a pattern that finds none says so."""

import collections
import re

import pytest
import timm
import torch
import torchvision
from torch import nn

import foveate
from foveate import hosts
from foveate.errors import PlaceError
from foveate.surgery.places import find_convolutions, find_places
from foveate.surgery.places.watch import watch


def paths(model, at="residual", **kwargs):
    return [place.path for place in find_places(model, at, **kwargs)]


def test_residual_of_torchvision_resnet_is_after_the_last_norm():
    expected = [
        f"layer{stage}.{block}.bn3" for stage, count in zip("1234", (3, 4, 6, 3), strict=True) for block in range(count)
    ]
    assert paths(torchvision.models.resnet50()) == expected


def test_residual_of_mobilenet_v2_is_its_ten_additions():
    model = torchvision.models.mobilenet_v2()
    blocks = [i for i in range(1, 18) if model.features[i].use_res_connect]
    assert len(blocks) == 10
    assert paths(model) == [f"features.{i}.conv.3" for i in blocks]


@pytest.mark.parametrize(
    ("name", "count", "last"),
    [
        ("resnet18", 8, "layer4.1.bn2"),
        ("legacy_seresnet18", 8, "layer4.1.se_module"),
        ("regnety_002", 13, "s4.b7.conv3.bn"),
        ("convnext_atto", 12, "stages.3.blocks.1.drop_path"),
        ("preactresnet18" if "preactresnet18" in timm.list_models() else "resnetv2_50", None, None),
    ],
)
def test_residual_of_timm_networks(name, count, last):
    model = timm.create_model(name)
    found = paths(model)
    if count is not None:
        assert (len(found), found[-1]) == (count, last)
    assert found == list(dict.fromkeys(found))


def test_residual_of_our_host():
    assert paths(hosts.build("foveate/resnet8", classes=10)) == ["layer1.0.bn2", "layer2.0.bn2", "layer3.0.bn2"]


class Odd(nn.Module):
    """In-place additions, an addition of equals, one without layers, and a branch that ends in an in-place ReLU."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 3, 1)
        self.b = nn.Conv2d(3, 3, 1)
        self.c = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(inplace=True))
        self.d = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        y = self.a(x) + self.b(x)  # two branches as deep as each other: no shortcut
        y = y + y  # itself
        z = self.c(y)
        z += y  # a residual join, in place
        return self.d(z) + 1  # a number


def test_only_residual_joins_count():
    assert paths(Odd(), example=torch.zeros(1, 3, 8, 8)) == ["c.1"]


def test_stages_are_resolutions():
    model = torchvision.models.resnet18()
    assert paths(model, stages=[4]) == ["layer4.0.bn2", "layer4.1.bn2"]
    assert [place.stage for place in find_places(model, "residual")] == [1, 1, 2, 2, 3, 3, 4, 4]
    with pytest.raises(PlaceError, match="no stage 5: .* stages 1 to 4"):
        paths(model, stages=[5])


def test_a_stage_is_the_same_whichever_places_are_named():
    model = torchvision.models.resnet18()

    def stages(at):
        return [place.stage for place in find_places(model, at)]

    assert stages("conv1") == [0]
    assert stages("layer4.*.conv2") == stages("layer4.*.bn2") == [4, 4]
    assert [place.stage for place in find_convolutions(model, "layer[34].*.conv2")[0]] == [3, 3, 4, 4]
    assert [place.path for place in find_convolutions(model, "conv", stages=0)[0]] == ["conv1"]
    found = [place.path for place in find_convolutions(model, "conv", stages=4)[0]]
    assert found == ["layer4.0.conv1", "layer4.0.conv2", "layer4.1.conv1", "layer4.1.conv2"]  # by what they return
    planned = foveate.plan(model, "odconv", at="layer4.*.conv2").places, foveate.plan(model, "se", stages=4).places
    assert {place.stage for places in planned for place in places} == {4}
    with pytest.raises(PlaceError, match="none of the places found lies in stage 1; they lie in stage 4"):
        find_places(model, "layer4.*.bn2", stages=1)
    with pytest.raises(PlaceError, match="none of the places found lies in stage 1; they lie in stage 4"):
        find_convolutions(model, "layer4.**", stages=1)


def test_a_stage_is_the_same_after_something_was_attached_or_replaced():
    for put in (
        lambda model: foveate.attach(model, "coordinate"),
        lambda model: foveate.attach(model, "strip_pooling"),
        lambda model: foveate.replace(model, "condconv", at=re.compile(".*")),
    ):
        model = put(torchvision.models.resnet18())
        assert [place.stage for place in find_places(model, "residual")] == [1, 1, 2, 2, 3, 3, 4, 4]
    convs = [path for path, module in torchvision.models.vgg11().named_modules() if isinstance(module, nn.Conv2d)]
    vgg = foveate.replace(torchvision.models.vgg11(), "condconv")
    assert [place.stage for place in find_places(vgg, convs)] == [0, 1, 2, 2, 3, 3, 4, 4]


def test_a_pattern_that_stops_at_a_dot_says_so_and_what_matches():
    model = torchvision.models.resnet18()
    with pytest.raises(PlaceError, match=r"no two-dim.*'\*' stops at a dot: 'layer4\.\*\*' matches 5"):
        find_convolutions(model, "layer4.*")
    with pytest.raises(PlaceError, match=r"no two-dim.*'layer4\.\*\*' matches 5, such as 'layer4.0.conv1'"):
        find_convolutions(model, "layer4")
    with pytest.raises(PlaceError, match=r"'\*' stops at a dot: '\*\*\.conv2' matches 8"):
        find_places(model, "*.conv2")


@pytest.mark.parametrize("pattern", ["layer1?0", "layer1[!x]0", "layer1[.]0", "layer1*0"])
def test_only_two_stars_cross_a_dot(pattern):
    with pytest.raises(PlaceError, match="matches no module of this network"):
        find_places(torchvision.models.resnet18(), pattern)


def test_what_stands_for_one_letter_of_a_level():
    model = torchvision.models.resnet18()
    assert paths(model, "layer[!234].?.bn2") == paths(model, "l?yer[1].*.bn[2-9]") == ["layer1.0.bn2", "layer1.1.bn2"]


def test_what_is_near_is_named_once():
    model = nn.Sequential(collections.OrderedDict(conv=nn.Conv2d(3, 8, 3)))  # also a preset
    for find in (find_places, find_convolutions):
        with pytest.raises(PlaceError, match=r"did you mean 'conv'\?"):
            find(model, "conv1")


def test_a_preset_that_finds_nothing_names_all_that_do():
    model = torchvision.models.googlenet(init_weights=False)
    with pytest.raises(PlaceError, match="no place of the kind 'residual'.*; try at='stage' or at='conv'"):
        find_places(model, "residual")


def test_patterns():
    model = torchvision.models.resnet18()
    assert paths(model, "layer1.*.bn2") == ["layer1.0.bn2", "layer1.1.bn2"]
    assert paths(model, "layer[34]") == ["layer3.1", "layer4.1"]  # a Sequential returns what its last child does
    assert paths(model, "**.bn2")[:2] == ["layer1.0.bn2", "layer1.1.bn2"]
    assert paths(model, re.compile(r"layer\d\.1")) == [f"layer{i}.1" for i in (1, 2, 3, 4)]
    assert paths(model, lambda path, module: isinstance(module, nn.MaxPool2d)) == ["maxpool"]
    assert paths(model, ["layer1", "layer4"]) == ["layer1.1", "layer4.1"]
    assert paths(model, "layer*", exclude="layer[12]") == ["layer3.1", "layer4.1"]


@pytest.mark.parametrize(
    ("at", "words"),
    [
        ("layer9.*.bn2", "'layer9.*.bn2' matches no module of this network; did you mean"),
        ("residul", "did you mean 'residual'"),
        (["layer1", "layer7"], "'layer7' matches no module"),
        (re.compile("nothing"), "'nothing' matches no module"),
        (lambda path, module: False, "the function <lambda> matches no module"),
        ("fc", "'fc' matches fc, which returned no feature map"),
        ("layer1.0.relu", "runs 2 times in one pass"),
    ],
)
def test_a_pattern_that_cannot_work_says_so(at, words):
    with pytest.raises(PlaceError, match=re.escape(words).replace(r"\.\*", r"\.\*")):
        paths(torchvision.models.resnet18(), at)


def test_excluding_everything_says_so():
    with pytest.raises(PlaceError, match="nothing is left"):
        paths(torchvision.models.resnet18(), "layer1", exclude="layer*")


def test_a_network_without_residuals_says_so():
    with pytest.raises(PlaceError, match="no place of the kind 'residual' was seen in this network; try at='stage'"):
        paths(torchvision.models.vgg11_bn())


def test_a_network_that_does_not_run_says_so():
    with pytest.raises(PlaceError, match="does not run on an example of 1×5×32×32"):
        paths(torchvision.models.resnet18(), example=torch.zeros(1, 5, 32, 32))


def test_watching_leaves_the_network_alone():
    model = torchvision.models.resnet18().train()
    model.layer2.eval()
    flags = [m.training for m in model.modules()]
    state = {k: v.clone() for k, v in model.state_dict().items()}
    random = torch.get_rng_state()
    watch(model, torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert [m.training for m in model.modules()] == flags
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_places_stay_the_same_when_attention_is_there():
    model = torchvision.models.resnet18()
    before = paths(model)
    foveate.attach(model, "cbam")
    assert paths(model) == before
    assert paths(model, "layer1.*.bn2") == ["layer1.0.bn2", "layer1.1.bn2"]


def test_plan_changes_nothing_and_counts_what_attach_adds():
    model = torchvision.models.resnet50()
    keys = list(model.state_dict())
    planned = foveate.plan(model, "se", start="paper")
    assert list(model.state_dict()) == keys
    assert planned.parameters == 2_530_992
    assert planned.host_parameters == 25_557_032
    first = planned.places[0]
    assert (first.path, first.channels, first.size, first.stage) == ("layer1.0.bn3", 256, (56, 56), 1)
    assert first.parameters == 256 * 16 + 16 + 16 * 256 + 256
    assert first.macs == 2 * 256 * 16
    foveate.attach(model, "se", start="paper")
    assert sum(p.numel() for _, p in foveate.attention_parameters(model)) == planned.parameters
    assert "layer4.2.bn3" in str(planned)
    assert "+9.9% of 25,557,032" in str(planned)


def test_a_network_that_folds_positions_into_channels_is_guessed_right():
    assert len(find_places(timm.create_model("tresnet_m"), "stage")) == 4
