"""Curves of networks on which they are known: what is removed, in which order, and what takes its place."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

from foveate.errors import FoveateError, OptionError
from foveate.explain.heat import spread
from foveate.explain.trust import fills
from foveate.explain.trust.curves import deletion, insertion, ordered, road
from foveate.explain.trust.fills import blurred


class Linear(nn.Module):
    """A weighted sum of all pixels."""

    def __init__(self, weights):
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, x):
        assert not self.training
        return (x * self.weights).sum((1, 2, 3))[:, None]


def value(answer, target):
    return answer[0] * target


def drawn(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def linear():
    return Linear(drawn(2, 5, 4) - 0.3)


def expected(weights, image, heat, base, shares, inserting):
    """Of a linear network, by hand: each pixel brings what it weighs, or what the baseline there weighs."""
    shown, hidden = (np.asarray(weights * one).sum(0).ravel() for one in (image, base))
    order = np.argsort(-np.asarray(heat).ravel())
    scores = []
    for share in shares:
        count = round(share * order.size)
        first = np.zeros(order.size, dtype=bool)
        first[order[:count]] = True
        scores.append(np.where(first == inserting, shown, hidden).sum())
    return np.array(scores)


@pytest.mark.parametrize("inserting", [True, False])
@pytest.mark.parametrize("baseline", ["mean", "blur"])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_curves_of_a_linear_network_are_sums(linear, inserting, baseline, batch_size):
    images, heats, targets = drawn(3, 2, 5, 4, seed=1), drawn(3, 5, 4, seed=2), [1.0, -1.0, 2.0]
    curve = insertion if inserting else deletion
    found = curve(linear, images, targets, heats, baseline=baseline, steps=10, score=value, batch_size=batch_size)
    shares = np.linspace(0, 1, 11)
    for image, heat, target, scores in zip(images, heats, targets, found.scores, strict=True):
        base = image.mean((1, 2), keepdim=True) if baseline == "mean" else blurred(image)
        by_hand = expected(linear.weights.detach(), image, heat, base, shares, inserting) * target
        # float64 sums of 40 products below 1 in another order
        np.testing.assert_allclose(scores.numpy(), by_hand, rtol=0, atol=1e-13)
    np.testing.assert_allclose(found.areas, np.trapezoid(found.scores, shares, axis=1), rtol=0, atol=1e-13)


def test_the_order_of_what_each_pixel_brings_is_the_best(linear):
    """Of a linear network no order deletes faster than that of the pixels' own contributions."""
    image = drawn(1, 2, 5, 4, seed=3)
    brings = (linear.weights.detach() * (image - image.mean((2, 3), keepdim=True))).sum(1)
    others = [brings, -brings, *(drawn(1, 5, 4, seed=seed) for seed in range(4, 12))]
    areas = [float(deletion(linear, image, [1], one, baseline="mean", score=value).areas) for one in others]
    assert areas.index(min(areas)) == 0
    assert areas.index(max(areas)) == 1
    rising = [float(insertion(linear, image, [1], one, baseline="mean", score=value).areas) for one in others]
    assert rising.index(max(rising)) == 0
    assert rising.index(min(rising)) == 1


def test_equal_values_favour_no_corner_and_come_in_one_order():
    even = ordered(torch.zeros(16, 16))
    assert sorted(even.flatten().tolist()) == list(range(256))
    assert torch.equal(even, ordered(torch.full((16, 16), 7.0)))
    half = even < 128
    # of 64 places in a quarter half are expected, with deviation 4 (hypergeometric, 256 by 128 by 64: 3.5)
    assert all(abs(int(part.sum()) - 32) < 14 for part in (half[:8, :8], half[:8, 8:], half[8:, :8], half[8:, 8:]))
    some = torch.zeros(16, 16)
    some[3, 4] = 1
    ranks = ordered(some)
    assert int(ranks[3, 4]) == 0
    others = torch.ones(16, 16, dtype=torch.bool)
    others[3, 4] = False
    assert torch.equal(ranks[others].argsort(), even[others].argsort())


