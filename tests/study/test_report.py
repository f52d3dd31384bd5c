"""The report: whole without a network, safe with names from outside, and honest where something is missing."""

from __future__ import annotations

import copy
import csv
import errno
import importlib.util
import itertools
import json
import os
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

import foveate
from foveate.data import fashion_mnist
from foveate.errors import FoveateError
from foveate.study import report
from foveate.study.asked import Asked
from foveate.study.command import command
from foveate.study.description import described
from foveate.study.design import Study
from foveate.study.figures import difference_chart, looks
from foveate.study.folder import Folder, Results, load, maps_bytes
from foveate.study.lines import lines_chart
from foveate.study.plan import prepare
from foveate.study.strips import Bars, Picture, pictured, places
from foveate.train.running import read_settings

_described = importlib.util.spec_from_file_location("made", Path(__file__).with_name("made.py"))
made = importlib.util.module_from_spec(_described)
_described.loader.exec_module(made)

VOID = {"meta", "img", "br", "link", "input", "hr", "base"}


class Page(HTMLParser):
    """The elements of a page, and its text without what is between style tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.results(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def html(finished: Path) -> str:
    return report.render(load(finished))


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that can be asked for."""
    return made.results(tmp_path_factory.mktemp("whole"), everything=True)


@pytest.fixture(scope="module")
def whole_page(whole: Path) -> Page:
    return Page(report.render(load(whole)))


def part(page: Page, start: str, end: str) -> str:
    text = page.text[page.text.index("How it was compared") :]
    return text[text.index(start) : text.index(end, text.index(start))]


def rendered(results: Results) -> Page:
    return Page(report.render(results))


@pytest.mark.parametrize("which", ["finished", "whole"])
def test_it_asks_nobody_for_anything(which: str, request: pytest.FixtureRequest) -> None:
    html = report.render(load(request.getfixturevalue(which)))
    page = Page(html)
    papers = {foveate.get(name).card.paper.page for name in foveate.names()}
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base", "form"}
    for tag, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "srcset", "poster", "data"):
            value = attributes.get(name)
            if value is not None and not value.startswith(("#", "data:image/png;base64,")):
                assert (tag, name) == ("a", "href")
                assert re.fullmatch(r"https://arxiv\.org/abs/\d+\.\d+", value) or value in papers
        for value in attributes.values():
            assert all(match.startswith("#") for match in re.findall(r"url\(['\"]?([^)'\"]+)", value or ""))
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


@pytest.mark.parametrize("which", ["page", "whole_page"])
def test_every_id_is_there_once_and_every_reference_arrives(which: str, request: pytest.FixtureRequest) -> None:
    page = request.getfixturevalue(which)
    ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(ids) == len(set(ids))
    assert len(page.all("svg")) > 8
    for _, attributes in page.elements:
        wanted = [value[1:] for name in ("href", "xlink:href") if (value := attributes.get(name) or "").startswith("#")]
        wanted += (attributes.get("aria-labelledby") or "").split()
        wanted += [found for value in attributes.values() for found in re.findall(r"url\(#([^)]+)\)", value or "")]
        assert set(wanted) <= set(ids)


def test_every_arm_has_its_numbers(page: Page) -> None:
    # by hand: squeeze_excite's scores are 0.824, 0.808, 0.838, its differences 0.012, 0.004, 0.018: their mean is
    # 1.133 points, their deviation 0.702, and the interval's half width 4.303 · 0.702 / √3 = 1.745
    # its effect is 1.133 / 0.702 = 1.614 standard deviations, times 0.564 for three seeds: 0.91
    verdicts = {
        "baseline": ["81.2 %", "79.2 to 83.2 %", "is the baseline"],
        "squeeze_excite": ["? underpowered", "82.3 %", "78.6 to 86.1 %", "+1.1", "−0.6 to +2.9", "+0.91", "3 of 3"],
        "cbam:reduction=8": ["? underpowered", "82.7 %", "+1.5"],
        "psanet": ["? underpowered", "81.1 %", "−0.1", "−6.3 to +6.0", "2 of 3"],
    }
    costs = {
        "baseline": ["78,042", "12.5 M", "1.00×", "1.9 ms", "+3.4", "0.1"],
        "squeeze_excite": ["78,837", "+795", "1.21×", "1.20 to 1.22×", "2.3 ms"],
        "cbam:reduction=8": ["79,911", "12.9 M", "+3.2 %", "1.63×", "3.1 ms"],
        "psanet": ["412,345", "+334,303", "31 M", "+148 %", "2.95×", "0.0333"],
    }
    text = part(page, "The table", "Differences to the baseline")
    for expected, table in ((verdicts, text[: text.index("What each arm costs")]), (costs, text)):
        begin = table.rindex("Smallest detectable " if expected is verdicts else "Learning rate")
        rows = {arm: table.index(title, begin) for arm, (title, _) in made.ARMS.items()}
        ends = [*sorted(rows.values()), len(table)]
        for arm, numbers in expected.items():
            row = table[rows[arm] : ends[ends.index(rows[arm]) + 1]]
            for number in numbers:
                assert number in row, (arm, number, row)


