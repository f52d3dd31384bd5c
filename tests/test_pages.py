"""The pages of the mechanisms are what their definitions say: generated, complete, and nothing beside them."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

import foveate
from tools.pages.page import FOLDER, contents

CONTENTS = contents()


def test_files_registry_and_pages_agree() -> None:
    assert {path.stem for path in FOLDER.glob("*.md")} - {"README"} == set(foveate.names())
    assert {path.name for path in FOLDER.iterdir() if path.suffix != ".jpg"} == set(CONTENTS)
    assert {path.stem for path in FOLDER.glob("*.jpg")} <= set(foveate.names())


@pytest.mark.parametrize("name", CONTENTS)
def test_a_page_is_what_is_generated(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == CONTENTS[name], "run `uv run python -m tools.pages`"


@pytest.mark.parametrize("name", [name for name in CONTENTS if name.endswith(".svg")])
def test_a_diagram_is_a_drawing(name: str) -> None:
    root = ElementTree.fromstring(CONTENTS[name])  # noqa: S314
    right = float(root.attrib["width"])
    boxes = [element for element in root.iter() if element.attrib.get("class") == "b"]
    assert boxes
    assert all(float(box.attrib["x"]) + float(box.attrib["width"]) <= right for box in boxes)
