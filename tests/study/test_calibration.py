"""Calibration against torchmetrics, NumPy and SciPy; counted batch by batch as at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from torchmetrics.functional.classification import multiclass_calibration_error

from foveate.data.chance import generator
from foveate.errors import FoveateError
from foveate.study.calibration import (
    CalibrationCounts,
    TemperatureFit,
    calibration_of,
    scaled_calibration,
)

BINS = 15


def made(count: int = 1500, classes: int = 7, scale: float = 3.0, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of a network that is too sure of itself, and labels."""
    draw = generator("logits", seed)
    logits = torch.randn(count, classes, generator=draw, dtype=torch.float64)
    labels = torch.multinomial(torch.softmax(logits, 1), 1, generator=draw)[:, 0]
    return scale * logits, labels


@pytest.mark.parametrize("scale", [1.0, 3.0])  # too sure everywhere, all bins err alike and edges do not matter
def test_expected_calibration_error_is_torchmetrics(scale):
    logits, labels = made(scale=scale)
    shares = torch.softmax(logits, 1)
    expected = multiclass_calibration_error(shares.float(), labels, 7, n_bins=BINS, norm="l1")
    # float32 sums of 1,500 numbers up to 1: off by 1,500 * 2**-24 of the sum at worst
    assert calibration_of(shares, labels).ece == pytest.approx(float(expected), abs=1500 * 2**-24)


@pytest.mark.parametrize("scale", [1.0, 3.0])  # too sure everywhere, all bins err alike and edges do not matter
def test_adaptive_error_is_that_of_equal_parts(scale):
    logits, labels = made(scale=scale)
    shares = torch.softmax(logits, 1).numpy()
    order = shares.max(1).argsort()
    confidence, right = shares.max(1)[order], (shares.argmax(1) == labels.numpy())[order]
    parts = zip(np.array_split(confidence, BINS), np.array_split(right, BINS), strict=True)
    expected = sum(abs(a.sum() - b.sum()) for a, b in parts) / len(labels)
    assert calibration_of(torch.from_numpy(shares), labels).adaptive_ece == pytest.approx(expected, abs=1e-12)


def test_what_lies_on_an_edge_is_shared():
    """16 equally sure, 4 of them right: every bin has the same mean, however they are ordered."""
    shares = torch.tensor([[0.75, 0.25]]).expand(16, 2)
    labels = torch.tensor([0, 0, 0, 0, *[1] * 12])
    for order in (slice(None), torch.arange(15, -1, -1), torch.randperm(16, generator=generator("order"))):
        found = calibration_of(shares, labels[order])
        assert found.adaptive_ece == pytest.approx(0.5, abs=1e-12)
        assert found.ece == pytest.approx(0.5, abs=1e-12)


def test_brier_and_likelihood():
    logits, labels = made()
    found = calibration_of(torch.softmax(logits, 1), labels)
    logs = log_softmax(logits.numpy(), axis=1)
    rows = np.arange(len(labels))
    truth = np.eye(7)[labels.numpy()]
    assert found.nll == pytest.approx(-logs[rows, labels.numpy()].mean(), abs=1e-12)
    assert found.brier == pytest.approx(((np.exp(logs) - truth) ** 2).sum(1).mean(), abs=1e-12)
    assert found.accuracy == pytest.approx((logs.argmax(1) == labels.numpy()).mean(), abs=1e-12)


def test_certainty_is_in_the_last_bin_and_has_a_finite_likelihood():
    found = calibration_of(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1]))
    assert (found.ece, found.adaptive_ece, found.brier) == pytest.approx((0.5, 0.5, 1.0), abs=1e-12)
    assert found.nll == pytest.approx(126 * np.log(2) / 2)


def test_the_upper_edge_belongs_to_a_bin():
    """Guo et al.: (m - 1)/M < confidence <= m/M. 0.6 is 9/15, and 0.601 is in the next bin."""
    shares = torch.tensor([[0.6, 0.4], [0.601, 0.399]], dtype=torch.float64)
    found = calibration_of(shares, torch.tensor([0, 1]))
    assert found.ece == pytest.approx((0.4 + 0.601) / 2)  # in one bin it were |0.6 + 0.601 - 1| / 2


