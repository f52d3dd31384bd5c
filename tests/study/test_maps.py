"""What a study keeps of maps: those that have a picture on the image, and of all others what they did to it."""

import json

import pytest
import torch
from safetensors.torch import load

import foveate
from foveate.study.maps import capture


class Images:
    """Four random images of two classes."""

    labels = torch.tensor([0, 1, 0, 1])

    def __len__(self):
        return 4

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        return torch.randint(0, 256, (3, 32, 32), generator=generator, dtype=torch.uint8), int(self.labels[index])


@pytest.mark.parametrize(
    ("mechanism", "kinds"),
    [
        ("eca", {"gate", "emphasis"}),
        ("danet_position", {"takes", "gives", "emphasis"}),
        ("danet_channel", {"emphasis"}),  # pairs of channels
        ("external", {"emphasis"}),  # slots of a memory
        ("large_selective_kernel", {"gate", "emphasis"}),  # a factor, and branches beside it
    ],
)
def test_every_kind_of_map_is_kept_as_what_it_is(mechanism, kinds):
    network = foveate.attach(foveate.hosts.build("foveate/resnet8", classes=2), mechanism, start="paper")
    written = capture(network, lambda x: x / 255, Images(), key="k", arm=mechanism, seed=0, attended=True)
    tensors = load(written)
    length = int.from_bytes(written[:8], "little")
    entries = json.loads(json.loads(written[8 : 8 + length])["__metadata__"]["maps"])
    assert {entry["what"] for entry in entries} == kinds
    assert all(torch.isfinite(tensors[entry["tensor"]]).all() for entry in entries)
    assert tensors["indices"].tolist() == [0, 1]
