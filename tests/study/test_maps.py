"""What a study keeps of maps: those that have a picture on the image, and of all others what they did to it."""

import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load

import foveate
from foveate.explain import AttentionMap
from foveate.study.maps import _written, capture
from foveate.study.strips import places
from foveate.surgery.put import put
from foveate.train import Recipe
from foveate.train.classification import Classification


class Images:
    """Four random images of two classes."""

    labels = torch.tensor([0, 1, 0, 1])
    names = ("a", "b", "c", "d")

    def __len__(self):
        return 4

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        return torch.randint(0, 256, (3, 32, 32), generator=generator, dtype=torch.uint8), int(self.labels[index])


def trained(network, role):
    images = Images()
    data = SimpleNamespace(train=images, validation=images, test=images, classes=("a", "b"))
    task = Classification(network, images, images, Recipe(epochs=1), classes=data.classes)
    return task, data, SimpleNamespace(role=role, work="classification", seed=0)


@pytest.mark.filterwarnings("ignore::foveate.errors.FoveateWarning")  # what is left out, and does not start as before
@pytest.mark.parametrize(
    ("mechanism", "kinds"),
    [
        ("eca", {"gate", "emphasis"}),
        ("danet_position", {"takes", "gives", "emphasis"}),
        ("danet_channel", {"emphasis"}),  # pairs of channels
        ("external", {"emphasis"}),  # slots of a memory
        ("large_selective_kernel", {"gate", "emphasis"}),  # a factor, and branches beside it
        ("attentional_fusion", {"gate", "emphasis"}),
        ("odconv", {"weights"}),  # kernels, cells, channels
        ("selective_kernel", {"weights"}),  # branches
        ("contextual_transformer", {"weights"}),  # branches, and kernels of every position beside them
        ("bottleneck_attention", {"takes", "gives"}),
        ("involution", set()),  # kernels of every position
    ],
)
def test_every_kind_of_map_is_kept_as_what_it_is(mechanism, kinds):
    network = foveate.hosts.build("foveate/resnet8", classes=2)
    put(network, foveate.spec(mechanism), start="paper", example=torch.zeros(1, 3, 32, 32))
    task, data, config = trained(network, "attention")
    before = {name: value.clone() for name, value in network.train().state_dict().items()}
    written = capture(task, data, key="k", arm=mechanism, config=config)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items()), "nothing is learned"
    tensors = load(written)
    length = int.from_bytes(written[:8], "little")
    entries = json.loads(json.loads(written[8 : 8 + length])["__metadata__"]["maps"])
    assert {entry["what"] for entry in entries} == kinds
    assert all(torch.isfinite(tensors[entry["tensor"]]).all() for entry in entries)
    assert tensors["indices"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("axes", "shape", "expected"),
    [
        (("kernel",), (2, 4), [[1.0, 1, 1, 1], [1.0, 1, 1, 1]]),
        (("branch", "c"), (2, 2, 3, 1, 1), [[1.0, 1], [1.0, 1]]),
        (("c", "branch"), (2, 3, 2), [[1.0, 1], [1.0, 1]]),
    ],
)
def test_weights_over_other_things_are_a_number_each(axes, shape, expected):
    found = AttentionMap("conv1", "a", "kernel_map", axes, torch.ones(shape))
    ((entry, values),) = list(_written([found]))
    assert entry["what"] == "weights" and values.flatten(1).tolist() == expected
    entry["tensor"] = "w"
    [place] = places(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), {"w": values}, [entry])
    words = f"{place.strips[0].name}: {place.strips[0].what}"
    several = "4 kernels is weighed." if axes == ("kernel",) else "2 branches is weighed, mean over channels."
    assert words == f"kernel: How each of {several}"


def test_branches_are_meant_over_channels_not_over_branches():
    values = torch.tensor([[0.75, 0.25], [0.5, 0.5], [1.0, 0.0]])[None]  # three channels of two branches
    for axes, given in ((("c", "branch"), values), (("branch", "c"), values.mT[..., None, None])):
        ((_, written),) = list(_written([AttentionMap("conv1", "a", "", axes, given)]))
        assert written.flatten().tolist() == [0.75, 0.25]


def test_what_a_position_gives_and_takes_is_not_confused():
    values = torch.arange(16.0).reshape(1, 4, 4)  # from source (rows) to target (columns), on a map of 2×2
    written = {
        entry["what"]: tensor for entry, tensor in _written([AttentionMap("a", "b", "", ("hw->hw",), values, (2, 2))])
    }
    assert written["takes"].flatten().tolist() == [3, 7, 11, 15]  # the column of position 3, the centre (1, 1)
    assert written["gives"].flatten().tolist() == [12, 13, 14, 15]  # its row


def test_a_network_without_attention_has_predictions_and_no_maps():
    task, data, config = trained(foveate.hosts.build("foveate/resnet8", classes=2), "capacity")
    assert set(load(capture(task, data, key="k", arm="x", config=config))) == {
        "images", "labels", "indices", "predictions",
    }  # fmt: skip


def test_a_placebo_shows_the_weights_that_it_uses_once():
    from foveate.study.arms.placebo import make_placebo

    network = foveate.hosts.build("foveate/resnet8", classes=2)
    put(network, foveate.spec("global_context"), start="paper", example=torch.zeros(1, 3, 32, 32))
    task, data, config = trained(make_placebo(network, torch.zeros(1, 3, 32, 32)), "placebo")
    tensors = load(capture(task, data, key="k", arm="x", config=config))
    shown = tensors["gate/layer1.0.bn2/global_context/position"]
    assert len(shown) == 2 and torch.equal(shown[0], shown[1])
