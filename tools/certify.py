"""Measure the certificates of mechanisms and write them.

    uv run python -m tools.certify [NAME ...]

Without names, every mechanism whose certificate is missing or out of date. Compares with the oracle and with the
authors' numbers, runs the contract, and writes `src/foveate/catalogue/certificates/<name>.json`.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import inspect
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

import foveate
from foveate.certificate import FOLDER, AuthorsProof, Certificate, Count, OracleProof
from foveate.measure import Conditions
from foveate.testing import check_mechanism
from tests.oracles import test_oracles
from tests.support.oracles import about, allowed, both, said
from tests.test_authors import ALL as RUNS

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "src" / "foveate" / "catalogue" / FOLDER


def sources_of(name: str) -> str:
    """A digest of everything that a certificate speaks of: the mechanism, its oracle, the authors' numbers.

    The card is left out: what it says in words changes nothing that was measured.
    """
    data = sorted({run.values[0].file for run in RUNS if run.values[0].name == name})
    digest = hashlib.sha256(_without_card(ROOT / "src" / "foveate" / "catalogue" / f"{name}.py").encode())
    for path in (
        ROOT / "tests" / "oracles" / f"{name}.py",
        *(ROOT / "tests" / "data_authors" / f"{file}.safetensors" for file in data),
    ):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _without_card(path: Path) -> str:
    source = path.read_text(encoding="utf-8")
    card = next(
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Card"
    )
    lines = source.splitlines(keepends=True)
    return "".join(lines[: card.lineno - 1] + lines[card.end_lineno or card.lineno :])


def is_current(name: str) -> bool:
    """Whether there is a certificate for the sources as they stand."""
    path = TARGET / f"{name}.json"
    return path.is_file() and json.loads(path.read_text())["sources"] == sources_of(name)


def certify(name: str) -> Certificate:
    """Measure one.

    Raises:
        RuntimeError: If something that the certificate would claim does not hold.
    """
    results = check_mechanism(name)
    failed = [str(result) for result in results if result.outcome in ("failed", "skipped")]
    if failed:
        raise RuntimeError("; ".join(failed))
    here = Conditions.here().as_dict()
    return Certificate(
        mechanism=name,
        sources=sources_of(name),
        oracle=_oracle(name),
        authors=_authors(name),
        counts=tuple(Count(f"ResNet-{depth}", spec, count) for depth, spec, count in said(name, "RESNETS", ())),
        passed=tuple(result.check for result in results if result.outcome == "passed"),
        exempt={result.check: result.message for result in results if result.outcome == "exempt"},
        tests=tuple(key for key, value in vars(about(name)).items() if _is_test(key, value, name)),
        conditions={"torch": str(here["torch"]), "numpy": np.__version__, "date": str(here["date"])[:10]},
    )


def _is_test(key: str, value: Any, name: str) -> bool:
    return key.startswith("test_") and inspect.isfunction(value) and value.__module__.endswith(name)


def _oracle(name: str) -> OracleProof:
    difference = share = 0.0
    forms = cases = 0
    for parameter in test_oracles.cases():
        which, options, shapes = parameter.values
        if which != name:
            continue
        forms += 1
        for channels, size, training in shapes:
            found, expected = both(name, options, channels, size, training)
            off = float(np.abs(found - expected).max())
            bound = allowed(name, options, channels, size, training, expected)
            difference = max(difference, off / max(1.0, float(np.abs(expected).max())))
            share = max(share, off / bound)
            cases += 1
    if share > 1:
        raise RuntimeError(f"{name} is off its oracle by {share:.1f} times what rounding allows")
    return OracleProof(forms, cases, float(f"{difference:.2g}"), float(f"{share:.2g}"))


def _authors(name: str) -> AuthorsProof | None:
    runs = [run.values[0] for run in RUNS if run.values[0].name == name]
    if not runs:
        return None
    output, gradients = 0.0, None
    for run in runs:
        module, given = run.module(), {kind: x.requires_grad_() for kind, x in run.given().items()}
        y = module(*given.values())
        output = max(output, _off(y.detach(), run.tensor("y")))
        if not run.read("grad_x"):
            continue
        (y * run.tensor("cotangent")).sum().backward()
        theirs = run.read("grad")
        pairs = [(x.grad, run.tensor(f"grad_{kind}")) for kind, x in given.items()]
        pairs += [(p.grad, theirs[key]) for key, p in module.named_parameters() if p.grad is not None]
        gradients = max([gradients or 0.0, *(_off(ours, other) for ours, other in pairs)])
    kept = None if gradients is None else float(f"{gradients:.2g}")
    ran = tuple(dict.fromkeys(run.ran for run in runs))
    cases = tuple(str(run.case) for run in runs)
    return AuthorsProof(foveate.get(name).card.reference, ran, cases, float(f"{output:.2g}"), kept)


def _off(ours: Any, theirs: torch.Tensor) -> float:
    return (ours - theirs.reshape(ours.shape)).abs().max().item() / max(1.0, theirs.abs().max().item())


def main() -> None:
    """Parse, measure, write; nothing of what fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    names = arguments.names or [name for name in foveate.names() if not is_current(name)]
    TARGET.mkdir(exist_ok=True)
    for name in names:
        certificate = certify(foveate.get(name).card.name)
        path = TARGET / f"{certificate.mechanism}.json"
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(certificate.as_dict(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        temporary.replace(path)
        print(f"{certificate.mechanism}: oracle {certificate.oracle.difference:.1e}", flush=True)


if __name__ == "__main__":
    main()
