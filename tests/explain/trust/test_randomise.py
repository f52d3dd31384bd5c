"""Maps that show the image, maps that show the network, and a network that nobody touches."""

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity as skimage_ssim
from torch import nn

from foveate.errors import FoveateError, OptionError
from foveate.explain.activation import class_activation
from foveate.explain.trust.randomise import Cascade, Stage, cascade
from foveate.explain.trust.similarity import rank_correlation, structural_similarity
from tests.explain.trust.networks import attended, images


class Learned(nn.Module):
    """Its map is what its first layer weighs."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 16, 4)
        self.norm = nn.BatchNorm2d(16)
        self.last = nn.Linear(16, 2)
        self.scale = nn.Parameter(torch.arange(6.0))

    def forward(self, x):
        return self.last(self.norm(self.first(x)).mean((2, 3))) * self.scale.sum()


def weights(network, x):
    return network.first.weight.flatten(1)[None].expand(len(x), -1, -1)


def test_the_cascade_runs_from_the_last_layer_to_the_first():
    network = Learned().eval()
    before = network.first.weight.detach().clone()
    found = cascade(network, images(2), weights, stages=100)
    # what the network itself holds is done when the network is, after everything in it
    assert [stage.layer for stage in found.stages] == ["", "last", "norm", "first"]
    total = 6 + 34 + 32 + 784
    assert [stage.share for stage in found.stages] == pytest.approx([6 / total, 40 / total, 72 / total, 1])
    assert [stage.correlation for stage in found.stages[:3]] == [1, 1, 1]
    assert found.stages[2].similarity == pytest.approx(1)
    # 768 weights drawn anew: their rank correlation has deviation 1 / sqrt(767) = 0.036
    assert abs(found.stages[3].correlation) < 0.2
    assert found.passed
    assert torch.equal(network.first.weight, before)
    few = cascade(network, images(2), weights, stages=2)
    assert [stage.layer for stage in few.stages] == ["last", "first"]
    assert few.stages[-1].share == 1


@pytest.mark.parametrize(("values", "words"), [
    ((0.1, 0.3, None, None), "is 0.20 on 2 of 4 images; on the others one of the two is flat"),
    ((0.1, 0.3), "drawn anew its rank correlation with itself is 0.20"),
])  # fmt: skip
def test_of_how_many_images_a_cascade_speaks(values, words):
    assert Cascade((Stage("first", 1.0, values, values),)).sentence("it").endswith(words)


def test_everything_is_drawn_anew():
    network = attended("cbam").train()
    held = {}

    def look(copied, x):
        held[len(held)] = {key: value.clone() for key, value in copied.named_parameters()}
        return x.mean(1)

    found = cascade(network, images(2), look, stages=3)
    before, after = held[0], held[len(held) - 1]
    same = [key for key in before if torch.equal(before[key], after[key])]
    assert same == []  # every one was moved away from where it starts
    assert not found.passed
    assert "hardly depends on the network's weights" in found.sentence()
    assert "rank correlation with itself is 1.00" in found.sentence("it")


def test_the_network_is_never_touched_even_on_error():
    network = attended("cbam").train()
    state = {key: value.clone() for key, value in network.state_dict().items()}
    chance = torch.get_rng_state()
    calls = []

    def fails(copied, x):
        calls.append(copied)
        if len(calls) == 3:
            raise ZeroDivisionError
        return x.mean(1)

    with pytest.raises(ZeroDivisionError):
        cascade(network, images(2), fails)
    assert all(copied is not network for copied in calls)
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert network.training
    assert not any(module._forward_hooks for module in network.modules())
    assert torch.equal(chance, torch.get_rng_state())


def test_grad_cam_of_a_network_depends_on_it_and_seeds_repeat():
    network, x = attended("cbam"), images(3)

    def explain(model, some):
        return class_activation(model, some, [0, 1, 2])

    one, again, other = (cascade(network, x, explain, stages=2, seed=seed) for seed in (0, 0, 1))
    assert one == again
    assert one != other


def test_a_map_without_ranks_says_so():
    found = cascade(Learned().eval(), images(2), lambda _, x: torch.ones(len(x), 4, 4), stages=1)
    assert found.passed is None
    assert "cannot be told" in found.sentence()


def test_what_cannot_be_drawn_anew_is_refused():
    with pytest.raises(OptionError, match="no parameters"):
        cascade(nn.Flatten(), images(1), lambda _, x: x.mean(1))

    class Single(nn.Conv2d):
        def __deepcopy__(self, memo):
            raise TypeError("there is one of me")

    with pytest.raises(FoveateError, match="cannot be copied .there is one of me."):
        cascade(Single(3, 2, 1), images(1), lambda _, x: x.mean(1))


def test_similarities_are_those_of_other_libraries():
    generator = torch.Generator().manual_seed(0)
    one = torch.rand(24, 31, generator=generator)
    other = (one + 0.3 * torch.rand(24, 31, generator=generator)) * 5 - 2
    # skimage leaves out the edge; mirrored by as much, what it keeps is the whole map
    stretched = [((m - m.min()) / (m.max() - m.min())).double() for m in (one.double(), other.double())]
    stretched = [np.pad(m.numpy(), 5, mode="reflect") for m in stretched]
    theirs = skimage_ssim(*stretched, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0)
    # ours is rounded to six digits
    assert structural_similarity(one, other) == pytest.approx(theirs, abs=1e-6)
    assert theirs < 0.95
    ranks = [np.argsort(np.argsort(m.numpy().ravel())) for m in (one, other)]
    assert rank_correlation(one, other) == pytest.approx(np.corrcoef(*ranks)[0, 1], rel=1e-9)
    assert rank_correlation(one, torch.ones(24, 31)) is None
    assert structural_similarity(torch.zeros(24, 31), one) is None
    assert structural_similarity(one[:2, :3], one[:2, :3]) == pytest.approx(1)
    with pytest.raises(FoveateError, match="cannot be compared"):
        rank_correlation(one, one[:3])


def test_a_correlation_of_next_to_nothing_has_no_sign():
    found = Cascade((Stage("first", 1.0, (-0.001,), (0.5,)),))
    assert found.sentence().endswith("with all layers drawn anew its rank correlation with itself is 0.00")