def test_the_verdict_comes_first(page: Page) -> None:
    before = page.text[: page.text.index("How it was compared")]
    assert "Underpowered: three seeds cannot decide about any of them." in before
    assert "A note that the terminal prints too." in before


def test_everything_is_in_its_order(page: Page) -> None:
    sections = [attributes["id"] for attributes in page.all("section") if attributes.get("id")]
    assert sections == [
        "design", "table", "differences", "costs", "curves", "attention", "conditions", "repeat",
    ]  # fmt: skip
    for words in ("1,800 training, 200 validation and 500 test", "0.1, fixed in advance", "0, 1, 2", "a processor"):
        assert words in page.text


def test_what_was_asked_for_besides_has_its_sections(whole_page: Page) -> None:
    sections = [attributes["id"] for attributes in whole_page.all("section") if attributes.get("id")]
    assert sections == [
        "design", "table", "differences", "controls", "costs", "curves", "fractions", "tuned", "robustness",
        "calibration", "focus", "attention", "conditions", "repeat",
    ]  # fmt: skip
    linked = {link["href"] for link in whole_page.all("a") if link["href"].startswith("#")}
    assert linked == {f"#{name}" for name in sections}


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        # 3 differences of 0.2, −0.2 and 2.0 points: their mean is 0.667
        ("beside their controls", "What it costs", ["placebo of squeeze_excite", "? underpowered", "+0.7", "2 of 3"]),
        ("What it costs", "Learning curves", [
            "psanet is certainly dominated by squeeze_excite", "batch 8, eager", "15.2 ms", "noisy", "44.4 ms", "5 MiB",
            "not known note 1", "Note 1: <i>it broke</i>", "Energy: not known; the machine tells no energy",
            "✗ fails", "no such operation",
        ]),
        ("fewer training samples", "Learning rates", ["25.0 %", "41.1 %", "42.1 %", "+1.0 (−1.0 to +2.0)", "81.2 %"]),
        ("Learning rates", "not what they were", ["0.0333333", "70.1 %", "71.2 % ✓ chosen", "not finished"]),
        ("not what they were", "Calibration", [
            "51.1 %", "noise", "strength 3", "54.1 %", "63.7 %", "92.3 %", "Each corruption", "fog", "<b>snow</b>",
            "57.1 %", "shifted",
        ]),
        ("Calibration", "Does the answer", ["0.071", "0.272", "After scaling", "0.033", "+0.010 (−0.010 to +0.020)"]),
        ("Does the answer", "What it attends to", ["insertion, mean", "0.311", "+0.017 (one seed)", "centre"]),
        ("Conditions", "Repeat it", ["baseline, seed 1: cut off after 1 of 4 epochs"]),
    ],
)  # fmt: skip
def test_numbers_stand_in_their_sections(whole_page: Page, start: str, end: str, expected: list[str]) -> None:
    section = part(whole_page, start, end)
    for words in expected:
        assert words in section, (words, section)


def test_a_comparison_of_an_earlier_version_has_its_report(whole: Path) -> None:
    results = load(whole)
    comparison = copy.deepcopy(dict(results.comparison or {}))
    for name in ("kept", "relative_error"):
        del comparison["robustness"][name]
    told = rendered(replace(results, comparison=comparison))
    assert "54.1 %" in told.text and "63.7 %" not in told.text


