"""Sentences of an album that were once untrue."""

import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from foveate import attach, hosts
from foveate.attention import Gate, Map
from foveate.errors import FoveateError
from foveate.explain.album import Images, Origin, Seen, Thing, look
from foveate.explain.album.about import about
from foveate.explain.album.album import check_free
from foveate.explain.album.answered import answered
from foveate.explain.album.answers import Classes, Masks, kind_of
from foveate.explain.album.cost import cost_of
from foveate.explain.album.page import _correlation, _number
from foveate.explain.album.telling import telling_place
from foveate.explain.trust.effect import Effect
from foveate.surgery import disable

ORIGIN = Origin("a network", "made in a test")


def seen(*truths, size=16):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (len(truths), 3, size, size), generator=generator, dtype=torch.uint8)
    return tuple(
        Seen(f"{number}.png", one, one.float() / 255 - 0.5, truth)
        for number, (one, truth) in enumerate(zip(pixels, truths, strict=True))
    )


def classifier(*layers, outputs=2):
    torch.manual_seed(0)
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, outputs))
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), *layers, *head).eval()


def looked(network, *truths, **how):
    images = seen(*truths)
    return look(network, Images(images, 1, len(images)), origin=ORIGIN, **{"examples": 0, "cost": False, **how})


class Unseen(nn.Module):
    """Attention of somebody, whose map cannot be seen."""

    def forward(self, x):
        return x * x.mean((2, 3), keepdim=True).sigmoid()


def unseen():
    model = classifier(nn.Identity())
    return attach(model, lambda _: Unseen(), at="1", start="paper").eval()


def test_attention_that_changes_nothing_beside_attention_built_in():
    from timm.layers import SEModule

    model = classifier(SEModule(8), nn.Conv2d(8, 8, 1))
    attach(model, "se", at="2", start="identity")
    images = seen(None, None)
    found = about(model.eval(), Origin("n", "w", attention_trained=False), images)
    batch = torch.stack([one.given for one in images])
    with torch.no_grad(), disable(model):
        resting = model(batch)
    with torch.no_grad():
        assert torch.equal(model(batch), resting)  # by itself: it does change nothing
    assert found.identity
    [caution] = found.cautions
    assert "attention that was attached changes nothing" in caution
    assert "random weights" not in caution


def test_the_cost_of_both_kinds_of_attention_is_that_of_the_attached(monkeypatch):
    monkeypatch.setattr("foveate.explain.album.cost.ROUNDS", 2)  # nothing here is about time
    from timm.layers import SEModule

    model = classifier(SEModule(8), nn.Conv2d(8, 8, 1))
    attach(model, "eca", at="2", start="paper")
    told = cost_of(model.eval(), torch.zeros(1, 3, 8, 8)).sentences()
    assert "the attention attached by foveate makes that" in told[0]
    assert told[1].startswith("The attached attention has ")
    assert "attention of its own" in told[1]


