"""Statistics of weights against NumPy on what was recorded, and that no matrix of all pairs is built."""

import numpy as np
import pytest
import torch
from scipy.stats import entropy

import foveate
from foveate.errors import FoveateError
from foveate.explain.recording import relations
from foveate.explain.recording.relations import by_sources
from foveate.explain.trust.statistics import gate_statistics
from tests.explain.trust.networks import Decides, attended, images


def recorded(network, x):
    with torch.no_grad(), foveate.record(network) as maps:
        network(x)
    return {(m.place, m.step): m.values.double().numpy() for m in maps}


def test_gates_are_as_numpy_has_them_however_the_batches_are_cut():
    network, x = attended("cbam"), images(7)
    expected = recorded(network, x)
    for batches in ([x], [x[:3], x[3:4], x[4:]], [(x[:5], [0] * 5), (x[5:], [0] * 2)]):
        found = {(one.name.place, one.name.step): one for one in gate_statistics(network, batches)}
        assert list(found) == list(expected)
        for key, values in expected.items():
            one, flat = found[key], values.reshape(7, -1)
            assert one.examples == 7
            # float32 gates, which a batch of another size rounds otherwise: by a few 2**-24, and their variances more
            assert one.mean == pytest.approx(values.mean(), rel=1e-6)
            assert one.over_inputs == pytest.approx(np.sqrt(values.var(0).mean()), rel=1e-4)
            assert one.over_places == pytest.approx(np.sqrt(flat.var(1).mean()), rel=1e-4)
            assert one.from_inputs == pytest.approx(values.var(0).mean() / values.var(), rel=1e-4)
            assert one.closed == pytest.approx((values < 0.05).mean(), abs=1e-12)
            assert one.open == pytest.approx((values > 0.95).mean(), abs=1e-12)
            assert (one.low, one.high) == pytest.approx((values.min(), values.max()), rel=1e-6)
            assert one.entropy == pytest.approx(entropy(flat, axis=1).mean() / np.log(flat.shape[1]), rel=1e-6)


def test_branches_share_something_out():
    network, x = attended("sk"), images(3)
    values = recorded(network, x)
    for one in gate_statistics(network, [x]):
        assert one.name.axes[0] == "branch"
        shares = values[one.name.place, one.name.step].reshape(3, 2, -1)
        assert one.entropy == pytest.approx(entropy(shares, axis=1).mean() / np.log(2), rel=1e-6)


@pytest.mark.parametrize(
    "spec", ["psanet", "danet_position", "danet_channel", "criss_cross", "non_local:subsample=true"]
)
def test_relations_are_asked_a_few_sources_at_a_time(spec, monkeypatch):
    network, x = attended(spec, at="layer3.0.bn2").double(), images(3).double()
    expected = recorded(network, x)
    monkeypatch.setattr(relations, "MOST_AT_ONCE", 2 * 64 * 5)  # five sources of two samples
    most = []
    watched = relations.by_sources

    def watch(relation, like):
        monkeypatch.setattr(type(relation), "dense", None, raising=True)
        for first, part in watched(relation, like):
            most.append(part.numel())
            yield first, part

    monkeypatch.setattr("foveate.explain.trust.statistics.by_sources", watch)
    found = gate_statistics(network, [x[:2], x[2:]])
    assert len(most) >= 4  # of 16 sources and more
    assert max(most) <= 2 * 64 * 5
    for one in found:
        weights = expected[one.name.place, one.name.step]  # (b, source, target)
        given = weights.mean(2) * weights.shape[1]
        # recorded as float32: relative errors of 6e-8, and of differences from 1 more
        assert one.mean == pytest.approx(given.mean(), rel=1e-6)
        assert one.over_inputs == pytest.approx(np.sqrt(given.var(0).mean()), rel=1e-4, abs=1e-7)
        sizes = np.abs(weights)
        assert one.entropy == pytest.approx(entropy(sizes, axis=1).mean() / np.log(weights.shape[1]), rel=1e-6)
        assert one.closed is one.open is None
        extremes = weights.min() * weights.shape[1], weights.max() * weights.shape[1]  # in even shares, as the mean
        assert (one.low, one.high) == pytest.approx(extremes, rel=1e-6)


def test_parts_are_the_columns_of_the_whole():
    whole = torch.rand(2, 3, 7, 7)
    parts = torch.cat([part for _, part in by_sources(whole, whole)], 1)
    assert torch.equal(parts, whole.flatten(0, 1))


def test_gates_above_one_have_no_known_end():
    found = gate_statistics(attended("eca"), [images(3)])
    assert all(one.open is not None for one in found)
    wide = attended("gated_channel")  # 1 + tanh
    found = gate_statistics(wide, [images(3)])
    assert all(one.open is None and one.high > 1 for one in found)
    assert "above" not in str(found[0])


def test_a_constant_has_no_variance_and_a_decision_has_all_of_it():
    x = torch.linspace(-1, 1, 10)[:, None, None, None].expand(-1, 3, 2, 2)
    (one,) = gate_statistics(Decides(), [x])
    assert one.from_inputs == 1
    assert (one.closed, one.open, one.entropy) == (0.5, 0.5, 0)
    (same,) = gate_statistics(Decides(), [x[:1], x[:1], x[:1]])
    assert same.over_inputs == 0
    assert same.from_inputs == 0
    assert set(one.as_dict()["name"]) >= {"place", "axes"}


def test_what_says_nothing_is_refused():
    with pytest.raises(FoveateError, match="no attention ran"):
        gate_statistics(attended("se"), [])
    with pytest.raises(FoveateError, match="no attention to ask about"):
        gate_statistics(torch.nn.Conv2d(3, 2, 1), [images(1)])


def test_a_compiled_network_is_seen_through():
    network, x = attended("se"), images(2)
    plain = gate_statistics(network, [x])
    compiled = torch.compile(network, backend="eager")
    assert gate_statistics(compiled, [x]) == plain
    assert gate_statistics(torch.nn.DataParallel(network), [x]) == plain
