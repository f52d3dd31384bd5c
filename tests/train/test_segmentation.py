"""Segmentation: metrics, losses, windows, what chance does to images and masks, and a whole run by names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from foveate.data.chance import generator
from foveate.data.masks.scenes import scene_masks
from foveate.data.masks.segmentation import IGNORE
from foveate.errors import OptionError
from foveate.surgery.attended import attended_places
from foveate.train import Recipe, fit
from foveate.train.assembly import assembled
from foveate.train.cropping import centred, changed, resized
from foveate.train.kinds import kind_of
from foveate.train.kinds.segmentation import SegmentationOptions
from foveate.train.looking import look_of
from foveate.train.pixels import Normalise
from foveate.train.predicting import predict
from foveate.train.running import read_settings, split_settings, train
from foveate.train.segmentation import SemanticSegmentation, dice_loss, shares_of
from foveate.train.sliding import Windows

CLASSES = ("ground", "leaf", "stem")


class Pairs:
    """Images whose brightness says the class, of several sizes; some pixels are of none."""

    def __init__(self, count: int, first: int = 0) -> None:
        self.names = tuple(f"{number}.png" for number in range(first, first + count))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng(int(self.names[index].split(".")[0]))
        height, width = rng.integers(20, 40, 2)
        mask = rng.integers(0, 3, (-(-height // 4), -(-width // 4))).repeat(4, 0).repeat(4, 1)[:height, :width]
        pixels = torch.from_numpy(mask * 100 + rng.integers(0, 20, mask.shape)).to(torch.uint8)
        mask = np.where(rng.random(mask.shape) < 0.05, IGNORE, mask)
        return pixels.expand(3, -1, -1).clone(), torch.from_numpy(mask.astype(np.uint8))


def pointwise(classes: int = 3) -> nn.Module:
    """A network that looks at one pixel only."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, classes, 1))


def task(network: nn.Module | None = None, recipe: Recipe | None = None, **options: Any) -> SemanticSegmentation:
    recipe = Recipe(1, batch_size=4) if recipe is None else recipe
    options = {"classes": CLASSES, "crop": 16, **options}
    return SemanticSegmentation(network or pointwise(), Pairs(8), Pairs(4, 100), recipe, **options)


def counted_by_hand(pairs: Sequence[tuple[np.ndarray, np.ndarray]], classes: int) -> dict[str, float]:
    """Sets of pixels, one class after the other, over all images; classes that nobody names do not count."""
    union, dice = [], []
    right = everything = 0
    for number in range(classes):
        both = either = sizes = 0
        for said, real in pairs:
            a, b = (said == number) & (real != IGNORE), real == number
            both, either, sizes = both + (a & b).sum(), either + (a | b).sum(), sizes + a.sum() + b.sum()
        if either:
            union.append(both / either)
            dice.append(2 * both / sizes)
    for said, real in pairs:
        right += (said == real).sum()
        everything += (real != IGNORE).sum()
    return {"miou": np.mean(union), "dice": np.mean(dice), "accuracy": right / everything}


@pytest.mark.parametrize("classes", [3, 5])
def test_numbers_are_those_counted_by_hand(classes: int) -> None:
    """With five classes two are nowhere, and count for nothing; images differ in size and go in several batches."""
    rng = np.random.default_rng(3)
    learner = task(classes=[str(number) for number in range(classes)])
    learner.setup("fit")
    metrics = learner.new_metrics("validation")
    seen = []
    for size in ((4, 7), (9, 3), (5, 5)):
        real = rng.integers(0, 3, size).astype(np.uint8)
        real[0, :2] = IGNORE
        said = np.where(rng.random(size) < 0.6, real, rng.integers(0, 3, size)) % 3
        seen.append((said, real))
        learner.count(metrics, [torch.from_numpy(said).long()], ([], [torch.from_numpy(real)]))
    found, expected = learner.read(metrics), counted_by_hand(seen, classes)
    assert {name: pytest.approx(value, abs=1e-6) for name, value in expected.items()} == found
    table = learner.details()["classes"]["1"]
    assert table["pixels"] == sum(int((real == 1).sum()) for _, real in seen)


