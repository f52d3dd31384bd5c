"""An album says what is true of a network, writes all of it or nothing, and looks at no picture to choose one."""

import json
import re
from html.parser import HTMLParser

import pytest
import torch
from torch import nn

from foveate import attach, hosts
from foveate.errors import DataError, FoveateError, OptionError
from foveate.explain.album import Images, Labels, Origin, Seen, Square, Thing, arranged, look, read
from foveate.explain.album.about import about
from foveate.explain.album.answers import Classes, Things, kind_of
from foveate.explain.album.cost import cost_of
from foveate.explain.album.seen import evenly, rule

ORIGIN = Origin("a network", "made in a test")


def images(count=3, size=16, truth=True):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 3, size, size), generator=generator, dtype=torch.uint8)
    return tuple(
        Seen(f"{number}.png", one, one.float() / 255 - 0.5, number % 2 if truth else None)
        for number, one in enumerate(pixels)
    )


def network(attention="cbam", start="paper"):
    torch.manual_seed(0)
    model = hosts.build("foveate/resnet8", classes=2)
    if attention:
        attach(model, attention, start=start, at="layer3.0.bn2", example=torch.zeros(1, 3, 16, 16))
    return model.eval()


@pytest.fixture(scope="module")
def album():
    # drawn once: every test reads it
    return look(network(), arranged(images(), 1, there=3), origin=ORIGIN, classes=("cat", "dog"), examples=2, steps=2)


@pytest.fixture(scope="module")
def page(album):
    return album.html()


class Loads(HTMLParser):
    """Everything that a page would ask a network for."""

    def __init__(self):
        super().__init__()
        self.asked, self.scripts = [], 0

    def handle_starttag(self, tag, attrs):
        self.scripts += tag == "script"
        self.asked += [
            value
            for name, value in attrs
            if name in ("src", "href", "xlink:href", "data", "poster", "srcset") and tag != "a"
            if value and not value.startswith(("data:", "#"))
        ]


def test_a_page_needs_nothing_else(page):
    loads = Loads()
    loads.feed(page)
    assert (loads.asked, loads.scripts) == ([], 0)
    assert not re.search(r"url\((?!#|data:|&#39;#|'#|\"#)", page)
    assert "@import" not in page
    ids = [name for name in re.findall(r'\sid="([^"]+)"', page) if not name.startswith("picture-")]
    assert len(ids) == len(set(ids))


def test_an_album_says_which_network_where_and_how_far_to_trust_it(album, page):
    told = album.as_dict()
    assert "made in a test" in page
    assert "Convolutional Block Attention Module (attached by foveate, hybrid) at layer3.0.bn2" in page
    assert told["network"]["mechanisms"][0]["places"] == ["layer3.0.bn2"]
    assert told["place"] == "layer3.0.bn2"
    assert len(told["images"]) == 1
    assert told["trust"]["images"] == 3
    assert set(told["trust"]["found"]["faithful"]) >= {"attention", "Grad-CAM", "centre", "uniform"}
    assert any(sentence.startswith("With attention as it is, accuracy is") for sentence in told["sentences"])
    assert "needs boxes or masks" in " ".join(told["trust"]["missing"])
    assert told["cost"]["parameters"]["attention"] == sum(
        parameter.numel() for name, parameter in network().named_parameters() if ".foveate." in name
    )
    json.dumps(told, allow_nan=False)


def test_numbers_of_an_answer_are_the_networks_own(album):
    with torch.no_grad():
        shares = network()(images()[0].given[None]).softmax(1)[0]
    probabilities = album.as_dict()["images"][0]["said"]["probabilities"]
    assert dict(probabilities) == pytest.approx({"cat": float(shares[0]), "dog": float(shares[1])})


