"""What every test has in common."""

import os

# a machine on which somebody ran `foveate build-ops` tests the same as one on which nobody did; the tests of the
# compiled operations compile them for themselves
os.environ["FOVEATE_COMPILED_OPS"] = "0"
