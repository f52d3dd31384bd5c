"""Networks of the page: offered ones only, within limits, the last ones kept."""

import json

import pytest
import torch

from foveate.app import asking, looking
from foveate.app.networks import RANDOM, UNTRAINED, Choice, Networks, offered
from foveate.app.studies import Studies
from foveate.errors import DataError, FoveateError, OptionError
from foveate.explain.scores import answers, box_score
from foveate.hosts.at_hand import at_hand
from foveate.train.assembly import Assembly, save_model
from tests.test_looking import SETTINGS, saved


def test_runs_are_those_of_the_folder_and_no_link_leads_out(material):
    networks = Networks(checkpoints=material / "runs")
    assert list(networks.runs()) == ["cbam", "plain", "psanet"]
    assert list(Networks(checkpoints=material / "runs" / "cbam").runs()) == ["cbam"]
    for name in ("link", "../outside/run", str(material / "outside" / "run"), "?", "."):
        with pytest.raises(OptionError, match="not one of those offered"):
            networks.get(Choice(checkpoint=name))


def test_reports_are_those_of_the_folder_and_no_link_leads_out(material):
    studies = Studies(material / "studies")
    assert list(studies.reports()) == ["hats"] and "hats" in studies.read("hats")
    for name in ("link", "../outside", str(material / "outside")):
        with pytest.raises(OptionError, match="not one of those offered"):
            studies.read(name)
    assert Studies().reports() == {}


