"""The study that a test kills: run as a program, it is the command that a person would run again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

SETTINGS: dict[str, Any] = {"attention": ("se", "eca"), "seeds": 2, "epochs": 2, "train_images": 128}

if __name__ == "__main__":
    from foveate.study.compare import compare

    compare(**SETTINGS, out=Path(sys.argv[1]))
