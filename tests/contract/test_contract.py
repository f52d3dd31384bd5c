"""Every mechanism meets the whole contract, in its default form and in the forms that its options make of it."""

import multiprocessing
import shutil
from concurrent.futures import ProcessPoolExecutor

import pytest

from foveate.registry import names
from foveate.testing import Subject, agrees_compiled, check_mechanism, checks, parametrize

GRAPHS = ("compiles", "exports", "exports_to_onnx")
# a variant has options, but which ones act and how they are spelt is the default form's affair
OPTIONS = ("every_option_acts", "misspelt_option_raises")
DIRECT = [name for name in checks() if name not in GRAPHS]

# What runs a graph at most, by its smallest height and width: a size over which torch.export sees a gathered or
# shrunken map of one position, which it takes for a constant.
VARIANTS = {
    "squeeze_excite:bias=false": 1,
    "squeeze_excite:reduction=2": 1,
    "eca:kernel_size=9": 1,
    "gather_excite:variant=theta_minus,extent=2": 3,
    "gather_excite:variant=theta_minus,extent=4": 5,
    "gather_excite:variant=theta_minus,extent=8": 9,
    "gather_excite:variant=theta_minus,extent=global": 1,
    "gather_excite:variant=theta,extent=2": 3,
    "gather_excite:variant=theta,extent=4": 5,
    "gather_excite:variant=theta,extent=global": 1,
    "gather_excite:variant=theta_plus,extent=2": 3,
    "gather_excite:variant=theta_plus,extent=4": 5,
    "gather_excite:variant=theta_plus,extent=8": 9,
    "gather_excite:variant=theta_plus,extent=global": 1,
    "cbam:pools=avg": 1,
    "cbam:pools=max": 1,
    "cbam:pools=lp": 1,
    "cbam:pools=lse": 1,
    "cbam:pools=avg+max+lp+lse": 1,
    "cbam:parts=channel": 1,
    "cbam:parts=spatial": 1,
    "cbam:kernel_size=3,norm=false": 1,
    "psanet:branches=collect": 3,
    "psanet:branches=distribute": 3,
    "psanet:compact=true": 1,
    "psanet:compact=true,branches=collect": 1,
    "psanet:compact=true,branches=distribute": 1,
    "psanet:mask=3+3": 3,
    "psanet:mask=3+3,outside=exclude": 3,
    "psanet:softmax=false,normalization=none": 3,
    "psanet:shrink=1": 1,
    "psanet:shrink=3": 4,
}
# Capture takes seconds a form: those whose graphs differ in kind from the default's.
CAPTURED = (
    "gather_excite:variant=theta_minus,extent=2",
    "gather_excite:variant=theta_minus,extent=global",
    "gather_excite:variant=theta_plus,extent=4",
    "gather_excite:variant=theta_plus,extent=global",
    "cbam:pools=avg+max+lp+lse",
    "psanet:compact=true",
    "psanet:mask=3+3,outside=exclude",
    "psanet:softmax=false,normalization=none",
)


@pytest.fixture(scope="module")
def elsewhere():
    """A process of its own, so that the compiler's caches and switches stay out of the other tests."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.mark.parametrize(**parametrize(*names(), only=DIRECT))
def test_mechanism(case):
    case()


@pytest.mark.parametrize(**parametrize(*VARIANTS, only=[name for name in DIRECT if name not in OPTIONS]))
def test_variant(case):
    case()


def test_every_form_knows_the_smallest_map_of_its_graph():
    assert {spec: Subject.of(spec).build().smallest for spec in VARIANTS} == VARIANTS


@pytest.mark.parametrize(**parametrize(*names(), *CAPTURED, only=GRAPHS))
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
