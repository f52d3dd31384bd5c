"""A file is there whole or not at all, and what stands in the way is said in a sentence."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from foveate.errors import FoveateError
from foveate.files import locked, write_atomically

HOLDER = """
import sys, time
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def everything(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_content_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.json"
    write_atomically(path, b"one")
    write_atomically(path, b"two, longer")
    assert path.read_bytes() == b"two, longer" and everything(tmp_path) == ["deep/a.json"]


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_disk_that_fills_leaves_nothing(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_atomically(path, b"before")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if call == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        opened = Path.open

        def opening(self: Path, mode: str = "r", *rest: object) -> object:
            file = opened(self, mode, *rest)  # type: ignore[call-overload]
            return Full(file) if "w" in mode else file

        class Full:
            def __init__(self, file: object) -> None:
                self.file = file

            def __enter__(self) -> Full:
                return self

            def __exit__(self, *_: object) -> None:
                self.file.close()  # type: ignore[attr-defined]

            write = full

        monkeypatch.setattr(Path, "open", opening)
    with pytest.raises(FoveateError, match=r"the disk is full.*finished runs are kept"):
        write_atomically(path, b"after")
    monkeypatch.undo()
    assert path.read_bytes() == b"before" and everything(tmp_path) == ["a.json"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    done = subprocess.run([mount, "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True)
    if done.returncode:
        pytest.skip("this system does not let a test mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_real_full_disk(small_disk: Path) -> None:
    write_atomically(small_disk / "a.json", b"kept")
    with pytest.raises(FoveateError, match=r"the disk is full"):
        write_atomically(small_disk / "b.json", b"x" * 200_000)
    assert everything(small_disk) == ["a.json"]


def test_a_read_only_disk(small_disk: Path) -> None:
    write_atomically(small_disk / "a.json", b"kept")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for attempt in (
        lambda: write_atomically(small_disk / "b.json", b"x"),
        lambda: locked(small_disk / "results", small_disk / "results" / ".lock").__enter__(),
    ):
        with pytest.raises(FoveateError, match=r"cannot be written to \(Read-only file system\): choose another"):
            attempt()
    assert everything(small_disk) == ["a.json"]


def test_an_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a.json", b"x")
    assert everything(tmp_path) == []


def test_a_folder_that_cannot_be_one(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a folder")
    for path in (file, file / "results"):
        with (
            pytest.raises(FoveateError, match="a part of it is a file: choose another"),
            locked(path, path / ".lock"),
        ):
            pass
    assert file.read_text() == "not a folder"


def test_a_forbidden_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", forbidden)
    with (
        pytest.raises(FoveateError, match=r"cannot be written to \(Permission denied\): choose another folder"),
        locked(tmp_path / "out", tmp_path / "out" / ".lock"),
    ):
        pass


def test_a_second_process_is_refused_until_the_first_is_dead(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(lock)], stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None and holder.stdout.readline() == "held\n"
            begun = time.monotonic()
            with (
                pytest.raises(FoveateError, match=r"another process is working on .* choose another folder"),
                locked(tmp_path, lock),
            ):
                pass
            assert time.monotonic() - begun < 2  # it does not wait
        finally:
            holder.send_signal(signal.SIGKILL)
    with locked(tmp_path, lock):  # the kernel gave it back
        pass
    with locked(tmp_path, lock):  # and so did we
        pass
