"""What every test has in common."""

import os

import pytest

# a machine on which somebody ran `foveate build-ops` tests the same as one on which nobody did; the tests of the
# compiled operations compile them for themselves
os.environ["FOVEATE_COMPILED_OPS"] = "0"

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
WORKERS = 4  # at most: each holds torch and what it tests, a gigabyte or two


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """How many processes `pytest -n auto` starts."""
    return min(CORES, WORKERS)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(specs: list[object]) -> None:
    """Give each process its share of the cores: threads that share one wait for each other at every step."""
    os.environ["OMP_NUM_THREADS"] = str(max(1, CORES // len(specs)))