def test_a_coarse_map_lies_over_the_image_with_half_pixel_centres(linear):
    image, coarse = drawn(1, 2, 5, 4, seed=3), torch.tensor([[[1.0], [0.0]]])
    # the middle of row i lies at (i + 0.5) * 2 / 5 - 0.5 between the two cells: -0.3, 0.1, 0.5, 0.9, 1.3
    rows = torch.tensor([1.0, 0.9, 0.5, 0.1, 0.0]).reshape(1, 5, 1).expand(1, 5, 4)
    torch.testing.assert_close(spread(coarse, (5, 4)), rows)
    one, other = (deletion(linear, image, [1], heat, baseline="mean", score=value).scores for heat in (coarse, rows))
    assert torch.equal(one, other)


@pytest.mark.parametrize("size", [(20, 31), (9, 9), (1, 6)])
def test_the_blur_is_a_gaussian_of_a_tenth_of_the_shorter_side(size):
    image = drawn(2, *size)
    deviation = 0.1 * min(size)
    radius = np.ceil(3 * deviation)
    filtered = [image.numpy()]
    for axis in (1, 2):  # the window is no wider than the mirrored line
        reach = min(radius, size[axis - 1] - 1)
        sigma = [deviation if at == axis else 0 for at in range(3)]
        filtered.append(gaussian_filter(filtered[-1], sigma, mode="mirror", truncate=reach / deviation + 1e-9))
    # float64 sums of at most 21 products; scipy computes the same window
    np.testing.assert_allclose(blurred(image).numpy(), filtered[-1], rtol=0, atol=1e-13)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of NumPy, about grad-cam
def test_road_is_that_of_grad_cam_where_no_values_are_equal(linear, monkeypatch):
    from pytorch_grad_cam.metrics import road as theirs

    monkeypatch.setattr(fills, "NOISE", 0.0)
    monkeypatch.setattr(theirs.NoisyLinearImputer.__init__, "__defaults__", (0.0, theirs.neighbors_weights))
    network = Linear(drawn(2, 10, 10).float() - 0.3).eval()
    images, heats = drawn(2, 2, 10, 10, seed=1).float(), drawn(2, 10, 10, seed=2).float()
    # 100 pixels, so that their percentiles lie between two ranks, with as many above as our shares have
    reference = theirs.ROADCombined()(images, heats.numpy(), [lambda row: row[0].detach()] * 2, network)
    found = road(network, images, [1, 1], heats, score=value)
    # float32: sums of 200 products below 1 are off by at most 200 * 2**-24 = 1e-5
    np.testing.assert_allclose(found.values.numpy(), reference, rtol=0, atol=2e-5)
    assert np.abs(reference).max() > 0.1


def test_road_takes_maps_of_equal_values(linear):
    image = drawn(1, 2, 5, 4, seed=3)
    found = road(linear, image, [1], torch.zeros(1, 5, 4), score=value)
    assert bool(torch.isfinite(found.values).all())
    again = road(linear, image, [1], torch.zeros(1, 5, 4), score=value)
    assert torch.equal(found.values, again.values)


def test_the_network_and_chance_are_left_as_they_were(linear):
    linear.train()
    state = torch.get_rng_state()
    deletion(linear, drawn(1, 2, 5, 4), [1], drawn(1, 5, 4), score=value)
    assert linear.training
    assert torch.equal(state, torch.get_rng_state())
    with pytest.raises(ZeroDivisionError):
        deletion(linear, drawn(1, 2, 5, 4), [1], drawn(1, 5, 4), score=lambda *_: 1 / 0)
    assert linear.training


def test_what_cannot_work_is_refused(linear):
    image, heat = drawn(1, 2, 5, 4), drawn(1, 5, 4)
    with pytest.raises(OptionError, match="1 images and 2 targets do not pair"):
        deletion(linear, image, [1, 2], heat)
    with pytest.raises(OptionError, match="a baseline must be one of 'blur', 'mean', not 'black'"):
        deletion(linear, image, [1], heat, baseline="black")
    with pytest.raises(FoveateError, match="not finite"):
        deletion(linear, image, [1], heat * float("nan"), score=value)
    with pytest.raises(OptionError, match="ascend between 0 and 1"):
        road(linear, image, [1], heat, shares=(0.5, 1.0))
