"""Files that are there whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from foveate.errors import FoveateError, MissingExtraError

HALF_WRITTEN = re.compile(r"\.[\w-]+\.(json|safetensors|html)\.\d+\.tmp")


def write_atomically(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write a file under another name, see it safely on the disk, and only then give it its name.

    Args:
        path: The file; its folder is made if it is not there.
        content: All of it.
        durable: Whether it must outlast a power cut; seeing to that takes the disk some milliseconds.

    Raises:
        FoveateError: If it cannot be written, with what to do; nothing is then left under any name.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_atomically(Path(folder, "runs", "a.json"), b"{}")
        ...     [path.name for path in Path(folder).rglob("*.*")]
        ['a.json']
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        if durable:
            _sync_folder(path.parent)


@contextmanager
def writing(path: Path) -> Generator[None]:
    """Turn what the operating system says about writing to a path into a sentence.

    Raises:
        FoveateError: Instead of an :class:`OSError`.

    Example:
        >>> try:
        ...     with writing(Path("results")):
        ...         raise OSError(errno.ENOSPC, "No space left on device")
        ... except FoveateError as error:
        ...     print(error)
        the disk is full: 'results' was not written; make room, and start again: finished runs are kept
    """
    try:
        yield
    except OSError as error:
        raise FoveateError(_sentence(path, error)) from error


@contextmanager
def locked(folder: Path, lock: Path) -> Generator[None]:
    """Work on a folder alone. The kernel holds the lock, so a process that dies gives it back.

    Raises:
        FoveateError: If another process works on it, or it cannot be written to.
        MissingExtraError: If filelock is not installed.
    """
    try:
        from filelock import FileLock, Timeout
    except ImportError as error:
        raise MissingExtraError("filelock", "compare") from error
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    held = FileLock(lock)
    with writing(folder):
        try:
            held.acquire(timeout=0)
        except Timeout as error:  # an OSError too, but not one about writing
            raise FoveateError(
                f"another process is working on '{folder}': wait until it ends, or choose another folder for the "
                "results"
            ) from error
    try:
        yield
    finally:
        held.release()


def _sync_folder(folder: Path) -> None:
    """A new name is safe once its folder is written too; not every system can do that."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sentence(path: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full: '{path}' was not written; make room, and start again: finished runs are kept"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"'{path}' cannot be written to ({error.strerror}): choose another folder for the results"
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return f"'{path}' cannot be a folder for results, because a part of it is a file: choose another"
    return f"'{path}' cannot be written ({error.strerror or error}): choose another folder for the results"
