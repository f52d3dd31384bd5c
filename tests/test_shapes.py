"""The shapes in signatures are true: every mechanism runs with each of them checked.

In a process of its own: the checks go in when a module is imported, and neither FX nor the compiler, which other tests
use, can see through them.
"""

import subprocess
import sys

import foveate

CHECKED = """
from jaxtyping import TypeCheckError, install_import_hook

rooms = ("foveate.attention", "foveate.fusion", "foveate.replacement", "foveate.catalogue", "foveate.ops")
with install_import_hook(rooms, "beartype.beartype"):
    import foveate
import torch
from foveate.ops.pool import global_mean

forms = [*foveate.names(), "ge:variant=theta_plus,extent=2", "ge:variant=theta_minus,extent=global",
         "cbam:pools=avg+max+lp+lse", "psanet:compact=true", "psanet:branches=collect,shrink=1",
         "psanet:fusion=concat", "psanet:softmax=false"]
for form in forms:
    module = foveate.create(form, 16, size=(9, 7))
    maps = 2 if foveate.get(form.partition(":")[0]).protocol == "fusion" else 1
    for batch in (1, 3):
        module.train()(*torch.randn(maps, batch, 16, 9, 7, requires_grad=True)).sum().backward()
        module.eval()(*torch.randn(maps, batch, 16, 9, 7))
print(len(forms), "forms")
try:
    global_mean(torch.randn(16))
except TypeCheckError:
    print("a map without channels is caught")
"""


def test_every_mechanism_keeps_the_shapes_it_signs():
    done = subprocess.run([sys.executable, "-c", CHECKED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    forms = len(foveate.names()) + 7
    assert done.stdout.splitlines() == [f"{forms} forms", "a map without channels is caught"]
