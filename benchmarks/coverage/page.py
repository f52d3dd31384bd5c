"""The page: the merged result as tables that a person reads, nothing in it that the result file does not hold."""

from __future__ import annotations

import inspect
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from . import convolutional
from .checks import AFTER_LEARNING, BEFORE_LEARNING
from .networks import DPT_ENCODERS, ENCODERS, SAMPLE, SOURCES
from .one import HUGE, LARGE, MECHANISMS, PLACES
from .results import write_text
from .verdicts import STATES, passes, state

Report = dict[str, Any]
TITLES = {
    "torchvision": "torchvision",
    "smp": "segmentation-models-pytorch",
    "monai": "MONAI",
    "ultralytics": "ultralytics",
    "timm": "timm",
}
_TELLING = 60  # so many characters of a reason say what it is; the rest names parameters
TARGETS = {"torchvision": 100, "smp": 100, "monai": 100, "ultralytics": 100, "timm": 98}


def write(result: Path, target: Path) -> None:
    """Write the page from the merged result."""
    write_text(target, render(json.loads(result.read_text(encoding="utf-8"))))


def render(data: Report) -> str:
    """The page."""
    sections = (_head, _totals, _mechanisms, _places, _checked, _problems, _families, _left_out, _conditions)
    return "\n\n".join(section(data).strip() for section in sections) + "\n"


def _head(data: Report) -> str:
    counted = [network for network in data["networks"] if not network.get("bonus")]
    covered = sum(map(passes, counted))
    return f"""
<!-- written by `uv run python -m benchmarks.coverage page`; edit benchmarks/coverage/page.py instead -->
# Coverage: which networks attention attaches to

`foveate.attach` finds its places by watching the network, so it has no list of networks that it knows. Whether that
works is a question of fact: four mechanisms ({", ".join(MECHANISMS)}; the last is an affinity) were attached to every
network that the libraries below list, and what was left of the network was compared with what it had been.

**{covered:,} of {len(counted):,} networks passed every check that ran, with every mechanism that is meant for them.**

    uv run python -m benchmarks.coverage run      # hours; goes on where it stopped
    uv run python -m benchmarks.coverage merge    # -> benchmarks/results/coverage.json
    uv run python -m benchmarks.coverage page     # -> this page

A fixed sample of it runs in the tests (`tests/test_coverage_sample.py`)."""


def _totals(data: Report) -> str:
    rows = []
    for bonus in (False, True):
        for source in SOURCES:
            found = [n for n in data["networks"] if _source(n) == source and bool(n.get("bonus")) == bonus]
            if found:
                good = sum(map(passes, found))
                target = "—" if bonus else f"{TARGETS[source]} %"
                name = TITLES[source] + (", beyond what was promised" if bonus else "")
                rows.append((name, len(found), good, f"{_percent(good, len(found))} %", target))
    result = "## The result\n\n" + _table(("library", "networks", "passed", "share", "target"), rows)
    waiting = [
        f"{data['listed'][source] - seen:,} of the {data['listed'][source]:,} names of {TITLES[source]}"
        for source, seen in data["looked_at"].items()
        if seen < data["listed"][source]
    ]
    if waiting:
        result += f"\n\n**The sweep is not at its end:** {', '.join(waiting)} have not been looked at yet."
    return result


def _mechanisms(data: Report) -> str:
    rows = []
    for source in SOURCES:
        for mechanism in MECHANISMS:
            counts = Counter(state(n, mechanism) for n in data["networks"] if _source(n) == source)
            if counts:
                rows.append((TITLES[source], mechanism, *(counts[name] or "" for name in STATES)))
    return f"""
## Mechanism by mechanism

{_table(("library", "mechanism", *STATES), rows)}

*Not meant*: the mechanism is defined on maps of height and width, the network is one of volumes or videos, and foveate
says so. *Refused*: foveate said why it cannot, and left the network alone. *Failed*: a check did."""


def _places(data: Report) -> str:
    rows = []
    for source in SOURCES:
        found = [n for n in data["networks"] if _source(n) == source and "mechanisms" in n]
        used: dict[str, list[int]] = defaultdict(list)
        for network in found:
            attached = [r for r in network["mechanisms"].values() if r.get("at")]
            if attached:
                used[attached[0]["at"]].append(attached[0]["places"])
        rows += [
            (TITLES[source], f"`{at}`", len(used[at]), f"{min(used[at])} to {max(used[at])}")
            for at in PLACES
            if used[at]
        ]
    return f"""
## Where attention went

`at="residual"` was asked for first. Where a network has no residual join, foveate says so, and the next was asked for:
{" then ".join(f"`{at}`" for at in PLACES[1:])}.

{_table(("library", "at", "networks", "places"), rows)}"""


def _checked(data: Report) -> str:
    rows = []
    for index, name in enumerate(data["checks"]):
        letters = Counter(r["checks"][index] for n in data["networks"] for r in n.get("mechanisms", {}).values())
        check: Callable[..., None] | None = {**BEFORE_LEARNING, **AFTER_LEARNING}.get(name)
        says = _first_line(check) if check else "Places are found, and attaching succeeds."
        rows.append((f"`{name}`", says, letters["t"], letters["f"] or "", letters["-"] or ""))
    depths = Counter(n["depth"] for n in data["networks"] if "depth" in n)
    guessed = sum("without_example" not in n for n in data["networks"] if "depth" in n)
    return f"""
## What was checked, and how often

{_table(("check", "what", "passed", "failed", "not run"), rows)}

Attaching needs no example input where foveate guesses one that runs: it did for {guessed:,} of {sum(depths.values()):,}
networks. (A wrong guess is an error that asks for an example.)

Networks have random weights, and random statistics, norms, biases and layer scales, so that nothing is zero or one by
chance. Inputs are two random images of the smallest of several sizes that the network runs on. What was *not run*:

- After a refusal, nothing; and after a failure, nothing that needs what failed.
- `capture` runs with one of {", ".join(MECHANISMS[:3])} a network, in turns, and `pickle` with one of the four; on the
  sample ({", ".join(f"`{name}`" for name in SAMPLE)}) both run with all four, and `inductor` with one.
- {depths["one"]} networks of over {LARGE:,} parameters are checked in full with one mechanism; with the others it is
  `places`, `identity`, `keys`, `attributes`, `damaged_attention` and `detach`.
- {depths["meta"]} networks of over {HUGE:,} parameters are checked on the meta device, where there are no values.
- In `gradients`, dropout and stochastic depth; two steps are few, and what both drop has no gradient.
- What the network itself, without attention, cannot do either: see below."""


