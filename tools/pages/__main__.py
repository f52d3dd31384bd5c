"""Write the pages of the mechanisms.

    uv run python -m tools.pages                   # docs/mechanisms/*.md and their diagrams
    uv run python -m tools.pages --pictures DATA   # and real maps: DATA holds imagenet-sample/

Pages are made of the cards, the docstrings, the certificates, and `benchmarks/results/mechanisms.json`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tools.pages import pictures
from tools.pages.page import write


def main() -> None:
    """Parse and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, metavar="DATA", help="make the pictures too; minutes")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="pictures of these alone")
    arguments = parser.parse_args()
    if arguments.pictures:
        pictures.write(arguments.pictures, arguments.only)
    write()


if __name__ == "__main__":
    main()