@pytest.mark.parametrize("attention", ["cbam", "psanet"])
def test_attention_that_changes_nothing_is_said_first(attention):
    found = about(network(attention, "identity"), Origin("n", "w", attention_trained=False), images())
    assert found.identity
    assert "multiplies by exactly 1" in found.cautions[0]
    assert "never trained" in found.cautions[0]


def test_attention_that_acts_is_not_called_the_identity():
    model = network("cbam", "identity")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("blend"):
                parameter.fill_(0.5)
    found = about(model, ORIGIN, images())
    assert (found.identity, found.cautions) == (False, ())


def test_attention_that_hardly_acts_is_not_left_to_look_constant():
    model = network("cbam", "identity")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("blend"):
                parameter.fill_(-0.07)
    [caution] = about(model, ORIGIN, images()).cautions
    assert "hardly acts" in caution
    assert "more than 7.0% of the way" in caution


def test_random_weights_and_untrained_attention_are_said():
    random = about(network(), Origin("n", "w", trained=False, attention_trained=False), images()).cautions
    assert "random" in random[0]
    assert "never trained" in random[1]


def test_a_network_without_attention_has_grad_cam_alone():
    found = look(network(None), Images(images(2), 1, 2), origin=ORIGIN, examples=0)
    assert "has no attention" in found.about.cautions[0]
    assert (found.place, found.cost, found.sheets[0].large, found.sheets[0].stages) == (None, None, None, None)
    assert found.sheets[0].beside.title == "Grad-CAM"
    assert "not asked for" in found.trust.missing[-1]


@pytest.mark.slow
def test_without_labels_the_page_says_what_they_are_missing_for():
    found = look(network(), Images(images(3, truth=False), 1, 3), origin=ORIGIN, examples=2, steps=2, cost=False)
    assert found.trust.missing[0].startswith("No image has a label: whether the answers are right is not known")
    assert found.trust.found.ablation.measure == "agreement with its own answers"
    assert found.trust.found.ablation.base.mean == 1.0  # a network agrees with itself
    assert found.sheets[0].truth is None
    assert "no label was given" in found.html()


@pytest.mark.slow
def test_built_in_attention_costs_what_its_modules_have(monkeypatch):
    monkeypatch.setattr("foveate.explain.album.cost.ROUNDS", 2)  # nothing here is about time
    from timm.layers import SEModule

    model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), SEModule(16), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    cost = cost_of(model, torch.zeros(1, 3, 8, 8))
    assert cost.parameters == (
        sum(p.numel() for p in model[1].parameters()),
        sum(p.numel() for p in model.parameters()),
    )
    assert not cost.beside
    # two 1×1 convolutions on one position: as many multiply-accumulates as weights
    assert cost.macs[0] == model[1].fc1.weight.numel() + model[1].fc2.weight.numel()
    assert "modules run by themselves" in cost.sentences()[0]


def test_an_album_is_written_whole_and_over_nothing(album, page, tmp_path, monkeypatch):
    monkeypatch.setattr("foveate.explain.album.page.page", lambda _: page)  # drawn once
    written = album.write(tmp_path / "out", pictures="svg")
    assert written.read_text(encoding="utf-8") == page
    told = json.loads((tmp_path / "out" / "album.json").read_text(encoding="utf-8"))
    written = {path.name for path in (tmp_path / "out" / "pictures").iterdir()}
    assert set(told["pictures"]) == written
    assert {"01-answer.svg", "01-large.svg", "01-stages.svg", "01-beside.svg"} <= written
    with pytest.raises(FoveateError, match="holds an album already.*--overwrite"):
        album.write(tmp_path / "out")
    (tmp_path / "out" / "pictures" / "mine.txt").write_text("kept")
    album.write(tmp_path / "out", overwrite=True)  # without pictures: those of before are gone, nothing else is
    assert [path.name for path in (tmp_path / "out" / "pictures").iterdir()] == ["mine.txt"]
    with pytest.raises(OptionError, match="svg or png"):
        album.write(tmp_path / "other", pictures="gif")
    assert not (tmp_path / "other").exists()


