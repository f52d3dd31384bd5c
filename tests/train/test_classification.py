"""Augmentation is a function of seed, epoch and image; training equals the loop it stands for and leaves nothing."""

from __future__ import annotations

import logging
import logging.handlers
import signal
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate import hosts
from foveate.data.classification import Images
from foveate.surgery import attach
from foveate.train import Recipe, fit
from foveate.train.classification import Classification
from foveate.train.pixels import Normalise

GREY = Normalise((0.5,), (0.25,))


def numbered() -> Images:
    """50 images of 16×16 whose label is their number, no two pixels of one image equal in rows or columns."""
    pixels = torch.randint(1, 256, (50, 3, 16, 16), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)
    return Images(pixels, range(50), range(50), [str(n) for n in range(50)])


def stripes(count: int, seed: int) -> Images:
    """Images of 8×8 noise: bright rows are class 0, bright columns class 1, to be told apart by one filter."""
    chance = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 100, (count, 1, 8, 8), generator=chance, dtype=torch.uint8)
    labels = [index % 2 for index in range(count)]
    for index, label in enumerate(labels):
        line = int(torch.randint(8, (), generator=chance))
        pixels[(index, 0, line) if label == 0 else (index, 0, slice(None), line)] += 150
    return Images(pixels, range(count), labels, [str(n) for n in range(count)])


def small() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return hosts.build("foveate/resnet8", classes=2, in_channels=1)


def linear() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 2))


def task(network: nn.Module, train: Images, validation: Images, *, seed: int = 0, **recipe: Any) -> Classification:
    return Classification(
        network, train, validation, Recipe(**{"epochs": 1, **recipe}), classes=("a", "b"), normalise=GREY, seed=seed
    )


def fitted(network: nn.Module, train: int = 64, validation: int = 16, **how: Any) -> Tensor:
    fit(task(network, stripes(train, 1), stripes(validation, 2), **how), device="cpu")
    return torch.cat([value.double().flatten() for value in network.state_dict().values()])


def epochs(
    images: Images, count: int = 1, *, seed: int = 0, size: int = 5, augment: bool = True, shift: float = 1 / 16
):
    recipe = Recipe(epochs=1, batch_size=size, augment=augment)
    found = Classification(
        nn.Identity(), images, images, recipe, classes=[str(n) for n in range(50)], seed=seed, shift=shift
    )
    loader = found.train_dataloader()
    for _ in range(count):
        yield {int(label): image for pixels, labels in loader for image, label in zip(pixels, labels, strict=True)}


def moved(image: Tensor, down: int, right: int) -> Tensor:
    """The same by padding and cropping."""
    padded = F.pad(image, (1, 1, 1, 1))
    return padded[:, 1 - down : 17 - down, 1 - right : 17 - right]


def test_every_augmentation_is_one_of_those_allowed_and_all_occur() -> None:
    images, seen = numbered(), set()
    before = images._pixels[:].clone()  # type: ignore[index]
    for shown in epochs(images, 8):
        assert len(shown) == 50
        for label, image in shown.items():
            source, _ = images[label]
            found = [
                (flip, down, right)
                for flip in (False, True)
                for down in (-1, 0, 1)
                for right in (-1, 0, 1)
                if torch.equal(image, moved(source.flip(2) if flip else source, down, right))
            ]
            assert len(found) == 1, "not a mirroring and a shift of at most a pixel"
            seen.add(found[0])
    assert len(seen) == 18
    assert torch.equal(images._pixels[:], before), "the source is changed"  # type: ignore[index]


def test_what_happens_to_an_image_depends_on_seed_and_epoch_alone() -> None:
    [by_five], [by_ten], [other] = epochs(numbered()), epochs(numbered(), size=10), epochs(numbered(), seed=1)
    assert all(torch.equal(by_five[number], by_ten[number]) for number in by_five)
    first, second = epochs(numbered(), 2)
    # 2 mirrorings times 3 × 3 shifts: 50 / 18 = 3 equal by chance, and four deviations of 1.6 more
    for another in (second, other):
        assert sum(torch.equal(first[number], another[number]) for number in first) <= 9


def test_without_augmentation_images_stay_as_they_are() -> None:
    images = numbered()
    [shown] = epochs(images, augment=False)
    assert all(torch.equal(image, images[label][0]) for label, image in shown.items())


def test_shifts_are_equally_likely_and_grow_with_the_image() -> None:
    count = 3000
    images = Images(torch.zeros(count, 1, 8, 8, dtype=torch.uint8), range(count), range(count), [""] * count)
    images._pixels[:, :, 4, 4] = 255  # type: ignore[index]
    [shown] = epochs(images, size=count, shift=1 / 8)
    rows = (torch.stack(list(shown.values()))[:, 0].amax(2) == 255).int().argmax(1).bincount(minlength=8)
    # a third each; the deviation of a share of 3,000 is sqrt(2/9/3000) = 0.86 %, and four of them 3.5 %
    assert torch.allclose(rows[3:6] / count, torch.full((3,), 1 / 3), atol=0.035)
    assert rows[[0, 1, 2, 6, 7]].sum() == 0
    large = Images(torch.ones(50, 1, 96, 64, dtype=torch.uint8), range(50), range(50), [""] * 50)
    pixels = torch.stack(list(next(epochs(large, size=50, shift=1 / 32)).values()))
    assert int((pixels.amax(3) == 0).sum(2).max()) == 3 and int((pixels.amax(2) == 0).sum(2).max()) == 2


