"""What every test has in common."""

import os

# a machine on which somebody ran `foveate build-ops` tests the same as one on which nobody did; the tests of the
# compiled operations compile them for themselves
os.environ["FOVEATE_COMPILED_OPS"] = "0"

# tests run in several processes at once; before torch is imported, so that each has one thread
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
