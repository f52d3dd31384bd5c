"""Training equals the loop it stands for, says nothing and leaves nothing behind."""

from __future__ import annotations

import logging
import logging.handlers
import signal
import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate import hosts
from foveate.data.classification import Images
from foveate.study.training.batches import TrainingBatches
from foveate.study.training.classification import Classification, Curves, Pixels, Recipe
from foveate.study.training.fit import evaluate, fit
from foveate.surgery import attach

PIXELS = ((0.5,), (0.25,))


def stripes(count: int, seed: int) -> Images:
    """Images of 8×8 noise: bright rows are class 0, bright columns class 1, to be told apart by one filter."""
    chance = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 100, (count, 1, 8, 8), generator=chance, dtype=torch.uint8)
    labels = [index % 2 for index in range(count)]
    for index, label in enumerate(labels):
        line = int(torch.randint(8, (), generator=chance))
        pixels[(index, 0, line) if label == 0 else (index, 0, slice(None), line)] += 150
    return Images(pixels, range(count), labels, [""] * count)


def small() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return hosts.build("foveate/resnet8", classes=2, in_channels=1)


def linear() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 2))


def weights(network: nn.Module) -> Tensor:
    return torch.cat([value.double().flatten() for value in network.state_dict().values()])


def test_a_network_learns_what_can_be_learned() -> None:
    network, pixels = small(), Pixels(*PIXELS)
    curves = fit(network, pixels, stripes(256, 1), stripes(64, 2), Recipe(epochs=4, batch_size=32), seed=0)
    outcome = evaluate(network, pixels, stripes(200, 3))
    assert outcome.accuracy > 0.9 and outcome.loss < 0.4  # guessing: 0.5 and 0.69
    assert curves.train_loss[-1] < curves.train_loss[0]
    assert curves.validation_accuracy[-1] > 0.9


def test_it_equals_a_loop_written_by_hand() -> None:
    train = stripes(40, 1)
    recipe = Recipe(epochs=3, batch_size=16, learning_rate=0.05, momentum=0.9, weight_decay=0.01, warmup=0.34)
    network = linear()
    fit(network, Pixels(*PIXELS), train, stripes(8, 2), recipe, seed=7)

    expected = linear()
    matrix, bias = expected[1].weight, expected[1].bias
    velocity = [torch.zeros_like(matrix), torch.zeros_like(bias)]
    # 2 steps an epoch, 6 in all, 2 of them rising; then a half cosine over 4
    rates = [0.025, 0.05, 0.05, 0.05 * 0.5 * (1 + 2**-0.5), 0.025, 0.05 * 0.5 * (1 - 2**-0.5)]
    step = 0
    for epoch in range(3):
        for images, labels in TrainingBatches(train, 16, seed=7, epoch=epoch):
            x = (images.float() / 255 - 0.5) / 0.25
            loss = F.cross_entropy(expected(x), labels)
            gradients = list(torch.autograd.grad(loss, (matrix, bias)))
            with torch.no_grad():
                gradients[0] += 0.01 * matrix  # the bias is not decayed
                for index, parameter in enumerate((matrix, bias)):
                    velocity[index] = 0.9 * velocity[index] + gradients[index]
                    parameter -= rates[step] * velocity[index]
            step += 1
    assert step == 6
    # float32 sums in another order, six steps: errors stay near 1e-7 for values below 1
    assert torch.allclose(weights(network), weights(expected), atol=1e-6)


def test_curves_hold_what_was_seen() -> None:
    train, validation = stripes(40, 1), stripes(10, 2)
    network, pixels = linear(), Pixels(*PIXELS)
    recipe = Recipe(epochs=2, batch_size=16, learning_rate=1e-12, weight_decay=0.0)  # nothing moves
    curves = fit(network, pixels, train, validation, recipe, seed=0)
    assert curves.epoch == [1, 2]
    watched = evaluate(network, pixels, validation)
    assert curves.validation_loss == pytest.approx([watched.loss] * 2, abs=1e-6)
    assert curves.validation_accuracy == pytest.approx([watched.accuracy] * 2, abs=1e-6)
    for epoch in range(2):
        batches = list(TrainingBatches(train, 16, seed=0, epoch=epoch))
        logits = torch.cat([network(pixels(images)).detach() for images, _ in batches])
        labels = torch.cat([labels for _, labels in batches])
        assert curves.train_loss[epoch] == pytest.approx(float(F.cross_entropy(logits, labels)), abs=1e-6)
        share = float((logits.argmax(1) == labels).float().mean())
        assert curves.train_accuracy[epoch] == pytest.approx(share, abs=1e-6)