def test_a_list_of_pictures_from_outside_takes_nothing_away(album, tmp_path, monkeypatch):
    monkeypatch.setattr("foveate.explain.album.page.page", lambda _: "")  # nothing here is about the page
    (tmp_path / "precious.png").write_bytes(b"kept")
    (tmp_path / "pictures").mkdir()  # else no path leads through it
    (tmp_path / "album.json").write_text(json.dumps({"pictures": ["../precious.png", 3, "/etc/passwd"]}))
    album.write(tmp_path, overwrite=True)
    assert (tmp_path / "precious.png").exists()


def test_names_of_files_are_text_and_no_markup():
    one = Seen("<script>alert(1)</script>.png", *(getattr(images(1)[0], name) for name in ("pixels", "given")), None)
    found = look(network(None), Images((one,), 1, 1), origin=Origin("<b>n</b>", "w"), examples=0, cost=False)
    page = found.html()
    assert "<script>" not in page
    assert "<b>n</b>" not in page
    assert "&lt;script&gt;" in page


def test_images_are_chosen_by_their_order_alone():
    assert evenly(list(range(100)), 4) == [0, 25, 50, 75]
    assert evenly([1, 2], 5) == [1, 2]
    assert [one.name for one in arranged(images(5), 2, there=5).seen] == ["0.png", "2.png", "1.png", "3.png", "4.png"]
    assert "492 are left out" in rule(2, 8, 500)


def test_images_of_several_sizes_and_none_are_refused():
    with pytest.raises(OptionError, match="one size"):
        look(network(), Images((*images(1), *images(1, 24)), 1, 2), origin=ORIGIN)
    with pytest.raises(OptionError, match="no image"):
        look(network(), Images((), 0, 0), origin=ORIGIN)
    with pytest.raises(FoveateError, match=r"no map of positions was recorded at 'layer9'"):
        look(network(), Images(images(1), 1, 1), origin=ORIGIN, place="layer9", examples=0)


def test_answers_of_each_kind_are_told():
    things = kind_of({"boxes": torch.tensor([[0.0, 0, 2, 2], [1, 1, 3, 3]]), "scores": torch.tensor([0.4, 0.9]),
                      "labels": torch.tensor([1, 2])}, ("nothing", "cat", "dog"))  # fmt: skip
    assert isinstance(things, Things)
    assert things.sentence({"boxes": torch.tensor([[1.0, 1, 3, 3]]), "scores": torch.tensor([0.9]),
                            "labels": torch.tensor([2])}) == "1 dog"  # fmt: skip
    masks = kind_of(torch.stack([torch.zeros(2, 2), torch.tensor([[1.0, -1], [-1, -1]])]), ("ground", "cell"))
    assert masks.told(torch.stack([torch.zeros(2, 2), torch.tensor([[1.0, -1], [-1, -1]])])) == {
        "shares": {"ground": 0.75, "cell": 0.25}
    }
    assert isinstance(kind_of(torch.zeros(3)), Classes)
    with pytest.raises(FoveateError, match="an album can tell"):
        kind_of(torch.zeros(2, 2))


