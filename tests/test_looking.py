"""`foveate look` as a person and as a script meet it."""

import io
import json
import shlex
import sys
from dataclasses import dataclass
from inspect import signature
from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console

from foveate import attach, hosts
from foveate.cli import main
from foveate.cli.looking import _command, _of_run, look
from foveate.cli.words import telling
from foveate.train.album import _whence, frame_for, padding, samples_of, sizes_of, trained
from foveate.train.assembly import Assembly, save_model

CLOTHES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
THINGS = ("T-shirt/top", "Trouser", "Bag", "Ankle boot")
SETTINGS = {
    "classification": ("foveate/resnet8", "se", None, 1, CLOTHES, {"size": 28}),
    "segmentation": ("foveate/unet", "se", "skip", 3, ("ground", *THINGS), {"crop": 96, "width": 4}),
    "detection": ("foveate/fcos_resnet18_fpn", "se", "backbone.body.layer4.1.bn2", 3, THINGS, {"size": 96}),
}


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run(monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["foveate", "look", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        return Done(stop.value.code, *capsys.readouterr())

    return call


def saved(folder, work):
    """A run's folder with a network that was never trained."""
    host, attention, at, channels, classes, options = SETTINGS[work]
    assembly = Assembly(work, host, classes, channels, attention, at, "paper", options)
    network, _ = assembly.build()
    save_model(folder / "model", network, assembly)
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("run"), "classification")


@pytest.fixture
def photos(tmp_path):
    for name, shade in (("cat/1.png", 40), ("dog/2.png", 200)):
        (tmp_path / "photos" / name).parent.mkdir(parents=True)
        Image.new("RGB", (40, 30), (shade, 90, 90)).save(tmp_path / "photos" / name)
    (tmp_path / "photos" / "cat" / "0.png").write_bytes(b"")
    return tmp_path / "photos"


def test_a_run_is_looked_at_on_its_own_test_samples(run, checkpoint, tmp_path):
    done = run("--checkpoint", checkpoint, "--shown", 1, "--measured", 3, "--examples", 0, "--out", tmp_path / "a")
    assert done.returncode == 0, done.stderr
    assert "Squeeze-and-Excitation (attached by foveate, channel) at 3 places" in done.stdout
    assert "1 of 500 images is shown, 3 are measured and 497 are left out" in done.stdout
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"album.html", "album.json"}
    told = json.loads((tmp_path / "a" / "album.json").read_text(encoding="utf-8"))
    assert told["images"][0]["label"] in CLOTHES
    again = run("--checkpoint", checkpoint, "--out", tmp_path / "a")
    assert (again.returncode, "--overwrite" in again.stderr) == (1, True)


def test_a_host_with_weights_and_attention_from_a_file(run, photos, tmp_path):
    model = attach(hosts.build("foveate/resnet8", classes=2), "eca", start="paper")
    torch.save(model.state_dict(), tmp_path / "net.pt")
    how = ("--weights", tmp_path / "net.pt", "--classes", "cat,dog", "--examples", 0, "--out", tmp_path / "a", "--json")
    done = run(photos, "--host", "foveate/resnet8", "--attention", "eca", *how)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [(one["name"], one["label"]) for one in told["images"]] == [("cat/1.png", "cat"), ("dog/2.png", "dog")]
    assert told["left_out"] == [{"name": "cat/0.png", "reason": "is empty (0 bytes)"}]
    assert told["network"]["cautions"] == []
    assert "net.pt (SHA-256" in told["network"]["origin"]["weights"]
    unnamed = run(photos, "--host", "foveate/resnet8", *how, "--overwrite")
    assert (unnamed.returncode, "name it with --attention" in unnamed.stderr) == (2, True)