@pytest.mark.parametrize("scale", [0.4, 1.0, 3.0])
def test_temperature_is_scipys(scale):
    logits, labels = made(scale=scale)
    fit = TemperatureFit()
    fit.update(logits, labels)
    values, rows = logits.numpy(), np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        return -log_softmax(values / np.exp(log_temperature), axis=1)[rows, labels.numpy()].mean()

    best = minimize_scalar(loss, bounds=(-4, 4), method="bounded", options={"xatol": 1e-9})
    # SciPy stops where the loss no longer changes: sqrt(2**-52) of the place
    assert np.log(fit.compute()) == pytest.approx(best.x, abs=1e-6)
    # labels were drawn from logits at temperature 1: of 1,500 its logarithm is off by about 0.03
    assert np.log(fit.compute() / scale) == pytest.approx(0, abs=0.15)


def test_scaling_repairs_what_is_too_sure():
    validation, test = made(seed=1), made(seed=2)
    found = scaled_calibration(*((torch.softmax(logits, 1), labels) for logits, labels in (validation, test)))
    assert found.temperature == pytest.approx(3, rel=0.15)
    assert found.scaled.ece < found.plain.ece / 3
    assert found.scaled.nll < found.plain.nll
    assert found.scaled.accuracy == found.plain.accuracy
    expected = calibration_of(torch.softmax(test[0] / found.temperature, 1), test[1])
    assert found.scaled.nll == pytest.approx(expected.nll, abs=1e-9)


def test_a_network_that_is_always_right_is_as_cold_as_can_be():
    fit = TemperatureFit()
    fit.update(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    assert fit.compute() == pytest.approx(0.01)


def test_pixels_are_counted_as_rows_are():
    logits, labels = made(2 * 30 * 25)
    maps = logits.reshape(2, 30, 25, 7).movedim(-1, 1)
    counts = CalibrationCounts(temperature=2.0, ignore=255)
    fit = TemperatureFit(ignore=255)
    truth = labels.reshape(2, 30, 25).clone()
    truth[:, 20:] = 255
    for one in range(2):
        counts.update_logits(maps[one : one + 1], truth[one : one + 1].to(torch.uint8))
        fit.update(maps[one : one + 1], truth[one : one + 1].to(torch.uint8))
    there = (truth != 255).flatten()
    expected = calibration_of(torch.softmax(logits[there] / 2, 1), labels[there])
    found = counts.compute()
    assert found.count == 2 * 20 * 25
    for name in ("ece", "brier", "nll", "accuracy"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), abs=1e-12)
    # equally sure counts what shares one of 4,096 bins: on each of 14 edges at most one bin's mass goes astray
    most = float(counts.fine[0].max()) / found.count
    assert found.adaptive_ece == pytest.approx(expected.adaptive_ece, abs=2 * 14 * most)
    at_once = TemperatureFit()
    at_once.update(logits[there], labels[there])
    assert fit.compute() == pytest.approx(at_once.compute(), rel=1e-12)


def test_memory_is_bounded():
    logits, labels = made(4000)
    fit, whole = TemperatureFit(most=500), TemperatureFit()
    whole.update(logits, labels)
    for start in range(0, 4000, 500):
        fit.update(logits[start : start + 500], labels[start : start + 500])
        assert sum(len(one[1]) for one in fit._kept) <= 500
    assert sum(len(one[1]) for one in fit._kept) > 200
    # of 1,500 log T is off by about 0.03, so of 250 to 500 by 0.07 at most
    assert np.log(fit.compute() / whole.compute()) == pytest.approx(0, abs=0.25)
    counts = CalibrationCounts()
    size = counts.wide.numel() + counts.fine.numel()
    counts.update_logits(logits, labels)
    assert counts.wide.numel() + counts.fine.numel() == size


@pytest.mark.parametrize(
    ("shares", "labels", "words"),
    [
        (torch.tensor([[2.0, -1.0]]), [0], "take the softmax"),
        (torch.tensor([[0.5, 0.6]]), [0], "take the softmax"),
        (torch.tensor([[float("nan"), 0.6]]), [0], "take the softmax"),
        (torch.tensor([[0.5, 0.5]]), [2], "labels go from 2 to 2, and there are probabilities of 2"),
        (torch.tensor([[0.5, 0.5]]), [0, 1], "are needed"),
        (torch.zeros(0, 2), [], "no sample"),
    ],
)
def test_what_cannot_be_judged_is_refused(shares, labels, words):
    with pytest.raises(FoveateError, match=words):
        calibration_of(shares, torch.tensor(labels, dtype=torch.int64))


def test_nothing_is_no_number():
    counts = CalibrationCounts(ignore=255)
    counts.update_logits(torch.zeros(1, 2, 3), torch.full((1, 3), 255))
    for empty in (counts, TemperatureFit()):
        with pytest.raises(FoveateError, match="there is nothing to"):
            empty.compute()
