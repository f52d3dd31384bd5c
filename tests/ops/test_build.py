"""Building, finding and switching the compiled operations, and what is said where that cannot be."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from foveate.errors import FoveateError, FoveateWarning
from foveate.ops.compiled import build, library
from foveate.ops.graph import watched
from tests.ops.compiled import built, needs_compiler, using


def run(code: str, **environment: str) -> str:
    """What a fresh process prints."""
    everything = {**os.environ, **environment}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=everything, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@needs_compiler
def test_a_process_finds_what_another_built_and_a_variable_switches_it_off():
    (best, *_) = built().values()
    folder = str(best.path.parent)
    code = "from foveate.ops.compiled.library import kernels; print(getattr(kernels(), 'instruction_set', None))"
    assert run(code, FOVEATE_CACHE=folder, FOVEATE_COMPILED_OPS="1") == best.instruction_set
    assert run(code, FOVEATE_CACHE=folder, FOVEATE_COMPILED_OPS="0") == "None"
    assert run(code, FOVEATE_CACHE=str(Path(folder) / "elsewhere"), FOVEATE_COMPILED_OPS="1") == "None"


@needs_compiler
def test_one_pool_of_threads_is_shared_with_pytorch():
    (best, *_) = built().values()
    code = (
        "import torch; from foveate.ops.compiled.library import kernels; kernels()\n"
        "lines = open('/proc/self/maps').read().splitlines()\n"
        "print(len({line.split()[-1] for line in lines if 'omp' in line.split()[-1].rsplit('/', 1)[-1]}))"
    )
    assert run(code, FOVEATE_CACHE=str(best.path.parent), FOVEATE_COMPILED_OPS="1") == "1"


def test_a_machine_or_a_compiler_that_will_not_do_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path))
    if build.instruction_sets():
        with pytest.raises(FoveateError, match=r"no C\+\+ compiler found \(looked for nothing-like-it\).*optional"):
            build.build("nothing-like-it")
        failing = tmp_path / "failing"
        failing.write_text("#!/bin/sh\necho 'the disk is full of eels' >&2\nexit 3\n")
        failing.chmod(0o755)
        with pytest.raises(FoveateError, match=r"the compiler failed: (.|\n)*the disk is full of eels"):
            build.build(str(failing))
        assert [path.name for path in tmp_path.iterdir()] == ["failing"]
    monkeypatch.setattr(build.platform, "machine", lambda: "sparc64")
    with pytest.raises(FoveateError, match="x86_64 and aarch64; this is .* on sparc64. Everything works without them"):
        build.build()


def test_other_sources_or_flags_are_another_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = build.library_path()
    monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, "-g"))
    assert build.library_path() != first
    monkeypatch.undo()
    monkeypatch.setattr(build, "KERNELS", tmp_path)
    assert build.library_path() != first


@needs_compiler
def test_maps_that_the_operations_do_not_take():
    (kernels, *_) = built().values()
    x = torch.randn(2, 4, 6, 8)
    with using(kernels):
        assert library.usable(x) is kernels
        assert library.usable(x, x.contiguous(memory_format=torch.channels_last)) is None
        for other in (x.double(), x.half(), x[:, :, ::2], x.transpose(2, 3), x.to("meta"), x.to_sparse()):
            assert library.usable(other) is None
        with library.switched(False):
            assert library.usable(x) is None
        with torch.autograd.forward_ad.dual_level():
            assert library.usable(x) is None
    assert library.usable(x) is None


def test_a_forward_put_in_place_of_a_modules_own_is_noticed():
    layer = torch.nn.Linear(1, 1)
    assert not watched(layer)
    layer.forward = lambda x: x
    assert watched(layer)
    handle = torch.nn.modules.module.register_module_forward_hook(lambda *_: None)
    assert watched(torch.nn.ReLU())
    handle.remove()
    assert not watched(torch.nn.ReLU())


def test_a_library_that_does_not_load_is_said_once_and_the_plain_operations_serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path))
    monkeypatch.setenv("FOVEATE_COMPILED_OPS", "1")
    monkeypatch.setattr(library._Loaded, "looked", False)
    monkeypatch.setattr(library._Loaded, "kernels", None)
    library.library_path().write_bytes(b"\x7fELF, and then the disk was full")
    with pytest.warns(FoveateWarning, match="could not be loaded.*plain ones are used.*foveate build-ops"):
        assert library.kernels() is None
    x = torch.randn(2, 16, 64, 64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert library.usable(x) is None


@needs_compiler
def test_a_library_of_other_functions_does_not_load_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (best, *_) = built().values()
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path))
    monkeypatch.setenv("FOVEATE_COMPILED_OPS", "1")
    monkeypatch.setattr(library._Loaded, "looked", False)
    monkeypatch.setattr(library._Loaded, "kernels", None)
    monkeypatch.setattr(library, "_ARGUMENTS", {"nothing_of_this_name": []})
    library.library_path().write_bytes(best.path.read_bytes())
    with pytest.warns(FoveateWarning, match="nothing_of_this_name"):
        assert library.kernels() is None


@needs_compiler
def test_what_was_compiled_and_does_not_load_is_not_put_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))
    empty = tmp_path / "compiler"
    empty.write_text('#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\necho nothing > "$2"\n')
    empty.chmod(0o755)
    with pytest.raises(FoveateError, match="was compiled and does not load"):
        build.build(str(empty))
    assert not list((tmp_path / "cache").iterdir())


def test_a_folder_that_cannot_be_written_is_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "file" / "below"))
    monkeypatch.setattr(build, "instruction_sets", lambda: {"v1": "-march=x86-64"})
    monkeypatch.setattr(build, "_compiler", lambda asked: "never called")
    with pytest.raises(FoveateError, match=r"file/below cannot be written: .*FOVEATE_CACHE"):
        build.build()
