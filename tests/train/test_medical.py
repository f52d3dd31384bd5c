"""Medical training: what is counted is what the definitions say, chance is a function of its stream, and it runs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import foveate
from foveate.data.chance import generator
from foveate.data.medical.folder import subject_folder
from foveate.data.medical.scans import read_mask, read_scan
from foveate.errors import FoveateError, OptionError
from foveate.explain.focus import lesion_focus
from foveate.hosts.medical_networks import build_medical
from foveate.train import Recipe
from foveate.train.loader import Epochs
from foveate.train.medical import MedicalSegmentation
from foveate.train.medical.changes import Crops, Whole, normalised
from foveate.train.medical.classification import auroc, of_patients
from foveate.train.medical.counting import areas, balance, compared, mean, share, silent
from foveate.train.medical.windows import said_of
from foveate.train.predicting import predict
from foveate.train.running import train

np = pytest.importorskip("numpy")
pytest.importorskip("monai")
nibabel = pytest.importorskip("nibabel")
PIL = pytest.importorskip("PIL.Image")


def blob(seed: int, shape: tuple[int, ...]) -> Tensor:
    """A lumpy mask of the classes 0, 1 and 2."""
    from scipy.ndimage import gaussian_filter

    field = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5)
    return torch.from_numpy((field > 0.05).astype(np.int64) + (field > 0.15))


def surface(mask: Any, spacing: tuple[float, ...]) -> Any:
    """Places in mm of positions of a mask with a neighbour outside it, one at a time."""
    found = []
    for at in zip(*np.nonzero(mask), strict=True):
        for axis in range(mask.ndim):
            for step in (-1, 1):
                near = list(at)
                near[axis] += step
                if not 0 <= near[axis] < mask.shape[axis] or not mask[tuple(near)]:
                    found.append(np.multiply(at, spacing))
    return np.unique(np.array(found), axis=0)


def hausdorff95(a: Any, b: Any, spacing: tuple[float, ...]) -> float:
    one, other = surface(a, spacing), surface(b, spacing)
    apart = np.sqrt(((one[:, None] - other[None]) ** 2).sum(-1))
    return max(np.percentile(apart.min(1), 95), np.percentile(apart.min(0), 95))


# what is counted


@pytest.mark.parametrize("shape", [(24, 20), (12, 10, 11)])
def test_dice_and_hausdorff_are_what_their_definitions_say(shape: tuple[int, ...]) -> None:
    spacing = (0.7, 2.0, 3.1)[: len(shape)]
    said, truth = blob(1, shape), blob(2, shape)
    rows = compared(said, truth, spacing, 3)
    for number in (1, 2):
        a, b = (said == number).numpy(), (truth == number).numpy()
        dice, distance, hit, missed, false, rest = rows[number - 1].tolist()
        assert dice == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()), abs=1e-6)
        assert distance == pytest.approx(hausdorff95(a, b, spacing), abs=1e-5)
        assert (hit, missed, false, rest) == ((a & b).sum(), (~a & b).sum(), (a & ~b).sum(), (~a & ~b).sum())


def test_a_class_that_is_missed_or_made_up_is_counted_as_silent_and_not_as_good() -> None:
    square = torch.zeros(8, 8, dtype=torch.int64)
    square[2:5, 2:5] = 1
    nothing = torch.zeros_like(square)
    rows = torch.stack(
        [
            compared(*pair, (1.0, 1.0), 2)
            for pair in ((nothing, square), (square, nothing), (nothing, nothing), (square, square))
        ]
    )
    assert silent(rows) == 2
    assert rows[0, 0, 0] == 0
    assert [math.isnan(one) for one in rows[:, 0, 1].tolist()] == [True, True, True, False]


def test_connected_areas_are_found_where_half_of_them_is_said() -> None:
    truth = torch.zeros(9, 9, dtype=torch.int64)
    truth[0, 0:4], truth[4, 4], truth[5, 5], truth[8, 0:3] = 1, 1, 1, 1
    said = torch.zeros_like(truth)
    said[0, 0:2], said[4, 4], said[8, 0] = 1, 1, 1
    assert areas(said, truth, 1) == (2, 3), "corners touch, so that (4, 4) and (5, 5) are one"


@pytest.mark.parametrize(("hits", "of"), [(0, 7), (5, 9), (40, 40)])
def test_intervals_are_wilsons(hits: int, of: int) -> None:
    z, p = 1.959963984540054, hits / of
    middle = (p + z * z / (2 * of)) / (1 + z * z / of)
    half = z * math.sqrt(p * (1 - p) / of + z * z / (4 * of * of)) / (1 + z * z / of)
    found = share(hits, of)
    assert (found["low"], found["high"]) == pytest.approx((max(0, middle - half), min(1, middle + half)), abs=1e-12)
    assert share(0, 0)["value"] is None


def test_a_mean_is_of_patients_and_its_interval_widens_with_few() -> None:
    many = mean([1.0] * 9 + [0.0, math.nan], [1] * 9 + [2, 3])
    assert (many["value"], many["patients"]) == (0.5, 2)
    values = np.random.default_rng(0).normal(size=200).tolist()
    found = mean(values, list(range(200)))
    half = 1.96 * np.std(values) / math.sqrt(200)
    assert found["high"] - found["value"] == pytest.approx(half, rel=0.15)
    assert found["value"] - found["low"] == pytest.approx(half, rel=0.15)


def test_the_area_under_the_curve_is_the_share_of_pairs_in_order() -> None:
    draw = np.random.default_rng(3)
    shares = torch.from_numpy(draw.dirichlet((1, 1, 1), 40)).float()
    labels = torch.from_numpy(draw.integers(0, 3, 40))
    expected = []
    for number in range(3):
        inside, outside = (shares[mask, number].tolist() for mask in (labels == number, labels != number))
        expected.append(np.mean([float(a > b) + 0.5 * float(a == b) for a in inside for b in outside]))
    assert auroc(shares, labels) == pytest.approx(np.mean(expected), abs=1e-6)
    assert math.isnan(auroc(shares, torch.zeros(40)))


def test_images_of_a_patient_are_one_voice() -> None:
    rows = torch.tensor([[4, 0, 0.9, 0.1], [2, 1, 0.6, 0.4], [4, 0, 0.1, 0.9], [4, 0, 0.2, 0.8]])
    labels, shares = of_patients(rows)
    assert labels.tolist() == [1, 0]
    torch.testing.assert_close(shares, torch.tensor([[0.6, 0.4], [0.4, 0.6]]))


def test_weights_fall_with_frequency_and_are_one_in_the_mean() -> None:
    weights = balance([80, 20, 0], 1.0)
    assert weights[1] / weights[0] == pytest.approx(4)
    assert weights.tolist()[2] == 0
    assert float(weights.sum()) == pytest.approx(2)


def test_focus_is_zero_by_chance_and_grows_with_mass_inside() -> None:
    inside = torch.zeros(4, 5, dtype=torch.bool)
    inside[1, :4] = True  # a fifth
    mass = torch.full((4, 5), 2.0)
    assert lesion_focus(mass, inside) == pytest.approx(0)
    assert lesion_focus(inside.float(), inside) == pytest.approx(0.8)
    assert lesion_focus((~inside).float(), inside) == pytest.approx(-0.2)
    mass[1, :4] = 8  # 32 of 64
    assert lesion_focus(mass, inside) == pytest.approx(0.3)
    assert lesion_focus(mass, torch.zeros_like(inside)) is None
    with pytest.raises(FoveateError, match="do not fit"):
        lesion_focus(mass, inside[1:])
    with pytest.raises(FoveateError, match="below zero"):
        lesion_focus(-mass, inside)


# what happens by chance


@pytest.mark.parametrize("axes", [2, 3])
def test_changes_are_functions_of_their_stream_and_leave_the_sample_alone(axes: int) -> None:
    image, mask = torch.rand(1, *(20, 24, 18)[:axes]), blob(1, (20, 24, 18)[:axes])
    kept = image.clone(), mask.clone()
    crops, whole = Crops((16,) * axes, foreground=0.5, change=True, mirror=True), Whole((16,) * axes, mirror=True)

    def changed(number: int) -> tuple[Tensor, ...]:
        image_ = normalised(image)
        return (*crops(image_, mask, generator("one", number)), whole(image_, generator("b", number)))

    first = changed(0)
    others = [changed(number) for number in range(1, 6)]
    np.random.seed(7)
    torch.manual_seed(7)
    assert all(map(torch.equal, changed(0), first))
    assert not any(torch.equal(other[0], first[0]) for other in others)
    assert torch.equal(image, kept[0])
    assert torch.equal(mask, kept[1])
    assert first[0].shape == (1, *(16,) * axes)
    assert type(first[0]) is Tensor


def test_image_and_mask_are_changed_alike_and_windows_find_a_small_lesion() -> None:
    image = torch.zeros(1, 96, 96)
    image[:, 70:78, 11:17] = 1
    mask = (image[0] > 0).long()
    crops = Crops((32, 32), foreground=1.0, change=True, mirror=True)
    for number in range(20):
        window, its = crops(image, mask, generator("window", number))
        assert its.sum() > 10, "the lesion is in every window"
        both = torch.stack([window.flatten(), its.flatten().float()])
        assert torch.corrcoef(both)[0, 1] > 0.8
    anywhere = Crops((32, 32), foreground=0.0, change=False, mirror=False)
    assert sum(bool(anywhere(image, mask, generator("w", n))[1].any()) for n in range(20)) < 12


class Two:
    """Two cases with lesions."""

    names = ("a", "b")

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Any:
        from foveate.data.medical.data import Target

        return torch.rand(1, 40, 36, generator=generator("i", index)), Target(
            blob(index, (40, 36)).clamp(0, 1), (1.0, 1.0), index
        )


def test_a_task_sees_the_same_windows_whatever_else_was_drawn() -> None:
    task = MedicalSegmentation(
        nn.Conv2d(1, 2, 1), Two(), Two(), Recipe(epochs=2, batch_size=2), classes=("background", "lesion"), size=16
    )

    def epochs() -> list[Tensor]:
        loader = Epochs(Two(), 2, task.prepare, task.collate, seed=1)
        return [batch[0] for _ in range(2) for batch in loader]

    first = epochs()
    torch.rand(5)
    assert all(map(torch.equal, epochs(), first))
    assert not torch.equal(first[0].sort(0).values, first[1].sort(0).values)


# windows


@pytest.mark.parametrize("shape", [(10, 12), (50, 37), (20, 18, 40)])
def test_windows_together_say_what_a_network_of_points_says_at_once(shape: tuple[int, ...]) -> None:
    network = (nn.Conv2d if len(shape) == 2 else nn.Conv3d)(1, 3, 1)
    image = torch.randn(1, 1, *shape)
    with torch.no_grad():
        logits, changes = said_of(network, image, 16)
        torch.testing.assert_close(logits, network(image), atol=1e-5, rtol=1e-5)
    assert changes == {}


def test_an_image_that_fits_into_a_window_is_judged_at_once() -> None:
    """Cut in two, a half without structure would be normalised by itself, and its noise taken for structure."""
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.InstanceNorm2d(2))
    image = 0.01 * torch.randn(1, 1, 32, 48)
    image[..., :16] += blob(0, (32, 16))
    with torch.no_grad():
        torch.testing.assert_close(said_of(network, image, 64)[0], network(image), atol=1e-5, rtol=1e-4)
        assert not torch.allclose(said_of(network, image, 32)[0], network(image), atol=0.1)
    task = MedicalSegmentation(network, Two(), Two(), Recipe(epochs=1), classes=("a", "b"), size=32)
    assert task.window == 64


@pytest.mark.parametrize(("axes", "most"), [(2, 16), (3, 16), (3, 64)])
def test_attention_at_monais_units_is_laid_over_the_whole_image(axes: int, most: int) -> None:
    network, _ = build_medical("monai/unet", task="segmentation", classes=2, dimensions=axes)
    example = torch.zeros(1, 1, *(16,) * axes)
    foveate.attach(network, "scse", at="**.adn.A", example=example, start="paper")
    image = torch.randn(1, 1, *(40, 20, 24)[:axes])
    with torch.no_grad():
        logits, changes = said_of(network.eval(), image, most, attention=True)
        plain, _ = said_of(network, image, most)
    torch.testing.assert_close(logits, plain)
    assert len(changes) == 13
    assert {tuple(change.shape) for change in changes.values()} == {tuple(image.shape[2:])}
    assert any(float(change.std()) > 0 for change in changes.values())


def test_networks_are_found_by_name_and_refused_with_what_would_do() -> None:
    with pytest.raises(OptionError, match="did you mean 'monai/unet'"):
        build_medical("monai/umet", task="segmentation", classes=2)
    with pytest.raises(OptionError, match="for classification there is monai/densenet121"):
        build_medical("monai/unet", task="classification", classes=2)
    with pytest.raises(OptionError, match="not for images of 2 dimensions"):
        build_medical("monai/unet-3d", task="segmentation", classes=2)
    network, _ = build_medical("monai/segresnet-3d", task="segmentation", classes=2, dimensions=3)
    assert network(torch.zeros(1, 1, 16, 16, 16)).shape == (1, 2, 16, 16, 16)


def test_attention_keeps_away_from_the_logits_of_monais_unet_unless_it_joins_or_replaces() -> None:
    from foveate.registry import parse
    from foveate.train.kinds.medical import KIND

    found = {name: KIND.usual_place("monai/unet", parse(name)) for name in ("cbam", "attentional_fusion", "odconv")}
    assert found == {"cbam": "**.adn.A", "attentional_fusion": None, "odconv": None}
    assert KIND.usual_place("monai/segresnet", parse("cbam")) is None


# a run


def small_set(root: Path) -> None:
    """Six subjects with two images each, a bright disc being the lesion."""
    rows, columns = np.indices((32, 32))
    for number in range(12):
        draw = np.random.default_rng(number)
        inside = (rows - draw.integers(8, 24)) ** 2 + (columns - draw.integers(8, 24)) ** 2 < 30
        pixels = (60 + 120 * inside + draw.normal(0, 8, (32, 32))).clip(0, 255).astype(np.uint8)
        for folder, array in (("images", pixels), ("masks", inside.astype(np.uint8))):
            (root / folder).mkdir(parents=True, exist_ok=True)
            PIL.fromarray(array).save(root / folder / f"sub-{number // 2}_{number % 2}.png")


def test_a_run_of_segmentation_leaves_a_report_and_predicts(tmp_path: Path) -> None:
    small_set(tmp_path / "data")
    done = train(
        "medical", tmp_path / "run", data=tmp_path / "data", attention="scse",
        settings={"epochs": 1, "batch_size": 4}, loggers=(),
    )  # fmt: skip
    test = done.report["test"]
    assert {"dice", "hd95", "hd95_silent", "sensitivity", "specificity", "classes", "lesion_focus"} <= set(test)
    assert test["classes"]["1"]["areas_found"]["of"] == 2
    assert done.report["network"]["at"] == "**.adn.A", "not at the logits"
    assert all(-1 < one["value"] < 1 and one["patients"] == 1 for one in test["lesion_focus"].values())
    assert len(test["lesion_focus"]) == 13
    again = train(
        "medical", tmp_path / "again", data=tmp_path / "data", attention="scse",
        settings={"epochs": 1, "batch_size": 4}, loggers=(),
    )  # fmt: skip
    assert again.fitted.history == done.fitted.history

    nibabel.save(
        nibabel.Nifti1Image(np.random.default_rng(0).normal(size=(40, 36, 3)), np.diag([2, 3, 4, 1.0])),
        tmp_path / "v.nii.gz",
    )
    (tmp_path / "bad.nii.gz").write_bytes(b"nothing")
    found = predict(
        tmp_path / "run",
        [tmp_path / "data" / "images" / "sub-0_0.png", tmp_path / "v.nii.gz", tmp_path / "bad.nii.gz"],
        tmp_path / "out",
    )
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {
        "sub-0_0.png",
        "sub-0_0.mask.png",
        "sub-0_0.attention.png",
        "v.png",
        "v.mask.nii.gz",
        "v.attention.png",
    } <= names
    assert list(found["skipped"]) == ["bad.nii.gz"]
    assert found["images"]["v.nii.gz"]["unit"] == "mm³"
    mask, place = read_mask(tmp_path / "out" / "v.mask.nii.gz")
    scan = read_scan(tmp_path / "v.nii.gz")
    assert mask.shape == scan.values.shape[1:]
    assert scan.affine is not None
    assert torch.equal(place.affine, scan.affine)
    assert json.loads((tmp_path / "out" / "predictions.json").read_text()) == found


def test_a_predicted_volume_lies_where_its_image_lies(tmp_path: Path) -> None:
    """Said slice by slice by a network that tells bright from dark, of an image whose axes are in another order."""
    from foveate.train.kinds.medical import KIND, MedicalOptions

    class Bright(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([-x, x], 1)

    array = np.random.default_rng(0).normal(size=(5, 20, 24)).astype(np.float32)
    array -= array.mean((1, 2), keepdims=True)
    affine = np.array([[0, 3, 0, 9], [0, 0, -4, 8], [2, 0, 0, 7], [0, 0, 0, 1.0]])
    nibabel.save(nibabel.Nifti1Image(array, affine), tmp_path / "a.nii.gz")
    scan = KIND.read(tmp_path / "a.nii.gz", 1)
    said = KIND.say(Bright(), scan, ("dark", "bright"), MedicalOptions("segmentation", 2, 16))
    (tmp_path / "m.nii.gz").write_bytes(said.files["mask.nii.gz"])
    written = nibabel.load(tmp_path / "m.nii.gz")
    back = np.asarray(written.dataobj)
    inverse = np.linalg.inv(written.affine)
    for index in np.random.default_rng(1).integers((0, 0, 0), array.shape, (30, 3)):
        there = np.rint(inverse @ affine @ [*index, 1]).astype(int)[:3]
        assert bool(back[tuple(there)]) == bool(array[tuple(index)] > 0)


def test_a_run_of_classification_speaks_of_patients(tmp_path: Path) -> None:
    small_set(tmp_path / "data")
    (tmp_path / "data" / "labels.csv").write_text(
        "subject,label\n" + "".join(f"sub-{n},{'ab'[n % 2]}\n" for n in range(6))
    )
    done = train(
        "medical", tmp_path / "run", data=tmp_path / "data",
        settings={"epochs": 1, "batch_size": 4, "task": "classification", "size": 32}, loggers=(),
    )  # fmt: skip
    test = done.report["test"]
    assert done.report["network"]["host"] == "monai/densenet121"
    assert test["patients"] == 2
    assert done.report["counts"]["test"] == 4
    assert test["classes"]["a"]["sensitivity"]["of"] == 1
    assert {"accuracy", "balanced_accuracy", "auroc"} <= set(test)
    found = predict(tmp_path / "run", [tmp_path / "data" / "images"], tmp_path / "out")
    assert sum(found["images"]["sub-0_0.png"]["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert subject_folder(tmp_path / "data").task == "segmentation"


@pytest.mark.slow
def test_the_synthetic_brains_are_learned_in_volumes(tmp_path: Path) -> None:
    pytest.importorskip("nilearn")
    done = train(
        "medical", tmp_path, attention="scse", settings={"dimensions": 3, "epochs": 12, "batch_size": 2}, loggers=()
    )
    assert done.report["test"]["classes"]["grey matter"]["dice"]["value"] > 0.5