@pytest.mark.slow
def test_fresh_attention_in_a_trained_host_is_warned_of_first(run, photos, tmp_path):
    torch.save(hosts.build("foveate/resnet8", classes=2).state_dict(), tmp_path / "net.pt")
    done = run(photos, "--host", "foveate/resnet8", "--weights", tmp_path / "net.pt", "--attention", "se", "--examples",
               0, "--out", tmp_path / "a")  # fmt: skip
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "a" / "album.html").read_text(encoding="utf-8")
    assert "multiplies by exactly 1" in done.stdout
    assert page.index("multiplies by exactly 1") < page.index('id="network"')


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name one network"),
        (["--host", "foveate/resnet8", "--checkpoint", "x"], "name one network"),
        (["--host", "foveate/resnet8"], "which pictures?"),
        (["--host", "foveate/resnet8", "--data", "x"], "--data goes with --checkpoint"),
        (["--checkpoint", "nowhere"], "holds no trained network"),
        (["--checkpoint", "x", "--attention", "se", "--at", "conv"], "--attention, --at would"),
        (["--checkpoint", "x", "--labels", "x.csv"], "--labels goes with pictures"),
        (["--checkpoint", "x", "--pictures", "gif"], "svg or png"),
        (["--checkpoint", "x", "--measured", "0"], "--measured must be a whole number of at least 1"),
        (["nowhere.png", "--host", "foveate/resnet8"], "there is no picture or folder 'nowhere.png'"),
        (["nowhere.png", "--host", "torch/resnet8"], "there are no hosts from 'torch'"),
        (["nowhere.png", "--host", "foveate/resnet8", "--weights", "nowhere.pt"], "there is no file 'nowhere.pt'"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(run, tmp_path, arguments, words):
    done = run(*arguments, "--out", tmp_path / "a")
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "a").exists()


def test_weights_say_how_many_classes_there_are(tmp_path):
    from foveate.hosts.build import as_trained

    torch.save(hosts.build("timm/lcnet_050", classes=4, in_channels=1).state_dict(), tmp_path / "net.pt")
    network = as_trained("timm/lcnet_050", str(tmp_path / "net.pt")).eval()
    assert network(torch.zeros(1, 1, 64, 64)).shape == (1, 4)


@pytest.mark.slow
def test_a_detector_sees_whole_pictures_in_one_frame(photos, tmp_path):
    Image.new("RGB", (60, 20)).save(photos / "dog" / "3.png")
    assert sorted(sizes_of([photos])) == [(20, 60), (30, 40), (30, 40)]
    subject, _ = trained(saved(tmp_path / "run", "detection"), sizes_of([photos]))
    # resized by 8/3, to 80 by 160; its layers make 96 of 80, which is 36 by 8/3
    assert subject.prepare.size == (36, 60)
    assert subject.classes[:2] == ("nothing", "T-shirt/top")


def test_the_command_on_the_page_makes_the_same_album_again():
    usual = {name: one.default for name, one in signature(look).parameters.items()}
    assert usual["measured"] >= 299  # below, no classifier's attention can be called a constant
    words = {**usual, "images": [Path("a b"), Path("k\udcf6ter")], "host": "timm/lcnet_050", "measured": 64, "most": 2}
    told = _command(words)
    told.encode()  # text, whatever the name of a file is
    assert shlex.split(told)[2:] == [
        "a b", "k\\xf6ter", "--host", "timm/lcnet_050", "--shown", "2", "--measured", "64",
    ]  # fmt: skip
    assert _command({**usual, "checkpoint": Path("run")}) == "foveate look --checkpoint run"


def test_a_folder_that_is_called_like_a_class_says_nothing_of_masks(tmp_path):
    (tmp_path / "Bag").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "Bag" / "a.png")
    checkpoint = saved(tmp_path / "run", "segmentation")
    _, images = _of_run(checkpoint, [tmp_path / "Bag"], None, None, {"most": 1, "measured": 1})
    assert images.seen[0].truth is None


def detector(shortest: int, longest: int) -> torch.nn.Module:
    from torchvision.models.detection.transform import GeneralizedRCNNTransform

    network = torch.nn.Module()
    network.transform = GeneralizedRCNNTransform(shortest, longest, [0.5, 0.4, 0.2], [0.25] * 3)  # multiples of 32
    return network