def test_validation_looks_at_whole_images_one_by_one() -> None:
    learner = task()
    learner.setup("fit")
    learner.eval()
    samples = [Pairs(3)[index] for index in range(3)]
    with torch.no_grad():
        loss, said = learner.step(learner.collate([learner.prepare(one, None) for one in samples]))
        logits = [learner.network(Normalise.usual(3)(pixels[None]))[0] for pixels, _ in samples]
    assert [one.shape for one in said] == [mask.shape for _, mask in samples]
    assert all(torch.equal(one, whole.argmax(0)) for one, whole in zip(said, logits, strict=True))
    by_hand = []
    for whole, (_, mask) in zip(logits, samples, strict=True):
        shares, real = whole.softmax(0).numpy(), mask.numpy()
        there = [(number, y, x) for (y, x), number in np.ndenumerate(real) if number != IGNORE]
        by_hand.append(np.mean([-np.log(shares[place]) for place in there]))
    assert float(loss) == pytest.approx(np.mean(by_hand), rel=1e-5)


@pytest.mark.parametrize("size", [(16, 16), (5, 40), (17, 16), (33, 47), (100, 31), (1, 1)])
def test_windows_give_what_the_whole_image_gives(size: tuple[int, int]) -> None:
    """For a network that looks at one pixel at a time, whatever the windows."""
    pixels = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    network, normalise = pointwise(), Normalise.usual(3)
    with torch.no_grad():
        whole = network(normalise(pixels[None])).softmax(1)[0]
        for batch in (1, 3):
            found = shares_of(network, normalise, pixels, 16, batch)
            assert found.shape == (3, *size)
            assert torch.allclose(found, whole, atol=1e-6)


@pytest.mark.parametrize("length", [*range(1, 40), 95, 96, 97])
def test_windows_cover_every_pixel_and_overlap_by_a_third(length: int) -> None:
    windows = Windows.over(length, 16, 16)
    rows = [row for row, _ in windows.corners]
    assert {row + offset for row in rows for offset in range(16)} >= set(range(length))
    assert rows[0] == 0
    assert all(0 < b - a <= 11 for a, b in pairwise(rows))
    assert max(rows) + 16 == max(16, length)
    assert len(rows) == 1 or len(rows) <= 1 + -(-(length - 16) // 11)


def test_beyond_a_small_image_the_network_sees_the_mean_colour() -> None:
    seen: list[Tensor] = []

    class Watching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return x[:, :2]

    shares_of(Watching(), Normalise.usual(3), torch.full((3, 4, 6), 200, dtype=torch.uint8), 8, 2)
    assert seen[0].shape == (1, 3, 8, 8)
    assert not seen[0][0, :, 4:].any()
    assert not seen[0][0, :, :, 6:].any()
    assert seen[0][0, :, :4, :6].all()


def test_image_and_mask_are_changed_alike() -> None:
    """Each pixel's colour is its class, so that it still is after scaling, cutting and mirroring."""
    mask = torch.zeros(48, 40, dtype=torch.uint8)
    mask[8:32, 4:20], mask[30:, 22:] = 1, 2
    pixels = (mask * 100).expand(3, -1, -1)
    seen = set()
    for number in range(30):
        draw = generator("alike", number)
        image, classes = changed((pixels, mask), 32, scale=2.0, colours=0.0, fill=(77, 77, 77), draw=draw)
        assert image.shape == (3, 32, 32)
        assert classes.shape == (32, 32)
        beyond = classes == IGNORE
        assert bool((image[0][beyond] == 77).all())
        near = ((image[0].float() / 100).round() == classes)[~beyond].float().mean()
        assert near > 0.93  # at edges bilinear and nearest differ
        seen.add((bool(beyond.any()), bool(classes[0, 0] == 1)))
    assert len({there for there, _ in seen}) == 2


def test_mirroring_and_cutting_alone_keep_every_pixel() -> None:
    mask = (torch.arange(30 * 30) % 200).reshape(30, 30).to(torch.uint8)
    pair = mask.expand(3, -1, -1), mask
    found = [
        changed(pair, 20, scale=1.0, colours=0.0, fill=(0, 0, 0), draw=generator("cut", number)) for number in range(20)
    ]
    assert all(torch.equal(image[1], classes) for image, classes in found)
    steps = {int(classes[0, 1]) - int(classes[0, 0]) for _, classes in found}
    assert {1, -1} <= steps
    assert len({int(classes[0].min()) for _, classes in found}) > 5


def test_what_chance_does_is_a_function_of_its_stream() -> None:
    pair = Pairs(1)[0]
    options = {"scale": 2.0, "colours": 0.3, "fill": (1, 2, 3)}
    first = changed(pair, 16, draw=generator("same"), **options)
    torch.manual_seed(5)
    again = changed(pair, 16, draw=generator("same"), **options)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], changed(pair, 16, draw=generator("other"), **options)[0])


