"""The report of a comparison: one HTML file that needs nothing else, the same as text, and its rows for a program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foveate.errors import FoveateError, OptionError
from foveate.explain.pages import pages
from foveate.files import write_atomically
from foveate.registry import Paper, get, parse
from foveate.study import grids, wording
from foveate.study.command import command
from foveate.study.costing import cost_grids
from foveate.study.drawn import drawn
from foveate.study.figures import looks
from foveate.study.folder import Results, load
from foveate.study.pictures import answers
from foveate.study.strips import pictured, places
from foveate.study.written import markdown, rows_csv

EMBEDDED = "Fashion-MNIST sample"
NO_ATTENTION = "This network has no attention, and so no maps."
NO_PICTURE = "This mechanism weighs what has no picture on the image, and so none is shown."


def write(out: Path, path: Path | None = None) -> Path:
    """Write the report of a folder of results, and beside it ``report.md`` and ``rows.csv``.

    Args:
        out: The folder, with a finished comparison in it.
        path: Where the page goes, alone; ``report.html`` in the folder by default. It is there whole or not at all.

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
    results = load(out)
    page = render(results)
    target = path or out / "report.html"
    write_atomically(target, page.encode())
    if path is None:
        comparison = results.comparison or {}
        write_atomically(out / "report.md", markdown(results.study, comparison, tables(results)).encode())
        write_atomically(out / "rows.csv", rows_csv(comparison["rows"]).encode())
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
    study, rows = results.study, comparison["rows"]
    galleries = [_gallery(results, row) for row in rows]
    look = looks(study["arms"])
    metric = comparison["metric"]["name"]
    template = pages("foveate.study", "compare").get_template("report.html.j2")
    return template.render(
        study=study,
        recipe=study["shared"]["recipe"],
        comparison=comparison,
        cost=results.cost,
        rows=rows,
        look=look,
        titles={row["arm"]: row["title"] for row in rows},
        papers={arm["name"]: _paper(arm) for arm in study["arms"]},
        seeds=len(study["seeds"]),
        metric=wording.metric_name(metric),
        tables=tables(results),
        charts=drawn(comparison, results.runs, look, metric),
        galleries=galleries,
        rule=next((gallery["rule"] for gallery in galleries if gallery["rule"]), ""),
        places=max((place.places for gallery in galleries for place in gallery["places"]), default=0),
        conditions=dict(_flat(comparison["conditions"])),
        command=command(study),
        embedded=study["places"].get("data") is None,
        known=EMBEDDED,
        words=wording,
    )


def tables(results: Results) -> dict[str, list[grids.Grid]]:
    """The tables of a report by section; a section without numbers has none."""
    comparison, study = results.comparison or {}, results.study
    rows, metric = comparison["rows"], comparison["metric"]["name"]
    robustness, named = comparison["robustness"], wording.metric_name(comparison["metric"]["name"])
    below = f"Below, the difference to the baseline in points with its 95{wording.SPACE}% interval."
    found: dict[str, list[Any]] = {
        "table": [grids.verdicts(rows, metric, study["data"]["test"]), grids.spent(rows)],
        "controls": [grids.contrasts(comparison["contrasts"])],
        "cost": [*cost_grids(results.cost)],
        "tuned": [grids.tuned(comparison["tuned"], rows, metric)],
        "fractions": [],
        "corruptions": [],
        "single": [],
        "shifted": [],
        "calibration": grids.calibration(comparison["calibration"]),
        "focus": grids.focus(comparison["focus"]),
    }
    if comparison["curves"]:
        shares = {share: wording.percent(float(share)) for share in comparison["curves"]}
        caption = f"Test {named} with so much of the training samples. {below}"
        found["fractions"].append(grids.beside(comparison["curves"], caption, heads=shares))
    if families := robustness.get("corruptions"):
        strengths = {one: f"strength {one}" for one in robustness["strengths"]}
        caption = f"Test {named} by family of corruptions, mean over strengths. {below}"
        found["corruptions"].append(grids.beside(families, caption))
        caption = f"Test {named} by strength, mean over corruptions. {below}"
        found["corruptions"].append(grids.beside(robustness["strengths"], caption, heads=strengths))
        hundred = f"100{wording.SPACE}%"
        caption = (
            f"What is left of the test {named} on corrupted samples; and what is lacking to {hundred} on them, beside "
            f"what the baseline lacks (mean relative corruption error: below {hundred} is better than it). {below}"
        )
        heads = {"kept": "kept", "relative_error": "relative error"}
        # a comparison of an earlier version has neither
        if there := {name: robustness[name] for name in heads if name in robustness}:
            found["corruptions"].append(grids.beside(there, caption, heads=heads))
        caption = f"Test {named} by corruption, mean over strengths. {below}"
        found["single"].append(grids.beside(robustness["single"], caption, turned="Corruption"))
    if shifted := robustness.get("shifted"):
        found["shifted"].append(grids.beside(shifted, f"{named} on other samples. {below}", turned="Samples"))
    return {name: [grid for grid in own if grid is not None] for name, own in found.items()}


def _paper(arm: Mapping[str, Any]) -> Paper | None:
    if arm["role"] != "attention":
        return None
    try:
        return get(parse(arm["attention"]).name).card.paper
    except OptionError:  # a mechanism that is registered elsewhere
        return None


def _gallery(results: Results, row: Mapping[str, Any]) -> dict[str, Any]:
    """The pictures of one arm, or the sentence that stands in their place."""
    run = next((run for run in results.runs if run["arm"] == row["arm"] and run["maps"]), None)
    empty: dict[str, Any] = {
        "row": row, "answers": [], "strips": [], "places": [], "seed": None, "rule": "", "note": "",
    }  # fmt: skip
    if run is None:
        return {**empty, "note": "No maps were recorded for this arm."}
    try:
        tensors, entries, metadata = results.maps(run["key"])
    except FoveateError as error:
        return {**empty, "note": f"The maps cannot be shown: {error}."}
    found = {**empty, "seed": run["seed"], "rule": metadata.get("rule", "")}
    attended = row["role"] in ("attention", "placebo")
    if "images" not in tensors:
        strips = pictured(tensors, entries)
        missing = NO_PICTURE if attended else NO_ATTENTION
        return {**found, "strips": strips, "note": "" if len(strips) > 1 else missing}
    classes: Sequence[str] = results.study["data"]["classes"]
    return {
        **found,
        "answers": answers(tensors["images"], tensors["labels"], tensors["predictions"], classes),
        "places": places(tensors["images"], tensors, entries),
        "note": "" if entries else NO_PICTURE if attended else NO_ATTENTION,
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
