"""Run a frozen study, or write the page of those that have run: ``python -m studies NAME --source FOLDER``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from foveate.study.compare import Comparison, Means, compare
from foveate.study.progress import reporting
from studies.frozen import STUDIES, Frozen
from studies.page import write_page

HERE = Path(__file__).parent


def run(name: str, source: Path | None, weights: Path | None, work: Path, on: str) -> Comparison:
    """Carry a study out in a folder of its own; finished runs are kept."""
    frozen = STUDIES[name]
    data = _data(name, frozen, source, work)
    if frozen.weights is not None and weights is None:
        raise SystemExit(f"{name} begins with {frozen.weights}: give the file by --weights")
    with reporting(Console(stderr=True)) as progress:
        return compare(
            data,
            frozen.host,
            weights if frozen.weights is not None else None,
            frozen.attention,
            frozen.seeds,
            asked=frozen.asked,
            means=Means(on=on),
            out=work / name,
            progress=progress,
        )


def keep(name: str, work: Path) -> None:
    """Put what a reader needs beside the code: the comparison, the design and every run's numbers in one file."""
    folder = work / name
    kept: dict[str, Any] = {
        one: json.loads((folder / f"{one}.json").read_text(encoding="utf-8")) for one in ("study", "comparison", "cost")
    }
    keys = [entry["key"] for entry in kept["study"]["runs"]]
    runs = [
        json.loads(path.read_text(encoding="utf-8"))
        for key in keys
        if (path := folder / "runs" / f"{key}.json").exists()
    ]
    for one in runs:  # a study's size is that of its answers otherwise
        one.pop("answers", None)
        one.pop("details", None)
    for place in ("places", "request"):  # whoever repeats it has the samples elsewhere
        kept["study"].pop(place, None)
    kept["comparison"] = {k: v for k, v in kept["comparison"].items() if k not in ("results", "report")}
    target = HERE / "results" / f"{name}.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps({**kept, "runs": runs}, ensure_ascii=False) + "\n", encoding="utf-8")


def _data(name: str, frozen: Frozen, source: Path | None, work: Path) -> Path | None:
    if frozen.data is None:
        return None
    whole = work / "data" / name
    if not whole.exists():
        if source is None and frozen.source != "scikit-image's subset of Labeled Faces in the Wild":
            raise SystemExit(f"{name} needs {frozen.source}: give their folder by --source")
        half = whole.with_name(f".{name}.half")
        frozen.data(source or Path(), half)
        half.rename(whole)
    return whole


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m studies", description=__doc__)
    parser.add_argument("name", nargs="?", choices=sorted(STUDIES))
    parser.add_argument("--source", type=Path, help="where the published files are")
    parser.add_argument("--weights", type=Path, help="the weights that a study begins with")
    parser.add_argument("--work", type=Path, default=Path("foveate-studies"), help="where runs are kept")
    parser.add_argument("--on", default="here", help="as `foveate compare --on`")
    given = parser.parse_args()
    if given.name is not None:
        Console().print(run(given.name, given.source, given.weights, given.work, given.on).headline)
        keep(given.name, given.work)
    write_page(HERE / "results", HERE.parent / "docs" / "studies.md")


if __name__ == "__main__":
    main()
