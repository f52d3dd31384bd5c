"""Runs that take milliseconds, and do to their process what a test asks for."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from foveate.errors import DataError
from foveate.study.execution import Finished, Job, carry_out
from foveate.study.folder import Folder
from foveate.study.plain import digest
from foveate.study.progress import Silent
from foveate.study.reading import FORMAT, RUN

WORK = "tests.support.toy:work"
HASTE = "FOVEATE_TEST_HASTE"  # in whose environment it is, no run takes time


def job(number: int, arm: str = "plain", **asked: Any) -> Job:
    """A job whose result is the square of a number."""
    payload = {"number": number, "arm": arm, **asked}
    return Job(digest(payload)[:16], f"{arm}, seed {number}", payload, arm=arm, maps=bool(asked.get("maps")))


def work(payload: Mapping[str, Any], note: Callable[[dict[str, Any]], None]) -> Finished:
    """Do it. ``ledger`` is a file to which the number is added when the run begins and when it ends."""
    number = payload["number"]
    _enter(payload, f"begin {number}")
    note({"epoch": 1, "epochs": 2, "said": "half of it"})
    for _ in range(0 if HASTE in os.environ else int(payload.get("seconds", 0) / 0.05)):
        time.sleep(0.05)
    if "dies" in payload and _first_time(payload["dies"]):
        os.kill(os.getpid(), signal.SIGKILL)
    if payload.get("always_dies"):
        print("the last thing it said", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    if payload.get("refuses"):
        raise DataError(f"the data of run {number} is not here: copy it to this machine")
    if payload.get("breaks"):
        raise ZeroDivisionError("by design")
    if payload.get("allocates"):
        bytearray(2**62)
    print("a run may print")
    record = {"format": FORMAT, "kind": RUN, "key": digest(dict(payload))[:16], "config": dict(payload)}
    _enter(payload, f"end {number}")
    return Finished({**record, "square": number**2}, bytes(tensors()) if payload.get("maps") else None)


def tensors() -> bytes:
    """The content of a small safetensors file."""
    header = json.dumps({"__metadata__": {"maps": "[]"}}).encode()
    return len(header).to_bytes(8, "little") + header


def _enter(payload: Mapping[str, Any], line: str) -> None:
    if "ledger" in payload:
        with Path(payload["ledger"]).open("a") as ledger:
            ledger.write(f"{line} {os.getpid()}\n")


def _first_time(mark: str) -> bool:
    try:
        Path(mark).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def first_at_once(ledger: Path, runs: int, seconds: float) -> list[Job]:
    """Jobs that keep a ledger, of which the first takes no time."""
    return [*study(ledger, 1), *study(ledger, runs, seconds=seconds)[1:]]


def study(ledger: Path, runs: int, **asked: Any) -> list[Job]:
    """Jobs that keep a ledger."""
    return [job(number, ledger=str(ledger), **asked) for number in range(runs)]


if __name__ == "__main__":  # the study that a test kills: OUT, RUNS, SECONDS of each, ON
    out = Path(sys.argv[1])
    folder = Folder(out)
    with folder.alone():
        jobs = first_at_once(out.with_suffix(".ledger"), int(sys.argv[2]), float(sys.argv[3]))
        carry_out(jobs, folder, work=WORK, reporter=Silent(), on=sys.argv[4])