def test_what_is_left_out_is_said_above_all(whole_page: Page) -> None:
    assert "eca is left out: eca, seed 0: it ran out of memory." in whole_page.text.partition("How it was compared")[0]


def test_maps_that_look_at_no_network_stand_apart(whole_page: Page) -> None:
    section = part(whole_page, "Does the answer", "What it attends to")
    first, apart = section.split("Maps that look at no network")
    assert (first.count(" Grad-CAM 0.311"), first.count(" attention 0.311"), " centre 0.311" in first) == (5, 4, False)
    assert (apart.count(" centre 0.311"), apart.count(" uniform 0.311"), " attention 0.311" in apart) == (5, 5, False)


def test_controls_are_told_from_mechanisms_without_colour(whole: Path) -> None:
    look = looks(load(whole).study["arms"])
    mechanism, control = look["squeeze_excite"], look[made.CONTROL]
    assert (control.colour, control.hollow) == (mechanism.colour, True)
    assert control.marker != mechanism.marker
    assert not any(one.hollow for name, one in look.items() if name != made.CONTROL)
    filled = [(one.colour, one.marker) for one in look.values() if not one.hollow]
    assert len(filled) == len(set(filled))


def test_text_and_rows_lie_beside_the_page(whole: Path) -> None:
    report.write(whole)
    text = (whole / "report.md").read_text(encoding="utf-8")
    assert text.splitlines()[2] == "**Underpowered: three seeds cannot decide about any of them.**"
    assert "&lt;b&gt;snow&lt;/b&gt;" in text
    assert "<b>" not in text
    assert "    foveate compare --work classification" in text
    [line] = [line for line in text.splitlines() if line.startswith("| psanet | ? underpowered")]
    assert "−0.1 (−6.3 to +6.0)" in line.replace("\N{NO-BREAK SPACE}", " ")
    rows = list(csv.DictReader((whole / "rows.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["arm"] for row in rows] == [*made.ARMS, made.CONTROL]
    assert rows[1]["scores"] == "0.824 0.808 0.838"
    assert (rows[1]["verdict_word"], rows[0]["verdict_word"]) == ("underpowered", "")


def test_other_work_shows_what_was_said(tmp_path: Path) -> None:
    out = made.results(tmp_path)
    results = load(out)
    pictures = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    tensors = {"picture/0": pictures[0], "picture/1": pictures[1], "heat/1": torch.randn(4, 4), "seen/1": pictures[1]}
    entries = [{"tensor": "heat/1", "what": "emphasis", "place": "bottleneck"}]
    for run in results.runs:
        if run["maps"]:
            own = entries if run["arm"] == "psanet" else []
            kept = tensors if own else {name: one for name, one in tensors.items() if name.startswith("picture")}
            metadata = {"format": "2", "rule": "the first two", "maps": json.dumps(own)}
            plain = {name: value for name, value in run.items() if name not in ("maps", "digest")}
            Folder(out).finish(run["key"], plain, maps_bytes(kept, metadata))
    page = rendered(load(out))
    text = page.text[page.text.index("What it attends to") :]
    assert text.count("What this arm says of each image, drawn on it.") == 4
    assert text.count("logarithm. At bottleneck.") == 1
    drawn = [image["alt"] for image in page.all("img")]
    assert drawn.count("test image 2 with what this arm says of it") == 4
    assert sum(alt.startswith("attention over test image 2: from ") for alt in drawn) == 1


def test_a_map_that_is_no_number_is_not_drawn() -> None:
    image = torch.zeros(3, 8, 8, dtype=torch.uint8)
    tensors = {"picture/0": image, "seen/0": image, "heat/0": torch.full((2, 2), torch.nan)}
    said, emphasis = pictured(tensors, [{"tensor": "heat/0", "what": "emphasis", "place": "stem"}])
    assert len(said.cells) == 1
    assert not emphasis.cells
    assert "not finite numbers" in emphasis.note


def test_tensors_may_share_memory(tmp_path: Path) -> None:
    picture = torch.zeros(3, 4, 4, dtype=torch.uint8)
    assert maps_bytes({"picture/0": picture, "seen/0": picture}, {"format": "2"})


def test_who_cannot_see_it_can_read_it(page: Page) -> None:
    assert page.all("html")[0]["lang"] == "en-GB"
    assert len(page.all("h1")) == 1
    assert page.all("th")
    assert all(attributes.get("scope") in {"col", "row"} for attributes in page.all("th"))
    assert all((attributes.get("alt") or "").strip() for attributes in page.all("img"))
    for drawing in page.all("svg"):
        named = drawing.get("aria-labelledby") or drawing.get("aria-label") or drawing.get("aria-hidden")
        assert named, drawing
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_every_arm_has_its_pictures(page: Page) -> None:
    text = page.text[page.text.index("What it attends to") :]
    assert text.count("Images and answers") == 4
    assert text.count("Place 1 of 4 layer1.0.bn2") == 3
    assert text.count("Place 3 of 4 layer3.0.bn2") == 3
    assert text.count("Place 4 of 4 layer4.0.bn2") == 3
    assert "layer2.0.bn2" not in text
    assert "This network has no attention, and so no maps." in text
    for words in ("Channel gate", "Spatial gate", "Collect", "Distribute", "What the ringed position takes from"):
        assert words in text
    assert text.count("✗") == 4  # only PSANet's answers were rolled by one
    pictures = [attributes for attributes in page.all("img") if " over image " in (attributes["alt"] or "")]
    # four images, three places: emphasis for all three arms, CBAM's spatial gate, PSANet's collect and distribute
    assert len(pictures) == 4 * 3 * (3 + 1 + 2)
    bars = [drawing for drawing in page.all("svg") if drawing.get("class") == "bars"]
    assert len(bars) == 4 * 3 * 2
    marks = [attributes for attributes in page.all("i") if attributes.get("class") == "mark"]
    assert marks[0]["style"] == "left: 51.79%; top: 51.79%"  # (14 + 1/2) / 28


def test_the_same_numbers_make_the_same_page(finished: Path, html: str) -> None:
    assert report.render(load(finished)) == html


HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "$x^2$ & {{ 7*7 }}", "\u202etxt\x07")


def test_names_from_outside_stay_text(tmp_path: Path) -> None:
    report_of_data = "</pre><script>alert(2)</script>"
    out = made.results(tmp_path / "<b>bold</b>", classes=HOSTILE, report=report_of_data, everything=True)
    study = json.loads((out / "study.json").read_text())
    study["data"]["name"] = study["shared"]["data"] = "</title><script>alert(3)</script>"
    (out / "study.json").write_text(json.dumps(study))
    comparison = json.loads((out / "comparison.json").read_text())
    comparison["results"] = "<script>alert(4)</script>"
    comparison["conditions"]["cpu"] = "<script>alert(5)</script>"
    comparison["failed"] = {"<script>alert(6)</script>": "</p><script>alert(7)</script>"}
    comparison["headline"] = comparison["rows"][1]["sentence"] = "</strong><script>alert(8)</script>"
    comparison["interrupted"] = ["<script>alert(9)</script>"]
    comparison["robustness"]["shifted"]["<script>alert(10)</script>"] = comparison["robustness"]["shifted"]["shifted"]
    (out / "comparison.json").write_text(json.dumps(comparison))
    page = rendered(load(out))
    assert not page.all("script")
    assert all((attributes["src"] or "").startswith("data:image/png;base64,") for attributes in page.all("img"))
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    for words in (*HOSTILE[:3], "</pre><script>alert(2)</script>", "</title><script>alert(3)</script>"):
        assert words in page.text
    assert "49" not in re.findall(r"\$x\^2\$ & (\S+)", page.text)


def test_an_arms_name_stays_text_in_a_drawing() -> None:
    name = "</text><script>&$x^2$\x00"
    rows = [
        {"arm": "baseline", "role": "baseline", "difference": None},
        {"arm": name, "role": "attention", "difference": 0.01, "difference_interval": None, "differences": [0.01]},
    ]
    look = looks([{"name": "baseline", "role": "baseline"}, {"name": name, "role": "attention"}])
    drawn = Page(difference_chart(rows, look, name="d", width=760))
    assert not drawn.all("script")
    assert drawn.text.count("</text><script>&$x^2$") == 2  # in the title and beside the line
    assert "+1.0 (no interval from one seed)" in drawn.text


def test_names_stand_in_the_order_in_which_lines_end() -> None:
    table = {
        share: {arm: {"mean": {"mean": score}} for arm, score in scores.items()}
        for share, scores in {"0.5": {"baseline": 0.4, "eca": 0.3}, "1": {"baseline": 0.5, "eca": 0.6}}.items()
    }
    look = looks([{"name": "baseline", "role": "baseline"}, {"name": "eca", "role": "attention"}])
    drawn = Page(lines_chart(table, look, metric="accuracy", along="training samples, %", times=100, name="l"))
    assert "eca from 30.0 % to 60.0 %; baseline from 40.0 % to 50.0 %" in drawn.text
    words = drawn.text.split("baseline from")[1].split()
    assert words.index("eca") < words.index("baseline")
    assert "100" in words and "50" in words


def test_an_old_report_survives_a_full_disk(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    path.write_text("the old one")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FoveateError, match="the disk is full"):
        report.write(finished, path)
    assert path.read_text() == "the old one"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_it_is_written_where_it_was_asked_for(finished: Path, html: str, tmp_path: Path) -> None:
    assert report.write(finished) == finished / "report.html"
    assert {"report.html", "report.md", "rows.csv"} <= {entry.name for entry in finished.iterdir()}
    assert report.write(finished, tmp_path / "mine.html").read_text(encoding="utf-8") == html
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine.html"]


def _without_maps(out: Path) -> None:
    for path in (out / "runs").glob("*.json"):
        run = json.loads(path.read_text())
        config, key = run["config"], run["key"]
        made.Folder(out).finish(
            key, {**{k: v for k, v in run.items() if k not in ("maps", "digest")}, "config": config}, None
        )


def _damaged(out: Path) -> None:
    for path in (out / "maps").iterdir():
        path.write_bytes(path.read_bytes()[:-1] + b"?")


@pytest.mark.parametrize(
    ("harm", "words"),
    [(_without_maps, "No maps were recorded for this arm."), (_damaged, "The maps cannot be shown: ")],
)
def test_missing_maps_leave_a_sentence(tmp_path: Path, harm: Callable[[Path], None], words: str) -> None:
    out = made.results(tmp_path)
    harm(out)
    page = rendered(load(out))
    assert page.text.count(words) == 4
    assert "Learning curves" in page.text


def test_maps_that_are_no_numbers_leave_a_sentence() -> None:
    entry = {"tensor": "m", "what": "emphasis", "place": "stem", "attachment": "", "step": "", "size": None}
    values = torch.zeros(1, 4, 4)
    values[0, 1, 1] = torch.nan
    [place] = places(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), {"m": values}, [entry])
    assert not place.strips[0].cells
    assert "not finite numbers" in place.strips[0].note


def test_what_was_not_measured_says_so(finished: Path) -> None:
    results = load(finished)
    for row in results.comparison["rows"]:
        row["latency_ratio"] = row["latency_ms"] = row["macs"] = None
    for run in results.runs:
        run["history"] = {name: [] for name in run["history"]}
    page = rendered(Results(results.path, results.study, None, results.comparison, results.runs))
    assert "Latency was not measured, so there is no picture of it." in page.text
    assert "Learning curves" not in page.text
    assert page.text.count("not measured") == 4 + 4 + 1  # latencies, MACs, and the sentence


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    page = rendered(load(made.results(tmp_path, seeds=1)))
    assert "which one seed does not have" in page.text
    table = part(page, "The table", "Differences to the baseline")
    assert table.count("no interval from one seed") == 4 + 3


def test_without_a_comparison_there_is_no_report(tmp_path: Path) -> None:
    out = made.results(tmp_path)
    (out / "comparison.json").unlink()
    with pytest.raises(FoveateError, match="has no comparison yet"):
        report.write(out)
    assert not (out / "report.html").exists()


def _options(words: list[str]) -> dict[str, str | list[str]]:
    """What a command line asks for: options with a value, several ``--set``, and flags."""
    found: dict[str, str | list[str]] = {"--set": []}
    place = 0
    while place < len(words):
        name = words[place]
        assert name.startswith("--"), name
        flag = place + 1 == len(words) or words[place + 1].startswith("--")
        if name == "--set":
            found["--set"].append(words[place + 1])
        else:
            assert name not in found
            found[name] = "" if flag else words[place + 1]
        place += 1 if flag else 2
    return found


def test_the_command_asks_for_everything_again(whole: Path) -> None:
    study = load(whole).study
    study["quick"] = study["sequential"] = True
    study["relevant"] = 0.01
    study["places"] |= {"data": "my images", "weights": "w; rm.pt", "shifted": "other's"}
    study["arms"].append({"name": "foveate/resnet20", "role": "larger", "attention": None, "host": "foveate/resnet20"})
    words = shlex.split(command(study))
    assert words[:2] == ["foveate", "compare"]
    found = _options(words[2:])
    settings = read_settings("classification", found.pop("--set"))
    assert settings["mixup"] == 0.2
    assert settings["size"] == 28
    assert "on_error" not in settings  # it is what it is anyway
    assert {name: settings[name] for name in ("epochs", "batch_size", "learning_rate")} == {
        "epochs": 4, "batch_size": 64, "learning_rate": 0.1,
    }  # fmt: skip
    # the rate of a third is the same number to the last bit, or its runs would be others
    assert [0.1 * float(factor) for factor in found.pop("--grid").split(",")] == study["rates"]
    assert found == {
        "--work": "classification", "--data": "my images", "--host": "foveate/resnet8", "--weights": "w; rm.pt",
        "--attention": "squeeze_excite,cbam:reduction=8,psanet", "--at": "residual", "--start": "paper", "--seeds": "3",
        "--train-samples": "1800", "--placebo": "squeeze_excite", "--larger": "foveate/resnet20", "--tuning-seeds": "1",
        "--fractions": "0.25", "--corruptions": "1,3", "--shifted": "other's", "--focus": "4", "--no-resplit": "",
        "--sequential": "", "--relevant": "0.01", "--quick": "",
    }  # fmt: skip


def test_what_the_command_asks_for_has_the_same_runs() -> None:
    asked = Asked(
        settings={"epochs": 2, "optimizer": "adamw", "weight_decay": 1e-4, "shift": 0.125, "augment": False},
        train_samples=100, capacity=("se",),
        placebo=("eca:kernel_size=5",), larger=("foveate/resnet14",), grid=(1 / 3, 1.0, 3.0),
        fractions=(0.1, 0.7), corruptions=(2, 5), focus=3, at="stage", start="identity", quick=True,
    )  # fmt: skip
    first = prepare(None, "foveate/resnet8", "none", ("se", "eca:kernel_size=5"), 2, asked=asked)
    found = _options(shlex.split(command(described(first, first.study, [])))[2:])

    def several(name: str) -> list[str]:
        return found[name].split(",")

    again = Asked(
        settings=read_settings("classification", found["--set"]),
        train_samples=int(found["--train-samples"]),
        capacity=tuple(several("--capacity")),
        placebo=tuple(several("--placebo")),
        larger=tuple(several("--larger")),
        grid=tuple(map(float, several("--grid"))),
        tuning_seeds=int(found["--tuning-seeds"]),
        fractions=tuple(map(float, several("--fractions"))),
        corruptions=tuple(map(int, several("--corruptions"))),
        focus=int(found["--focus"]),
        at=found["--at"],
        start=found["--start"],
        quick="--quick" in found,
    )
    attention, seeds = tuple(several("--attention")), int(found["--seeds"])
    second = prepare(None, found["--host"], found["--weights"], attention, seeds, asked=again)

    def keys(study: Study) -> list[str]:
        tuning = [config.key for _, _, config in study.tuning()]
        main = [config.key for _, config in study.runs()]
        return [*tuning, *main, *(config.key for _, _, config in study.curve())]

    assert len(keys(first.study)) == 6 * (3 + 2 + 2 * 2)
    assert keys(second.study) == keys(first.study)


def test_a_plain_command_is_short(finished: Path) -> None:
    found = _options(shlex.split(command(load(finished).study))[2:])
    assert set(found) == {
        "--work", "--host", "--weights", "--attention", "--at", "--start", "--seeds", "--set", "--train-samples",
    }  # fmt: skip
    assert found["--weights"] == "none"
    assert not any(setting.startswith("size=") for setting in found["--set"])  # the embedded images have theirs


def test_the_embedded_sample_is_known_by_its_name() -> None:
    assert fashion_mnist().name == report.EMBEDDED


def _strip(values: torch.Tensor, what: str = "gate", step: str = "", size: list[int] | None = None) -> object:
    entry = {
        "tensor": "m",
        "what": what,
        "place": "stem",
        "attachment": "a",
        "step": step,
        "size": size,
        "query": size and [0, 0],
    }
    images = torch.zeros(len(values), 1, 8, 8, dtype=torch.uint8)
    [place] = places(images, {"m": values}, [entry])
    return place.strips[0]


def test_bars_are_as_high_as_the_gates() -> None:
    strip = _strip(torch.tensor([[0.25, 0.5, 1.0]]).reshape(1, 3, 1, 1))
    [bars] = strip.cells
    assert isinstance(bars, Bars)
    assert bars.path == "M0.1 100V75h.8V100zM1.1 100V50h.8V100zM2.1 100V0h.8V100z"
    assert (strip.low, strip.high) == ("0", "1")


def test_gates_near_one_are_shown_by_how_far_they_left_it() -> None:
    strip = _strip(torch.tensor([[0.9, 1.0, 1.1]]).reshape(1, 3, 1, 1))
    [bars] = strip.cells
    # the axis runs from 0.9 to 1.1, one is in its middle
    assert bars.line == pytest.approx(50)
    tops = [float(top) for top in re.findall(r"V([\d.e-]+)h", bars.path)]
    assert tops == pytest.approx([100, 50, 0], abs=0.01)
    assert "Bars from 1" in strip.what


def test_how_far_gates_depend_on_the_image_is_said() -> None:
    moving = _strip(torch.tensor([[0.2], [0.6]]).reshape(2, 1, 1, 1))
    assert "moves by 0.28" in moving.note  # 0.4 / √2
    assert "hardly move" in _strip(torch.full((2, 1, 1, 1), 0.5)).note


def test_a_difference_too_small_to_matter_is_too_small_to_see() -> None:
    strip = _strip(0.5 + 1e-3 * torch.rand(1, 1, 8, 8))
    assert (strip.low, strip.high) == ("0.45", "0.55")
    wide = _strip(torch.linspace(0.2, 0.8, 64).reshape(1, 1, 8, 8))
    assert (wide.low, wide.high) == ("0.20", "0.80")
    assert len(wide.cells[0].source) > len(strip.cells[0].source)


def test_an_affinity_shows_the_reading_its_step_is_named_for() -> None:
    images = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    entries = [
        {"tensor": "m", "what": what, "place": "stem", "step": step, "size": [4, 4], "query": [2, 1]}
        for step in ("collect", "distribute")
        for what in ("takes", "gives")
    ]
    [place] = places(images, {"m": torch.full((1, 4, 4), 1 / 16)}, entries)
    collect, distribute = place.strips
    assert collect.what == "What the ringed position takes from every position; spread evenly, 0.062 each."
    assert distribute.what == "What the ringed position gives to every position; spread evenly, 0.062 each."
    assert isinstance(collect.cells[0], Picture)
    assert collect.cells[0].mark == (37.5, 62.5)  # column 1 and row 2 of 4, at their centres


def test_a_photograph_is_small() -> None:
    photo = torch.randint(0, 256, (1, 3, 600, 400), dtype=torch.uint8)
    entry = {"tensor": "m", "what": "emphasis", "place": "stem", "step": "", "size": None}
    [place] = places(photo, {"m": torch.randn(1, 7, 5)}, [entry])
    assert place.strips[0].cells[0].source.startswith("data:image/jpeg;base64,")
    assert len(place.strips[0].cells[0].source) < 40_000