def test_resizing_a_mask_makes_no_new_class() -> None:
    mask = torch.randint(0, 2, (17, 23)).to(torch.uint8) * 200
    for factor in (0.5, 0.77, 1.3, 2):
        _, classes = resized((torch.zeros(3, 17, 23, dtype=torch.uint8), mask), factor)
        assert set(classes.unique().tolist()) <= {0, 200}


def test_without_augmentation_it_trains_on_the_middle() -> None:
    learner = task(recipe=Recipe(1, batch_size=4, augment=False))
    pixels, mask = learner._plain(Pairs(1)[0], generator("unused"))
    whole, classes = Pairs(1)[0]
    top, left = (classes.shape[0] - 16) // 2, (classes.shape[1] - 16) // 2
    assert torch.equal(pixels, whole[:, top : top + 16, left : left + 16])
    assert torch.equal(mask, classes[top : top + 16, left : left + 16])
    assert centred((whole, classes), 64, (0, 0, 0))[1].shape == (64, 64)


def test_losses_are_those_written_out() -> None:
    rng = np.random.default_rng(0)
    logits, target = torch.randn(2, 3, 4, 5), torch.from_numpy(rng.integers(0, 3, (2, 4, 5)))
    target[0, 0, :2] = IGNORE
    weights = (1.0, 2.0, 0.5)
    learner = task(class_weights=weights)
    shares = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(1, keepdims=True)
    total = weight = 0.0
    for (b, y, x), number in np.ndenumerate(target.numpy()):
        if number != IGNORE:
            total -= weights[number] * np.log(shares[b, number, y, x])
            weight += weights[number]
    logs = logits.log_softmax(1)
    assert float(learner._loss(logs, target)) == pytest.approx(total / weight, rel=1e-5)
    coefficients = []
    for number in range(3):
        there = target.numpy() != IGNORE
        p, g = shares[:, number][there], (target.numpy() == number)[there]
        coefficients.append((2 * (p * g).sum() + 1) / (p.sum() + g.sum() + 1))
    assert float(dice_loss(logs.exp(), target)) == pytest.approx(1 - np.mean(coefficients), rel=1e-5)
    both = task(class_weights=weights, dice=0.5)
    assert float(both._loss(logs, target)) == pytest.approx(
        total / weight + 0.5 * (1 - np.mean(coefficients)), rel=1e-5
    )


def test_a_crop_without_any_class_has_no_loss_and_no_gradient() -> None:
    learner = task(dice=1.0)
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = learner._loss(logits.log_softmax(1), torch.full((1, 4, 4), IGNORE))
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert not logits.grad.any()


