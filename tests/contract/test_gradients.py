"""A gradient that is rounding is told from one that is small, and a bias that is taken away from one that is stuck."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from foveate.testing import Subject
from foveate.testing.gradients import moving
from foveate.testing.shifts import BATCH_NORMALISATION, SOFTMAX, taken_away


class Pairs(nn.Module):
    """Attention between positions, whose keys have a bias."""

    def __init__(self, how):
        super().__init__()
        self.query, self.key = nn.Conv1d(4, 4, 1), nn.Conv1d(4, 4, 1)
        self.how = how

    def forward(self, x):
        flat = x.flatten(2)
        query, key, value = (t.transpose(1, 2) for t in (self.query(flat), self.key(flat), flat))
        if self.how == "fused":
            return F.scaled_dot_product_attention(query, key, value)
        logits = query @ key.transpose(1, 2)
        if self.how == "masked":
            logits = logits.masked_fill(torch.eye(logits.shape[1], dtype=torch.bool), -torch.inf)
        if self.how == "sigmoid":
            return torch.sigmoid(logits) @ value
        return logits.softmax(2) @ value


class Between(nn.Module):
    """A convolution, something, and batch normalisation."""

    def __init__(self, something):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.something = something

    def forward(self, x):
        return self.norm(self.something(self.conv(x)))


class Nothing(nn.Module):
    """A bias that is multiplied by zero beside a softmax, which does not see it."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(4))

    def forward(self, x):
        return x * x.softmax(1) + 0 * self.bias[:, None, None]


class Uneven(Nothing):
    """A bias that moves what a softmax compares, but not alike, and whose softmax comes to nothing."""

    def forward(self, x):
        return x + 0 * (x * self.bias[:, None, None]).softmax(1)


class Beside(Between):
    """A bias before batch normalisation, and around it."""

    def forward(self, x):
        return super().forward(x) + self.conv(x)


class Counting(Between):
    """Every run in training is another."""

    def __init__(self, something):
        super().__init__(something)
        self.register_buffer("runs", torch.zeros(()))

    def forward(self, x):
        self.runs += 1
        return super().forward(x) * self.runs


@pytest.fixture
def x():
    return torch.randn(3, 4, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def away(module, x):
    return taken_away(module.double(), x, [name for name, _ in module.named_parameters()])


@pytest.mark.parametrize("how", ["softmax", "masked", "fused"])
def test_a_bias_of_keys_is_taken_away_by_the_softmax(how, x):
    assert away(Pairs(how), x) == {"key.bias": SOFTMAX}


def test_a_bias_of_keys_without_a_softmax_is_not(x):
    assert away(Pairs("sigmoid"), x) == {}


@pytest.mark.parametrize("something", [nn.Identity(), nn.AvgPool2d(2)])
def test_a_bias_before_batch_normalisation_is_taken_away(something, x):
    assert away(Between(something), x) == {"conv.bias": BATCH_NORMALISATION}


@pytest.mark.parametrize("something", [nn.ReLU(), nn.Threshold(1e6, 0.0)])
def test_a_bias_before_a_relu_is_not(something, x):
    assert away(Between(something), x) == {}


@pytest.mark.parametrize("module", [Nothing(), Uneven(), Beside(nn.Identity())])
def test_a_bias_that_is_not_seen_to_be_taken_away_is_not(module, x):
    assert away(module, x) == {}


def test_every_run_begins_at_the_same_state(x):
    assert away(Counting(nn.Identity()), x) == {"conv.bias": BATCH_NORMALISATION}


def test_looking_leaves_the_module_as_it_was(x):
    module = Between(nn.Identity()).double()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    away(module, x)
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())


class Small(nn.Module):
    """A gradient of the size of rounding elsewhere, and a bias that is compared by a softmax."""

    def __init__(self):
        super().__init__()
        self.small = nn.Parameter(torch.ones(4))
        self.rounding = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return x * (x + self.rounding).softmax(1) * (1 + 1e-17 * self.small[:, None, None])


def test_a_small_gradient_is_one_and_rounding_is_not(x):
    module = Small().double()
    assert moving(module, x) == {"small"}
    assert 0 < module.small.grad.abs().max() < 1e-15
    assert module.rounding.grad.abs().max() < 1e-13


def test_ms_cams_biases_before_its_norms_pass_by_name_and_not_by_rounding():
    module = Subject.of("multiscale_channel").awake().train()
    features = Subject.of("multiscale_channel").input(8, dtype=torch.float64)
    biases = {f"context.{where}.{layer}.bias" for where in ("here", "everywhere") for layer in (0, 3)}
    stuck = {name for name, _ in module.named_parameters()} - moving(module, features)
    assert stuck == biases
    assert taken_away(module, features, sorted(stuck)) == dict.fromkeys(sorted(biases), BATCH_NORMALISATION)
