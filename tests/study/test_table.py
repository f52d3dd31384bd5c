"""The table of a terminal: the verdict beside the numbers, controls after mechanisms, whole in 80 columns."""

from __future__ import annotations

import importlib.util
import io
import json
from pathlib import Path

from rich.console import Console

from foveate.study.rows import Comparison, Row
from foveate.study.table import table

_described = importlib.util.spec_from_file_location("made", Path(__file__).with_name("made.py"))
made = importlib.util.module_from_spec(_described)
_described.loader.exec_module(made)


def printed(out: Path, width: int) -> list[str]:
    values = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    rows = tuple(Row(**row) for row in values.pop("rows"))
    del values["format"], values["kind"]
    # the control before the mechanisms: the table is what puts it after them
    comparison = Comparison(rows=(rows[0], rows[-1], *rows[1:-1]), **values)
    text = io.StringIO()
    Console(file=text, width=width).print(table(comparison))
    return text.getvalue().splitlines()


def test_every_arm_has_its_verdict_and_numbers(tmp_path: Path) -> None:
    lines = printed(made.results(tmp_path, everything=True), 120)
    rest = {
        arm: line.removeprefix(arm).split()
        for arm in (*made.ARMS, made.CONTROL)
        for line in lines
        if line.startswith(arm)
    }
    assert rest["baseline"] == ["81.2", "78,042", "12.5", "M", "1.90", "ms"]
    assert rest["squeeze_excite"] == ["underpowered", "+1.1", "[-0.6,", "+2.9]", "82.3", "+795", "+0.1%", "×1.21"]
    assert rest[made.CONTROL][0] == "placebo"
    assert lines[5].startswith(made.CONTROL)  # below the heads, the baseline and three mechanisms
    assert "test accuracy" in lines[-1]


def test_it_fits_80_columns_and_loses_nothing(tmp_path: Path) -> None:
    lines = printed(made.results(tmp_path, everything=True), 80)
    assert max(map(len, lines)) <= 80
    words = " ".join(lines).replace("…", "?")
    assert "?" not in words
    for number in ("78,042", "+334,303", "+148.0%", "×2.95", "[-6.3,", "+6.0]"):
        assert number in words
