"""Runs are paired, can be repeated, and are interrupted without loss."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from foveate.data import ImageClassification, fashion_mnist
from foveate.errors import FoveateError
from foveate.study import run as running
from foveate.study.compare import compare
from foveate.study.design import DEFAULT_ATTENTION, Study
from foveate.study.folder import Folder, load
from foveate.study.plan import prepare
from foveate.study.progress import Silent
from foveate.study.run import Material, build_network, run_all
from foveate.study.training import fit as fitting

SCRIPT = Path(__file__).parent / "small_study.py"
# the same file as a module: tests and the killed program must run the same study
SETTINGS: dict[str, Any] = {}
exec(SCRIPT.read_text().split("if __name__")[0], SETTINGS)  # noqa: S102
SETTINGS = SETTINGS["SETTINGS"]


def prepared(data: ImageClassification | None = None, **options: Any) -> tuple[Study, Material]:
    return prepare(data, **{"attention": ("se",), "seeds": 1, "epochs": 1, "train_images": 64, **options})


def ran(out: Path, study: Study, material: Material) -> list[dict[str, Any]]:
    folder = Folder(out)
    with folder.alone():
        folder.write("study.json", {"runs": [{"key": config.key} for _, config in study.runs()]})
        return run_all(study, material, folder, Silent())[0]


def numbers(run: dict[str, Any]) -> dict[str, Any]:
    return {name: run[name] for name in ("key", "arm", "seed", "config", "curves", "test")}


@pytest.mark.parametrize(("start", "weights"), [("paper", None), ("identity", "pretrained")])
def test_the_same_seed_gives_every_arm_the_same_host(start: str, weights: str | None, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from foveate import hosts

    file = None
    if weights:
        file = tmp_path / "weights.safetensors"
        save_file(hosts.build("foveate/resnet8", classes=7, in_channels=3).state_dict(), file)
    study, material = prepared(attention=DEFAULT_ATTENTION, seeds=2, weights=file)
    assert study.base.start == start
    seen: dict[int, dict[str, Tensor]] = {}
    for arm, config in study.runs():
        stream = torch.random.get_rng_state()
        network = build_network(config, 10, material.weights)
        assert torch.equal(torch.random.get_rng_state(), stream), "building shifts the global stream"
        state = {key: value for key, value in network.state_dict().items() if ".foveate." not in key}
        first = seen.setdefault(config.seed, state)
        assert state.keys() == first.keys(), arm.name
        assert all(torch.equal(state[key], first[key]) for key in state), arm.name
    assert not torch.equal(seen[0]["linear.weight"], seen[1]["linear.weight"])
    assert torch.equal(seen[0]["conv1.weight"], seen[1]["conv1.weight"]) == (weights is not None)


def test_attention_is_initialised_by_the_seed() -> None:
    study, material = prepared(attention=("se",), seeds=2)
    first, again, second = (
        build_network(list(study.runs())[index][1], 10, material.weights).state_dict() for index in (1, 1, 3)
    )
    key = "layer1.0.bn2.foveate.squeeze_excite.fc1.weight"
    assert torch.equal(first[key], again[key]) and not torch.equal(first[key], second[key])


def test_the_same_seed_gives_every_arm_the_same_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[int, list[list[Tensor]]] = {}
    step = fitting.Classification.training_step

    def noting(self: Any, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        if batch_idx == 0 and self.current_epoch == 0:
            seen.setdefault(self.seed, []).append([])
        seen[self.seed][-1] += [part.clone() for part in batch]
        return step(self, batch, batch_idx)

    monkeypatch.setattr(fitting.Classification, "training_step", noting)
    study, material = prepared(attention=("se", "cbam"), seeds=2, epochs=2, train_images=128)
    ran(tmp_path, study, material)
    batches = 128 // study.base.batch_size
    for arms in seen.values():
        assert len(arms) == 3 and len(arms[0]) == 2 * batches * 2  # epochs, batches, images and labels
        assert all(torch.equal(a, b) for other in arms[1:] for a, b in zip(arms[0], other, strict=True))
    images = [seen[seed][0][::2] for seed in (0, 1)]
    assert not any(torch.equal(a, b) for a, b in zip(*images, strict=True))
    assert not torch.equal(images[0][0], images[0][batches]), "epochs differ"


def test_a_study_gives_the_same_numbers_twice(tmp_path: Path) -> None:
    runs = [ran(tmp_path / name, *prepared(attention=("cbam",))) for name in ("a", "b")]
    assert [numbers(run) for run in runs[0]] == [numbers(run) for run in runs[1]]
    first, second = (load(tmp_path / name).maps(runs[0][1]["key"])[0] for name in ("a", "b"))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_the_same_configuration_is_one_file_and_another_is_another(tmp_path: Path) -> None:
    first = ran(tmp_path, *prepared())
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").iterdir()}
    assert {path.stem for path in files} == {run["key"] for run in first}
    again = ran(tmp_path, *prepared())
    assert again == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").iterdir()} == files
    ran(tmp_path, *prepared(learning_rate=0.05))
    assert len(list((tmp_path / "runs").iterdir())) == 4
    # more seeds go on from those that are there
    ran(tmp_path, *prepared(seeds=2))
    assert len(list((tmp_path / "runs").iterdir())) == 6
    assert all(path.stat().st_mtime_ns == time for path, time in files.items())


def test_a_run_holds_what_it_should(tmp_path: Path) -> None:
    study, material = prepared(attention=("cbam",), epochs=2)
    baseline, attended = ran(tmp_path, study, material)
    for run, attention in ((baseline, None), (attended, "cbam")):
        assert run["config"]["attention"] == attention and run["seed"] == 0
        assert run["curves"]["epoch"] == [1, 2] and len(run["curves"]["validation_accuracy"]) == 2
        labels, said = run["test"]["labels"], run["test"]["predictions"]
        assert labels == fashion_mnist().test.labels.tolist()
        share = sum(a == b for a, b in zip(labels, said, strict=True)) / len(labels)
        assert run["test"]["accuracy"] == pytest.approx(share)
        assert run["config"]["torch"] == torch.__version__ and run["conditions"]["threads"] >= 1
        assert run["seconds"]["total"] >= run["seconds"]["train"] > 0
    assert attended["config"]["start"] == "paper" and baseline["config"]["start"] is None


def test_maps_are_what_the_network_attended_to(tmp_path: Path) -> None:
    study, material = prepared(attention=("cbam", "psanet:reduction=16"), seeds=2)
    runs = ran(tmp_path, study, material)
    assert [run["maps"] is not None for run in runs] == [True, True, True, False, False, False]
    results = load(tmp_path)
    test = material.data.test
    plain, entries, _ = results.maps(runs[0]["key"])
    assert entries == []
    indices = plain["indices"].tolist()
    assert [test[index][1] for index in indices] == list(range(8)) == plain["labels"].tolist()
    assert all(test[earlier][1] != label for label, index in enumerate(indices) for earlier in range(index))
    assert all(torch.equal(plain["images"][row], test[index][0]) for row, index in enumerate(indices))
    for run in runs[:3]:
        said = [run["test"]["predictions"][index] for index in indices]
        assert results.maps(run["key"])[0]["predictions"].tolist() == said

    tensors, entries, metadata = results.maps(runs[1]["key"])
    assert (metadata["arm"], metadata["seed"], metadata["key"]) == ("cbam", "0", runs[1]["key"])
    assert [(entry["what"], entry["place"], entry["step"]) for entry in entries[:2]] == [
        ("gate", "layer1.0.bn2", "channel"),
        ("gate", "layer1.0.bn2", "spatial"),
    ]
    gate = tensors["gate/layer3.0.bn2/cbam/spatial"]
    assert gate.shape == (8, 1, 7, 7) and float(gate.min()) > 0 and float(gate.max()) < 1
    assert tensors["emphasis/layer1.0.bn2"].shape == (8, 28, 28)

    tensors, entries, _ = results.maps(runs[2]["key"])
    takes = tensors["takes/layer1.0.bn2/psanet/collect"]
    assert takes.shape == (8, 14, 14)
    # a softmax over 196 positions in float32
    assert torch.allclose(takes.sum((1, 2)), torch.ones(8), atol=1e-5)
    entry = next(entry for entry in entries if entry["what"] == "gives" and entry["step"] == "distribute")
    assert entry["size"] == [14, 14] and entry["query"] == [7, 7] and entry["axes"] == ["hw->hw"]


def test_capturing_maps_learns_nothing() -> None:
    from foveate.study.maps import capture

    study, material = prepared()
    config = list(study.runs())[1][1]
    network = build_network(config, 10, None).train()
    before = network.bn1.running_mean.clone()
    pixels = fitting.Pixels(material.mean, material.std)
    capture(network, pixels, material.data.test, key="0" * 16, arm="squeeze_excite", seed=0, attended=True)
    assert torch.equal(network.bn1.running_mean, before)


def test_what_a_position_gives_and_takes_is_not_confused() -> None:
    from foveate.explain import AttentionMap
    from foveate.study.maps import _written

    values = torch.arange(16.0).reshape(1, 4, 4)  # from source (rows) to target (columns), on a map of 2×2
    written = {
        entry["what"]: tensor for entry, tensor in _written([AttentionMap("a", "b", "", ("hw->hw",), values, (2, 2))])
    }
    assert written["takes"].flatten().tolist() == [3, 7, 11, 15]  # the column of position 3, the centre (1, 1)
    assert written["gives"].flatten().tolist() == [12, 13, 14, 15]  # its row


def test_a_loss_that_is_no_number_is_null(tmp_path: Path) -> None:
    runs = ran(tmp_path, *prepared(learning_rate=1e30, epochs=2, train_images=256))
    assert all(run["test"]["loss"] is None and 0 <= run["test"]["accuracy"] <= 1 for run in runs)
    # the loss of the first batch of the first epoch was a number still: the mean must not be that one alone
    assert all(run["curves"]["train_loss"] == [None, None] for run in runs)


def test_a_damaged_run_is_set_aside_and_run_again(tmp_path: Path) -> None:
    study, material = prepared(seeds=2)
    first = ran(tmp_path, study, material)
    victim = tmp_path / "runs" / f"{first[2]['key']}.json"
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").iterdir() if path != victim}
    text = victim.read_text()
    victim.write_text(text.replace('"accuracy": 0.', '"accuracy": 0.9', 1))
    with Folder(tmp_path).alone():
        again, notes = run_all(study, material, Folder(tmp_path), Silent())
    assert len(notes) == 1 and "was set aside and is run again" in notes[0]
    assert [numbers(run) for run in again] == [numbers(run) for run in first]
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    assert len(list((tmp_path / "aside").iterdir())) == 1


def test_an_interrupted_run_is_kept_apart_and_the_sentence_says_how_to_go_on(
    tmp_path: Path,
) -> None:
    class Impatient(Silent):
        runs = 0

        def run(self, *_: object) -> None:
            self.runs += 1

        def epoch(self, *_: object) -> None:
            if self.runs == 2:
                raise KeyboardInterrupt

    options: dict[str, Any] = {"attention": ("se",), "seeds": 1, "epochs": 2, "train_images": 64, "out": tmp_path}
    with pytest.raises(KeyboardInterrupt, match=r"interrupted: 1 of 2 runs are finished .* the same command goes on"):
        compare(**options, progress=Impatient())
    assert len(list((tmp_path / "runs").iterdir())) == 1
    (note,) = (tmp_path / "interrupted").iterdir()
    assert json.loads(note.read_text())["curves"]["epoch"] == [1]
    assert list((tmp_path / "running").iterdir()) == []
    sentence = "squeeze_excite, seed 0: cut off after 1 of 2 epochs, and run again from its beginning"
    assert compare(**options).interrupted == (sentence,)


def test_a_disk_that_fills_keeps_finished_runs_and_nothing_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    study, material = prepared()
    finish = running.Folder.finish
    sync = os.fsync

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def filling(self: Folder, key: str, *rest: Any) -> Any:
        if list((tmp_path / "runs").glob("*.json")):
            monkeypatch.setattr(os, "fsync", full)
        return finish(self, key, *rest)

    monkeypatch.setattr(running.Folder, "finish", filling)
    with pytest.raises(FoveateError, match="the disk is full"):
        ran(tmp_path, study, material)
    monkeypatch.undo()
    assert os.fsync is sync
    keys = [config.key for _, config in study.runs()]
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [f"{keys[0]}.json"]
    assert not list(tmp_path.rglob("*.tmp"))
    again = ran(tmp_path, study, material)
    assert [run["key"] for run in again] == keys


def test_killed_and_started_again(tmp_path: Path) -> None:
    out, calm = tmp_path / "killed", tmp_path / "calm"
    with subprocess.Popen([sys.executable, str(SCRIPT), str(out)], start_new_session=True) as program:
        deadline = time.monotonic() + 180
        while not (list((out / "runs").glob("*.json")) and list((out / "running").glob("*.json"))):
            assert program.poll() is None and time.monotonic() < deadline, "it ended before it could be killed"
            time.sleep(0.01)
        program.send_signal(signal.SIGKILL)
        assert program.wait() == -signal.SIGKILL
    finished = {path: path.stat().st_mtime_ns for path in (out / "runs").glob("*.json")}
    under_way = [path.stem for path in (out / "running").glob("*.json") if not (out / "runs" / path.name).exists()]
    assert 1 <= len(finished) < 6

    comparison = compare(**SETTINGS, out=out)
    assert all(path.stat().st_mtime_ns == time for path, time in finished.items()), "a finished run was repeated"
    assert len(comparison.interrupted) == len(under_way) == len(list((out / "interrupted").glob("*.json")))
    study, material = prepare(**SETTINGS)
    keys = [config.key for _, config in study.runs()]
    assert sorted(path.stem for path in (out / "runs").iterdir()) == sorted(keys) and len(set(keys)) == 6
    assert list((out / "running").iterdir()) == []
    assert not list(out.rglob("*.tmp"))
    undisturbed = ran(calm, study, material)
    assert [numbers(run) for run in load(out).runs] == [numbers(run) for run in undisturbed]
    for row in comparison.rows:
        expected = [run["test"]["accuracy"] for run in undisturbed if run["arm"] == row.arm]
        assert list(row.accuracies) == expected
