"""Adapters: what was saved comes back bit for bit on a fresh host, and nothing else gets in."""

import copy
import hashlib
import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import timm
import torch
import torch._dynamo
import torchvision
from safetensors.torch import load_file, save_file
from torch import nn

import foveate
from foveate import hosts
from foveate.errors import DataError, FoveateError, FoveateWarning, OptionError, PlaceError
from foveate.surgery.adapters import load, save
from foveate.surgery.adapters.transplant import attention_state, transplant
from foveate.surgery.attended import attended_places
from foveate.surgery.status import disable, status, use

X = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
JSON, TENSORS = "attention.json", "attention.safetensors"
BLEND = "layer1.0.bn2.foveate.cbam.channel.blend"


def host(seed=0, classes=10):
    torch.manual_seed(seed)
    return hosts.build("foveate/resnet8", classes=classes)


def awake(model, seed=0):
    """Attention that does something: random parameters and moved statistics."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, parameter in foveate.attention_parameters(model):
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
        for name, buffer in model.named_buffers():
            if ".foveate." in name and buffer.is_floating_point():
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return model


def attended(attention="cbam", seed=0, **options):
    return awake(foveate.attach(host(), attention, example=X, **options), seed).eval()


@torch.no_grad()
def same(one, other, x=X):
    return torch.equal(one.eval()(x), other.eval()(x))


def picture(model):
    """Everything that loading could have touched."""
    return repr(model), {key: value.clone() for key, value in model.state_dict().items()}


def unchanged(model, before):
    text, state = before
    now = model.state_dict()
    return repr(model) == text and list(now) == list(state) and all(torch.equal(v, now[k]) for k, v in state.items())


def inside(folder):
    return sorted(path.name for path in folder.iterdir())


def change_json(folder, change):
    content = json.loads((folder / JSON).read_text())
    change(content)
    (folder / JSON).write_text(json.dumps(content))


def change_tensors(folder, change):
    """Change the tensors and the checksum with them, as somebody would who knows the format."""
    tensors = load_file(folder / TENSORS)
    tensors = {key: value.clone() for key, value in tensors.items()}
    change(tensors)
    save_file(tensors, folder / TENSORS)
    change_json(folder, lambda c: c.update(sha256=hashlib.sha256((folder / TENSORS).read_bytes()).hexdigest()))


@pytest.mark.parametrize("start", ["identity", "paper"])
@pytest.mark.parametrize(
    "name", ["se", "eca", "ge", "ge:variant=theta_plus,extent=global", "cbam:pools=avg+lse", "psanet"]
)
def test_a_fresh_host_gives_the_same_outputs(name, start, tmp_path):
    model = attended(name, start=start)
    save(model, tmp_path / "a")
    fresh = load(host().eval(), tmp_path / "a")
    assert same(fresh, model) and not same(host(), model)
    assert list(fresh.state_dict()) == list(model.state_dict())
    assert status(fresh) == status(model)


def test_only_what_was_added_is_saved(tmp_path):
    model = attended()
    save(model, tmp_path / "a")
    keys = set(load_file(tmp_path / "a" / TENSORS))
    assert keys == {key for key in model.state_dict() if ".foveate." in key}
    assert inside(tmp_path / "a") == [JSON, TENSORS]
    assert inside(tmp_path) == ["a"]


def test_what_changed_in_training_comes_along(tmp_path):
    model = foveate.attach(host(), "cbam").train()
    model.layer1.requires_grad_(False)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        model(X).square().sum().backward()
        optimizer.step()
    save(model, tmp_path / "a")
    keys = {key for key in load_file(tmp_path / "a" / TENSORS) if ".foveate." not in key}
    assert "layer1.0.conv1.weight" not in keys and "layer1.0.bn1.weight" not in keys
    assert {"linear.weight", "layer1.0.bn1.running_mean", "layer2.0.conv1.weight", "bn1.num_batches_tracked"} <= keys
    assert same(load(host(), tmp_path / "a"), model)


def test_a_new_head_is_put_on_before_loading(tmp_path):
    model = attended()
    model.linear = nn.Linear(model.linear.in_features, 3)
    save(model, tmp_path / "a")
    fresh = host()
    before = picture(fresh)
    with pytest.raises(FoveateError, match=r"linear.weight is 10×64, not 3×64"):
        load(fresh, tmp_path / "a", strict=False)
    assert unchanged(fresh, before)
    fresh.linear = nn.Linear(fresh.linear.in_features, 3)
    assert same(load(fresh, tmp_path / "a"), model)


def test_a_fresh_process(tmp_path):
    model = host().eval()
    torch.save(model.state_dict(), tmp_path / "host.pt")
    awake(foveate.attach(model, "cbam"))
    save(model, tmp_path / "a")
    with torch.no_grad():
        torch.save((X, model(X)), tmp_path / "io.pt")
    program = f"""
        import torch
        from foveate import hosts
        from foveate.surgery.adapters import load
        model = hosts.build("foveate/resnet8", classes=10).eval()
        model.load_state_dict(torch.load({str(tmp_path / "host.pt")!r}))
        x, y = torch.load({str(tmp_path / "io.pt")!r})
        with torch.no_grad():
            assert torch.equal(load(model, {str(tmp_path / "a")!r})(x), y)
        print("equal")
    """
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True)
    assert ran.stdout.strip() == "equal", ran.stderr


def test_inputs_shortcuts_and_channels_last_in_the_shape_come_back(tmp_path):
    model = timm.create_model("convnext_atto", num_classes=10).eval()
    state = copy.deepcopy(model.state_dict())
    x = torch.randn(2, 3, 64, 64)
    foveate.attach(model, "se", at="pre", name="pre")
    foveate.attach(model, "eca", at="residual", name="post")
    awake(model)
    save(model, tmp_path / "a")
    fresh = timm.create_model("convnext_atto", num_classes=10)
    fresh.load_state_dict(state)
    assert same(load(fresh, tmp_path / "a"), model, x)
    assert {seat.point.side for p in attended_places(fresh).values() for seat in p.foveate_seats.values()} >= {"input"}
    assert same(foveate.detach(fresh), foveate.detach(model), x)


def test_several_sets_on_one_host_each_on_its_own(tmp_path):
    model = attended("cbam", name="day")
    awake(foveate.attach(model, "se", name="night"), 7)
    save(model, tmp_path / "day", "day")
    save(model, tmp_path / "night", "night")
    save(model, tmp_path / "both")
    for name in ("day", "night"):
        with use(model, name):
            assert same(load(host(), tmp_path / name), model)
    assert same(load(host(), tmp_path / "both"), model)
    assert same(load(load(host(), tmp_path / "day"), tmp_path / "night"), model)
    with pytest.raises(PlaceError, match="'dusk'"):
        save(model, tmp_path / "dusk", "dusk")
    with pytest.raises(OptionError, match="day, night"):
        load(host(), tmp_path / "both", name="all_of_them")


def test_what_rested_rests_again(tmp_path):
    model = attended("cbam", name="day")
    awake(foveate.attach(model, "se"), 7)
    disable(model, "day")
    save(model, tmp_path / "a")
    fresh = load(host(), tmp_path / "a")
    assert [entry.enabled for entry in status(fresh).attachments] == [False, True]
    assert same(fresh, model)


def test_another_name(tmp_path):
    model = attended()
    save(model, tmp_path / "a")
    fresh = load(load(host(), tmp_path / "a"), tmp_path / "a", name="again")
    assert [entry.name for entry in status(fresh).attachments] == ["cbam", "again"]
    with use(fresh, "again"):
        assert same(fresh, model)
    for bad in ("a.b", "a__b", "keys"):
        with pytest.raises(OptionError):
            load(host(), tmp_path / "a", name=bad)


def test_an_alias_saves_too(tmp_path):
    save(attended("se"), tmp_path / "a", "se")
    assert status(load(host(), tmp_path / "a")).attachments[0].name == "squeeze_excite"


def test_a_loaded_network_is_saved_again_as_it_was(tmp_path):
    model = attended()
    with torch.no_grad():
        model.linear.bias.add_(1)
    save(model, tmp_path / "a")
    fresh = load(host(), tmp_path / "a")
    save(fresh, tmp_path / "b")
    for file in (JSON, TENSORS):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_compiled_network_is_not_compiled_again(tmp_path):
    torch._dynamo.reset()
    day, night = attended(seed=1), attended(seed=2)
    with torch.no_grad():
        night.linear.weight.mul_(2)
        day.linear.weight.mul_(3)
    save(day, tmp_path / "day")
    save(night, tmp_path / "night")
    model = load(host().eval(), tmp_path / "day")
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert same(compiled, day)
    torch._dynamo.utils.counters.clear()
    weights = {name: parameter.data_ptr() for name, parameter in model.named_parameters()}
    load(compiled, tmp_path / "night")
    assert same(compiled, night)
    load(model, tmp_path / "day")
    assert same(compiled, day)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 0
    assert {name: parameter.data_ptr() for name, parameter in model.named_parameters()} == weights
    torch._dynamo.reset()


@pytest.mark.parametrize("other", ["se", "cbam:reduction=8", "cbam:pools=lp+lse"])
def test_another_structure_of_the_name_is_refused(other, tmp_path):
    save(attended(), tmp_path / "a")
    model = attended(other, name="cbam")
    before = picture(model)
    with pytest.raises(FoveateError, match="another structure"):
        load(model, tmp_path / "a")
    assert unchanged(model, before)
    fewer = attended("cbam", stages=[2])
    before = picture(fewer)
    with pytest.raises(FoveateError, match="at 1 places, not cbam at 3"):
        load(fewer, tmp_path / "a")
    assert unchanged(fewer, before)


def test_defaults_written_out_are_the_same_structure(tmp_path):
    model = attended()
    save(model, tmp_path / "a")
    assert same(load(attended("cbam:reduction=16", seed=5, name="cbam"), tmp_path / "a"), model)


def test_type_device_format_and_training_flag_are_the_hosts(tmp_path):
    save(attended(), tmp_path / "a")
    fresh = load(host().double().to(memory_format=torch.channels_last).train(), tmp_path / "a")
    parameters = [p for _, p in foveate.attention_parameters(fresh)]
    assert {p.dtype for p in parameters} == {torch.float64} and all(p.requires_grad for p in parameters)
    assert status(fresh).attachments[0].training is True
    assert torch.allclose(fresh.eval()(X.double()), attended()(X).double(), atol=1e-5)
    with pytest.warns(FoveateWarning, match=r"float32 and is bfloat16"):
        half = load(host().bfloat16(), tmp_path / "a")
    assert status(half).attachments[0].dtypes == ("bfloat16",)
    wide = attended().double()
    with torch.no_grad():
        for _, parameter in foveate.attention_parameters(wide):
            parameter.add_(1e-12)  # what float32 cannot hold
    save(wide, tmp_path / "wide")
    assert same(load(host().double(), tmp_path / "wide"), wide, X.double())


def test_functions_are_given_again(tmp_path):
    def mine(channels):
        return nn.Sequential(nn.Conv2d(channels, channels, 1), nn.Sigmoid())

    model = attended(mine)
    save(model, tmp_path / "a")
    fresh = host()
    before = picture(fresh)
    with pytest.raises(OptionError, match="function 'mine'"):
        load(fresh, tmp_path / "a")
    with pytest.raises(DataError, match="does not hold"):
        load(fresh, tmp_path / "a", factories={"mine": lambda c: nn.Conv2d(c, c, 3)})
    assert unchanged(fresh, before)
    assert same(load(fresh, tmp_path / "a", factories={"mine": mine}), model)


def test_the_wrong_host_is_refused_and_untouched(tmp_path):
    save(attended(), tmp_path / "a")

    class Renamed(type(host())):
        pass

    stranger = torchvision.models.resnet18(num_classes=10)
    renamed = host()
    renamed.__class__ = Renamed
    bigger = host()
    bigger.layer1[0].conv1 = nn.Conv2d(16, 16, 5)
    for model, match in (
        (stranger, "it has no linear.weight, linear.bias; it has layer1.1.conv1.weight"),
        (renamed, "it is a Renamed, not a ResNet"),
        (bigger, r"layer1.0.conv1.weight is 16×16×5×5, not 16×16×3×3"),
        (host(seed=1), "other weights in conv1.weight"),
        (host().to("meta"), "meta device"),
    ):
        before = picture(model) if model is not None and not any(p.is_meta for p in model.parameters()) else None
        with pytest.raises(FoveateError, match=match) as caught:
            load(model, tmp_path / "a")
        assert "nothing was loaded" in str(caught.value)
        assert before is None or unchanged(model, before)


def test_one_changed_number_is_another_host_and_strict_relents(tmp_path):
    model = attended()
    save(model, tmp_path / "a")
    fresh = host()
    with torch.no_grad():
        fresh.layer2[0].conv2.weight.view(-1)[3] += 1e-6
    with pytest.raises(FoveateError, match=r"other weights in layer2.0.conv2.weight; strict=False"):
        load(fresh, tmp_path / "a")
    with pytest.warns(FoveateWarning, match=r"other weights in layer2.0.conv2.weight"):
        load(fresh, tmp_path / "a", strict=False)
    with torch.no_grad():
        assert torch.allclose(fresh.eval()(X), model(X), atol=1e-3)
    with pytest.warns(FoveateWarning, match="linear.weight is 3×64"):  # attention learnt with another head
        load(host(classes=3), tmp_path / "a", strict=False)


def test_a_place_that_is_not_there_is_refused(tmp_path):
    save(attended(), tmp_path / "a")
    fresh = host()
    fresh.layer1[0].bn2 = nn.Sequential()
    before = picture(fresh)
    change_json(tmp_path / "a", lambda c: c["seats"][0].update(place="layer9.bn"))
    change_tensors(
        tmp_path / "a", lambda t: [t.update({k.replace("layer1.0.bn2.f", "layer9.bn.f"): t.pop(k)}) for k in list(t)]
    )
    with pytest.raises(PlaceError, match="no module 'layer9.bn'"), pytest.warns(FoveateWarning):
        load(fresh, tmp_path / "a", strict=False)
    assert unchanged(fresh, before)


def truncate(folder):
    content = (folder / TENSORS).read_bytes()
    (folder / TENSORS).write_bytes(content[: len(content) // 2])


def flip(folder):
    content = bytearray((folder / TENSORS).read_bytes())
    content[-1] ^= 1
    (folder / TENSORS).write_bytes(bytes(content))


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def pickled(folder):
    (folder / TENSORS).write_bytes(pickle.dumps(Bomb()))
    change_json(folder, lambda c: c.update(sha256=hashlib.sha256((folder / TENSORS).read_bytes()).hexdigest()))


def rename(folder):
    change_tensors(
        folder,
        lambda t: t.update(
            {"layer1.0.bn2.foveate.cbam.channel.fc9.weight": t.pop("layer1.0.bn2.foveate.cbam.channel.fc1.weight")}
        ),
    )


DAMAGES = {
    "truncated": (truncate, "truncated, or changed"),
    "one bit": (flip, "truncated, or changed"),
    "a pickle": (pickled, "no safetensors file"),
    "no tensors": (lambda f: (f / TENSORS).unlink(), f"has no {TENSORS}"),
    "no json": (lambda f: (f / JSON).unlink(), f"has no {JSON}"),
    "half a json": (lambda f: (f / JSON).write_text((f / JSON).read_text()[:500]), "damaged"),
    "binary json": (lambda f: (f / JSON).write_bytes(b"\xff\xfe\x00"), "damaged"),
    "deep json": (lambda f: (f / JSON).write_text("[" * 100_000), "damaged"),
    "a list": (lambda f: (f / JSON).write_text("[]"), "holds no table"),
    "the future": (
        lambda f: change_json(f, lambda c: c.update(format=3, foveate="9.0")),
        "format 3, from foveate 9.0.*upgrade",
    ),
    "no format": (lambda f: change_json(f, lambda c: c.pop("format")), "'format' is missing"),
    "renamed": (rename, "misses layer1.0.bn2.foveate.cbam.channel.fc1.weight and has an unexpected .*fc9"),
    "missing": (lambda f: change_tensors(f, lambda t: t.pop(BLEND)), "misses .*blend"),
    "extra": (lambda f: change_tensors(f, lambda t: t.update(more=torch.zeros(1))), "unexpected more"),
    "a host's": (
        lambda f: change_tensors(f, lambda t: t.update({"linear.bias": torch.zeros(10)})),
        "unexpected linear.bias",
    ),
    "reshaped": (lambda f: change_tensors(f, lambda t: t.update({BLEND: torch.zeros(2)})), "another shape of .*blend"),
    "mechanism": (
        lambda f: change_json(f, lambda c: c["attachments"]["cbam"]["attention"].update(mechanism="cbma")),
        "did you mean 'cbam'",
    ),
    "option": (
        lambda f: change_json(f, lambda c: c["attachments"]["cbam"]["attention"].update(options={"reductoin": 8})),
        "did you mean 'reduction'",
    ),
    "value": (
        lambda f: change_json(f, lambda c: c["attachments"]["cbam"]["attention"].update(options={"reduction": 0})),
        "at least 1",
    ),
    "start": (lambda f: change_json(f, lambda c: c["attachments"]["cbam"].update(start="x")), "starts as 'x'"),
    "no seats": (lambda f: change_json(f, lambda c: c.update(seats=[])), "names no attention"),
    "seat": (lambda f: change_json(f, lambda c: c["seats"][0].update(channels="16")), "'channels'"),
    "nowhere": (lambda f: change_json(f, lambda c: c["seats"][0].update(place="")), "nowhere"),
    "side": (lambda f: change_json(f, lambda c: c["seats"][0]["point"].update(side="left")), "no such point"),
    "point": (lambda f: change_json(f, lambda c: c["seats"][0]["point"].update(more=1)), "a point has the fields"),
    "type": (
        lambda f: change_json(f, lambda c: c["host"]["tensors"].update({"conv1.weight": "nn 1x2 0123456789abcdef"})),
        "has the type 'nn'",
    ),
    "tensor": (lambda f: change_json(f, lambda c: c["host"]["tensors"].update({"conv1.weight": 3})), "described as 3"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_refused_with_a_sentence_and_nothing_is_touched(damage, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(attended(), tmp_path / "a")
    break_it, match = DAMAGES[damage]
    break_it(tmp_path / "a")
    for model in (host(), attended(seed=3)):
        before = picture(model)
        with pytest.raises(FoveateError, match=match):
            load(model, tmp_path / "a")
        assert unchanged(model, before)
    assert not Path("exploded").exists()


def test_what_is_no_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        load(host(), tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="is a file"):
        load(host(), tmp_path / "file")
    with pytest.raises(FoveateError, match="is a file"):
        save(attended(), tmp_path / "file", overwrite=True)
    save(attended(), tmp_path / "a")
    with pytest.raises(OptionError, match=r"torch\.nn\.Module"):
        load("resnet18", tmp_path / "a")


def test_saving_nothing_or_nowhere(tmp_path):
    with pytest.raises(PlaceError, match="nothing is attached"):
        save(host(), tmp_path / "a")
    model = attended()
    save(model, tmp_path / "a")
    first = (tmp_path / "a" / TENSORS).read_bytes()
    with pytest.raises(FoveateError, match="overwrite=True"):
        save(attended(seed=9), tmp_path / "a")
    assert (tmp_path / "a" / TENSORS).read_bytes() == first
    save(attended(seed=9), tmp_path / "a", overwrite=True)
    assert (tmp_path / "a" / TENSORS).read_bytes() != first
    (tmp_path / "a" / "notes.txt").write_text("mine")
    with pytest.raises(FoveateError, match=r"notes\.txt"):
        save(model, tmp_path / "a", overwrite=True)
    assert inside(tmp_path) == ["a"]
    with torch.device("meta"):
        nowhere = foveate.attach(hosts.build("foveate/resnet8", classes=10), "se")
    with pytest.raises(FoveateError, match="meta device"):
        save(nowhere, tmp_path / "b")


def test_attention_that_could_not_be_built_again_is_not_saved(tmp_path):
    model = attended()
    model.layer1[0].bn2.foveate["cbam"].channel.fc1 = nn.Linear(16, 5)
    with pytest.raises(FoveateError, match=r"layer1\.0\.bn2.*no longer what cbam builds"):
        save(model, tmp_path / "a")
    assert inside(tmp_path) == []


def test_an_error_while_writing_leaves_nothing_and_keeps_the_old(tmp_path, monkeypatch):
    model = attended()
    save(model, tmp_path / "a")
    before = {file: (tmp_path / "a" / file).read_bytes() for file in (JSON, TENSORS)}

    def full(*_, **__):
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full)
        for name in ("a", "b"):
            with pytest.raises(OSError, match="no space"):
                save(attended(seed=4), tmp_path / name, overwrite=True)
    assert inside(tmp_path) == ["a"]
    assert {file: (tmp_path / "a" / file).read_bytes() for file in before} == before

    moves = []
    replace = Path.replace

    def second_move_fails(self, target):
        moves.append(target)
        if len(moves) == 2:
            raise OSError("interrupted")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", second_move_fails)
    with pytest.raises(OSError, match="interrupted"):
        save(attended(seed=4), tmp_path / "a", overwrite=True)
    assert inside(tmp_path) == ["a"]
    assert {file: (tmp_path / "a" / file).read_bytes() for file in before} == before


def test_killed_while_writing_leaves_no_partial_folder_under_the_name(tmp_path):
    program = f"""
        import time, torch, foveate
        from pathlib import Path
        from foveate.surgery.adapters import save
        write = Path.write_text
        def slow(self, *args, **kwargs):
            print("writing", flush=True)
            time.sleep(60)
        Path.write_text = slow
        model = foveate.attach(foveate.hosts.build("foveate/resnet8", classes=10), "se")
        save(model, {str(tmp_path / "a")!r})
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().strip() == "writing"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "a").exists()
    save(attended(), tmp_path / "a")
    assert (tmp_path / "a" / JSON).is_file()


