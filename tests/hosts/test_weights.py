"""Checkpoints from outside: layouts that load, files that are refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from foveate.errors import FoveateError, OptionError
from foveate.hosts import load_weights, read_weights


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


@pytest.mark.parametrize("wrap", [dict, lambda s: {"state_dict": s, "epoch": 9}, lambda s: {"model": s}])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_layouts_of_training_runs(tmp_path: Path, wrap, prefix: str):
    state = net().state_dict()
    torch.save(wrap({prefix + key: value for key, value in state.items()}), tmp_path / "a.pth")
    found = read_weights(tmp_path / "a.pth")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], state[key]) for key in state)


def test_a_prefix_is_taken_off_only_if_every_key_has_it(tmp_path: Path):
    save_file({"module.a": torch.zeros(1), "b": torch.ones(1)}, tmp_path / "a.safetensors")
    assert read_weights(tmp_path / "a.safetensors").keys() == {"module.a", "b"}


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


class Program:
    """A pickle that would leave a file behind if it ran."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return (Path.touch, (self.trace,))


def test_a_pickle_that_runs_a_program_is_refused_and_not_run(tmp_path: Path):
    trace = tmp_path / "trace"
    torch.save({"weight": Program(trace)}, tmp_path / "a.pt")
    with pytest.raises(FoveateError, match="could run any program"):
        read_weights(tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Program(trace), protocol=2))
    with pytest.raises(FoveateError, match=r"b\.pt"):
        read_weights(tmp_path / "b.pt")
    assert not trace.exists()


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
@pytest.mark.parametrize("keep", [0, 0.01, 0.5, 0.99])
def test_truncated_files_are_named(tmp_path: Path, suffix: str, keep: float):
    state = {"weight": torch.arange(500.0)}
    whole = tmp_path / f"whole{suffix}"
    if suffix == ".safetensors":
        save_file(state, whole)
    else:
        torch.save(state, whole)
    content = whole.read_bytes()
    cut = write(tmp_path / f"cut{suffix}", content[: int(keep * len(content))])
    with pytest.raises(FoveateError, match=rf"cut\{suffix}"):
        read_weights(cut)


def test_what_is_no_state_dict(tmp_path: Path):
    torch.save([torch.zeros(2)], tmp_path / "list.pt")
    with pytest.raises(FoveateError, match="holds no state_dict"):
        read_weights(tmp_path / "list.pt")
    torch.save({"weight": 3}, tmp_path / "number.pt")
    with pytest.raises(FoveateError, match="holds no state_dict"):
        read_weights(tmp_path / "number.pt")
    with pytest.raises(OptionError, match=r"none of the files.*\.safetensors, \.pt, \.pth"):
        read_weights(tmp_path / "net.pkl")
    with pytest.raises(FoveateError, match="there is no file"):
        read_weights(tmp_path / "absent.pt")


def test_all_or_nothing():
    model, other = net(), net()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = other.state_dict()
    state["extra"] = torch.zeros(1)
    del state["0.bias"]
    state["1.weight"] = torch.zeros(7)
    with pytest.raises(FoveateError) as caught:
        load_weights(model, state, source="the weights of 'x'")
    assert str(caught.value) == (
        "the weights of 'x' do not fit Sequential, nothing was loaded; missing: 0.bias; unexpected: extra; "
        "of another shape: 1.weight (7 there, 4 here)"
    )
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"0.bias": None}, "missing: 0.bias"),
        ({"extra": torch.zeros(1)}, "unexpected: extra"),
        ({"3.bias": torch.tensor(1.0)}, "of another shape: 3.bias (scalar there, 2 here)"),
    ],
)
def test_one_thing_that_does_not_fit_is_enough(change: dict[str, torch.Tensor | None], message: str):
    state = {key: value for key, value in {**net().state_dict(), **change}.items() if value is not None}
    with pytest.raises(FoveateError) as caught:
        load_weights(net(), state)
    assert str(caught.value).endswith(f"nothing was loaded; {message}")


def test_counters_that_old_files_lack_may_be_absent():
    model, state = net(), net().state_dict()
    del state["1.num_batches_tracked"]
    assert load_weights(model, state) == ()
    assert torch.equal(model[0].weight, state["0.weight"])


def test_the_head_is_kept_whole_or_loaded_whole():
    head = {"3.weight", "3.bias"}
    model, state = net(), net().state_dict()
    assert load_weights(model, state, head=head) == ()
    assert torch.equal(model[3].weight, state["3.weight"])
    own = model[3].bias.clone()
    state["3.weight"], state["3.bias"] = torch.zeros(9, 4), torch.zeros(2)
    assert load_weights(model, state, head=head) == ("3.bias", "3.weight")
    assert torch.equal(model[3].bias, own)