def _problems(data: Report) -> str:
    failed: dict[str, set[str]] = defaultdict(set)
    unable: dict[str, set[str]] = defaultdict(set)
    for network in data["networks"]:
        if "without_example" in network:
            failed[f"without an example input: {network['without_example']}"].add(network["name"])
        for kind in ("error", "host_error"):
            if kind in network:
                failed[f"{kind.replace('_', ' ')}: {network[kind]}"].add(network["name"])
        for mechanism, result in network.get("mechanisms", {}).items():
            if state(network, mechanism) == "refused":
                failed[f"refused: {list(result['refused'].values())[-1]}"].add(network["name"])
            for check, reason in result.get("why", {}).items():
                passed = result["checks"][data["checks"].index(check)]
                if passed == "f" and state(network, mechanism) == "failed":
                    failed[f"`{check}`: {reason}"].add(network["name"])
                elif reason.startswith("the host itself"):
                    unable[f"`{check}`: {reason}"].add(network["name"])
    return f"""
## What did not work

{_reasons(failed) or "Nothing."}

## What the networks themselves cannot do

{_reasons(unable) or "Nothing."}"""


def _reasons(found: dict[str, set[str]]) -> str:
    """Reasons that differ in names and numbers only are one reason."""
    alike: dict[str, tuple[str, set[str]]] = {}
    for reason, names in found.items():
        key = re.sub(r"'[^']*'|[\w.]+\.foveate\.[\w.]+|\d+", "…", reason)[:_TELLING]
        first, so_far = alike.setdefault(key, (reason, set()))
        alike[key] = (first, so_far | names)
    lines = []
    for reason, names in sorted(alike.values(), key=lambda item: -len(item[1])):
        shown = ", ".join(f"`{name}`" for name in sorted(names)[:6])
        more = f" and {len(names) - 6} more" if len(names) > 6 else ""
        lines.append(f"- {reason}\n  ({len(names)}: {shown}{more})")
    return "\n".join(lines)


def _families(data: Report) -> str:
    rows = []
    grouped: dict[tuple[str, str], list[Report]] = defaultdict(list)
    for network in data["networks"]:
        grouped[_source(network), network["family"]].append(network)
    for (source, family), found in sorted(grouped.items(), key=lambda item: (SOURCES.index(item[0][0]), item[0][1])):
        results = [n["mechanisms"][MECHANISMS[0]] for n in found if "mechanisms" in n]
        at = ", ".join(f"`{name}`" for name in sorted({r["at"] for r in results if r.get("at")}))
        places = sorted(r["places"] for r in results if r.get("at"))
        span = f"{places[0]} to {places[-1]}" if places and places[0] != places[-1] else "".join(map(str, places[:1]))
        rows.append((TITLES[source], family, len(found), sum(map(passes, found)), at, span))
    return "## Family by family\n\n" + _table(("library", "family", "networks", "passed", "at", "places"), rows)


def _left_out(data: Report) -> str:
    rule = inspect.getdoc(convolutional) or ""
    kinds = Counter(n.get("kind", "convolutional") for n in data["networks"] if _source(n) == "timm")
    paragraphs = []
    for source, found in data["left_out"].items():
        for kind, families in found.items():
            listed = ", ".join(f"{family} ({count})" for family, count in sorted(families.items()))
            title = "networks of tokens" if kind == "tokens" else "hybrids"
            paragraphs.append(f"**{TITLES[source]}, {title}: {sum(families.values())}.** {listed}.")
    return f"""
## What counts as convolutional

{rule}

By this rule {kinds["convolutional"]:,} of the names of timm that were looked at are convolutional. Left out:

{chr(10).join(f"{p}{chr(10)}" for p in paragraphs)}
Of torchvision, optical flow (two images in, neither classification nor segmentation nor detection) is left out too.
Its videos networks and the unquantised form of its quantisable ones are measured beyond what was promised; networks in
int8 are compiled kernels, to which nothing can be attached. Of segmentation-models-pytorch, every decoder is measured
with {", ".join(ENCODERS)}; DPT reads tokens and takes transformers only: {", ".join(DPT_ENCODERS)}."""


def _conditions(data: Report) -> str:
    conditions = data["conditions"]
    packages = ", ".join(f"{name} {version}" for name, version in conditions["packages"].items())
    return f"""
## Conditions

torch {conditions["torch"]}, {packages}; Python {conditions["python"]} on {conditions["os"]}, {conditions["cpu"]}, one
thread a process, {conditions["dtype"]}; {conditions["date"]}. Source of foveate: {", ".join(data["foveate"])}."""


def _source(network: Report) -> str:
    return network["name"].partition("/")[0]


def _percent(part: int, whole: int) -> str:
    """Rounded down, so that only all of them are a hundred."""
    return f"{part * 1000 // whole / 10:g}"


def _first_line(thing: object) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *([str(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
