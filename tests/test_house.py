"""The house is in order: files, registry and oracles agree; the core needs no extra; documents say what is true."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import foveate

ROOT = Path(__file__).parents[1]
# numpy is not among them: torch itself imports it where it is
EXTRAS = ("torchvision", "timm", "scipy", "PIL", "matplotlib", "pytorch_lightning", "torchmetrics", "jinja2",
          "filelock", "onnx", "onnxscript", "onnxruntime")  # fmt: skip


def modules(folder):
    return {path.stem for path in (ROOT / folder).glob("*.py") if not path.stem.startswith(("_", "test_", "conftest"))}


def test_files_registry_and_oracles_agree():
    assert modules("src/foveate/catalogue") == set(foveate.names()) == modules("tests/oracles")


def test_every_mechanism_says_what_its_page_needs():
    for name in foveate.names():
        mechanism = foveate.get(name)
        raises = ("Raises:",) if mechanism.options else ()
        for heading in ("Source:", "Args:", "Shape:", *raises, "Example:"):
            assert heading in mechanism.build.__doc__, (name, heading)
        assert all(option.description for option in mechanism.options.values()), name
        assert mechanism.card.reference, name


def run_without_extras(code):
    block = f"import sys\nsys.modules.update(dict.fromkeys({EXTRAS!r}))\n"  # None there: an import of it fails
    return subprocess.run([sys.executable, "-c", block + code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["show", "cbam", "--shape", "8x4x4"],
        pytest.param(["list"], marks=pytest.mark.slow),
        pytest.param(["list", "--json"], marks=pytest.mark.slow),
        pytest.param(["compare", "--help"], marks=pytest.mark.slow),
    ],
)
def test_the_command_line_works_in_a_core_only_installation(arguments):
    done = run_without_extras(f"sys.argv = ['foveate', *{arguments!r}]\nfrom foveate.cli import main\nmain()")
    assert (done.returncode, done.stderr) == (0, "")
    assert "cbam" in done.stdout or "foveate" in done.stdout


def test_a_missing_extra_is_one_line_that_names_it():
    done = run_without_extras("sys.argv = ['foveate', 'compare']\nfrom foveate.cli import main\nmain()")
    assert done.returncode == 2
    assert re.fullmatch(r"foveate: this needs the package '[\w-]+': pip install 'foveate\[compare\]'\n", done.stderr)


def test_import_loads_the_core_only():
    code = "import sys, foveate; print([m for m in sys.argv[1:] if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code, *EXTRAS, "typer", "rich", "foveate.study"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_readme_has_the_two_commands_and_ci_runs_them():
    readme, ci = (ROOT / "README.md").read_text(), (ROOT / ".ci/run").read_text()
    for command in ("uv run foveate compare", "uv run pytest -n auto"):
        assert command in readme
        assert command in ci


PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
LONG = dict.fromkeys(("docs/comparing.md", "docs/looking.md"), pytest.mark.slow)  # a whole study, a whole album


@pytest.mark.parametrize("page", [pytest.param(page, marks=LONG.get(page, ())) for page in PAGES])
def test_snippets_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some of them save
    for number, name in enumerate(("cat", "dog")):  # what a reader has: photographs
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.new("RGB", (40, 30), (90 * number, 60, 120)).save(tmp_path / "photos" / name / "1.png")
    snippets = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert snippets or page != "README.md"
    for snippet in snippets:
        exec(compile(snippet, page, "exec"), {})  # noqa: S102


def test_no_path_of_a_machine_stands_in_a_file():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    home = str(Path.home()) + "/"
    for name in tracked:
        data = (ROOT / name).read_bytes() if (ROOT / name).exists() else b""
        assert str(ROOT.parent).encode() + b"/" not in data, name
        assert home.encode() not in data, name