def test_wrapped_networks_save_and_load(tmp_path):
    model = attended()
    save(nn.DataParallel(torch.compile(model, backend="eager")), tmp_path / "a")
    fresh = host()
    with pytest.raises(FoveateError, match="wrap then"):
        load(nn.DataParallel(fresh), tmp_path / "a")
    load(torch.compile(fresh, backend="eager"), tmp_path / "a")
    assert same(fresh, model)
    save(attended(seed=5), tmp_path / "b")
    load(nn.DataParallel(fresh), tmp_path / "b")  # tensors alone
    assert same(fresh, attended(seed=5))


def test_shared_modules_and_shared_weights(tmp_path):
    def twice(seed=0):
        torch.manual_seed(seed)
        block = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3))
        model = nn.Sequential(block, nn.ReLU(), nn.Conv2d(3, 3, 3, padding=1), block)
        model[2].weight = block[0].weight
        return model

    model = foveate.attach(twice(), "se", at="0.1", example=X)
    awake(model)
    with torch.no_grad():
        model[2].weight.add_(1)
    save(model, tmp_path / "a")
    fresh = load(twice(), tmp_path / "a")
    assert same(fresh, model)
    assert fresh[2].weight is fresh[0][0].weight and fresh[3] is fresh[0]


def test_no_watching_and_no_shift_of_the_random_stream(tmp_path):
    save(attended("psanet"), tmp_path / "a")
    fresh = host()
    fresh.forward = None  # it cannot run
    state = torch.get_rng_state()
    load(fresh, tmp_path / "a")
    assert torch.equal(torch.get_rng_state(), state)