def test_a_network_that_cannot_be_copied_has_an_album_without_cost(tmp_path):
    class Alone(nn.Conv2d):
        def __deepcopy__(self, memo):
            raise TypeError("cannot pickle 'lock' object")

    model = nn.Sequential(Alone(3, 8, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    attach(model, "se", at="1", start="paper")
    found = looked(model.eval(), 0, 1, cost=True, examples=2, steps=2)
    assert found.cost is None
    assert any("cost" in note and "cannot be copied" in note for note in found.notes)
    assert any("cannot be copied" in one for one in found.trust.missing)


def test_the_page_says_how_the_place_was_chosen():
    model = attach(classifier(nn.Identity()), "cbam", at="1", start="paper").eval()
    page = looked(model, 0, place="1").html()
    assert "which was asked for" in page
    assert "where attention sets positions apart most" not in page


def test_attention_without_positions_is_not_called_none():
    found = looked(attach(classifier(nn.Identity()), "se", at="1", start="paper").eval(), 0)
    assert found.about.mechanisms
    for one in found.sheets:
        assert "has no attention" not in one.beside.caption
    gone = looked(unseen(), 0, 1, examples=2, steps=2)
    assert gone.place is None
    assert "No map of positions was recorded" in gone.sheets[0].beside.caption
    assert any("Unseen at '1'" in caution for caution in gone.about.cautions)
    assert set(gone.trust.found.maps) == {"Grad-CAM"}


def test_chance_is_known_without_names():
    assert kind_of(torch.zeros(8)).chance() == 1 / 8
    assert kind_of(torch.zeros(2), ("cat", "dog")).chance() == 1 / 2


def test_of_two_classes_that_the_softmax_makes_equal_the_higher_is_said():
    answer = torch.zeros(1000)
    answer[595] = 2e-8  # a step of single precision in the logit, none in the probability
    assert answer.softmax(0)[595] == answer.softmax(0)[434] and Classes(()).told(answer)["class"] == "class 595"


def test_one_output_is_no_certainty():
    with pytest.raises(FoveateError, match="one number"):
        kind_of(torch.zeros(1), ("cat",))
    cell = kind_of(torch.tensor([[[1.0, -1.0]]]), ("cell",))
    assert cell.sentence(torch.tensor([[[1.0, -1.0]]])) == "cell on 50% of the pixels"
    assert cell.true_words(torch.tensor([[0, 1]])) == "cell"


def test_classes_that_share_a_name_are_all_told():
    told = Classes(("crane", "cat", "crane")).told(torch.zeros(3))
    assert [name for name, _ in told["probabilities"]] == ["crane", "cat", "crane"]


BOXES = (Thing(torch.tensor([0.0, 0.0, 2.0, 2.0]), 1),)
MASK = torch.zeros(16, 16).long()


@pytest.mark.parametrize(
    ("model", "truth", "words"),
    [
        (classifier(), BOXES, "boxes for '0.png', and this network answers with classes: it takes a label"),
        (classifier(), MASK, "a mask for '0.png'"),
        (classifier(), 5000, "class 5000 for '0.png', and the network's 2 classes end at 1"),
        (nn.Conv2d(3, 2, 1), 1, "a label for '0.png', and this network answers with masks: it takes a mask"),
        (nn.Conv2d(3, 2, 1), MASK + 2, "class 2 for '0.png', and the network's 2 classes end at 1"),
        (nn.Conv2d(3, 1, 1), MASK + 2, "class 2"),
    ],
)
def test_truth_that_does_not_fit_is_refused_in_a_sentence(model, truth, words):
    with pytest.raises(FoveateError, match=re.escape(words)):
        looked(model, truth)


def test_truth_of_no_class_fits():
    kind = kind_of(torch.zeros(2, 4, 4))
    kind.check(seen(torch.full((16, 16), 255)))
    assert isinstance(kind, Masks)


def test_one_bad_image_does_not_end_an_album():
    model = attach(classifier(nn.Identity()), "cbam", at="1", start="paper").eval()
    images = seen(0, 1, 0)
    bad = replace(images[1], given=torch.full_like(images[1].given, float("nan")))
    found = look(model, Images((bad, images[0], images[2]), 2, 3), origin=ORIGIN, examples=2, steps=2, cost=False)
    first, second = found.sheets
    assert (first.large, first.sentence) == (None, "nothing: its numbers are not finite")
    assert len(first.missing) >= 3
    assert (second.large is not None, second.missing) == (True, ())
    assert found.trust.images == 2
    assert any("1 of 3 images" in one and "not finite" in one for one in found.trust.missing)
    found.html()


def test_few_images_cannot_show_a_constant_and_the_page_says_so():
    model = attach(classifier(nn.Identity()), "se", at="1", start="paper").eval()
    found = looked(model, 0, 1, 0, examples=1, steps=2)
    # 1 - 0.05 ** (1 / n) < 0.01 from 299 images on
    assert any("3 images cannot show" in one and "299" in one for one in found.trust.missing)


def test_nothing_has_no_sign():
    assert Effect(-0.0001, 0.0, 0.0004, 5).points() == "0.0 points (0.0 to 0.0)"
    assert Effect(-0.001, -0.002, 0.001, 5).points() == "-0.1 points (-0.2 to +0.1)"
    assert (_number([-0.0001]), _correlation(-0.001)) == ("0.000", "0.00")
    assert _number([-0.1]) == "\N{MINUS SIGN}0.100"


class TestFree:
    """What would be refused after the work is refused before it."""

    def test_nothing_that_is_there_is_written_over(self, tmp_path):
        (tmp_path / "album.json").write_text("mine")
        with pytest.raises(FoveateError, match=r"album\.json.*--overwrite"):
            check_free(tmp_path, None, overwrite=False)
        check_free(tmp_path, None, overwrite=True)
        (tmp_path / "b" / "pictures").mkdir(parents=True)
        check_free(tmp_path / "b", "svg", overwrite=False)
        (tmp_path / "b" / "pictures" / "01-answer.svg").write_text("mine")
        check_free(tmp_path / "b", None, overwrite=False)  # no picture is written
        with pytest.raises(FoveateError, match=r"01-answer\.svg.*--overwrite"):
            check_free(tmp_path / "b", "svg", overwrite=False)

    @pytest.mark.parametrize("name", ["a-file", "a-file/below/it"])
    def test_a_file_is_no_folder(self, tmp_path, name):
        (tmp_path / "a-file").write_text("mine")
        with pytest.raises(FoveateError, match="a-file' is a file"):
            check_free(tmp_path / name, None, overwrite=True)

    def test_names_that_are_no_text_are_written(self, tmp_path):
        found = replace(looked(hosts.build("foveate/resnet8", classes=2).eval(), 0), command="look k\udcf6ter.png")
        assert "k\\udcf6ter.png" in found.write(tmp_path / "out").read_text(encoding="utf-8")


def test_attention_on_kernels_alone_is_ablated_all_the_same():
    from timm.layers import SelectiveKernel

    found = looked(classifier(SelectiveKernel(8, 8)), 0, 1, examples=1, steps=2)
    assert found.place is None
    assert set(found.trust.found.maps) == {"Grad-CAM"}
    assert found.trust.found.ablation is not None


class Ramp(Gate):
    """A gate that rises from left to right, whatever it is given."""

    def __init__(self, first, last):
        super().__init__()
        self.first, self.last = first, last
        self.map = Map("w")

    def gather(self, x):
        return torch.linspace(self.first, self.last, x.shape[-1]).expand(len(x), 1, 1, -1)

    def weigh(self, context):
        return context

    def reset_parameters(self):
        pass


def test_the_place_shown_large_is_no_gate_that_is_shut():
    """What it lets through differs a hundredfold from left to right, and is nothing everywhere."""
    model = classifier(nn.Identity(), nn.Conv2d(8, 8, 1))
    attach(model, lambda _: Ramp(1e-5, 1e-3), at="1", start="paper", name="shut")
    attach(model, lambda _: Ramp(0.5, 1.0), at="2", start="paper", name="open")
    assert telling_place(model.eval(), seen(0, 1)) == "2"
    assert telling_place(model, seen(0, 1), "1") == "1"


def test_images_that_pointing_leaves_out_are_told():
    """All of the first is marked: no map can miss it."""
    half = torch.zeros(16, 16, dtype=torch.long)
    half[:, 8:] = 1
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Identity(), nn.Conv2d(8, 2, 1))
    attach(model, "cbam", at="1", start="paper")
    found = looked(model.eval(), torch.ones_like(half), half, half, examples=3, steps=2).trust
    assert len(found.found.pointing.images) == 2
    [told] = [one for one in found.missing if "point at what is marked" in one]
    assert "is told of 2 of 3 images" in told
    assert any(
        "its highest position is in or beside them on" in one and "of 2 images" in one for one in found.sentences()
    )
    told = looked(model, half, half, half, examples=3, steps=2).trust.missing
    assert [one for one in told if "is told of" in one] == []


def test_boxes_of_a_person_have_no_numbers_and_all_classes_a_colour():
    image = torch.zeros(3, 16, 16, dtype=torch.uint8)
    box = torch.tensor([2.0, 2.0, 9.0, 9.0])
    kind = kind_of({"boxes": box[None], "scores": torch.tensor([0.9]), "labels": torch.tensor([1])}, ("", "cat", "dog"))
    one = Seen("a", image, image.float(), (Thing(box, 1), Thing(box + 4, 2)))
    answer = {"boxes": box[None], "scores": torch.tensor([0.9]), "labels": torch.tensor([1])}
    picture = answered(one, answer, kind)
    words = [word.strip() for word in re.findall(r"<text[^>]*>([^<]*)</text>", picture.svg())]
    assert "cut" not in picture.caption
    assert words.count("1") == 1
    assert "1: cat 90%" in words
    assert "dog: marked, not found" in words