def test_a_network_learns_what_can_be_learned() -> None:
    found = task(small(), stripes(256, 1), stripes(64, 2), epochs=4, batch_size=32, learning_rate=0.1)
    best = fit(found, device="cpu").best
    assert best["validation_accuracy"] > 0.9 and best["validation_loss"] < 0.4  # guessing: 0.5 and 0.69


def test_it_equals_a_loop_written_by_hand() -> None:
    recipe = {"epochs": 3, "batch_size": 16, "learning_rate": 0.05, "weight_decay": 0.01, "warmup": 0.34}
    network, train = linear(), stripes(40, 1)
    trained = task(network, train, stripes(8, 2), seed=7, **recipe)
    by_epoch: list[Tensor] = []
    fit(trained, device="cpu", on_epoch=lambda _: by_epoch.append(network[1].weight.detach().clone()))  # type: ignore[index]

    expected = linear()
    matrix, bias = expected[1].weight, expected[1].bias  # type: ignore[index]
    velocity = [torch.zeros_like(matrix), torch.zeros_like(bias)]
    # 2 steps an epoch, 6 in all, 2 of them rising; then a half cosine over 4
    rates = [0.025, 0.05, 0.05, 0.05 * 0.5 * (1 + 2**-0.5), 0.025, 0.05 * 0.5 * (1 - 2**-0.5)]
    batches, step = task(linear(), train, stripes(8, 2), seed=7, **recipe).train_dataloader(), 0
    for epoch in range(3):
        for images, labels in batches:
            loss = F.cross_entropy(expected((images.float() / 255 - 0.5) / 0.25), labels)
            gradients = list(torch.autograd.grad(loss, (matrix, bias)))
            with torch.no_grad():
                gradients[0] += 0.01 * matrix  # the bias is not decayed
                for index, parameter in enumerate((matrix, bias)):
                    velocity[index] = 0.9 * velocity[index] + gradients[index]
                    parameter -= rates[step] * velocity[index]
            step += 1
        # float32 sums in another order, six steps: errors stay near 1e-7 for values below 1
        assert torch.allclose(by_epoch[epoch], matrix, atol=1e-6)
    assert step == 6


def test_the_same_seed_gives_the_same_numbers_twice_wherever_the_global_stream_is() -> None:
    def dropping() -> nn.Module:
        return nn.Sequential(nn.Dropout(0.5), linear())

    for make in (small, dropping):
        runs = [fitted(make(), epochs=2, batch_size=32, seed=seed) for seed in (0, 0, 1) if torch.rand(3) is not None]
        assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])


def test_norms_biases_and_blends_are_not_decayed() -> None:
    network = attach(small(), "cbam", example=torch.zeros(1, 1, 8, 8))
    optimizer = task(network, stripes(8, 1), stripes(8, 2), weight_decay=5e-4).configure_optimizers()["optimizer"]
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    kinds: dict[str, set[float]] = {"spared": set(), "decayed": set()}
    norms = {id(p) for m in network.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()}
    for name, parameter in network.named_parameters():
        spared = id(parameter) in norms or name.endswith(("bias", "blend"))
        kinds["spared" if spared else "decayed"].add(decay.pop(id(parameter)))
    assert kinds == {"spared": {0.0}, "decayed": {5e-4}} and not decay


def test_grey_images_fill_the_channels_that_the_network_takes() -> None:
    grey = torch.arange(4, dtype=torch.uint8).reshape(1, 1, 2, 2)
    x = Normalise((0.0, 0.5, 1.0), (1.0, 0.5, 0.25))(grey)
    assert x.shape == (1, 3, 2, 2)
    assert torch.allclose(x[0, 1], (grey[0, 0] / 255 - 0.5) / 0.5)
    assert torch.allclose(x[0, 2], (grey[0, 0] / 255 - 1.0) / 0.25)


def test_it_says_nothing_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    logger, said = logging.getLogger("pytorch_lightning"), logging.handlers.BufferingHandler(1000)
    level = logger.level
    monkeypatch.setattr(logger, "handlers", [said])
    stream = torch.random.get_rng_state()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = linear()
        fitted(found, 32, 8, epochs=2, batch_size=8)
    assert capfd.readouterr() == ("", "")
    assert [str(warning.message) for warning in caught] == []
    assert [record.getMessage() for record in said.buffer] == []
    assert list(tmp_path.iterdir()) == []
    assert logger.level == level
    assert torch.equal(torch.random.get_rng_state(), stream)


def test_an_interruption_is_passed_on_and_the_next_one_too() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[int] = []

    def interrupt(history: list[Any]) -> None:
        seen.append(len(history))
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(task(linear(), stripes(32, 1), stripes(8, 2), epochs=5), device="cpu", on_epoch=interrupt)
    assert seen == [1, 2]
    assert signal.getsignal(signal.SIGINT) is before


def test_looking_counts_by_hand_and_changes_nothing() -> None:
    from foveate.study.outcome import looked

    network, images = small(), stripes(20, 4)
    found = task(network, stripes(8, 1), stripes(8, 2), batch_size=7)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    told, scores, said = looked(found, images)
    assert (
        all(torch.equal(value, before[name]) for name, value in network.state_dict().items()) and not network.training
    )
    x = (torch.stack([images[index][0] for index in range(20)]).float() / 255 - 0.5) / 0.25
    logits = network(x).detach()
    right = (logits.argmax(1) == images.labels).float().tolist()
    assert scores == right and told["accuracy"] == pytest.approx(sum(right) / 20)
    # float32 means of 20 losses in two orders: 20 roundings of values near one
    assert told["loss"] == pytest.approx(float(F.cross_entropy(logits, images.labels)), rel=20 * 2**-23)
    assert [len(batch) for batch in said] == [7, 7, 6]
