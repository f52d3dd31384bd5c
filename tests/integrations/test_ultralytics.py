"""Attention stays in a YOLO network, whatever ultralytics does to it; without the integration it does not."""

import copy
import io
import os
import pickle
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("ultralytics")

from PIL import Image
from ultralytics import YOLO
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils.torch_utils import ModelEMA

import foveate
from foveate.errors import FoveateError, FoveateWarning, MissingExtraError, OptionError, PlaceError
from foveate.integrations.folding import lost_by
from foveate.integrations.ultralytics import Transfer, attach, attended_trainer, detach, keep
from foveate.surgery.adapters.transplant import attention_state, transplant
from foveate.surgery.attended import attended_places, host_path
from foveate.surgery.rebuilders import warn_of_rebuild

PLACES = "model.*.m.*.cv2"
TASKS = {
    "detect": "yolov8n.yaml",
    "segment": "yolov8n-seg.yaml",
    "classify": "yolov8n-cls.yaml",
    "pose": "yolov8n-pose.yaml",
    "obb": "yolov8n-obb.yaml",
}
SMALL = """\
nc: 2
backbone:
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, C2f, [16, True]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, C2f, [16, True]]
head:
  - [[2, 4], 1, Detect, [nc]]
"""


@pytest.fixture
def small(tmp_path):
    """A YAML of a YOLO with two residual blocks, and two classes."""
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


@pytest.fixture(scope="session")
def squares(tmp_path_factory):
    """Eight pictures of a bright square, and where it is."""
    folder = tmp_path_factory.mktemp("squares")
    random = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    for number in range(8):
        pixels = random.integers(0, 60, (64, 64, 3), np.uint8)
        x, y = random.integers(4, 36, 2)
        pixels[y : y + 20, x : x + 20] = 200
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
        line = f"{number % 2} {(x + 10) / 64:.4f} {(y + 10) / 64:.4f} {20 / 64:.4f} {20 / 64:.4f}"
        (folder / "labels" / f"{number}.txt").write_text(line)
    (folder / "squares.yaml").write_text(f"path: {folder}\ntrain: images\nval: images\nnames: {{0: a, 1: b}}\n")
    return folder / "squares.yaml"


def training(data, project, **changed):
    return {
        "data": str(data), "project": str(project), "name": "run", "exist_ok": True, "epochs": 1, "imgsz": 64,
        "batch": 4, "nbs": 4, "device": "cpu", "plots": False, "verbose": False, "optimizer": "SGD", "lr0": 0.01,
        "warmup_epochs": 0, **changed,
    }  # fmt: skip


