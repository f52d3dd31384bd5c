"""The report, as a person and as a machine reads it."""

from __future__ import annotations

import json

from foveate.data import DataReport, LeftOut


def report(classes: int, skipped: int) -> DataReport:
    counts = {f"class{index:03}": index + 1 for index in range(classes)}
    return DataReport(
        name="things",
        shape=(3, 8, 8),
        counts={"train": counts, "test": dict.fromkeys(counts, 1)},
        split="as the folders say",
        skipped=tuple(LeftOut(f"class000/{index}.jpg", "is empty (0 bytes)") for index in range(skipped)),
        conversions={"CMYK to RGB": 1234},
        warnings=("something doubtful",),
    )


def test_long_lists_are_shortened_and_say_by_how_much():
    lines = report(classes=30, skipped=12).lines()
    assert lines[0] == "things: 495 images of 30 classes, each 3×8×8"  # 30 · 31 / 2 + 30
    assert lines[2] == "               train        test"
    assert lines[22] == "class019          20           1"
    assert lines[23] == "and 10 more classes: train 21 to 30, test 1 to 1"
    assert lines[24:26] == ["skipped: 12 files", "  class000/0.jpg is empty (0 bytes)"]
    assert lines[35:] == ["  and 2 more", "converted: 1,234 × CMYK to RGB", "warning: something doubtful"]


def test_a_machine_gets_everything():
    read = json.loads(json.dumps(report(classes=30, skipped=12).as_dict()))
    assert len(read["skipped"]) == 12
    assert read["skipped"][11] == {"name": "class000/11.jpg", "reason": "is empty (0 bytes)"}
    assert read["counts"]["train"]["class029"] == 30
    assert read["shape"] == [3, 8, 8]
    assert read["conversions"] == {"CMYK to RGB": 1234}