class TestFiles:
    """Pictures and labels from a folder."""

    @pytest.fixture
    def folder(self, tmp_path):
        from PIL import Image

        for name, shade in (("cat/a.png", 10), ("cat/b.png", 20), ("dog/c.png", 30), ("dog/d.png", 40)):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            Image.new("RGB", (24, 20), (shade, 0, 0)).save(tmp_path / name)
        (tmp_path / "cat" / "bad.png").write_text("no picture")
        (tmp_path / "cat" / "notes.txt").write_text("no picture, and not meant as one")
        return tmp_path

    @staticmethod
    def read(folder, labels=None, *, most=4, measured=8):
        prepare = Square((16, 16), lambda pixels: pixels.float())
        return read([folder], prepare, labels or Labels(("cat", "dog"), folders=True), most=most, measured=measured)

    def test_folders_are_classes_and_a_bad_file_is_named(self, folder):
        found = self.read(folder)
        assert {one.name: one.truth for one in found.seen} == {
            "cat/a.png": 0, "cat/b.png": 0, "dog/c.png": 1, "dog/d.png": 1,
        }  # fmt: skip
        assert [one.name for one in found.left] == ["cat/bad.png"]
        assert "is not an image" in found.left[0].reason
        assert found.seen[0].pixels[0, 0, 0] == 10

    def test_one_that_cannot_be_used_is_stood_in_for(self, folder):
        # of a, b, bad, c and d at even distances: a, b and c; of two, a and bad, for which b stands in
        assert [one.name for one in self.read(folder, most=3, measured=3).seen] == [
            "cat/a.png",
            "cat/b.png",
            "dog/c.png",
        ]
        found = self.read(folder, most=2, measured=2)
        assert [one.name for one in found.seen] == ["cat/a.png", "cat/b.png"]
        assert found.there == 4

    def test_nothing_usable_is_an_error_with_the_reason(self, folder):
        with pytest.raises(DataError, match=r"none of the 1 pictures can be used: bad\.png is not an image"):
            read([folder / "cat" / "bad.png"], Square((16, 16), torch.clone), Labels(()), most=1, measured=1)
        with pytest.raises(DataError, match="there is no picture or folder"):
            self.read(folder / "nowhere")

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("labels.csv", "file,class\ncat/a.png,dog\nc.png,0\n"),
            ("labels.json", '{"cat/a.png": "dog", "c.png": {"class": 0}}'),
        ],
    )
    def test_tables_name_classes_by_path_or_file(self, folder, name, text):
        (folder / name).write_text(text)
        found = self.read(folder, Labels.read(folder / name, ("cat", "dog")))
        assert {one.name: one.truth for one in found.seen} == {
            "cat/a.png": 1, "cat/b.png": None, "dog/c.png": 0, "dog/d.png": None,
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("name", "text", "why"),
        [
            ("labels.csv", "a.png,bird\n", "'bird' of 'cat/a.png', which is no class"),
            ("labels.csv", "a.png\n", "has no class in line 1"),
            ("labels.json", "[1]", "one object"),
            ("labels.json", "{", "is no JSON"),
            ("labels.json", '{"a.png": [{"box": [3, 3, 1, 1], "class": "cat"}]}', "a box for 'cat/a.png' that is none"),
            ("labels.txt", "", "neither .csv nor .json"),
        ],
    )
    def test_labels_that_cannot_be_are_refused_in_words(self, folder, name, text, why):
        (folder / name).write_text(text)
        with pytest.raises(DataError, match=re.escape(why)):
            self.read(folder, Labels.read(folder / name, ("cat", "dog")))

    def test_masks_and_boxes_move_with_the_picture(self, folder):
        from PIL import Image

        mask = Image.new("L", (24, 20))
        mask.paste(1, (2, 0, 12, 20))  # ten of the twenty columns that are cut out
        (folder / "masks").mkdir()
        mask.save(folder / "masks" / "a.png")
        prepare = Square((10, 10), lambda pixels: pixels.float())
        truth = Labels.read(folder / "masks", ("ground", "cell")).truth("cat/a.png", "cat")
        seen = prepare("a", torch.zeros(3, 20, 24, dtype=torch.uint8), truth)
        assert torch.equal(seen.region(), torch.arange(10).lt(5).expand(10, 10))
        thing = (Thing(torch.tensor([2.0, 0.0, 12.0, 20.0]), 1),)
        seen = prepare("a", torch.zeros(3, 20, 24, dtype=torch.uint8), thing)
        assert seen.truth[0].box.tolist() == [0, 0, 5, 10]
        assert torch.equal(seen.region(), torch.arange(10).lt(5).expand(10, 10))
