"""What does every mechanism of the catalogue cost, at four shapes of feature maps, beside the block it goes into?

    uv run python -m benchmarks.mechanisms [--out benchmarks/results/mechanisms.json]

All mechanisms and the block are timed side by side, in one process, round by round. Some minutes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from foveate.measure import Conditions, choose
from foveate.registry import Spec, names

# the four stages of a ResNet for images of 224×224, with a quarter of a ResNet-50's channels
SHAPES = ((64, (56, 56)), (128, (28, 28)), (256, (14, 14)), (512, (7, 7)))


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "mechanisms.json")
    arguments = parser.parse_args()
    shapes = []
    for channels, size in SHAPES:
        choice = choose(channels, size, 0.01, mechanisms=map(Spec, names())).as_dict()
        found = sorted([*choice["fitting"], *choice["dearer"]], key=lambda row: row["mechanism"])
        for row in found:  # the samples are long, and median and p95 say what the page shows
            row["latency"] = {key: row["latency"][key] for key in ("median", "p95")}
        rest = {key: choice[key] for key in ("channels", "size", "block", "refused")}
        shapes.append({**rest, "mechanisms": found})
        print(f"{channels}×{size[0]}×{size[1]}: {len(found)} measured", flush=True)
    result = {"question": __doc__.splitlines()[0], "shapes": shapes, "conditions": Conditions.here().as_dict()}
    temporary = arguments.out.with_suffix(".part")
    temporary.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(arguments.out)


if __name__ == "__main__":
    main()