def lively(network):
    """Trained-looking: norms that do something, attention that acts."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.3, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    with torch.no_grad():
        for _, parameter in foveate.surgery.attention_parameters(network):
            parameter.add_(torch.randn(parameter.shape, generator=generator) / 2)
    return network


def image(side=64):
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(1))


def output(network, x=None):
    with torch.no_grad():
        result = network.eval()(image() if x is None else x)
    while isinstance(result, tuple | list):
        result = result[0]
    return result


def checkpoint(yolo, folder):
    """A file as ultralytics writes it, for a YOLO that carries weights."""
    path = folder / "given.pt"
    yolo.ckpt = {}
    yolo.save(path)
    return path


def rebuilt(yolo, data, project, **changed):
    """What `train()` would train: the trainer that it makes, stopped before the first step."""

    class StopError(Exception):
        pass

    def stop(trainer):
        raise StopError

    yolo.add_callback("on_pretrain_routine_end", stop)
    with pytest.raises(StopError):
        yolo.train(**training(data, project, **changed))
    yolo.clear_callback("on_pretrain_routine_end")
    return yolo.trainer


def test_plain_training_throws_attention_away_and_attach_says_so(small, squares, tmp_path):
    yolo = YOLO(checkpoint(YOLO(small), tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FoveateWarning)
        foveate.attach(yolo.model, "se", at=PLACES)
    assert len(attention_state(yolo.model)) == 10
    trainer = rebuilt(yolo, squares, tmp_path)
    assert not attention_state(trainer.model)


def test_the_warning_names_who_rebuilds_and_what_to_write(small):
    with pytest.warns(FoveateWarning, match=r"ultralytics' train\(\) would build this network anew.*integrations"):
        warn_of_rebuild(YOLO(small).model)
    with pytest.raises(OptionError, match=r"a YOLO holds a network.*integrations\.ultralytics\.attach\(yolo"):
        warn_of_rebuild(YOLO(small))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_rebuild(nn.Sequential(nn.Conv2d(3, 3, 1)))


def test_plain_attach_warns(small):
    with pytest.warns(FoveateWarning, match="would build this network anew"):
        foveate.attach(YOLO(small).model, "se", at=PLACES)


def test_attach_is_silent_exact_and_leaves_the_attributes(small):
    yolo = YOLO(small)
    network = yolo.model
    before, kept = output(network), {name: copy.copy(getattr(network, name)) for name in ("yaml", "args", "names")}
    stride, save = network.stride.clone(), list(network.save)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert attach(yolo, "cbam") is yolo
    assert yolo.model is network
    assert torch.equal(output(network), before)
    assert {name: getattr(network, name) for name in kept} == kept
    assert torch.equal(network.stride, stride)
    assert network.save == save
    assert yolo.info(imgsz=64)[1] == sum(p.numel() for p in network.parameters())


def test_places_on_whole_layers_answer_for_them(small):
    yolo = attach(YOLO(small), "se", at=["model.2", "model.3"])
    layer = yolo.model.model[2]
    assert (layer.f, layer.i, layer.np) == (-1, 2, sum(p.numel() for p in layer.foveate_host.parameters()))
    assert attended_places(yolo.model).keys() == {"model.2", "model.3"}


def test_prediction_uses_what_was_attached_after_an_earlier_prediction(small):
    yolo = YOLO(small)
    picture = np.full((64, 64, 3), 90, np.uint8)
    picture[20:40, 20:40] = 250
    predict = lambda: yolo.predict(picture, imgsz=64, conf=0, device="cpu", verbose=False)[0].boxes.data  # noqa: E731
    plain = predict()
    assert torch.equal(predict(), plain)
    attach(yolo, "se", at=PLACES, start="paper")
    assert not torch.equal(predict(), plain)
    detach(yolo)
    assert torch.equal(predict(), plain)


@pytest.mark.parametrize("at", ["model.2.m.0.cv2.bn", "model.2.m.0.cv2.conv"])
def test_a_place_inside_a_folded_block_is_refused_and_leaves_no_trace(small, at):
    yolo = YOLO(small)
    keys = yolo.model.state_dict().keys()
    with pytest.raises(
        PlaceError, match=r"'model\.2\.m\.0\.cv2\.\w+' is inside.*name 'model\.2\.m\.0\.cv2' as a whole"
    ):
        attach(yolo, "se", at=at)
    assert yolo.model.state_dict().keys() == keys


def test_the_head_itself_is_refused(small):
    yolo = YOLO("yolov8n-cls.yaml")
    with pytest.raises(PlaceError):
        attach(yolo, "se", at=f"model.{len(yolo.model.model) - 1}")
    hidden = YOLO(small)
    hidden.model.model[-1] = foveate.surgery.attended.Attended(hidden.model.model[-1])
    with pytest.raises(PlaceError, match=r"'model\.5' is the head, which ultralytics knows by its class"):
        attach(hidden, "se", at=PLACES)


def test_a_place_that_fuse_drops_unforeseen_is_refused_and_leaves_no_trace(small, monkeypatch):
    yolo = YOLO(small)
    keys = yolo.model.state_dict().keys()
    honest = type(yolo.model).fuse

    def dropping(network, *args, **kwargs):
        block = network.model[2].m[0]
        block.cv2 = getattr(block.cv2, "foveate_host", block.cv2)
        return honest(network, *args, **kwargs)

    monkeypatch.setattr(type(yolo.model), "fuse", dropping)
    with pytest.raises(PlaceError, match=r"fuse\(\).*would drop the attention at 'model\.2\.m\.0\.cv2'.*`exclude`"):
        attach(yolo, "se", at=PLACES)
    assert yolo.model.state_dict().keys() == keys
    attach(yolo, "se", at=PLACES, exclude="model.2.m.0.cv2")


def test_what_is_no_yolo_is_refused(tmp_path):
    with pytest.raises(OptionError, match="takes an ultralytics YOLO, not Conv2d"):
        attach(nn.Conv2d(3, 3, 1), "se")
    (tmp_path / "weights.mnn").touch()
    with pytest.raises(OptionError, match=r"weights.mnn' is an exported network"):
        keep(YOLO(tmp_path / "weights.mnn", task="detect"))


def test_a_checkpoint_is_rebuilt_with_every_tensor_that_plain_ultralytics_takes_and_all_attention(
    small, squares, tmp_path
):
    path = checkpoint(YOLO(small), tmp_path)
    plain = rebuilt(YOLO(path), squares, tmp_path).model.state_dict()
    yolo = attach(YOLO(path), "cbam", at=PLACES)
    lively(yolo.model)
    given = {key: value.clone() for key, value in yolo.model.state_dict().items()}
    trainer = rebuilt(yolo, squares, tmp_path)
    trained = trainer.model.state_dict()
    assert trained.keys() == given.keys()
    ours = attention_state(trainer.model)
    assert len(ours) == 24
    assert plain.keys() == trained.keys() - ours.keys()
    assert all(torch.equal(trained[key], given[key]) for key in given)
    assert trainer.foveate_transfer == Transfer(len(plain), len(plain), 24, 24)
    assert str(trainer.foveate_transfer) == f"{len(plain)} of {len(plain)} host tensors and 24 of 24 attention tensors"


def test_another_number_of_classes_costs_what_it_costs_plain_ultralytics(small, squares, tmp_path):
    small.write_text(SMALL.replace("nc: 2", "nc: 5"))
    path = checkpoint(YOLO(small), tmp_path)
    source = YOLO(path).model.state_dict()

    def equal(trainer):
        trained = trainer.model.state_dict()
        return sum(key in trained and torch.equal(trained[key], value) for key, value in source.items())

    plain = equal(rebuilt(YOLO(path), squares, tmp_path))
    trainer = rebuilt(attach(YOLO(path), "cbam", at=PLACES), squares, tmp_path)
    assert trainer.model.nc == 2
    assert equal(trainer) == plain < len(source)
    assert trainer.foveate_transfer == Transfer(plain, len(source), 24, 24)


def test_from_yaml_the_host_starts_as_ultralytics_starts_it(small, squares, tmp_path):
    plain = rebuilt(YOLO(small), squares, tmp_path, seed=7).model.state_dict()
    yolo = attach(YOLO(small), "cbam", at=PLACES)
    lively(yolo.model)
    trainer = rebuilt(yolo, squares, tmp_path, seed=7)
    trained = trainer.model.state_dict()
    assert all(torch.equal(trained[key], value) for key, value in plain.items())
    wanted = attention_state(yolo.model)
    assert all(torch.equal(trained[key], value) for key, value in wanted.items())
    assert trainer.foveate_transfer == Transfer(0, len(plain), 24, 24)


def test_several_attachments_seats_and_switches_survive(small, squares, tmp_path):
    yolo = attach(attach(YOLO(small), "se", at=PLACES, name="first"), "eca", at=["model.2", PLACES], name="second")
    next(iter(attended_places(yolo.model).values())).foveate_disabled = frozenset({"first"})
    trainer = rebuilt(yolo, squares, tmp_path)
    for one, other in zip(attended_places(yolo.model).items(), attended_places(trainer.model).items(), strict=True):
        assert one[0] == other[0]
        assert one[1].foveate_seats == other[1].foveate_seats
        assert one[1].foveate_disabled == other[1].foveate_disabled
    assert len(attended_places(trainer.model)) == 3


@pytest.mark.parametrize("task", TASKS)
def test_every_task_rebuilds_with_attention(task):
    yolo = attach(YOLO(TASKS[task]), "se", at="model.*.m.*.cv2")
    lively(yolo.model)
    kept = attended_trainer(yolo.task_map[task]["trainer"], yolo.model)
    trainer = object.__new__(kept)  # the network alone: no data set is needed for that
    trainer.resume, trainer.callbacks = False, {}
    trainer.args = type("Args", (), {"pretrained": True, "dropout": 0.0, "overlap_mask": True})()
    classes = yolo.model.yaml["nc"]
    trainer.data = {
        "nc": classes,
        "channels": 3,
        "names": dict(enumerate(map(str, range(classes)))),
        "kpt_shape": [17, 3],
    }
    yolo.model.requires_grad_(False)  # as in a checkpoint
    network = trainer.get_model(cfg=yolo.model.yaml, weights=yolo.model, verbose=False)
    assert all(parameter.requires_grad for _, parameter in foveate.surgery.attention_parameters(network))
    total = len(yolo.model.state_dict()) - len(attention_state(yolo.model))
    assert trainer.foveate_transfer == Transfer(total, total, *[len(attention_state(yolo.model))] * 2)
    side = {"classify": 32}.get(task, 64)
    assert torch.equal(output(network, image(side)), output(yolo.model, image(side)))


def test_attention_of_other_weights_is_taken_over(small, squares, tmp_path):
    trained = attach(YOLO(small), "se", at=PLACES)
    lively(trained.model)
    path = checkpoint(trained, tmp_path)
    trainer = rebuilt(attach(YOLO(small), "se", at=PLACES), squares, tmp_path, pretrained=str(path))
    assert trainer.foveate_transfer.attention == 10
    for key, value in attention_state(YOLO(path).model).items():
        assert torch.equal(trainer.model.state_dict()[key], value)


@pytest.mark.parametrize("at", ["residual", "pre", "post", "identity", "neck", "stage"])
def test_every_kind_of_place_is_found_again(at):
    yolo = attach(YOLO("yolov8n.yaml"), "se", at=at)
    before = output(lively(yolo.model))
    fresh = YOLO("yolov8n.yaml").model
    fresh.load(yolo.model, verbose=False)
    assert not torch.equal(output(fresh), before)
    assert torch.equal(output(transplant(yolo.model, fresh)), before)
    assert fresh.state_dict().keys() == yolo.model.state_dict().keys()
    assert attended_places(detach(yolo).model) == {}
    assert attended_places(foveate.detach(fresh)) == {}


def test_a_network_of_another_architecture_is_refused(small, tmp_path):
    source = attach(YOLO(small), "se", at=PLACES).model
    other = tmp_path / "other.yaml"
    other.write_text(SMALL.replace("C2f, [16", "C2f, [32"))
    with pytest.raises(PlaceError, match=r"'model\.2\.m\.0\.cv2\.\S+' is 16\S* in the network built anew, and was 8"):
        transplant(source, YOLO(other).model)
    other.write_text(SMALL.replace("C2f, [16, True]", "Conv, [16, 3, 1]"))
    with pytest.raises(PlaceError, match=r"the network built anew has no 'model\.2\.m\.0\.cv2'"):
        transplant(source, YOLO(other).model)
    with pytest.raises(PlaceError, match="carries attention already"):
        transplant(source, copy.deepcopy(source))


def test_tuning_is_refused(small):
    with pytest.raises(FoveateError, match="would leave cbam out"):
        attach(YOLO(small), "cbam", at=PLACES).tune(iterations=1)


def test_a_trainer_that_sets_its_network_up_otherwise_is_refused(small, squares, tmp_path):
    class Own(DetectionTrainer):
        def setup_model(self):
            self.model = YOLO(small).model

    yolo = attach(YOLO(small), "se", at=PLACES)
    with pytest.raises(FoveateError, match="sets its network up without get_model"):
        yolo.train(trainer=Own, **training(squares, tmp_path))


def test_attention_learns_and_is_in_the_checkpoints_and_in_the_average(small, squares, tmp_path):
    yolo = attach(YOLO(small), "cbam", at=PLACES)
    started = {key: value.clone() for key, value in attention_state(yolo.model).items()}
    average = {}
    yolo.add_callback("on_train_end", lambda trainer: average.update(attention_state(trainer.ema.ema)))
    yolo.train(**training(squares, tmp_path, epochs=2, multi_scale=0.5, optimizer="AdamW"))
    learned = attention_state(yolo.trainer.model)
    parameters = dict(foveate.surgery.attention_parameters(yolo.trainer.model))
    assert learned.keys() == started.keys()
    still = [key for key in parameters if torch.equal(learned[key], started[key])]
    assert not still
    assert average.keys() == started.keys()
    for name in ("last.pt", "best.pt"):
        saved = attention_state(YOLO(tmp_path / "run" / "weights" / name).model)
        assert saved.keys() == started.keys()
    assert all(torch.equal(saved[key], average[key].half().float()) for key in saved)
    assert attention_state(yolo.model).keys() == started.keys()  # what train() loads in the end


@pytest.mark.parametrize("by", ["checkpoint", "path"])
def test_a_run_is_resumed_from_its_checkpoint(small, squares, tmp_path, by):
    yolo = attach(YOLO(small), "cbam", at=PLACES)

    def interrupt(trainer):
        if trainer.epoch == 1:
            raise KeyboardInterrupt

    yolo.add_callback("on_train_batch_end", interrupt)
    with pytest.raises(KeyboardInterrupt):
        yolo.train(**training(squares, tmp_path, epochs=3))
    last = tmp_path / "run" / "weights" / "last.pt"
    saved = torch.load(last, weights_only=False)
    held = {key: value.clone() for key, value in attention_state(saved["ema"].float()).items()}
    assert len(held) == 24
    assert saved["epoch"] == 0
    seen = {}

    def look(trainer):
        seen["first"], seen["moments"] = trainer.start_epoch, len(trainer.optimizer.state_dict()["state"])
        for network in (trainer.model, trainer.ema.ema):
            assert attention_state(network).keys() == held.keys()
            assert all(torch.equal(attention_state(network)[key], value) for key, value in held.items())

    # by path, what the YOLO itself carries does not count
    resumed = keep(YOLO(last)) if by == "checkpoint" else attach(YOLO(small), "eca", at="model.3")
    resumed.add_callback("on_pretrain_routine_end", look)
    resumed.train(resume=True if by == "checkpoint" else str(last))
    assert seen == {"first": 1, "moments": len(saved["optimizer"]["state"])}
    assert seen["moments"] > 24
    assert resumed.trainer.epoch == 2
    learned = attention_state(resumed.trainer.model)
    assert all(not torch.equal(learned[key], value) for key, value in held.items() if key.endswith("blend"))
    assert attention_state(resumed.model).keys() == held.keys()


def test_resuming_without_the_integration_fails_loudly(small, squares, tmp_path):
    yolo = attach(YOLO(small), "se", at=PLACES)
    yolo.train(**training(squares, tmp_path, epochs=1, save_period=1))
    unfinished = torch.load(tmp_path / "run" / "weights" / "epoch0.pt", weights_only=False)
    unfinished["train_args"]["epochs"] = 2
    torch.save(unfinished, tmp_path / "run" / "weights" / "epoch0.pt")
    with pytest.raises((ValueError, RuntimeError)):
        YOLO(tmp_path / "run" / "weights" / "epoch0.pt").train(resume=True)


def test_the_same_yolo_trains_again(small, squares, tmp_path):
    yolo = attach(YOLO(small), "se", at=PLACES)
    yolo.train(**training(squares, tmp_path))
    first = {key: value.clone() for key, value in attention_state(yolo.model).items()}
    trainer = rebuilt(yolo, squares, tmp_path)
    assert trainer.foveate_transfer.attention == trainer.foveate_transfer.attention_total == len(first) == 10
    assert trainer.foveate_transfer.host == trainer.foveate_transfer.host_total
    assert all(torch.equal(attention_state(trainer.model)[key], value) for key, value in first.items())


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW", "MuSGD"])
def test_every_attention_parameter_is_optimised_once_and_blends_without_decay(small, squares, tmp_path, optimizer):
    yolo = attach(YOLO(small), "cbam", at=PLACES)
    trainer = rebuilt(yolo, squares, tmp_path, optimizer=optimizer)
    groups = [(id(p), group) for group in trainer.optimizer.param_groups for p in group["params"]]
    assert len({number for number, _ in groups}) == len(groups)
    assert {number for number, _ in groups} == {id(p) for p in trainer.model.parameters()}
    decay = {number: group["weight_decay"] for number, group in groups}
    rate = {number: group["initial_lr"] for number, group in groups}
    for name, parameter in foveate.surgery.attention_parameters(trainer.model):
        assert parameter.requires_grad, name
        assert (decay[id(parameter)] == 0) is (parameter.ndim <= 1), name
        assert rate[id(parameter)] == 0.01, name


def test_attention_in_frozen_layers_is_reported(small, squares, tmp_path):
    with pytest.warns(FoveateWarning, match=r"freeze holds 5 of the attention's 10 parameters.*model\.2\.m\.0\.cv2"):
        rebuilt(attach(YOLO(small), "se", at=PLACES), squares, tmp_path, freeze=3)


def test_the_average_copies_attention(small):
    yolo = attach(YOLO(small), "cbam", at=PLACES)
    average = ModelEMA(yolo.model, decay=0.5, tau=1e-9)
    lively(yolo.model)
    average.update(yolo.model)
    for key, value in attention_state(yolo.model).items():
        if value.dtype.is_floating_point and "blend" in key:
            assert torch.allclose(attention_state(average.ema)[key], value / 2)


@pytest.mark.parametrize("at", [PLACES, "model.2", re.compile(r"model\.[0-4]")])
def test_fuse_keeps_attention_and_outputs(small, at):
    yolo = attach(YOLO(small), "cbam", at=at)
    network = lively(yolo.model)
    before = output(network)
    with_attention = {host_path(network, path) for path in attended_places(network)}
    assert not torch.equal(before, output(detach(copy.deepcopy(yolo)).model))
    yolo.fuse(verbose=False, imgsz=64)
    assert not any(isinstance(module, nn.BatchNorm2d) and "foveate" not in name for name, module in
                   yolo.model.named_modules() if name.startswith("model.0"))  # fmt: skip
    assert {host_path(yolo.model, path) for path in attended_places(yolo.model)} == with_attention
    assert torch.allclose(output(yolo.model), before, rtol=1e-4, atol=1e-3)


def test_folding_that_moves_a_map_is_seen():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn, self.out = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)

        def forward(self, x):
            return self.out(self.bn(self.conv(x)))

    def fold(network):
        network.conv, network.bn = torch.nn.utils.fuse_conv_bn_eval(network.conv, network.bn), nn.Identity()
        return network

    whole = foveate.attach(Block(), "se", at="out", example=image(16))
    assert lost_by(whole, fold, image(16)) == []
    norm = foveate.attach(Block(), "se", at="bn", example=image(16))
    assert lost_by(norm, fold, image(16)) == ["bn"]
    assert lost_by(norm, lambda copied: copied, image(16)) == []
    convolution = foveate.attach(
        Block(), "se", at=re.compile("conv"), example=image(16)
    )  # the norm is fresh: folded, it hides
    assert lost_by(convolution, fold, image(16)) == ["conv"]


def test_export_to_onnx_and_torchscript_agrees(small, tmp_path, monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    yolo = attach(YOLO(small), "cbam", at=PLACES)
    lively(yolo.model)
    x, before = image(), output(yolo.model)
    session = onnxruntime.InferenceSession(yolo.export(format="onnx", imgsz=64, device="cpu"))
    onnx = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    assert np.allclose(onnx, before.numpy(), rtol=1e-4, atol=1e-3)
    script = torch.jit.load(yolo.export(format="torchscript", imgsz=64, device="cpu"))(x)
    assert torch.allclose(script[0] if isinstance(script, tuple | list) else script, before, rtol=1e-4, atol=1e-3)


def test_a_yolo_copies_and_pickles_with_its_training(small, squares, tmp_path):
    yolo = attach(YOLO(small), "se", at=PLACES)
    lively(yolo.model)
    for twin in (copy.deepcopy(yolo), pickle.loads(pickle.dumps(yolo))):
        assert torch.equal(output(twin.model), output(yolo.model))
        with torch.no_grad():
            attention_state(twin.model)["model.2.m.0.cv2.foveate.squeeze_excite.blend"].fill_(3)
        trainer = rebuilt(twin, squares, tmp_path)
        assert attention_state(trainer.model)["model.2.m.0.cv2.foveate.squeeze_excite.blend"] == 3


@pytest.mark.slow
def test_a_trainer_crosses_to_another_process_as_ddp_sends_it(small, squares, tmp_path):
    """Workers get the class, the arguments and the network by cloudpickle; the class is made on the fly."""
    cloudpickle = pytest.importorskip("cloudpickle")
    yolo = attach(YOLO(small), "se", at=PLACES)
    lively(yolo.model)
    trainer = rebuilt(yolo, squares, tmp_path)
    sent = tmp_path / "sent.pt"
    torch.save({"trainer": type(trainer), "args": vars(trainer.args)}, sent, pickle_module=cloudpickle)
    code = f"""
import torch
from foveate.surgery.adapters.transplant import attention_state
state = torch.load({str(sent)!r}, weights_only=False)
trainer = state["trainer"](overrides=state["args"])
trainer.model = {str(small)!r}
trainer.setup_model()
print("RESULT", trainer.foveate_transfer)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=False)
    assert "RESULT 0 of" in done.stdout, done.stderr[-3000:]
    assert "10 of 10 attention tensors" in done.stdout


def test_where_ultralytics_is_missing_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ultralytics.engine.model", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'foveate\[ultralytics\]'"):
        keep(object())


def test_a_saved_yolo_can_be_read_from_memory(small, tmp_path):
    yolo = attach(YOLO(small), "cbam", at=PLACES)
    lively(yolo.model)
    path = checkpoint(yolo, tmp_path)
    again = YOLO(Path(path))
    assert torch.allclose(output(again.model), output(yolo.model.half().float()))
    buffer = io.BytesIO()
    torch.save(again.model, buffer)
    buffer.seek(0)
    assert torch.equal(output(torch.load(buffer, weights_only=False)), output(again.model))
