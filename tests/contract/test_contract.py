"""Every mechanism meets the whole contract, in its default form and in the forms that its options make of it."""

import multiprocessing
import shutil
from concurrent.futures import ProcessPoolExecutor

import pytest

from foveate.registry import names
from foveate.testing import Subject, agrees_compiled, check_mechanism, checks, parametrize
from tests.support.oracles import about, collected

GRAPHS = ("compiles", "exports", "exports_to_onnx")
# a variant has options, but which ones act and how they are spelt is the default form's affair
OPTIONS = ("every_option_acts", "misspelt_option_raises")
NUMERICAL = ("gradients_are_exact",)
DIRECT = [name for name in checks() if name not in GRAPHS]

# Forms other than the default's, by the smallest height and width that their graphs accept: a size over which
# torch.export sees a gathered or shrunken map of one position, which it takes for a constant.
VARIANTS = {spec: about(name).VARIANTS[spec] for name, spec in collected("VARIANTS")}
# The five that everything began with, and one of each way in beside theirs: a convolution's place, two maps, a guide.
SAMPLE = ("squeeze_excite", "eca", "gather_excite", "cbam", "psanet", "odconv", "attentional_fusion", "attention_gate")
# Capture takes seconds a form: those whose graphs differ in kind from the default's.
CAPTURED = [spec for _, spec in collected("CAPTURED")]


@pytest.fixture(scope="module")
def elsewhere():
    """A process of its own, so that the compiler's caches and switches stay out of the other tests."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.mark.parametrize(**parametrize(*names(), only=DIRECT))
def test_mechanism(case):
    case()


def variants():
    """Every check of every variant; numerical gradients take seconds a form, and the default run has the default's."""
    for case in parametrize(*VARIANTS, only=[name for name in DIRECT if name not in OPTIONS])["argvalues"]:
        yield pytest.param(case, id=str(case), marks=pytest.mark.slow if case.check.__name__ in NUMERICAL else ())


@pytest.mark.parametrize("case", variants())
def test_variant(case):
    case()


def test_every_form_knows_the_smallest_map_of_its_graph():
    assert {spec: Subject.of(spec).build().smallest for spec in VARIANTS} == VARIANTS


def graphs():
    """Every graph check of every form; the default run captures a sample, because capture takes seconds a form.

    The others were captured when their certificates were measured, of sources that have not changed since
    (`tests/test_certificates.py`); `pytest -m slow` captures them again.
    """
    for case in parametrize(*names(), *CAPTURED, only=GRAPHS)["argvalues"]:
        quick = case.subject.name in SAMPLE
        yield pytest.param(case, id=str(case), marks=() if quick else pytest.mark.slow)


@pytest.mark.parametrize("case", graphs())
def test_graph(case, elsewhere):
    check = case.check.__name__
    [result] = elsewhere.submit(check_mechanism, case.subject, only=[check]).result()
    if result.outcome == "skipped":
        pytest.skip(result.message)
    assert result.outcome in ("passed", "exempt"), result.message


@pytest.mark.slow  # half a minute a mechanism: Inductor writes C++ and compiles it
@pytest.mark.parametrize("name", ["squeeze_excite", "cbam"])
def test_generated_code_agrees(name, elsewhere):
    if shutil.which("g++") is None:
        pytest.skip("Inductor compiles C++, and there is no g++")
    elsewhere.submit(agrees_compiled, Subject.of(name), backend="inductor").result()
