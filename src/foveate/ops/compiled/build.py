"""Compiling the kernels: one small library, with code for each instruction set that the machine's family has."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from foveate.errors import FoveateError

KERNELS = Path(__file__).parent / "kernels"
FLAGS = ("-std=c++17", "-O3", "-fopenmp", "-fPIC", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math")
QUIET = ("-Wno-psabi",)  # wide vectors between functions of one source: nobody outside sees how they are passed
# the quickest first: which of them runs is decided where the library is loaded
INSTRUCTION_SETS = {
    "x86_64": {"v4": "-march=x86-64-v4", "v3": "-march=x86-64-v3", "v1": "-march=x86-64"},
    "aarch64": {"base": "-march=armv8-a"},
}


def instruction_sets() -> dict[str, str]:
    """The instruction sets that are compiled for on this kind of machine, with the compiler's flag, quickest first."""
    return INSTRUCTION_SETS.get(platform.machine(), {})


def library_path() -> Path:
    """Where the library of these sources stands, or would stand: in ``FOVEATE_CACHE``, or the user's cache folder."""
    digest = hashlib.sha256(repr((FLAGS, instruction_sets())).encode())
    for source in sorted(KERNELS.iterdir()):
        if source.suffix in (".cpp", ".h"):
            digest.update(source.name.encode() + source.read_bytes())
    user = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(os.environ.get("FOVEATE_CACHE") or Path(user) / "foveate")
    return folder / f"ops-{platform.machine()}-{digest.hexdigest()[:16]}.so"


def build(compiler: str | None = None) -> Path:
    """Compile the library, and put it in its place when it is whole.

    Args:
        compiler: A C++ compiler that understands GCC's options; ``$CXX``, ``g++`` or ``clang++`` if ``None``.

    Raises:
        FoveateError: If there is no compiler, it fails, the folder cannot be written, what was compiled does not load,
            or this is no Linux machine that the kernels are written for.
    """
    sets = instruction_sets()
    if sys.platform != "linux" or not sets:
        known = " and ".join(INSTRUCTION_SETS)
        raise FoveateError(
            f"the compiled operations are for Linux on {known}; this is {sys.platform} on {platform.machine()}. "
            "Everything works without them"
        )
    chosen = _compiler(compiler)
    target = library_path()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=target.parent)
    except OSError as error:
        raise FoveateError(
            f"the folder {target.parent} cannot be written: {error.strerror}; name another in FOVEATE_CACHE"
        ) from None
    with folder as name, ThreadPoolExecutor(os.cpu_count()) as workers:
        jobs = [(source, kind) for source in sorted(KERNELS.glob("*.cpp")) for kind in sets]
        objects = list(workers.map(lambda job: _compile(chosen, job[0], job[1], Path(name)), jobs))
        whole = Path(name) / "whole.so"
        # not linked with an OpenMP of its own: PyTorch's is loaded already, and two pools of threads would disturb
        # each other
        _run([chosen, "-shared", "-o", str(whole), *map(str, objects)])
        try:
            ctypes.CDLL(str(whole))
        except OSError as error:
            raise FoveateError(
                f"the library was compiled and does not load: {error}. Everything works without it"
            ) from None
        whole.replace(target)
    return target


def _compiler(asked: str | None) -> str:
    names = [asked] if asked else [os.environ.get("CXX", ""), "g++", "clang++"]
    for name in filter(None, names):
        if found := shutil.which(name):
            return found
    raise FoveateError(
        f"no C++ compiler found (looked for {', '.join(filter(None, names))}): install one (Debian: apt-get install "
        "g++), or name it with --compiler. It is needed for the optional compiled operations only"
    )


def _compile(compiler: str, source: Path, name: str, folder: Path) -> Path:
    target = folder / f"{source.stem}-{name}.o"
    flag = instruction_sets()[name]
    _run([compiler, *FLAGS, *QUIET, flag, f"-DISA={name}", "-c", str(source), "-o", str(target)])
    return target


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (the user's own compiler)
    if done.returncode:
        last = "\n".join(done.stderr.strip().splitlines()[-8:])
        raise FoveateError(f"the compiler failed: {' '.join(command)}\n{last}")
