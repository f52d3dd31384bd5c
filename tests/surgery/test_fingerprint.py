"""Fingerprints: a change of any bit or of the order shows, wherever and however the tensor lies."""

import copy
import pickle
import struct

import pytest
import torch
from torch import nn

import foveate
from foveate import hosts
from foveate.surgery.fingerprint import NOTE, changed_since_noted, digest, note_host

MASK = (1 << 64) - 1


def slow_digest(values):
    """The same sum with Python's own numbers, from the bytes of a list of 32-bit floats."""

    def mixed(position):
        z = position * -7046029254386353131 & MASK
        signed = z - (1 << 64) if z >> 63 else z
        z = (signed ^ (signed >> 29)) * (-4658895280553007687) & MASK
        signed = z - (1 << 64) if z >> 63 else z
        return (signed ^ (signed >> 32)) | 1

    total = len(values)
    total = total * 3202034522624059733
    for position, value in enumerate(values, 1):
        bits = struct.unpack("<i", struct.pack("<f", value))[0]
        total += bits * mixed(position)
    return f"{total & MASK:016x}"


def test_it_is_the_sum_that_it_says():
    values = [1.0, -2.5, 0.0, -0.0, 3e-41, 1e30, float("inf")]
    assert digest(torch.tensor(values)) == slow_digest(values)


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float64, torch.complex64, torch.int64, torch.bool]
)
def test_any_type_and_any_element_counts(dtype):
    tensor = torch.arange(24).reshape(2, 3, 4).to(dtype)
    seen = {digest(tensor)}
    for index in range(1, 24):
        other = tensor.clone()
        other.view(-1)[index] = 0 if dtype is torch.bool else 99
        seen.add(digest(other))
    assert len(seen) == 24


def test_order_and_signs_and_length_count_and_memory_format_does_not():
    x = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    assert digest(x) == digest(x.to(memory_format=torch.channels_last)) == digest(x.flip(0).flip(0))
    assert digest(x) != digest(x.flip(0))
    assert digest(torch.tensor([0.0])) != digest(torch.tensor([-0.0]))
    assert digest(torch.zeros(3)) != digest(torch.zeros(4))
    assert digest(torch.zeros(0)) == digest(torch.zeros(2, 0))


def test_chunks_are_in_order_too():
    x = torch.zeros(3 * (1 << 18))
    first, second = x.clone(), x.clone()
    first[5], second[5 + (1 << 18)] = 1, 1
    assert len({digest(x), digest(first), digest(second)}) == 3


def test_one_small_change_in_a_network_is_seen():
    model = hosts.build("foveate/resnet8", classes=10)
    foveate.attach(model, "cbam")
    assert changed_since_noted(model) == set()
    with torch.no_grad():
        weight = model.layer2[0].conv1.weight
        weight.view(-1)[7] = torch.nextafter(weight.view(-1)[7], torch.tensor(9.0))
        model.layer1[0].bn2.running_mean[0] += 1
    assert changed_since_noted(model) == {"layer2.0.conv1.weight", "layer1.0.bn2.running_mean"}


def test_the_note_is_made_once_copied_pickled_and_forgotten():
    model = hosts.build("foveate/resnet8", classes=10)
    foveate.attach(model, "se")
    with torch.no_grad():
        model.conv1.weight.add_(1)
    changed = {"conv1.weight"}
    foveate.attach(model, "eca")
    assert changed_since_noted(model) == changed
    assert changed_since_noted(copy.deepcopy(model)) == changed
    assert changed_since_noted(pickle.loads(pickle.dumps(model))) == changed
    foveate.detach(model, "se")
    assert changed_since_noted(model) == changed
    foveate.detach(model)
    assert NOTE not in model.__dict__
    foveate.attach(model, "se")
    assert changed_since_noted(model) == set()


def test_tensors_on_the_meta_device_are_not_noted():
    model = nn.Linear(2, 2, device="meta")
    note_host(model)
    assert model.__dict__[NOTE] == {}


def test_a_part_that_was_attended_and_a_head_that_was_not():
    model = nn.Sequential(hosts.build("foveate/resnet8", classes=10), nn.Linear(10, 3))
    foveate.attach(model[0], "se")
    assert changed_since_noted(model) == {"1.weight", "1.bias"}  # nothing is known of it
    note = len(model[0].__dict__[NOTE])
    assert note == len([key for key in model[0].state_dict() if "foveate" not in key])
