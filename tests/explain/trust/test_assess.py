"""Everything at once: plain values, sentences, and the same numbers as one at a time."""

import json

import pytest
import torch

import foveate
from foveate import hosts
from foveate.errors import FoveateError, OptionError
from foveate.explain.heat import heat
from foveate.explain.trust.assess import assess
from foveate.explain.trust.curves import deletion
from foveate.explain.trust.faithful import faithful
from tests.explain.trust.networks import attended, images


@pytest.fixture(scope="module")
def found():
    network, x = attended("cbam"), images(5)
    region = torch.zeros(32, 32, dtype=torch.bool)
    region[4:20, 4:20] = True
    return network, x, assess(network, x, [0, 1, 2, 3, 0], regions=[region] * 5, examples=2, steps=4)


def test_it_is_json_and_sentences(found):
    _, _, told = found
    content = json.loads(json.dumps(told.as_dict(), allow_nan=False))
    assert set(content) == {"faithful", "pointing", "cascades", "statistics", "ablation", "sentences"}
    assert len(content["statistics"]) == 6
    assert set(content["ablation"]["places"]) == {"layer1.0.bn2", "layer2.0.bn2", "layer3.0.bn2"}
    assert (
        set(content["faithful"]) == set(content["pointing"]["maps"]) == {"attention", "Grad-CAM", "centre", "uniform"}
    )
    assert len(content["faithful"]["attention"]["deletion_blur"]["values"]) == 2
    assert told.ablation.base.count == 5
    lines = told.sentences()
    assert len(lines) == 4 + 2 * 3
    assert all(not line[0].islower() and line.endswith(".") and "  " not in line for line in lines)


def test_the_numbers_are_those_of_one_at_a_time(found):
    network, x, told = found
    with torch.no_grad(), foveate.record(network) as maps:
        network(x[:2])
    own = heat(maps)
    assert own.shape == (2, 8, 8)
    torch.testing.assert_close(own, maps.emphasis["layer3.0.bn2"].exp())
    alone = deletion(network, x[:2], [0, 1], own, baseline="mean", steps=4).areas
    assert told.faithful.values["attention"]["deletion_mean"] == pytest.approx(alone.tolist(), rel=1e-6)


def test_a_network_without_attention_has_grad_cam_only():
    network = hosts.build("foveate/resnet8", classes=4).eval()
    told = assess(network, images(2), [0, 1], steps=2, with_road=False)
    assert set(told.maps) == {"Grad-CAM"}
    assert told.ablation is None
    assert told.statistics == ()
    assert len(told.sentences()) == 2


def test_better_is_better_whichever_way_is_good():
    class First(torch.nn.Module):
        """Sees one pixel."""

        def forward(self, x):
            return x[:, 0, 2, 2, None]

    x = torch.rand(4, 1, 8, 8) + torch.nn.functional.one_hot(torch.tensor(18), 64).reshape(1, 1, 8, 8)
    marked = torch.zeros(4, 8, 8)
    marked[:, 2, 2] = 1
    found = faithful(First(), x, [0] * 4, {"mine": marked}, score=lambda said, _: said[0], steps=8)
    assert all(found.beyond("mine", measure).mean > 0 for measure in found.values["mine"])
    assert all(found.beyond("uniform", measure, "mine").mean < 0 for measure in found.values["mine"])


def test_places_are_asked_for_by_name(found):
    network, x, _ = found
    with torch.no_grad(), foveate.record(network) as maps:
        network(x)
    assert heat(maps, "layer1.0.bn2").shape == (5, 32, 32)
    with pytest.raises(FoveateError, match="no map of positions was recorded at 'layer9'"):
        heat(maps, "layer9")
    with pytest.raises(OptionError, match="do not pair"):
        assess(network, x, [0])