def test_the_same_seed_gives_the_same_numbers_twice() -> None:
    networks = [small(), small(), small()]
    curves = [
        fit(network, Pixels(*PIXELS), stripes(64, 1), stripes(16, 2), Recipe(epochs=2, batch_size=32), seed=seed)
        for network, seed in zip(networks, (0, 0, 1), strict=True)
    ]
    assert curves[0] == curves[1] != curves[2]
    assert torch.equal(weights(networks[0]), weights(networks[1]))
    assert not torch.equal(weights(networks[0]), weights(networks[2]))


def test_dropout_draws_from_the_seed_too() -> None:
    def dropping() -> nn.Module:
        return nn.Sequential(nn.Dropout(0.5), linear())

    runs = []
    for _ in range(2):
        network = dropping()
        torch.rand(3)  # wherever the global stream is
        fit(network, Pixels(*PIXELS), stripes(32, 1), stripes(8, 2), Recipe(epochs=1, batch_size=8), seed=0)
        runs.append(weights(network))
    assert torch.equal(*runs)


def test_validation_changes_nothing() -> None:
    networks = [small(), small()]
    for network, count in zip(networks, (4, 60), strict=True):
        fit(network, Pixels(*PIXELS), stripes(64, 1), stripes(count, 2), Recipe(epochs=2, batch_size=32), seed=0)
    assert torch.equal(weights(networks[0]), weights(networks[1]))


def test_norms_biases_and_blends_are_not_decayed() -> None:
    network = attach(small(), "cbam", example=torch.zeros(1, 1, 8, 8))
    task = Classification(network, Pixels(*PIXELS), stripes(8, 1), stripes(8, 2), Recipe(epochs=1), seed=0)
    optimizer = task.configure_optimizers()["optimizer"]
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    kinds: dict[str, set[float]] = {"spared": set(), "decayed": set()}
    norms = {id(p) for m in network.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()}
    for name, parameter in network.named_parameters():
        spared = id(parameter) in norms or name.endswith(("bias", "blend"))
        kinds["spared" if spared else "decayed"].add(decay.pop(id(parameter)))
    assert kinds == {"spared": {0.0}, "decayed": {5e-4}} and not decay


def test_frozen_parameters_stay() -> None:
    network = small()
    network.conv1.weight.requires_grad_(False)
    before = network.conv1.weight.clone()
    fit(network, Pixels(*PIXELS), stripes(32, 1), stripes(8, 2), Recipe(epochs=1, batch_size=16), seed=0)
    assert torch.equal(network.conv1.weight, before)


def test_grey_images_fill_the_channels_that_the_network_takes() -> None:
    grey = torch.arange(4, dtype=torch.uint8).reshape(1, 1, 2, 2)
    x = Pixels((0.0, 0.5, 1.0), (1.0, 0.5, 0.25))(grey)
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
        fit(linear(), Pixels(*PIXELS), stripes(32, 1), stripes(8, 2), Recipe(epochs=2, batch_size=8), seed=0)
    assert capfd.readouterr() == ("", "")
    assert [str(warning.message) for warning in caught] == []
    assert [record.getMessage() for record in said.buffer] == []
    assert list(tmp_path.iterdir()) == []
    assert logger.level == level
    assert torch.equal(torch.random.get_rng_state(), stream)


def test_an_interruption_is_passed_on_and_the_next_one_too() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[int] = []

    def interrupt(curves: Curves) -> None:
        seen.append(curves.epoch[-1])
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(linear(), Pixels(*PIXELS), stripes(32, 1), stripes(8, 2), Recipe(epochs=5), seed=0, on_epoch=interrupt)
    assert seen == [1, 2]
    assert signal.getsignal(signal.SIGINT) is before


def test_evaluation_counts_by_hand() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    images = stripes(20, 4)
    outcome = evaluate(network, Pixels(*PIXELS), images, batch_size=7)
    x = (torch.stack([images[index][0] for index in range(20)]).float() / 255 - 0.5) / 0.25
    logits = network(x).detach()
    assert torch.equal(outcome.predictions, logits.argmax(1))
    assert outcome.accuracy == float((logits.argmax(1) == images.labels).double().mean())
    assert outcome.loss == pytest.approx(float(F.cross_entropy(logits, images.labels)), abs=1e-6)


def test_evaluation_uses_running_statistics() -> None:
    network = small()
    before = network.bn1.running_mean.clone()
    evaluate(network, Pixels(*PIXELS), stripes(8, 1))
    assert torch.equal(network.bn1.running_mean, before) and not network.training


def test_the_mean_loss_is_that_of_all_images_where_the_last_batch_is_smaller() -> None:
    network, pixels, validation = linear(), Pixels(*PIXELS), stripes(33, 2)
    curves = fit(network, pixels, stripes(64, 1), validation, Recipe(epochs=1, batch_size=32), seed=0)
    # float32 means of 33 losses in two orders: 33 roundings of values near one
    assert curves.validation_loss[0] == pytest.approx(evaluate(network, pixels, validation).loss, rel=33 * 2**-24)
