"""Write constraints.txt for pip from what pyproject.toml pins for uv; with --check, only compare."""

import sys
import tomllib
from pathlib import Path

root = Path(__file__).parents[1]
pins = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["uv"]["constraint-dependencies"]
text = "# What was tested; written by tools/constraints.py from pyproject.toml.\n" + "\n".join(sorted(pins)) + "\n"
target = root / "constraints.txt"
if "--check" not in sys.argv:
    target.write_text(text)
elif not target.exists() or target.read_text() != text:
    sys.exit("constraints.txt differs from pyproject.toml: run `uv run python tools/constraints.py`")
