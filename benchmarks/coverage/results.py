"""Result files, whole or not at all: one a network while the sweep runs, and one for all of them to be committed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import foveate
from foveate.measure import Conditions

from .checks import CHECKS
from .networks import SOURCES, networks

PACKAGES = ("torchvision", "timm", "segmentation-models-pytorch", "monai", "ultralytics")
_CORE = ("errors.py", "attention.py", "registry", "ops", "catalogue", "surgery")
TROUBLES = ("without_example", "host_error", "error")
_LETTERS = {True: "t", False: "f", None: "-"}
Report = dict[str, Any]


def core_hash() -> str:
    """The source that decides whether attention attaches; a result is kept for as long as it stays the same."""
    root = Path(foveate.__file__).parent
    digest = hashlib.sha256()
    for name in _CORE:
        part = root / name
        for path in [part] if part.is_file() else sorted(part.rglob("*.py")):
            digest.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def path_of(folder: Path, name: str) -> Path:
    """Where the result of a network stands."""
    return folder / f"{name.replace('/', '__')}.json"


def write(path: Path, data: Report) -> None:
    """Write one result, whole or not at all."""
    write_text(path, json.dumps(data, indent=1) + "\n")


def is_done(path: Path, foveate_hash: str, without: Iterable[str] = ()) -> bool:
    """Whether there is a result of this source, with no other checks left for later than these."""
    if not path.is_file():
        return False
    report = json.loads(path.read_text())
    return report["foveate"] == foveate_hash and set(report.get("without", ())) <= set(without)


def read(folder: Path) -> list[Report]:
    """Every result of a folder, by library and name."""
    found = [json.loads(path.read_text()) for path in folder.glob("*__*.json")]
    return sorted(found, key=lambda report: (SOURCES.index(report["name"].partition("/")[0]), report["name"]))


def merge(folder: Path, target: Path) -> Report:
    """Put the results of a folder into one file, a line a network.

    Checks become letters in the order of ``checks``: ``t`` passed, ``f`` failed, ``-`` not run; ``why`` says the rest.
    """
    reports = read(folder)
    left_out: dict[str, dict[str, dict[str, int]]] = {}
    for report in reports:
        if _is_left_out(report):
            kinds = left_out.setdefault(report["name"].partition("/")[0], {})
            families = kinds.setdefault(report["kind"], {})
            families[report["family"]] = families.get(report["family"], 0) + 1
    measured = [_compact(report) for report in reports if not _is_left_out(report)]
    packages = {name: metadata.version(name) for name in PACKAGES}
    head: Report = {
        "question": "Does attention attach to the networks that people have, and leave them what they were?",
        "conditions": {**Conditions.here().as_dict(), "threads": 1, "packages": packages},
        "foveate": sorted({report["foveate"] for report in reports}),
        "checks": list(CHECKS),
        "left_out": left_out,
        "looked_at": {source: sum(r["name"].startswith(f"{source}/") for r in reports) for source in SOURCES},
        "listed": {source: sum(1 for _ in networks(source)) for source in SOURCES},
    }
    lines = [json.dumps(report, ensure_ascii=False) for report in measured]
    body = json.dumps(head, indent=1, ensure_ascii=False).removesuffix("\n}")
    write_text(target, body + ',\n "networks": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n")
    return {**head, "networks": measured}


def _compact(report: Report) -> Report:
    mechanisms: Report = {}
    for name, result in report.get("mechanisms", {}).items():
        checks = "".join(_LETTERS[result["checks"].get(check)] for check in CHECKS)
        kept = ("at", "attention", "places", "gradients_in", "refused", "warned")
        usual = {"attention": name, "gradients_in": "training mode"}
        line = {key: result[key] for key in kept if key in result and result[key] != usual.get(key)}
        if result["at"]:
            line.pop("refused", None)  # the presets before it, which have no places here
        why = {check: reason for check, reason in result["why"].items() if not _said_by_the_page(reason)}
        further = {key: note for key, note in result.items() if key.endswith(("_graph", "_position", "_purpose"))}
        mechanisms[name] = {**line, "checks": checks, **further, **({"why": why} if why else {})}
    kept = ("name", "family", "kind", "bonus", "parameters", "input", "depth", *TROUBLES)
    line = {key: report[key] for key in kept if key in report and report[key] not in ("convolutional", False)}
    return {**line, **({"mechanisms": mechanisms} if mechanisms else {})}


def _is_left_out(report: Report) -> bool:
    return "mechanisms" not in report and report.get("kind") in ("tokens", "hybrid")


def _said_by_the_page(reason: str) -> bool:
    return reason == "on the sample only" or reason.startswith(("with ", "on the meta device"))


def write_text(path: Path, text: str) -> None:
    """Write a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
