"""What goes on while a page is served."""

import ctypes
import os
import subprocess
import sys
from importlib.util import find_spec
from threading import Event

import pytest

from foveate.app import serving

SIZE, COUNT = 64_000, 3_000  # too small to be mapped one by one
HELD = f"""
from foveate.app.serving import give_back
def resident():
    [line] = [line for line in open("/proc/self/status") if line.startswith("VmRSS:")]
    return 1024 * int(line.split()[1])
blocks = [b"x" * size for size in [{SIZE}] * {COUNT}]
highest = blocks[-1]  # it stays, so that the library does not give the rest back by itself
before = resident()
del blocks
held = resident()
give_back()
print(before - held, before - resident())
"""


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or not hasattr(ctypes.CDLL(None), "malloc_trim"),
    reason="asks Linux how much memory there is, and glibc to give it back",
)
def test_freed_memory_is_given_back():
    done = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True, check=True)
    without, given = map(int, done.stdout.split())
    assert without < SIZE * COUNT / 2 < given


def test_every_sweep_gives_memory_back(monkeypatch, tmp_path):
    done, given = Event(), []
    monkeypatch.setattr(serving, "SWEEP", 0.01)
    monkeypatch.setattr(serving, "give_back", lambda: given.append(True))
    serving._sweep(done, tmp_path, done.set)  # one round
    assert given == [True]


@pytest.mark.skipif(find_spec("gradio") is None, reason="serves a page: it needs the package gradio")
def test_a_page_that_ends_leaves_the_environment_as_it_was(monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", "mine")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with serving.serving(port=None) as first:
        with serving.serving(port=None) as second:
            assert os.environ["GRADIO_TEMP_DIR"] == str(second.uploads)
        assert os.environ["GRADIO_TEMP_DIR"] == str(first.uploads)  # else it takes no more pictures
        assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert os.environ["GRADIO_TEMP_DIR"] == "mine"
    assert "HF_HUB_OFFLINE" not in os.environ