@pytest.mark.parametrize(
    ("shortest", "size", "frame"),
    [(64, (64, 72), (64, 96)), (64, (72, 64), (96, 64)), (96, (48, 60), (48, 64)), (64, (64, 96), (64, 96))],
)
def test_a_detector_adds_nothing_to_the_frame_of_its_pictures(shortest, size, frame):
    network = detector(shortest, 200)
    found = frame_for(network, size)
    assert found.size == frame
    assert padding(network, found.size) == ()


def test_a_detector_is_given_what_it_would_have_made_of_the_picture_itself():
    network = detector(64, 200)
    pixels = torch.randint(0, 256, (3, 64, 72), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    framed = frame_for(network, (64, 72))("a", pixels, None).given
    (with_frame, _), (alone, _) = network.transform([framed]), network.transform([pixels.float() / 255])
    assert with_frame.tensors.shape == alone.tensors.shape
    assert torch.equal(with_frame.tensors[..., :72], alone.tensors[..., :72])
    # what is added is a byte, half a step off at most
    assert (with_frame.tensors - alone.tensors).abs().max() <= 0.5001 / 255 / 0.25


def test_what_a_detector_adds_is_said_where_no_frame_can_help():
    network = detector(80, 200)  # 80 becomes 96 whatever the frame
    found = frame_for(network, (80, 96))
    assert found.size == (80, 96)
    [note] = padding(network, found.size)
    assert "adds 17% of nothing" in note
    assert padding(detector(64, 200), (64, 95)) == ()  # a hundredth is not seen


@pytest.mark.slow
@pytest.mark.parametrize("work", ["segmentation", "detection"])
def test_every_kind_of_work_has_an_album(run, tmp_path, work):
    folder = saved(tmp_path / "run", work)
    done = run("--checkpoint", folder, "--shown", 1, "--measured", 2, "--examples", 2, "--out", tmp_path / "a")
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "a" / "album.json").read_text(encoding="utf-8"))
    assert told["images"][0]["label"]
    assert told["trust"]["known"]


@pytest.mark.slow
def test_truths_of_test_samples_are_the_networks_numbers(tmp_path):
    subject, images = samples_of(saved(tmp_path / "run", "detection"), None, most=1, measured=2)
    things = images.seen[0].truth
    assert subject.classes[things[0].label] != "nothing"
    assert images.seen[0].region().any()


def test_a_log_is_told_what_is_being_done(run, checkpoint, tmp_path):
    done = run("--checkpoint", checkpoint, "--shown", 2, "--measured", 4, "--examples", 0, "--out", tmp_path / "a")
    assert done.returncode == 0
    told = done.stderr.splitlines()
    assert [line.partition(":")[0] for line in told] == [
        "reading images", "asking the network", "drawing images", "measuring how far the maps can be trusted",
        "measuring what the attention costs", "writing",
    ]  # fmt: skip


def test_a_page_says_which_weights_a_run_began_with_and_which_it_kept(tmp_path):
    def written(**plan):
        (tmp_path / "run.json").write_text(json.dumps({"recipe": {"epochs": 3}, "weights": None, **plan}))
        return _whence(tmp_path)

    (tmp_path / "report.json").write_text(json.dumps({"best": {"epoch": 2.0}}))
    assert written().endswith("3 epochs, of which the weights after epoch 2 are kept")
    assert written(weights="/some/where/resnet20.safetensors").endswith(
        ", begun with the weights 'resnet20.safetensors'"
    )
    assert written(weights="pretrained").endswith(", begun with the weights 'pretrained'")
    assert written(recipe={"epochs": 2}).endswith("2 epochs")  # the last one is the best


def test_a_log_is_told_again_after_a_while_of_the_same(monkeypatch):
    clock = iter([0.0, 10.0, 31.0, 40.0])
    monkeypatch.setattr("foveate.cli.words.monotonic", lambda: next(clock))
    file = io.StringIO()
    with telling(Console(file=file), "") as say:
        for done in range(4):
            say(f"reading: {done} of [4]")
    assert file.getvalue().splitlines() == ["reading: 0 of [4]", "reading: 2 of [4]"]
