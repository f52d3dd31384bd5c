"""Small comparisons: what may be asked for, how many at once, and that stopping ends all of it."""

import os
import sys
import time
from pathlib import Path

import pytest

from foveate.app import comparing
from foveate.app.comparing import (
    FAILED,
    FINISHED,
    RUNNING,
    STOPPED,
    Comparison,
    Comparisons,
    Progress,
    Request,
    checked,
)
from foveate.errors import FoveateError, OptionError

# a child that says what ours says, starts a process of its own as runs do, and never ends
SLOW = """
import json, subprocess, sys, time
asked = json.loads(sys.stdin.readline())
other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(json.dumps({"is": "begin", "runs": 4, "finished": 0}), flush=True)
print(json.dumps({"is": "start", "key": "k", "label": f"{asked['attention'][0]}, seed 1, {other.pid}"}), flush=True)
time.sleep(600)
"""


@pytest.fixture
def child(monkeypatch):
    """Comparisons run this program instead of ours, which takes seconds to start."""
    popen = comparing.subprocess.Popen

    def use(program):
        start = lambda command, **how: popen([sys.executable, "-c", program], **how)  # noqa: E731
        monkeypatch.setattr(comparing.subprocess, "Popen", start)

    return use


def wait_for(what):
    for _ in range(200):
        if what():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen within ten seconds")


def alive(pid):
    """Whether a process runs; one that ended and was not yet asked about does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (([], 2, 1, 512), "one to 3 mechanisms"),
        ((["se", "eca", "cbam", "psanet"], 2, 1, 512), "one to 3 mechanisms"),
        ((["se"], 99, 1, 512), "seeds: a whole number from 1 to 5"),
        ((["se"], 2, 0, 512), "epochs: a whole number"),
        ((["se"], 2, 1, 10**9), "images: a whole number"),
        ((["squeeze_exite"], 2, 1, 512), "did you mean"),
        ((["se; rm -rf /"], 2, 1, 512), "se; rm"),
    ],
)
def test_what_the_page_does_not_do(asked, words):
    with pytest.raises(OptionError, match=words):
        checked(*asked)


def test_the_same_in_a_shell():
    said = checked(["se", "cbam:reduction=8"], 2.0, 1.0, 64.0).command
    assert said == "foveate compare --attention se,cbam:reduction=8 --seeds 2 --epochs 1 --train-samples 64"


def test_what_a_stopped_comparison_leaves_behind_is_in_its_folder(child, tmp_path):
    child(SLOW.replace("asked['attention'][0]", "__import__('tempfile').mkdtemp()"))
    one = Comparison(Request(("se",)), tmp_path / "results")
    wait_for(lambda: one.progress.under_way)
    one.stop()
    [said] = one.progress.under_way.values()
    left = Path(said.partition(",")[0])
    assert left.is_dir() and left.is_relative_to(tmp_path / "results")


def test_one_each_few_at_once_and_stopping_ends_everything(child, tmp_path):
    child(SLOW)
    all_, made = Comparisons(most=2), []

    def folder():
        made.append(tmp_path)
        return tmp_path

    request = Request(("se",))
    mine = all_.start(request, folder, None)
    with pytest.raises(FoveateError, match="still running: stop it first"):
        all_.start(request, folder, mine)
    other = all_.start(request, folder, None)
    with pytest.raises(FoveateError, match="busy: 2 comparisons of other people"):
        all_.start(request, folder, None)
    assert len(made) == 2  # who is refused loses nothing
    wait_for(lambda: mine.progress.under_way)
    assert mine.progress.runs == 4
    grandchild = int(mine.progress.under_way["k"].rpartition(" ")[2])
    assert alive(grandchild)
    mine.stop()
    wait_for(lambda: not alive(grandchild))
    assert mine.progress.state == STOPPED and not mine.running
    third = all_.start(request, folder, mine)
    all_.close()
    assert not other.running and not third.running and other.progress.state == STOPPED


def test_a_comparison_that_takes_too_long_is_stopped(child, tmp_path):
    child(SLOW)
    one = Comparison(Request(("se",)), tmp_path, seconds=0.3)
    wait_for(lambda: not one.running)
    assert one.progress.state == STOPPED and "lets a comparison run" in one.progress.sentence


def test_a_child_that_dies_is_said_to_have(child, tmp_path):
    child("import sys; sys.stdin.readline(); sys.exit(3)")
    one = Comparison(Request(("se",)), tmp_path)
    wait_for(lambda: one.progress.state != RUNNING)
    assert one.progress.state == FAILED and "exit code 3" in one.progress.sentence


def test_words_become_progress():
    progress, labels = Progress(), {}
    for word in (
        {"is": "begin", "runs": 2, "finished": 0},
        {"is": "start", "key": "a", "label": "baseline, seed 1"},
        {"is": "tell", "key": "a", "epoch": 1, "epochs": 3, "said": "accuracy 50 %"},
    ):
        progress.hear(word, labels)
    assert progress.under_way == {"a": "baseline, seed 1, epoch 1 of 3, accuracy 50 %"}
    progress.hear({"is": "end", "key": "a", "sentence": "done", "done": True}, labels)
    progress.hear({"is": "left", "seconds": 4.0}, labels)
    progress.hear({"is": "a word of a newer child"}, labels)
    assert (progress.done, progress.under_way, progress.left, progress.state) == (1, {}, 4.0, RUNNING)
    progress.hear({"is": "finished", "headline": "nothing is decided", "report": "r.html"}, labels)
    assert progress.state == FINISHED and progress.report.name == "r.html"


@pytest.mark.slow
def test_the_child_ends_with_the_page():
    code = (
        "import sys, time; from threading import Thread; from foveate.app.child import _end_with\n"
        "import os; lines = os.fdopen(os.dup(0)); Thread(target=_end_with, args=(lines,), daemon=True).start()\n"
        "print('up', flush=True); time.sleep(600)"
    )
    process = comparing.subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=comparing.subprocess.PIPE,
        stdout=comparing.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout.readline() == b"up\n" and os.getpgid(process.pid) == process.pid
    process.stdin.close()
    process.wait(10)
    process.stdout.close()
