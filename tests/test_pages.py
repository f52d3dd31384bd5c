"""The pages of the mechanisms are what their definitions say: generated, complete, and nothing beside them."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
import torch

import foveate
from foveate.attention import Map
from foveate.registry import KINDS, PROTOCOLS
from tools.pages.diagram import weights_of
from tools.pages.page import FOLDER, contents

CONTENTS = contents()


def test_files_registry_and_pages_agree() -> None:
    assert {path.stem for path in FOLDER.glob("*.md")} - {"README"} == set(foveate.names())
    assert {path.name for path in FOLDER.iterdir() if path.suffix != ".jpg"} == set(CONTENTS)
    assert {path.stem for path in FOLDER.glob("*.jpg")} <= set(foveate.names())


@pytest.mark.parametrize("name", CONTENTS)
def test_a_page_is_what_is_generated(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == CONTENTS[name], "run `uv run python -m tools.pages`"


@pytest.mark.filterwarnings("ignore::foveate.errors.FoveateWarning")  # convolutions that are left out
@pytest.mark.parametrize("name", foveate.names())
def test_the_lines_on_a_page_run(name: str) -> None:
    lines = CONTENTS[f"{name}.md"].split("```python\n")[1].split("```")[0]
    there: dict[str, object] = {}
    with torch.device("meta"):  # shapes alone
        exec(compile(lines, f"{name}.md", "exec"), there)  # noqa: S102
    assert name in {one.mechanism.partition(":")[0] for one in foveate.attached(there["model"])}


def test_the_list_says_where_mechanisms_go() -> None:
    text = CONTENTS["README.md"]
    for name, protocol in (("cbam", "attention"), ("attention_gate", "fusion"), ("odconv", "replacement")):
        row = next(line for line in text.splitlines() if line.startswith(f"| [`{name}`]"))
        assert row.split(" | ")[2] == protocol
    assert all(f"| {word} | " in text for word in (*PROTOCOLS, *KINDS))


def test_weights_are_told_in_words_and_once() -> None:
    assert weights_of([Map("hw->hw")] * 8) == "weights: one for each pair of positions, 8 times"
    assert weights_of([Map("group", "tap", "h", "w")]) == (
        "weights: one for each group of channels and cell of the kernel and position"
    )


@pytest.mark.parametrize("name", foveate.names())
def test_a_drawing_has_its_steps_and_what_goes_in_and_out(name: str) -> None:
    drawing = CONTENTS[f"{name}.svg"]
    mechanism = foveate.get(name)
    assert (">map x<" in drawing, ">map y<" in drawing, ">out<" in drawing) == (
        True,
        mechanism.protocol == "fusion",
        True,
    )
    framed = 'class="f"' in drawing  # a replacement's own forward, around its steps
    assert framed == (mechanism.protocol == "replacement")
    assert framed or drawing.count(">feature recalibration<") >= 1
    assert ("three steps" in drawing) == (not framed)


@pytest.mark.parametrize("name", [name for name in CONTENTS if name.endswith(".svg")])
def test_a_diagram_is_a_drawing(name: str) -> None:
    root = ElementTree.fromstring(CONTENTS[name])  # noqa: S314
    right = float(root.attrib["width"])
    boxes = [element for element in root.iter() if element.attrib.get("class") == "b"]
    assert boxes
    assert all(float(box.attrib["x"]) + float(box.attrib["width"]) <= right for box in boxes)
    captions = [element.text or "" for element in root.iter() if element.attrib.get("class") == "m"]
    assert all(7 * len(caption) <= right for caption in captions), "clipped"