def test_a_sharded_network_is_told_what_to_do(tmp_path):
    from torch import distributed
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    save(attended(), tmp_path / "a")
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        model = attended()
        fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
        assert status(model).attachments[0].blend == status(attended()).attachments[0].blend
        with pytest.raises(FoveateError, match="sharded over several processes"):
            save(model, tmp_path / "b")
        with pytest.raises(FoveateError, match="load first, shard then"):
            load(model, tmp_path / "a")
    finally:
        distributed.destroy_process_group()
    assert inside(tmp_path) == ["a"]


def test_the_order_at_a_shared_place_comes_back(tmp_path):
    model = attended("se", at="layer1.0.bn2", name="first", start="paper")
    foveate.attach(model, "cbam", at="layer1.0.bn2", name="second", start="paper", example=X)
    save(awake(model), tmp_path / "both")
    save(model, tmp_path / "second", "second")
    for other in (False, True):
        fresh = host()
        if other:
            foveate.attach(fresh, "eca", at="layer1.0.bn2", name="mine")
        load(fresh, tmp_path / "second")
        load(fresh, tmp_path / "both")
        place = attended_places(fresh)["layer1.0.bn2"]
        expected = ["mine"] * other + ["first", "second"]
        assert list(place.foveate) == list(place.foveate_seats) == expected
        assert same(fresh, model)  # eca starts as the identity
    back = foveate.attach(host(), "cbam", at="layer1.0.bn2", name="second", start="paper", example=X)
    foveate.attach(back, "se", at="layer1.0.bn2", name="first", start="paper", example=X)
    assert same(load(back, tmp_path / "both"), model)


@pytest.mark.parametrize("saved", [True, False])
def test_the_switch_comes_back_when_tensors_are_exchanged(saved, tmp_path):
    model = attended("se")
    if not saved:
        disable(model)
    save(model, tmp_path / "a")
    fresh = attended("se", seed=3)
    if saved:
        disable(fresh)
    load(fresh, tmp_path / "a")
    assert status(fresh).attachments[0].enabled is saved
    assert same(fresh, model)


def test_what_is_no_network_or_no_path(tmp_path):
    model = attended()
    save(model, tmp_path / "a")
    for call in (
        lambda: save(3, tmp_path / "b"),
        lambda: load(3, tmp_path / "a"),
        lambda: load(3, tmp_path / "nothing"),
        lambda: foveate.from_pretrained(3, tmp_path / "a"),
        lambda: attention_state(3),
        lambda: transplant(model, 3),
        lambda: transplant(3, model),
    ):
        with pytest.raises(OptionError, match=r"a network is a torch\.nn\.Module, not int"):
            call()
    for nowhere, kind in ((None, "NoneType"), (3, "int"), (b"a", "bytes")):
        for act in (save, load, foveate.from_pretrained):
            with pytest.raises(OptionError, match=rf"path.*not {kind}"):
                act(model, nowhere)
