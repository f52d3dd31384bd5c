"""The report of a comparison: one HTML file that needs nothing else, not even a network connection."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foveate.errors import FoveateError, MissingExtraError, OptionError
from foveate.files import write_atomically
from foveate.registry import Paper, get, parse
from foveate.study import wording
from foveate.study.curves import Curve, curves_chart
from foveate.study.figures import Look, difference_chart, latency_chart, looks, parameters_chart
from foveate.study.folder import Results, load
from foveate.study.pictures import answers
from foveate.study.strips import places

NARROW, WIDE = 340, 760
EMBEDDED = "Fashion-MNIST sample"
NO_ATTENTION = "This network has no attention, and so no maps."
NO_PICTURE = "This mechanism weighs what has no picture on the image, and so none is shown."


def write(out: Path, path: Path | None = None) -> Path:
    """Write the report of a folder of results.

    Args:
        out: The folder, with a finished comparison in it.
        path: Where the report goes; ``report.html`` in the folder by default. It is there whole or not at all.

    Returns:
        Where it is.

    Raises:
        FoveateError: If the folder holds no finished comparison, or the report cannot be written.
        MissingExtraError: If Jinja2, matplotlib or Pillow is not installed.

    Example:
        >>> write(Path("no-such-folder"))
        Traceback (most recent call last):
            ...
        foveate.errors.FoveateError: 'no-such-folder' holds no study: run `foveate compare` into it first
    """
    target = path or out / "report.html"
    write_atomically(target, render(load(out)).encode())
    return target


def render(results: Results) -> str:
    """The report as text.

    Raises:
        FoveateError: If the results hold no finished comparison.
        MissingExtraError: If Jinja2, matplotlib or Pillow is not installed.

    Example:
        >>> render(Results(Path("results"), {}, None, None, []))
        Traceback (most recent call last):
            ...
        foveate.errors.FoveateError: 'results' has no comparison yet: let `foveate compare` finish first
    """
    comparison = results.comparison
    if comparison is None:
        raise FoveateError(f"'{results.path}' has no comparison yet: let `foveate compare` finish first")
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise MissingExtraError("jinja2", "compare") from error
    pages = Environment(
        loader=PackageLoader("foveate.study"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    rows = comparison["rows"]
    galleries = [_gallery(results, row) for row in rows]
    look = looks([row["arm"] for row in rows])
    return pages.get_template("report.html.j2").render(
        study=results.study,
        comparison=comparison,
        cost=results.cost,
        rows=rows,
        look=look,
        papers={row["arm"]: _paper(row["arm"]) for row in rows},
        largest=_largest(rows),
        seeds=len(results.study["seeds"]),
        charts=_charts(rows, look),
        curves=_curves(results.runs, rows, look),
        galleries=galleries,
        rule=next((gallery["rule"] for gallery in galleries if gallery["rule"]), ""),
        places=max((place.places for gallery in galleries for place in gallery["places"]), default=0),
        conditions=dict(_flat(comparison["conditions"])),
        command=_command(results.study),
        embedded=results.study["shared"]["data"] == EMBEDDED,
        words=wording,
    )


def _largest(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The arm farthest from the baseline, in either direction."""
    compared = [row for row in rows if row["difference"] is not None]
    return max(compared, key=lambda row: abs(row["difference"]), default=None)


def _paper(arm: str) -> Paper | None:
    try:
        return get(parse(arm).name).card.paper
    except OptionError:  # the baseline, or a mechanism that is registered elsewhere
        return None


def _charts(rows: Sequence[Mapping[str, Any]], look: Mapping[str, Look]) -> dict[str, Any]:
    from markupsafe import Markup

    # our own drawings, in which matplotlib and ElementTree have escaped every name
    drawn = {"parameters": parameters_chart(rows, look, name="parameters")}
    if any(row["difference"] is not None for row in rows):
        drawn["wide"] = difference_chart(rows, look, name="difference-wide", width=WIDE)
        drawn["narrow"] = difference_chart(rows, look, name="difference-narrow", width=NARROW)
    if any(row["latency_ratio"] is not None for row in rows):
        drawn["latency"] = latency_chart(rows, look, name="latency")
    return {name: Markup(drawing) for name, drawing in drawn.items()}  # noqa: S704