def test_runs_of_scans_and_damaged_ones_are_not_offered(material, tmp_path):
    for name, content in {"scan": '{"work": "medical"}', "broken": "{", "list": "[]"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.json").write_text(content)
    assert Networks(checkpoints=tmp_path).runs() == {}


def test_a_run_whose_weights_are_gone_is_refused(material, tmp_path):
    about = json.loads((material / "runs" / "cbam" / "model" / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(about))
    with pytest.raises(DataError, match="no file"):
        Networks(checkpoints=tmp_path).get(Choice(checkpoint=tmp_path.name))


@pytest.mark.parametrize("host", ["torchvision/vit_l_16", "timm/resnet18", "", "/etc/passwd"])
def test_hosts_are_those_of_the_list(host):
    with pytest.raises(OptionError, match="not one of those offered"):
        Networks(("foveate/resnet8",)).get(Choice(host))


def test_what_would_take_the_machines_memory_is_not_built(monkeypatch):
    networks = Networks(("foveate/resnet8",))
    monkeypatch.setattr("foveate.app.networks.PAIRS", 10**6)
    with pytest.raises(OptionError, match="relates all pairs of positions here, .* for one image"):
        networks.get(Choice("foveate/resnet8", "non_local"))
    monkeypatch.setattr("foveate.app.networks.PARAMETERS", 70_000)
    with pytest.raises(OptionError, match="parameters; the page's limit is 70,000"):
        networks.get(Choice("foveate/resnet8", "se"))
    assert len(networks) == 0


def test_the_last_ones_are_kept_within_bytes():
    networks = Networks(("foveate/resnet8", "foveate/resnet14"), kept=1)
    first = networks.get(Choice("foveate/resnet8"))
    assert networks.get(Choice("foveate/resnet8")) is first
    networks.get(Choice("foveate/resnet14"))
    assert len(networks) == 1 and networks.get(Choice("foveate/resnet8")) is not first
    many = Networks(("foveate/resnet8", "foveate/resnet14"))
    for host in many.hosts * 2:
        many.get(Choice(host))
    assert len(many) == 2


def test_random_weights_and_untrained_attention_are_said():
    assert not at_hand("foveate/resnet8") and offered(("foveate/resnet8",))[0][0].endswith("(random weights)")
    networks = Networks(("foveate/resnet8",))
    assert networks.get(Choice("foveate/resnet8")).notes == (RANDOM,)
    assert networks.get(Choice("foveate/resnet8", "se")).notes == (RANDOM, UNTRAINED)


@pytest.mark.slow
def test_published_weights_that_lie_here_are_taken_and_others_not_fetched(monkeypatch, tmp_path):
    from torchvision.models import MobileNet_V3_Small_Weights, mobilenet_v3_small

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert not at_hand("torchvision/mobilenet_v3_small")
    (tmp_path / "checkpoints").mkdir()
    name = MobileNet_V3_Small_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    torch.save(mobilenet_v3_small().state_dict(), tmp_path / "checkpoints" / name)
    assert at_hand("torchvision/mobilenet_v3_small")
    with pytest.raises(OptionError, match="no classification model"):
        at_hand("torchvision/mobilenet_v33")
    with pytest.raises(OptionError, match="no model"):
        at_hand("timm/resnet1")


@pytest.fixture(scope="module")
def seen(material):
    networks = Networks(checkpoints=material / "runs")
    pixels = torch.randint(0, 255, (3, 40, 60), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return looking.see(networks.get(Choice(checkpoint="psanet")), pixels)


def test_a_question_is_answered_with_the_maps_own_rows_and_columns(seen):
    [*_, name] = asking.affinities(seen)
    one = seen.maps[asking.affinities(seen)[name]]
    height, width = one.size
    dense = one.values[0].double()
    found = asking.ask(seen, name, 0.999, 0.0, asking.LOOKS)
    assert (found.row, found.column, found.size) == (0, width - 1, (height, width))
    looks, looked_at = dense[:, width - 1], dense[width - 1]  # (source, target): a column takes, a row is taken from
    assert f"they add up to {float(looks.sum()):.3g}" in found.words
    other = asking.ask(seen, name, 0.999, 0.0, asking.LOOKED_AT)
    assert f"they add up to {float(looked_at.sum()):.3g}" in other.words
    assert not torch.equal(found.picture, other.picture)


@pytest.mark.parametrize(("across", "down", "row", "column"), [(-3, 7, -1, 0), (0.0, 1.0, -1, 0), (1.0, 0.0, 0, -1)])
def test_questions_from_beyond_the_picture_are_of_its_edge(seen, across, down, row, column):
    [*_, name] = asking.affinities(seen)
    found = asking.ask(seen, name, across, down, asking.LOOKS)
    assert (found.row, found.column) == (row % found.size[0], column % found.size[1])


@pytest.mark.parametrize("place", [(float("nan"), 0.5), (0.5, float("inf"))])
def test_no_place_is_none(seen, place):
    with pytest.raises(FoveateError, match="two shares"):
        asking.ask(seen, next(iter(asking.affinities(seen))), *place, asking.LOOKS)
    with pytest.raises(FoveateError, match="no such map"):
        asking.ask(seen, "layer9", 0.5, 0.5, asking.LOOKS)


@pytest.mark.parametrize("work", ["classification", "segmentation", "detection"])
def test_runs_of_every_kind_of_work_answer_with_their_maps(tmp_path, work):
    saved(tmp_path / "run", work)
    chosen = Networks(checkpoints=tmp_path).get(Choice(checkpoint="run"))
    seen = looking.see(chosen, torch.randint(0, 256, (3, 60, 80), dtype=torch.uint8))
    assert "What the network was shown" in looking.answer(chosen, seen)
    assert "stage by stage" in looking.maps(seen).lower()
    assert [looking.one_map(seen, name) for name in looking.map_names(seen)]
    said = looking.evidence(chosen, seen, None, "gradcam")
    if work == "classification":
        assert f"what speaks for {seen.said.content['class']} in the output" in said
    assert "parameters" in looking.costs(chosen)
    assert seen.pixels.shape[1:] == {"classification": (28, 28), "segmentation": (96, 96), "detection": (60, 80)}[work]


def test_a_detector_is_shown_the_frame_that_its_layers_fit(tmp_path):
    saved(tmp_path / "run", "detection")
    chosen = Networks(checkpoints=tmp_path).get(Choice(checkpoint="run"))
    pixels = torch.full((3, 48, 60), 7, dtype=torch.uint8)
    seen = looking.see(chosen, pixels)
    assert seen.pixels.shape == (3, 48, 64)  # twice as large 96 by 120, and layers make 128 of 120
    assert torch.equal(seen.pixels[:, :, :60], pixels)
    assert "fills the frame" in looking.answer(chosen, seen)


@pytest.mark.parametrize("attended", [True, False])
def test_evidence_of_a_detector_is_that_of_its_surest_box(tmp_path, monkeypatch, attended):
    host, attention, at, channels, classes, options = SETTINGS["detection"]
    assembly = Assembly("detection", host, classes, channels, attention if attended else None,
                        at if attended else None, "paper", {**options, "score": 0.01})  # fmt: skip
    save_model(tmp_path / "run" / "model", assembly.build()[0], assembly)
    chosen = Networks(checkpoints=tmp_path).get(Choice(checkpoint="run"))
    pixels = torch.randint(0, 256, (3, 60, 80), dtype=torch.uint8)
    assert "finds nothing" in looking.evidence(chosen, looking.see(chosen, torch.zeros_like(pixels)), None, "gradcam")
    chosen.network.score_thresh = 0.01  # it has learned nothing, and is sure of nothing
    seen = looking.see(chosen, pixels)
    things = seen.said.content["things"]
    assert len(things) > 1
    surest = max(things, key=lambda thing: thing["score"])
    asked = []

    def spy(original):
        return lambda network, *given, **more: asked.append((given, more)) or original(network, *given, **more)

    name = "beside" if attended else "class_activation"
    monkeypatch.setattr(looking, name, spy(getattr(looking, name)))
    said = looking.evidence(chosen, seen, None, "hirescam")
    [((first, target), more)] = asked
    images, target = (more["inputs"], target) if attended else (first, target[0])
    [again] = answers(chosen.network, images)
    assert float(box_score(again, target).detach()) == surest["score"]
    assert f"the surest box, {surest['class']} {surest['score']:.0%}" in said and ("<img" in said or "<svg" in said)
    assert ("the framed box" in said) == attended


def test_a_detector_that_no_frame_fits_is_warned_of(tmp_path):
    host, attention, at, channels, classes, options = SETTINGS["detection"]
    assembly = Assembly("detection", host, classes, channels, attention, at, "paper", {**options, "size": 80})
    save_model(tmp_path / "run" / "model", assembly.build()[0], assembly)
    chosen = Networks(checkpoints=tmp_path).get(Choice(checkpoint="run"))
    seen = looking.see(chosen, torch.zeros(3, 40, 48, dtype=torch.uint8))
    assert "adds 17% of nothing" in looking.answer(chosen, seen)  # 80 becomes 96
