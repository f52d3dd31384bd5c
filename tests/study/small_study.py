"""The study that a test kills: run as a program, it is the command that a person would run again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from foveate.study.asked import Asked

SETTINGS: dict[str, Any] = {
    "attention": ("se",),
    "seeds": 2,
    "asked": Asked(settings={"epochs": 2}, train_samples=64, grid=(0.5, 1.0)),
}


def carry_out(out: Path) -> Any:
    """The study, without what has tests of its own: timing and the page."""
    from foveate.study import pricing, report
    from foveate.study.compare import compare

    report.write = lambda *_: None  # type: ignore[assignment]
    pricing.price = lambda *_, **__: {"arms": {}, "conditions": {}}  # type: ignore[assignment]
    return compare(**SETTINGS, out=out)


if __name__ == "__main__":
    carry_out(Path(sys.argv[1]))