def _curves(
    runs: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], look: Mapping[str, Look]
) -> list[tuple[str, Any]]:
    """One drawing an arm, all on the same axes."""
    from markupsafe import Markup

    found: dict[str, tuple[Curve, Curve]] = {}
    for row in rows:
        recorded = [run["curves"] for run in runs if run["arm"] == row["arm"] and run["curves"]["epoch"]]
        if recorded:
            epochs = recorded[0]["epoch"]
            validation, training = (
                Curve(epochs, [curves[which] for curves in recorded])
                for which in ("validation_accuracy", "train_accuracy")
            )
            found[row["arm"]] = validation, training
    seen = [value for pair in found.values() for curve in pair for seed in curve.seeds for value in seed]
    if not seen:
        return []
    span = (max(0.0, min(seen) - 0.02), min(1.02, max(seen) + 0.02))
    baseline = found.get(rows[0]["arm"])
    drawn: list[tuple[str, Any]] = []
    for number, (arm, (validation, training)) in enumerate(found.items()):
        behind = baseline[0] if baseline and arm != rows[0]["arm"] else None
        first, last = validation.mean()[0], validation.mean()[-1]
        title = f"{arm}: mean validation accuracy from {wording.percent(first)} to {wording.percent(last)}"
        drawing = curves_chart(
            validation, training, behind, name=f"curve-{number}", title=title, colour=look[arm].colour, span=span
        )
        drawn.append((arm, Markup(drawing)))  # noqa: S704
    return drawn


def _gallery(results: Results, row: Mapping[str, Any]) -> dict[str, Any]:
    """The pictures of one arm, or the sentence that stands in their place."""
    run = next((run for run in results.runs if run["arm"] == row["arm"] and run["maps"]), None)
    empty: dict[str, Any] = {"row": row, "answers": [], "places": [], "seed": None, "rule": "", "note": ""}
    if run is None:
        return {**empty, "note": "No maps were recorded for this arm."}
    try:
        tensors, entries, metadata = results.maps(run["key"])
    except FoveateError as error:
        return {**empty, "note": f"The maps cannot be shown: {error}."}
    return {
        "row": row,
        "answers": answers(
            tensors["images"], tensors["labels"], tensors["predictions"], results.study["data"]["classes"]
        ),
        "places": places(tensors["images"], tensors, entries),
        "seed": run["seed"],
        "rule": metadata.get("rule", ""),
        "note": "" if entries else NO_ATTENTION if row["kind"] is None else NO_PICTURE,
    }


def _flat(values: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, value in values.items():
        words = f"{before}{name}".replace("_", " ")
        if isinstance(value, Mapping):
            found += _flat(value, f"{words}: ")
        else:
            found.append((words, str(value)))
    return found


def _command(study: Mapping[str, Any]) -> str:
    """The command line that asks for this comparison again, with every choice written out."""
    shared = study["shared"]
    folder = shared["data"] != EMBEDDED
    chosen = {
        "--data": shared["data"] if folder else None,
        "--image-size": shared["image_shape"][1] if folder else None,
        "--host": shared["host"],
        "--weights": shared["weights"] or "none",
        "--attention": ",".join(arm["attention"] for arm in study["arms"] if arm["attention"]),
        "--at": shared["at"],
        "--start": shared["start"],
        "--seeds": len(study["seeds"]),
        "--epochs": shared["epochs"],
        "--batch-size": shared["batch_size"],
        "--learning-rate": shared["learning_rate"],
    }
    words = [f"{name} {shlex.quote(str(value))}" for name, value in chosen.items() if value is not None]
    return " ".join(["foveate compare", *words, *(["--quick"] if study["quick"] else [])])
