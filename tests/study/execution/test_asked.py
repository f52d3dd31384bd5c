"""What a person writes is understood or refused, and how long it takes is reckoned."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from foveate.errors import MissingExtraError, OptionError
from foveate.study.execution import Job, carry_out, estimate, part_of
from foveate.study.execution.crew import crew_at, place_of
from foveate.study.execution.estimating import Pace
from foveate.study.execution.job import Word, work_named
from foveate.study.execution.where import Versions, host_hash, lives, this_process, where
from foveate.study.execution.wire import receive, send
from foveate.study.folder import Folder
from foveate.study.progress import Silent
from tests.support import toy


@pytest.mark.parametrize(
    ("on", "processes", "found"),
    [
        ("here", None, ("here", 1, None)),
        ("1 process", None, ("processes", 1, None)),
        (" 12 processes ", None, ("processes", 12, None)),
        ("here", 1, ("processes", 1, None)),
        ("ray", None, ("ray", 1, None)),
        ("ray://10.0.0.1:10001", None, ("ray", 1, "ray://10.0.0.1:10001")),
    ],
)
def test_a_place_is_understood(on: str, processes: int | None, found: tuple[Any, ...]) -> None:
    place = place_of(on, processes)
    assert (place.kind, place.processes, place.address) == found


@pytest.mark.parametrize("on", ["", "there", "0 processes", "-1 processes", "two processes", "ray://", "ray:head", "3"])
def test_another_place_is_refused(on: str) -> None:
    with pytest.raises(OptionError, match="no place for runs|at least 1"):
        place_of(on)


def test_processes_are_asked_for_once() -> None:
    with pytest.raises(OptionError, match="not both"):
        place_of("ray", processes=2)
    with pytest.raises(OptionError, match="at least 1"):
        place_of("here", processes=0)


@pytest.mark.parametrize("name", ["foveate", "foveate:nothing", "no_such_module:work", ":work", "foveate:__version__"])
def test_work_that_does_not_exist_is_refused(name: str) -> None:
    with pytest.raises(OptionError, match=r"no function|not a function"):
        work_named(name)


@pytest.mark.parametrize("key", ["", "0" * 15, "G" * 16, "../../../../etc/x", "0" * 17])
def test_a_key_is_a_hash(key: str) -> None:
    with pytest.raises(OptionError, match="16 hexadecimal digits"):
        Job(key, "cbam, seed 3")


def test_parts_are_all_of_the_jobs_and_none_twice() -> None:
    jobs = [toy.job(number) for number in range(10)]
    parts = [part_of(jobs, f"{which}/3") for which in (1, 2, 3)]
    assert sorted(job.key for part in parts for job in part) == sorted(job.key for job in jobs)
    for part in ("0/3", "4/3", "1", "1/0", "a/b", "1.5/2"):
        with pytest.raises(OptionError, match="is not a part"):
            part_of(jobs, part)


def test_an_estimate_gives_each_run_to_whoever_is_free() -> None:
    long, short = [toy.job(number, "a") for number in range(2)], [toy.job(number, "b") for number in range(4)]
    seconds = {"a": 100.0, "b": 10.0}
    assert estimate([*long, *short], seconds) == 240
    assert estimate([*long, *short], seconds, workers=2) == 120
    assert estimate([*short, *long], seconds, workers=2) == 120
    assert estimate([*short, long[0]], seconds, workers=2) == 120, "the long one comes last, in the order of the study"
    assert estimate([toy.job(0, "new")], seconds) == 55, "nothing is known of it but the others"
    assert estimate([], {}, under_way=[3.0]) == 3
    assert estimate(short[:1], seconds, workers=2, under_way=[30.0, 5.0]) == 30
    with pytest.raises(OptionError, match="timed first"):
        estimate(short, {})


def test_time_left_is_known_from_the_first_run_on() -> None:
    pace = Pace()
    first, second = toy.job(0, "a"), toy.job(1, "a")
    assert pace.left([second], [(first, 1.0)], 1) is None
    pace.took("a", 10.0)
    assert pace.left([second], [(first, 4.0)], 1) == 16
    assert pace.left([second], [(first, 4.0)], 2) == 10
    assert pace.left([], [(first, 99.0)], 1) == 0, "one that takes longer than usual is about to end"


def test_jobs_with_one_key_are_refused(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    with folder.alone(), pytest.raises(OptionError, match="asked for twice"):
        carry_out([toy.job(1), toy.job(1)], folder, work=toy.WORK, reporter=Silent())


def test_ray_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"foveate\[ray\]"):
        crew_at(place_of("ray"), toy.WORK, None, 0)


def test_a_word_that_was_cut_off_is_no_word() -> None:
    whole = io.BytesIO()
    words = [Word("noted", "0" * 16, {"epoch": 1}), Word("done", "0" * 16, {"said": "two\nlines"}, b"\n{}\0")]
    for word in words:
        send(whole, word)
    content = whole.getvalue()
    first = content.index(b"\n") + 1
    for length in range(len(content) + 1):
        stream = io.BytesIO(content[:length])
        heard = [receive(stream), receive(stream)]
        assert heard == [words[0] if length >= first else None, words[1] if length == len(content) else None]


def test_what_differs_is_said() -> None:
    mine = Versions("0.1.0", "a" * 16, "2.15.0")
    assert mine.refusal(mine, "it") is None
    sentence = mine.refusal(Versions("0.2.0", "b" * 16, "2.14.0"), "machine 2 of 3")
    assert sentence == (
        "machine 2 of 3 has foveate 0.2.0 in place of 0.1.0 and torch 2.14.0 in place of 2.15.0 and other sources of "
        "foveate (bbbbbbbb in place of aaaaaaaa): its numbers could not be compared; install the same there"
    )


def test_a_machine_is_told_and_not_named() -> None:
    import platform

    assert platform.node() not in str(where()) and where()["host"] == host_hash()


def test_a_process_is_found_again_and_not_mistaken_for_another() -> None:
    import subprocess

    me = this_process()
    assert lives(me) is True
    assert lives({**me, "began": "1"}) is False, "its number was used again"
    assert lives({**me, "host": "00000000"}) is None and lives({}) is None
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert lives({**me, "pid": ended.pid}) is False