class WithAuxiliary(nn.Module):
    """Returns what torchvision's networks do, or PSANet."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.main, self.other, self.way = nn.Conv2d(3, 3, 1, stride=2), nn.Conv2d(3, 3, 1), way

    def forward(self, x: Tensor) -> Any:
        main, other = self.main(x), self.other(x)
        if self.way == "dictionary":
            return {"out": main, "aux": other}
        return (main, other) if self.training else main


@pytest.mark.parametrize("way", ["dictionary", "pair"])
def test_an_auxiliary_head_learns_by_its_share_and_says_nothing_later(way: str) -> None:
    learner, without = task(WithAuxiliary(way)), task(WithAuxiliary(way), auxiliary=0.0)
    without.network.load_state_dict(learner.network.state_dict())
    batch = learner.collate([learner.prepare(Pairs(4)[index], generator("a", index)) for index in range(4)])
    loss, said = learner.step(batch)
    alone, _ = without.step(batch)
    target = torch.stack(batch[1]).long()
    other = learner.network.other(learner.normalise(torch.stack(batch[0])))
    assert float(loss.detach()) == pytest.approx(
        float(alone.detach()) + 0.4 * float(learner._loss(other.log_softmax(1), target).detach()), rel=1e-5
    )
    assert said[0].shape == (16, 16)  # logits of half the size are resized
    loss.backward()
    assert learner.network.other.weight.grad.any()
    learner.eval()
    evaluated, _ = learner.step(batch)
    without.eval()
    assert torch.equal(evaluated, without.step(batch)[0])


def test_it_learns() -> None:
    learner = task(recipe=Recipe(12, batch_size=4, learning_rate=0.3))
    fitted = fit(learner)
    assert fitted.best["validation_miou"] > 0.95
    assert set(fitted.best) >= {"train_miou", "train_loss", "validation_dice", "validation_accuracy"}


def test_a_run_that_is_stopped_within_an_epoch_ends_as_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights bit for bit, and the numbers of the epoch that was stopped."""
    from foveate.train import fitting
    from foveate.train.lightning import pl

    class Stop(pl.Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            if trainer.global_step == 3:
                raise KeyboardInterrupt

    recipe = Recipe(2, batch_size=4)
    usual = fitting.callbacks
    monkeypatch.setattr(fitting, "callbacks", lambda *given: [Stop(), *usual(*given)])
    with pytest.raises(KeyboardInterrupt):
        fit(task(recipe=recipe), tmp_path / "cut", loggers=(), every=1)
    monkeypatch.setattr(fitting, "callbacks", usual)
    cut, whole = task(recipe=recipe), task(recipe=recipe)
    resumed = fit(cut, tmp_path / "cut", loggers=(), every=1, resume=True)
    undisturbed = fit(whole, tmp_path / "whole", loggers=(), every=1)
    assert resumed.history == undisturbed.history
    a, b = cut.network.state_dict(), whole.network.state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(("options", "sentence"), [
    ({"scale": 0.5}, "scale must be from 1 to 8"),
    ({"colours": 1.0}, "colours"),
    ({"dice": -1.0}, "dice"),
    ({"auxiliary": float("nan")}, "auxiliary"),
    ({"class_weights": (1.0,)}, "1 class_weights for 3 classes"),
])  # fmt: skip
def test_numbers_out_of_range_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(OptionError, match=sentence):
        task(**options)


def test_psanet_is_trained_as_its_authors_do() -> None:
    recipe, _ = split_settings("segmentation", {}, "foveate/psanet50")
    assert (recipe.optimizer, recipe.schedule, recipe.power, recipe.new_rate) == ("sgd", "poly", 0.9, 10.0)
    assert split_settings("segmentation", {"new_rate": 2.0}, "foveate/psanet50")[0].new_rate == 2.0
    assert split_settings("segmentation", {})[0].new_rate == 1.0


@pytest.mark.parametrize(("host", "crop"), [("foveate/psanet50", 97), ("smp/unet-resnet18", 96), ("foveate/unet", 96)])
def test_a_crop_is_chosen_by_the_data_and_the_network(host: str, crop: int) -> None:
    settled = kind_of("segmentation").settled(scene_masks(), SegmentationOptions(), host)
    assert settled.crop == crop
    assert kind_of("segmentation").settled(scene_masks(), SegmentationOptions(crop=100), host).crop == 100


def test_psanets_new_layers_have_ten_times_the_rate(tmp_path: Path) -> None:
    from foveate.hosts.segmenters import build_segmenter

    network, _ = build_segmenter("foveate/psanet50", classes=3, crop=17, width=2)
    backbone = {key: value for key, value in network.state_dict().items() if key.startswith("layer")}
    torch.save(backbone, tmp_path / "backbone.pth")
    network, new = build_segmenter("foveate/psanet50", classes=3, crop=17, width=2, weights=tmp_path / "backbone.pth")
    recipe, _ = split_settings("segmentation", {"learning_rate": 0.1}, "foveate/psanet50")
    learner = task(network, recipe, crop=17, new=new)
    groups = learner.configure_optimizers()["optimizer"].param_groups
    rates = {id(one): group["initial_lr"] for group in groups for one in group["params"]}
    names = dict(network.named_parameters())
    assert len(rates) == len(names)
    for name, parameter in names.items():
        assert rates[id(parameter)] == pytest.approx(0.1 if name.startswith("layer") else 1.0), name


def test_settings_are_read() -> None:
    found = read_settings("segmentation", ["psa=none", "crop=97", "instances=yes", "ignore=none", "dice=1"])
    assert found == {"psa": None, "crop": 97, "instances": True, "ignore": None, "dice": 1.0}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A run by names on a small folder, with attention, and one broken image."""
    root = tmp_path_factory.mktemp("run")
    pairs = Pairs(14)
    for name in ("images", "masks"):
        (root / "data" / name).mkdir(parents=True)
    for index in range(len(pairs)):
        pixels, mask = pairs[index]
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(root / "data" / "images" / f"{index}.png")
        Image.fromarray(mask.numpy()).save(root / "data" / "masks" / f"{index}.png")
    (root / "data" / "images" / "13.png").write_bytes(b"nothing")
    (root / "data" / "classes.txt").write_text("ground\nleaf\nstem\n")
    settings = {"epochs": 2, "batch_size": 4, "crop": 16, "width": 4, "balance": True}
    done = train(
        "segmentation", root / "out", data=root / "data", attention="se", at="skip", settings=settings, loggers=()
    )
    return root, done


def test_a_run_by_names_leaves_everything(trained: tuple[Path, Any]) -> None:
    _, done = trained
    report = json.loads((done.folder / "report.json").read_text())
    assert report["network"]["options"]["crop"] == 16
    assert report["data_report"]["skipped"][0]["name"] == "images/13.png"
    assert set(report["test"]["classes"]) == set(CLASSES)
    assert report["cost"]["attention_parameters"] > 0
    assert "| miou |" in (done.folder / "report.md").read_text()


def test_predictions_are_pictures_masks_and_json(trained: tuple[Path, Any]) -> None:
    root, done = trained
    found = predict(done.folder, [root / "data" / "images"], root / "said")
    assert list(found["skipped"]) == ["13.png"]
    assert len(found["images"]) == 13
    said = json.loads((root / "said" / "predictions.json").read_text())["images"]["3.png"]
    pixels, _ = Pairs(14)[3]
    mask = np.asarray(Image.open(root / "said" / said["mask"]))
    assert mask.shape == pixels.shape[1:]
    shares = {CLASSES[number]: float((mask == number).mean()) for number in np.unique(mask)}
    assert said["shares"] == pytest.approx(shares)
    assert Image.open(root / "said" / said["picture"]).size == (pixels.shape[2], pixels.shape[1])
    assert (root / "said" / said["attention"]).is_file()


def test_attention_of_several_windows_is_one_map_of_the_image(trained: tuple[Path, Any]) -> None:
    """Each window's map stands where the window was, at its size."""
    _, done = trained
    from foveate.train.assembly import load_model

    network, assembly = load_model(done.folder)
    said = assembly.kind.say(network, torch.zeros(3, 20, 40, dtype=torch.uint8), CLASSES, assembly.chosen())
    windows = Windows.over(20, 40, 16)
    heats = torch.arange(len(windows.corners)).float().reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    assert said.merge is not None
    merged = said.merge(heats)[0]
    assert merged.shape == (20, 40)
    assert merged[0, 0] == 0
    assert merged[-1, -1] == len(windows.corners) - 1


@pytest.mark.parametrize(("settings", "code", "said"), [
    ([], 1, "images/13.png is not an image that can be read here"),
    (["--set", "on_error=stop"], 2, "13.png is not an image"),
    (["--set", "crp=3"], 2, "did you mean 'crop'"),
])  # fmt: skip
def test_data_is_checked_by_the_command_line(
    trained: tuple[Path, Any],
    settings: list[str],
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from foveate.cli import main

    command = ["foveate", "check-data", "segmentation", str(trained[0] / "data"), *settings]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as stop:
        main()
    out, err = capsys.readouterr()
    assert stop.value.code == code
    assert said in " ".join((out + err).split())


def test_a_network_without_attention_predicts_too(tmp_path: Path, trained: tuple[Path, Any]) -> None:
    root, _ = trained
    settings = {"epochs": 1, "batch_size": 4, "crop": 17, "width": 2, "psa": None}
    options: dict[str, Any] = {"data": root / "data", "settings": settings, "loggers": ()}
    done = train("segmentation", tmp_path / "plain", host="foveate/psanet50", **options)
    found = predict(done.folder, [root / "data" / "images" / "0.png"], tmp_path / "said")
    assert "attention" not in found["images"]["0.png"]


def test_psanets_own_attention_is_shown_by_what_all_take_from_each_position() -> None:
    from foveate.explain import record
    from foveate.hosts.segmenters import build_segmenter

    network, _ = build_segmenter("foveate/psanet50", classes=2, crop=33, width=2)
    with torch.no_grad(), record(network.eval()) as maps:
        network(torch.randn(2, 3, 33, 33))
    look = look_of(maps, lambda heats: list(heats)[-1])
    assert look is not None
    heat = look.heat
    assert not look.diverging
    (height, width), both = heat.shape, list(maps)
    assert [one.step for one in both] == ["collect", "distribute"]
    for row in range(height):
        for column in range(width):
            taken = [
                float(one.values[0, row * width + column, target]) for one in both for target in range(height * width)
            ]
            assert float(heat[row, column]) == pytest.approx(np.mean(taken), rel=1e-4)


@pytest.mark.slow
def test_the_scene_boxes_are_learned_by_the_usual_network(tmp_path: Path) -> None:
    """About 80 seconds of one core: 0.56 of the test scenes' mean IoU when it was written, 0.18 for ground alone."""
    done = train("segmentation", tmp_path, loggers=())
    assert done.report["test"]["miou"] > 0.45


@pytest.mark.parametrize(("attention", "place"), [("cbam", "skip"), ("attention_gate", None), ("odconv", None)])
def test_attention_in_our_u_net_acts_on_its_skips_unless_told_otherwise(attention: str, place: str | None) -> None:
    """It has no residual joins; a gate that is guided, and a mechanism in a convolution's place, know where to go."""
    found = assembled("segmentation", scene_masks(), None, attention=attention)
    assert found.at == place
    network, _ = found.build()
    assert attended_places(network)
